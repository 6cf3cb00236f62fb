/* SPDX-License-Identifier: Apache-2.0 */
/* Many messages at once, with everything happening in any order: each is settled exactly once. And what a waiting message costs. */
#include "fixture.h"

#include "os/random.h"

#include <malloc.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STRESS_MESSAGES 1800
#define IS_SANITIZED    1
#else
#define STRESS_MESSAGES 9000
#define IS_SANITIZED    0
#endif

/* Fibers give up waiting after no time at all, so that the owner hands over to workers that are just withdrawing; connections break at random. */
static void chaos_fiber(void *argument)
{
    struct fixture_start *start = argument;
    struct fixture *fixture = start->fixture;
    struct queue_item *items[FIXTURE_TAKE];
    size_t count;

    for (int round = 0; round < 200; round++) {
        if (random_below(20) == 0)
            fiber_cancel(fiber_current());
        count = queue_take(start->worker, items, 1 + random_below(FIXTURE_TAKE), loop_now_ms() + random_below(2));
        fiber_clear_cancel();
        if (count == 0 && random_below(3) == 0)
            break;
        if (random_below(50) == 0) {
            fixture_refuse(fixture, start->worker, items, count);
            break;
        }
        queue_worker_connected(start->worker);
        for (size_t i = 0; i < count; i++) {
            if (random_below(10) == 0)
                queue_give_back(items[i]);
            else
                fixture_settle(fixture, items[i], false);
        }
    }
    queue_worker_end(start->worker);
    free(start);
}

static void on_chaos_start(struct loop_task *task)
{
    if (fiber_start(chaos_fiber, task) != 0)
        abort();
}

static void start_chaos_worker(void *context, struct queue_worker *worker, const char *destination)
{
    struct fixture *fixture = context;
    struct fixture_start *start = mem_alloc(sizeof(*start));

    (void)destination;
    start->task.run = on_chaos_start;
    start->fixture = fixture;
    start->worker = worker;
    loop_post(fixture->loops[fixture->next_loop++ % 2], &start->task);
}

static void test_everything_at_once(void **state)
{
    static const char *const recipients[] = {
        "ok@a",           "ok@b",      "ok@a ok@b ok@c", "fail@a",         "fail@a ok@b fail@c",
        "ok@d x@nowhere", "x@nowhere", "ok@down",        "fail@down ok@a",
    };
    struct fixture *fixture = fixture_create();
    struct queue_statistics statistics;

    (void)state;
    fixture->is_quiet = true;
    fixture->settings.retry_ms[0] = 3;
    fixture->settings.report_gather_ms = 2;
    fixture->queue->delays = (struct queue_delays){3, 3, 3, 3};
    fixture->queue->hooks.start_worker = start_chaos_worker;
    fixture->spool_failures = 50;
    fixture->spool_failure = SPOOL_FULL;
    fixture->report_failures = 50;
    fixture_start(fixture);
    for (unsigned i = 0; i < STRESS_MESSAGES; i++)
        fixture_add(fixture, recipients[i % (sizeof(recipients) / sizeof(recipients[0]))]);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    /* The last reports are with the spool a moment before the queue learns of it. */
    fixture_ask_stop(fixture);
    assert_true(fixture_wait(fixture, fixture_is_stopped));
    assert_int_equal(fixture->dead_count, STRESS_MESSAGES);
    queue_get_statistics(fixture->queue, &statistics);
    assert_int_equal(statistics.messages, 0);
    assert_int_equal(statistics.recipients_ready + statistics.recipients_taken + statistics.recipients_waiting, 0);
    /* In each nine of these messages nine recipients exist, and six don't or have no route. */
    assert_int_equal(statistics.delivered, STRESS_MESSAGES / 9 * 9);
    assert_int_equal(statistics.failed, STRESS_MESSAGES / 9 * 6);
    fixture_destroy(fixture);
}

#if !IS_SANITIZED /* a sanitizer's allocator does not count like this */

static bool all_waiting(struct fixture *fixture)
{
    return fixture->record_count >= fixture->last_id;
}

static struct buf typical_envelope(void)
{
    struct envelope_recipient recipient = {.address = STR("somebody.or.other@example.net"), .domain = STR("later")};
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
        .message_id = STR("<20261121100000.123456@mail.contoso.test>"),
        .recipients = &recipient,
        .recipient_count = 1,
    };
    struct buf data;

    buf_init(&data, 4096);
    assert_true(envelope_encode(&envelope, &data));
    return data;
}

/* A million messages may wait for a dead smart host: 400 bytes each, all told. */
static void test_memory_of_a_waiting_message(void **state)
{
    enum { COUNT = 100000, BYTES_MAX = 400 };
    struct fixture *fixture;
    struct mallinfo2 before, after;
    struct buf data;
    size_t bytes;

    (void)state;
    data = typical_envelope();
    fixture = fixture_create();
    fixture->is_quiet = true;
    fixture->settings.retry_ms[0] = 3600000;
    fixture_start(fixture);
    before = mallinfo2();
    for (int i = 0; i < COUNT; i++)
        queue_add(fixture->queue, ++fixture->last_id << 8, buf_str(&data), 4096);
    assert_true(fixture_wait(fixture, all_waiting));
    /* No write is under way then, nor its memory in use. */
    fixture_ask_stop(fixture);
    assert_true(fixture_wait(fixture, fixture_is_stopped));
    after = mallinfo2();
    bytes = (after.uordblks + after.hblkhd - before.uordblks - before.hblkhd) / COUNT;
    print_message("# %zu bytes a message, of these envelope %zu, message and item %zu\n", bytes, data.length,
                  sizeof(struct message) + sizeof(struct recipient));
    assert_true(bytes <= BYTES_MAX);
    buf_release(&data);
    fixture_destroy(fixture);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
#if !IS_SANITIZED
        cmocka_unit_test(test_memory_of_a_waiting_message),
#endif
        cmocka_unit_test(test_everything_at_once),
    };

    /* mallinfo2 counts the main arena alone. */
    mallopt(M_ARENA_MAX, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
