/* SPDX-License-Identifier: Apache-2.0 */
/* text: bytes of unknown origin as clean text. Pure, any thread. */
#ifndef POSTERN_MAIL_TEXT_H
#define POSTERN_MAIL_TEXT_H

#include "base/buf.h"
#include "base/str.h"

bool text_is_ascii(struct str s);

/* Without leading and trailing spaces and tabs; unlike str_trim a CR or LF stays, for somebody to notice. */
struct str text_trim_blanks(struct str s);

/* The length of the character that starts `s`, 1 to 4; 0 if it is not well-formed UTF-8 (RFC 3629: no surrogates, nothing overlong)
 * or a C1 control. ASCII controls count as characters: callers ask for them. */
size_t text_utf8_length(struct str s);

/* Printable text of at most `octets_max` bytes on one line: control bytes and malformed UTF-8 become "?", and with `ascii_only` so
 * does each character that is not ASCII. A tab becomes a space. */
void text_append_clean(struct buf *out, struct str s, size_t octets_max, bool ascii_only);

#endif
