/* SPDX-License-Identifier: Apache-2.0 */
/* A disk that is full or fails for a while: results that are forgotten would be deliveries again after each restart. */
#include "fixture.h"

static void end_is_written_at_last(enum spool_status failure)
{
    struct fixture *fixture = fixture_create();

    fixture->spool_failures = 3;
    fixture->spool_failure = failure;
    fixture_start(fixture);
    fixture_add(fixture, "ok@here");
    assert_true(fixture_wait(fixture, fixture_all_dead));
    assert_int_equal(fixture->attempt_count, 1);
    assert_int_equal(fixture->dead_count, 1);
    fixture_destroy(fixture);
}

static void test_no_room(void **state)
{
    (void)state;
    end_is_written_at_last(SPOOL_FULL);
}

static void test_a_failing_disk(void **state)
{
    (void)state;
    end_is_written_at_last(SPOOL_FAILED);
}

static bool one_result(struct fixture *fixture)
{
    return fixture->result_count >= 1;
}

/* The record of a first bout was lost; meanwhile the message went on. What is written then is how it stands, not how it stood. */
static void test_a_record_is_written_as_things_stand(void **state)
{
    struct fixture *fixture = fixture_create();
    struct logged_result *result = &fixture->results[0];

    (void)state;
    fixture->settings.retry_ms[0] = 3600000;
    fixture->spool_failures = 1;
    fixture->spool_failure = SPOOL_FULL;
    fixture_start(fixture);
    fixture_add(fixture, "defer@here ok@here stuck@slow");
    assert_true(fixture_wait(fixture, one_result));
    assert_false(result->dead);
    assert_int_equal(result->entry_count, 2);
    assert_int_equal(result->entries[0].recipient, 0);
    assert_int_equal(result->entries[0].state, RESULT_WAITING);
    assert_int_equal(result->entries[0].number, 1);
    assert_in_range(result->entries[0].at_ms, clock_real_ms() + 3000000, clock_real_ms() + 4000000);
    assert_int_equal(result->entries[1].recipient, 1);
    assert_int_equal(result->entries[1].state, RESULT_DELIVERED);
    fixture_set(fixture, &fixture->released, true);
    fixture_destroy(fixture);
}

/* A record that failed must not be written after the end of its message. */
static void test_no_record_after_the_end(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture->queue->delays.write_retry_ms = 10000; /* the stop below comes first */
    fixture->spool_failures = 1;
    fixture->spool_failure = SPOOL_FAILED;
    fixture_start(fixture);
    fixture_add(fixture, "once@here");
    assert_true(fixture_wait(fixture, fixture_all_dead));
    /* It writes what had failed. */
    fixture_ask_stop(fixture);
    assert_true(fixture_wait(fixture, fixture_is_stopped));
    assert_int_equal(fixture->result_count, 1);
    fixture_destroy(fixture);
}

/* A disk that is gone for good must not keep the daemon from ending. */
static void test_stop_does_not_wait_for_a_dead_disk(void **state)
{
    struct fixture *fixture = fixture_create();

    (void)state;
    fixture->spool_failures = UINT32_MAX;
    fixture->spool_failure = SPOOL_FAILED;
    fixture_start(fixture);
    fixture_add(fixture, "ok@here");
    fixture_add(fixture, "defer@here");
    fixture_destroy(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_a_failing_disk),
        cmocka_unit_test(test_a_record_is_written_as_things_stand),
        cmocka_unit_test(test_no_record_after_the_end),
        cmocka_unit_test(test_stop_does_not_wait_for_a_dead_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
