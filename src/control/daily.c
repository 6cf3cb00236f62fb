/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring is guarded by one mutex, held for copying lines and never across a system call. Each line stands in it behind a small head that says which
 * day's file it belongs to. The thread lets lines gather for a moment, takes out those of one day, and writes them in one piece.
 */
#include "control/daily.h"

#include "base/log.h"
#include "base/mem.h"
#include "control/daily_private.h"
#include "os/clock.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#define GATHER_MS 50
/* How long an idle thread waits before it looks for files that have become too old. */
#define CLEAN_MS    (3600 * 1000)
#define PIECE_BYTES (256u << 10)
#define COMPLAIN_MS 60000 /* the least time between two lines in the log about what is lost */
#define STOP_MS_MAX 5000  /* a disk that does not answer must not keep the process from ending */
#define NS_PER_S    1000000000L

struct line_head {
    uint32_t length;
    int32_t day;
};

struct daily {
    struct daily_files files; /* the thread's, but for what is set before it starts */
    pthread_mutex_t mutex;
    pthread_cond_t wake;    /* for the thread */
    pthread_cond_t written; /* for daily_flush and daily_destroy */
    pthread_t thread;
    bool is_running;
    bool is_stopping;
    bool has_finished;
    bool is_urgent; /* somebody waits in daily_flush */
    bool has_new_settings;
    struct daily_settings settings;
    char *ring;
    size_t head, used;
    uint64_t put_count, done_count; /* lines that went in, and that are through */
    uint64_t lost_count, written_count;
    uint64_t complained_of; /* of lost_count */
    uint64_t complain_at_ms;
    int last_errno;
};

static struct timespec after_ms(uint64_t ms)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += (time_t)(ms / 1000);
    at.tv_nsec += (long)(ms % 1000) * 1000000;
    if (at.tv_nsec >= NS_PER_S) {
        at.tv_sec++;
        at.tv_nsec -= NS_PER_S;
    }
    return at;
}

/* ---- the ring; with the mutex held ---- */

static void ring_put(struct daily *daily, const void *data, size_t length)
{
    size_t tail = (daily->head + daily->used) % DAILY_RING_BYTES;
    size_t first = length < DAILY_RING_BYTES - tail ? length : DAILY_RING_BYTES - tail;

    memcpy(daily->ring + tail, data, first);
    memcpy(daily->ring, (const char *)data + first, length - first);
    daily->used += length;
}

static void ring_peek(const struct daily *daily, void *data, size_t length)
{
    size_t first = length < DAILY_RING_BYTES - daily->head ? length : DAILY_RING_BYTES - daily->head;

    memcpy(data, daily->ring + daily->head, first);
    memcpy((char *)data + first, daily->ring, length - first);
}

static void ring_drop(struct daily *daily, size_t length)
{
    daily->used -= length;
    daily->head = daily->used == 0 ? 0 : (daily->head + length) % DAILY_RING_BYTES;
}

/* Lines of one day, as many as fit. Returns how many. */
static size_t take_piece(struct daily *daily, struct buf *piece, int64_t *day)
{
    size_t count = 0;
    struct line_head head;

    buf_clear(piece);
    while (daily->used > 0) {
        char *room;

        ring_peek(daily, &head, sizeof(head));
        if (count > 0 && (head.day != *day || !(piece->length + head.length <= PIECE_BYTES)))
            break;
        *day = head.day;
        ring_drop(daily, sizeof(head));
        room = buf_reserve(piece, head.length);
        assert(room);
        ring_peek(daily, room, head.length);
        ring_drop(daily, head.length);
        piece->length += head.length;
        count++;
    }
    return count;
}

void daily_write(struct daily *daily, struct str line, int64_t at_ms)
{
    const struct line_head head = {(uint32_t)line.length, (int32_t)daily_day(at_ms)};

    assert(line.length <= DAILY_LINE_BYTES_MAX);
    pthread_mutex_lock(&daily->mutex);
    if (daily->is_running && DAILY_RING_BYTES - daily->used < sizeof(head) + line.length) {
        daily->lost_count++;
    } else if (daily->is_running) {
        if (daily->used == 0)
            pthread_cond_signal(&daily->wake);
        ring_put(daily, &head, sizeof(head));
        ring_put(daily, line.data, line.length);
        daily->put_count++;
    }
    pthread_mutex_unlock(&daily->mutex);
}

/* ---- the thread ---- */

/* With the mutex held. What was lost, at most once in a while. */
static void complain(struct daily *daily)
{
    const uint64_t now_ms = clock_monotonic_ms();
    const uint64_t lost = daily->lost_count - daily->complained_of;
    const int errno_value = daily->last_errno;

    if (lost == 0 || (now_ms < daily->complain_at_ms && !daily->is_stopping))
        return;
    daily->complained_of = daily->lost_count;
    daily->complain_at_ms = now_ms + COMPLAIN_MS;
    daily->last_errno = 0;
    pthread_mutex_unlock(&daily->mutex);
    LOG_ERROR("daily-lost", log_cstr("what", daily->files.what), log_u64("lines", lost),
              log_cstr("directory", daily->files.directory),
              log_cstr("reason", errno_value ? strerrordesc_np(errno_value) : "more was written than the disk took"));
    pthread_mutex_lock(&daily->mutex);
}

/* With the mutex held. Whether there is something to write. */
static bool wait_for_lines(struct daily *daily)
{
    struct timespec until = after_ms(CLEAN_MS);
    int result = 0;

    while (daily->used == 0 && !daily->is_stopping && !daily->has_new_settings && result == 0)
        result = pthread_cond_timedwait(&daily->wake, &daily->mutex, &until);
    if (daily->used == 0)
        return false;
    until = after_ms(GATHER_MS);
    result = 0;
    while (!daily->is_stopping && !daily->is_urgent && daily->used < PIECE_BYTES && result == 0)
        result = pthread_cond_timedwait(&daily->wake, &daily->mutex, &until);
    return true;
}

/* With the mutex held, which it lets go. */
static void write_lines(struct daily *daily, struct buf *piece)
{
    while (daily->used > 0) {
        int64_t day = 0;
        size_t count = take_piece(daily, piece, &day);
        int result;

        pthread_mutex_unlock(&daily->mutex);
        result = daily_files_append(&daily->files, day, buf_str(piece));
        pthread_mutex_lock(&daily->mutex);
        if (result == 0) {
            daily->written_count += count;
        } else {
            daily->lost_count += count;
            daily->last_errno = -result;
        }
        daily->done_count += count;
    }
    daily->is_urgent = false;
    pthread_cond_broadcast(&daily->written);
}

/* With the mutex held, which it lets go. */
static void clean(struct daily *daily)
{
    daily->files.settings = daily->settings;
    daily->has_new_settings = false;
    pthread_mutex_unlock(&daily->mutex);
    daily_files_clean(&daily->files, clock_real_ms());
    pthread_mutex_lock(&daily->mutex);
}

static void *daily_thread(void *context)
{
    struct daily *daily = context;
    struct buf piece;

    buf_init(&piece, PIECE_BYTES + DAILY_LINE_BYTES_MAX);
    pthread_mutex_lock(&daily->mutex);
    clean(daily);
    while (!daily->is_stopping || daily->used > 0) {
        bool has_lines = wait_for_lines(daily);

        if (daily->has_new_settings || (!has_lines && !daily->is_stopping))
            clean(daily);
        write_lines(daily, &piece);
        complain(daily);
    }
    complain(daily);
    daily->has_finished = true;
    pthread_cond_broadcast(&daily->written);
    pthread_mutex_unlock(&daily->mutex);
    daily_files_close(&daily->files);
    buf_release(&piece);
    return NULL;
}

void daily_flush(struct daily *daily, unsigned timeout_ms)
{
    struct timespec until = after_ms(timeout_ms);
    uint64_t wanted;
    int result = 0;

    pthread_mutex_lock(&daily->mutex);
    wanted = daily->put_count;
    while (daily->is_running && daily->done_count < wanted && result == 0) {
        daily->is_urgent = true;
        pthread_cond_signal(&daily->wake);
        result = pthread_cond_timedwait(&daily->written, &daily->mutex, &until);
    }
    pthread_mutex_unlock(&daily->mutex);
}

/* ---- life ---- */

struct daily *daily_create(const struct daily_options *options)
{
    struct daily *daily = mem_alloc(sizeof(*daily));
    pthread_condattr_t attributes;

    daily->files = (struct daily_files){.vfs = options->vfs,
                                        .directory = mem_copy_str(str_from_cstr(options->directory)),
                                        .what = options->what,
                                        .names = options->names,
                                        .head = options->head};
    pthread_mutex_init(&daily->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&daily->wake, &attributes);
    pthread_cond_init(&daily->written, &attributes);
    pthread_condattr_destroy(&attributes);
    return daily;
}

/* With the mutex held. The thread takes no signal: those are the main thread's. */
static int start_thread(struct daily *daily, struct error *error)
{
    sigset_t all, before;
    int result;

    if (!daily->ring)
        daily->ring = mem_alloc(DAILY_RING_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    result = pthread_create(&daily->thread, NULL, daily_thread, daily);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    daily->is_running = result == 0;
    return result == 0 ? 0 : error_set_errno(error, result, "starting the thread of %s", daily->files.what);
}

int daily_enable(struct daily *daily, const struct daily_settings *settings, struct error *error)
{
    int result = vfs_make_directories(daily->files.vfs, daily->files.directory);

    if (result < 0)
        return error_set_errno(error, -result, "making %s", daily->files.directory);
    pthread_mutex_lock(&daily->mutex);
    daily->settings = *settings;
    if (daily->settings.bytes_max > 0 && daily->settings.bytes_max < DAILY_BYTES_MIN)
        daily->settings.bytes_max = DAILY_BYTES_MIN;
    daily->has_new_settings = true;
    result = 0;
    if (daily->is_running)
        pthread_cond_signal(&daily->wake);
    else
        result = start_thread(daily, error);
    pthread_mutex_unlock(&daily->mutex);
    return result;
}

void daily_destroy(struct daily **pointer)
{
    struct daily *daily = *pointer;
    struct timespec until = after_ms(STOP_MS_MAX);
    int result = 0;

    *pointer = NULL;
    if (!daily)
        return;
    pthread_mutex_lock(&daily->mutex);
    daily->is_stopping = true;
    pthread_cond_signal(&daily->wake);
    while (daily->is_running && !daily->has_finished && result == 0)
        result = pthread_cond_timedwait(&daily->written, &daily->mutex, &until);
    pthread_mutex_unlock(&daily->mutex);
    if (daily->is_running && !daily->has_finished) {
        /* Stuck in a write; it goes with the process, and keeps what it uses. */
        pthread_detach(daily->thread);
        return;
    }
    if (daily->is_running)
        pthread_join(daily->thread, NULL);
    pthread_cond_destroy(&daily->wake);
    pthread_cond_destroy(&daily->written);
    pthread_mutex_destroy(&daily->mutex);
    free(daily->files.directory);
    free(daily->ring);
    free(daily);
}

uint64_t daily_lost(struct daily *daily)
{
    uint64_t count;

    pthread_mutex_lock(&daily->mutex);
    count = daily->lost_count;
    pthread_mutex_unlock(&daily->mutex);
    return count;
}

uint64_t daily_written(struct daily *daily)
{
    uint64_t count;

    pthread_mutex_lock(&daily->mutex);
    count = daily->written_count;
    pthread_mutex_unlock(&daily->mutex);
    return count;
}
