/* SPDX-License-Identifier: Apache-2.0 */
/* The postmaster's orders: each does what it says to those that are meant and to nobody else, and is on the disk before it is confirmed. */
#include "control_fixture.h"

static size_t count_locked(struct fixture *fixture, enum queue_event_kind kind)
{
    size_t count = 0;

    for (size_t i = 0; i < fixture->event_count; i++)
        count += fixture->events[i].kind == kind;
    return count;
}

static size_t count_events(struct fixture *fixture, enum queue_event_kind kind)
{
    size_t count;

    pthread_mutex_lock(&fixture->lock);
    count = count_locked(fixture, kind);
    pthread_mutex_unlock(&fixture->lock);
    return count;
}

static bool all_deferred(struct fixture *fixture)
{
    return count_locked(fixture, QUEUE_EVENT_DEFERRED) >= fixture->last_id;
}

static bool is_deferred_again(struct fixture *fixture)
{
    return count_locked(fixture, QUEUE_EVENT_DEFERRED) > fixture->last_id;
}

static bool three_deferred(struct fixture *fixture)
{
    return count_locked(fixture, QUEUE_EVENT_DEFERRED) >= 3;
}

static bool is_taken(struct fixture *fixture)
{
    return fixture->attempt_count >= 1;
}

static bool one_report(struct fixture *fixture)
{
    return fixture->report_count >= 1;
}

static bool two_reports(struct fixture *fixture)
{
    return fixture->report_count >= 2;
}

/* How often the spool was told this of a recipient. */
static size_t count_entries(struct fixture *fixture, spool_id id, size_t recipient, enum result_state state)
{
    size_t count = 0;

    pthread_mutex_lock(&fixture->lock);
    for (size_t i = 0; i < fixture->result_count; i++) {
        for (size_t j = 0; j < fixture->results[i].entry_count; j++)
            count += fixture->results[i].id == id && fixture->results[i].entries[j].recipient == recipient &&
                     fixture->results[i].entries[j].state == state;
    }
    pthread_mutex_unlock(&fixture->lock);
    return count;
}

static struct fixture *start_patient(void)
{
    struct fixture *fixture = fixture_create();

    fixture->settings.retry_ms[0] = 3600000;
    fixture_start(fixture);
    return fixture;
}

/* Held mail stays where it is, whatever its time; the spool knows of it; release sends it on at once. */
static void test_hold_and_release(void **state)
{
    struct fixture *fixture = fixture_create();
    struct queue_statistics statistics;
    struct queue_done done;
    struct seen seen;
    spool_id id;

    (void)state;
    fixture->settings.retry_ms[0] = 300;
    fixture->settings.expire_ms = 400;
    fixture_start(fixture);
    id = fixture_add(fixture, "once@here ok@here");
    assert_true(fixture_wait(fixture, all_deferred));
    done = postmaster_order_one(fixture, id, QUEUE_ACTION_HOLD);
    assert_int_equal(done.messages, 1);
    assert_int_equal(done.recipients, 1);
    assert_int_equal(done.unwritten, 0);
    assert_int_equal(count_entries(fixture, id, 0, RESULT_HELD), 1);
    assert_int_equal(postmaster_order_one(fixture, id, QUEUE_ACTION_HOLD).messages, 0);
    assert_true(postmaster_show(fixture, id, &seen));
    assert_true(seen.is_held && !seen.is_quarantined);
    assert_string_equal(seen.held_text, "by the test");
    assert_true(seen.held_at_ms > clock_real_ms() - 60000);
    assert_int_equal(seen.recipients[0].state, QUEUE_STATE_HELD);
    assert_int_equal(seen.recipients[1].state, QUEUE_STATE_DELIVERED);
    assert_int_equal(postmaster_count(fixture, (struct queue_filter){.states = QUEUE_STATE_HELD}), 1);
    assert_int_equal(postmaster_order_one(fixture, id, QUEUE_ACTION_RETRY).messages, 0);
    queue_get_statistics(fixture->queue, &statistics);
    assert_int_equal(statistics.messages_held, 1);
    /* Its time passes: another message's expiry, that began later, shows it. */
    fixture_add(fixture, "defer@there");
    assert_true(fixture_wait(fixture, one_report));
    assert_int_equal(count_events(fixture, QUEUE_EVENT_HELD), 1);
    assert_int_equal(fixture->dead_count, 1);
    done = postmaster_order(fixture, (struct queue_filter){.domain = STR("here")}, QUEUE_ACTION_RELEASE);
    assert_int_equal(done.messages, 1);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(count_entries(fixture, id, 0, RESULT_RELEASED), 1);
    assert_int_equal(count_events(fixture, QUEUE_EVENT_RELEASED), 1);
    queue_get_statistics(fixture->queue, &statistics);
    assert_int_equal(statistics.messages_held, 0);
    fixture_destroy(fixture);
}

/* A hold that comes while a message is being delivered: it comes to its end; what fails for now waits for the release. */
static void test_hold_of_what_is_taken(void **state)
{
    struct fixture *fixture = start_patient();
    spool_id id = fixture_add(fixture, "stuck@slow ok@down");
    struct seen seen;

    (void)state;
    fixture->is_down = true;
    assert_true(fixture_wait(fixture, is_taken));
    assert_int_equal(postmaster_order_one(fixture, id, QUEUE_ACTION_HOLD).messages, 1);
    assert_true(postmaster_show(fixture, id, &seen));
    assert_int_equal(seen.recipients[0].state, QUEUE_STATE_TAKEN);
    fixture_set(fixture, &fixture->released, true);
    do
        assert_true(postmaster_show(fixture, id, &seen));
    while (seen.recipients[0].state != QUEUE_STATE_DELIVERED || seen.recipients[1].state != QUEUE_STATE_HELD);
    fixture_set(fixture, &fixture->is_down, false);
    assert_int_equal(postmaster_order_one(fixture, id, QUEUE_ACTION_RELEASE).messages, 1);
    postmaster_order(fixture, (struct queue_filter){0}, QUEUE_ACTION_RETRY);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    fixture_destroy(fixture);
}

/* The server that was down is up again, and nobody wants to wait for the clock. */
static void test_retry(void **state)
{
    struct fixture *fixture = start_patient();
    struct queue_done done;

    (void)state;
    fixture->is_down = true;
    fixture_add(fixture, "defer@here ok@here");
    fixture_add(fixture, "ok@down");
    fixture_add(fixture, "ok@down");
    assert_true(fixture_wait(fixture, all_deferred));
    fixture_set(fixture, &fixture->is_down, false);
    done = postmaster_order(fixture, (struct queue_filter){.domain = STR("down")}, QUEUE_ACTION_RETRY);
    assert_int_equal(done.messages, 2);
    while (postmaster_count(fixture, (struct queue_filter){.domain = STR("down")}) > 0)
        ;
    done = postmaster_order(fixture, (struct queue_filter){0}, QUEUE_ACTION_RETRY);
    assert_int_equal(done.messages, 1);
    assert_int_equal(done.recipients, 1);
    assert_true(fixture_wait(fixture, is_deferred_again));
    fixture_destroy(fixture);
}

/* Silently, and only whom the filter means: the others of the same message still get their mail. */
static void test_delete(void **state)
{
    struct fixture *fixture = start_patient();
    struct queue_done done;
    struct seen seen;
    spool_id id;

    (void)state;
    id = fixture_add(fixture, "defer1@here defer2@there defer3@here");
    assert_true(fixture_wait(fixture, three_deferred));
    done = postmaster_order(fixture, (struct queue_filter){.domain = STR("here")}, QUEUE_ACTION_DELETE);
    assert_int_equal(done.messages, 1);
    assert_int_equal(done.recipients, 2);
    assert_int_equal(done.unwritten, 0);
    assert_int_equal(count_entries(fixture, id, 0, RESULT_DELETED), 1);
    assert_int_equal(count_entries(fixture, id, 2, RESULT_DELETED), 1);
    assert_true(postmaster_show(fixture, id, &seen));
    assert_int_equal(seen.recipients[0].state, QUEUE_STATE_DELETED);
    assert_int_equal(seen.recipients[1].state, QUEUE_STATE_WAITING);
    assert_int_equal(seen.unsettled_count, 1);
    assert_int_equal(postmaster_order_one(fixture, id, QUEUE_ACTION_HOLD).messages, 1);
    done = postmaster_order_one(fixture, id, QUEUE_ACTION_DELETE);
    assert_int_equal(done.recipients, 1);
    /* Confirmed means that the end is on the disk. */
    pthread_mutex_lock(&fixture->lock);
    assert_int_equal(fixture->dead_count, 1);
    assert_int_equal(count_locked(fixture, QUEUE_EVENT_DELETED), 3);
    pthread_mutex_unlock(&fixture->lock);
    assert_int_equal(fixture->report_count, 0);
    assert_false(postmaster_show(fixture, id, &seen));
    fixture_destroy(fixture);
}

/* One in the hands of delivery: gone if it doesn't arrive, delivered if it does. */
static void test_delete_of_what_is_taken(void **state)
{
    struct fixture *fixture = start_patient();
    spool_id ids[2];

    (void)state;
    ids[0] = fixture_add(fixture, "stuck@slow");
    ids[1] = fixture_add(fixture, "stuckdefer@slow2");
    while (postmaster_count(fixture, (struct queue_filter){.states = QUEUE_STATE_TAKEN}) < 2)
        ;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(postmaster_order_one(fixture, ids[i], QUEUE_ACTION_DELETE).messages, 1);
        assert_int_equal(count_entries(fixture, ids[i], 0, RESULT_DELETED), 1);
        assert_int_equal(postmaster_order_one(fixture, ids[i], QUEUE_ACTION_DELETE).messages, 0);
        assert_int_equal(postmaster_order_one(fixture, ids[i], QUEUE_ACTION_BOUNCE).messages, 0);
    }
    fixture_set(fixture, &fixture->released, true);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(count_events(fixture, QUEUE_EVENT_DELIVERED), 1);
    assert_int_equal(count_events(fixture, QUEUE_EVENT_DELETED), 1);
    assert_int_equal(count_events(fixture, QUEUE_EVENT_DEFERRED), 0);
    fixture_destroy(fixture);
}

/* The sender is told, with the postmaster's words on one line; and it is on the disk before the report is. */
static void test_bounce(void **state)
{
    struct fixture *fixture = fixture_create();
    struct queue_done done;
    spool_id id;

    (void)state;
    fixture->settings.retry_ms[0] = 3600000;
    fixture->report_failures = 1;
    fixture_start(fixture);
    id = fixture_add(fixture, "defer1@here defer2@there");
    assert_true(fixture_wait(fixture, all_deferred));
    done = postmaster_order(fixture, (struct queue_filter){.recipient = STR("defer1@here")}, QUEUE_ACTION_BOUNCE);
    assert_int_equal(done.messages, 1);
    assert_int_equal(done.recipients, 1);
    assert_int_equal(count_entries(fixture, id, 0, RESULT_FAILED), 1);
    assert_true(fixture_wait(fixture, one_report));
    assert_int_equal(fixture->reports[0].kind, QUEUE_REPORT_FAILED);
    assert_int_equal(fixture->reports[0].failure_count, 1);
    assert_string_equal(fixture->reports[0].statuses[0], "5.3.0");
    assert_string_equal(fixture->reports[0].texts[0], "enough  of it");
    assert_false(fixture->reports[0].expired[0]);
    assert_true(fixture_wait(fixture, two_reports)); /* the first could not be written */
    done = postmaster_order_one(fixture, id, QUEUE_ACTION_BOUNCE);
    assert_int_equal(done.recipients, 1);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_string_equal(fixture->reports[fixture->report_count - 1].texts[0], "Returned by the postmaster");
    fixture_destroy(fixture);
}

static void test_bounce_of_what_is_taken(void **state)
{
    struct fixture *fixture = start_patient();
    spool_id id = fixture_add(fixture, "stuckdefer@slow");

    (void)state;
    assert_true(fixture_wait(fixture, is_taken));
    assert_int_equal(postmaster_order_one(fixture, id, QUEUE_ACTION_BOUNCE).messages, 1);
    assert_int_equal(count_entries(fixture, id, 0, RESULT_FAILED), 1);
    fixture_set(fixture, &fixture->released, true);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(fixture->report_count, 1);
    assert_string_equal(fixture->reports[0].statuses[0], "5.3.0");
    fixture_destroy(fixture);
}

/* Mail that waits for a server that is down: it is neither tried nor lost sight of. */
static void test_orders_for_a_destination_that_is_down(void **state)
{
    struct fixture *fixture = start_patient();
    spool_id ids[4];

    (void)state;
    fixture->is_down = true;
    for (int i = 0; i < 4; i++)
        ids[i] = fixture_add(fixture, "ok1@down ok2@down");
    while (postmaster_count(fixture, (struct queue_filter){.states = QUEUE_STATE_WAITING}) < 4)
        ;
    assert_int_equal(postmaster_order_one(fixture, ids[0], QUEUE_ACTION_DELETE).recipients, 2);
    assert_int_equal(postmaster_order_one(fixture, ids[1], QUEUE_ACTION_BOUNCE).recipients, 2);
    assert_int_equal(postmaster_order_one(fixture, ids[2], QUEUE_ACTION_HOLD).recipients, 2);
    assert_int_equal(
        postmaster_order(fixture, (struct queue_filter){.recipient = STR("ok1@*")}, QUEUE_ACTION_DELETE).recipients, 2);
    fixture_set(fixture, &fixture->is_down, false);
    postmaster_order(fixture, (struct queue_filter){0}, QUEUE_ACTION_RELEASE);
    while (postmaster_count(fixture, (struct queue_filter){0}) > 0)
        postmaster_order(fixture, (struct queue_filter){0}, QUEUE_ACTION_RETRY);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(count_events(fixture, QUEUE_EVENT_DELIVERED), 2);
    assert_int_equal(count_events(fixture, QUEUE_EVENT_DELETED), 4);
    assert_int_equal(fixture->report_count, 1);
    fixture_destroy(fixture);
}

/* A disk that refuses: the postmaster learns that it is not certain yet, and it is written as soon as it can be. */
static void test_orders_that_are_not_written(void **state)
{
    struct fixture *fixture = start_patient();
    struct queue_done done;
    spool_id id;

    (void)state;
    id = fixture_add(fixture, "defer@here");
    assert_true(fixture_wait(fixture, all_deferred));
    assert_int_equal(postmaster_count(fixture, (struct queue_filter){0}), 1);
    pthread_mutex_lock(&fixture->lock);
    fixture->spool_failures = 1;
    fixture->spool_failure = SPOOL_FULL;
    pthread_mutex_unlock(&fixture->lock);
    done = postmaster_order_one(fixture, id, QUEUE_ACTION_HOLD);
    assert_int_equal(done.messages, 1);
    assert_int_equal(done.unwritten, 1);
    while (count_entries(fixture, id, 0, RESULT_HELD) == 0)
        ;
    fixture_destroy(fixture);
}

/* ---- after a restart ---- */

static void recover_entry(struct fixture *fixture, spool_id id, struct result_entry entry)
{
    struct buf record;

    buf_init(&record, 4096);
    result_append(&record, &entry);
    queue_recover_result(fixture->queue, id, buf_str(&record));
    buf_release(&record);
}

static spool_id recover(struct fixture *fixture, const char *recipients)
{
    struct buf data = fixture_envelope("alice@contoso.test", recipients, clock_real_ms());
    spool_id id = ++fixture->last_id << 8;

    queue_recover_message(fixture->queue, id, buf_str(&data), 1000);
    buf_release(&data);
    return id;
}

static bool four_dead(struct fixture *fixture)
{
    return fixture->dead_count >= 4;
}

/* What the postmaster was promised before the crash holds after it. */
static void test_orders_survive_a_restart(void **state)
{
    struct fixture *fixture = fixture_create();
    spool_id held, released, deleted, bounced, bounced_and_delivered;
    struct seen seen;

    (void)state;
    fixture->queue->settings = fixture->settings;
    held = recover(fixture, "ok@here");
    recover_entry(fixture, held, (struct result_entry){.state = RESULT_HELD, .at_ms = 1234567, .text = STR("by bob")});
    released = recover(fixture, "ok@here");
    recover_entry(fixture, released, (struct result_entry){.state = RESULT_HELD, .at_ms = 1, .text = STR("by bob")});
    recover_entry(fixture, released, (struct result_entry){.state = RESULT_RELEASED});
    deleted = recover(fixture, "ok0@here ok1@there");
    recover_entry(fixture, deleted, (struct result_entry){.recipient = 0, .state = RESULT_DELETED});
    bounced = recover(fixture, "ok@here");
    recover_entry(fixture, bounced,
                  (struct result_entry){.recipient = 0,
                                        .state = RESULT_FAILED,
                                        .at_ms = 1,
                                        .status = STR("5.3.0"),
                                        .text = STR("no more of this")});
    bounced_and_delivered = recover(fixture, "ok@here");
    recover_entry(fixture, bounced_and_delivered,
                  (struct result_entry){.recipient = 0, .state = RESULT_FAILED, .at_ms = 1, .status = STR("5.3.0")});
    recover_entry(fixture, bounced_and_delivered, (struct result_entry){.recipient = 0, .state = RESULT_DELIVERED});
    queue_recovery_done(fixture->queue);
    fixture_start(fixture);
    assert_true(fixture_wait(fixture, four_dead));
    assert_int_equal(fixture->attempt_count, 2);
    assert_int_equal(fixture->report_count, 1);
    assert_true(fixture->reports[0].id == bounced);
    assert_string_equal(fixture->reports[0].texts[0], "no more of this");
    assert_true(postmaster_show(fixture, held, &seen));
    assert_true(seen.is_held);
    assert_int_equal(seen.held_at_ms, 1234567);
    assert_string_equal(seen.held_text, "by bob");
    assert_int_equal(postmaster_order_one(fixture, held, QUEUE_ACTION_RELEASE).messages, 1);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    fixture_destroy(fixture);
}

/* The postmaster is faster than the recovery. */
static void test_orders_before_the_start_is_over(void **state)
{
    enum { COUNT = 600 };
    struct fixture *fixture = fixture_create();
    struct queue_done done = {0};

    (void)state;
    fixture->queue->settings = fixture->settings;
    for (int i = 0; i < COUNT; i++) {
        spool_id id = recover(fixture, "defer@here");

        if (i % 2 == 0)
            recover_entry(fixture, id,
                          (struct result_entry){
                              .state = RESULT_WAITING, .number = 1, .at_ms = clock_real_ms() + 15, .text = STR("x")});
    }
    fixture_start(fixture);
    done = postmaster_order(fixture, (struct queue_filter){.domain = STR("here")}, QUEUE_ACTION_DELETE);
    assert_int_equal(done.messages, COUNT);
    queue_recovery_done(fixture->queue);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(fixture->attempt_count, 0);
    fixture_destroy(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hold_and_release),
        cmocka_unit_test(test_hold_of_what_is_taken),
        cmocka_unit_test(test_retry),
        cmocka_unit_test(test_delete),
        cmocka_unit_test(test_delete_of_what_is_taken),
        cmocka_unit_test(test_bounce),
        cmocka_unit_test(test_bounce_of_what_is_taken),
        cmocka_unit_test(test_orders_for_a_destination_that_is_down),
        cmocka_unit_test(test_orders_that_are_not_written),
        cmocka_unit_test(test_orders_survive_a_restart),
        cmocka_unit_test(test_orders_before_the_start_is_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
