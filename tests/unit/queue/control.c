/* SPDX-License-Identifier: Apache-2.0 */
/* The postmaster's view of the queue. Who is shown too little or too much deletes the wrong mail. */
#include "control_fixture.h"

static bool is_anything_taken(struct fixture *fixture)
{
    return fixture->attempt_count >= 1;
}

static size_t count_locked(struct fixture *fixture, enum queue_event_kind kind)
{
    size_t count = 0;

    for (size_t i = 0; i < fixture->event_count; i++)
        count += fixture->events[i].kind == kind;
    return count;
}

static bool all_deferred(struct fixture *fixture)
{
    return count_locked(fixture, QUEUE_EVENT_DEFERRED) >= fixture->last_id;
}

static struct fixture *start_patient(void)
{
    struct fixture *fixture = fixture_create();

    fixture->settings.retry_ms[0] = 3600000;
    fixture_start(fixture);
    return fixture;
}

/* A hold of a domain must not miss its hosts, nor take in a neighbour's with a longer name. */
static void test_what_matches(void **state)
{
    enum queue_state parsed;

    (void)state;
    assert_true(queue_pattern_matches(STR("*@contoso.test"), STR("Bob@CONTOSO.test")));
    assert_false(queue_pattern_matches(STR("*@contoso.test"), STR("bob@contoso.test.example")));
    assert_true(queue_pattern_matches(STR("a*b*c"), STR("aXbXbXc")));
    assert_false(queue_pattern_matches(STR("a*b*c"), STR("aXcXb")));
    assert_true(queue_pattern_matches(STR("*"), STR("")));
    assert_false(queue_pattern_matches(STR("a"), STR("")));
    assert_true(queue_domain_matches(STR("example.net"), STR("example.net")));
    assert_false(queue_domain_matches(STR("example.net"), STR("a.example.net")));
    assert_true(queue_domain_matches(STR("*.example.net"), STR("a.example.net")));
    assert_false(queue_domain_matches(STR("*.example.net"), STR("example.net")));
    assert_true(queue_domain_matches(STR("@example.net"), STR("example.net")));
    assert_true(queue_domain_matches(STR("@example.net"), STR("a.b.example.net")));
    assert_false(queue_domain_matches(STR("@example.net"), STR("badexample.net")));
    for (unsigned bit = 1; bit <= QUEUE_STATES_ALL; bit <<= 1) {
        assert_true(queue_state_parse(str_from_cstr(queue_state_name((enum queue_state)bit)), &parsed));
        assert_int_equal(parsed, bit);
    }
    assert_false(queue_state_parse(STR("?"), &parsed));
}

/* Each filter against the same queue, the fast ones and the slow. */
static void test_filters(void **state)
{
    static const struct {
        struct queue_filter filter;
        size_t count;
    } cases[] = {
        {{.states = 0}, 5},
        {{.domain = STR_INIT("a.example.net")}, 2},
        {{.domain = STR_INIT("A.Example.NET")}, 2},
        {{.domain = STR_INIT("example.net")}, 1},
        {{.domain = STR_INIT("@example.net")}, 3},
        {{.domain = STR_INIT("*.example.net")}, 2},
        {{.domain = STR_INIT("*.net")}, 3},
        {{.domain = STR_INIT("@net")}, 3},
        {{.domain = STR_INIT("a*")}, 2},
        {{.domain = STR_INIT("nothing.test")}, 0},
        {{.sender = STR_INIT("ALICE@contoso.test")}, 5},
        {{.sender = STR_INIT("bob@contoso.test")}, 0},
        {{.sender = STR_INIT("*@contoso.test")}, 5},
        {{.sender = STR_INIT("<>")}, 0},
        {{.recipient = STR_INIT("defer1@a.example.net")}, 1},
        {{.recipient = STR_INIT("defer*@a.example.net")}, 2},
        {{.recipient = STR_INIT("defer1@*")}, 1},
        {{.domain = STR_INIT("a.example.net"), .recipient = STR_INIT("defer4@*")}, 0},
        {{.states = QUEUE_STATE_WAITING}, 5},
        {{.states = QUEUE_STATE_TAKEN | QUEUE_STATE_READY | QUEUE_STATE_HELD}, 0},
        {{.arrived_before_at_ms = 1}, 0},
        {{.arrived_before_at_ms = INT64_MAX}, 5},
    };
    struct fixture *fixture = start_patient();

    (void)state;
    fixture_add(fixture, "defer1@a.example.net");
    fixture_add(fixture, "defer2@b.test ok@a.example.net defer2@a.example.net");
    fixture_add(fixture, "defer3@example.net");
    fixture_add(fixture, "defer4@b.test");
    fixture_add(fixture, "defer5@c.test");
    assert_true(fixture_wait(fixture, all_deferred));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t count = postmaster_count(fixture, cases[i].filter);

        if (count != cases[i].count)
            fail_msg("case %zu: %zu, not %zu", i, count, cases[i].count);
    }
    fixture_destroy(fixture);
}

static bool has_settled(struct fixture *fixture)
{
    return fixture->event_count >= 4;
}

/* What a person is shown of one message: each recipient as it stands, and why. */
static void test_show(void **state)
{
    struct fixture *fixture = start_patient();
    spool_id id = fixture_add(fixture, "ok@here defer@there stuck@slow x@later fail@here");
    struct seen seen;

    (void)state;
    assert_true(fixture_wait(fixture, has_settled));
    assert_true(postmaster_show(fixture, id, &seen));
    assert_true(seen.id == id);
    assert_int_equal(seen.body_bytes, 1000);
    assert_string_equal(seen.sender, "alice@contoso.test");
    assert_int_equal(seen.recipient_count, 5);
    assert_int_equal(seen.recipients[0].state, QUEUE_STATE_DELIVERED);
    assert_int_equal(seen.recipients[1].state, QUEUE_STATE_WAITING);
    assert_int_equal(seen.recipients[1].attempts, 1);
    assert_string_equal(seen.recipients[1].status, "4.2.1");
    assert_string_equal(seen.recipients[1].text, "busy");
    assert_true(seen.recipients[1].next_attempt_at_ms > clock_real_ms() + 3000000);
    assert_int_equal(seen.recipients[2].state, QUEUE_STATE_TAKEN);
    assert_string_equal(seen.recipients[2].destination, "slow");
    assert_string_equal(seen.recipients[3].status, "4.4.3");
    assert_int_equal(seen.recipients[4].state, QUEUE_STATE_FAILED);
    assert_string_equal(seen.recipients[4].text, "fail@here is unknown");
    assert_false(postmaster_show(fixture, 0x7700, &seen));
    fixture_set(fixture, &fixture->released, true);
    fixture_destroy(fixture);
}

/* The reader gets everything in the order of arrival, though messages go meanwhile. */
static void test_order_and_batches(void **state)
{
    enum { COUNT = 400 };
    struct fixture *fixture = start_patient();
    struct seen *seen;
    size_t count;

    (void)state;
    for (int i = 0; i < COUNT; i++)
        fixture_add(fixture, "defer@here");
    assert_true(fixture_wait(fixture, all_deferred));
    seen = postmaster_list(fixture, (struct queue_filter){0}, &count);
    assert_int_equal(count, COUNT);
    for (size_t i = 0; i < COUNT; i++)
        assert_true(seen[i].id == (i + 1) << 8);
    free(seen);
    assert_int_equal(postmaster_order_one(fixture, 0x500, QUEUE_ACTION_DELETE).messages, 1);
    assert_int_equal(postmaster_count(fixture, (struct queue_filter){.domain = STR("here")}), COUNT - 1);
    fixture_destroy(fixture);
}

/* A cursor that is asked for nothing that is there still comes to its end, and to its deadline. */
static void run_impatient(struct errand *errand)
{
    struct queue_cursor *cursor = errand_cursor(errand);

    fiber_cancel(fiber_current());
    errand->result = queue_cursor_next(cursor, loop_now_ms() + ERRAND_DEADLINE_MS);
    fiber_clear_cancel();
    /* Nothing was lost by it. */
    while (queue_cursor_next(cursor, loop_now_ms() + ERRAND_DEADLINE_MS) == WAIT_READY &&
           queue_cursor_count(cursor) > 0)
        errand->seen_count += queue_cursor_count(cursor);
    queue_cursor_destroy(&cursor);
}

static void test_a_reader_who_gives_up(void **state)
{
    struct fixture *fixture = start_patient();
    struct errand errand = {0};

    (void)state;
    for (int i = 0; i < 200; i++)
        fixture_add(fixture, "defer@here");
    assert_true(fixture_wait(fixture, all_deferred));
    errand_run(&errand, fixture, run_impatient);
    assert_int_equal(errand.result, WAIT_CANCELLED);
    assert_int_equal(errand.seen_count, 200);
    fixture_destroy(fixture);
}

/* `postern status`: which destination is down, since when no more is tried, and how much waits for it. */
static void test_destinations(void **state)
{
    struct fixture *fixture = start_patient();
    struct queue_shown_destination shown[8] = {0};
    struct errand errand = {.destinations = shown};
    bool was_down_seen = false;

    (void)state;
    fixture->is_down = true;
    fixture_add(fixture, "stuck@slow");
    assert_true(fixture_wait(fixture, is_anything_taken));
    for (int i = 0; i < 2; i++)
        fixture_add(fixture, "ok@down");
    while (!was_down_seen) {
        errand = (struct errand){.destinations = shown};
        errand_run(&errand, fixture, run_destinations);
        assert_int_equal(errand.result, WAIT_READY);
        for (size_t i = 0; i < errand.destination_count; i++)
            was_down_seen |=
                strcmp(shown[i].name, "down") == 0 && shown[i].backed_off_until_at_ms != 0 && shown[i].waiting == 2;
    }
    assert_int_equal(errand.destination_count, 2);
    for (size_t i = 0; i < 2; i++) {
        if (strcmp(shown[i].name, "slow") == 0) {
            assert_int_equal(shown[i].taken, 1);
            assert_int_equal(shown[i].connected, 1);
            assert_int_equal(shown[i].backed_off_until_at_ms, 0);
        } else {
            assert_string_equal(shown[i].last.text, "connection refused");
            assert_true(shown[i].backed_off_until_at_ms > clock_real_ms());
        }
    }
    fixture_set(fixture, &fixture->released, true);
    fixture_destroy(fixture);
}

static void on_drained(void *context)
{
    struct fixture *fixture = context;

    pthread_mutex_lock(&fixture->lock);
    fixture->is_drained = true;
    pthread_cond_broadcast(&fixture->changed);
    pthread_mutex_unlock(&fixture->lock);
}

static bool is_drained(struct fixture *fixture)
{
    return fixture->is_drained;
}

/* The daemon that is drained ends when the last message that can go has gone: not before, and not never because of one on hold. */
static void test_drain(void **state)
{
    struct fixture *fixture = start_patient();
    spool_id id;

    (void)state;
    id = fixture_add(fixture, "defer@here");
    fixture_add(fixture, "stuck@slow");
    assert_true(fixture_wait(fixture, is_anything_taken));
    queue_drain(fixture->queue, on_drained, fixture);
    assert_int_equal(postmaster_order_one(fixture, id, QUEUE_ACTION_HOLD).messages, 1);
    assert_false(fixture_flag(fixture, &fixture->is_drained));
    fixture_set(fixture, &fixture->released, true);
    assert_true(fixture_wait(fixture, is_drained));
    fixture_destroy(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_matches),
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_show),
        cmocka_unit_test(test_order_and_batches),
        cmocka_unit_test(test_a_reader_who_gives_up),
        cmocka_unit_test(test_destinations),
        cmocka_unit_test(test_drain),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
