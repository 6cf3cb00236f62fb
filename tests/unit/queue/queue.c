/* SPDX-License-Identifier: Apache-2.0 */
/* The way of messages through the queue. What goes wrong here is mail that is lost, delivered twice, or waits for nothing. */
#include "fixture.h"

static size_t count_events_locked(struct fixture *fixture, enum queue_event_kind kind)
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
    count = count_events_locked(fixture, kind);
    pthread_mutex_unlock(&fixture->lock);
    return count;
}

static void test_a_delivered_message_is_dead(void **state)
{
    struct fixture *fixture = fixture_create();
    struct queue_statistics statistics;
    spool_id id;

    (void)state;
    fixture_start(fixture);
    id = fixture_add(fixture, "ok@here");
    assert_true(fixture_wait(fixture, fixture_all_dead));
    /* The common case costs the spool one small record. */
    assert_int_equal(fixture->result_count, 1);
    assert_true(fixture->results[0].dead && fixture->results[0].entry_count == 0 && fixture->results[0].id == id);
    assert_int_equal(fixture->event_count, 1);
    assert_int_equal(fixture->events[0].kind, QUEUE_EVENT_DELIVERED);
    queue_get_statistics(fixture->queue, &statistics);
    assert_int_equal(statistics.messages, 0);
    assert_int_equal(statistics.delivered, 1);
    assert_int_equal(statistics.recipients_waiting + statistics.recipients_ready + statistics.recipients_taken, 0);
    fixture_destroy(fixture);
}

/* The first attempt is deferred: the spool is told, the second comes in its time. */
static void test_a_deferred_message_is_tried_again(void **state)
{
    struct fixture *fixture = fixture_create();
    int64_t before_ms = clock_real_ms();
    struct result_entry *entry;

    (void)state;
    fixture_start(fixture);
    fixture_add(fixture, "once@here");
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(fixture->result_count, 2);
    entry = &fixture->results[0].entries[0];
    assert_int_equal(entry->state, RESULT_WAITING);
    assert_int_equal(entry->number, 1);
    assert_true(fixture->results[1].dead);
    assert_int_equal(fixture->events[0].kind, QUEUE_EVENT_DEFERRED);
    assert_string_equal(fixture->events[0].status, "4.2.1");
    assert_true(entry->at_ms == fixture->events[0].next_at_ms);
    assert_true(fixture->events[0].next_at_ms >= before_ms + 18);
    assert_true(fixture->events[0].next_at_ms <= fixture->events[0].at_ms + 22);
    /* Not before its time, but for the ticks of two clocks, and for a loop's clock that stands still during a turn. */
    assert_true(fixture->events[1].at_ms >= before_ms + 16);
    fixture_destroy(fixture);
}

static bool has_three_attempts(struct fixture *fixture)
{
    return fixture->result_count >= 3;
}

static void test_intervals_follow_the_attempts(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture->settings.retry_ms[1] = 40;
    fixture->settings.retry_ms[2] = 3600000;
    fixture->settings.retry_count = 3;
    fixture_start(fixture);
    fixture_add(fixture, "defer@here");
    assert_true(fixture_wait(fixture, has_three_attempts));
    assert_true(fixture->events[1].next_at_ms >= fixture->events[0].at_ms + 36);
    assert_true(fixture->events[1].next_at_ms <= fixture->events[1].at_ms + 44);
    assert_true(fixture->events[2].next_at_ms >= fixture->events[1].at_ms + 3240000);
    assert_true(fixture->events[2].next_at_ms <= fixture->events[2].at_ms + 3960000);
    assert_int_equal(fixture->results[2].entries[0].number, 3);
    fixture_destroy(fixture);
}

static bool two_events(struct fixture *fixture)
{
    return fixture->event_count >= 2;
}

/* Recipients that go to one place go together; a place that hangs holds up nobody else. */
static void test_destinations_are_independent(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture_start(fixture);
    fixture_add(fixture, "stuck@slow ok1@fast ok2@fast");
    assert_true(fixture_wait(fixture, two_events));
    assert_int_equal(fixture->events[0].recipient, 1);
    assert_int_equal(fixture->events[1].recipient, 2);
    assert_int_equal(fixture->dead_count, 0);
    fixture_set(fixture, &fixture->released, true);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    /* The two deliveries were one record, and the end is the other. */
    assert_int_equal(fixture->result_count, 2);
    assert_int_equal(fixture->results[0].entry_count, 2);
    assert_int_equal(fixture->results[0].entries[0].state, RESULT_DELIVERED);
    fixture_destroy(fixture);
}

static void test_routes_that_fail_or_wait(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture_start(fixture);
    fixture_add(fixture, "a@nowhere");
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(fixture->report_count, 1);
    assert_string_equal(fixture->reports[0].statuses[0], "5.1.2");
    assert_string_equal(fixture->reports[0].texts[0], "no such domain");
    fixture->event_count = 0;
    fixture_add(fixture, "a@later");
    assert_true(fixture_wait(fixture, two_events));
    assert_int_equal(fixture->events[1].kind, QUEUE_EVENT_DEFERRED);
    assert_string_equal(fixture->events[1].status, "4.4.3");
    fixture_destroy(fixture);
}

/* Mail that was accepted without a look: whoever exists gets it, at once and without a failed attempt; for the others the sender is told. */
static void test_looked_up_recipients_are_routed_again(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture->settings.report_gather_ms = 20;
    fixture_start(fixture);
    fixture_add(fixture, "known@asked ok@here unknown@asked once@asked");
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(fixture->report_count, 1);
    assert_string_equal(fixture->reports[0].statuses[0], "5.1.2");
    assert_int_equal(count_events_locked(fixture, QUEUE_EVENT_DELIVERED), 3);
    /* "once" is deferred where it was sent to, and looked up again after that. */
    assert_int_equal(count_events_locked(fixture, QUEUE_EVENT_DEFERRED), 1);
    assert_int_equal(fixture->event_count, 5);
    fixture_destroy(fixture);
}

static bool all_deferred(struct fixture *fixture)
{
    return count_events_locked(fixture, QUEUE_EVENT_DEFERRED) >= fixture->last_id;
}

/* A million messages for a server that is down: one probe at a time, each message told once, none lost, no attempt counted. */
static void test_a_destination_that_is_down_rests(void **state)
{
    enum { COUNT = 300 };
    struct fixture *fixture = fixture_create();
    size_t given_back;

    (void)state;
    fixture->is_down = true;
    fixture_start(fixture);
    for (int i = 0; i < COUNT; i++)
        fixture_add(fixture, "ok@down");
    assert_true(fixture_wait(fixture, all_deferred));
    pthread_mutex_lock(&fixture->lock);
    given_back = fixture->give_back_count;
    assert_int_equal(fixture->result_count, 0);
    assert_string_equal(fixture->events[0].status, "4.4.1");
    assert_string_equal(fixture->events[0].text, "connection refused");
    assert_true(fixture->events[0].next_at_ms > 0);
    fixture->is_down = false;
    pthread_mutex_unlock(&fixture->lock);
    /* Slow start: before the first failures, two workers at most had their hands full; after them probes had one item. */
    assert_true(given_back < 200);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(fixture->attempt_count, COUNT);
    fixture_destroy(fixture);
}

static bool has_report(struct fixture *fixture)
{
    return fixture->report_count >= 1;
}

/* While a destination rests its mail is not tried, and still doesn't outlive its time. */
static void test_held_mail_expires(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture->is_down = true;
    fixture->settings.retry_ms[0] = 3600000;
    fixture->settings.expire_ms = 60;
    fixture_start(fixture);
    fixture_add(fixture, "ok@down");
    assert_true(fixture_wait(fixture, has_report));
    assert_true(fixture->reports[0].expired[0]);
    assert_string_equal(fixture->reports[0].statuses[0], "4.4.7");
    assert_string_equal(fixture->reports[0].texts[0], "connection refused");
    assert_true(fixture_wait(fixture, fixture_all_dead));
    fixture_destroy(fixture);
}

/* The last attempt is made when the time is over, and the sender learns why all of them failed. */
static void test_deferred_mail_expires(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture->settings.expire_ms = 300;
    fixture_start(fixture);
    fixture_add(fixture, "defer@here");
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(fixture->report_count, 1);
    assert_true(fixture->reports[0].last && fixture->reports[0].expired[0]);
    assert_string_equal(fixture->reports[0].statuses[0], "4.4.7");
    assert_string_equal(fixture->reports[0].texts[0], "busy");
    assert_true(count_events(fixture, QUEUE_EVENT_DEFERRED) >= 2);
    assert_int_equal(count_events(fixture, QUEUE_EVENT_EXPIRED), 1);
    fixture_destroy(fixture);
}

static bool is_taken(struct fixture *fixture)
{
    return fixture->attempt_count >= 1;
}

/* SIGTERM: what a fiber has in hands is finished and written, what waits is left for the next start. */
static void test_stop_waits_for_what_is_taken(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture_start(fixture);
    fixture_add(fixture, "stuck@slow");
    assert_true(fixture_wait(fixture, is_taken));
    fixture_ask_stop(fixture);
    fixture_add(fixture, "ok@here");
    assert_false(fixture_flag(fixture, &fixture->is_stopped));
    fixture_set(fixture, &fixture->released, true);
    assert_true(fixture_wait(fixture, fixture_is_stopped));
    assert_int_equal(fixture->dead_count, 1);
    assert_int_equal(fixture->attempt_count, 1);
    fixture_destroy(fixture);
}

/* An envelope without recipients, or one that can't be read, disturbs nothing. */
static void test_odd_envelopes(void **state)
{
    struct fixture *fixture = fixture_create();
    struct envelope envelope = {.sender = STR("a@b")};
    struct buf data;

    (void)state;
    buf_init(&data, 4096);
    assert_true(envelope_encode(&envelope, &data));
    fixture_start(fixture);
    queue_add(fixture->queue, ++fixture->last_id << 8, buf_str(&data), 0);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    queue_add(fixture->queue, 0x5500, STR("nonsense"), 0);
    queue_add(fixture->queue, 0x5600, STR("\x01\x01\x01garbage"), 0);
    fixture_add(fixture, "ok@here");
    assert_true(fixture_wait(fixture, fixture_all_dead));
    buf_release(&data);
    fixture_destroy(fixture);
}

static bool four_settled(struct fixture *fixture)
{
    return fixture->dead_count >= 3 && fixture->event_count >= 3;
}

static void recover(struct fixture *fixture, spool_id id, const char *recipients)
{
    struct buf data = fixture_envelope("alice@contoso.test", recipients, clock_real_ms());

    queue_recover_message(fixture->queue, id, buf_str(&data), 1000);
    buf_release(&data);
}

static void recover_entry(struct fixture *fixture, spool_id id, struct result_entry entry)
{
    struct buf record;

    buf_init(&record, 4096);
    result_append(&record, &entry);
    queue_recover_result(fixture->queue, id, buf_str(&record));
    /* A failed write may have reached the disk and come twice. */
    queue_recover_result(fixture->queue, id, buf_str(&record));
    buf_release(&record);
}

/* After a restart: nobody gets mail a second time, nobody is forgotten, and times that had been set hold. */
static void test_recovery(void **state)
{
    struct fixture *fixture = fixture_create();
    int64_t now_ms = clock_real_ms();
    struct queue_statistics statistics;

    (void)state;
    fixture->settings.retry_ms[1] = 3600000;
    fixture->settings.retry_count = 2;
    fixture->queue->settings = fixture->settings;
    /* Delivered, untried, due. */
    recover(fixture, 0x100, "ok0@here ok1@here ok2@there");
    recover_entry(fixture, 0x100, (struct result_entry){.recipient = 0, .state = RESULT_DELIVERED});
    recover_entry(fixture, 0x100,
                  (struct result_entry){.recipient = 2, .state = RESULT_WAITING, .number = 3, .at_ms = now_ms - 5});
    /* In an hour; and a delivery that came after a deferral, which is final. */
    recover(fixture, 0x200, "ok@here ok@here");
    recover_entry(
        fixture, 0x200,
        (struct result_entry){.recipient = 0, .state = RESULT_WAITING, .number = 1, .at_ms = now_ms + 3600000});
    recover_entry(fixture, 0x200,
                  (struct result_entry){.recipient = 1, .state = RESULT_WAITING, .number = 1, .at_ms = now_ms - 5});
    recover_entry(fixture, 0x200, (struct result_entry){.recipient = 1, .state = RESULT_DELIVERED});
    /* All settled, but its end was not written. */
    recover(fixture, 0x300, "ok@here");
    recover_entry(fixture, 0x300, (struct result_entry){.recipient = 0, .state = RESULT_REPORTED});
    /* Nonsense changes nothing. */
    recover(fixture, 0x400, "ok@here");
    queue_recover_result(fixture->queue, 0x400, STR("\x09zzz"));
    queue_recover_result(fixture->queue, 0x400, STR("\x01\x07\x01"));
    queue_recover_result(fixture->queue, 0x999, STR("\x01\x00\x01"));
    queue_recovery_done(fixture->queue);
    fixture_start(fixture);
    assert_true(fixture_wait(fixture, four_settled));
    assert_int_equal(fixture->attempt_count, 3);
    for (size_t i = 0; i < fixture->event_count; i++)
        assert_true(fixture->events[i].id != 0x200 &&
                    !(fixture->events[i].id == 0x100 && fixture->events[i].recipient == 0));
    queue_get_statistics(fixture->queue, &statistics);
    assert_int_equal(statistics.messages, 1);
    assert_int_equal(statistics.recipients_waiting, 1);
    fixture_destroy(fixture);
}

/* A clock that ran a year ahead for a day has left times that nobody wants to wait for. */
static void test_recovered_times_are_bounded(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture->queue->settings = fixture->settings;
    recover(fixture, 0x100, "ok@here");
    recover_entry(fixture, 0x100,
                  (struct result_entry){.recipient = 0, .state = RESULT_WAITING, .number = 1, .at_ms = INT64_MAX / 2});
    fixture->last_id = 1;
    queue_recovery_done(fixture->queue);
    fixture_start(fixture);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    fixture_destroy(fixture);
}

/* A reload changes the schedule of what is deferred from then on. */
static void test_settings_change(void **state)
{
    struct fixture *fixture = fixture_create();
    struct queue_settings settings = fixture->settings;

    (void)state;
    fixture_start(fixture);
    settings.retry_ms[0] = 3600000;
    queue_set_settings(fixture->queue, &settings);
    fixture_add(fixture, "defer@here");
    fixture_add(fixture, "defer@here");
    assert_true(fixture_wait(fixture, two_events));
    assert_true(fixture->events[0].next_at_ms - fixture->events[0].at_ms > 3000000);
    fixture_destroy(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_delivered_message_is_dead),
        cmocka_unit_test(test_a_deferred_message_is_tried_again),
        cmocka_unit_test(test_intervals_follow_the_attempts),
        cmocka_unit_test(test_destinations_are_independent),
        cmocka_unit_test(test_routes_that_fail_or_wait),
        cmocka_unit_test(test_looked_up_recipients_are_routed_again),
        cmocka_unit_test(test_a_destination_that_is_down_rests),
        cmocka_unit_test(test_held_mail_expires),
        cmocka_unit_test(test_deferred_mail_expires),
        cmocka_unit_test(test_stop_waits_for_what_is_taken),
        cmocka_unit_test(test_odd_envelopes),
        cmocka_unit_test(test_recovery),
        cmocka_unit_test(test_recovered_times_are_bounded),
        cmocka_unit_test(test_settings_change),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
