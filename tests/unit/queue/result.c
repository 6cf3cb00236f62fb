/* SPDX-License-Identifier: Apache-2.0 */
/* Records that read back otherwise would deliver twice after a restart, or never. */
#include "queue/result.h"
#include "queue/reason.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_entries_come_back(void **state)
{
    const struct result_entry entries[] = {
        {.recipient = 0, .state = RESULT_DELIVERED},
        {.recipient = 65534,
         .state = RESULT_WAITING,
         .number = 255,
         .at_ms = 1790000000123,
         .status = STR("4.2.1"),
         .remote = STR("mx.example.net"),
         .text = STR("450 4.2.1 busy")},
        {.recipient = 7, .state = RESULT_REPORTED},
    };
    struct result_entry entry;
    struct buf record;
    struct str rest;

    (void)state;
    buf_init(&record, 4096);
    for (size_t i = 0; i < 3; i++)
        result_append(&record, &entries[i]);
    assert_true(result_open(buf_str(&record), &rest));
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(result_next(&rest, &entry), 1);
        assert_int_equal(entry.recipient, entries[i].recipient);
        assert_int_equal(entry.state, entries[i].state);
        assert_int_equal(entry.number, entries[i].number);
        assert_int_equal(entry.at_ms, entries[i].at_ms);
        assert_true(str_equal(entry.status, entries[i].status));
        assert_true(str_equal(entry.remote, entries[i].remote));
        assert_true(str_equal(entry.text, entries[i].text));
    }
    assert_int_equal(result_next(&rest, &entry), 0);
    buf_release(&record);
}

/* A cut record gives whole entries and then an error, never a wrong entry. */
static void test_cuts(void **state)
{
    struct result_entry entry = {.recipient = 300, .state = RESULT_WAITING, .number = 1, .at_ms = 5, .text = STR("x")};
    struct buf record;
    struct str rest;

    (void)state;
    buf_init(&record, 4096);
    result_append(&record, &entry);
    assert_false(result_open(STR(""), &rest));
    assert_false(result_open(STR("\x02"), &rest));
    for (size_t length = 2; length < record.length; length++) {
        assert_true(result_open(str_take(buf_str(&record), length), &rest));
        assert_int_equal(result_next(&rest, &entry), -1);
    }
    assert_true(result_open(STR("\x01\x05\x0a"), &rest)); /* an unknown state */
    assert_int_equal(result_next(&rest, &entry), -1);
    assert_true(result_open(STR("\x01\xff\xff\x03\x01"), &rest)); /* recipient 65535 */
    assert_int_equal(result_next(&rest, &entry), -1);
    buf_release(&record);
}

/* A remote's endless reply must not fill the spool: its record stays within the bound that the writers rely on. */
static void test_longest_entry(void **state)
{
    char text[1000];
    struct result_entry entry = {.recipient = 65534, .state = RESULT_WAITING, .number = UINT32_MAX, .at_ms = INT64_MAX};
    struct buf record;

    (void)state;
    memset(text, 'x', sizeof(text));
    entry.status = str_make(text, 11);
    entry.remote = str_make(text, 127);
    entry.text = str_make(text, sizeof(text));
    buf_init(&record, 4096);
    result_append(&record, &entry);
    assert_true(record.length <= RESULT_ENTRY_BYTES_MAX);
    buf_release(&record);
}

/* A destination that is down says the same of a million messages: kept once. */
static void test_reasons_are_shared(void **state)
{
    struct reason_table table = {0};
    struct queue_outcome outcome = {.status = "4.4.1", .text = "connection refused", .remote = "192.0.2.1"}, copy;
    struct reason *first = reason_take_outcome(&table, &outcome);
    struct reason *second = reason_take(&table, STR("4.4.1"), STR("192.0.2.1"), STR("connection refused"));
    struct reason *other = reason_take(&table, STR("4.4.1"), STR("192.0.2.1connection"), STR(" refused"));

    (void)state;
    assert_ptr_equal(first, second);
    assert_ptr_not_equal(first, other);
    assert_int_equal(table.reasons.count, 2);
    reason_to_outcome(first, &copy);
    assert_string_equal(copy.status, "4.4.1");
    assert_string_equal(copy.remote, "192.0.2.1");
    assert_string_equal(copy.text, "connection refused");
    reason_release(&table, &first);
    assert_null(first);
    assert_true(str_equal(reason_text(second), STR("connection refused")));
    reason_release(&table, &second);
    reason_release(&table, &other);
    assert_int_equal(table.reasons.count, 0);
    reason_table_release(&table);
}

/* Texts at their bounds, an unterminated array and a NUL in a record, as damage or a careless caller could bring. */
static void test_reasons_are_bounded(void **state)
{
    struct reason_table table = {0};
    struct queue_outcome outcome, copy;
    struct reason *reason;

    (void)state;
    memset(&outcome, 'x', sizeof(outcome));
    reason = reason_take_outcome(&table, &outcome);
    reason_to_outcome(reason, &copy);
    assert_int_equal(strlen(copy.status), sizeof(copy.status) - 1);
    assert_int_equal(strlen(copy.remote), sizeof(copy.remote) - 1);
    assert_int_equal(strlen(copy.text), sizeof(copy.text) - 1);
    reason_release(&table, &reason);
    reason = reason_take(&table, STR("4.0.0"), STR(""), STR("a\0b"));
    assert_true(str_equal(reason_text(reason), STR("a")));
    reason_release(&table, &reason);
    reason_to_outcome(NULL, &copy);
    assert_string_equal(copy.text, "");
    reason_table_release(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries_come_back),   cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_longest_entry),       cmocka_unit_test(test_reasons_are_shared),
        cmocka_unit_test(test_reasons_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
