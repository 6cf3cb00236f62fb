/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A queue with a million messages on a real spool: what it costs in memory, how fast it restarts, how fast the postmaster sees something of
 * it, and whether mail for others goes as fast as with an empty one. There is no network: a delivery takes no time.
 *
 *     queue [MESSAGES] [MEMORY-MESSAGES] [DIRECTORY]
 *
 * The second half runs in a new process on the same spool, so that its memory is its own.
 */
#include "base/hash.h"
#include "base/mem.h"
#include "loop/fiber.h"
#include "os/clock.h"
#include "os/random.h"
#include "queue/control.h"

#include <ftw.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BODY_BYTES    512
#define WINDOW        2000
#define RATE_MESSAGES 40000
#define RATE_ROUNDS   5
#define RARE_EVERY    100000 /* so many for each that goes to the domain that is looked for */
#define RETRY_MS      (12u * 3600u * 1000u)
#define TAKE          16
#define WAIT_MS       600000

struct bench {
    struct loop *owner, *loop;
    struct worker_pool *pool;
    struct spool *spool;
    struct queue *queue;
    char directory[256], badmail[300];
    uint64_t memory_messages;

    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t submitted, deferred, delivered, recovered;
    bool is_done;
    double first_ms, all_s, worst_ms;
    uint64_t seen;
};

/* ---- around the queue ---- */

static void hook_route(void *context, const struct envelope *envelope, size_t recipient,
                       enum queue_resolution resolution, struct queue_route *route)
{
    (void)context;
    (void)resolution;
    if (str_equal(envelope->recipients[recipient].domain, STR("quick.test"))) {
        route->kind = QUEUE_ROUTE_DELIVER;
        snprintf(route->destination, sizeof(route->destination), "quick");
        route->concurrency = 20;
        return;
    }
    route->kind = QUEUE_ROUTE_DEFER;
    snprintf(route->status, sizeof(route->status), "4.4.1");
    snprintf(route->text, sizeof(route->text), "The connection was refused");
}

static void hook_event(void *context, const struct queue_event *event)
{
    struct bench *bench = context;

    pthread_mutex_lock(&bench->mutex);
    bench->delivered += event->kind == QUEUE_EVENT_DELIVERED;
    bench->deferred += event->kind == QUEUE_EVENT_DEFERRED;
    pthread_cond_signal(&bench->changed);
    pthread_mutex_unlock(&bench->mutex);
}

static void hook_report(void *context, struct queue_report *report)
{
    (void)context;
    queue_reported(report, true);
}

struct start {
    struct loop_task task;
    struct queue_worker *worker;
};

static void run_worker(void *argument)
{
    struct start *start = argument;
    struct queue_item *items[TAKE];
    size_t count;

    queue_worker_connected(start->worker);
    while ((count = queue_take(start->worker, items, TAKE, loop_now_ms() + 500)) > 0) {
        for (size_t i = 0; i < count; i++) {
            queue_item_outcome(items[i], 0)->kind = QUEUE_DELIVERED;
            queue_settle(items[i]);
        }
    }
    queue_worker_end(start->worker);
    free(start);
}

static void on_start(struct loop_task *task)
{
    if (fiber_start(run_worker, task) != 0)
        abort();
}

static void hook_start_worker(void *context, struct queue_worker *worker, const char *destination)
{
    struct start *start = mem_alloc(sizeof(*start));

    (void)destination;
    start->task.run = on_start;
    start->worker = worker;
    loop_post(((struct bench *)context)->loop, &start->task);
}

static void recover_message(void *context, spool_id id, struct str envelope, uint64_t body_bytes)
{
    struct bench *bench = context;

    bench->recovered++;
    queue_recover_message(bench->queue, id, envelope, body_bytes);
}

static void recover_result(void *context, spool_id id, struct str payload)
{
    queue_recover_result(((struct bench *)context)->queue, id, payload);
}

/* ---- measuring ---- */

static double read_clock_s(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double now_s(void)
{
    return read_clock_s(CLOCK_MONOTONIC);
}

/* Anonymous memory: the spool's files are not the queue's. */
static double resident_mib(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[128];
    unsigned long long kib = 0;

    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "RssAnon: %llu", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return (double)kib / 1024;
}

static void wait_until(struct bench *bench, const uint64_t *count, uint64_t target)
{
    pthread_mutex_lock(&bench->mutex);
    while (*count < target)
        pthread_cond_wait(&bench->changed, &bench->mutex);
    pthread_mutex_unlock(&bench->mutex);
}

/* ---- messages ---- */

struct arriving {
    struct spool_write write;
    struct bench *bench;
    struct iovec body;
    struct buf envelope;
};

static void on_written(struct spool_write *write)
{
    struct arriving *arriving = LIST_ENTRY(write, struct arriving, write);

    if (write->status != SPOOL_DONE)
        abort();
    queue_add(arriving->bench->queue, write->id, buf_str(&arriving->envelope), BODY_BYTES);
    buf_release(&arriving->envelope);
    free(arriving);
}

static void encode(struct buf *data, uint64_t number, const char *domain)
{
    char address[128], message_id[96];
    struct envelope_recipient recipient = {.domain = str_from_cstr(domain)};
    struct envelope envelope = {
        .arrived_at_ms = clock_real_ms(),
        .flags = ENVELOPE_8BITMIME,
        .sender = STR("alice.example@contoso.test"),
        .sender_domain = STR("contoso.test"),
        .client = STR("192.0.2.100"),
        .helo = STR("workstation17.contoso.test"),
        .server = STR("internet"),
        .rule = STR("servers.internet.relay.only[0]"),
        .rule_at = STR("postern.yaml:31"),
        .recipients = &recipient,
        .recipient_count = 1,
    };

    snprintf(address, sizeof(address), "recipient%" PRIu64 "@%s", number, domain);
    snprintf(message_id, sizeof(message_id), "<20261121100000.%" PRIu64 "@mail.contoso.test>", number);
    recipient.address = str_from_cstr(address);
    envelope.message_id = str_from_cstr(message_id);
    buf_init(data, 4096);
    if (!envelope_encode(&envelope, data))
        abort();
}

static void submit(struct bench *bench, const char *domain)
{
    static char body[BODY_BYTES];
    struct arriving *arriving = mem_alloc(sizeof(*arriving));

    arriving->bench = bench;
    arriving->body = (struct iovec){body, sizeof(body)};
    encode(&arriving->envelope, bench->submitted++, domain);
    arriving->write = (struct spool_write){
        .type = SPOOL_WRITE_MESSAGE,
        .envelope = buf_str(&arriving->envelope),
        .body = &arriving->body,
        .body_part_count = 1,
        .done = on_written,
        .id = spool_reserve_id(bench->spool, 0),
    };
    spool_submit(bench->spool, &arriving->write);
}

static void fill(struct bench *bench, uint64_t count)
{
    uint64_t before = bench->deferred;
    double begin = now_s();
    char domain[64];

    for (uint64_t i = 0; i < count; i++) {
        if (i % RARE_EVERY == RARE_EVERY / 2)
            snprintf(domain, sizeof(domain), "x.test");
        else
            snprintf(domain, sizeof(domain), "mail%" PRIu64 ".example.net", i % 5000);
        if (i >= WINDOW)
            wait_until(bench, &bench->deferred, before + i - WINDOW);
        submit(bench, domain);
    }
    wait_until(bench, &bench->deferred, before + count);
    printf("%-44s %8.0f messages/s\n", "accepted, routed, deferred", (double)count / (now_s() - begin));
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return left < right ? -1 : left > right;
}

/* Of the whole process, for one message: other programs' work does not show in the second. */
struct rate {
    double messages_per_s, cpu_us;
};

/* Mail for somebody else, from the spool to its delivery. */
static struct rate deliver(struct bench *bench)
{
    double rates[RATE_ROUNDS];
    double cpu_begin = read_clock_s(CLOCK_PROCESS_CPUTIME_ID);

    for (int round = 0; round < RATE_ROUNDS; round++) {
        uint64_t before = bench->delivered;
        double begin = now_s();

        for (uint64_t i = 0; i < RATE_MESSAGES; i++) {
            if (i >= WINDOW)
                wait_until(bench, &bench->delivered, before + i - WINDOW);
            submit(bench, "quick.test");
        }
        wait_until(bench, &bench->delivered, before + RATE_MESSAGES);
        rates[round] = RATE_MESSAGES / (now_s() - begin);
    }
    qsort(rates, RATE_ROUNDS, sizeof(rates[0]), compare);
    return (struct rate){
        rates[RATE_ROUNDS / 2],
        (read_clock_s(CLOCK_PROCESS_CPUTIME_ID) - cpu_begin) * 1e6 / (RATE_ROUNDS * RATE_MESSAGES),
    };
}

static void print_rate(const char *what, struct rate rate)
{
    printf("%-44s %8.0f messages/s, %.2f us CPU each\n", what, rate.messages_per_s, rate.cpu_us);
}

/* ---- the postmaster ---- */

struct errand {
    struct loop_task task;
    struct bench *bench;
    struct queue_filter filter;
};

static void run_list(void *argument)
{
    struct errand *errand = argument;
    struct bench *bench = errand->bench;
    struct queue_cursor *cursor = queue_cursor_create(bench->queue, &errand->filter, 0);
    double begin = now_s(), last = begin;

    bench->seen = 0;
    bench->first_ms = 0;
    while (queue_cursor_next(cursor, loop_now_ms() + WAIT_MS) == WAIT_READY && queue_cursor_count(cursor) > 0) {
        if (bench->seen == 0)
            bench->first_ms = (now_s() - begin) * 1e3;
        bench->seen += queue_cursor_count(cursor);
        if ((now_s() - last) * 1e3 > bench->worst_ms)
            bench->worst_ms = (now_s() - last) * 1e3;
        last = now_s();
    }
    bench->all_s = now_s() - begin;
    queue_cursor_destroy(&cursor);
    pthread_mutex_lock(&bench->mutex);
    bench->is_done = true;
    pthread_cond_signal(&bench->changed);
    pthread_mutex_unlock(&bench->mutex);
}

static void on_errand(struct loop_task *task)
{
    if (fiber_start(run_list, task) != 0)
        abort();
}

static void list(struct bench *bench, const char *what, struct queue_filter filter)
{
    struct errand errand = {.task.run = on_errand, .bench = bench, .filter = filter};

    bench->is_done = false;
    loop_post(bench->loop, &errand.task);
    pthread_mutex_lock(&bench->mutex);
    while (!bench->is_done)
        pthread_cond_wait(&bench->changed, &bench->mutex);
    pthread_mutex_unlock(&bench->mutex);
    printf("%-44s %8.1f ms to the first, %.2f s for all %" PRIu64 "\n", what, bench->first_ms, bench->all_s,
           bench->seen);
}

static void list_all(struct bench *bench)
{
    list(bench, "queue list --domain (few)", (struct queue_filter){.domain = STR("x.test")});
    list(bench, "queue list --domain (a host's)", (struct queue_filter){.domain = STR("mail77.example.net")});
    list(bench, "queue list --domain @ (nearly all)", (struct queue_filter){.domain = STR("@example.net")});
    list(bench, "queue list --recipient (a pattern, one)",
         (struct queue_filter){.recipient = STR("recipient*99999@x*")});
    list(bench, "queue list --state held (none)", (struct queue_filter){.states = QUEUE_STATE_HELD});
}

/* ---- life ---- */

static void create(struct bench *bench)
{
    const struct queue_settings settings = {.retry_ms = {RETRY_MS},
                                            .retry_count = 1,
                                            .expire_ms = 4ull * RETRY_MS,
                                            .report_gather_ms = 5000,
                                            .memory_messages = bench->memory_messages};
    const struct queue_hooks hooks = {bench, hook_route, hook_start_worker, hook_report, hook_event};
    const struct spool_options options = {
        .vfs = vfs_system(), .directory = bench->directory, .badmail_directory = bench->badmail, .shard_count = 1};

    snprintf(bench->badmail, sizeof(bench->badmail), "%s/badmail", bench->directory);
    bench->spool = spool_create(&options);
    if (loop_create(&bench->owner, "owner", NULL) != 0 || loop_create(&bench->loop, "loop", NULL) != 0 ||
        worker_pool_create(&bench->pool, "disk", 2, NULL) != 0 ||
        queue_create(&bench->queue, bench->owner, bench->spool, &settings, &hooks) != 0)
        abort();
    queue_set_resources(bench->queue, bench->pool, NULL);
}

static void start(struct bench *bench)
{
    const struct spool_recovery recovery = {.context = bench, .message = recover_message, .result = recover_result};
    struct error error;

    if (spool_open(bench->spool, &recovery, &error) != 0) {
        fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
    queue_recovery_done(bench->queue);
    if (loop_start(bench->owner, NULL) != 0 || loop_start(bench->loop, NULL) != 0)
        abort();
}

static void on_stopped(void *context)
{
    struct bench *bench = context;

    pthread_mutex_lock(&bench->mutex);
    bench->is_done = true;
    pthread_cond_signal(&bench->changed);
    pthread_mutex_unlock(&bench->mutex);
}

static void stop(struct bench *bench)
{
    bench->is_done = false;
    queue_stop(bench->queue, on_stopped, bench);
    pthread_mutex_lock(&bench->mutex);
    while (!bench->is_done)
        pthread_cond_wait(&bench->changed, &bench->mutex);
    pthread_mutex_unlock(&bench->mutex);
    spool_close(&bench->spool);
    loop_stop(bench->owner);
    loop_join(bench->owner);
    loop_stop(bench->loop);
    loop_join(bench->loop);
    loop_destroy(&bench->owner);
    loop_destroy(&bench->loop);
    queue_destroy(&bench->queue);
    worker_pool_destroy(&bench->pool);
}

static void print_statistics(const struct bench *bench)
{
    struct queue_statistics statistics;

    queue_get_statistics(bench->queue, &statistics);
    printf("%-44s %8" PRIu64 " messages, %" PRIu64 " envelopes in memory\n", "", statistics.messages,
           statistics.envelopes_in_memory);
}

static void run_full(struct bench *bench, uint64_t count)
{
    struct rate empty_rate, full_rate;
    double empty_mib;

    create(bench);
    start(bench);
    empty_rate = deliver(bench);
    empty_mib = resident_mib();
    fill(bench, count);
    printf("%-44s %8.0f MiB more\n", "resident, queue full", resident_mib() - empty_mib);
    print_statistics(bench);
    full_rate = deliver(bench);
    print_rate("delivered, queue empty", empty_rate);
    print_rate("delivered, queue full", full_rate);
    list_all(bench);
    stop(bench);
}

static void run_restart(struct bench *bench)
{
    double begin = now_s(), before_mib = resident_mib();

    create(bench);
    start(bench);
    printf("%-44s %8.2f s for %" PRIu64 " messages\n", "restart to ready", now_s() - begin, bench->recovered);
    list(bench, "queue list --domain (few), at once", (struct queue_filter){.domain = STR("x.test")});
    printf("%-44s %8.0f MiB more\n", "resident, after the restart", resident_mib() - before_mib);
    print_statistics(bench);
    print_rate("delivered, after the restart", deliver(bench));
    stop(bench);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

/* Each half in a process of its own. */
static int run_child(struct bench *bench, uint64_t count)
{
    pid_t child;
    int status;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        if (count > 0)
            run_full(bench, count);
        else
            run_restart(bench);
        fflush(stdout);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return 1;
    return WEXITSTATUS(status);
}

static uint64_t argument(int argc, char **argv, int place, uint64_t otherwise)
{
    uint64_t value;

    return argc > place && str_to_u64(str_from_cstr(argv[place]), &value) ? value : otherwise;
}

int main(int argc, char **argv)
{
    struct bench bench = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    uint64_t count = argument(argc, argv, 1, 1000000);
    int result;

    bench.memory_messages = argument(argc, argv, 2, 500000);
    snprintf(bench.directory, sizeof(bench.directory), "%s/postern-bench-XXXXXX", argc > 3 ? argv[3] : "/var/tmp");
    if (!mkdtemp(bench.directory)) {
        perror(bench.directory);
        return 1;
    }
    result = run_child(&bench, count);
    if (result == 0)
        result = run_child(&bench, 0);
    if (nftw(bench.directory, remove_one, 8, FTW_DEPTH | FTW_PHYS) != 0)
        perror(bench.directory);
    return result;
}
