/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The promise of the 250: what was acknowledged survives a power cut at any instant, to the byte, and what was settled does not
 * come back. If one of these fails, somebody's mail is lost or delivered again and again.
 */
#include "harness.h"

#define SEGMENT_BYTES  (64u << 10)
#define CAPACITY_BYTES (8u << 20)

/* A short life: messages of all kinds, results, reports, over several segments. */
static void work(struct harness *h, int steps)
{
    for (int i = 0; i < steps && !faulty_is_dark(h->faulty); i++)
        harness_random_step(h);
    harness_wait(h);
}

/* What is found after the loss must be right, and must still be right after the next one. */
static void check_after(struct harness *h)
{
    faulty_restart(h->faulty);
    CHECK(harness_open(h) == 0);
    harness_read_all(h);
    work(h, 10);
    harness_close(h);
    faulty_restart(h->faulty);
    CHECK(harness_open(h) == 0);
    harness_read_all(h);
    harness_close(h);
}

static uint64_t count_operations(uint64_t seed)
{
    struct harness h;
    uint64_t count;

    harness_init(&h, seed, CAPACITY_BYTES, SEGMENT_BYTES);
    CHECK(harness_open(&h) == 0);
    work(&h, 60);
    harness_close(&h);
    count = faulty_count(h.faulty, FAULTY_ANY);
    harness_release(&h);
    return count;
}

/* The power is cut at each operation in turn, from the making of the first directory to the last write of the shutdown. */
static void survives_a_cut_at_every_operation(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        uint64_t count = count_operations(seed);

        for (uint64_t cut = 0; cut < count; cut++) {
            struct harness h;

            snprintf(harness_where, sizeof(harness_where), "seed %u, cut at operation %u", (unsigned)seed,
                     (unsigned)cut);
            harness_init(&h, seed, CAPACITY_BYTES, SEGMENT_BYTES);
            faulty_cut_power(h.faulty, cut);
            if (harness_open(&h) == 0) {
                work(&h, 60);
                harness_close(&h);
            }
            check_after(&h);
            harness_release(&h);
        }
    }
}

/* A second cut while the first is being recovered from. */
static void survives_cuts_during_recovery(void **state)
{
    (void)state;
    for (uint64_t seed = 100; seed < 200; seed++) {
        struct harness h;

        snprintf(harness_where, sizeof(harness_where), "seed %u", (unsigned)seed);
        harness_init(&h, seed, CAPACITY_BYTES, SEGMENT_BYTES);
        faulty_cut_power(h.faulty, 100 + faulty_next_random(h.faulty) % 100);
        if (harness_open(&h) == 0) {
            work(&h, 60);
            harness_close(&h);
        }
        for (int i = 0; i < 5; i++) {
            faulty_restart(h.faulty);
            faulty_cut_power(h.faulty, (uint64_t)i);
            if (harness_open(&h) == 0)
                harness_close(&h);
        }
        check_after(&h);
        harness_release(&h);
    }
}

/* A process that is killed leaves in the page cache what is not on the disk. What is built upon it must not fall with it. */
static void survives_a_kill_and_then_a_cut(void **state)
{
    (void)state;
    for (uint64_t seed = 300; seed < 400; seed++) {
        struct harness h;

        snprintf(harness_where, sizeof(harness_where), "seed %u", (unsigned)seed);
        harness_init(&h, seed, CAPACITY_BYTES, SEGMENT_BYTES);
        CHECK(harness_open(&h) == 0);
        for (int round = 0; round < 4; round++) {
            work(&h, 20);
            for (int i = 0; i < 10; i++)
                harness_random_step(&h);
            harness_kill(&h);
            CHECK(harness_open(&h) == 0);
            harness_read_all(&h);
        }
        work(&h, 20);
        faulty_cut_power(h.faulty, 0);
        harness_close(&h);
        check_after(&h);
        harness_release(&h);
    }
}

/* Any write or sync may fail: it is never answered with success, and the log goes on elsewhere. */
static void survives_failing_writes_and_syncs(void **state)
{
    (void)state;
    for (uint64_t seed = 500; seed < 700; seed++) {
        struct harness h;

        snprintf(harness_where, sizeof(harness_where), "seed %u", (unsigned)seed);
        harness_init(&h, seed, CAPACITY_BYTES, SEGMENT_BYTES);
        CHECK(harness_open(&h) == 0);
        for (int round = 0; round < 4; round++) {
            enum faulty_kind kind = seed % 2 ? FAULTY_SYNC : FAULTY_WRITE;

            faulty_fail(h.faulty, kind, faulty_next_random(h.faulty) % 10, 1 + seed % 3, 5 /* EIO */);
            work(&h, 30);
            faulty_clear_faults(h.faulty);
            work(&h, 10);
            harness_read_all(&h);
        }
        if (seed % 4 < 2)
            faulty_cut_power(h.faulty, 0);
        harness_close(&h);
        check_after(&h);
        harness_release(&h);
    }
}

/* A long life with restarts of each kind; small segments, so that recycling and compaction never rest. */
static void survives_long_random_lives(void **state)
{
    (void)state;
    for (uint64_t seed = 1000; seed < 1060; seed++) {
        struct harness h;

        harness_init(&h, seed, CAPACITY_BYTES, seed % 2 ? SEGMENT_BYTES : 4 * SEGMENT_BYTES);
        h.options.shard_count = 1 + (unsigned)(seed % 3);
        for (int life = 0; life < 12; life++) {
            uint64_t end = faulty_next_random(h.faulty) % 4;

            snprintf(harness_where, sizeof(harness_where), "seed %u, life %d", (unsigned)seed, life);
            if (end == 0)
                faulty_cut_power(h.faulty, faulty_next_random(h.faulty) % 150);
            if (harness_open(&h) == 0) {
                work(&h, 100);
                if (end == 1)
                    harness_kill(&h);
                else
                    harness_close(&h);
            }
            if (end != 1)
                faulty_restart(h.faulty);
        }
        check_after(&h);
        harness_release(&h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(survives_a_cut_at_every_operation), cmocka_unit_test(survives_cuts_during_recovery),
        cmocka_unit_test(survives_a_kill_and_then_a_cut),    cmocka_unit_test(survives_failing_writes_and_syncs),
        cmocka_unit_test(survives_long_random_lives),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
