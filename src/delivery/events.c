/* SPDX-License-Identifier: Apache-2.0 */
/* What became of messages, for the tracking log. */
#include "session/events.h"
#include "delivery/delivery_private.h"

#include <stdio.h>

static enum mail_event_kind kind_of(enum queue_event_kind kind)
{
    switch (kind) {
    case QUEUE_EVENT_DELIVERED:
        return MAIL_EVENT_DELIVERED;
    case QUEUE_EVENT_DEFERRED:
        return MAIL_EVENT_DEFERRED;
    case QUEUE_EVENT_FAILED:
        return MAIL_EVENT_FAILED;
    case QUEUE_EVENT_EXPIRED:
        return MAIL_EVENT_EXPIRED;
    case QUEUE_EVENT_DELETED:
        return MAIL_EVENT_DELETED;
    case QUEUE_EVENT_HELD:
        return MAIL_EVENT_HELD;
    case QUEUE_EVENT_RELEASED:
        return MAIL_EVENT_RELEASED;
    }
    return MAIL_EVENT_FAILED;
}

/* What let the message in stands in its envelope, for its first recipient; for the others in "received" alone. */
static void set_rule(struct mail_event *event)
{
    if (event->envelope && event->recipient == 0)
        event->rule = event->envelope->rule;
}

void events_tell_outcome(const struct delivery *delivery, const struct queue_event *event)
{
    const struct queue_outcome *outcome = event->outcome;
    struct mail_event told = {
        .kind = kind_of(event->kind),
        .id = event->id,
        .envelope = event->envelope,
        .recipient = event->recipient == QUEUE_EVENT_MESSAGE ? MAIL_EVENT_MESSAGE : event->recipient,
        .size_bytes = event->body_bytes,
        .status = outcome->status,
        .reply = str_from_cstr(outcome->text),
        .remote = outcome->remote,
        .by = event->by,
        .attempts = event->attempts,
        .next_attempt_at_ms = event->next_attempt_at_ms,
    };

    set_rule(&told);
    mail_event_tell(delivery->options.events, &told);
}

/* One for each recipient that the report is about, so that each is found. */
static void tell_of_recipients(const struct delivery *delivery, const struct queue_report *report,
                               struct mail_event *told)
{
    told->id = report->id;
    told->envelope = report->envelope;
    told->size_bytes = report->body_bytes;
    for (size_t i = 0; delivery->options.events && i < report->failure_count; i++) {
        told->recipient = report->failures[i].recipient;
        told->status = report->failures[i].outcome->status;
        mail_event_tell(delivery->options.events, told);
    }
}

void events_tell_report(const struct delivery *delivery, const struct queue_report *report, spool_id made)
{
    struct mail_event told = {.kind = MAIL_EVENT_NDR, .other = made, .report = report_kind_name(report->kind)};

    tell_of_recipients(delivery, report, &told);
}

void events_tell_badmail(const struct delivery *delivery, const struct queue_report *report, const char *reason)
{
    struct mail_event told = {.kind = MAIL_EVENT_BADMAIL, .reply = str_from_cstr(reason)};

    tell_of_recipients(delivery, report, &told);
}

void events_tell_expanded(const struct delivery *delivery, const struct queue_item *item, size_t recipient,
                          spool_id made)
{
    const struct mail_event told = {.kind = MAIL_EVENT_EXPANDED,
                                    .id = queue_item_id(item),
                                    .other = made,
                                    .envelope = queue_item_envelope(item),
                                    .recipient = recipient,
                                    .size_bytes = queue_item_body_bytes(item)};

    mail_event_tell(delivery->options.events, &told);
}
