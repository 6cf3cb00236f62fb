/* SPDX-License-Identifier: Apache-2.0 */
/* Dates stand in the banner, in Received and in reports: a wrong one makes mail look forged or late. */
#include "mail/date.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

static void assert_date(int64_t ms, const char *expected)
{
    char text[DATE_RFC5322_BYTES];
    const struct str date = date_format_rfc5322(ms, text);

    assert_int_equal(date.length, DATE_RFC5322_BYTES - 1);
    assert_string_equal(text, expected);
}

static void test_known_dates(void **state)
{
    (void)state;
    assert_date(0, "Thu, 01 Jan 1970 00:00:00 +0000");
    assert_date(999, "Thu, 01 Jan 1970 00:00:00 +0000");
    assert_date(-1, "Wed, 31 Dec 1969 23:59:59 +0000");
    assert_date(951782400000, "Tue, 29 Feb 2000 00:00:00 +0000");
    assert_date(1795255200000, "Sat, 21 Nov 2026 10:00:00 +0000");
    assert_date(4107542399999, "Sun, 28 Feb 2100 23:59:59 +0000");
    assert_date(4107542400000, "Mon, 01 Mar 2100 00:00:00 +0000"); /* no leap year */
}

/* A clock that is far off must not write outside the text. */
static void test_out_of_range_is_clamped(void **state)
{
    (void)state;
    assert_date(INT64_MIN, "Mon, 01 Jan 1900 00:00:00 +0000");
    assert_date(INT64_MAX, "Fri, 31 Dec 9999 23:59:59 +0000");
}

/* Every day of four hundred years agrees with the C library. */
static void test_agrees_with_the_library(void **state)
{
    (void)state;
    for (int64_t day = -25567; day < 146097; day++) {
        const int64_t seconds = day * 86400 + (day * 7919 % 86400 + 86400) % 86400;
        const time_t t = (time_t)seconds;
        struct tm tm;
        char expected[64];
        char text[DATE_RFC5322_BYTES];

        assert_non_null(gmtime_r(&t, &tm));
        strftime(expected, sizeof(expected), "%a, %d %b %Y %H:%M:%S +0000", &tm);
        date_format_rfc5322(seconds * 1000 + 500, text);
        assert_string_equal(text, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_dates),
        cmocka_unit_test(test_out_of_range_is_clamped),
        cmocka_unit_test(test_agrees_with_the_library),
    };

    return cmocka_run_group_tests_name("mail/date", tests, NULL, NULL);
}
