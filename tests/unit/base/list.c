/* SPDX-License-Identifier: Apache-2.0 */
/* Queues, ready lists and timers hang on this: a link lost is a message that nobody delivers. */
#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
    int number;
    struct list_link link;
};

static int take_number(struct list_link *head)
{
    struct list_link *link = list_take_first(head);

    return link ? LIST_ENTRY(link, struct item, link)->number : -1;
}

static void test_order_is_kept(void **state)
{
    struct item items[] = {{.number = 1}, {.number = 2}, {.number = 3}};
    struct list_link head;

    (void)state;
    list_init(&head);
    assert_true(list_is_empty(&head));
    list_append(&head, &items[1].link);
    list_append(&head, &items[2].link);
    list_prepend(&head, &items[0].link);
    assert_int_equal(take_number(&head), 1);
    assert_int_equal(take_number(&head), 2);
    assert_int_equal(take_number(&head), 3);
    assert_int_equal(take_number(&head), -1);
    assert_true(list_is_empty(&head));
}

/* Cancelling something twice, or before it was queued, must not corrupt the list it is not in. */
static void test_removing_twice_is_harmless(void **state)
{
    struct item items[] = {{.number = 1}, {.number = 2}};
    struct list_link head;

    (void)state;
    list_init(&head);
    list_init(&items[0].link);
    list_remove(&items[0].link);
    assert_false(list_is_linked(&items[0].link));
    list_append(&head, &items[0].link);
    list_append(&head, &items[1].link);
    assert_true(list_is_linked(&items[0].link));
    list_remove(&items[0].link);
    list_remove(&items[0].link);
    assert_false(list_is_linked(&items[0].link));
    assert_int_equal(take_number(&head), 2);
    assert_true(list_is_empty(&head));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_is_kept),
        cmocka_unit_test(test_removing_twice_is_harmless),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
