/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose addresses a From field shows. If one were overlooked, or read otherwise than the recipient's program reads it, a user could send under another's name on a
 * server whose administrator has forbidden it (sender-match: envelope-and-header).
 */
#include "mail/mailboxes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define ENTRIES_MAX 8

struct found {
    size_t count;
    bool is_valid[ENTRIES_MAX];
    char text[ENTRIES_MAX][ADDRESS_TEXT_OCTETS_MAX + 1];
};

static struct found find(const char *field)
{
    struct str rest = str_from_cstr(field);
    struct found found = {0};
    struct mailbox mailbox;

    while (mailboxes_next(&rest, &mailbox)) {
        struct str text = mailbox.is_valid ? address_text(&mailbox.address) : mailbox.text;

        assert_in_range(found.count, 0, ENTRIES_MAX - 1);
        found.is_valid[found.count] = mailbox.is_valid;
        snprintf(found.text[found.count++], sizeof(found.text[0]), "%.*s", STR_ARG(text));
    }
    assert_int_equal(rest.length, 0);
    return found;
}

static void expect_one(const char *field, const char *address)
{
    struct found found = find(field);

    assert_int_equal(found.count, 1);
    assert_true(found.is_valid[0]);
    assert_string_equal(found.text[0], address);
}

static void expect_bad(const char *field)
{
    struct found found = find(field);
    bool has_bad = false;

    for (size_t i = 0; i < found.count; i++)
        has_bad = has_bad || !found.is_valid[i];
    if (!has_bad)
        fail_msg("%s is read as if nothing was wrong with it", field);
}

static void test_every_common_form_is_read(void **state)
{
    (void)state;
    expect_one("alice@contoso.test", "alice@contoso.test");
    expect_one(" <alice@contoso.test> ", "alice@contoso.test");
    expect_one("Alice Smith <alice@contoso.test>", "alice@contoso.test");
    expect_one("\"Smith, Alice\" <alice@contoso.test>", "alice@contoso.test");
    expect_one("alice@contoso.test (Alice (home))", "alice@contoso.test");
    expect_one("Alice =?utf-8?q?=40?= <alice@contoso.test>", "alice@contoso.test");
    expect_one("Alice\r\n <alice@contoso.test>", "alice@contoso.test");
    expect_one("alice . smith @ contoso.test", "alice.smith@contoso.test");
    expect_one("<@a.test,@b.test:alice@contoso.test>", "alice@contoso.test");
    expect_one("\"a b\"@contoso.test", "\"a b\"@contoso.test");
    expect_one("\"boss@contoso.test\" <alice@contoso.test>", "alice@contoso.test");
    expect_one("Staff: alice@contoso.test;", "alice@contoso.test");
}

/* The second of two authors is shown to people as well. */
static void test_all_of_a_list_are_told(void **state)
{
    struct found found = find("Alice <alice@contoso.test>, bob@contoso.test,, Team: carol@contoso.test, "
                              "Dave <dave@contoso.test>;");

    (void)state;
    assert_int_equal(found.count, 4);
    assert_string_equal(found.text[0], "alice@contoso.test");
    assert_string_equal(found.text[1], "bob@contoso.test");
    assert_string_equal(found.text[2], "carol@contoso.test");
    assert_string_equal(found.text[3], "dave@contoso.test");
}

static void test_nobody_is_nobody(void **state)
{
    (void)state;
    assert_int_equal(find("").count, 0);
    assert_int_equal(find("undisclosed-recipients:;").count, 0);
    assert_int_equal(find(" (nobody) ").count, 0);
}

/* What programs read in different ways is not one of the user's addresses. */
static void test_what_is_ambiguous_is_bad(void **state)
{
    char deep[4096];

    (void)state;
    expect_bad("<boss@contoso.test> <alice@contoso.test>");
    expect_bad("alice@contoso.test <");
    expect_bad("<alice@contoso.test");
    expect_bad("alice@contoso.test>");
    expect_bad("<alice@contoso.test> boss@contoso.test");
    expect_bad("\"alice@contoso.test");
    expect_bad("(alice@contoso.test");
    expect_bad("Boss");
    expect_bad("<>");
    expect_bad("boss@contoso.test\\ alice@contoso.test");
    expect_bad("a: b: alice@contoso.test;");
    memset(deep, '(', sizeof(deep) - 1);
    deep[sizeof(deep) - 1] = '\0';
    expect_bad(deep);
    memset(deep, 'a', sizeof(deep) - 1);
    expect_bad(deep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_common_form_is_read),
        cmocka_unit_test(test_all_of_a_list_are_told),
        cmocka_unit_test(test_nobody_is_nobody),
        cmocka_unit_test(test_what_is_ambiguous_is_bad),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
