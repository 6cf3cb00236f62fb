/* SPDX-License-Identifier: Apache-2.0 */
/* What remote servers and clients say ends up in reports, logs and terminals: this is what keeps it harmless. */
#include "mail/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Malformed UTF-8 that one reader takes for "/" or "@" and another does not is a way around rules. */
static void test_utf8_length(void **state)
{
    (void)state;
    assert_int_equal(text_utf8_length(STR("")), 0);
    assert_int_equal(text_utf8_length(STR("a")), 1);
    assert_int_equal(text_utf8_length(STR("\0")), 1);
    assert_int_equal(text_utf8_length(STR("\xc3\xbc")), 2);
    assert_int_equal(text_utf8_length(STR("\xe2\x82\xac")), 3);
    assert_int_equal(text_utf8_length(STR("\xf0\x9f\x93\xa7")), 4);
    assert_int_equal(text_utf8_length(STR("\xf4\x8f\xbf\xbf")), 4);
    assert_int_equal(text_utf8_length(STR("\xc0\x80")), 0); /* overlong */
    assert_int_equal(text_utf8_length(STR("\xe0\x80\xaf")), 0);
    assert_int_equal(text_utf8_length(STR("\xf0\x80\x80\xaf")), 0);
    assert_int_equal(text_utf8_length(STR("\xed\xa0\x80")), 0);     /* a surrogate */
    assert_int_equal(text_utf8_length(STR("\xf4\x90\x80\x80")), 0); /* past the end of Unicode */
    assert_int_equal(text_utf8_length(STR("\x80")), 0);
    assert_int_equal(text_utf8_length(STR("\xc3")), 0);
    assert_int_equal(text_utf8_length(STR("\xe2\x82")), 0);
    assert_int_equal(text_utf8_length(STR("\xc3(")), 0);
    assert_int_equal(text_utf8_length(STR("\xc2\x85")), 0); /* NEL, a C1 control */
    assert_int_equal(text_utf8_length(STR("\xc2\xa0")), 2);
    assert_int_equal(text_utf8_length(STR("\xff")), 0);
}

static void assert_clean(struct str in, size_t max, bool ascii_only, const char *expected)
{
    struct buf out;

    buf_init(&out, 256);
    text_append_clean(&out, in, max, ascii_only);
    assert_int_equal(out.length, strlen(expected));
    if (out.length > 0)
        assert_memory_equal(out.data, expected, out.length);
    buf_release(&out);
}

static void test_append_clean(void **state)
{
    (void)state;
    assert_clean(STR("plain"), 100, true, "plain");
    assert_clean(STR("a\r\nb\0c\td\x7f\x1b["), 100, true,
                 "a??b?c d?"
                 "?[");
    assert_clean(STR("\xc3\xbc\xff"), 100, false, "\xc3\xbc?");
    assert_clean(STR("\xc3\xbc\xff"), 100, true, "??");
    assert_clean(STR("ab\xc3\xbc"), 3, false, "ab"); /* no half character */
    assert_clean(STR("abc"), 0, false, "");
    assert_clean((struct str){0}, 10, false, "");
}

static void test_is_ascii(void **state)
{
    (void)state;
    assert_true(text_is_ascii(STR("plain\0\x7f")));
    assert_false(text_is_ascii(STR("plain\x80")));
    assert_true(text_is_ascii((struct str){0}));
}

static void test_trim_keeps_newlines(void **state)
{
    (void)state;
    assert_true(str_equal(text_trim_blanks(STR(" \ta b\r \t")), STR("a b\r")));
    assert_true(str_equal(text_trim_blanks(STR(" \t")), STR("")));
    assert_int_equal(text_trim_blanks((struct str){0}).length, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_length),
        cmocka_unit_test(test_append_clean),
        cmocka_unit_test(test_is_ascii),
        cmocka_unit_test(test_trim_keeps_newlines),
    };

    return cmocka_run_group_tests_name("mail/text", tests, NULL, NULL);
}
