/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Poison: the message that crashes the daemon is found and put aside, and the others that were under way with it are not. A relay without it
 * crashes for ever; one that is too quick with it stops innocent mail.
 */
#include "control_fixture.h"

#include "queue/in_hand.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct place {
    char directory[64];
    char path[80];
};

static void place_make(struct place *place)
{
    snprintf(place->directory, sizeof(place->directory), "/tmp/postern-in-hand-XXXXXX");
    assert_non_null(mkdtemp(place->directory));
    snprintf(place->path, sizeof(place->path), "%s/in-hand", place->directory);
}

static void place_remove(struct place *place)
{
    unlink(place->path); /* if it is there */
    assert_int_equal(rmdir(place->directory), 0);
}

/* A process that takes these messages, says so, and dies in that way with what it has in hands; 0: in good order. */
static void live_and_die(const struct place *place, const spool_id *ids, size_t count, int signal_number)
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        struct in_hand *in_hand = NULL;
        struct error error;

        /* cmocka's own would stay. */
        if (signal_number != 0)
            signal(signal_number, SIG_DFL);
        if (in_hand_open(&in_hand, place->path, &error) != 0)
            _exit(1);
        queue_catch_crashes();
        for (size_t i = 0; i < count; i++)
            in_hand_enter(in_hand, ids[i]);
        if (signal_number != 0)
            raise(signal_number);
        in_hand_close(&in_hand);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (signal_number != 0)
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == signal_number);
    else
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static struct in_hand *reopen(const struct place *place)
{
    struct in_hand *in_hand = NULL;
    struct error error;

    assert_int_equal(in_hand_open(&in_hand, place->path, &error), 0);
    return in_hand;
}

static void test_suspects_and_guilt(void **state)
{
    const spool_id first[] = {0x100, 0x200, 0x300}, second[] = {0x200, 0x900};
    struct in_hand *in_hand;
    struct place place;
    size_t position = 0;
    spool_id id;
    unsigned slot;

    (void)state;
    place_make(&place);
    live_and_die(&place, first, 3, SIGSEGV);
    in_hand = reopen(&place);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(in_hand_verdict(in_hand, first[i]), IN_HAND_SUSPECT);
    assert_int_equal(in_hand_verdict(in_hand, 0x900), IN_HAND_INNOCENT);
    /* 0x100 is handled without harm. */
    slot = in_hand_enter(in_hand, 0x100);
    in_hand_leave(in_hand, slot);
    assert_int_equal(in_hand_verdict(in_hand, 0x100), IN_HAND_INNOCENT);
    in_hand_close(&in_hand);
    /* 0x200 is there at the next crash, too; 0x300 was not tried by then. */
    live_and_die(&place, second, 2, SIGABRT);
    in_hand = reopen(&place);
    assert_int_equal(in_hand_verdict(in_hand, 0x100), IN_HAND_INNOCENT);
    assert_int_equal(in_hand_verdict(in_hand, 0x200), IN_HAND_GUILTY);
    assert_int_equal(in_hand_verdict(in_hand, 0x300), IN_HAND_SUSPECT);
    assert_int_equal(in_hand_verdict(in_hand, 0x900), IN_HAND_SUSPECT);
    in_hand_forget(in_hand, 0x200);
    assert_int_equal(in_hand_verdict(in_hand, 0x200), IN_HAND_INNOCENT);
    while (in_hand_next_suspect(in_hand, &position, &id))
        in_hand_forget(in_hand, id);
    in_hand_close(&in_hand);
    in_hand = reopen(&place);
    assert_int_equal(in_hand_verdict(in_hand, 0x300), IN_HAND_INNOCENT);
    in_hand_close(&in_hand);
    place_remove(&place);
}

/* Whoever kills the daemon, or ends it in good order, accuses no message. */
static void test_a_kill_is_no_crash(void **state)
{
    const spool_id ids[] = {0x100};
    struct in_hand *in_hand;
    struct place place;

    (void)state;
    place_make(&place);
    for (int i = 0; i < 3; i++) {
        live_and_die(&place, ids, 1, i == 2 ? 0 : SIGKILL);
        in_hand = reopen(&place);
        assert_int_equal(in_hand_verdict(in_hand, 0x100), IN_HAND_INNOCENT);
        in_hand_close(&in_hand);
    }
    place_remove(&place);
}

/* More than there are slots: the rest is not noted, and nothing else happens. A file of something else is not trusted. */
static void test_bounds(void **state)
{
    struct in_hand *in_hand;
    struct place place;
    struct error error;
    unsigned slots[3];
    FILE *file;

    (void)state;
    place_make(&place);
    file = fopen(place.path, "w");
    for (int i = 0; i < 70000; i++)
        fputc('x', file);
    fclose(file);
    in_hand = reopen(&place);
    assert_int_equal(in_hand_verdict(in_hand, 0x7878787878787878), IN_HAND_INNOCENT);
    for (unsigned i = 0; i < IN_HAND_SLOTS - 1; i++)
        assert_int_not_equal(in_hand_enter(in_hand, 0x100 + i), IN_HAND_NONE);
    for (unsigned i = 0; i < 3; i++)
        slots[i] = in_hand_enter(in_hand, i + 1);
    assert_int_not_equal(slots[0], IN_HAND_NONE);
    assert_int_equal(slots[1], IN_HAND_NONE);
    in_hand_leave(in_hand, slots[1]);
    in_hand_leave(in_hand, slots[0]);
    assert_int_equal(in_hand_enter(in_hand, 9), slots[0]);
    in_hand_close(&in_hand);
    unlink(place.path);
    assert_int_equal(mkdir(place.path, 0700), 0);
    assert_int_equal(in_hand_open(&in_hand, place.path, &error), -1);
    assert_int_equal(rmdir(place.path), 0);
    place_remove(&place);
}

static void recover(struct fixture *fixture, const char *recipients)
{
    struct buf data = fixture_envelope("alice@contoso.test", recipients, clock_real_ms());

    queue_recover_message(fixture->queue, ++fixture->last_id << 8, buf_str(&data), 1000);
    buf_release(&data);
}

static bool all_but_one_dead(struct fixture *fixture)
{
    return fixture->dead_count + 1 >= fixture->last_id;
}

/* The whole way: five under way at the first crash, one of them at the second; that one is put on hold and can be released. */
static void test_quarantine(void **state)
{
    const spool_id first[] = {0x100, 0x200, 0x300, 0x400, 0x500}, second[] = {0x300};
    struct fixture *fixture;
    struct place place;
    struct seen seen;

    (void)state;
    place_make(&place);
    live_and_die(&place, first, 5, SIGSEGV);
    live_and_die(&place, second, 1, SIGBUS);
    fixture = fixture_create();
    queue_set_resources(fixture->queue, fixture->disk_pool, place.path);
    fixture->queue->settings = fixture->settings;
    for (int i = 0; i < 6; i++)
        recover(fixture, "ok@here");
    queue_recovery_done(fixture->queue);
    fixture_start(fixture);
    assert_true(fixture_wait(fixture, all_but_one_dead));
    assert_true(postmaster_show(fixture, 0x300, &seen));
    assert_true(seen.is_held && seen.is_quarantined);
    assert_int_equal(fixture->events[0].kind, QUEUE_EVENT_HELD);
    assert_true(fixture->events[0].id == 0x300);
    assert_int_equal(postmaster_order_one(fixture, 0x300, QUEUE_ACTION_RELEASE).messages, 1);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    fixture_destroy(fixture);
    place_remove(&place);
}

static bool two_taken(struct fixture *fixture)
{
    return fixture->attempt_count >= 2;
}

/* Suspects are tried one after the other, so that the next crash shows which it was; one that takes its time does not keep the others for ever. */
static void test_suspects_take_turns(void **state)
{
    const spool_id ids[] = {0x100, 0x200, 0x300};
    struct queue_statistics statistics;
    struct fixture *fixture;
    struct place place;

    (void)state;
    place_make(&place);
    live_and_die(&place, ids, 3, SIGSEGV);
    fixture = fixture_create();
    queue_set_resources(fixture->queue, fixture->disk_pool, place.path);
    fixture->queue->settings = fixture->settings;
    for (int i = 0; i < 3; i++)
        recover(fixture, "stuck@here");
    recover(fixture, "ok@there");
    queue_recovery_done(fixture->queue);
    fixture_start(fixture);
    assert_true(fixture_wait(fixture, two_taken)); /* the first suspect, and the innocent one */
    queue_get_statistics(fixture->queue, &statistics);
    assert_true(statistics.recipients_waiting >= 1);
    fixture_set(fixture, &fixture->released, true);
    assert_true(fixture_wait(fixture, fixture_all_dead));
    fixture_destroy(fixture);
    place_remove(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_suspects_and_guilt),
        cmocka_unit_test(test_a_kill_is_no_crash),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_quarantine),
        cmocka_unit_test(test_suspects_take_turns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
