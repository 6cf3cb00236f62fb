/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In place of spool and queue, under their names: a spool that remembers what it is given, fails where it is told to, and takes its time
 * until it is told to go on; with a commit thread of its own, as the real one has.
 */
#ifndef POSTERN_TESTS_SESSION_FAKE_SPOOL_H
#define POSTERN_TESTS_SESSION_FAKE_SPOOL_H

#include "../loop/harness.h"
#include "base/buf.h"
#include "base/mem.h"
#include "queue/queue.h"
#include "spool/spool.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define FAKE_BYTES_MAX (64u << 20)

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct loop *loop;         /* to be notified after a commit */
    struct spool_write *write; /* submitted, not committed */
    bool is_stopping;
    pthread_t thread;

    /* The orders. */
    enum spool_status status;
    bool hold_commits, hold_appends;
    int create_error, append_error, finish_error;

    /* What happened. */
    unsigned submitted, queued, files_created, files_finished, files_discarded, appends_held;
    spool_id queued_id;
    uint64_t queued_bytes;
    struct buf envelope; /* of the last commit */
    struct buf body;
} fake = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

struct spool_body_file {
    struct buf data;
    bool is_finished;
};

static inline void fake_wait_while(const bool *held)
{
    pthread_mutex_lock(&fake.mutex);
    while (*held)
        pthread_cond_wait(&fake.changed, &fake.mutex);
    pthread_mutex_unlock(&fake.mutex);
}

static inline void fake_set(bool *order, bool value)
{
    pthread_mutex_lock(&fake.mutex);
    *order = value;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.mutex);
}

static inline unsigned fake_get(const unsigned *count)
{
    unsigned value;

    pthread_mutex_lock(&fake.mutex);
    value = *count;
    pthread_mutex_unlock(&fake.mutex);
    return value;
}

static inline void fake_add(unsigned *count)
{
    pthread_mutex_lock(&fake.mutex);
    ++*count;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.mutex);
}

static inline void fake_commit(struct spool_write *write)
{
    struct loop *loop = fake.loop;

    CHECK(write->type == SPOOL_WRITE_MESSAGE && write->result_count == 0);
    buf_clear(&fake.envelope);
    buf_clear(&fake.body);
    CHECK(buf_append_str(&fake.envelope, write->envelope));
    if (write->body_file) {
        CHECK(write->body_part_count == 0 && write->body_file->is_finished);
        CHECK(buf_append_str(&fake.body, buf_str(&write->body_file->data)));
    }
    for (int i = 0; i < write->body_part_count; i++)
        CHECK(buf_append(&fake.body, write->body[i].iov_base, write->body[i].iov_len));
    CHECK(write->body_file || fake.body.length <= SPOOL_INLINE_BODY_BYTES);
    write->status = fake.status;
    if (write->status == SPOOL_DONE && write->body_file) {
        buf_release(&write->body_file->data);
        free(write->body_file);
    }
    write->done(write);
    loop_notify(loop);
}

static inline void *fake_main(void *argument)
{
    struct spool_write *write;

    (void)argument;
    pthread_mutex_lock(&fake.mutex);
    for (;;) {
        while (!(fake.write && !fake.hold_commits) && !fake.is_stopping)
            pthread_cond_wait(&fake.changed, &fake.mutex);
        write = fake.write;
        fake.write = NULL;
        if (!write)
            break;
        pthread_mutex_unlock(&fake.mutex);
        fake_commit(write);
        pthread_mutex_lock(&fake.mutex);
    }
    pthread_mutex_unlock(&fake.mutex);
    return NULL;
}

/* On the loop that the drafts are on. */
static inline void fake_start(void)
{
    fake.loop = loop_current();
    fake.status = SPOOL_DONE;
    fake.is_stopping = fake.hold_commits = fake.hold_appends = false;
    fake.create_error = fake.append_error = fake.finish_error = 0;
    fake.submitted = fake.queued = fake.files_created = fake.files_finished = fake.files_discarded = fake.appends_held =
        0;
    buf_init(&fake.envelope, FAKE_BYTES_MAX);
    buf_init(&fake.body, FAKE_BYTES_MAX);
    CHECK(pthread_create(&fake.thread, NULL, fake_main, NULL) == 0);
}

static inline void fake_stop(void)
{
    fake_set(&fake.is_stopping, true);
    pthread_join(fake.thread, NULL);
    buf_release(&fake.envelope);
    buf_release(&fake.body);
}

/* ---- the names of the real ones ---- */

void spool_submit(struct spool *spool, struct spool_write *write)
{
    (void)spool;
    pthread_mutex_lock(&fake.mutex);
    CHECK(!fake.write);
    fake.write = write;
    fake.submitted++;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.mutex);
}

int spool_body_file_create(struct spool *spool, struct spool_body_file **file)
{
    (void)spool;
    if (fake.create_error)
        return fake.create_error;
    *file = mem_alloc(sizeof(**file));
    buf_init(&(*file)->data, FAKE_BYTES_MAX);
    fake_add(&fake.files_created);
    return 0;
}

int spool_body_file_append(struct spool_body_file *file, const void *data, size_t length)
{
    if (fake.append_error)
        return fake.append_error;
    fake_add(&fake.appends_held);
    fake_wait_while(&fake.hold_appends);
    CHECK(!file->is_finished && buf_append(&file->data, data, length));
    return 0;
}

int spool_body_file_finish(struct spool_body_file *file)
{
    if (fake.finish_error)
        return fake.finish_error;
    file->is_finished = true;
    fake_add(&fake.files_finished);
    return 0;
}

void spool_body_file_discard(struct spool_body_file **file)
{
    buf_release(&(*file)->data);
    mem_free(file);
    fake_add(&fake.files_discarded);
}

void queue_add(struct queue *queue, spool_id id, struct str envelope, uint64_t body_bytes)
{
    (void)queue;
    CHECK(str_equal(envelope, buf_str(&fake.envelope)));
    fake.queued_id = id;
    fake.queued_bytes = body_bytes;
    fake_add(&fake.queued);
}

#endif
