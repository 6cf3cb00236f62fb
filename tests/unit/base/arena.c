/* SPDX-License-Identifier: Apache-2.0 */
/* A transaction's envelope lives in one: its maximum bounds what one client can make us hold. */
#include "base/arena.h"

#include <setjmp.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_alignment_and_zeroes(void **state)
{
    struct arena a;

    (void)state;
    arena_init(&a, 1 << 20);
    for (size_t size = 0; size < 3000; size += 7) {
        unsigned char *memory = arena_alloc(&a, size);

        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % alignof(max_align_t), 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(memory[i], 0);
        memset(memory, 0xff, size);
    }
    arena_release(&a);
}

/* What was handed out stays put while blocks are added: the envelope points into it. */
static void test_blocks_do_not_move(void **state)
{
    struct arena a;
    struct str names[500];

    (void)state;
    arena_init(&a, 1 << 20);
    for (size_t i = 0; i < 500; i++)
        names[i] = arena_printf(&a, "user%zu@contoso.test", i);
    assert_non_null(arena_alloc(&a, 200000));
    assert_true(str_equal(names[0], STR("user0@contoso.test")));
    assert_true(str_equal(names[499], STR("user499@contoso.test")));
    assert_int_equal(names[499].data[names[499].length], '\0');
    arena_release(&a);
    assert_int_equal(a.size, 0);
}

static void test_maximum(void **state)
{
    struct arena a;
    struct str copy;

    (void)state;
    arena_init(&a, 64);
    assert_null(arena_alloc(&a, 65));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX - 8));
    assert_non_null(arena_alloc(&a, 48));
    copy = arena_copy(&a, STR("0123456789abcdef")); /* 16 bytes and the NUL: one too many */
    assert_null(copy.data);
    assert_null(arena_printf(&a, "%s", "0123456789abcdef").data);
    assert_null(arena_copy(&a, (struct str){"", SIZE_MAX}).data);
    copy = arena_copy(&a, STR("0123456789abcde"));
    assert_string_equal(copy.data, "0123456789abcde");
    assert_null(arena_alloc(&a, 1));
    arena_release(&a);
    assert_non_null(arena_alloc(&a, 64));
    arena_release(&a);
}

static void test_copy_of_nothing(void **state)
{
    struct arena a;
    struct str copy;

    (void)state;
    arena_init(&a, 64);
    copy = arena_copy(&a, (struct str){NULL, 0});
    assert_non_null(copy.data);
    assert_string_equal(copy.data, "");
    arena_release(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alignment_and_zeroes),
        cmocka_unit_test(test_blocks_do_not_move),
        cmocka_unit_test(test_maximum),
        cmocka_unit_test(test_copy_of_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
