/* SPDX-License-Identifier: Apache-2.0 */
/* When an LDAP server that failed is asked again. If this breaks, each question waits for a dead server, or one that comes back is never asked. */
#include "directory/ldap_health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static uint64_t ask(struct ldap_health *h, uint64_t now_ms)
{
    uint64_t generation;

    assert_true(ldap_health_may_ask(h, now_ms, &generation));
    return generation;
}

static void check_silent(struct ldap_health *h, uint64_t now_ms)
{
    uint64_t generation;

    assert_false(ldap_health_may_ask(h, now_ms, &generation));
}

static void test_pauses(void **state)
{
    struct ldap_health h = {0};
    uint64_t now_ms = 5000;
    static const uint64_t pauses_ms[] = {1000, 2000, 4000, 8000, 10000, 10000};

    (void)state;
    for (size_t i = 0; i < sizeof(pauses_ms) / sizeof(pauses_ms[0]); i++) {
        assert_true(ldap_health_failed(&h, ask(&h, now_ms), now_ms) == (i == 0)); /* news once */
        check_silent(&h, now_ms + pauses_ms[i] - 1);
        now_ms += pauses_ms[i];
    }
    assert_int_equal(h.down_since_ms, 5000);
    assert_true(ldap_health_answered(&h, ask(&h, now_ms)));
    assert_false(ldap_health_answered(&h, ask(&h, now_ms)));
    assert_true(ldap_health_failed(&h, ask(&h, now_ms), now_ms));
    check_silent(&h, now_ms + LDAP_RETRY_MS_MIN - 1); /* the pauses began anew */
}

/* A server that comes back is met by one question, not by all that wait. */
static void test_one_tries(void **state)
{
    struct ldap_health h = {0};
    uint64_t generation;

    (void)state;
    ldap_health_failed(&h, ask(&h, 0), 0);
    generation = ask(&h, LDAP_RETRY_MS_MIN);
    check_silent(&h, LDAP_RETRY_MS_MIN);
    check_silent(&h, 60000);
    ldap_health_undecided(&h, generation);
    generation = ask(&h, LDAP_RETRY_MS_MIN);
    check_silent(&h, LDAP_RETRY_MS_MIN);
    assert_true(ldap_health_answered(&h, generation));
    ask(&h, LDAP_RETRY_MS_MIN);
    ask(&h, LDAP_RETRY_MS_MIN);
}

/* Of a hundred questions that one outage broke off, the hundredth must not make the pause the longest; and one that was answered before must not
 * end it. */
static void test_late_news(void **state)
{
    struct ldap_health h = {0};
    const uint64_t first = ask(&h, 0), second = ask(&h, 0), third = ask(&h, 0);

    (void)state;
    assert_true(ldap_health_failed(&h, first, 100));
    assert_false(ldap_health_failed(&h, second, 200));
    assert_false(ldap_health_answered(&h, third));
    assert_int_equal(h.failure_count, 1);
    assert_int_equal(h.retry_at_ms, 100 + LDAP_RETRY_MS_MIN);
    check_silent(&h, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pauses), cmocka_unit_test(test_one_tries),
                                       cmocka_unit_test(test_late_news)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
