/* SPDX-License-Identifier: Apache-2.0 */
/* A dead first host that is not remembered makes each message wait for it; one that is remembered too well is never used again. */
#include "delivery/reach.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define PROBE_MS 1000

static struct net_address address(unsigned number, uint16_t port)
{
    struct net_address made = {.ip = {[10] = 0xff, 0xff, 10}, .port = port};

    made.ip[13] = (unsigned char)(number >> 16);
    made.ip[14] = (unsigned char)(number >> 8);
    made.ip[15] = (unsigned char)number;
    return made;
}

static void test_rests_and_is_probed_by_one(void **state)
{
    struct reach *reach = reach_create();
    const struct net_address host = address(1, 25), other_port = address(1, 26), source = address(9, 0);

    (void)state;
    assert_true(reach_may_try(reach, &host, NULL, 0, PROBE_MS));
    assert_true(reach_may_try(reach, &host, NULL, 0, PROBE_MS));
    reach_failed(reach, &host, NULL, 5000);
    assert_false(reach_may_try(reach, &host, NULL, 4999, PROBE_MS));
    assert_true(reach_may_try(reach, &other_port, NULL, 4999, PROBE_MS));
    assert_true(reach_may_try(reach, &host, &source, 4999, PROBE_MS)); /* from there it may well be reached */
    assert_true(reach_may_try(reach, &host, NULL, 5000, PROBE_MS));
    assert_false(reach_may_try(reach, &host, NULL, 5001, PROBE_MS));           /* somebody is at it */
    assert_true(reach_may_try(reach, &host, NULL, 5000 + PROBE_MS, PROBE_MS)); /* and has never come back */
    reach_failed(reach, &host, NULL, 12000);
    assert_false(reach_may_try(reach, &host, NULL, 11999, PROBE_MS));
    reach_succeeded(reach, &host, NULL);
    assert_true(reach_may_try(reach, &host, NULL, 11999, PROBE_MS));
    reach_succeeded(reach, &host, NULL);
    reach_destroy(&reach);
    reach_destroy(&reach);
}

/* A domain with endless dead hosts fills nobody's memory. */
static void test_bound(void **state)
{
    struct reach *reach = reach_create();

    (void)state;
    for (unsigned i = 0; i < REACH_ENTRIES_MAX + 10; i++) {
        const struct net_address host = address(i, 25);

        reach_failed(reach, &host, NULL, 5000);
    }
    for (unsigned i = 0; i < REACH_ENTRIES_MAX + 10; i++) {
        const struct net_address host = address(i, 25);

        assert_int_equal(reach_may_try(reach, &host, NULL, 0, PROBE_MS), i < 10);
    }
    reach_destroy(&reach);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rests_and_is_probed_by_one), cmocka_unit_test(test_bound)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
