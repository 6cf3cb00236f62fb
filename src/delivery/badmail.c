/* SPDX-License-Identifier: Apache-2.0 */
/*
 * badmail/: messages that could be neither delivered nor reported. ID.eml is the whole message, ID.json says what
 * became of it; both are synced before the spool forgets the message. A message that comes here again, since it failed
 * for another recipient later, gains that failure in its ID.json.
 */
#include "base/log.h"
#include "base/mem.h"
#include "delivery/delivery_private.h"
#include "loop/fiber.h"
#include "mail/text.h"
#include "os/clock.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CHUNK_BYTES    (128u << 10)
#define JSON_BYTES_MAX (64u << 20)
#define TEXT_BYTES_MAX 4096
#define TIME_BYTES     64

/* The thread's own copy of everything. */
struct badmail_job {
    struct worker_job job;
    const struct vfs *vfs;
    struct spool *spool;
    spool_id id;
    json_t *description;
    char *eml_path;
    char *json_path;
    int result;
};

/* ---- the description ---- */

/* JSON is UTF-8: what is not is shown as "?". */
static json_t *json_text(struct str text)
{
    json_t *value = json_stringn(text.data ? text.data : "", text.length);
    struct buf clean;

    if (value)
        return value;
    buf_init(&clean, TEXT_BYTES_MAX);
    text_append_clean(&clean, text, TEXT_BYTES_MAX, false);
    value = json_stringn(clean.data, clean.length);
    buf_release(&clean);
    return value;
}

static json_t *json_time(int64_t at_ms)
{
    char text[TIME_BYTES];
    time_t seconds = (time_t)(at_ms / 1000);
    struct tm tm;

    if (!gmtime_r(&seconds, &tm) || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        return json_null();
    return json_string(text);
}

static json_t *describe_envelope(const struct envelope *envelope)
{
    json_t *object = json_object();
    json_t *recipients = json_array();

    json_object_set_new(object, "arrived", json_time(envelope->arrived_at_ms));
    json_object_set_new(object, "sender", json_text(envelope->sender));
    json_object_set_new(object, "client", json_text(envelope->client));
    json_object_set_new(object, "helo", json_text(envelope->helo));
    json_object_set_new(object, "user", json_text(envelope->user));
    json_object_set_new(object, "server", json_text(envelope->server));
    json_object_set_new(object, "rule", json_text(envelope->rule));
    json_object_set_new(object, "rule_at", json_text(envelope->rule_at));
    json_object_set_new(object, "message_id", json_text(envelope->message_id));
    for (size_t i = 0; i < envelope->recipient_count; i++)
        json_array_append_new(recipients, json_text(envelope->recipients[i].address));
    json_object_set_new(object, "recipients", recipients);
    return object;
}

static json_t *describe_failure(const struct queue_report *report, const struct queue_failure *failure)
{
    const struct queue_outcome *outcome = failure->outcome;
    json_t *object = json_object();

    json_object_set_new(object, "recipient", json_text(report->envelope->recipients[failure->recipient].address));
    json_object_set_new(object, "status", json_text(str_from_cstr(outcome->status)));
    json_object_set_new(object, "reply", json_text(str_from_cstr(outcome->text)));
    json_object_set_new(object, "remote", json_text(str_from_cstr(outcome->remote)));
    json_object_set_new(object, "at", json_time(failure->at_ms));
    json_object_set_new(object, "expired", json_boolean(failure->expired));
    return object;
}

static json_t *describe(const struct queue_report *report, const char *reason)
{
    json_t *object = json_object();
    json_t *failures = json_array();
    char id[MESSAGE_ID_TEXT_BYTES];

    json_object_set_new(object, "id", json_text(message_id_format(report->id, id)));
    json_object_set_new(object, "reason", json_string(reason));
    json_object_set_new(object, "set_aside", json_time(clock_real_ms()));
    json_object_set_new(object, "envelope", describe_envelope(report->envelope));
    for (size_t i = 0; i < report->failure_count; i++)
        json_array_append_new(failures, describe_failure(report, &report->failures[i]));
    json_object_set_new(object, "failures", failures);
    return object;
}

/* ---- the thread ---- */

/* The next piece. One that the spool finds damaged at its end is kept nevertheless: whoever looks here may still make sense of it. */
static ssize_t read_piece(struct badmail_job *badmail, struct spool_reader **reader, void *data, uint64_t offset)
{
    ssize_t count = spool_reader_read(*reader, data, CHUNK_BYTES, offset, false);

    if (count != -EILSEQ)
        return count;
    json_object_set_new(badmail->description, "damaged", json_true());
    spool_reader_close(reader);
    *reader = spool_reader_open(badmail->spool, badmail->id);
    return *reader ? spool_reader_read(*reader, data, CHUNK_BYTES, offset, false) : -ENOENT;
}

static int copy_body(struct badmail_job *badmail, struct vfs_file *file)
{
    struct spool_reader *reader = spool_reader_open(badmail->spool, badmail->id);
    char *chunk = mem_alloc(CHUNK_BYTES);
    uint64_t offset = 0;
    ssize_t count = -ENOENT;
    int result = 0;

    while (result == 0 && reader && (count = read_piece(badmail, &reader, chunk, offset)) > 0) {
        struct iovec part = {.iov_base = chunk, .iov_len = (size_t)count};

        result = file->vfs->write_at(file, &part, 1, offset);
        offset += (uint64_t)count;
    }
    free(chunk);
    if (reader)
        spool_reader_close(&reader);
    return result == 0 && count < 0 ? (int)count : result;
}

static int write_eml(struct badmail_job *badmail)
{
    char *temporary = mem_printf("%s.tmp", badmail->eml_path);
    struct vfs_file *file = NULL;
    int result = badmail->vfs->open(badmail->vfs, temporary, VFS_WRITE | VFS_CREATE, &file);

    if (result == 0) {
        result = file->vfs->truncate(file, 0);
        if (result == 0)
            result = copy_body(badmail, file);
        if (result == 0)
            result = file->vfs->sync_data(file);
        file->vfs->close(file);
        if (result == 0)
            result = badmail->vfs->rename(badmail->vfs, temporary, badmail->eml_path);
        if (result != 0)
            badmail->vfs->remove(badmail->vfs, temporary);
    }
    free(temporary);
    return result;
}

static bool is_among(json_t *failures, json_t *failure)
{
    size_t i;
    json_t *other;

    json_array_foreach(failures, i, other)
    {
        if (json_equal(json_object_get(other, "recipient"), json_object_get(failure, "recipient")))
            return true;
    }
    return false;
}

/* Keeps the failures that are known already in front. A file that is not ours to read any more is replaced. */
static void add_earlier_failures(struct badmail_job *badmail)
{
    json_t *earlier, *failures, *failure;
    char *data = NULL;
    size_t length = 0;
    size_t i;

    if (vfs_read_file(badmail->vfs, badmail->json_path, JSON_BYTES_MAX, &data, &length) != 0)
        return;
    earlier = json_loadb(data, length, 0, NULL);
    failures = json_object_get(earlier, "failures");
    if (json_is_array(failures)) {
        json_array_foreach(json_object_get(badmail->description, "failures"), i, failure)
        {
            if (!is_among(failures, failure))
                json_array_append(failures, failure);
        }
        json_object_set(badmail->description, "failures", failures);
    }
    json_decref(earlier);
    free(data);
}

static void badmail_run(struct worker_job *job)
{
    struct badmail_job *badmail = LIST_ENTRY(job, struct badmail_job, job);
    char *text;

    badmail->result = write_eml(badmail);
    if (badmail->result != 0)
        return;
    add_earlier_failures(badmail);
    text = json_dumps(badmail->description, JSON_INDENT(2));
    /* Syncs the directory too, for both. */
    badmail->result = text ? vfs_write_file(badmail->vfs, badmail->json_path, text, strlen(text)) : -EILSEQ;
    free(text);
}

static void badmail_destroy(struct worker_job *job)
{
    struct badmail_job *badmail = LIST_ENTRY(job, struct badmail_job, job);

    json_decref(badmail->description);
    free(badmail->eml_path);
    free(badmail->json_path);
    free(badmail);
}

bool badmail_write(struct delivery *delivery, const struct queue_report *report, const char *reason)
{
    struct badmail_job *badmail = mem_alloc(sizeof(*badmail));
    char id[MESSAGE_ID_TEXT_BYTES];
    int result = -ETIMEDOUT; /* or cancelled */

    message_id_format(report->id, id);
    worker_job_init(&badmail->job, badmail_run, badmail_destroy);
    badmail->vfs = delivery->options.vfs;
    badmail->spool = delivery->options.spool;
    badmail->id = report->id;
    badmail->description = describe(report, reason);
    badmail->eml_path = mem_printf("%s/%s.eml", delivery->badmail_directory, id);
    badmail->json_path = mem_printf("%s/%s.json", delivery->badmail_directory, id);
    if (worker_run(delivery->options.disk_pool, &badmail->job, loop_now_ms() + DELIVERY_DISK_TIMEOUT_MS) == WAIT_READY)
        result = badmail->result;
    worker_job_release(&badmail->job);
    if (result == 0) {
        atomic_fetch_add(&delivery->statistics_badmail, 1);
        LOG_WARNING("badmail", log_cstr("id", id), log_str("from", report->envelope->sender),
                    log_cstr("reason", reason), log_u64("recipients", report->failure_count));
        events_tell_badmail(delivery, report, reason);
    } else {
        LOG_ERROR("badmail-error", log_cstr("id", id), log_cstr("error", strerrordesc_np(-result)));
    }
    return result == 0;
}
