/* SPDX-License-Identifier: Apache-2.0 */
/* The text is what an administrator sees: cut it may be, garbled or unterminated not. */
#include "base/error.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_set_and_context(void **state)
{
    struct error error;

    (void)state;
    assert_int_equal(error_set_errno(&error, ENOENT, "cannot open %s", "a.yaml"), -1);
    assert_int_equal(error.errno_value, ENOENT);
    assert_string_equal(error.text, "cannot open a.yaml: No such file or directory");
    assert_int_equal(error_add_context(&error, "reading %d", 1), -1);
    assert_string_equal(error.text, "reading 1: cannot open a.yaml: No such file or directory");
    assert_int_equal(error.errno_value, ENOENT);
    assert_int_equal(error_set(&error, "other"), -1);
    assert_string_equal(error.text, "other");
    assert_int_equal(error.errno_value, 0);
}

static void test_nobody_wants_to_know(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, "x"), -1);
    assert_int_equal(error_set_errno(NULL, EIO, "x"), -1);
    assert_int_equal(error_add_context(NULL, "x"), -1);
}

static void test_long_text_is_cut(void **state)
{
    struct error error;
    char text[2 * ERROR_TEXT_BYTES];

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    error_set(&error, "%s", text);
    assert_int_equal(strlen(error.text), ERROR_TEXT_BYTES - 1);
    error_set_errno(&error, EIO, "%s", text);
    assert_int_equal(strlen(error.text), ERROR_TEXT_BYTES - 1);
    error_add_context(&error, "%s", "context");
    assert_int_equal(strlen(error.text), ERROR_TEXT_BYTES - 1);
    assert_memory_equal(error.text, "context: xxx", 12);
    error_add_context(&error, "%s", text);
    assert_int_equal(strlen(error.text), ERROR_TEXT_BYTES - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_and_context),
        cmocka_unit_test(test_nobody_wants_to_know),
        cmocka_unit_test(test_long_text_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
