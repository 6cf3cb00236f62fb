/* SPDX-License-Identifier: Apache-2.0 */
/* The ordered table: against a plain array, in every order of coming and going. A message that is lost here is lost from sight until the next start. */
#include "queue/table.h"

#include "base/mem.h"
#include "os/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define MESSAGES 3000

static struct message *as_message(size_t i)
{
    return (struct message *)(uintptr_t)(i + 1);
}

/* Everything that is there, in order, once. */
static void check(const struct message_table *table, const spool_id *ids, const bool *are_there)
{
    const struct table_filter all = {0};
    size_t budget = SIZE_MAX, count = 0;
    struct message *message;
    spool_id after = 0, last = 0;

    for (size_t i = 0; i < MESSAGES; i++)
        count += are_there[i];
    assert_int_equal(table->count, count);
    while ((message = message_table_next(table, &after, &all, &budget))) {
        size_t i = (size_t)(uintptr_t)message - 1;

        assert_true(after > last);
        assert_true(are_there[i] && ids[i] == after);
        last = after;
        count--;
    }
    assert_int_equal(count, 0);
}

static void run(const spool_id *ids)
{
    struct message_table table = {0};
    const struct table_tags tags = {0};
    bool are_there[MESSAGES] = {false};

    for (size_t i = 0; i < MESSAGES; i++) {
        assert_true(message_table_add(&table, ids[i], &tags, as_message(i)));
        assert_false(message_table_add(&table, ids[i], &tags, as_message(i)));
        are_there[i] = true;
    }
    check(&table, ids, are_there);
    for (unsigned turn = 0; turn < 4 * MESSAGES; turn++) {
        size_t i = random_below(MESSAGES);

        if (are_there[i]) {
            assert_ptr_equal(message_table_find(&table, ids[i]), as_message(i));
            message_table_remove(&table, ids[i]);
        } else {
            assert_null(message_table_find(&table, ids[i]));
            assert_true(message_table_add(&table, ids[i], &tags, as_message(i)));
        }
        are_there[i] = !are_there[i];
        if (turn % 1000 == 0)
            check(&table, ids, are_there);
    }
    for (size_t i = 0; i < MESSAGES; i++) {
        if (are_there[i])
            message_table_remove(&table, ids[i]);
    }
    assert_int_equal(table.count, 0);
    assert_int_equal(table.row_count, 0);
    message_table_release(&table);
}

/* As they come, the other way round, at random, and so far apart that a row does not reach from one to the next. */
static void test_any_order(void **state)
{
    static spool_id ids[MESSAGES];

    (void)state;
    for (size_t i = 0; i < MESSAGES; i++)
        ids[i] = (i + 1) << 8;
    run(ids);
    for (size_t i = 0; i < MESSAGES; i++)
        ids[i] = (MESSAGES - i) << 8;
    run(ids);
    for (size_t i = 0; i < MESSAGES; i++)
        ids[i] = ((i * 1009) % MESSAGES + 1) << 8;
    run(ids);
    for (size_t i = 0; i < MESSAGES; i++)
        ids[i] = ((i * 1009) % MESSAGES + 1) << 40;
    run(ids);
}

/* A reader is given no more than its budget to look at, and goes on where it was. */
static void test_budgets(void **state)
{
    struct message_table table = {0};
    const struct table_tags tags = {.domains = 6}, other = {.domains = 1};
    const struct table_filter filter = {.domains = 2};
    size_t found = 0, rounds = 0;
    spool_id after = 0;
    bool is_end = false;

    (void)state;
    for (size_t i = 0; i < MESSAGES; i++)
        assert_true(message_table_add(&table, i + 1, i % 1000 == 999 ? &tags : &other, as_message(i)));
    while (!is_end) {
        size_t budget = 100;

        while (message_table_next(&table, &after, &filter, &budget)) {
            assert_int_equal(after % 1000, 0);
            found++;
        }
        rounds++;
        is_end = budget > 0;
    }
    assert_int_equal(found, 3);
    assert_true(rounds >= MESSAGES / 100 && rounds <= MESSAGES / 100 + 2);
    for (size_t i = 0; i < MESSAGES; i++)
        message_table_remove(&table, i + 1);
}

/* A domain finds its mail, and the mail of hosts below it, in whatever case it is written. */
static void test_tags(void **state)
{
    struct envelope_recipient recipients[2] = {{.domain = STR("mx1.Example.net")}, {.domain = STR("fabrikam.test")}};
    const struct envelope envelope = {
        .sender = STR("Alice@contoso.test"), .recipients = recipients, .recipient_count = 2};
    struct table_tags tags;
    uint64_t bits;

    (void)state;
    table_tags_of(&envelope, &tags);
    bits = table_domain_bits(STR("EXAMPLE.NET"));
    assert_true((tags.domains & bits) == bits);
    bits = table_domain_bits(STR("mx1.example.net"));
    assert_true((tags.domains & bits) == bits);
    bits = table_domain_bits(STR("fabrikam.test"));
    assert_true((tags.domains & bits) == bits);
    assert_int_equal(tags.sender, table_sender_hash(STR("alice@CONTOSO.test")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_order),
        cmocka_unit_test(test_budgets),
        cmocka_unit_test(test_tags),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
