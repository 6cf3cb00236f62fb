/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events: what becomes of messages, told to whoever keeps a record of it (the tracking log). Session tells what comes in and what is refused, delivery
 * what goes out; neither knows who listens.
 *
 * Threads: any. The one who is told copies what it needs and does not wait.
 */
#ifndef POSTERN_SESSION_EVENTS_H
#define POSTERN_SESSION_EVENTS_H

#include "queue/envelope.h"

enum mail_event_kind {
    MAIL_EVENT_RECEIVED, /* once for each recipient */
    MAIL_EVENT_REFUSED,  /* a client, a sender, a recipient or a message: `stage` */
    MAIL_EVENT_DELIVERED,
    MAIL_EVENT_DEFERRED,
    MAIL_EVENT_FAILED,
    MAIL_EVENT_EXPIRED,
    MAIL_EVENT_DELETED,
    MAIL_EVENT_HELD, /* of the whole message, as the three that follow */
    MAIL_EVENT_RELEASED,
    MAIL_EVENT_NDR,      /* a report was queued: `other` is its id, and its sender is told */
    MAIL_EVENT_BADMAIL,  /* set aside, with the reason in `reply` */
    MAIL_EVENT_EXPANDED, /* what a recipient stands for gets a copy: `other` is its id */
    MAIL_EVENT_COUNT
};

/* "received", ... as the log calls them. */
const char *mail_event_name(enum mail_event_kind kind);
/* false: no such name. */
bool mail_event_parse(struct str name, enum mail_event_kind *kind);

#define MAIL_EVENT_MESSAGE SIZE_MAX

/* Valid during the call. What does not apply is zero. */
struct mail_event {
    enum mail_event_kind kind;
    uint64_t id;                     /* of the message; 0 of what was refused before it had one */
    uint64_t other;                  /* the message that was made of it */
    const struct envelope *envelope; /* NULL: not known at the moment. Of REFUSED: as far as it is known */
    size_t recipient;                /* index in the envelope, or MAIL_EVENT_MESSAGE */
    uint64_t size_bytes;
    struct str client_name; /* verified */
    struct str rule;        /* what let this recipient in, or refused it */
    const char *rule_file;  /* NULL: a default */
    unsigned rule_line;
    const char *stage;  /* of REFUSED: "connect", "mail", "rcpt", "data" */
    int code;           /* of REFUSED: the reply's */
    const char *status; /* RFC 3463 */
    const char *report; /* of NDR: "failed", "delayed", "delivered", ... */
    struct str reply;   /* the remote's, ours, or why */
    const char *remote; /* who said so */
    const char *by;     /* the postmaster who ordered it */
    unsigned attempts;  /* that failed for now */
    int64_t next_attempt_at_ms;
};

struct mail_event_sink {
    void *context;
    void (*tell)(void *context, const struct mail_event *event);
};

/* NULL: nobody listens. */
static inline void mail_event_tell(const struct mail_event_sink *sink, const struct mail_event *event)
{
    if (sink)
        sink->tell(sink->context, event);
}

#endif
