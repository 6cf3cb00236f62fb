/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_text: the tokens of JSON (RFC 8259), read and written by hand where a hundred thousand lines a second pass and the
 * library's objects cost more than the decisions between them. A reader goes over one text; strings are views of it, or of the
 * reader's own memory where they were escaped. Pure; one thread at a time.
 */
#ifndef POSTERN_POLICY_JSON_TEXT_H
#define POSTERN_POLICY_JSON_TEXT_H

#include "base/buf.h"
#include "base/str.h"

struct json_reader {
    const char *at;
    const char *end;
    char *unescaped; /* room for as many bytes as the text has; where the next unescaped string goes */
};

/* Skips white space, then takes the byte: false, and nothing but the space taken, if another stands there. */
bool json_take(struct json_reader *reader, char c);
/* The same for true, false and null. */
bool json_take_word(struct json_reader *reader, struct str word);
/* Whether only white space is left. */
bool json_at_end(struct json_reader *reader);
/* A string with its quotes. false: not a string, or a malformed one. Bytes outside ASCII are taken as they are. */
bool json_take_string(struct json_reader *reader, struct str *string);

/* With quotes; control bytes are escaped, and what is not UTF-8 becomes U+FFFD. */
void json_append_string(struct buf *out, struct str string);

#endif
