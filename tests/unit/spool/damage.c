/* SPDX-License-Identifier: Apache-2.0 */
/* A damaged disk costs what was damaged and nothing else, and says so: a bad byte must not take a thousand messages with it. */
#include "harness.h"

#include <errno.h>

#define SEGMENT_BYTES  (128u << 10)
#define CAPACITY_BYTES (8u << 20)
#define FIRST_SEGMENT  "data/spool/shard-00/00000001.seg"
#define MESSAGES       20u
#define FLIP_STEP      61u

/* Messages in batches of their own, some with results, one dead, in the first segment; closed. Returns where its log ends. */
static void make_spool(struct harness *h)
{
    harness_init(h, 7, CAPACITY_BYTES, SEGMENT_BYTES);
    CHECK(harness_open(h) == 0);
    for (size_t i = 0; i < MESSAGES; i++) {
        harness_message(h, 30, 1000, false, MODEL_NONE);
        if (i % 3 != 2)
            harness_wait(h);
    }
    harness_wait(h);
    harness_result(h, 3);
    harness_dead(h, 5);
    harness_close(h);
}

static size_t count_bad_bodies(struct harness *h)
{
    size_t bad = 0;

    for (size_t i = 0; i < h->message_count; i++) {
        int result;

        if (!harness_is_live(h, i))
            continue;
        result = harness_read_any(h, i);
        if (result == -EILSEQ)
            bad++;
        else
            CHECK(result == 0);
    }
    return bad;
}

/* One byte anywhere in the synced log: at most the message that it stood in is lost, and never silently. */
static void loses_only_what_is_damaged(void **state)
{
    size_t lost = 0;
    size_t bad_bodies = 0;

    (void)state;
    for (uint64_t offset = 0;; offset += FLIP_STEP) {
        struct spool_check_report report;
        struct harness h;
        size_t bad;
        int64_t damaged;

        snprintf(harness_where, sizeof(harness_where), "offset %u", (unsigned)offset);
        make_spool(&h);
        if (offset >= SEGMENT_BYTES / 4) {
            harness_release(&h);
            break;
        }
        CHECK(faulty_flip(h.faulty, FIRST_SEGMENT, offset));
        damaged = harness_check(&h, &report);
        CHECK(damaged >= 0);
        h.expects_damage = true;
        h.tolerates_revival = true;
        CHECK(harness_open(&h) == 0);
        bad = count_bad_bodies(&h);
        CHECK(h.missing_count + bad <= 1);
        if (h.missing_count > 0) {
            CHECK(h.damage_count > 0 && report.damaged_frames > 0);
            CHECK(harness_count_files(&h, "data/badmail") > 0);
        }
        CHECK(bad == report.damaged_bodies);
        lost += h.missing_count;
        bad_bodies += bad;
        harness_close(&h);
        harness_release(&h);
    }
    assert_true(lost > 0);
    assert_true(bad_bodies > 0);
}

/* The same piece is found at every start until its segment goes; the log tells it once. */
static void reports_damage_once(void **state)
{
    struct harness h;

    (void)state;
    make_spool(&h);
    assert_true(faulty_flip(h.faulty, FIRST_SEGMENT, 2 * 4096 + 64 + 20)); /* a frame header */
    h.expects_damage = true;
    h.tolerates_revival = true;
    CHECK(harness_open(&h) == 0);
    assert_true(h.damage_count > 0);
    assert_non_null(strstr(h.last_damage, "set aside as data/badmail/spool-00-1-"));
    harness_close(&h);
    h.damage_count = 0;
    CHECK(harness_open(&h) == 0);
    assert_int_equal(h.damage_count, 0);
    harness_close(&h);
    harness_release(&h);
}

/* Both copies of a header: the file is kept for whoever can read it, and the spool goes on without. */
static void keeps_a_file_without_header(void **state)
{
    struct harness h;

    (void)state;
    make_spool(&h);
    assert_true(faulty_flip(h.faulty, FIRST_SEGMENT, 10));
    assert_true(faulty_flip(h.faulty, FIRST_SEGMENT, 2048 + 10));
    h.expects_damage = true;
    CHECK(harness_open(&h) == 0);
    assert_int_equal(h.missing_count, MESSAGES - 1);
    assert_true(h.damage_count > 0);
    assert_non_null(strstr(h.last_damage, "00000001.seg.bad"));
    h.expects_damage = false;
    harness_message(&h, 30, 1000, false, MODEL_NONE);
    harness_close(&h);
    CHECK(harness_open(&h) == 0);
    harness_read_all(&h);
    harness_close(&h);
    harness_release(&h);
}

/* A big body that is gone or cut: its envelope is set aside, and the others live. */
static void misses_a_body_file(void **state)
{
    struct spool_check_report report;
    struct harness h;
    char path[128];

    (void)state;
    harness_init(&h, 7, CAPACITY_BYTES, SEGMENT_BYTES);
    CHECK(harness_open(&h) == 0);
    harness_message(&h, 30, 300000, true, MODEL_NONE);
    harness_wait(&h);
    assert_true(harness_first_file(&h, "data/spool/body", path, sizeof(path)));
    harness_message(&h, 30, 300000, true, MODEL_NONE);
    harness_close(&h);
    assert_true(faulty_flip(h.faulty, path, 1000));
    assert_int_equal(harness_check(&h, &report), 1);
    assert_int_equal(report.damaged_bodies, 1);
    CHECK(harness_open(&h) == 0);
    assert_int_equal(count_bad_bodies(&h), 1);
    harness_close(&h);
    h.options.vfs->remove(h.options.vfs, path);
    assert_int_equal(harness_check(&h, &report), 1);
    h.expects_damage = true;
    CHECK(harness_open(&h) == 0);
    assert_int_equal(h.missing_count, 1);
    assert_int_equal(h.damage_count, 1);
    harness_close(&h);
    harness_release(&h);
}

/* A disk that does not answer once: whatever is missing then is reported, and not taken for a torn tail and written over. */
static void never_takes_a_read_error_for_the_end(void **state)
{
    size_t opened = 0;
    size_t lost = 0;
    bool has_failed = true;

    (void)state;
    for (uint64_t read = 0; has_failed; read++) {
        struct harness h;
        uint64_t reads;

        snprintf(harness_where, sizeof(harness_where), "read %u fails", (unsigned)read);
        make_spool(&h);
        h.expects_damage = true;
        h.tolerates_revival = true;
        reads = faulty_count(h.faulty, FAULTY_READ);
        faulty_fail(h.faulty, FAULTY_READ, read, 2, EIO);
        if (harness_open(&h) == 0) {
            opened++;
            has_failed = faulty_count(h.faulty, FAULTY_READ) - reads > read;
            CHECK(h.missing_count == 0 || h.damage_count > 0);
            lost += h.missing_count;
            harness_close(&h);
        }
        faulty_clear_faults(h.faulty);
        CHECK(harness_open(&h) == 0);
        count_bad_bodies(&h);
        harness_close(&h);
        harness_release(&h);
    }
    assert_true(opened > 1 && lost > 0);
}

/* The check counts what is there, and changes nothing. */
static void checks_without_changing(void **state)
{
    struct spool_check_report report;
    struct harness h;
    uint64_t operations;

    (void)state;
    make_spool(&h);
    operations = faulty_count(h.faulty, FAULTY_ANY);
    assert_int_equal(harness_check(&h, &report), 0);
    assert_int_equal(faulty_count(h.faulty, FAULTY_ANY), operations);
    assert_int_equal(report.live_messages, MESSAGES - 1);
    assert_int_equal(report.dead_messages, 1);
    assert_int_equal(report.torn_tails, 0);
    assert_true(report.frames >= MESSAGES + 2);
    assert_int_equal(spool_check(h.options.vfs, "data/none", &report, NULL, NULL, NULL), -1);
    harness_release(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loses_only_what_is_damaged),           cmocka_unit_test(reports_damage_once),
        cmocka_unit_test(keeps_a_file_without_header),          cmocka_unit_test(misses_a_body_file),
        cmocka_unit_test(never_takes_a_read_error_for_the_end), cmocka_unit_test(checks_without_changing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
