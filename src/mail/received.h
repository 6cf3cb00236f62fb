/* SPDX-License-Identifier: Apache-2.0 */
/*
 * received: the trace field that every message gets on its way through (RFC 5321 4.4), and the Message-ID of one that came without.
 * Nothing that a client said breaks out of the field: see the bounds below. Pure, any thread.
 */
#ifndef POSTERN_MAIL_RECEIVED_H
#define POSTERN_MAIL_RECEIVED_H

#include "base/buf.h"
#include "base/str.h"

/* How much of HELO's argument is shown; bytes outside letters, digits and ".-_:[]" become "?". */
#define RECEIVED_HELO_OCTETS_MAX 255
/* A buffer of this maximum always suffices for received_compose. */
#define RECEIVED_BYTES_MAX 2048

struct received_facts {
    struct str helo;        /* as the client said it; may be empty */
    struct str client_name; /* its verified host name, or empty: shown as "unknown" */
    struct str client_ip;   /* without brackets; an IPv6 address gets its tag here */
    struct str host;        /* ours */
    struct str id;          /* the message's, as logged */
    struct str recipient;   /* ADDR, if there is only one; else empty, so that blind copies stay blind */
    int64_t received_at_ms;
    bool is_esmtp; /* EHLO; these make the "with" keyword (RFC 3848, RFC 6531 3.7.3) */
    bool is_utf8;  /* SMTPUTF8 was asked for */
    bool has_tls;
    bool is_authenticated;
};

/* Appends the whole field, folded, with its last CRLF. */
void received_compose(struct buf *out, const struct received_facts *facts);

/* Appends ID.TIME@HOST, without angle brackets: unique as long as (id, time) is. */
void received_append_message_id(struct buf *out, struct str id, int64_t at_ms, struct str host);

#endif
