/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool: how many messages a second become durable, and what that costs. A thread stands for the loops: it keeps a number of
 * messages under way, and settles each as soon as it is durable, so that segments are recycled as in life.
 *
 *     spool [WINDOW [BODY-BYTES [SECONDS [SHARDS [DIRECTORY]]]]]
 *
 * Without DIRECTORY (which must not hold a spool that is of any use, and stays) the spool is made in /var/tmp and removed. The system's
 * share of the CPU time is mostly copying and syncing.
 */
#include "spool/spool.h"
#include "base/mem.h"

#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#define WINDOW_MAX 1024u

struct slot {
    struct spool_write message;
    struct spool_write settling;
    struct spool_result result;
    struct iovec body;
    struct list_link link;
    struct bench *bench;
};

struct bench {
    struct spool *spool;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    struct list_link ready; /* slots whose message is durable */
    struct list_link settled;
    size_t outstanding;
    uint64_t messages;
    uint64_t failed;
};

/* As a loop's mailbox: put aside here, noticed once a batch. */
static void message_done(struct spool_write *write)
{
    struct slot *slot = LIST_ENTRY(write, struct slot, message);

    pthread_mutex_lock(&slot->bench->mutex);
    if (write->status != SPOOL_DONE)
        slot->bench->failed++;
    list_append(&slot->bench->ready, &slot->link);
    pthread_mutex_unlock(&slot->bench->mutex);
}

static void settling_done(struct spool_write *write)
{
    struct slot *slot = LIST_ENTRY(write, struct slot, settling);

    pthread_mutex_lock(&slot->bench->mutex);
    slot->bench->outstanding--;
    list_append(&slot->bench->settled, &slot->link);
    pthread_mutex_unlock(&slot->bench->mutex);
}

static void batch_done(void *context)
{
    struct bench *bench = context;

    pthread_mutex_lock(&bench->mutex);
    pthread_cond_signal(&bench->cond);
    pthread_mutex_unlock(&bench->mutex);
}

static void submit_message(struct bench *bench, struct slot *slot)
{
    slot->message = (struct spool_write){
        .type = SPOOL_WRITE_MESSAGE,
        .envelope = STR("an envelope of the usual length, with a sender, a recipient and the rule that let it in; "
                        "about two hundred bytes is what a message with one recipient has, in the form that is stored"),
        .body = &slot->body,
        .body_part_count = 1,
        .done = message_done,
        .id = spool_reserve_id(bench->spool, 0),
    };
    spool_submit(bench->spool, &slot->message);
}

static void settle(struct bench *bench, struct slot *slot)
{
    slot->result = (struct spool_result){.id = slot->message.id, .dead = true};
    slot->settling = (struct spool_write){
        .type = SPOOL_WRITE_RESULTS,
        .results = &slot->result,
        .result_count = 1,
        .done = settling_done,
    };
    spool_submit(bench->spool, &slot->settling);
}

/* A slot whose earlier life has ended completely. */
static struct slot *take_slot(struct bench *bench, const struct iovec *body)
{
    struct list_link *link = list_take_first(&bench->settled);
    struct slot *slot = link ? LIST_ENTRY(link, struct slot, link) : mem_alloc(sizeof(*slot));

    slot->bench = bench;
    slot->body = *body;
    list_init(&slot->link);
    bench->outstanding++;
    return slot;
}

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

/* Each durable message is settled, and another takes its place. */
static void drive(struct bench *bench, size_t window, const struct iovec *body, uint64_t end_us)
{
    struct list_link batch;

    list_init(&batch);
    for (size_t i = 0; i < window; i++) {
        struct slot *slot;

        pthread_mutex_lock(&bench->mutex);
        slot = take_slot(bench, body);
        pthread_mutex_unlock(&bench->mutex);
        submit_message(bench, slot);
    }
    for (;;) {
        bool goes_on = now_us() < end_us;
        struct list_link *link;

        pthread_mutex_lock(&bench->mutex);
        while (list_is_empty(&bench->ready) && bench->outstanding > 0)
            pthread_cond_wait(&bench->cond, &bench->mutex);
        while ((link = list_take_first(&bench->ready)))
            list_append(&batch, link);
        pthread_mutex_unlock(&bench->mutex);
        if (list_is_empty(&batch))
            return;
        while ((link = list_take_first(&batch))) {
            struct slot *next = NULL;

            bench->messages++;
            if (goes_on) {
                pthread_mutex_lock(&bench->mutex);
                next = take_slot(bench, body);
                pthread_mutex_unlock(&bench->mutex);
            }
            settle(bench, LIST_ENTRY(link, struct slot, link));
            if (next)
                submit_message(bench, next);
        }
    }
}

static double cpu_us(const struct timeval *time)
{
    return (double)time->tv_sec * 1e6 + (double)time->tv_usec;
}

static void report(const struct bench *bench, uint64_t elapsed_us, const struct spool_statistics *before)
{
    struct spool_statistics after;
    struct rusage usage;
    double messages = (double)bench->messages;

    getrusage(RUSAGE_SELF, &usage);
    spool_get_statistics(bench->spool, &after);
    printf("messages/s %.0f\n", messages * 1e6 / (double)elapsed_us);
    printf("syncs/s %.0f\n", (double)(after.syncs - before->syncs) * 1e6 / (double)elapsed_us);
    printf("messages/sync %.1f\n", messages / (double)(after.syncs - before->syncs));
    printf("user us/message %.2f\n", cpu_us(&usage.ru_utime) / messages);
    printf("system us/message %.2f\n", cpu_us(&usage.ru_stime) / messages);
    printf("failed %llu\n", (unsigned long long)bench->failed);
    printf("segments %llu free %llu MiB %llu\n", (unsigned long long)after.segments,
           (unsigned long long)after.segments_free, (unsigned long long)(after.bytes_on_disk >> 20));
}

static uint64_t argument(int argc, char **argv, int place, uint64_t otherwise)
{
    uint64_t value;

    return argc > place && str_to_u64(str_from_cstr(argv[place]), &value) ? value : otherwise;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static int run(struct bench *bench, uint64_t window, uint64_t body_bytes, uint64_t seconds)
{
    const struct spool_recovery recovery = {0};
    struct spool_statistics before;
    struct list_link *link;
    struct iovec body = {mem_alloc(body_bytes), body_bytes};
    struct error error;
    uint64_t start_us;
    int result = spool_open(bench->spool, &recovery, &error);

    if (result < 0) {
        fprintf(stderr, "spool: %s\n", error.text);
        goto done;
    }
    spool_get_statistics(bench->spool, &before);
    start_us = now_us();
    drive(bench, window, &body, start_us + seconds * 1000000u);
    report(bench, now_us() - start_us, &before);
done:
    spool_close(&bench->spool);
    while ((link = list_take_first(&bench->settled)))
        free(LIST_ENTRY(link, struct slot, link));
    free(body.iov_base);
    return result < 0 || bench->failed > 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
    char own_directory[] = "/var/tmp/postern-bench-XXXXXX";
    uint64_t window = argument(argc, argv, 1, 20);
    uint64_t body_bytes = argument(argc, argv, 2, 4096);
    struct bench bench = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    const struct spool_options options = {
        .vfs = vfs_system(),
        .directory = argc > 5 ? argv[5] : own_directory,
        .badmail_directory = argc > 5 ? argv[5] : own_directory,
        .shard_count = (unsigned)argument(argc, argv, 4, 1),
        .batch_done = batch_done,
        .context = &bench,
    };
    int result;

    if (window == 0 || window > WINDOW_MAX || body_bytes > SPOOL_INLINE_BODY_BYTES) {
        fprintf(stderr, "spool: a window of 1 to %u, bodies up to %u bytes\n", WINDOW_MAX, SPOOL_INLINE_BODY_BYTES);
        return 2;
    }
    if (argc <= 5 && !mkdtemp(own_directory)) {
        perror(own_directory);
        return 1;
    }
    list_init(&bench.ready);
    list_init(&bench.settled);
    bench.spool = spool_create(&options);
    result = run(&bench, window, body_bytes, argument(argc, argv, 3, 5));
    if (argc <= 5 && nftw(own_directory, remove_one, 8, FTW_DEPTH | FTW_PHYS) != 0)
        perror(own_directory);
    return result;
}
