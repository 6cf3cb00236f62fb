/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A draft is counted, since a spool write or a worker job may still use its memory when the session has given up waiting. All counting
 * happens on the draft's loop.
 */
#include "session/draft.h"

#include "base/log.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>

#define DRAFT_BLOCKS_MAX      15
#define DRAFT_TRACE_BYTES_MAX 4096

_Static_assert(DRAFT_BLOCKS_MAX *LOOP_BLOCK_BYTES + DRAFT_TRACE_BYTES_MAX <= SPOOL_INLINE_BODY_BYTES,
               "what is held in memory fits inline");

struct draft {
    const struct draft_store *store;
    unsigned references;
    enum draft_status status; /* DRAFT_STORED: no problem so far */
    struct header_scan scan;
    bool has_8bit;
    bool trace_done; /* the trace is as it will be stored, and counted in body_bytes */
    uint64_t body_bytes;
    struct buf trace; /* Received, and Message-ID where there is none */
    struct str message_id;
    char message_id_text[320];
    char *blocks[DRAFT_BLOCKS_MAX];
    unsigned block_count;
    size_t last_block_bytes;
    struct spool_body_file *file;

    /* the commit */
    struct spool_write write;
    struct iovec parts[1 + DRAFT_BLOCKS_MAX];
    struct buf envelope;
    struct loop_task task;
    struct loop *loop;
    struct fiber *fiber;
    bool finished;
};

enum draft_job_kind { DRAFT_JOB_APPEND, DRAFT_JOB_FINISH };

struct draft_job {
    struct worker_job job;
    struct draft *draft;
    enum draft_job_kind kind;
    int result; /* negative errno */
};

struct discard_job {
    struct worker_job job;
    struct spool_body_file *file;
};

/* ---- life ---- */

struct draft *draft_create(const struct draft_store *store, struct str received, struct str message_id)
{
    struct draft *draft = mem_alloc(sizeof(*draft));

    draft->store = store;
    draft->references = 1;
    draft->status = DRAFT_STORED;
    draft->loop = loop_current();
    header_scan_init(&draft->scan);
    buf_init(&draft->trace, DRAFT_TRACE_BYTES_MAX);
    buf_init(&draft->envelope, SPOOL_ENVELOPE_BYTES_MAX);
    buf_append_str(&draft->trace, received);
    message_id = str_take(message_id, sizeof(draft->message_id_text));
    memcpy(draft->message_id_text, message_id.data, message_id.length);
    draft->message_id = str_make(draft->message_id_text, message_id.length);
    return draft;
}

void draft_keep_from(struct draft *draft, struct buf *from)
{
    draft->scan.from = from;
}

static void discard_run(struct worker_job *job)
{
    spool_body_file_discard(&LIST_ENTRY(job, struct discard_job, job)->file);
}

static void discard_destroy(struct worker_job *job)
{
    struct discard_job *discard = LIST_ENTRY(job, struct discard_job, job);

    /* Not run, because the pool is swamped: then here, since a file that stays open is worse than a short wait. */
    if (discard->file)
        spool_body_file_discard(&discard->file);
    free(discard);
}

/* Removing a file may wait for the disk: a worker does it. */
static void discard_file(struct draft *draft)
{
    struct discard_job *job = mem_alloc(sizeof(*job));

    worker_job_init(&job->job, discard_run, discard_destroy);
    job->file = draft->file;
    draft->file = NULL;
    worker_submit(draft->store->disk_pool, &job->job);
}

static void give_blocks(struct draft *draft)
{
    while (draft->block_count > 0)
        loop_block_give(draft->blocks[--draft->block_count]);
    draft->last_block_bytes = 0;
}

static void unreference(struct draft *draft)
{
    if (--draft->references > 0)
        return;
    give_blocks(draft);
    if (draft->file)
        discard_file(draft);
    buf_release(&draft->trace);
    buf_release(&draft->envelope);
    free(draft);
}

void draft_release(struct draft **pointer)
{
    struct draft *draft = *pointer;

    *pointer = NULL;
    if (draft)
        unreference(draft);
}

/* ---- the body ---- */

/* Decides whether a Message-ID is added: once, when the header is known or memory runs out. */
static void finish_trace(struct draft *draft)
{
    if (draft->trace_done)
        return;
    draft->trace_done = true;
    if (!draft->scan.has_message_id)
        buf_printf(&draft->trace, "Message-ID: <%.*s>\r\n", STR_ARG(draft->message_id));
    draft->body_bytes += draft->trace.length;
}

static int append_blocks(struct draft *draft)
{
    int result = 0;

    if (!draft->file) {
        result = spool_body_file_create(draft->store->spool, &draft->file);
        if (result == 0)
            result = spool_body_file_append(draft->file, draft->trace.data, draft->trace.length);
    }
    for (unsigned i = 0; result == 0 && i < draft->block_count; i++) {
        size_t length = i + 1 < draft->block_count ? LOOP_BLOCK_BYTES : draft->last_block_bytes;

        result = spool_body_file_append(draft->file, draft->blocks[i], length);
    }
    return result;
}

static void draft_job_run(struct worker_job *job)
{
    struct draft_job *draft_job = LIST_ENTRY(job, struct draft_job, job);

    draft_job->result = append_blocks(draft_job->draft);
    if (draft_job->result == 0 && draft_job->kind == DRAFT_JOB_FINISH)
        draft_job->result = spool_body_file_finish(draft_job->draft->file);
}

static void draft_job_destroy(struct worker_job *job)
{
    struct draft_job *draft_job = LIST_ENTRY(job, struct draft_job, job);

    unreference(draft_job->draft);
    free(draft_job);
}

/* Moves what is in memory to the body file. */
static void spill(struct draft *draft, enum draft_job_kind kind)
{
    struct draft_job *job = mem_alloc(sizeof(*job));
    enum wait_result waited;

    worker_job_init(&job->job, draft_job_run, draft_job_destroy);
    job->draft = draft;
    job->kind = kind;
    draft->references++;
    waited = worker_run(draft->store->disk_pool, &job->job, loop_now_ms() + DRAFT_STORE_TIMEOUT_MS);
    if (waited != WAIT_READY) {
        /* The job may still use blocks and file: they stay until it is done. */
        draft->status = DRAFT_FAILED;
    } else {
        if (job->result != 0) {
            struct error error;

            error_set_errno(&error, -job->result, "message body");
            LOG_ERROR("store-failed", log_error(&error));
            draft->status = job->result == -ENOSPC || job->result == -EDQUOT ? DRAFT_FULL : DRAFT_FAILED;
        }
        give_blocks(draft);
    }
    worker_job_release(&job->job);
}

static bool make_block_room(struct draft *draft)
{
    if (draft->block_count > 0 && draft->last_block_bytes < LOOP_BLOCK_BYTES)
        return true;
    if (draft->block_count == DRAFT_BLOCKS_MAX) {
        if (!draft->scan.is_complete) {
            draft->status = DRAFT_HEADER_TOO_LONG;
            return false;
        }
        finish_trace(draft);
        spill(draft, DRAFT_JOB_APPEND);
        if (draft->status != DRAFT_STORED)
            return false;
    }
    draft->blocks[draft->block_count++] = loop_block_take();
    draft->last_block_bytes = 0;
    return true;
}

static bool contains_8bit(struct str s)
{
    uint64_t all = 0;

    /* Word by word: this looks at every byte of every message. */
    while (s.length >= sizeof(all)) {
        uint64_t word;

        memcpy(&word, s.data, sizeof(word));
        all |= word;
        s = str_skip(s, sizeof(word));
    }
    while (s.length > 0) {
        all |= (unsigned char)s.data[0];
        s = str_skip(s, 1);
    }
    return all & UINT64_C(0x8080808080808080);
}

void draft_append(struct draft *draft, struct str piece)
{
    if (draft->status != DRAFT_STORED)
        return;
    if (!draft->scan.is_complete)
        header_scan_feed(&draft->scan, piece);
    if (!draft->has_8bit)
        draft->has_8bit = contains_8bit(piece);
    while (piece.length > 0 && make_block_room(draft)) {
        size_t room = LOOP_BLOCK_BYTES - draft->last_block_bytes;
        size_t count = piece.length < room ? piece.length : room;

        memcpy(draft->blocks[draft->block_count - 1] + draft->last_block_bytes, piece.data, count);
        draft->last_block_bytes += count;
        draft->body_bytes += count;
        piece = str_skip(piece, count);
    }
}

const struct header_scan *draft_finish(struct draft *draft)
{
    finish_trace(draft);
    return &draft->scan;
}

bool draft_has_8bit(const struct draft *draft)
{
    return draft->has_8bit;
}

uint64_t draft_body_bytes(const struct draft *draft)
{
    return draft->body_bytes;
}

/* ---- the commit ---- */

static void on_commit_seen(struct loop_task *task)
{
    struct draft *draft = LIST_ENTRY(task, struct draft, task);

    draft->finished = true;
    if (draft->write.status == SPOOL_DONE)
        draft->file = NULL; /* the spool's now */
    if (draft->fiber)
        fiber_wake(draft->fiber);
    unreference(draft);
}

/* On the commit thread. The queue learns of the message here, whether or not the session still waits: it is durable. The loop is
 * notified once a batch. */
static void on_commit_done(struct spool_write *write)
{
    struct draft *draft = LIST_ENTRY(write, struct draft, write);

    if (write->status == SPOOL_DONE)
        queue_add(draft->store->queue, write->id, write->envelope, draft->body_bytes);
    loop_post_quiet(draft->loop, &draft->task);
}

static void prepare_write(struct draft *draft, spool_id id)
{
    struct spool_write *write = &draft->write;

    write->type = SPOOL_WRITE_MESSAGE;
    write->id = id;
    write->envelope = buf_str(&draft->envelope);
    write->done = on_commit_done;
    if (draft->file) {
        write->body_file = draft->file;
        return;
    }
    draft->parts[0] = (struct iovec){draft->trace.data, draft->trace.length};
    for (unsigned i = 0; i < draft->block_count; i++)
        draft->parts[1 + i] =
            (struct iovec){draft->blocks[i], i + 1 < draft->block_count ? LOOP_BLOCK_BYTES : draft->last_block_bytes};
    write->body = draft->parts;
    write->body_part_count = 1 + (int)draft->block_count;
}

static enum draft_status wait_for_commit(struct draft *draft)
{
    uint64_t deadline_ms = loop_now_ms() + DRAFT_STORE_TIMEOUT_MS;

    draft->fiber = fiber_current();
    while (!draft->finished) {
        if (fiber_wait(deadline_ms) != WAIT_READY)
            break;
    }
    draft->fiber = NULL;
    if (!draft->finished || draft->write.status == SPOOL_FAILED)
        return DRAFT_FAILED;
    return draft->write.status == SPOOL_FULL ? DRAFT_FULL : DRAFT_STORED;
}

enum draft_status draft_commit(struct draft *draft, spool_id id, const struct envelope *envelope)
{
    assert(draft->trace_done);
    if (draft->status == DRAFT_STORED && draft->file)
        spill(draft, DRAFT_JOB_FINISH);
    if (draft->status != DRAFT_STORED)
        return draft->status;
    if (!envelope_encode(envelope, &draft->envelope))
        return draft->status = DRAFT_FAILED;
    prepare_write(draft, id);
    draft->task.run = on_commit_seen;
    draft->references++;
    spool_submit(draft->store->spool, &draft->write);
    return wait_for_commit(draft);
}
