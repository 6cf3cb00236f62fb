/* SPDX-License-Identifier: Apache-2.0 */
/* base64 (RFC 4648 4) as SASL's exchanges use it: strict, and on one line. Pure, any thread. */
#ifndef POSTERN_SMTP_BASE64_H
#define POSTERN_SMTP_BASE64_H

#include "base/buf.h"

/* Padding included. */
#define BASE64_ENCODED_BYTES(count) (((count) + 2) / 3 * 4)

/* Exactly BASE64_ENCODED_BYTES(data.length) characters, no NUL. */
void base64_encode(struct str data, char *text);
/* false, and nothing appended, over the buffer's maximum. */
bool base64_append(struct buf *out, struct str data);
/* Appends. false, and nothing appended: a character outside the alphabet, missing or misplaced padding, bits left over that are not 0, or over the
 * buffer's maximum. */
bool base64_decode(struct str text, struct buf *out);

#endif
