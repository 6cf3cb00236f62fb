/* SPDX-License-Identifier: Apache-2.0 */
/* A heap in disorder would retry some mail hours late; a wrong interval would hammer a server or let mail lie. */
#include "queue/schedule.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* A small generator of its own, so that a failure can be repeated. */
static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static void test_heap_gives_the_earliest(void **state)
{
    enum { COUNT = 500 };
    struct schedule schedule = {0};
    struct schedule_entry entries[COUNT] = {0};
    uint64_t seed = 1, last_ms = 0;
    size_t put = 0, taken = 0;

    (void)state;
    assert_true(schedule_first_ms(&schedule) == SCHEDULE_NEVER);
    assert_null(schedule_take_due(&schedule, UINT64_MAX - 1));
    /* Put, move and remove at random; then everything that is left comes in order. */
    for (int i = 0; i < 20000; i++) {
        struct schedule_entry *entry = &entries[next_random(&seed) % COUNT];

        if (next_random(&seed) % 3 == 0)
            schedule_remove(&schedule, entry);
        else
            schedule_put(&schedule, entry, next_random(&seed) % 1000);
    }
    for (int i = 0; i < COUNT; i++)
        put += schedule_is_put(&entries[i]);
    assert_int_equal(schedule.count, put);
    for (struct schedule_entry *entry; (entry = schedule_take_due(&schedule, 999)); taken++) {
        assert_true(entry->at_ms >= last_ms);
        assert_false(schedule_is_put(entry));
        last_ms = entry->at_ms;
    }
    assert_int_equal(taken, put);
    schedule_release(&schedule);
}

static void test_nothing_before_its_time(void **state)
{
    struct schedule schedule = {0};
    struct schedule_entry entry = {0};

    (void)state;
    schedule_put(&schedule, &entry, 100);
    assert_null(schedule_take_due(&schedule, 99));
    assert_ptr_equal(schedule_take_due(&schedule, 100), &entry);
    schedule_remove(&schedule, &entry); /* safe */
    schedule_release(&schedule);
}

/* 15 m, 30 m, 60 m, then every 240 m, each within a tenth. */
static void test_retry_intervals(void **state)
{
    const struct queue_settings settings = {.retry_ms = {900000, 1800000, 3600000, 14400000}, .retry_count = 4};
    static const uint64_t expected_ms[] = {900000, 1800000, 3600000, 14400000, 14400000, 14400000};
    uint64_t seed = 2;

    (void)state;
    for (unsigned attempts = 1; attempts <= 6; attempts++) {
        uint64_t expected = expected_ms[attempts - 1], low = UINT64_MAX, high = 0;

        for (int i = 0; i < 1000; i++) {
            uint64_t wait_ms = schedule_retry_ms(&settings, attempts, next_random(&seed));

            assert_in_range(wait_ms, expected - expected / 10, expected + expected / 10);
            low = wait_ms < low ? wait_ms : low;
            high = wait_ms > high ? wait_ms : high;
        }
        /* They do spread. */
        assert_true(high - low > expected / 10);
    }
    assert_in_range(schedule_retry_ms(&settings, 0, 5), 810000, 990000);
    assert_in_range(schedule_retry_ms(&settings, UINT32_MAX, 5), 12960000, 15840000);
}

static void test_tiny_intervals(void **state)
{
    (void)state;
    assert_int_equal(schedule_vary_ms(0, 12345), 0);
    assert_int_equal(schedule_vary_ms(9, 12345), 9);
    assert_in_range(schedule_vary_ms(10, UINT64_MAX), 9, 11);
}

static void test_expiry(void **state)
{
    struct queue_settings settings = {.expire_ms = 172800000};

    (void)state;
    assert_true(schedule_expiry_at_ms(&settings, 1790000000000) == 1790172800000);
    settings.expire_ms = UINT64_MAX;
    assert_true(schedule_expiry_at_ms(&settings, 1790000000000) == INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heap_gives_the_earliest),
        cmocka_unit_test(test_nothing_before_its_time),
        cmocka_unit_test(test_retry_intervals),
        cmocka_unit_test(test_tiny_intervals),
        cmocka_unit_test(test_expiry),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
