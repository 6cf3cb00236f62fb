/* SPDX-License-Identifier: Apache-2.0 */
/* From what was seen to the verdict: a mistake here calls a closed server open, or an open one closed. */
#include "relaytest/relaytest_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct relaytest_row rows[PROBE_ROWS_MAX];
static struct relaytest_result result;
static struct relaytest_settings settings;

static int set_up(void **state)
{
    (void)state;
    memset(rows, 0, sizeof(rows));
    memset(&result, 0, sizeof(result));
    memset(&settings, 0, sizeof(settings));
    settings.has_catch = true;
    result.rows = rows;
    return 0;
}

static struct relaytest_row *add(unsigned number, enum relaytest_verdict verdict, bool is_accepted)
{
    struct relaytest_row *row = &rows[result.row_count++];

    for (size_t i = 0; i < probe_count; i++)
        if (probes[i].number == number)
            row->probe = &probes[i];
    row->is_run = true;
    row->first.verdict = verdict;
    row->first.is_accepted = is_accepted;
    return row;
}

static struct relaytest_row *add_accepted(unsigned number)
{
    return add(number, RELAYTEST_SILENT, true);
}

static void repeat(struct relaytest_row *row, enum relaytest_verdict verdict, bool is_accepted, bool has_report)
{
    row->has_repeat = true;
    row->repeat.verdict = verdict;
    row->repeat.is_accepted = is_accepted;
    row->repeat.has_report = has_report;
}

static void check(enum relaytest_verdict verdict, int exit_code)
{
    verdict_settle(&result, &settings);
    assert_string_equal(relaytest_verdict_name(rows[0].verdict), relaytest_verdict_name(verdict));
    assert_int_equal(relaytest_exit(&result), exit_code);
}

static void check_summary(const char *wanted)
{
    struct buf text;

    buf_init(&text, 2000);
    relaytest_summarise(&result, &text);
    buf_append_char(&text, '\0');
    assert_string_equal(text.data, wanted);
    buf_release(&text);
}

static void refused(void **state)
{
    (void)state;
    add(1, RELAYTEST_REFUSED, false);
    check(RELAYTEST_REFUSED, 0);
    check_summary("1 probe: 1 refused. Nothing was relayed.");
}

static void reported(void **state)
{
    (void)state;
    repeat(add_accepted(9), RELAYTEST_SILENT, true, true);
    check(RELAYTEST_UNDELIVERABLE, 0);
    check_summary("1 probe: 1 accepted and reported undeliverable. Nothing was relayed.");
}

/* An arrival outweighs everything: a report, a refusal, a lost connection. */
static void arrival_wins(void **state)
{
    (void)state;
    add(1, RELAYTEST_REFUSED, false)->first.has_arrived = true;
    check(RELAYTEST_RELAYED, 1);
    set_up(NULL);
    repeat(add_accepted(9), RELAYTEST_SILENT, true, true);
    rows[0].first.has_arrived = true;
    check(RELAYTEST_RELAYED, 1);
    set_up(NULL);
    repeat(add_accepted(9), RELAYTEST_REFUSED, false, false);
    rows[0].repeat.has_arrived = true;
    check(RELAYTEST_RELAYED, 1);
    set_up(NULL);
    add(1, RELAYTEST_UNTESTED, false)->first.has_arrived = true;
    check(RELAYTEST_RELAYED, 1);
    check_summary("1 probe: 1 RELAYED. The server relays for strangers.");
}

/* The repetition explains nothing if it was not taken, or went as silently. */
static void silence(void **state)
{
    (void)state;
    repeat(add_accepted(9), RELAYTEST_REFUSED, false, false);
    check(RELAYTEST_SILENT, 2);
    set_up(NULL);
    repeat(add_accepted(9), RELAYTEST_SILENT, true, false);
    check(RELAYTEST_SILENT, 2);
    set_up(NULL);
    add_accepted(1);
    check(RELAYTEST_SILENT, 2);
    check_summary("1 probe: 1 accepted without a trace of what became of it. Nothing was seen to be relayed, but that "
                  "is not proven.");
}

/* A report that the way outside did not work is no reason to be at ease. */
static void attempted(void **state)
{
    struct relaytest_row *row;

    (void)state;
    row = add_accepted(1);
    row->first.has_report = true;
    row->first.report.tried_outside = true;
    check(RELAYTEST_ATTEMPTED, 2);
    set_up(NULL);
    row = add_accepted(9);
    repeat(row, RELAYTEST_SILENT, true, true);
    row->repeat.report.tried_outside = true;
    check(RELAYTEST_ATTEMPTED, 2);
}

/* A sender that was refused hides the recipient: the repetition is the test then. */
static void sender_refused(void **state)
{
    (void)state;
    repeat(add(9, RELAYTEST_REFUSED, false), RELAYTEST_SILENT, true, true);
    check(RELAYTEST_UNDELIVERABLE, 0);
    set_up(NULL);
    repeat(add(9, RELAYTEST_REFUSED, false), RELAYTEST_REFUSED, false, false);
    check(RELAYTEST_REFUSED, 0);
    set_up(NULL);
    repeat(add(9, RELAYTEST_REFUSED, false), RELAYTEST_DEFERRED, false, false);
    check(RELAYTEST_DEFERRED, 2);
}

static void passed_on(void **state)
{
    (void)state;
    repeat(add_accepted(12), RELAYTEST_SILENT, true, false);
    rows[0].first.is_passed_on = true;
    check(RELAYTEST_PASSED_ON, 2);
}

static void without_a_catch(void **state)
{
    (void)state;
    settings.has_catch = false;
    add_accepted(9);
    check(RELAYTEST_UNPROVEN, 2);
}

static void could_not_test(void **state)
{
    (void)state;
    add(1, RELAYTEST_REFUSED, false);
    add(2, RELAYTEST_UNTESTED, false);
    check(RELAYTEST_REFUSED, 3);
    check_summary("2 probes: 1 refused, 1 not tested. The test is not complete.");
    set_up(NULL);
    assert_int_equal(relaytest_exit(&result), 3); /* nothing was tested at all */
}

/* The last sentence counts probes, each with its worst variant. */
static void variants_count_once(void **state)
{
    struct relaytest_row *row;

    (void)state;
    add(12, RELAYTEST_REFUSED, false);
    row = add_accepted(12);
    repeat(row, RELAYTEST_SILENT, true, true);
    add(14, RELAYTEST_DEFERRED, false);
    add(14, RELAYTEST_REFUSED, false);
    verdict_settle(&result, &settings);
    assert_int_equal(result.probe_count, 2);
    check_summary("2 probes: 1 accepted and reported undeliverable, 1 deferred. Nothing was seen to be relayed, but "
                  "that is not proven.");
}

/* Whoever is asked for consent: an address that is public must never pass for a private one. */
static void private_addresses(void **state)
{
    static const struct {
        const char *ip;
        bool is_private;
    } cases[] = {
        {"127.0.0.1", true},    {"127.255.255.255", true}, {"10.0.0.1", true},
        {"172.16.0.1", true},   {"172.31.255.255", true},  {"192.168.1.1", true},
        {"169.254.1.1", true},  {"100.64.0.1", true},      {"::1", true},
        {"fd00::1", true},      {"fe80::1", true},         {"::ffff:10.0.0.1", true},
        {"172.15.0.1", false},  {"172.32.0.1", false},     {"11.0.0.1", false},
        {"192.169.0.1", false}, {"100.63.0.1", false},     {"100.128.0.1", false},
        {"192.0.2.1", false},   {"2001:db8::1", false},    {"::", false},
        {"fec0::1", false},     {"128.0.0.1", false},      {"::2", false},
        {"8.8.8.8", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct net_address address;

        assert_true(net_address_parse_ip(str_from_cstr(cases[i].ip), &address));
        assert_int_equal(relaytest_is_private(&address), cases[i].is_private);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(refused, set_up),
        cmocka_unit_test_setup(reported, set_up),
        cmocka_unit_test_setup(arrival_wins, set_up),
        cmocka_unit_test_setup(silence, set_up),
        cmocka_unit_test_setup(attempted, set_up),
        cmocka_unit_test_setup(sender_refused, set_up),
        cmocka_unit_test_setup(passed_on, set_up),
        cmocka_unit_test_setup(without_a_catch, set_up),
        cmocka_unit_test_setup(could_not_test, set_up),
        cmocka_unit_test_setup(variants_count_once, set_up),
        cmocka_unit_test(private_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
