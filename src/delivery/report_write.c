/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A report: the original's header section is read, the report composed (mail/dsn), and both it and the results that it
 * covers go to the spool as one frame beside the failed message: after a crash either the sender is being told or the
 * failure has not happened yet. It returns the original's header section only, whatever RET asks for.
 */
#include "base/log.h"
#include "base/mem.h"
#include "delivery/body.h"
#include "delivery/delivery_private.h"
#include "mail/address.h"
#include "mail/dsn.h"
#include "os/clock.h"
#include "os/random.h"

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
    struct buf header; /* the original's, as much as is shown */
    struct buf content;
    struct buf envelope; /* encoded */
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

static void set_recipient(struct draft *draft, const struct queue_failure *failure, struct dsn_recipient *recipient)
{
    const struct envelope_recipient *of_envelope = &draft->report->envelope->recipients[failure->recipient];
    const struct queue_outcome *outcome = failure->outcome;
    bool is_remote = outcome->remote[0] != '\0';

    *recipient = (struct dsn_recipient){
        .recipient = of_envelope->address,
        .orcpt = of_envelope->orcpt,
        .action = DSN_ACTION_FAILED,
        .status = str_from_cstr(outcome->status),
        .last_attempt_at_ms = failure->at_ms,
    };
    if (is_remote) {
        recipient->reply = str_from_cstr(outcome->text);
        recipient->remote_mta = str_from_cstr(outcome->remote);
        if (failure->expired)
            recipient->reason = STR("It was tried again and again, and the time for it is over");
        return;
    }
    recipient->reason = str_from_cstr(outcome->text);
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
    };
    buf_init(&draft->content, DSN_REPORT_BYTES_MAX(count));
    is_composed = dsn_compose(&draft->content, &dsn, &draft->properties);
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

/* A report about very many recipients is too long for a frame. The job owns the text while it runs. */
struct file_job {
    struct worker_job job;
    struct spool *spool;
    struct buf content;
    struct spool_body_file *file;
    int result;
};

static void file_run(struct worker_job *job)
{
    struct file_job *file = LIST_ENTRY(job, struct file_job, job);

    file->result = spool_body_file_create(file->spool, &file->file);
    if (file->result == 0)
        file->result = spool_body_file_append(file->file, file->content.data, file->content.length);
    if (file->result == 0)
        file->result = spool_body_file_finish(file->file);
    if (file->result != 0 && file->file)
        spool_body_file_discard(&file->file);
}

static void discard_run(struct worker_job *job)
{
    spool_body_file_discard(&LIST_ENTRY(job, struct file_job, job)->file);
}

static void file_destroy(struct worker_job *job)
{
    struct file_job *file = LIST_ENTRY(job, struct file_job, job);

    /* Only after a cancel: this thread or another, it is one file, and the process is ending. */
    if (file->file)
        spool_body_file_discard(&file->file);
    buf_release(&file->content);
    free(file);
}

static struct spool_body_file *make_body_file(struct draft *draft)
{
    struct file_job *file = mem_alloc(sizeof(*file));
    struct spool_body_file *made = NULL;

    worker_job_init(&file->job, file_run, file_destroy);
    file->spool = draft->delivery->options.spool;
    file->content = draft->content;
    buf_init(&draft->content, 0);
    if (worker_run(draft->delivery->options.disk_pool, &file->job, loop_now_ms() + DELIVERY_DISK_TIMEOUT_MS) ==
        WAIT_READY) {
        made = file->file;
        file->file = NULL;
    }
    worker_job_release(&file->job);
    return made;
}

static void discard_body_file(struct draft *draft, struct spool_body_file *made)
{
    struct file_job *file = mem_alloc(sizeof(*file));

    worker_job_init(&file->job, discard_run, file_destroy);
    file->file = made;
    worker_run(draft->delivery->options.disk_pool, &file->job, loop_now_ms() + DELIVERY_DISK_TIMEOUT_MS);
    worker_job_release(&file->job);
}

/* The report and its results; true once both are on the disk. */
static bool spool_draft(struct draft *draft, uint64_t body_bytes)
{
    struct iovec part = {.iov_base = draft->content.data, .iov_len = draft->content.length};
    struct spool_write write = {
        .type = SPOOL_WRITE_MESSAGE,
        .id = draft->id,
        .envelope = buf_str(&draft->envelope),
        .body = &part,
        .body_part_count = 1,
        .results = draft->report->results,
        .result_count = draft->report->result_count,
    };
    bool is_written;

    if (body_bytes > SPOOL_INLINE_BODY_BYTES) {
        write.body = NULL;
        write.body_part_count = 0;
        write.body_file = make_body_file(draft);
        if (!write.body_file)
            return false;
    }
    is_written = delivery_spool_write(draft->delivery->options.spool, &write) == SPOOL_DONE;
    if (!is_written && write.body_file)
        discard_body_file(draft, write.body_file);
    return is_written;
}

static void log_report(const struct draft *draft)
{
    char id[MESSAGE_ID_TEXT_BYTES], about[MESSAGE_ID_TEXT_BYTES];

    LOG_INFO("ndr", log_str("id", message_id_format(draft->id, id)),
             log_str("about", message_id_format(draft->report->id, about)),
             log_str("to", draft->report->envelope->sender), log_u64("recipients", draft->report->failure_count));
}

bool report_write(struct delivery *delivery, const struct config *config, const struct queue_report *report)
{
    struct draft draft = {.delivery = delivery, .config = config, .report = report, .now_ms = clock_real_ms()};
    char id[MESSAGE_ID_TEXT_BYTES];
    uint64_t body_bytes;
    bool is_written;

    draft.id = spool_reserve_id(delivery->options.spool, report->id);
    message_id_format(draft.id, id);
    snprintf(draft.message_id, sizeof(draft.message_id), "%s.%llx@%.*s", id, (unsigned long long)draft.now_ms,
             STR_ARG(config->hostname));
    buf_init(&draft.header, DSN_HEADER_BYTES_MAX);
    buf_init(&draft.envelope, SPOOL_ENVELOPE_BYTES_MAX);
    read_header(&draft);
    is_written = compose(&draft) && encode_envelope(&draft);
    body_bytes = draft.content.length;
    is_written = is_written && spool_draft(&draft, body_bytes);
    if (is_written) {
        queue_add(delivery->queue, draft.id, buf_str(&draft.envelope), body_bytes);
        atomic_fetch_add(&delivery->statistics_reports, 1);
        log_report(&draft);
    }
    buf_release(&draft.header);
    buf_release(&draft.content);
    buf_release(&draft.envelope);
    return is_written;
}

bool report_write_results(struct delivery *delivery, const struct queue_report *report)
{
    struct spool_write write = {
        .type = SPOOL_WRITE_RESULTS, .results = report->results, .result_count = report->result_count};

    return delivery_spool_write(delivery->options.spool, &write) == SPOOL_DONE;
}
