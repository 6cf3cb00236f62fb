/* SPDX-License-Identifier: Apache-2.0 */
/* The table against relay-behaviour.md section 7: a probe that differs from its description tests something else than it reports. */
#include "relaytest/probes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* The table of the contract, row by row, variants in its order. */
static const struct {
    unsigned number;
    const char *sender, *recipient;
} contract[] = {
    {1, "<s@X>", "<u@X>"},
    {2, "<s>", "<u@X>"},
    {3, "<>", "<u@X>"},
    {4, "<s@L>", "<u@X>"},
    {5, "<s@H>", "<u@X>"},
    {6, "<s@[A]>", "<u@X>"},
    {6, "<s@A>", "<u@X>"},
    {7, "<s@localhost>", "<u@X>"},
    {7, "<s@[127.0.0.1]>", "<u@X>"},
    {8, "<s@CLIENT-HOST>", "<u@X>"},
    {9, "<s>", "<u%X>"},
    {10, "<s@L>", "<\"u@X\">"},
    {11, "<s@L>", "<\"u%X\">"},
    {12, "<s@L>", "<u%X@H>"},
    {12, "<s@L>", "<u%X@L>"},
    {13, "<s@L>", "<u%X@[A]>"},
    {14, "<s@L>", "<u@X@H>"},
    {14, "<s@L>", "<u@X@L>"},
    {15, "<s@L>", "<u@X@[A]>"},
    {16, "<s@L>", "<\"u@X\"@H>"},
    {16, "<s@L>", "<\"u@X\"@L>"},
    {17, "<s@L>", "<\"u@X\"@[A]>"},
    {18, "<s@L>", "<@H:u@X>"},
    {18, "<s@L>", "<@L:u@X>"},
    {19, "<s@L>", "<@[A]:u@X>"},
    {20, "<s@L>", "<X!u>"},
    {21, "<s@L>", "<X!u@H>"},
    {21, "<s@L>", "<X!u@L>"},
    {22, "<s@L>", "<X!u@[A]>"},
    {23, "<s@L>", "<u@X@>"},
    {24, "s@X", "u@X"},
    {25, "<H!nobody>", "<u@X>"},
    {26, "<s@[A]>", "<u@[A]>"},
};

static const struct probe_names letters = {
    .sender_local = STR_INIT("s"),
    .recipient_local = STR_INIT("u"),
    .external = STR_INIT("X"),
    .local_domain = STR_INIT("L"),
    .server_name = STR_INIT("H"),
    .server_address = STR_INIT("A"),
    .client_name = STR_INIT("CLIENT-HOST"),
};

static void check_expansion(const char *pattern, const struct probe_names *names, const char *wanted)
{
    struct buf text;

    buf_init(&text, 1000);
    probe_expand(&text, pattern, names);
    buf_append_char(&text, '\0');
    assert_string_equal(text.data, wanted);
    buf_release(&text);
}

static void the_table_is_the_contract_s(void **state)
{
    (void)state;
    assert_int_equal(probe_count, sizeof(contract) / sizeof(contract[0]));
    for (size_t i = 0; i < probe_count; i++) {
        assert_int_equal(probes[i].number, contract[i].number);
        check_expansion(probes[i].sender, &letters, contract[i].sender);
        check_expansion(probes[i].recipient, &letters, contract[i].recipient);
    }
    assert_int_equal(probes[probe_count - 1].number, PROBE_NUMBER_MAX);
}

/* A report names a row by number and letter: each must be one row. */
static void ids_are_unique_and_in_order(void **state)
{
    (void)state;
    for (size_t i = 1; i < probe_count; i++) {
        assert_true(probes[i].number >= probes[i - 1].number);
        if (probes[i].number == probes[i - 1].number)
            assert_true(probes[i - 1].letter != '\0' && probes[i].letter == probes[i - 1].letter + 1);
        else
            assert_true(probes[i].letter == '\0' || probes[i].letter == 'a');
        assert_true(probes[i].name[0] && probes[i].why[0]);
    }
}

/* A token or an IPv6 literal in the wrong form makes a probe that no server understands. */
static void names_go_where_they_belong(void **state)
{
    const struct probe_names names = {
        .sender_local = STR("relaytest-s-abc"),
        .recipient_local = STR("relaytest-u-abc"),
        .external = STR("outside.test"),
        .local_domain = STR("contoso.test"),
        .server_name = STR("mail.contoso.test"),
        .server_address = STR("IPv6:2001:db8::1"),
        .client_name = STR("client.test"),
    };

    (void)state;
    check_expansion("<\"{u}@{X}\"@[{A}]>", &names, "<\"relaytest-u-abc@outside.test\"@[IPv6:2001:db8::1]>");
    check_expansion("<{s}@{a}>", &names, "<relaytest-s-abc@2001:db8::1>");
    check_expansion("<{X}!{u}>", &names, "<outside.test!relaytest-u-abc>");
}

/* Only an external sender's report comes to the catch; the others are repeated. */
static void external_senders_are_known(void **state)
{
    (void)state;
    for (size_t i = 0; i < probe_count; i++)
        assert_int_equal(probe_has_external_sender(&probes[i]), probes[i].number == 1 || probes[i].number == 24);
}

static unsigned selected_count(const char *list)
{
    bool selected[PROBE_NUMBER_MAX + 1] = {false};
    unsigned count = 0;

    if (!probe_select(str_from_cstr(list), selected))
        return 0;
    for (unsigned i = 1; i <= PROBE_NUMBER_MAX; i++)
        count += selected[i];
    return count;
}

static void selection(void **state)
{
    static const char *const wrong[] = {"",   ",",   "3,",   ",3", "0",   "27",   "3-",
                                        "-3", "5-3", "1-27", "a",  "1 2", "1--2", "99999999999999999999"};

    (void)state;
    assert_int_equal(selected_count("3"), 1);
    assert_int_equal(selected_count("3,7-9"), 4);
    assert_int_equal(selected_count("1-26"), 26);
    assert_int_equal(selected_count("4,4,4-5"), 2);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(selected_count(wrong[i]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_the_contract_s),
        cmocka_unit_test(ids_are_unique_and_in_order),
        cmocka_unit_test(names_go_where_they_belong),
        cmocka_unit_test(external_senders_are_known),
        cmocka_unit_test(selection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
