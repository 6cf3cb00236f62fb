/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The postmaster's orders on a real spool, in a process that is killed the moment that they are confirmed: what was confirmed holds. Mail that a
 * postmaster has seen deleted and that is delivered after all is worse than mail that could not be deleted.
 */
#include "base/mem.h"
#include "loop/fiber.h"
#include "os/clock.h"
#include "queue/control.h"

#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MESSAGES   40
#define DEADLINE_S 30

/* A queue on a spool, on loops of its own. No message finds a route: all wait. */
struct node {
    struct loop *owner, *loop;
    struct worker_pool *pool;
    struct spool *spool;
    struct queue *queue;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t recovered, deferred, reports, is_done;
    char report_text[64];
    spool_id reported;

    /* The errand that a fiber is on. */
    struct loop_task task;
    struct queue_filter filter;
    struct queue_order order;
    struct queue_done done;
    bool is_order;
    size_t seen;
};

static void count(struct node *node, size_t *counter)
{
    pthread_mutex_lock(&node->lock);
    ++*counter;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
}

/* In the child, too, which has no test to fail: it ends. */
static void wait_for(struct node *node, const size_t *counter, size_t target)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += DEADLINE_S;
    pthread_mutex_lock(&node->lock);
    while (*counter < target) {
        if (pthread_cond_timedwait(&node->changed, &node->lock, &until) != 0)
            abort();
    }
    pthread_mutex_unlock(&node->lock);
}

static void hook_route(void *context, const struct envelope *envelope, size_t recipient,
                       enum queue_resolution resolution, struct queue_route *route)
{
    (void)context;
    (void)envelope;
    (void)recipient;
    (void)resolution;
    route->kind = QUEUE_ROUTE_DEFER;
    snprintf(route->status, sizeof(route->status), "4.4.3");
}

static void hook_start_worker(void *context, struct queue_worker *worker, const char *destination)
{
    (void)context;
    (void)worker;
    (void)destination;
    abort();
}

static void hook_report(void *context, struct queue_report *report)
{
    struct node *node = context;

    pthread_mutex_lock(&node->lock);
    snprintf(node->report_text, sizeof(node->report_text), "%.63s", report->failures[0].outcome->text);
    node->reported = report->id;
    pthread_mutex_unlock(&node->lock);
    count(node, &node->reports);
    queue_reported(report, false); /* so that it is for the next start to make */
}

static void hook_event(void *context, const struct queue_event *event)
{
    struct node *node = context;

    if (event->kind == QUEUE_EVENT_DEFERRED)
        count(node, &node->deferred);
}

static void recover_message(void *context, spool_id id, struct str envelope, uint64_t body_bytes)
{
    struct node *node = context;

    node->recovered++;
    queue_recover_message(node->queue, id, envelope, body_bytes);
}

static void recover_result(void *context, spool_id id, struct str payload)
{
    queue_recover_result(((struct node *)context)->queue, id, payload);
}

static struct node *node_open(const char *directory)
{
    struct node *node = mem_alloc(sizeof(*node));
    const struct queue_settings settings = {
        .retry_ms = {3600000}, .retry_count = 1, .expire_ms = 86400000, .report_gather_ms = 1, .memory_messages = 10};
    const struct queue_hooks hooks = {node, hook_route, hook_start_worker, hook_report, hook_event};
    const struct spool_options options = {
        .vfs = vfs_system(), .directory = directory, .badmail_directory = directory, .shard_count = 2};
    const struct spool_recovery recovery = {.context = node, .message = recover_message, .result = recover_result};

    pthread_mutex_init(&node->lock, NULL);
    pthread_cond_init(&node->changed, NULL);
    node->spool = spool_create(&options);
    if (loop_create(&node->owner, "owner", NULL) != 0 || loop_create(&node->loop, "loop", NULL) != 0 ||
        worker_pool_create(&node->pool, "disk", 1, NULL) != 0 ||
        queue_create(&node->queue, node->owner, node->spool, &settings, &hooks) != 0)
        abort();
    queue_set_resources(node->queue, node->pool, NULL);
    if (spool_open(node->spool, &recovery, NULL) != 0)
        abort();
    queue_recovery_done(node->queue);
    if (loop_start(node->owner, NULL) != 0 || loop_start(node->loop, NULL) != 0)
        abort();
    return node;
}

static void on_stopped(void *context)
{
    struct node *node = context;

    count(node, &node->is_done);
}

static void node_close(struct node *node)
{
    node->is_done = 0;
    queue_stop(node->queue, on_stopped, node);
    wait_for(node, &node->is_done, 1);
    spool_close(&node->spool);
    loop_stop(node->loop);
    loop_join(node->loop);
    loop_stop(node->owner);
    loop_join(node->owner);
    loop_destroy(&node->loop);
    loop_destroy(&node->owner);
    queue_destroy(&node->queue);
    worker_pool_destroy(&node->pool);
    free(node);
}

/* ---- messages ---- */

struct arriving {
    struct spool_write write;
    struct node *node;
    struct iovec body;
    struct buf envelope;
};

static void on_written(struct spool_write *write)
{
    struct arriving *arriving = LIST_ENTRY(write, struct arriving, write);

    queue_add(arriving->node->queue, write->id, buf_str(&arriving->envelope), arriving->body.iov_len);
    buf_release(&arriving->envelope);
    free(arriving);
}

static void add(struct node *node, const char *domain)
{
    static char body[] = "Subject: x\r\n\r\nx\r\n";
    struct envelope_recipient recipients[2] = {{.address = STR("bob@x"), .domain = str_from_cstr(domain)},
                                               {.address = STR("carol@x"), .domain = STR("other.test")}};
    const struct envelope envelope = {.arrived_at_ms = clock_real_ms(),
                                      .sender = STR("alice@contoso.test"),
                                      .recipients = recipients,
                                      .recipient_count = 2};
    struct arriving *arriving = mem_alloc(sizeof(*arriving));

    arriving->node = node;
    arriving->body = (struct iovec){body, sizeof(body) - 1};
    buf_init(&arriving->envelope, 4096);
    envelope_encode(&envelope, &arriving->envelope);
    arriving->write = (struct spool_write){
        .type = SPOOL_WRITE_MESSAGE,
        .envelope = buf_str(&arriving->envelope),
        .body = &arriving->body,
        .body_part_count = 1,
        .done = on_written,
        .id = spool_reserve_id(node->spool, 0),
    };
    spool_submit(node->spool, &arriving->write);
}

/* ---- the postmaster ---- */

static void run_errand(void *argument)
{
    struct node *node = argument;
    struct queue_cursor *cursor = queue_cursor_create(node->queue, &node->filter, 0);
    uint64_t deadline_ms = loop_now_ms() + DEADLINE_S * 1000;

    if (node->is_order) {
        queue_cursor_act(cursor, &node->order, &node->done, deadline_ms);
    } else {
        while (queue_cursor_next(cursor, deadline_ms) == WAIT_READY && queue_cursor_count(cursor) > 0)
            node->seen += queue_cursor_count(cursor);
    }
    queue_cursor_destroy(&cursor);
    count(node, &node->is_done);
}

static void start_errand(struct loop_task *task)
{
    if (fiber_start(run_errand, LIST_ENTRY(task, struct node, task)) != 0)
        abort();
}

static void send_on_errand(struct node *node, struct queue_filter filter)
{
    node->filter = filter;
    node->is_done = 0;
    node->task.run = start_errand;
    loop_post(node->loop, &node->task);
    wait_for(node, &node->is_done, 1);
}

static size_t find(struct node *node, struct queue_filter filter)
{
    node->is_order = false;
    node->seen = 0;
    send_on_errand(node, filter);
    return node->seen;
}

static struct queue_done order(struct node *node, enum queue_action action, const char *domain)
{
    node->is_order = true;
    node->done = (struct queue_done){0};
    node->order = (struct queue_order){action, STR("the test"), STR("so it was ordered")};
    send_on_errand(node, (struct queue_filter){.domain = str_from_cstr(domain)});
    return node->done;
}

/* ---- the tests ---- */

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

/* The process that is killed. It says when the orders are confirmed, and does nothing more. */
static void live(const char *directory, int told)
{
    static const char *const domains[] = {"held.test", "deleted.test", "bounced.test", "released.test"};
    struct node *node = node_open(directory);
    struct queue_done done[5];

    for (size_t i = 0; i < MESSAGES; i++)
        add(node, domains[i % 4]);
    wait_for(node, &node->deferred, 2 * MESSAGES);
    done[0] = order(node, QUEUE_ACTION_HOLD, "released.test");
    done[1] = order(node, QUEUE_ACTION_HOLD, "held.test");
    done[2] = order(node, QUEUE_ACTION_DELETE, "deleted.test");
    done[3] = order(node, QUEUE_ACTION_BOUNCE, "bounced.test");
    done[4] = order(node, QUEUE_ACTION_RELEASE, "released.test");
    if (write(told, done, sizeof(done)) != (ssize_t)sizeof(done))
        abort();
    pause();
}

static void test_what_is_confirmed_survives_a_kill(void **state)
{
    char directory[] = "/tmp/postern-restart-XXXXXX";
    struct queue_done done[5] = {{0}};
    struct node *node;
    int pipes[2];
    pid_t child;

    (void)state;
    assert_non_null(mkdtemp(directory));
    assert_int_equal(pipe(pipes), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        live(directory, pipes[1]);
        _exit(1);
    }
    close(pipes[1]);
    assert_int_equal(read(pipes[0], done, sizeof(done)), sizeof(done));
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(pipes[0]);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(done[i].messages, MESSAGES / 4);
        assert_int_equal(done[i].unwritten, 0);
    }
    node = node_open(directory);
    assert_int_equal(node->recovered, MESSAGES);
    /* Released messages, and the other recipients of those that were deleted from or bounced in part, wait again. */
    assert_int_equal(find(node, (struct queue_filter){.states = QUEUE_STATE_HELD}), MESSAGES / 4);
    assert_int_equal(find(node, (struct queue_filter){.domain = STR("held.test"), .states = QUEUE_STATE_HELD}),
                     MESSAGES / 4);
    assert_int_equal(find(node, (struct queue_filter){.domain = STR("deleted.test")}), 0);
    assert_int_equal(find(node, (struct queue_filter){.domain = STR("deleted.test"), .states = QUEUE_STATE_DELETED}),
                     MESSAGES / 4);
    assert_int_equal(find(node, (struct queue_filter){.domain = STR("released.test"), .states = QUEUE_STATE_WAITING}),
                     MESSAGES / 4);
    assert_int_equal(find(node, (struct queue_filter){.domain = STR("other.test"), .states = QUEUE_STATE_WAITING}),
                     MESSAGES / 4 * 3);
    assert_int_equal(find(node, (struct queue_filter){.domain = STR("bounced.test"), .states = QUEUE_STATE_FAILED}),
                     MESSAGES / 4);
    wait_for(node, &node->reports, MESSAGES / 4);
    assert_string_equal(node->report_text, "so it was ordered");
    node_close(node);
    assert_int_equal(nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_confirmed_survives_a_kill),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
