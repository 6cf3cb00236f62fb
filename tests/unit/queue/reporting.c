/* SPDX-License-Identifier: Apache-2.0 */
/* Reports: one for all that failed together, none lost, none twice. A sender who is told nothing believes that the mail arrived. */
#include "fixture.h"

static bool one_report(struct fixture *fixture)
{
    return fixture->report_count >= 1;
}

static bool two_reports(struct fixture *fixture)
{
    return fixture->report_count >= 2;
}

/* N bad recipients make one report, not N, though they fail in several places at different times. */
static void test_one_report_for_all(void **state)
{
    struct fixture *fixture = fixture_create();
    const struct logged_report *report = &fixture->reports[0];
    unsigned seen = 0;

    (void)state;
    fixture_start(fixture);
    fixture_add(fixture, "fail0@here fail1@here fail2@there x@nowhere ok@here fail5@elsewhere");
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(fixture->report_count, 1);
    assert_true(report->last);
    assert_int_equal(report->failure_count, 5);
    for (size_t i = 0; i < 5; i++) {
        seen |= 1u << report->recipients[i];
        assert_string_equal(report->statuses[i], report->recipients[i] == 3 ? "5.1.2" : "5.1.1");
        assert_false(report->expired[i]);
    }
    assert_int_equal(seen, 0x2f);
    fixture_destroy(fixture);
}

/* The report's frame carries the end of the message: nothing else is written of it. */
static void test_the_report_ends_the_message(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture_start(fixture);
    fixture_add(fixture, "fail@here");
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(fixture->result_count, 1);
    assert_true(fixture->results[0].dead);
    assert_int_equal(fixture->results[0].entry_count, 1);
    assert_int_equal(fixture->results[0].entries[0].state, RESULT_REPORTED);
    assert_string_equal(fixture->reports[0].texts[0], "fail@here is unknown");
    fixture_destroy(fixture);
}

/* A recipient that waits for its second attempt holds up no report; one that has not had its first does, for some seconds. */
static void test_the_first_attempts_are_waited_for(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture->settings.retry_ms[0] = 3600000;
    fixture_start(fixture);
    fixture_add(fixture, "fail@here stuck@slow defer@there");
    fixture_add(fixture, "fail@here defer@there");
    assert_true(fixture_wait(fixture, one_report));
    assert_int_equal(fixture->reports[0].id, 0x200);
    assert_false(fixture->reports[0].last);
    fixture_set(fixture, &fixture->released, true);
    assert_true(fixture_wait(fixture, two_reports));
    assert_int_equal(fixture->reports[1].id, 0x100);
    fixture_destroy(fixture);
}

static void test_the_gathering_ends(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture->settings.report_gather_ms = 300;
    fixture_start(fixture);
    fixture_add(fixture, "fail0@here stuck@slow fail2@there");
    assert_true(fixture_wait(fixture, one_report));
    assert_false(fixture->reports[0].last);
    assert_int_equal(fixture->reports[0].failure_count, 2);
    fixture_set(fixture, &fixture->released, true);
    /* Delivered at last: the end of the message is a record of its own. */
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(fixture->report_count, 1);
    fixture_destroy(fixture);
}

/* What fails later is reported again, and not what was reported before. */
static void test_later_failures_are_another_report(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture->settings.expire_ms = 300;
    fixture_start(fixture);
    fixture_add(fixture, "fail0@here defer@there");
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(fixture->report_count, 2);
    assert_false(fixture->reports[0].last);
    assert_int_equal(fixture->reports[0].recipients[0], 0);
    assert_true(fixture->reports[1].last && fixture->reports[1].expired[0]);
    assert_int_equal(fixture->reports[1].failure_count, 1);
    assert_int_equal(fixture->reports[1].recipients[0], 1);
    fixture_destroy(fixture);
}

/* No room for the report: the message stays, and it is made again. */
static void test_a_report_that_was_not_written(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture->report_failures = 2;
    fixture_start(fixture);
    fixture_add(fixture, "fail@here");
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(fixture->report_count, 3);
    assert_int_equal(fixture->result_count, 1);
    fixture_destroy(fixture);
}

#define REPORTS_MAX 3

/* Reports that nobody finishes, for a while. */
static struct {
    struct queue_report *reports[REPORTS_MAX + 1];
    size_t count;
} unfinished;

static void keep_report(void *context, struct queue_report *report)
{
    struct fixture *fixture = context;

    pthread_mutex_lock(&fixture->lock);
    if (unfinished.count <= REPORTS_MAX)
        unfinished.reports[unfinished.count++] = report;
    fixture->report_count++;
    pthread_cond_broadcast(&fixture->changed);
    pthread_mutex_unlock(&fixture->lock);
}

static bool has_one_unfinished(struct fixture *fixture)
{
    (void)fixture;
    return unfinished.count >= 1;
}

static bool has_all_failed(struct fixture *fixture)
{
    return fixture->event_count >= fixture->last_id;
}

/* A hundred thousand failures at once must not be a hundred thousand reports in memory. */
static void test_reports_under_way_are_bounded(void **state)
{
    enum { COUNT = 20 };
    struct fixture *fixture = fixture_create();

    (void)state;
    unfinished.count = 0;
    fixture->queue->hooks.report = keep_report;
    fixture->queue->reports_max = REPORTS_MAX;
    fixture_start(fixture);
    for (int i = 0; i < COUNT; i++)
        fixture_add(fixture, "fail@here");
    assert_true(fixture_wait(fixture, has_all_failed));
    for (int i = 0; i < COUNT; i++) {
        struct queue_report *report;

        assert_true(fixture_wait(fixture, has_one_unfinished));
        pthread_mutex_lock(&fixture->lock);
        assert_true(unfinished.count <= REPORTS_MAX);
        report = unfinished.reports[--unfinished.count];
        pthread_mutex_unlock(&fixture->lock);
        queue_reported(report, true);
    }
    fixture_ask_stop(fixture);
    assert_true(fixture_wait(fixture, fixture_is_stopped));
    assert_int_equal(fixture->report_count, COUNT);
    fixture_destroy(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_report_for_all),
        cmocka_unit_test(test_the_report_ends_the_message),
        cmocka_unit_test(test_the_first_attempts_are_waited_for),
        cmocka_unit_test(test_the_gathering_ends),
        cmocka_unit_test(test_later_failures_are_another_report),
        cmocka_unit_test(test_a_report_that_was_not_written),
        cmocka_unit_test(test_reports_under_way_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
