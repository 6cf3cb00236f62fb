/* SPDX-License-Identifier: Apache-2.0 */
/* Notices of delay and of success (RFC 3461): to those who want them, once. */
#include "fixture.h"

static bool one_report(struct fixture *fixture)
{
    return fixture->report_count >= 1;
}

static bool two_reports(struct fixture *fixture)
{
    return fixture->report_count >= 2;
}

static bool is_dead_or_reported(struct fixture *fixture)
{
    return fixture->dead_count >= 1 || fixture->report_count >= 1;
}

static bool deferred_thrice(struct fixture *fixture)
{
    return fixture->event_count >= 3;
}

/* An hour of "busy" is told once, with the last words and the time when it will be given up; then the mail arrives all the same. */
static void test_a_delay_is_told_once(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture->settings.delay_notice_ms = 1;
    fixture_start(fixture);
    fixture_add(fixture, "defer1@here defer2@here ok@there");
    assert_true(fixture_wait(fixture, one_report));
    pthread_mutex_lock(&fixture->lock);
    fixture->event_count = 0;
    pthread_mutex_unlock(&fixture->lock);
    assert_true(fixture_wait(fixture, deferred_thrice));
    assert_int_equal(fixture->report_count, 1);
    assert_int_equal(fixture->reports[0].kind, QUEUE_REPORT_DELAYED);
    assert_int_equal(fixture->reports[0].failure_count, 2);
    assert_string_equal(fixture->reports[0].statuses[0], "4.2.1");
    assert_string_equal(fixture->reports[0].texts[0], "busy");
    assert_false(fixture->reports[0].last);
    fixture_destroy(fixture);
}

/* The record that keeps it from being told again after a restart is the report's own. */
static void test_the_report_carries_the_mark(void **state)
{
    struct fixture *fixture = fixture_create();
    size_t marks = 0;

    (void)state;
    fixture->settings.delay_notice_ms = 1;
    fixture->settings.retry_ms[0] = 100;
    fixture->report_failures = 1;
    fixture_start(fixture);
    fixture_add(fixture, "defer@here");
    assert_true(fixture_wait(fixture, two_reports));
    pthread_mutex_lock(&fixture->lock);
    for (size_t i = 0; i < fixture->result_count; i++) {
        for (size_t j = 0; j < fixture->results[i].entry_count; j++)
            marks += fixture->results[i].entries[j].state == RESULT_DELAY_TOLD;
    }
    pthread_mutex_unlock(&fixture->lock);
    assert_int_equal(marks, 1);
    fixture_destroy(fixture);
}

static void test_a_restart_does_not_repeat_it(void **state)
{
    struct fixture *fixture = fixture_create();
    const struct result_entry told = {.recipient = 0, .state = RESULT_DELAY_TOLD};
    struct buf data, record;

    (void)state;
    fixture->settings.delay_notice_ms = 1;
    fixture->queue->settings = fixture->settings;
    data = fixture_envelope("alice@contoso.test", "defer@here", clock_real_ms() - 1000);
    buf_init(&record, 4096);
    result_append(&record, &told);
    queue_recover_message(fixture->queue, 0x100, buf_str(&data), 1000);
    queue_recover_result(fixture->queue, 0x100, buf_str(&record));
    queue_recovery_done(fixture->queue);
    fixture_start(fixture);
    assert_true(fixture_wait(fixture, deferred_thrice));
    assert_int_equal(fixture->report_count, 0);
    buf_release(&data);
    buf_release(&record);
    fixture_destroy(fixture);
}

/* Who said NEVER, or FAILURE alone, or is a report himself, is not told of a delay. */
static void test_who_is_not_told_of_a_delay(void **state)
{
    static const struct {
        unsigned notify;
        const char *sender;
    } cases[] = {{ENVELOPE_NOTIFY_NEVER, "alice@contoso.test"},
                 {ENVELOPE_NOTIFY_FAILURE | ENVELOPE_NOTIFY_SUCCESS, "alice@contoso.test"},
                 {0, ""}};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct fixture *fixture = fixture_create();

        fixture->settings.delay_notice_ms = 1;
        fixture->notify = cases[i].notify;
        fixture->sender = cases[i].sender;
        fixture_start(fixture);
        fixture_add(fixture, "defer@here");
        assert_true(fixture_wait(fixture, deferred_thrice));
        assert_int_equal(fixture->report_count, 0);
        fixture_destroy(fixture);
    }
}

/* Mail for a server that is down is not tried message by message; its senders are told of the delay all the same. */
static void test_a_delay_of_what_waits_for_its_destination(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture->is_down = true;
    fixture->settings.retry_ms[0] = 3600000;
    fixture->settings.delay_notice_ms = 100;
    fixture->settings.expire_ms = 500;
    fixture_start(fixture);
    fixture_add(fixture, "ok@down");
    assert_true(fixture_wait(fixture, one_report));
    assert_int_equal(fixture->reports[0].kind, QUEUE_REPORT_DELAYED);
    assert_string_equal(fixture->reports[0].texts[0], "connection refused");
    assert_true(fixture_wait(fixture, two_reports));
    assert_int_equal(fixture->reports[1].kind, QUEUE_REPORT_FAILED);
    assert_true(fixture->reports[1].expired[0] && fixture->reports[1].last);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    fixture_destroy(fixture);
}

/* A delay is of no interest to anybody any more when the failure is there. */
static void test_a_failure_overtakes_the_delay(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture->settings.delay_notice_ms = 1;
    fixture->settings.expire_ms = 60;
    fixture->report_failures = 1;
    fixture->queue->delays.report_retry_ms = 400;
    fixture_start(fixture);
    fixture_add(fixture, "defer@here");
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(fixture->report_count, 2);
    assert_int_equal(fixture->reports[0].kind, QUEUE_REPORT_DELAYED);
    assert_int_equal(fixture->reports[1].kind, QUEUE_REPORT_FAILED);
    assert_true(fixture->reports[1].last);
    fixture_destroy(fixture);
}

/* The message that has been delivered at last is not kept by a notice of delay that could not be written. */
static void test_a_delivery_overtakes_the_delay(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture->settings.delay_notice_ms = 1;
    fixture->report_failures = 1;
    fixture->queue->delays.report_retry_ms = 3600000;
    fixture_start(fixture);
    fixture_add(fixture, "once@here");
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_true(fixture->report_count <= 1);
    fixture_destroy(fixture);
}

/* Asked for: told, and the message ends with the telling. Not asked for, or passed on: not told. */
static void test_success(void **state)
{
    static const struct {
        unsigned notify;
        enum queue_success success;
        bool is_told;
        enum queue_report_kind kind;
    } cases[] = {
        {ENVELOPE_NOTIFY_SUCCESS, QUEUE_FINAL, true, QUEUE_REPORT_DELIVERED},
        {ENVELOPE_NOTIFY_SUCCESS | ENVELOPE_NOTIFY_FAILURE, QUEUE_RELAYED, true, QUEUE_REPORT_RELAYED},
        {ENVELOPE_NOTIFY_SUCCESS, QUEUE_PASSED_ON, false, QUEUE_REPORT_DELIVERED},
        {0, QUEUE_FINAL, false, QUEUE_REPORT_DELIVERED},
        {ENVELOPE_NOTIFY_NEVER, QUEUE_FINAL, false, QUEUE_REPORT_DELIVERED},
        {ENVELOPE_NOTIFY_FAILURE | ENVELOPE_NOTIFY_DELAY, QUEUE_RELAYED, false, QUEUE_REPORT_RELAYED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fixture *fixture = fixture_create();

        fixture->notify = cases[i].notify;
        fixture->success = cases[i].success;
        fixture_start(fixture);
        fixture_add(fixture, "ok1@here ok2@here");
        assert_true(fixture_wait(fixture, is_dead_or_reported));
        assert_true(fixture_wait(fixture, fixture_all_dead));
        assert_int_equal(fixture->report_count, cases[i].is_told);
        if (cases[i].is_told) {
            assert_int_equal(fixture->reports[0].kind, QUEUE_REPORT_DELIVERED);
            assert_int_equal(fixture->reports[0].kinds[0], cases[i].kind);
            assert_int_equal(fixture->reports[0].failure_count, 2);
            assert_true(fixture->reports[0].last);
        }
        fixture_destroy(fixture);
    }
}

/* Delivered is on the disk at once, the telling later: a crash between the two neither delivers again nor forgets to tell. */
static void test_success_survives_a_restart(void **state)
{
    struct fixture *fixture = fixture_create();
    const struct result_entry untold = {
        .recipient = 0, .state = RESULT_UNTOLD, .number = QUEUE_RELAYED, .at_ms = 5, .status = STR("2.0.0")};
    struct buf data, record;

    (void)state;
    fixture->queue->settings = fixture->settings;
    data = fixture_envelope("alice@contoso.test", "ok@here", clock_real_ms());
    buf_init(&record, 4096);
    result_append(&record, &untold);
    fixture->last_id = 1;
    queue_recover_message(fixture->queue, 0x100, buf_str(&data), 1000);
    queue_recover_result(fixture->queue, 0x100, buf_str(&record));
    queue_recovery_done(fixture->queue);
    fixture_start(fixture);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(fixture->attempt_count, 0);
    assert_int_equal(fixture->report_count, 1);
    assert_int_equal(fixture->reports[0].kinds[0], QUEUE_REPORT_RELAYED);
    buf_release(&data);
    buf_release(&record);
    fixture_destroy(fixture);
}

/* Failures and successes of one message are two reports, and both are made. */
static void test_success_and_failure(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture->notify = ENVELOPE_NOTIFY_SUCCESS | ENVELOPE_NOTIFY_FAILURE;
    fixture->success = QUEUE_FINAL;
    fixture_start(fixture);
    fixture_add(fixture, "ok1@here fail1@here ok2@there fail2@there");
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(fixture->report_count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(fixture->reports[i].failure_count, 2);
        assert_int_equal(fixture->reports[i].kinds[0], fixture->reports[i].kind);
        assert_int_equal(fixture->reports[i].kinds[1], fixture->reports[i].kind);
    }
    assert_int_not_equal(fixture->reports[0].kind, fixture->reports[1].kind);
    assert_true(!fixture->reports[0].last && fixture->reports[1].last);
    fixture_destroy(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_delay_is_told_once),
        cmocka_unit_test(test_the_report_carries_the_mark),
        cmocka_unit_test(test_a_restart_does_not_repeat_it),
        cmocka_unit_test(test_who_is_not_told_of_a_delay),
        cmocka_unit_test(test_a_delay_of_what_waits_for_its_destination),
        cmocka_unit_test(test_a_failure_overtakes_the_delay),
        cmocka_unit_test(test_a_delivery_overtakes_the_delay),
        cmocka_unit_test(test_success),
        cmocka_unit_test(test_success_survives_a_restart),
        cmocka_unit_test(test_success_and_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
