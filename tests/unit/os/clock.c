/* SPDX-License-Identifier: Apache-2.0 */
/* Deadlines and retry times: seconds where milliseconds are meant would hold a connection for days. */
#include "os/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

static uint64_t fixed_monotonic_ms(void)
{
    return 5;
}

static int64_t fixed_real_ms(void)
{
    return -7;
}

static void test_system_clocks_are_in_milliseconds(void **state)
{
    time_t before = time(NULL);
    int64_t real_ms = clock_real_ms();
    uint64_t monotonic_ms = clock_monotonic_ms();

    (void)state;
    assert_true(real_ms / 1000 >= before - 1 && real_ms / 1000 <= time(NULL) + 1);
    assert_true(clock_monotonic_ms() >= monotonic_ms);
    assert_true(clock_monotonic_ms() - monotonic_ms < 60000);
}

static void test_replacement_and_back(void **state)
{
    static const struct clock_source fixed = {fixed_monotonic_ms, fixed_real_ms};

    (void)state;
    clock_use(&fixed);
    assert_int_equal(clock_monotonic_ms(), 5);
    assert_int_equal(clock_real_ms(), -7);
    clock_use(NULL);
    assert_true(clock_real_ms() > 1500000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_system_clocks_are_in_milliseconds),
        cmocka_unit_test(test_replacement_and_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
