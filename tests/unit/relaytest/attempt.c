/* SPDX-License-Identifier: Apache-2.0 */
/* What a deferring server asks for: read too long, the retry never comes; read too short, it is deferred again and the probe stays untested. */
#include "relaytest/relaytest_private.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void hints(void **state)
{
    static const struct {
        const char *reply;
        uint64_t ms;
    } cases[] = {
        {"450 4.2.0 Greylisted, try again in 300 seconds", 300000},
        {"450 4.7.1 Please try again in 5 minutes", 300000},
        {"451 4.7.1 Greylisting in action, please come back in 00:04:59", 299000},
        {"450 4.2.0 <u@x.test>: Greylisted for 60s", 60000},
        {"450 try again in 1 minute(s)", 60000},
        {"450 retry-after 90 sec.", 90000},
        {"451 4.3.0 Temporary failure", 0},
        {"450 4.7.25 host 192.0.2.1 not found", 0},
        {"421 4.7.0 10 mails sent already", 0},
        {"450 4.2.0 try again in 99999999999 seconds", 0},
        {"450", 0},
        {"", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(attempt_hinted_ms(str_from_cstr(cases[i].reply)), cases[i].ms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(hints)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
