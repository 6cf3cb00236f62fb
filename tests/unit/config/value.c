/* SPDX-License-Identifier: Apache-2.0 */
/* The scalars. A duration read as another is a queue that expires in minutes, or a server that waits for days. */
#include "config/value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static uint64_t duration(const char *text)
{
    uint64_t value;
    struct error error;

    return value_duration(str_from_cstr(text), &value, &error) == 0 ? value : UINT64_MAX;
}

static uint64_t size(const char *text)
{
    uint64_t value;
    struct error error;

    return value_size(str_from_cstr(text), &value, &error) == 0 ? value : UINT64_MAX;
}

static void test_durations(void **state)
{
    static const char *const wrong[] = {
        "", "5", "s", "5 s", "5S", "-5s", "5sec", "1h30m", "1.5h", "99999999999999999999s", "213503982335d"};

    (void)state;
    assert_int_equal(duration("0s"), 0);
    assert_int_equal(duration("500ms"), 500);
    assert_int_equal(duration("90s"), 90000);
    assert_int_equal(duration("15m"), 900000);
    assert_int_equal(duration("4h"), 14400000);
    assert_int_equal(duration("2d"), 172800000);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(duration(wrong[i]), UINT64_MAX);
}

static void test_sizes(void **state)
{
    static const char *const wrong[] = {
        "", "KiB", "36MB", "36 MiB", "36mib", "-1", "0x10", "18446744073709551616", "17179869184GiB"};

    (void)state;
    assert_int_equal(size("1000"), 1000);
    assert_int_equal(size("64KiB"), 65536);
    assert_int_equal(size("36MiB"), 37748736);
    assert_int_equal(size("2GiB"), 2147483648u);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(size(wrong[i]), UINT64_MAX);
}

/* Only true and false: a YAML 1.1 reader would take "no" and "off" as well, and another would not. */
static void test_booleans(void **state)
{
    static const char *const wrong[] = {"", "yes", "no", "on", "off", "True", "FALSE", "1", "0", "true "};
    bool value;
    struct error error;

    (void)state;
    assert_int_equal(value_bool(STR("true"), &value, &error), 0);
    assert_true(value);
    assert_int_equal(value_bool(STR("false"), &value, &error), 0);
    assert_false(value);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(value_bool(str_from_cstr(wrong[i]), &value, &error), -1);
}

static void test_rates(void **state)
{
    static const char *const wrong[] = {"", "60", "60/", "/m", "0/m", "60/ms", "60/min", "60 / m", "-1/s"};
    struct config_rate rate;
    struct error error;

    (void)state;
    assert_int_equal(value_rate(STR("60/m"), &rate, &error), 0);
    assert_int_equal(rate.count, 60);
    assert_int_equal(rate.period_ms, 60000);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(value_rate(str_from_cstr(wrong[i]), &rate, &error), -1);
}

static void test_listen(void **state)
{
    static const char *const wrong[] = {"",
                                        "25",
                                        ":25",
                                        "127.0.0.1",
                                        "127.0.0.1:",
                                        "127.0.0.1:65536",
                                        "127.0.0.1:-1",
                                        "localhost:25",
                                        "::1:25",
                                        "[::1]",
                                        "[::1]25",
                                        "[127.0.0.1]:25",
                                        "[::1:25",
                                        "*:25"};
    struct config_listen listen;
    struct error error;

    (void)state;
    assert_int_equal(value_listen(STR("127.0.0.1:0"), &listen, &error), 0);
    assert_true(listen.is_ipv4);
    assert_int_equal(listen.port, 0);
    assert_int_equal(value_listen(STR("[::]:65535"), &listen, &error), 0);
    assert_false(listen.is_ipv4);
    assert_int_equal(listen.port, 65535);
    assert_true(cidr_is_unspecified(&listen.address));
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(value_listen(str_from_cstr(wrong[i]), &listen, &error), -1);
}

static void check_host(const char *text, const char *host, bool is_address, bool skip_mx, unsigned port)
{
    struct config_smart_host found;
    struct error error;

    if (value_smart_host(str_from_cstr(text), &found, &error) != 0)
        fail_msg("%s: %s", text, error.text);
    assert_true(str_equal(found.host, str_from_cstr(host)));
    assert_int_equal(found.is_address, is_address);
    assert_int_equal(found.skip_mx, skip_mx);
    assert_int_equal(found.port, port);
}

/* Where a company's whole mail goes. */
static void test_smart_hosts(void **state)
{
    static const char *const wrong[] = {"",      ":25",      "host:", "host:0", "host:65536", "host:smtp",
                                        "[host", "[host]25", "ho st", "-host",  "10.0.0.256", "10.0.0.1:25:25",
                                        "[]:25", "host/25"};
    struct config_smart_host found;
    struct error error;

    (void)state;
    check_host("10.0.0.9:2525", "10.0.0.9", true, true, 2525);
    check_host("10.0.0.9", "10.0.0.9", true, true, 25);
    check_host("[10.0.0.9]:26", "10.0.0.9", true, true, 26);
    check_host("[2001:db8::9]:26", "2001:db8::9", true, true, 26);
    check_host("[IPv6:2001:db8::9]", "2001:db8::9", true, true, 25);
    check_host("2001:db8::9", "2001:db8::9", true, true, 25);
    check_host("backup.fabrikam.test", "backup.fabrikam.test", false, false, 25);
    check_host("backup.fabrikam.test:587", "backup.fabrikam.test", false, false, 587);
    check_host("[backup.fabrikam.test]:587", "backup.fabrikam.test", false, true, 587);
    check_host("localhost:2526", "localhost", false, false, 2526);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        if (value_smart_host(str_from_cstr(wrong[i]), &found, &error) == 0)
            fail_msg("\"%s\" was taken", wrong[i]);
}

static void test_formats(void **state)
{
    char text[32];

    (void)state;
    value_format_duration(90000, text);
    assert_string_equal(text, "90s");
    value_format_duration(172800000, text);
    assert_string_equal(text, "2d");
    value_format_duration(0, text);
    assert_string_equal(text, "0s");
    value_format_size(37748736, text);
    assert_string_equal(text, "36MiB");
    value_format_size(1000, text);
    assert_string_equal(text, "1000");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations), cmocka_unit_test(test_sizes),  cmocka_unit_test(test_booleans),
        cmocka_unit_test(test_rates),     cmocka_unit_test(test_listen), cmocka_unit_test(test_smart_hosts),
        cmocka_unit_test(test_formats),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
