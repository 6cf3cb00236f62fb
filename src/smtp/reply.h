/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply: the server's side of SMTP, as our client reads it (RFC 5321 4.2, RFC 2034, RFC 3463). Incremental: input comes in whatever
 * pieces. The server may be hostile: lines, their number and the whole are bounded, and the text that is kept is clean. Pure; one
 * thread at a time.
 *
 *     reply_parser_init(&parser, true);            before each reply; true for EHLO's
 *     used = reply_parser_feed(&parser, input, &status);
 *     REPLY_MORE: all was used, go on reading. REPLY_COMPLETE: parser.reply; input + used begins the next reply.
 *     Anything else: the stream is out of step; close the connection. parser.reply.text shows what was seen.
 */
#ifndef POSTERN_SMTP_REPLY_H
#define POSTERN_SMTP_REPLY_H

#include "base/str.h"

/* RFC 5321 4.5.3.1.5 says 512 for a line; real servers send longer ones. Without the newline. */
#define REPLY_LINE_OCTETS_MAX 2048
#define REPLY_LINES_MAX       128
#define REPLY_BYTES_MAX       (64u << 10)
/* What is kept of the text, for logs and reports. */
#define REPLY_TEXT_OCTETS_MAX 1024
#define REPLY_AUTH_OCTETS_MAX 255

enum reply_status {
    REPLY_MORE,
    REPLY_COMPLETE,
    REPLY_MALFORMED, /* no code of 200 to 599, or the lines' codes differ */
    REPLY_TOO_LONG,
};

/* What EHLO's reply offers (RFC 5321 4.1.1.1). */
struct reply_capabilities {
    bool pipelining;
    bool eightbitmime;
    bool smtputf8;
    bool chunking;
    bool dsn;
    bool starttls;
    bool enhanced_status_codes;
    bool size;         /* offered ... */
    uint64_t size_max; /* ... and its limit; 0: none stated */
    bool auth;
    uint16_t auth_length;
    char auth_mechanisms[REPLY_AUTH_OCTETS_MAX]; /* as listed, one space between; what does not fit is left out */
};

struct reply {
    int code; /* 200 to 599 */
    bool has_enhanced;
    uint16_t enhanced[3]; /* 5, 1, 1; only if its class is the code's */
    unsigned line_count;
    bool text_is_cut; /* there was more than is kept */
    uint16_t text_length;
    char text
        [REPLY_TEXT_OCTETS_MAX]; /* "550 5.1.1 User unknown": lines joined by a space, codes that repeat left out, UTF-8,
                                         bytes that are not printable as \xHH; not NUL-terminated */
    struct reply_capabilities capabilities;
};

/* The caller reads `reply`; the rest is private. */
struct reply_parser {
    struct reply reply;
    bool is_ehlo;
    uint32_t bytes;
    uint16_t line_length;
    char line[REPLY_LINE_OCTETS_MAX + 1]; /* one that has not ended yet; room for its CR */
};

void reply_parser_init(struct reply_parser *parser, bool is_ehlo);
/* Returns how many bytes of the input were used. After anything but REPLY_MORE, init comes next. */
size_t reply_parser_feed(struct reply_parser *parser, struct str input, enum reply_status *status);

static inline struct str reply_text(const struct reply *reply)
{
    return (struct str){reply->text, reply->text_length};
}

/* Whether `mechanism` is among AUTH's, without case. */
bool reply_has_auth_mechanism(const struct reply_capabilities *capabilities, struct str mechanism);

#endif
