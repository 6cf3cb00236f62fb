/* SPDX-License-Identifier: Apache-2.0 */
/* Relay is granted by domain: two spellings of one name that compare unequal, or two names that compare equal, open or close a relay. */
#include "mail/domain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define LABEL_63 "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0"

static void assert_normal(const char *domain, const char *expected)
{
    char normal[DOMAIN_TEXT_BYTES];
    const size_t length = domain_normalize(str_from_cstr(domain), normal);

    assert_int_equal(length, strlen(expected));
    if (length > 0)
        assert_string_equal(normal, expected);
}

/* Case, the root's dot and U-labels are spellings of the same name. */
static void test_spellings_of_one_name(void **state)
{
    (void)state;
    assert_normal("Contoso.TEST", "contoso.test");
    assert_normal("contoso.test.", "contoso.test");
    assert_normal("M\xc3\x9cNCHEN.example", "xn--mnchen-3ya.example");
    assert_normal("mu\xcc\x88nchen.example", "xn--mnchen-3ya.example"); /* decomposed */
    assert_normal("XN--MNCHEN-3YA.example", "xn--mnchen-3ya.example");
    assert_normal("m\xc3\xbcnchen\xe3\x80\x82"
                  "example",
                  "xn--mnchen-3ya.example"); /* the ideographic full stop */
    assert_normal("stra\xc3\x9f"
                  "e.example",
                  "xn--strae-oqa.example"); /* non-transitional: not strasse */
    assert_normal("localhost", "localhost");
    assert_normal("_dmarc.a_b.example", "_dmarc.a_b.example");
    assert_normal("1.2.3.example", "1.2.3.example");
    assert_normal("3com.4you", "3com.4you");
}

/* Names that cannot be in the DNS would be carried in the queue for days. */
static void test_malformed_names(void **state)
{
    static const char *const names[] = {
        "",           ".",          "..",          ".a",    "a..b", "a.b..",
        "-a.example", "a-.example", "a.-b",        "a b",   "a@b",  "a,b",
        "a/b",        "a:b",        "[192.0.2.1]", "a\xff", "\xc3", "\xef\xbc\xa0.example" /* a full-width @ */,
        "a\x7f.b",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_normal(names[i], "");
    char normal[DOMAIN_TEXT_BYTES];

    assert_int_equal(domain_normalize(STR("a\0b"), normal), 0);
    assert_int_equal(domain_normalize(STR("\xc3\xbc\0b"), normal), 0);
    assert_int_equal(domain_normalize((struct str){0}, normal), 0);
}

/* The system's resolver takes these for addresses: mail for a "domain" would go to 127.0.0.1, past every rule about it. */
static void test_numbers_are_no_names(void **state)
{
    static const char *const names[] = {
        "127.0.0.1",  "127.1",
        "2130706433", "0x7f000001",
        "a.0X7F",     "1.2.3.4.5",
        "300.1.1.1",  "010.1.1.1",
        "a.1",        "\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1" /* full-width digits */};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_normal(names[i], "");
}

/* At the DNS's limits and one over. */
static void test_lengths(void **state)
{
    const char *longest = LABEL_63 "." LABEL_63 "." LABEL_63 "."
                                   "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxy";
    char text[DOMAIN_INPUT_OCTETS_MAX + 2];

    (void)state;
    assert_int_equal(strlen(longest), DOMAIN_OCTETS_MAX);
    assert_normal(longest, longest);
    snprintf(text, sizeof(text), "%s.", longest);
    assert_normal(text, longest);
    snprintf(text, sizeof(text), "%sz", longest);
    assert_normal(text, "");
    assert_normal(LABEL_63 ".example", LABEL_63 ".example");
    assert_normal(LABEL_63 "0.example", "");
    memset(text, 'a', sizeof(text));
    text[0] = '\xc3';
    text[1] = '\xbc';
    text[sizeof(text) - 1] = '\0';
    assert_normal(text, "");
}

/* "*.x" that took x itself, or notx, would take mail for somebody else's domain. */
static void test_matching(void **state)
{
    (void)state;
    assert_true(domain_matches(STR("a.x.test"), STR("*.x.test")));
    assert_true(domain_matches(STR("a.b.x.test"), STR("*.x.test")));
    assert_false(domain_matches(STR("x.test"), STR("*.x.test")));
    assert_false(domain_matches(STR("notx.test"), STR("*.x.test")));
    assert_false(domain_matches(STR(".x.test"), STR("*.x.test")));
    assert_false(domain_matches(STR("x.test.evil"), STR("*.x.test")));
    assert_true(domain_matches(STR("x.test"), STR("x.test")));
    assert_false(domain_matches(STR("a.x.test"), STR("x.test")));
    assert_false(domain_matches(STR(""), STR("*.x.test")));
    assert_true(domain_is_below(STR("test"), STR("")));
    assert_false(domain_is_below(STR(""), STR("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spellings_of_one_name),
        cmocka_unit_test(test_malformed_names),
        cmocka_unit_test(test_numbers_are_no_names),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_matching),
    };

    return cmocka_run_group_tests_name("mail/domain", tests, NULL, NULL);
}
