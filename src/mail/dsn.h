/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dsn: the parameters by which a sender asks for reports (RFC 3461, RFC 6533), and the reports themselves (RFC 3464 in
 * multipart/report, RFC 6522), which are messages from the null sender. Pure, any thread.
 *
 * Parameters are carried as the client wrote them (encoded) and sent on that way; the helpers here check and decode. In a report, nothing
 * that comes from the original message, the remote server or the parameters can break a line, a field or a MIME part.
 */
#ifndef POSTERN_MAIL_DSN_H
#define POSTERN_MAIL_DSN_H

#include "base/buf.h"
#include "base/str.h"

#define DSN_ENVID_OCTETS_MAX 100 /* RFC 3461 4.4 */
#define DSN_ORCPT_OCTETS_MAX 500 /* RFC 3461 4.2 */

enum dsn_return { DSN_RETURN_UNSET, DSN_RETURN_FULL, DSN_RETURN_HEADERS };

/* 0: NOTIFY was not given, which means FAILURE (and, for us, DELAY). NEVER stands alone. */
#define DSN_NOTIFY_NEVER   1u
#define DSN_NOTIFY_SUCCESS 2u
#define DSN_NOTIFY_FAILURE 4u
#define DSN_NOTIFY_DELAY   8u

/* xtext (RFC 3461 4): decode appends to `out` (NULL: only checks) and returns false on a malformed one, or when `out` overflows. */
bool dsn_xtext_decode(struct buf *out, struct str xtext);
void dsn_xtext_encode(struct buf *out, struct str text);

bool dsn_parse_return(struct str value, enum dsn_return *result);
bool dsn_parse_notify(struct str value, unsigned *flags);
bool dsn_is_envid(struct str value);
/* ADDR-TYPE;ADDRESS, the address in xtext, or for the type utf-8 in any of RFC 6533's forms. */
bool dsn_is_orcpt(struct str value);
/* Appends the ORCPT of an address that has been given none, in a form that 7 bits can carry; false: it is longer than an ORCPT may be, or `out`
 * overflows, and what `out` holds is of no use. */
bool dsn_orcpt_encode(struct buf *out, struct str address);
/* Appends the address that a valid ORCPT carries, decoded. `*type` views `value`. false: not valid, or `out` overflows. */
bool dsn_orcpt_decode(struct buf *out, struct str value, struct str *type);

enum dsn_action {
    DSN_ACTION_FAILED,
    DSN_ACTION_DELAYED,
    DSN_ACTION_DELIVERED,
    DSN_ACTION_RELAYED,
    DSN_ACTION_EXPANDED
};

struct dsn_recipient {
    struct str recipient; /* ADDR */
    struct str orcpt;     /* as carried, or empty */
    enum dsn_action action;
    struct str status; /* "5.1.1"; an invalid one becomes X.0.0 of the action's class */
    struct str reply;  /* what the remote server answered, code and text; empty if none did */
    struct str reason; /* our own words on it, a sentence without its full stop; may be empty when there is a reply */
    struct str remote_mta;      /* the server that answered; or empty */
    int64_t last_attempt_at_ms; /* 0: none */
    int64_t retry_until_ms;     /* DELAYED: when we give up; else 0 */
    bool is_expired;            /* FAILED: since its time is over; reply or reason are the last attempt's */
};

/* Limits of relay-behaviour.md section 6. */
#define DSN_HEADER_BYTES_MAX    (8u << 10)
#define DSN_REPORT_BYTES_MAX(n) ((16u << 10) + (size_t)(n) * (1u << 10))
/* The longest part of a remote server's reply that is quoted; less where a report would grow too long. */
#define DSN_REPLY_OCTETS_MAX 512

struct dsn_report {
    struct str host;       /* ours: who reports */
    struct str message_id; /* the report's own, without angle brackets */
    struct str boundary;   /* 1 to 70 letters and digits, unguessable */
    struct str sender;     /* ADDR of whom it goes to */
    struct str envid;      /* as carried, or empty */
    int64_t arrived_at_ms; /* when the original came in */
    int64_t reported_at_ms;
    const struct dsn_recipient *recipients; /* at least one; a report tells of one kind of action, or of several */
    size_t recipient_count;
    struct str
        header; /* the original's header section, or as much of it as there is; what follows an empty line is left out */
    bool is_smtputf8;      /* the original is internationalised (RFC 6531), whatever its addresses */
    bool returns_message;  /* all of the original, instead of its header section: see dsn_compose */
    bool original_is_8bit; /* then: it has bytes that are not ASCII */
};

struct dsn_properties {
    bool is_8bit;        /* bytes that are not ASCII, those of a returned message included: BODY=8BITMIME */
    bool needs_smtputf8; /* such bytes in its own header section */
};

/*
 * Appends a whole message in CRLF lines, of at most DSN_REPORT_BYTES_MAX(recipient_count) bytes, to `out` (which must be empty and have
 * room for that). false, and nothing of use in `out`: it had no room.
 *
 * With `returns_message` it ends where the original begins: that follows byte by byte, and behind it what dsn_compose_end appends. Nobody can have
 * written the boundary into the original, since nobody could guess it.
 */
bool dsn_compose(struct buf *out, const struct dsn_report *report, struct dsn_properties *properties);
void dsn_compose_end(struct buf *out, const struct dsn_report *report);

#endif
