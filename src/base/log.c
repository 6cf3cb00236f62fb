/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring is guarded by one mutex, held for copying a line and never across a system call. The writing thread takes a
 * contiguous piece, writes it unlocked (nobody else touches bytes between head and head + used) and gives the room
 * back.
 *
 * Wake-ups: producers signal only when the ring becomes non-empty, and for the first warning or error in it. Once woken
 * the thread lets lines gather for a moment, a warning or error ends that moment; but a flood of them may not turn each
 * line into a wake-up and a system call, so two such urgent writes are also that moment apart.
 */
#include "base/log.h"

#include "base/log_private.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define GATHER_MS        20
#define POLL_MS          100
#define STOP_MS_MAX      5000 /* a reader that has stopped reading must not keep the process from ending */
#define REPORT_BYTES_MAX 256
/* Of the ring, for warnings and errors: a flood of ordinary lines, which strangers can cause, must not hide those. */
#define RESERVED_BYTES    (LOG_RING_BYTES / 4)
#define NANOSECONDS_PER_S 1000000000L

struct logger {
    pthread_mutex_t mutex;
    pthread_cond_t wake;     /* for the thread: there is something to do */
    pthread_cond_t finished; /* for log_stop */
    pthread_t thread;
    bool has_conditions;
    bool is_running; /* the ring is in use */
    bool is_stopping;
    bool has_finished;
    bool is_urgent;
    int fd;
    size_t head; /* the oldest byte */
    size_t used;
    uint64_t dropped_lines;
};

static struct logger logger = {.mutex = PTHREAD_MUTEX_INITIALIZER, .fd = STDERR_FILENO};
static char ring[LOG_RING_BYTES];
static _Atomic int current_level = LOG_LEVEL_INFO;
static _Atomic int current_format = LOG_FORMAT_TEXT;

bool log_is_enabled(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&current_level, memory_order_relaxed);
}

void log_configure(enum log_format format, enum log_level level)
{
    atomic_store_explicit(&current_format, (int)format, memory_order_relaxed);
    atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

static struct timespec monotonic_after_ms(long ms)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += ms / 1000;
    at.tv_nsec += ms % 1000 * 1000000;
    if (at.tv_nsec >= NANOSECONDS_PER_S) {
        at.tv_sec++;
        at.tv_nsec -= NANOSECONDS_PER_S;
    }
    return at;
}

static void ring_put(const char *data, size_t length)
{
    size_t tail = (logger.head + logger.used) % LOG_RING_BYTES;
    size_t first = length < LOG_RING_BYTES - tail ? length : LOG_RING_BYTES - tail;

    memcpy(ring + tail, data, first);
    memcpy(ring, data + first, length - first);
    logger.used += length;
}

static size_t count_lines(const char *data, size_t length)
{
    size_t lines = 0;

    for (const char *at = data; (at = memchr(at, '\n', length - (size_t)(at - data))) != NULL; at++)
        lines++;
    return lines;
}

static size_t format_dropped_report(char *line)
{
    const struct log_field field = log_u64("lines", logger.dropped_lines);
    const int format = atomic_load_explicit(&current_format, memory_order_relaxed);

    return log_line_format(line, REPORT_BYTES_MAX, (enum log_format)format, LOG_LEVEL_WARNING, "log-dropped", &field,
                           1);
}

/* With the mutex held. Whether the line, and before it the report of lines lost, went into the ring. */
static bool put_line(const char *line, size_t length, bool is_urgent)
{
    char report[REPORT_BYTES_MAX];
    size_t room = LOG_RING_BYTES - logger.used;
    size_t needed = length + (logger.dropped_lines > 0 ? REPORT_BYTES_MAX : 0) + (is_urgent ? 0 : RESERVED_BYTES);

    if (room < needed) {
        logger.dropped_lines++;
        return false;
    }
    if (logger.dropped_lines > 0)
        ring_put(report, format_dropped_report(report));
    logger.dropped_lines = 0;
    ring_put(line, length);
    return true;
}

/* Writes all that the descriptor takes now. Returns bytes written, or -1 when it is broken. */
static ssize_t write_some(int fd, const char *data, size_t length)
{
    ssize_t count = write(fd, data, length);

    if (count >= 0)
        return count;
    return errno == EINTR || errno == EAGAIN ? 0 : -1;
}

/* Without the thread: waits a little for a full pipe, then gives up. Lines are short enough that a pipe takes them
 * whole. */
static void write_directly(const char *line, size_t length)
{
    while (length > 0) {
        struct pollfd writable = {.fd = logger.fd, .events = POLLOUT};
        ssize_t count = write_some(logger.fd, line, length);

        if (count < 0 || (count == 0 && poll(&writable, 1, POLL_MS) == 0))
            return;
        line += count;
        length -= (size_t)count;
    }
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t field_count)
{
    /* Not on the stack: fibers have little of it. No fiber switch happens in here, so one for each thread is enough. */
    static _Thread_local char line[LOG_LINE_BYTES_MAX];
    const int format = atomic_load_explicit(&current_format, memory_order_relaxed);
    size_t length;
    bool was_empty;

    if (!log_is_enabled(level))
        return;
    length = log_line_format(line, sizeof(line), (enum log_format)format, level, event, fields, field_count);
    pthread_mutex_lock(&logger.mutex);
    if (!logger.is_running) {
        pthread_mutex_unlock(&logger.mutex);
        write_directly(line, length);
        return;
    }
    was_empty = logger.used == 0;
    if (put_line(line, length, level >= LOG_LEVEL_WARNING)) {
        const bool becomes_urgent = level >= LOG_LEVEL_WARNING && !logger.is_urgent;

        logger.is_urgent |= becomes_urgent;
        if (was_empty || becomes_urgent)
            pthread_cond_signal(&logger.wake);
    }
    pthread_mutex_unlock(&logger.mutex);
}

/* With the mutex held. Waits until there is something to write (true) or the end has come. `urgent_from` paces urgent
 * writes. */
static bool wait_for_lines(struct timespec *urgent_from)
{
    struct timespec until;
    int result = 0;

    while (logger.used == 0 && !logger.is_stopping)
        pthread_cond_wait(&logger.wake, &logger.mutex);
    until = monotonic_after_ms(GATHER_MS);
    while (!logger.is_stopping && !logger.is_urgent && result == 0)
        result = pthread_cond_timedwait(&logger.wake, &logger.mutex, &until);
    if (logger.is_urgent) {
        result = 0;
        while (!logger.is_stopping && result == 0)
            result = pthread_cond_timedwait(&logger.wake, &logger.mutex, urgent_from);
        *urgent_from = monotonic_after_ms(GATHER_MS);
    }
    logger.is_urgent = false;
    return logger.used > 0;
}

/*
 * With the mutex held, which it lets go while it writes. Waits for a descriptor that is full. Returns how many bytes
 * left the ring; the difference in `used` would not tell, as others add to it meanwhile.
 */
static size_t write_piece(void)
{
    const char *piece = ring + logger.head;
    size_t length = logger.used < LOG_RING_BYTES - logger.head ? logger.used : LOG_RING_BYTES - logger.head;
    struct pollfd writable = {.fd = logger.fd, .events = POLLOUT};
    ssize_t count;

    pthread_mutex_unlock(&logger.mutex);
    count = write_some(logger.fd, piece, length);
    if (count == 0)
        poll(&writable, 1, POLL_MS);
    pthread_mutex_lock(&logger.mutex);
    if (count < 0) {
        logger.dropped_lines += count_lines(piece, length);
        count = (ssize_t)length;
    }
    logger.used -= (size_t)count;
    /* Back to the start when empty, so that an idle log keeps a few pages in memory and not the whole ring. */
    logger.head = logger.used == 0 ? 0 : (logger.head + (size_t)count) % LOG_RING_BYTES;
    return (size_t)count;
}

static void *log_thread(void *context)
{
    struct timespec urgent_from = monotonic_after_ms(0);

    (void)context;
    pthread_mutex_lock(&logger.mutex);
    while (wait_for_lines(&urgent_from) || !logger.is_stopping) {
        /* Only what stood there at the start: what comes meanwhile gathers for the next round. */
        size_t left = logger.used;

        while (left > 0) {
            size_t written = write_piece();

            left -= written < left ? written : left;
        }
    }
    logger.has_finished = true;
    pthread_cond_signal(&logger.finished);
    pthread_mutex_unlock(&logger.mutex);
    return NULL;
}

/* Against the monotonic clock, so that setting the time does not hold lines back. */
static void init_conditions(void)
{
    pthread_condattr_t attributes;

    if (logger.has_conditions)
        return;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&logger.wake, &attributes);
    pthread_cond_init(&logger.finished, &attributes);
    pthread_condattr_destroy(&attributes);
    logger.has_conditions = true;
}

void log_use(int fd, enum log_format format, enum log_level level)
{
    log_configure(format, level);
    pthread_mutex_lock(&logger.mutex);
    assert(!logger.is_running);
    logger.fd = fd;
    pthread_mutex_unlock(&logger.mutex);
}

void log_start(int fd, enum log_format format, enum log_level level)
{
    sigset_t all;
    sigset_t before;

    log_configure(format, level);
    pthread_mutex_lock(&logger.mutex);
    assert(!logger.is_running);
    init_conditions();
    logger.fd = fd;
    logger.is_stopping = false;
    logger.has_finished = false;
    /* The thread takes no signal: not the process's, and no SIGPIPE from a reader that went away. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    logger.is_running = pthread_create(&logger.thread, NULL, log_thread, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_mutex_unlock(&logger.mutex);
}

void log_stop(void)
{
    struct timespec deadline = monotonic_after_ms(STOP_MS_MAX);
    char report[REPORT_BYTES_MAX];
    int result = 0;

    pthread_mutex_lock(&logger.mutex);
    if (!logger.is_running) {
        pthread_mutex_unlock(&logger.mutex);
        return;
    }
    logger.is_stopping = true;
    pthread_cond_signal(&logger.wake);
    while (!logger.has_finished && result == 0)
        result = pthread_cond_timedwait(&logger.finished, &logger.mutex, &deadline);
    if (!logger.has_finished) {
        /* Stuck in a write that nobody reads. It goes with the process; what waits in the ring is lost, later lines
         * too. */
        pthread_detach(logger.thread);
        pthread_mutex_unlock(&logger.mutex);
        return;
    }
    logger.is_running = false;
    if (logger.dropped_lines > 0)
        write_directly(report, format_dropped_report(report));
    logger.dropped_lines = 0;
    pthread_mutex_unlock(&logger.mutex);
    pthread_join(logger.thread, NULL);
}
