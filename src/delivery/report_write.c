/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A report: the original's header section is read, the report composed (mail/dsn), and both it and the results that it
 * covers go to the spool as one frame beside the failed message: after a crash either the sender is being told or the
 * failure has not happened yet. All of the original is returned only to those who may relay (returns_message).
 */
#include "base/log.h"
#include "base/mem.h"
#include "delivery/body.h"
#include "delivery/body_copy.h"
#include "delivery/delivery_private.h"
#include "mail/address.h"
#include "mail/dsn.h"
#include "os/clock.h"
#include "os/random.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BOUNDARY_BYTES        33
#define MESSAGE_ID_BYTES      512
#define REPORT_RECIPIENTS_MAX 2 /* the sender, and ndr.copy-to */

/* What a report is made of, kept until the spool has it. */
struct draft {
    struct delivery *delivery;
    const struct config *config;
    const struct queue_report *report;
    int64_t now_ms;
    spool_id id;
    char message_id[MESSAGE_ID_BYTES];
    bool returns_message;
    struct buf header;       /* the original's, as much as is shown */
    struct buf content, end; /* the original stands between them, if it is returned */
    struct buf envelope;     /* encoded */
    struct dsn_properties properties;
};

/* ---- the text ---- */

/* Whatever can be read: a report with less of the original is still a report. */
static void read_header(struct draft *draft)
{
    struct delivery_body body;
    ssize_t count;
    char *room;

    delivery_body_init(&body, draft->delivery->options.spool, draft->delivery->options.disk_pool, draft->report->id);
    while (draft->header.length < DSN_HEADER_BYTES_MAX) {
        size_t wanted = DSN_HEADER_BYTES_MAX - draft->header.length;

        room = buf_reserve(&draft->header, wanted);
        count = delivery_body_read(&body, room, wanted);
        if (count <= 0)
            break;
        draft->header.length += (size_t)count;
    }
    delivery_body_release(&body);
}

/* RFC 3461 5.2.9: RET is about reports of failure only. Whoever may not relay could have forged the sender, and have large messages sent to it. */
static bool returns_message(const struct draft *draft)
{
    const struct queue_report *report = draft->report;
    const struct config_server *server = config_find_server(draft->config, report->envelope->server);
    unsigned flags = report->envelope->flags;
    bool is_wanted =
        (flags & ENVELOPE_RET_FULL) != 0 ||
        (!(flags & ENVELOPE_RET_HEADERS) && draft->config->delivery.ndr.return_content == CONFIG_NDR_RETURN_FULL);

    return report->kind == QUEUE_REPORT_FAILED && is_wanted && (flags & ENVELOPE_RELAY_GRANTED) != 0 && server &&
           report->body_bytes <= server->limits.message_bytes_max;
}

static enum dsn_action action_of(enum queue_report_kind kind)
{
    switch (kind) {
    case QUEUE_REPORT_FAILED:
        break;
    case QUEUE_REPORT_DELAYED:
        return DSN_ACTION_DELAYED;
    case QUEUE_REPORT_DELIVERED:
        return DSN_ACTION_DELIVERED;
    case QUEUE_REPORT_RELAYED:
        return DSN_ACTION_RELAYED;
    case QUEUE_REPORT_EXPANDED:
        return DSN_ACTION_EXPANDED;
    }
    return DSN_ACTION_FAILED;
}

static void set_recipient(struct draft *draft, const struct queue_failure *failure, struct dsn_recipient *recipient)
{
    const struct envelope_recipient *of_envelope = &draft->report->envelope->recipients[failure->recipient];
    const struct queue_outcome *outcome = failure->outcome;
    bool is_remote = outcome->remote[0] != '\0';

    *recipient = (struct dsn_recipient){
        .recipient = of_envelope->address,
        .orcpt = of_envelope->orcpt,
        .action = action_of(failure->kind),
        .status = str_from_cstr(outcome->status),
        .last_attempt_at_ms = failure->at_ms,
        .retry_until_ms = failure->give_up_at_ms,
        .is_expired = failure->expired,
    };
    if (is_remote) {
        recipient->reply = str_from_cstr(outcome->text);
        recipient->remote_mta = str_from_cstr(outcome->remote);
    } else {
        recipient->reason = str_from_cstr(outcome->text);
    }
}

static bool compose(struct draft *draft)
{
    const struct queue_report *report = draft->report;
    struct dsn_recipient *recipients = mem_alloc_array(report->failure_count, sizeof(*recipients));
    char boundary[BOUNDARY_BYTES];
    size_t count = 0;
    struct dsn_report dsn;
    bool is_composed;

    for (size_t i = 0; i < report->failure_count; i++) {
        if (report_is_wanted(report, i))
            set_recipient(draft, &report->failures[i], &recipients[count++]);
    }
    snprintf(boundary, sizeof(boundary), "%016llx%016llx", (unsigned long long)random_u64(),
             (unsigned long long)random_u64());
    dsn = (struct dsn_report){
        .host = draft->config->hostname,
        .message_id = str_from_cstr(draft->message_id),
        .boundary = str_from_cstr(boundary),
        .sender = report->envelope->sender,
        .envid = report->envelope->envid,
        .arrived_at_ms = report->envelope->arrived_at_ms,
        .reported_at_ms = draft->now_ms,
        .recipients = recipients,
        .recipient_count = count,
        .header = buf_str(&draft->header),
        .is_smtputf8 = (report->envelope->flags & ENVELOPE_SMTPUTF8) != 0,
        .returns_message = draft->returns_message,
        .original_is_8bit = (report->envelope->flags & ENVELOPE_8BITMIME) != 0,
    };
    buf_release(&draft->content);
    buf_release(&draft->end);
    buf_init(&draft->content, DSN_REPORT_BYTES_MAX(count));
    buf_init(&draft->end, BOUNDARY_BYTES + 16);
    is_composed = dsn_compose(&draft->content, &dsn, &draft->properties);
    if (draft->returns_message)
        dsn_compose_end(&draft->end, &dsn);
    free(recipients);
    return is_composed;
}

/* ---- the envelope ---- */

static bool encode_envelope(struct draft *draft)
{
    const struct envelope *original = draft->report->envelope;
    struct str copy_to = draft->config->delivery.ndr.copy_to;
    struct envelope_recipient recipients[REPORT_RECIPIENTS_MAX] = {
        {.address = original->sender, .domain = original->sender_domain}};
    struct envelope envelope = {
        .arrived_at_ms = draft->now_ms,
        .flags = ENVELOPE_REPORT | (draft->properties.is_8bit ? (unsigned)ENVELOPE_8BITMIME : 0u) |
                 (draft->properties.needs_smtputf8 ? (unsigned)ENVELOPE_SMTPUTF8 : 0u),
        .message_id = str_from_cstr(draft->message_id),
        .recipients = recipients,
        .recipient_count = 1,
    };
    struct address copy;

    if (copy_to.length > 0 && address_parse_stored(&copy, copy_to) && !copy.is_null &&
        !str_equal_nocase(copy_to, original->sender)) {
        recipients[1] = (struct envelope_recipient){.address = copy_to, .domain = address_domain(&copy)};
        envelope.recipient_count = 2;
    }
    return envelope_encode(&envelope, &draft->envelope);
}

/* ---- into the spool ---- */

/* The report, what it returns of the original, and its results, as one write. 0, or a negative errno. */
static int spool_draft(struct draft *draft)
{
    struct body_copy *copy =
        body_copy_create(draft->delivery, draft->returns_message ? draft->report->id : 0, &draft->content, &draft->end);
    struct spool_write write = {
        .type = SPOOL_WRITE_MESSAGE,
        .id = draft->id,
        .envelope = buf_str(&draft->envelope),
        .results = draft->report->results,
        .result_count = draft->report->result_count,
    };
    int result = body_copy_run(copy);

    if (result == 0 && !body_copy_submit(copy, &write))
        result = -EIO;
    if (result == 0)
        queue_add(draft->delivery->queue, draft->id, buf_str(&draft->envelope), body_copy_bytes(copy));
    body_copy_destroy(&copy);
    return result;
}

const char *report_kind_name(enum queue_report_kind kind)
{
    switch (kind) {
    case QUEUE_REPORT_FAILED:
        break;
    case QUEUE_REPORT_DELAYED:
        return "delayed";
    case QUEUE_REPORT_DELIVERED:
    case QUEUE_REPORT_RELAYED:
    case QUEUE_REPORT_EXPANDED:
        return "success";
    }
    return "failed";
}

static void log_report(const struct draft *draft)
{
    char id[MESSAGE_ID_TEXT_BYTES], about[MESSAGE_ID_TEXT_BYTES];

    LOG_INFO("ndr", log_str("id", message_id_format(draft->id, id)),
             log_str("about", message_id_format(draft->report->id, about)),
             log_cstr("kind", report_kind_name(draft->report->kind)), log_str("to", draft->report->envelope->sender),
             log_u64("recipients", draft->report->failure_count));
    events_tell_report(draft->delivery, draft->report, draft->id);
}

/* Composed, stored and queued: 0, or a negative errno. */
static int make(struct draft *draft)
{
    buf_clear(&draft->envelope);
    return compose(draft) && encode_envelope(draft) ? spool_draft(draft) : -EMSGSIZE;
}

bool report_write(struct delivery *delivery, const struct config *config, const struct queue_report *report)
{
    struct draft draft = {.delivery = delivery, .config = config, .report = report, .now_ms = clock_real_ms()};
    char id[MESSAGE_ID_TEXT_BYTES];
    int result;

    draft.id = spool_reserve_id(delivery->options.spool, report->id);
    message_id_format(draft.id, id);
    snprintf(draft.message_id, sizeof(draft.message_id), "%s.%llx@%.*s", id, (unsigned long long)draft.now_ms,
             STR_ARG(config->hostname));
    draft.returns_message = returns_message(&draft);
    buf_init(&draft.header, DSN_HEADER_BYTES_MAX);
    buf_init(&draft.envelope, SPOOL_ENVELOPE_BYTES_MAX);
    read_header(&draft);
    result = make(&draft);
    /* A damaged original can't be returned, and is reported all the same. */
    if (draft.returns_message && (result == -EILSEQ || result == -ENOENT)) {
        draft.returns_message = false;
        result = make(&draft);
    }
    if (result == 0) {
        atomic_fetch_add(&delivery->statistics_reports, 1);
        log_report(&draft);
    }
    buf_release(&draft.header);
    buf_release(&draft.content);
    buf_release(&draft.end);
    buf_release(&draft.envelope);
    return result == 0;
}

bool report_write_results(struct delivery *delivery, const struct queue_report *report)
{
    struct spool_write write = {
        .type = SPOOL_WRITE_RESULTS, .results = report->results, .result_count = report->result_count};

    return delivery_spool_write(delivery->options.spool, &write) == SPOOL_DONE;
}
