/* SPDX-License-Identifier: Apache-2.0 */
/* The everyday use of the spool: what session, queue and delivery build on. */
#include "harness.h"

#include "base/mem.h"

#include <errno.h>

#define SEGMENT_BYTES  (1u << 20)
#define CAPACITY_BYTES (64u << 20)

static void start(struct harness *h)
{
    harness_init(h, 1, CAPACITY_BYTES, SEGMENT_BYTES);
    CHECK(harness_open(h) == 0);
}

static void restart(struct harness *h)
{
    harness_close(h);
    CHECK(harness_open(h) == 0);
}

static void finish(struct harness *h)
{
    if (h->spool)
        harness_close(h);
    harness_release(h);
}

/* Every size class comes back to the byte: in the frame, at its limit, and in a file of its own. */
static void keeps_messages_of_all_sizes(void **state)
{
    static const size_t sizes[] = {0, 1, 7, 8, 9, 4095, 4096, 4097, 100000, SPOOL_INLINE_BODY_BYTES};
    struct harness h;

    (void)state;
    start(&h);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        harness_message(&h, 8 + i * 1000, sizes[i], false, MODEL_NONE);
    harness_message(&h, 100, SPOOL_INLINE_BODY_BYTES + 1, true, MODEL_NONE);
    harness_message(&h, 100, 3u << 20, true, MODEL_NONE);
    harness_wait(&h);
    assert_int_equal(h.done_count, h.message_count);
    harness_read_all(&h);
    restart(&h);
    harness_read_all(&h);
    finish(&h);
}

/* The queue rebuilds retry times from results: their order is the order of submission, over restarts and reports. */
static void keeps_results_in_order(void **state)
{
    struct harness h;
    size_t a;
    size_t b;

    (void)state;
    start(&h);
    a = harness_message(&h, 20, 100, false, MODEL_NONE);
    b = harness_message(&h, 20, 100, false, MODEL_NONE);
    harness_wait(&h);
    for (int i = 0; i < 3; i++) {
        harness_result(&h, a);
        harness_result(&h, b);
    }
    restart(&h);
    assert_int_equal(h.messages[a].seen_results, 3);
    harness_result(&h, a);
    harness_dead(&h, b);
    restart(&h);
    assert_int_equal(h.messages[a].seen_results, 4);
    assert_false(harness_is_live(&h, b));
    finish(&h);
}

/* A report and the failure that it covers are one frame: after it the failed message is gone. */
static void settles_a_message_by_its_report(void **state)
{
    struct harness h;
    size_t failed;
    size_t report;

    (void)state;
    start(&h);
    failed = harness_message(&h, 20, 100, false, MODEL_NONE);
    harness_wait(&h);
    report = harness_message(&h, 30, 200, false, failed);
    harness_wait(&h);
    assert_null(spool_reader_open(h.spool, h.messages[failed].id));
    restart(&h);
    assert_true(harness_is_live(&h, report));
    assert_false(harness_is_live(&h, failed));
    finish(&h);
}

static void reads_parts_and_envelopes(void **state)
{
    struct spool_reader *reader;
    struct harness h;
    size_t place;
    char data[64];
    char *envelope;
    size_t length;

    (void)state;
    start(&h);
    place = harness_message(&h, 77, 5000, false, MODEL_NONE);
    harness_wait(&h);
    reader = spool_reader_open(h.spool, h.messages[place].id);
    assert_non_null(reader);
    assert_int_equal(spool_reader_body_bytes(reader), 5000);
    assert_int_equal(spool_reader_read(reader, data, sizeof(data), 4990, false), 10);
    assert_int_equal(spool_reader_read(reader, data, sizeof(data), 100, true), sizeof(data));
    assert_int_equal(spool_reader_read(reader, data, sizeof(data), 5000, false), 0);
    assert_int_equal(spool_reader_read(reader, data, sizeof(data), UINT64_MAX, false), 0);
    spool_reader_close(&reader);
    assert_null(reader);
    assert_int_equal(spool_read_envelope(h.spool, h.messages[place].id, &envelope, &length), 0);
    assert_int_equal(length, 77);
    free(envelope);
    assert_null(spool_reader_open(h.spool, 12345 << 8));
    assert_null(spool_reader_open(h.spool, 255)); /* of a shard that does not exist */
    assert_int_equal(spool_read_envelope(h.spool, 12345 << 8, &envelope, &length), -ENOENT);
    finish(&h);
}

/* A loop thread must not wait for the disk: opening a body's file is for a thread that may. */
static void never_opens_a_body_file_without_waiting(void **state)
{
    struct spool_reader *reader;
    struct harness h;
    size_t place;
    char data[64];

    (void)state;
    start(&h);
    place = harness_message(&h, 77, 300000, true, MODEL_NONE);
    harness_wait(&h);
    reader = spool_reader_open(h.spool, h.messages[place].id);
    assert_int_equal(spool_reader_read(reader, data, sizeof(data), 0, true), -EAGAIN);
    assert_int_equal(spool_reader_read(reader, data, sizeof(data), 0, false), sizeof(data));
    assert_int_equal(spool_reader_read(reader, data, sizeof(data), 64, true), sizeof(data));
    spool_reader_close(&reader);
    finish(&h);
}

/* A delivery under way reads on from a message that was settled meanwhile, and its segment used again. */
static void keeps_what_a_reader_reads(void **state)
{
    struct spool_reader *reader;
    struct harness h;
    size_t place;
    char before[1000];
    char after[1000];

    (void)state;
    harness_init(&h, 1, CAPACITY_BYTES, 64u << 10);
    CHECK(harness_open(&h) == 0);
    place = harness_message(&h, 20, sizeof(before), false, MODEL_NONE);
    harness_wait(&h);
    reader = spool_reader_open(h.spool, h.messages[place].id);
    assert_int_equal(spool_reader_read(reader, before, sizeof(before), 0, false), sizeof(before));
    harness_dead(&h, place);
    for (int i = 0; i < 300; i++) {
        harness_dead(&h, harness_message(&h, 20, 3000, false, MODEL_NONE));
        harness_wait(&h);
    }
    assert_int_equal(spool_reader_read(reader, after, sizeof(after), 0, false), sizeof(after));
    assert_memory_equal(before, after, sizeof(before));
    spool_reader_close(&reader);
    finish(&h);
}

/* Two processes in one spool would write over each other. */
static void is_locked(void **state)
{
    const struct spool_recovery recovery = {0};
    struct spool_check_report report;
    struct spool *second;
    struct error error;
    struct harness h;

    (void)state;
    start(&h);
    second = spool_create(&h.options);
    assert_int_equal(spool_open(second, &recovery, &error), -1);
    assert_non_null(strstr(error.text, "in use by another process"));
    spool_close(&second);
    assert_null(second);
    assert_int_equal(harness_check(&h, &report), -1);
    finish(&h);
}

/* An id stands in Received lines and logs: one that was given out is never given again. */
static void never_gives_an_id_twice(void **state)
{
    struct harness h;
    spool_id unused;
    spool_id next;

    (void)state;
    start(&h);
    harness_message(&h, 20, 100, false, MODEL_NONE);
    unused = spool_reserve_id(h.spool, 0);
    restart(&h);
    next = spool_reserve_id(h.spool, 0);
    assert_true(next > unused);
    harness_message(&h, 20, 100, false, MODEL_NONE);
    harness_wait(&h);
    unused = spool_reserve_id(h.spool, 0);
    harness_kill(&h);
    CHECK(harness_open(&h) == 0);
    assert_true(spool_reserve_id(h.spool, 0) > unused);
    finish(&h);
}

/* More shards may be asked for at any start; those that exist stay. */
static void gains_shards(void **state)
{
    bool seen[4] = {false};
    struct harness h;

    (void)state;
    start(&h);
    for (int i = 0; i < 5; i++)
        harness_message(&h, 20, 100, false, MODEL_NONE);
    harness_close(&h);
    h.options.shard_count = 4;
    CHECK(harness_open(&h) == 0);
    for (int i = 0; i < 20; i++) {
        size_t place = harness_message(&h, 20, 100, false, MODEL_NONE);
        unsigned shard = spool_shard_of(h.messages[place].id);

        assert_true(shard < 4);
        seen[shard] = true;
        assert_int_equal(spool_shard_of(spool_reserve_id(h.spool, h.messages[place].id)), shard);
    }
    assert_true(seen[0] && seen[1] && seen[2] && seen[3]);
    harness_close(&h);
    h.options.shard_count = 2;
    CHECK(harness_open(&h) == 0);
    harness_read_all(&h);
    finish(&h);
}

/* What can never fit is refused at once, and hurts nobody else. */
static void refuses_what_fits_no_segment(void **state)
{
    struct harness h;

    (void)state;
    harness_init(&h, 1, CAPACITY_BYTES, 64u << 10);
    CHECK(harness_open(&h) == 0);
    harness_message(&h, 20, 100000, false, MODEL_NONE);
    harness_message(&h, 20, 100, false, MODEL_NONE);
    harness_wait(&h);
    assert_int_equal(h.failed_count, 1);
    assert_int_equal(h.done_count, 1);
    h.messages[0].fate = FATE_GONE;
    restart(&h);
    finish(&h);
}

/* Late news of a message that is gone must not stop the log, nor bring it back. */
static void drops_results_of_the_dead(void **state)
{
    struct harness h;
    size_t place;

    (void)state;
    start(&h);
    place = harness_message(&h, 20, 100, false, MODEL_NONE);
    harness_wait(&h);
    harness_dead(&h, place);
    harness_wait(&h);
    harness_result(&h, place);
    harness_dead(&h, place);
    harness_wait(&h);
    assert_int_equal(h.done_count, 4);
    restart(&h);
    assert_false(harness_is_live(&h, place));
    finish(&h);
}

/* Results share syncs: a delivery rate of thousands a second must not cost thousands of syncs. */
static void gathers_results(void **state)
{
    struct spool_statistics before;
    struct spool_statistics after;
    struct harness h;

    (void)state;
    start(&h);
    for (int i = 0; i < 500; i++)
        harness_message(&h, 20, 100, false, MODEL_NONE);
    harness_wait(&h);
    spool_get_statistics(h.spool, &before);
    for (size_t i = 0; i < 500; i++)
        harness_dead(&h, i);
    harness_wait(&h);
    spool_get_statistics(h.spool, &after);
    assert_int_equal(after.live_messages, 0);
    assert_true(after.syncs - before.syncs < 100);
    finish(&h);
}

/* A body file without a message is a left-over, of a client that went away or of a crash. */
static void removes_orphaned_body_files(void **state)
{
    struct spool_body_file *file;
    struct harness h;
    size_t kept;
    uint64_t names = 0;

    (void)state;
    start(&h);
    kept = harness_message(&h, 20, 300000, true, MODEL_NONE);
    assert_int_equal(spool_body_file_create(h.spool, &file), 0);
    assert_int_equal(spool_body_file_append(file, "abc", 3), 0);
    assert_int_equal(spool_body_file_finish(file), 0);
    mem_free(&file); /* as a crash forgets it */
    assert_int_equal(spool_body_file_create(h.spool, &file), 0);
    spool_body_file_discard(&file);
    assert_null(file);
    restart(&h);
    names = harness_count_files(&h, "data/spool/body");
    assert_int_equal(names, 1);
    harness_dead(&h, kept);
    restart(&h);
    assert_int_equal(harness_count_files(&h, "data/spool/body"), 0);
    finish(&h);
}

static size_t batches;

static void count_batch(void *context)
{
    (void)context;
    __atomic_fetch_add(&batches, 1, __ATOMIC_RELAXED);
}

static void tells_of_each_batch(void **state)
{
    struct harness h;

    (void)state;
    harness_init(&h, 1, CAPACITY_BYTES, SEGMENT_BYTES);
    h.options.batch_done = count_batch;
    CHECK(harness_open(&h) == 0);
    harness_message(&h, 20, 100, false, MODEL_NONE);
    harness_close(&h);
    assert_true(__atomic_load_n(&batches, __ATOMIC_RELAXED) >= 1);
    finish(&h);
}

/* A start, a stop and nothing else, again and again, must not eat the disk. */
static void rests_without_growing(void **state)
{
    struct spool_statistics statistics;
    struct harness h;
    uint64_t bytes;

    (void)state;
    harness_init(&h, 1, CAPACITY_BYTES, 64u << 10);
    for (int i = 0; i < 100; i++) {
        CHECK(harness_open(&h) == 0);
        harness_close(&h);
    }
    CHECK(harness_open(&h) == 0);
    spool_get_statistics(h.spool, &statistics);
    bytes = statistics.bytes_on_disk;
    assert_true(bytes <= 7 * (64u << 10));
    finish(&h);
}

/* The system's files behave as the simulated ones do. */
static void works_on_a_real_disk(void **state)
{
    char directory[] = "/tmp/postern-spool-XXXXXX";
    char *command;
    struct harness h;

    (void)state;
    assert_non_null(mkdtemp(directory));
    harness_init(&h, 1, CAPACITY_BYTES, 256u << 10);
    h.options.vfs = vfs_system();
    h.options.directory = mem_printf("%s/spool", directory);
    h.options.badmail_directory = mem_printf("%s/badmail", directory);
    for (int life = 0; life < 3; life++) {
        CHECK(harness_open(&h) == 0);
        for (int i = 0; i < 300; i++)
            harness_random_step(&h);
        harness_wait(&h);
        harness_read_all(&h);
        harness_close(&h);
    }
    free((char *)(uintptr_t)h.options.directory);
    free((char *)(uintptr_t)h.options.badmail_directory);
    harness_release(&h);
    command = mem_printf("rm -rf %s", directory);
    assert_int_equal(system(command), 0);
    free(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_messages_of_all_sizes),
        cmocka_unit_test(keeps_results_in_order),
        cmocka_unit_test(settles_a_message_by_its_report),
        cmocka_unit_test(reads_parts_and_envelopes),
        cmocka_unit_test(never_opens_a_body_file_without_waiting),
        cmocka_unit_test(keeps_what_a_reader_reads),
        cmocka_unit_test(is_locked),
        cmocka_unit_test(never_gives_an_id_twice),
        cmocka_unit_test(gains_shards),
        cmocka_unit_test(refuses_what_fits_no_segment),
        cmocka_unit_test(drops_results_of_the_dead),
        cmocka_unit_test(gathers_results),
        cmocka_unit_test(removes_orphaned_body_files),
        cmocka_unit_test(tells_of_each_batch),
        cmocka_unit_test(rests_without_growing),
        cmocka_unit_test(works_on_a_real_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
