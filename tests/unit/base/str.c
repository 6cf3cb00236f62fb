/* SPDX-License-Identifier: Apache-2.0 */
/* Views are what all text from the network is carried by: a slip here is a slip in every parser. */
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_str(struct str actual, const char *expected)
{
    assert_int_equal(actual.length, strlen(expected));
    if (actual.length > 0)
        assert_memory_equal(actual.data, expected, actual.length);
}

/* A view with data NULL is what an absent optional value is; every function must take it. */
static void test_empty_views_are_taken(void **state)
{
    struct str none = {NULL, 0};
    struct str rest = none;
    uint64_t value;

    (void)state;
    assert_true(str_equal(none, STR("")));
    assert_true(str_equal_nocase(none, STR("")));
    assert_true(str_starts_with(none, none));
    assert_true(str_ends_with(none, none));
    assert_false(str_starts_with(none, STR("a")));
    assert_str(str_trim(none), "");
    assert_str(str_skip(none, 3), "");
    assert_str(str_take(none, 3), "");
    assert_true(str_find(none, 'a') == STR_NONE);
    assert_true(str_find_last(none, 'a') == STR_NONE);
    assert_str(str_split(&rest, ','), "");
    assert_null(rest.data);
    assert_false(str_to_u64(none, &value));
    assert_int_equal(str_compare(none, STR("")), 0);
    assert_str(str_from_cstr(NULL), "");
}

/* A NUL from a client must not end a comparison: "alice\0evil" is not "alice". */
static void test_nul_is_an_ordinary_byte(void **state)
{
    (void)state;
    assert_false(str_equal(STR("alice\0x"), STR("alice\0y")));
    assert_false(str_equal_nocase(STR("a\0b"), STR("a\0c")));
    assert_int_equal(str_find(STR("a\0b"), 'b'), 2);
}

/* Only ASCII letters fold: folding bytes of UTF-8, or in a Turkish locale the I, would make two mailboxes one. */
static void test_case_folding_is_ascii(void **state)
{
    (void)state;
    assert_true(str_equal_nocase(STR("Contoso.TEST"), STR("cONTOSO.test")));
    assert_false(str_equal_nocase(STR("\xc3\x84"), STR("\xc3\xa4")));
    assert_false(str_equal_nocase(STR("@"), STR("`")));
    assert_false(str_equal_nocase(STR("["), STR("{")));
    assert_true(str_starts_with_nocase(STR("MAIL FROM:<a>"), STR("mail from:")));
    assert_false(str_starts_with_nocase(STR("MAIL"), STR("mail from:")));
}

static void test_prefix_suffix_and_trim(void **state)
{
    (void)state;
    assert_true(str_starts_with(STR("abc"), STR("ab")));
    assert_false(str_starts_with(STR("abc"), STR("aB")));
    assert_true(str_ends_with(STR("a.contoso.test"), STR(".contoso.test")));
    assert_false(str_ends_with(STR("test"), STR("contoso.test")));
    assert_str(str_trim(STR(" \t a b \r\n")), "a b");
    assert_str(str_trim(STR(" \r\n\t")), "");
}

static void test_find(void **state)
{
    (void)state;
    assert_int_equal(str_find(STR("a@b@c"), '@'), 1);
    assert_int_equal(str_find_last(STR("a@b@c"), '@'), 3);
    assert_true(str_find(STR("abc"), '@') == STR_NONE);
    assert_true(str_find_last(STR("abc"), '@') == STR_NONE);
}

/* "a,,b," has four parts: who loses the empty ones takes "alice@" for "alice". */
static void test_split_tells_an_empty_last_part_from_the_end(void **state)
{
    struct str rest = STR("a,,b,");

    (void)state;
    assert_str(str_split(&rest, ','), "a");
    assert_str(str_split(&rest, ','), "");
    assert_str(str_split(&rest, ','), "b");
    assert_non_null(rest.data);
    assert_str(str_split(&rest, ','), "");
    assert_null(rest.data);
}

/* SIZE= and BDAT lengths come through here; a wrapped number would pass the limit on message size. */
static void test_numbers(void **state)
{
    uint64_t value = 7;

    (void)state;
    assert_true(str_to_u64(STR("0"), &value));
    assert_int_equal(value, 0);
    assert_true(str_to_u64(STR("0018446744073709551615"), &value));
    assert_true(value == UINT64_MAX);
    assert_false(str_to_u64(STR("18446744073709551616"), &value));
    assert_false(str_to_u64(STR("184467440737095516150"), &value));
    assert_false(str_to_u64(STR("-1"), &value));
    assert_false(str_to_u64(STR("+1"), &value));
    assert_false(str_to_u64(STR(" 1"), &value));
    assert_false(str_to_u64(STR("1\0"), &value));
    assert_false(str_to_u64(STR("0x10"), &value));
}

static void test_order(void **state)
{
    (void)state;
    assert_true(str_compare(STR("a"), STR("b")) < 0);
    assert_true(str_compare(STR("ab"), STR("a")) > 0);
    assert_true(str_compare(STR("a"), STR("ab")) < 0);
    assert_true(str_compare(STR("\xff"), STR("a")) > 0);
    assert_int_equal(str_compare(STR("ab"), STR("ab")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_views_are_taken),
        cmocka_unit_test(test_nul_is_an_ordinary_byte),
        cmocka_unit_test(test_case_folding_is_ascii),
        cmocka_unit_test(test_prefix_suffix_and_trim),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_split_tells_an_empty_last_part_from_the_end),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
