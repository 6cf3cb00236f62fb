/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mistake here and one sender's flood holds up everybody's mail, a dead server is hammered, or a server that is back is left
 * waiting.
 */
#include "queue/destination.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define FIRST_RETRY_MS 900000
/* A chance that varies nothing: the middle of the range. */
#define no_variation(interval_ms) ((interval_ms) / 10)

struct fixture {
    struct destination *destination;
    struct reason_table reasons;
    struct queue_item items[1000];
};

static int set_up(void **state)
{
    struct fixture *fixture = mem_alloc(sizeof(*fixture));

    fixture->destination = destination_create(STR("smtp:192.0.2.1:25"));
    fixture->destination->limit_max = 20;
    for (size_t i = 0; i < 1000; i++)
        list_init(&fixture->items[i].link);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    struct destination *destination = fixture->destination;

    while (destination_hold(destination))
        ;
    while (!list_is_empty(&destination->held))
        destination_remove(destination, LIST_ENTRY(destination->held.next, struct queue_item, link));
    destination_free(destination, &fixture->reasons);
    reason_table_release(&fixture->reasons);
    free(fixture);
    return 0;
}

static void push(struct fixture *fixture, size_t item, uint32_t sender_key)
{
    fixture->items[item].sender_key = sender_key;
    destination_push(fixture->destination, &fixture->items[item]);
}

static void assert_pops(struct fixture *fixture, size_t item)
{
    assert_ptr_equal(destination_pop(fixture->destination), &fixture->items[item]);
}

/* Sender 1 has sent a flood before 2 and 3 come with little: they don't wait for it. */
static void test_senders_take_turns(void **state)
{
    struct fixture *fixture = *state;

    for (size_t i = 0; i < 100; i++)
        push(fixture, i, 1);
    push(fixture, 100, 2);
    push(fixture, 101, 2);
    push(fixture, 102, 3);
    assert_pops(fixture, 0);
    assert_pops(fixture, 100);
    assert_pops(fixture, 102);
    assert_pops(fixture, 1);
    assert_pops(fixture, 101);
    for (size_t i = 2; i < 100; i++)
        assert_pops(fixture, i);
    assert_null(destination_pop(fixture->destination));
    assert_int_equal(destination_depth(fixture->destination), 0);
}

/* What was given back goes first again, so that a broken connection changes no order. */
static void test_given_back_goes_first(void **state)
{
    struct fixture *fixture = *state;

    for (size_t i = 0; i < 4; i++)
        push(fixture, i, (uint32_t)i / 2);
    assert_pops(fixture, 0);
    destination_push_front(fixture->destination, &fixture->items[0]);
    assert_pops(fixture, 0);
    assert_pops(fixture, 2);
    assert_pops(fixture, 1);
    assert_pops(fixture, 3);
}

static void test_remove_from_the_middle(void **state)
{
    struct fixture *fixture = *state;

    for (size_t i = 0; i < 6; i++)
        push(fixture, i, (uint32_t)i % 3);
    destination_remove(fixture->destination, &fixture->items[1]);
    destination_remove(fixture->destination, &fixture->items[4]);
    assert_pops(fixture, 0);
    assert_pops(fixture, 2);
    assert_pops(fixture, 3);
    assert_pops(fixture, 5);
}

static void test_held_items_come_back(void **state)
{
    struct fixture *fixture = *state;
    struct destination *destination = fixture->destination;

    for (size_t i = 0; i < 1000; i++)
        push(fixture, i, 1);
    destination_failed(destination, 1000, FIRST_RETRY_MS, no_variation(10000));
    for (size_t i = 0; i < 1000; i++)
        assert_ptr_equal(destination_hold(destination), &fixture->items[i]);
    assert_null(destination_hold(destination));
    assert_int_equal(destination->ready_count, 0);
    assert_int_equal(destination_depth(destination), 1000);
    destination_remove(destination, &fixture->items[500]); /* expired */
    destination_connected(destination);
    for (size_t i = 0; i < 1000; i++) {
        if (i != 500)
            assert_pops(fixture, i);
    }
    assert_null(destination_pop(destination));
}

static uint32_t key(const char *user, const char *client, const char *sender)
{
    struct str address = str_from_cstr(sender);
    size_t at = str_find_last(address, '@');
    struct envelope envelope = {.user = str_from_cstr(user), .client = str_from_cstr(client), .sender = address};

    envelope.sender_domain = at == STR_NONE ? STR("") : str_skip(address, at + 1);
    return destination_sender_key(&envelope);
}

/* A list with a return path of its own for each recipient is one sender; a user is one whatever sender it writes. */
static void test_who_is_a_sender(void **state)
{
    (void)state;
    assert_int_equal(key("", "192.0.2.1", "list-bounces+a=x.test@lists.test"),
                     key("", "192.0.2.1", "list-bounces+b=y.test@lists.test"));
    assert_int_equal(key("", "192.0.2.1", "SRS0=1=2=x.test=a@f.test"),
                     key("", "192.0.2.1", "SRS0=3=4=y.test=b@f.test"));
    assert_int_not_equal(key("", "192.0.2.1", "alice@contoso.test"), key("", "192.0.2.1", "bob@contoso.test"));
    assert_int_not_equal(key("", "192.0.2.1", "alice@contoso.test"), key("", "192.0.2.2", "alice@contoso.test"));
    assert_int_equal(key("app", "192.0.2.1", "alice@contoso.test"), key("app", "192.0.2.9", "bob@contoso.test"));
    assert_int_equal(key("", "", ""), key("", "", ""));
}

/* Slow start: 2, one more with each connection, to the route's limit. */
static void test_concurrency_grows_and_halves(void **state)
{
    struct fixture *fixture = *state;
    struct destination *destination = fixture->destination;

    assert_int_equal(destination_worker_limit(destination), DESTINATION_LIMIT_START);
    for (int i = 0; i < 100; i++) {
        destination->connected++;
        destination_connected(destination);
    }
    assert_int_equal(destination_worker_limit(destination), 20);
    destination->connected = 8;
    destination_failed(destination, 1000, FIRST_RETRY_MS, 0);
    assert_int_equal(destination_worker_limit(destination), 10);
    /* Connections that stand are not given up because the server wants no more. */
    destination_failed(destination, 1000, FIRST_RETRY_MS, 0);
    assert_int_equal(destination_worker_limit(destination), 8);
    assert_int_equal(destination->state, DESTINATION_OPEN);
    /* The route's limit was lowered by a reload. */
    destination->limit_max = 3;
    assert_int_equal(destination_worker_limit(destination), 3);
}

static void test_back_off_and_probe(void **state)
{
    struct fixture *fixture = *state;
    struct destination *destination = fixture->destination;
    uint64_t now_ms = 1000, rest_ms = 10000;

    for (size_t i = 0; i < 100; i++)
        push(fixture, i, 1);
    for (int round = 0; round < 10; round++) {
        destination_failed(destination, now_ms, FIRST_RETRY_MS, no_variation(rest_ms));
        destination_failed(destination, now_ms, FIRST_RETRY_MS,
                           no_variation(rest_ms)); /* a second that was started with it: counts once */
        assert_int_equal(destination_worker_limit(destination), 0);
        assert_int_equal(destination_workers_wanted(destination, now_ms), 0);
        assert_int_equal(destination_next_look_ms(destination), now_ms + rest_ms);
        destination_look(destination, now_ms + rest_ms - 1);
        assert_int_equal(destination->state, DESTINATION_BACKING_OFF);
        now_ms += rest_ms;
        destination_look(destination, now_ms);
        assert_int_equal(destination->state, DESTINATION_PROBING);
        /* One worker, one item. */
        assert_int_equal(destination_workers_wanted(destination, now_ms), 1);
        destination->workers = 1;
        assert_int_equal(destination_workers_wanted(destination, now_ms + 100000), 0);
        assert_int_equal(destination_share(destination, 50), 1);
        destination->workers = 0;
        rest_ms = rest_ms * 2 < FIRST_RETRY_MS ? rest_ms * 2 : FIRST_RETRY_MS;
    }
    destination->connected = 1;
    destination_connected(destination);
    assert_int_equal(destination->state, DESTINATION_OPEN);
    assert_int_equal(destination->failures, 0);
    assert_true(destination_share(destination, 50) > 1);
}

/* The rest never exceeds the first retry interval: mail must not wait longer than it would without us. */
static void test_rest_is_bounded_by_the_schedule(void **state)
{
    struct fixture *fixture = *state;

    destination_failed(fixture->destination, 0, 20, 2);
    assert_in_range(fixture->destination->rest_until_ms, 18, 22);
}

static void test_workers_by_depth(void **state)
{
    struct fixture *fixture = *state;
    struct destination *destination = fixture->destination;
    size_t item = 0;

    destination->limit = 20;
    assert_int_equal(destination_workers_wanted(destination, 1000), 0);
    assert_int_equal(destination_next_look_ms(destination), SCHEDULE_NEVER);
    push(fixture, item++, 1);
    assert_int_equal(destination_workers_wanted(destination, 1000), 1);
    destination->workers = 1;
    destination->served_at_ms = 1000;
    /* The one that was just started will take it. */
    assert_int_equal(destination_workers_wanted(destination, 1000), 0);
    assert_int_equal(destination_next_look_ms(destination), 1000 + DESTINATION_PATIENCE_MS);
    while (item < DESTINATION_ITEMS_PER_WORKER + 1)
        push(fixture, item++, 1);
    assert_int_equal(destination_workers_wanted(destination, 1000), 1);
    while (item < 1000)
        push(fixture, item++, 1);
    assert_int_equal(destination_workers_wanted(destination, 1000), 19);
    destination->workers = 20;
    assert_int_equal(destination_workers_wanted(destination, 1000), 0);
    assert_false(destination_is_crowded(destination));
    destination->workers = 21;
    assert_true(destination_is_crowded(destination));
    destination->leaving = 1;
    assert_false(destination_is_crowded(destination));
}

/* One worker is stuck with a huge message: little mail behind it gets a connection of its own after a moment. */
static void test_patience(void **state)
{
    struct fixture *fixture = *state;
    struct destination *destination = fixture->destination;

    destination->workers = 1;
    destination->served_at_ms = 1000;
    push(fixture, 0, 1);
    assert_int_equal(destination_workers_wanted(destination, 1000 + DESTINATION_PATIENCE_MS - 1), 0);
    assert_int_equal(destination_workers_wanted(destination, 1000 + DESTINATION_PATIENCE_MS), 1);
}

static void test_no_rush_after_a_worker_that_could_not_begin(void **state)
{
    struct fixture *fixture = *state;
    struct destination *destination = fixture->destination;

    push(fixture, 0, 1);
    destination->start_after_ms = 5000;
    assert_int_equal(destination_workers_wanted(destination, 4999), 0);
    assert_int_equal(destination_next_look_ms(destination), 5000);
    assert_int_equal(destination_workers_wanted(destination, 5000), 1);
}

static void test_share(void **state)
{
    struct fixture *fixture = *state;
    struct destination *destination = fixture->destination;

    for (size_t i = 0; i < 100; i++)
        push(fixture, i, 1);
    destination->workers = 10;
    assert_int_equal(destination_share(destination, 64), 11);
    assert_int_equal(destination_share(destination, 4), 4);
    destination->workers = 0;
    assert_int_equal(destination_share(destination, 64), 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_senders_take_turns, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_given_back_goes_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_remove_from_the_middle, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_held_items_come_back, set_up, tear_down),
        cmocka_unit_test(test_who_is_a_sender),
        cmocka_unit_test_setup_teardown(test_concurrency_grows_and_halves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_back_off_and_probe, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rest_is_bounded_by_the_schedule, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_workers_by_depth, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_patience, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_rush_after_a_worker_that_could_not_begin, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_share, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
