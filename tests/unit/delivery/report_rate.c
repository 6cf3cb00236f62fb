/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The brake on reports: without it a flood with forged senders turns the relay into somebody else's flood; too strong,
 * and senders are not told of their failures.
 */
#include "delivery/report_rate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MINUTE_MS 60000u

static const struct config_ndr both = {.rate = {600, MINUTE_MS}, .rate_per_domain = {60, MINUTE_MS}};

static unsigned take_many(struct report_rate *rate, const struct config_ndr *limits, const char *domain,
                          uint64_t now_ms, unsigned wanted)
{
    uint64_t retry_at_ms;
    unsigned taken = 0;

    while (taken < wanted && report_rate_take(rate, limits, str_from_cstr(domain), now_ms, &retry_at_ms))
        taken++;
    return taken;
}

/* A burst of a minute's worth, then one a second, for each domain on its own. */
static void test_limits_each_domain(void **state)
{
    struct report_rate *rate = report_rate_create();
    uint64_t retry_at_ms = 0;

    (void)state;
    assert_int_equal(take_many(rate, &both, "a.test", 5000, 100), 60);
    assert_int_equal(take_many(rate, &both, "b.test", 5000, 100), 60);
    assert_false(report_rate_take(rate, &both, STR("a.test"), 5000, &retry_at_ms));
    assert_int_equal(retry_at_ms, 6000);
    assert_false(report_rate_take(rate, &both, STR("a.test"), 5999, &retry_at_ms));
    assert_int_equal(retry_at_ms, 6000);
    assert_true(report_rate_take(rate, &both, STR("a.test"), 6000, &retry_at_ms));
    assert_false(report_rate_take(rate, &both, STR("a.test"), 6000, &retry_at_ms));
    assert_int_equal(take_many(rate, &both, "a.test", 6000 + 10 * MINUTE_MS, 100), 60);
    report_rate_destroy(&rate);
}

/* Many domains together are limited too; what one domain may not take is not charged to all. */
static void test_limits_all(void **state)
{
    struct report_rate *rate = report_rate_create();
    unsigned taken = 0;
    char name[16];

    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "d%u.test", i);
        taken += take_many(rate, &both, name, 1000, 10);
    }
    assert_int_equal(taken, 600);
    assert_int_equal(take_many(rate, &both, "late.test", 1000 + 1000, 100), 10);
    report_rate_destroy(&rate);
}

static void test_no_limits(void **state)
{
    const struct config_ndr none = {0};
    struct report_rate *rate = report_rate_create();

    (void)state;
    assert_int_equal(take_many(rate, &none, "a.test", 1, 100000), 100000);
    report_rate_destroy(&rate);
}

/* A reload with a lower rate: nobody waits for more than the new period, once the old debt is paid at the new rate. */
static void test_changed_limits(void **state)
{
    const struct config_ndr slow = {.rate_per_domain = {1, MINUTE_MS}};
    struct report_rate *rate = report_rate_create();
    uint64_t retry_at_ms = 0;

    (void)state;
    assert_int_equal(take_many(rate, &both, "a.test", 1000, 2), 2);
    assert_false(report_rate_take(rate, &slow, STR("a.test"), 1000, &retry_at_ms));
    assert_true(retry_at_ms > 1000 && retry_at_ms <= 1000 + 2 * MINUTE_MS);
    assert_true(report_rate_take(rate, &slow, STR("a.test"), retry_at_ms, &retry_at_ms));
    report_rate_destroy(&rate);
}

/* Any number of domains: memory stays bounded, and those that are new are served. */
static void test_many_domains(void **state)
{
    const struct config_ndr limits = {.rate_per_domain = {2, MINUTE_MS}};
    struct report_rate *rate = report_rate_create();
    char name[32];

    (void)state;
    for (unsigned i = 0; i < 3 * REPORT_RATE_DOMAINS_MAX; i++) {
        snprintf(name, sizeof(name), "d%u.test", i);
        assert_int_equal(take_many(rate, &limits, name, i, 3), 2);
    }
    assert_int_equal(take_many(rate, &limits, name, 3 * REPORT_RATE_DOMAINS_MAX, 3), 0);
    report_rate_destroy(&rate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits_each_domain), cmocka_unit_test(test_limits_all),
        cmocka_unit_test(test_no_limits),          cmocka_unit_test(test_changed_limits),
        cmocka_unit_test(test_many_domains),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
