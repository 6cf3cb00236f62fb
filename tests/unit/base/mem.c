/* SPDX-License-Identifier: Apache-2.0 */
/* Callers never test for NULL: a NULL from here would be a crash far away, at a time of the attacker's choosing. */
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void test_zeroed_and_size_zero(void **state)
{
    char *bytes = mem_alloc(100);
    void *none = mem_alloc(0);
    void *no_elements = mem_alloc_array(0, 8);

    (void)state;
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(bytes[i], 0);
    assert_non_null(none);
    assert_non_null(no_elements);
    none = mem_resize(none, 0);
    assert_non_null(none);
    free(no_elements);
    free(none);
    mem_free(&bytes);
    assert_null(bytes);
}

static void test_resize_keeps_the_content(void **state)
{
    uint64_t *numbers = mem_alloc_array(2, sizeof(*numbers));

    (void)state;
    numbers[1] = 42;
    numbers = mem_resize_array(numbers, 1000, sizeof(*numbers));
    numbers[999] = 1;
    assert_int_equal(numbers[1], 42);
    free(numbers);
}

static void test_copies_and_printf(void **state)
{
    char *copy = mem_copy_str(STR("a\0b"));
    char *empty = mem_copy_str((struct str){NULL, 0});
    char *text = mem_printf("%s-%d", "x", 5);

    (void)state;
    assert_memory_equal(copy, "a\0b", 4);
    assert_string_equal(empty, "");
    assert_string_equal(text, "x-5");
    free(copy);
    free(empty);
    free(text);
}

static void allocate_too_much(void)
{
    free(mem_alloc_array(SIZE_MAX / 4, 8));
}

static void resize_too_much(void)
{
    free(mem_resize_array(NULL, SIZE_MAX / 4, 8));
}

static int status_of_child(void (*function)(void))
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        close(STDERR_FILENO);
        function();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

/* A count times a size that wraps would give a small block and a write behind its end. */
static void test_overflow_ends_the_process(void **state)
{
    int status;

    (void)state;
    status = status_of_child(allocate_too_much);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    status = status_of_child(resize_too_much);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zeroed_and_size_zero),
        cmocka_unit_test(test_resize_keeps_the_content),
        cmocka_unit_test(test_copies_and_printf),
        cmocka_unit_test(test_overflow_ends_the_process),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
