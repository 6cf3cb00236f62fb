/* SPDX-License-Identifier: Apache-2.0 */
/* With more messages than memory is meant for: everything goes on as before, with envelopes from the disk. */
#include "control_fixture.h"

#define COUNT 300
#define LIMIT 20

static struct fixture *create(void)
{
    struct fixture *fixture = fixture_create();

    fixture->settings.memory_messages = LIMIT;
    return fixture;
}

static size_t count_locked(struct fixture *fixture, enum queue_event_kind kind)
{
    size_t count = 0;

    for (size_t i = 0; i < fixture->event_count; i++)
        count += fixture->events[i].kind == kind;
    return count;
}

static bool all_deferred(struct fixture *fixture)
{
    return count_locked(fixture, QUEUE_EVENT_DEFERRED) >= fixture->last_id;
}

static uint64_t in_memory(struct fixture *fixture)
{
    struct queue_statistics statistics;

    /* A round trip: the owner is through with what was told before. */
    postmaster_count(fixture, (struct queue_filter){.domain = STR("nothing.test")});
    queue_get_statistics(fixture->queue, &statistics);
    return statistics.envelopes_in_memory;
}

/* Deferred, listed, filtered, and at last delivered, each once. */
static void test_waiting_mail(void **state)
{
    struct fixture *fixture = create();
    struct seen *seen;
    size_t count;

    (void)state;
    fixture->settings.retry_ms[0] = 3600000;
    fixture_start(fixture);
    for (int i = 0; i < COUNT; i++)
        fixture_add(fixture, i % 3 == 0 ? "once@a.test ok@a.test" : "once@b.test");
    assert_true(fixture_wait(fixture, all_deferred));
    assert_int_equal(in_memory(fixture), LIMIT);
    seen = postmaster_list(fixture, (struct queue_filter){.domain = STR("a.test")}, &count);
    assert_int_equal(count, COUNT / 3);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(seen[i].sender, "alice@contoso.test");
        assert_int_equal(seen[i].recipients[0].state, QUEUE_STATE_WAITING);
        assert_int_equal(seen[i].recipients[1].state, QUEUE_STATE_DELIVERED);
    }
    free(seen);
    assert_int_equal(
        postmaster_order(fixture, (struct queue_filter){.recipient = STR("*@b.test")}, QUEUE_ACTION_HOLD).messages,
        COUNT / 3 * 2);
    assert_int_equal(postmaster_order(fixture, (struct queue_filter){0}, QUEUE_ACTION_RELEASE).messages, COUNT / 3 * 2);
    assert_int_equal(
        postmaster_order(fixture, (struct queue_filter){.domain = STR("a.test")}, QUEUE_ACTION_RETRY).messages,
        COUNT / 3);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(count_locked(fixture, QUEUE_EVENT_DELIVERED), COUNT + COUNT / 3);
    assert_int_equal(count_locked(fixture, QUEUE_EVENT_DEFERRED), COUNT);
    assert_int_equal(in_memory(fixture), 0);
    fixture_destroy(fixture);
}

/* The same with retries by the clock, and failures that are reported. */
static void test_retries_and_reports(void **state)
{
    struct fixture *fixture = create();

    (void)state;
    /* Further away than "soon" it would be; the test's time is shorter. */
    fixture->settings.retry_ms[0] = 3600000;
    fixture_start(fixture);
    for (int i = 0; i < COUNT; i++)
        fixture_add(fixture, "once@a.test x@later");
    while (postmaster_count(fixture, (struct queue_filter){.states = QUEUE_STATE_WAITING}) < COUNT ||
           in_memory(fixture) > LIMIT)
        ;
    assert_int_equal(
        postmaster_order(fixture, (struct queue_filter){.domain = STR("later")}, QUEUE_ACTION_BOUNCE).recipients,
        COUNT);
    assert_int_equal(
        postmaster_order(fixture, (struct queue_filter){.domain = STR("a.test")}, QUEUE_ACTION_RETRY).messages, COUNT);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(count_locked(fixture, QUEUE_EVENT_FAILED), COUNT);
    assert_int_equal(count_locked(fixture, QUEUE_EVENT_DELIVERED), COUNT);
    fixture_destroy(fixture);
}

/* Everything for one server that is down: that is how a queue gets long. */
static void test_a_destination_that_is_down(void **state)
{
    struct fixture *fixture = create();

    (void)state;
    fixture->is_down = true;
    fixture_start(fixture);
    for (int i = 0; i < COUNT; i++)
        fixture_add(fixture, "ok@down");
    assert_true(fixture_wait(fixture, all_deferred));
    while (in_memory(fixture) > LIMIT + FIXTURE_TAKE)
        ;
    fixture_set(fixture, &fixture->is_down, false);
    postmaster_order(fixture, (struct queue_filter){0}, QUEUE_ACTION_RETRY);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(fixture->attempt_count, COUNT);
    fixture_destroy(fixture);
}

static void test_expiry(void **state)
{
    struct fixture *fixture = create();

    (void)state;
    fixture->is_down = true;
    fixture->settings.retry_ms[0] = 3600000;
    fixture->settings.expire_ms = 1500;
    fixture_start(fixture);
    for (int i = 0; i < COUNT; i++)
        fixture_add(fixture, "ok@down");
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(count_locked(fixture, QUEUE_EVENT_EXPIRED), COUNT);
    assert_int_equal(fixture->report_count, COUNT);
    fixture_destroy(fixture);
}

static void test_recovery(void **state)
{
    struct fixture *fixture = create();
    struct queue_statistics statistics;

    (void)state;
    fixture->queue->settings = fixture->settings;
    for (int i = 0; i < COUNT; i++) {
        struct buf data = fixture_envelope("alice@contoso.test", "ok@here", clock_real_ms());

        fixture_store(fixture, ++fixture->last_id << 8, buf_str(&data));
        queue_recover_message(fixture->queue, fixture->last_id << 8, buf_str(&data), 1000);
        buf_release(&data);
    }
    queue_get_statistics(fixture->queue, &statistics);
    assert_int_equal(statistics.envelopes_in_memory, LIMIT);
    queue_recovery_done(fixture->queue);
    fixture_start(fixture);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(fixture->attempt_count, COUNT);
    fixture_destroy(fixture);
}

static bool were_read_in_vain(struct fixture *fixture)
{
    return fixture->lost_read_count >= COUNT - LIMIT;
}

/* A disk that does not give them: the mail waits, is shown as unreadable, and goes when the disk has come back. */
static void test_envelopes_that_cannot_be_read(void **state)
{
    struct fixture *fixture = create();
    struct seen *seen;
    size_t count, unreadable = 0;

    (void)state;
    fixture->settings.retry_ms[0] = 3600000;
    fixture_start(fixture);
    for (int i = 0; i < COUNT; i++)
        fixture_add(fixture, "once@here");
    assert_true(fixture_wait(fixture, all_deferred));
    assert_int_equal(in_memory(fixture), LIMIT);
    fixture_set(fixture, &fixture->envelopes_are_lost, true);
    seen = postmaster_list(fixture, (struct queue_filter){0}, &count);
    assert_int_equal(count, COUNT);
    for (size_t i = 0; i < count; i++)
        unreadable += seen[i].is_unreadable;
    free(seen);
    assert_int_equal(unreadable, COUNT - LIMIT);
    assert_int_equal(postmaster_order(fixture, (struct queue_filter){0}, QUEUE_ACTION_RETRY).messages, COUNT);
    assert_true(fixture_wait(fixture, were_read_in_vain));
    fixture_set(fixture, &fixture->envelopes_are_lost, false);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(count_locked(fixture, QUEUE_EVENT_DELIVERED), COUNT);
    fixture_destroy(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waiting_mail),
        cmocka_unit_test(test_retries_and_reports),
        cmocka_unit_test(test_a_destination_that_is_down),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_recovery),
        cmocka_unit_test(test_envelopes_that_cannot_be_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
