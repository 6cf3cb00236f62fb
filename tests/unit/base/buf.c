/* SPDX-License-Identifier: Apache-2.0 */
/* Replies, lines and bodies are built in these: the maximum is what keeps a client from filling our memory. */
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_content(const struct buf *b, const char *expected)
{
    assert_int_equal(b->length, strlen(expected));
    if (b->length > 0)
        assert_memory_equal(b->data, expected, b->length);
}

static void test_append_and_print(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 1000);
    assert_null(b.data);
    assert_true(buf_append_str(&b, STR("250 ")));
    assert_true(buf_append_u64(&b, 0));
    assert_true(buf_append_char(&b, ' '));
    assert_true(buf_append_u64(&b, UINT64_MAX));
    assert_true(buf_printf(&b, " %s=%d", "x", -1));
    assert_true(buf_append(&b, NULL, 0));
    assert_content(&b, "250 0 18446744073709551615 x=-1");
    assert_false(b.overflowed);
    buf_release(&b);
    assert_null(b.data);
    assert_int_equal(b.length_max, 1000);
}

/* At the bound, exactly: the last byte fits, the next does not, and what stood there stays. */
static void test_maximum(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 5);
    assert_true(buf_append_str(&b, STR("12345")));
    assert_false(b.overflowed);
    assert_true(buf_append(&b, "", 0));
    assert_false(buf_append_char(&b, '6'));
    assert_true(b.overflowed);
    assert_content(&b, "12345");
    buf_clear(&b);
    assert_false(b.overflowed);
    assert_false(buf_append_str(&b, STR("123456")));
    assert_content(&b, "");
    buf_clear(&b);
    assert_true(buf_printf(&b, "%s", "abcde"));
    assert_false(buf_printf(&b, "%d", 1));
    assert_true(b.overflowed);
    assert_content(&b, "abcde");
    assert_null(buf_reserve(&b, SIZE_MAX));
    buf_release(&b);
}

static void test_maximum_of_zero(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 0);
    assert_non_null(buf_reserve(&b, 0));
    assert_true(buf_append(&b, NULL, 0));
    assert_false(buf_append_char(&b, 'x'));
    assert_true(buf_printf(&b, "%s", ""));
    buf_release(&b);
}

/* Each length around the growth steps, so that an off-by-one there meets the address sanitizer. */
static void test_growth_by_every_step(void **state)
{
    struct buf b;

    (void)state;
    for (int print = 0; print < 2; print++) {
        buf_init(&b, 3000);
        for (size_t i = 0; i < 3000; i++) {
            bool fits = print ? buf_printf(&b, "%c", (char)('a' + i % 26)) : buf_append_char(&b, (char)('a' + i % 26));

            assert_true(fits);
        }
        assert_false(buf_printf(&b, "x"));
        for (size_t i = 0; i < 3000; i++)
            assert_int_equal(b.data[i], 'a' + i % 26);
        buf_release(&b);
    }
}

static void test_reserve_and_consume(void **state)
{
    struct buf b;
    char *room;

    (void)state;
    buf_init(&b, 10000);
    room = buf_reserve(&b, 5000);
    memset(room, 'x', 5000);
    b.length += 5000;
    buf_append_str(&b, STR("tail"));
    buf_consume(&b, 0);
    buf_consume(&b, 5000);
    assert_content(&b, "tail");
    buf_consume(&b, 1);
    assert_content(&b, "ail");
    buf_consume(&b, 100);
    assert_content(&b, "");
    assert_int_equal(buf_str(&b).length, 0);
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_and_print),    cmocka_unit_test(test_maximum),
        cmocka_unit_test(test_maximum_of_zero),     cmocka_unit_test(test_growth_by_every_step),
        cmocka_unit_test(test_reserve_and_consume),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
