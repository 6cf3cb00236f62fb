/* SPDX-License-Identifier: Apache-2.0 */
/*
 * envelope: what is known of a message beside its bytes, and its form in the spool. Written by session and delivery/report, read by queue and
 * delivery. Pure, any thread.
 *
 * Encoded: a version byte, then fields in a fixed order; integers as LEB128 varints, texts as a length and bytes (envelope.c). A decoder
 * refuses what is cut short, too long or of another version.
 */
#ifndef POSTERN_QUEUE_ENVELOPE_H
#define POSTERN_QUEUE_ENVELOPE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

enum envelope_flags {
    ENVELOPE_8BITMIME = 1, /* BODY=8BITMIME, or 8-bit bytes were seen */
    ENVELOPE_SMTPUTF8 = 2, /* asked for by the client */
    ENVELOPE_RELAY_GRANTED =
        4,                 /* authenticated or granted relay: RET=FULL is honoured (relay-behaviour.md section 6) */
    ENVELOPE_RET_FULL = 8, /* RFC 3461 RET */
    ENVELOPE_RET_HEADERS = 16,
    ENVELOPE_REPORT = 32,   /* made here: a delivery status notification */
    ENVELOPE_EXPANDED = 64, /* made here of another message, for those that an alias or list stands for */
};

/* RFC 3461 NOTIFY; 0 is "not given" and means failure (and delay). */
enum envelope_notify {
    ENVELOPE_NOTIFY_NEVER = 1,
    ENVELOPE_NOTIFY_SUCCESS = 2,
    ENVELOPE_NOTIFY_FAILURE = 4,
    ENVELOPE_NOTIFY_DELAY = 8
};

struct envelope_recipient {
    struct str address; /* as in the RCPT reply: as written, default domain completed, no brackets */
    struct str domain;  /* normal form (mail/address.h); a literal as "[192.0.2.1]" or "[IPv6:...]" */
    struct str orcpt;   /* RFC 3461 ORCPT as received, still xtext; empty if none */
    unsigned notify;    /* enum envelope_notify bits */
};

struct envelope {
    int64_t arrived_at_ms;
    unsigned flags;           /* enum envelope_flags */
    struct str sender;        /* as in the MAIL reply; empty is the null sender */
    struct str sender_domain; /* normal form */
    struct str envid;         /* RFC 3461 ENVID, still xtext */
    struct str client;        /* "192.0.2.1"; empty for our own reports */
    struct str helo;
    struct str user;       /* authenticated as; empty for nobody */
    struct str server;     /* virtual server's name */
    struct str rule;       /* of the recipient decision that let the first recipient in */
    struct str rule_at;    /* FILE:LINE, empty for a default */
    struct str message_id; /* the header's, for logs */
    struct envelope_recipient *recipients;
    size_t recipient_count;
};

#define ENVELOPE_RECIPIENTS_MAX 65535

/* Appends the encoding; false if the buffer's maximum was reached. */
bool envelope_encode(const struct envelope *envelope, struct buf *out);
/* The recipients are allocated in the arena; all texts are views into `data`, which must outlive them. false: malformed. */
bool envelope_decode(struct str data, struct arena *arena, struct envelope *envelope);

/* Only what the queue needs to keep a message: reads the front, checks nothing behind it. */
bool envelope_peek(struct str data, int64_t *arrived_at_ms, size_t *recipient_count);

/* The id of a message as people see it, in replies, logs and commands: upper-case hexadecimal without leading zeros. */
#define MESSAGE_ID_TEXT_BYTES 17
struct str message_id_format(uint64_t id, char text[MESSAGE_ID_TEXT_BYTES]);
/* Either case; false for what is no id (0 is none). */
bool message_id_parse(struct str text, uint64_t *id);

#endif
