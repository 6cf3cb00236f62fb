/* SPDX-License-Identifier: Apache-2.0 */
/* A full disk refuses new mail and still finishes old mail, and new mail is taken again when there is space. */
#include "harness.h"

#include "os/clock.h"

#include <errno.h>
#include <stdatomic.h>
#include <time.h>

#define SEGMENT_BYTES (64u << 10)
#define PATIENCE_S    60

/* Fills the disk with messages until one is refused; returns how many were taken. */
static size_t fill(struct harness *h)
{
    size_t before = h->full_count;

    for (int i = 0; h->full_count == before; i++) {
        CHECK(i < 10000);
        harness_message(h, 50, 3000, false, MODEL_NONE);
        harness_wait(h);
    }
    return h->done_count;
}

/* Until the spool says that there is room again; its keeper looks every 100 ms. */
static bool has_room_again(struct harness *h)
{
    time_t end = time(NULL) + PATIENCE_S;

    while (spool_is_full(h->spool, 3000)) {
        struct timespec pause = {0, 5000000};

        if (time(NULL) > end)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

static void start(struct harness *h, uint64_t capacity_bytes)
{
    harness_init(h, 1, capacity_bytes, SEGMENT_BYTES);
    CHECK(harness_open(h) == 0);
}

static void finish(struct harness *h)
{
    if (h->spool)
        harness_close(h);
    harness_release(h);
}

static void refuses_new_mail_and_finishes_old(void **state)
{
    struct harness h;
    size_t taken;

    (void)state;
    start(&h, 1u << 20);
    taken = fill(&h);
    assert_true(taken > 50);
    assert_int_equal(h.failed_count, 0);
    assert_true(spool_is_full(h.spool, 4000));
    assert_true(spool_is_full(h.spool, SPOOL_INLINE_BODY_BYTES + 1));
    for (size_t i = 0; i < taken; i++) {
        harness_result(&h, i);
        harness_dead(&h, i);
    }
    harness_wait(&h);
    assert_int_equal(h.full_count, 1);
    assert_int_equal(h.failed_count, 0);
    assert_true(has_room_again(&h));
    harness_message(&h, 50, 3000, false, MODEL_NONE);
    harness_close(&h);
    assert_int_equal(h.full_count, 1);
    CHECK(harness_open(&h) == 0);
    harness_read_all(&h);
    finish(&h);
}

/* Until the keeper has the next segment and the reserve. */
static bool is_prepared(struct harness *h)
{
    time_t end = time(NULL) + PATIENCE_S;
    struct spool_statistics statistics;

    for (spool_get_statistics(h->spool, &statistics); statistics.segments_free < 2;
         spool_get_statistics(h->spool, &statistics)) {
        struct timespec pause = {0, 1000000};

        if (time(NULL) > end)
            return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

/* Not a byte is free: somebody else has filled the disk. What was allocated before suffices to finish. */
static void writes_results_on_a_full_disk(void **state)
{
    struct harness h;
    size_t live = 200;

    (void)state;
    harness_init(&h, 1, 8u << 20, SEGMENT_BYTES);
    h.options.reserve_bytes = SEGMENT_BYTES;
    CHECK(harness_open(&h) == 0);
    for (size_t i = 0; i < live; i++)
        harness_message(&h, 50, 3000, false, MODEL_NONE);
    harness_wait(&h);
    assert_true(is_prepared(&h));
    faulty_set_capacity(h.faulty, 0);
    fill(&h);
    for (size_t i = 0; i < live; i++)
        harness_result(&h, i);
    harness_wait(&h);
    assert_int_equal(h.full_count, 1);
    for (size_t i = 0; i < live; i++) {
        harness_dead(&h, i);
        if (i % 100 == 0)
            harness_wait(&h);
    }
    harness_wait(&h);
    assert_int_equal(h.full_count, 1);
    assert_int_equal(h.failed_count, 0);
    harness_close(&h);
    CHECK(harness_open(&h) == 0); /* a full disk is no reason not to start */
    harness_read_all(&h);
    faulty_set_capacity(h.faulty, 8u << 20);
    assert_true(has_room_again(&h));
    harness_message(&h, 50, 3000, false, MODEL_NONE);
    harness_wait(&h);
    assert_int_equal(h.full_count, 1);
    finish(&h);
}

/* Restarted over and over by somebody who tries to repair it, without anything becoming free. */
static void restarts_on_a_full_disk(void **state)
{
    struct harness h;
    size_t refused = 0;

    (void)state;
    start(&h, 8u << 20);
    for (size_t i = 0; i < 100; i++)
        harness_message(&h, 50, 3000, false, MODEL_NONE);
    harness_wait(&h);
    faulty_set_capacity(h.faulty, 0);
    for (int i = 0; i < 40; i++) {
        if (i % 2)
            harness_close(&h);
        else
            harness_kill(&h);
        snprintf(harness_where, sizeof(harness_where), "restart %d", i);
        CHECK(harness_open(&h) == 0);
        harness_message(&h, 50, 3000, false, MODEL_NONE);
        harness_wait(&h);
        refused = h.full_count;
    }
    harness_read_all(&h);
    assert_true(refused > 0);
    assert_int_equal(h.failed_count, 0);
    finish(&h);
}

/* A clock in a hurry: each look at it is 200 ms later, so that each look at free space is due. */
static uint64_t hurried_ms(void)
{
    static atomic_uint_fast64_t now_ms = 1000000;

    return atomic_fetch_add(&now_ms, 200);
}

static int64_t real_ms(void)
{
    return 0;
}

static const struct clock_source hurried_clock = {hurried_ms, real_ms};

/* A body that grows into the reserve is refused while it arrives, not when it is complete. */
static void refuses_bodies_over_the_reserve(void **state)
{
    struct spool_body_file *file;
    struct harness h;
    static char data[SEGMENT_BYTES];
    int result = 0;
    int count = 0;

    (void)state;
    clock_use(&hurried_clock);
    start(&h, 1u << 20);
    assert_int_equal(spool_body_file_create(h.spool, &file), 0);
    while (result == 0 && count < 100) {
        result = spool_body_file_append(file, data, sizeof(data));
        count++;
    }
    assert_int_equal(result, -ENOSPC);
    spool_body_file_discard(&file);
    assert_true(has_room_again(&h));
    finish(&h);
    clock_use(NULL);
}

/* Nearly everything has died, a little lives in each segment: compaction makes the room, on a disk that has none. */
static void compacts_on_a_full_disk(void **state)
{
    struct harness h;
    size_t taken;

    (void)state;
    start(&h, 2u << 20);
    taken = fill(&h);
    for (size_t i = 0; i < taken; i++) {
        if (i % 12)
            harness_dead(&h, i);
    }
    harness_wait(&h);
    assert_true(has_room_again(&h));
    for (int i = 0; i < 100; i++) {
        harness_message(&h, 50, 3000, false, MODEL_NONE);
        harness_wait(&h);
        if (h.full_count > 1) {
            assert_true(has_room_again(&h));
            h.full_count = 1;
        }
    }
    harness_read_all(&h);
    harness_close(&h);
    CHECK(harness_open(&h) == 0);
    harness_read_all(&h);
    finish(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_new_mail_and_finishes_old), cmocka_unit_test(writes_results_on_a_full_disk),
        cmocka_unit_test(restarts_on_a_full_disk),           cmocka_unit_test(refuses_bodies_over_the_reserve),
        cmocka_unit_test(compacts_on_a_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
