/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments are used again only when nothing needs them. Too early, and settled mail rises from the dead; too late, and a few
 * slow messages hold the whole disk.
 */
#include "harness.h"

#include <time.h>

#define SEGMENT_BYTES  (64u << 10)
#define CAPACITY_BYTES (64u << 20)
#define PATIENCE_S     60

static void start(struct harness *h)
{
    harness_init(h, 3, CAPACITY_BYTES, SEGMENT_BYTES);
    CHECK(harness_open(h) == 0);
}

/* Messages that come and go, to move the log on by about so many segments. */
static void churn(struct harness *h, int segments)
{
    for (int i = 0; i < segments * 4; i++) {
        size_t first = harness_message(h, 40, 12000, false, MODEL_NONE);

        harness_wait(h);
        harness_dead(h, first);
    }
    harness_wait(h);
}

static uint64_t standing_segments(struct harness *h)
{
    struct spool_statistics statistics;

    spool_get_statistics(h->spool, &statistics);
    return statistics.segments;
}

/* Until no more than so many segments stand; the churn gives the compactor its occasions. */
static bool shrinks_to(struct harness *h, uint64_t segments)
{
    time_t end = time(NULL) + PATIENCE_S;

    while (standing_segments(h) > segments) {
        if (time(NULL) > end)
            return false;
        churn(h, 1);
    }
    return true;
}

static void reopen(struct harness *h, bool is_cut)
{
    if (is_cut)
        faulty_cut_power(h->faulty, 0);
    harness_close(h);
    faulty_restart(h->faulty);
    CHECK(harness_open(h) == 0);
    harness_read_all(h);
}

/* The simplest case: all dead, and nothing keeps the segments. */
static void frees_what_is_dead(void **state)
{
    struct harness h;

    (void)state;
    start(&h);
    churn(&h, 40);
    assert_true(shrinks_to(&h, 4));
    reopen(&h, true);
    harness_close(&h);
    harness_release(&h);
}

/* One message in each segment waits for days. */
static void moves_long_lived_messages(void **state)
{
    size_t waiting[20];
    struct harness h;

    (void)state;
    start(&h);
    for (int i = 0; i < 20; i++) {
        waiting[i] = harness_message(&h, 40, 1000, i % 5 == 0, MODEL_NONE);
        harness_wait(&h);
        for (int j = 0; j < 3; j++)
            harness_result(&h, waiting[i]);
        churn(&h, 1);
    }
    assert_true(shrinks_to(&h, 8));
    for (int i = 0; i < 20; i++) {
        assert_true(harness_is_live(&h, waiting[i]));
        harness_result(&h, waiting[i]);
    }
    harness_wait(&h);
    reopen(&h, true);
    for (int i = 0; i < 20; i++)
        assert_int_equal(h.messages[waiting[i]].seen_results, 4);
    harness_close(&h);
    harness_release(&h);
}

/*
 * A segment mostly alive holds one that died. Its dead record stands in a segment of which nothing else is left: that one may
 * be used again only after the record was copied, and so may the segment that holds the copy.
 */
static void keeps_dead_records_while_frames_stand(void **state)
{
    size_t staying[12];
    size_t settled[3];
    struct harness h;

    (void)state;
    start(&h);
    for (int i = 0; i < 12; i++) {
        staying[i] = harness_message(&h, 40, 4000, false, MODEL_NONE);
        if (i < 3)
            settled[i] = harness_message(&h, 40, 1000, false, MODEL_NONE);
    }
    harness_wait(&h);
    for (int round = 0; round < 3; round++) {
        churn(&h, 3);
        harness_dead(&h, settled[round]);
        harness_wait(&h);
        churn(&h, 20);
        reopen(&h, round == 1);
        for (int i = 0; i <= round; i++)
            assert_false(harness_is_live(&h, settled[i]));
        churn(&h, 20);
    }
    assert_true(shrinks_to(&h, 8));
    reopen(&h, true);
    for (int i = 0; i < 12; i++)
        assert_true(harness_is_live(&h, staying[i]));
    for (int i = 0; i < 3; i++)
        assert_false(harness_is_live(&h, settled[i]));
    for (int i = 0; i < 12; i++)
        harness_dead(&h, staying[i]);
    harness_wait(&h);
    assert_true(shrinks_to(&h, 4));
    reopen(&h, true);
    harness_close(&h);
    harness_release(&h);
}

/* Reports settle messages of older segments, by a frame that is itself a message and comes and goes. */
static void keeps_what_reports_settle(void **state)
{
    size_t staying;
    size_t failed[10];
    struct harness h;

    (void)state;
    start(&h);
    for (int i = 0; i < 10; i++) {
        staying = harness_message(&h, 40, 4000, false, MODEL_NONE);
        failed[i] = harness_message(&h, 40, 500, false, MODEL_NONE);
    }
    harness_wait(&h);
    for (int i = 0; i < 10; i++) {
        size_t report = harness_message(&h, 40, 800, false, failed[i]);

        harness_wait(&h);
        churn(&h, 2);
        if (i % 2)
            harness_dead(&h, report);
    }
    churn(&h, 20);
    reopen(&h, true);
    assert_true(harness_is_live(&h, staying));
    for (int i = 0; i < 10; i++)
        assert_false(harness_is_live(&h, failed[i]));
    harness_close(&h);
    harness_release(&h);
}

/* Freed segments are kept for use, but not all of them for ever. */
static void bounds_free_segments(void **state)
{
    struct spool_statistics statistics;
    time_t end = time(NULL) + PATIENCE_S;
    size_t first;
    struct harness h;

    (void)state;
    start(&h);
    first = harness_message(&h, 40, 1000, false, MODEL_NONE);
    for (int i = 0; i < 200; i++)
        harness_message(&h, 40, 12000, false, MODEL_NONE);
    harness_wait(&h);
    assert_true(standing_segments(&h) > 30);
    for (size_t i = first; i < h.message_count; i++)
        harness_dead(&h, i);
    harness_wait(&h);
    assert_true(shrinks_to(&h, 4));
    do {
        struct timespec pause = {0, 1000000};

        nanosleep(&pause, NULL);
        spool_get_statistics(h.spool, &statistics);
    } while (statistics.segments_free > 6 && time(NULL) < end);
    assert_true(statistics.segments_free <= 6);
    harness_close(&h);
    harness_release(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frees_what_is_dead),
        cmocka_unit_test(moves_long_lived_messages),
        cmocka_unit_test(keeps_dead_records_while_frames_stand),
        cmocka_unit_test(keeps_what_reports_settle),
        cmocka_unit_test(bounds_free_segments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
