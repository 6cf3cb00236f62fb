/* SPDX-License-Identifier: Apache-2.0 */
/* A message between the wire and the disk: every byte counts, and so does what happens when the disk does not answer. */
#include "session/draft.h"

#include "fake_spool.h"

#define RECEIVED "Received: from client\r\n\tby here\r\n"
#define ADDED_ID "Message-ID: <ours@here>\r\n"
/* What a draft holds in memory. */
#define MEMORY_BYTES ((size_t)15 * LOOP_BLOCK_BYTES)

struct setting {
    struct draft_store store;
    struct draft *draft;
};

static void setting_open(struct setting *setting)
{
    fake_start();
    setting->store = (struct draft_store){0};
    CHECK(worker_pool_create(&setting->store.disk_pool, "disk", 2, NULL) == 0);
}

static void setting_close(struct setting *setting)
{
    worker_pool_destroy(&setting->store.disk_pool);
    fake_stop();
    fiber_yield(); /* what the threads posted last */
}

static void begin(struct setting *setting)
{
    setting->draft = draft_create(&setting->store, STR(RECEIVED), STR("ours@here"));
}

static enum draft_status commit(struct setting *setting, spool_id id)
{
    struct envelope_recipient recipient = {
        .address = STR("b@contoso.test"), .domain = STR("contoso.test"), .orcpt = STR("")};
    const struct envelope envelope = {.sender = STR("a@example.org"), .recipients = &recipient, .recipient_count = 1};

    return draft_commit(setting->draft, id, &envelope);
}

/* A header, and a body whose bytes tell where they belong. */
static void make_message(struct buf *message, struct str header, size_t length)
{
    buf_init(message, FAKE_BYTES_MAX);
    buf_append_str(message, header);
    while (message->length < length)
        buf_append_char(message, (char)('a' + message->length * 7 / 3 % 26));
}

/* In pieces of `step` bytes. */
static void append(struct draft *draft, struct str message, size_t step)
{
    while (message.length > 0) {
        struct str piece = str_take(message, step);

        draft_append(draft, piece);
        message = str_skip(message, piece.length);
    }
}

static void check_stored(struct setting *setting, struct str message, size_t step, bool has_id)
{
    static spool_id id;
    struct buf expected;
    unsigned queued = fake.queued, files = fake.files_created;
    bool is_large = message.length > MEMORY_BYTES;

    buf_init(&expected, FAKE_BYTES_MAX);
    buf_append_str(&expected, has_id ? STR(RECEIVED) : STR(RECEIVED ADDED_ID));
    buf_append_str(&expected, message);
    begin(setting);
    append(setting->draft, message, step);
    draft_finish(setting->draft);
    CHECK(draft_body_bytes(setting->draft) == expected.length);
    CHECK(commit(setting, ++id) == DRAFT_STORED);
    /* Durable and in the queue before anybody is told. */
    CHECK(fake_get(&fake.queued) == queued + 1 && fake.queued_id == id && fake.queued_bytes == expected.length);
    CHECK(str_equal(buf_str(&fake.body), buf_str(&expected)));
    CHECK(fake_get(&fake.files_created) == files + is_large);
    draft_release(&setting->draft);
    CHECK(setting->draft == NULL);
    buf_release(&expected);
}

static void scenario_sizes(void *argument)
{
    static const size_t steps[] = {SIZE_MAX, LOOP_BLOCK_BYTES, 1000};
    const size_t sizes[] = {0,
                            1,
                            LOOP_BLOCK_BYTES - 1,
                            LOOP_BLOCK_BYTES,
                            LOOP_BLOCK_BYTES + 1,
                            MEMORY_BYTES - 1,
                            MEMORY_BYTES,
                            MEMORY_BYTES + 1,
                            2 * MEMORY_BYTES,
                            2 * MEMORY_BYTES + 1,
                            5000000};
    struct setting setting;
    struct buf message;

    (void)argument;
    setting_open(&setting);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t j = 0; j < sizeof(steps) / sizeof(steps[0]); j++) {
            make_message(&message, sizes[i] > 0 ? STR("\r\n") : STR(""), sizes[i]);
            check_stored(&setting, buf_str(&message), steps[j], false);
            buf_release(&message);
        }
    }
    make_message(&message, STR("Subject: x\r\nMESSAGE-ID: <theirs@there>\r\n\r\n"), 100);
    check_stored(&setting, buf_str(&message), 1, true);
    buf_release(&message);
    make_message(&message, STR("Message-ID: <theirs@there>\r\n\r\n"), 3 * MEMORY_BYTES);
    check_stored(&setting, buf_str(&message), 999, true);
    buf_release(&message);
    setting_close(&setting);
    CHECK(fake.files_discarded == 0 && fake.files_finished == fake.files_created);
}

/* What comes out is what came in, plus the trace, on both sides of every border between blocks, memory and file. */
static void test_every_byte_is_stored(void **state)
{
    (void)state;
    harness_run(scenario_sizes, NULL);
}

static void scenario_scan(void *argument)
{
    struct setting setting;
    const struct header_scan *scan;

    (void)argument;
    setting_open(&setting);
    begin(&setting);
    append(setting.draft, STR("Received: a\r\nReceived: b\r\nMessage-ID: <theirs@there>\r\n\r\nplain"), 3);
    CHECK(!draft_has_8bit(setting.draft));
    append(setting.draft, STR("caf\xc3\xa9"), 1);
    CHECK(draft_has_8bit(setting.draft));
    scan = draft_finish(setting.draft);
    CHECK(scan->received_count == 2 && str_equal(header_scan_message_id(scan), STR("theirs@there")));
    draft_release(&setting.draft);
    draft_release(&setting.draft);
    setting_close(&setting);
    CHECK(fake.submitted == 0);
}

static void test_what_the_header_says(void **state)
{
    (void)state;
    harness_run(scenario_scan, NULL);
}

/* ---- trouble ---- */

static enum draft_status try_message(struct setting *setting, struct str header, size_t length)
{
    struct buf message;
    enum draft_status status;

    make_message(&message, header, length);
    begin(setting);
    append(setting->draft, buf_str(&message), 4096);
    draft_finish(setting->draft);
    status = commit(setting, 1);
    draft_release(&setting->draft);
    buf_release(&message);
    return status;
}

static void scenario_disk_errors(void *argument)
{
    struct setting setting;

    (void)argument;
    setting_open(&setting);
    fake.status = SPOOL_FULL;
    CHECK(try_message(&setting, STR("\r\n"), 100) == DRAFT_FULL);
    CHECK(try_message(&setting, STR("\r\n"), 2 * MEMORY_BYTES) == DRAFT_FULL);
    fake.status = SPOOL_FAILED;
    CHECK(try_message(&setting, STR("\r\n"), 100) == DRAFT_FAILED);
    CHECK(try_message(&setting, STR("\r\n"), 2 * MEMORY_BYTES) == DRAFT_FAILED);
    CHECK(fake_get(&fake.queued) == 0);
    /* A body file that can't be written is not submitted at all. */
    fake.status = SPOOL_DONE;
    fake.create_error = -ENOSPC;
    CHECK(try_message(&setting, STR("\r\n"), 2 * MEMORY_BYTES) == DRAFT_FULL);
    fake.create_error = 0;
    fake.append_error = -EIO;
    CHECK(try_message(&setting, STR("\r\n"), 2 * MEMORY_BYTES) == DRAFT_FAILED);
    fake.append_error = 0;
    fake.finish_error = -EIO;
    CHECK(try_message(&setting, STR("\r\n"), 2 * MEMORY_BYTES) == DRAFT_FAILED);
    fake.finish_error = -EDQUOT;
    CHECK(try_message(&setting, STR("\r\n"), 2 * MEMORY_BYTES) == DRAFT_FULL);
    CHECK(fake.submitted == 4);
    setting_close(&setting);
    CHECK(fake.files_discarded == fake.files_created && fake.queued == 0);
}

/* Whatever the disk does wrong, the client hears no 250, and no file stays behind. */
static void test_disk_errors(void **state)
{
    (void)state;
    harness_run(scenario_disk_errors, NULL);
}

static void scenario_long_header(void *argument)
{
    struct setting setting;

    (void)argument;
    setting_open(&setting);
    CHECK(try_message(&setting, STR("Subject: "), MEMORY_BYTES + 1) == DRAFT_HEADER_TOO_LONG);
    CHECK(try_message(&setting, STR("Subject: "), MEMORY_BYTES) == DRAFT_STORED);
    CHECK(fake.files_created == 0 && fake.submitted == 1);
    setting_close(&setting);
}

static void test_a_header_that_never_ends(void **state)
{
    (void)state;
    harness_run(scenario_long_header, NULL);
}

static void scenario_dropped(void *argument)
{
    struct setting setting;
    struct buf message;

    (void)argument;
    setting_open(&setting);
    make_message(&message, STR("\r\n"), 3 * MEMORY_BYTES);
    begin(&setting);
    draft_release(&setting.draft);
    begin(&setting);
    append(setting.draft, buf_str(&message), SIZE_MAX);
    CHECK(fake_get(&fake.files_created) == 1);
    draft_release(&setting.draft);
    buf_release(&message);
    setting_close(&setting);
    CHECK(fake.files_discarded == 1 && fake.submitted == 0);
}

/* The client goes in the middle of a large message: its file goes too. */
static void test_a_dropped_draft_leaves_nothing(void **state)
{
    (void)state;
    harness_run(scenario_dropped, NULL);
}

/* ---- a session that gives up ---- */

struct impatient {
    struct setting setting;
    struct fiber *fiber;
    struct harness_latch done;
    size_t length;
};

static void impatient_main(void *argument)
{
    struct impatient *impatient = argument;

    impatient->fiber = fiber_current();
    CHECK(try_message(&impatient->setting, STR("\r\n"), impatient->length) == DRAFT_FAILED);
    harness_arrive(&impatient->done);
}

static void scenario_commit_hangs(void *argument)
{
    struct impatient impatient = {.length = *(const size_t *)argument};

    setting_open(&impatient.setting);
    fake_set(&fake.hold_commits, true);
    CHECK(fiber_start(impatient_main, &impatient) == 0);
    while (fake_get(&fake.submitted) == 0)
        fiber_yield();
    fiber_cancel(impatient.fiber);
    harness_wait(&impatient.done, 1);
    /* The draft is released, and still all there. */
    fake_set(&fake.hold_commits, false);
    while (fake_get(&fake.queued) == 0)
        fiber_yield();
    CHECK(fake.body.length == sizeof(RECEIVED ADDED_ID) - 1 + impatient.length);
    setting_close(&impatient.setting);
    CHECK(fake.files_discarded == 0);
}

/* The spool writes on after the session has gone: from memory that must still be the message, which is then durable, and delivered. */
static void test_a_commit_outlives_its_session(void **state)
{
    size_t small = 5000, large = 2 * MEMORY_BYTES;

    (void)state;
    harness_run(scenario_commit_hangs, &small);
    harness_run(scenario_commit_hangs, &large);
}

static void scenario_append_hangs(void *argument)
{
    struct impatient impatient = {.length = 2 * MEMORY_BYTES};

    (void)argument;
    setting_open(&impatient.setting);
    fake_set(&fake.hold_appends, true);
    CHECK(fiber_start(impatient_main, &impatient) == 0);
    while (fake_get(&fake.appends_held) == 0)
        fiber_yield();
    fiber_cancel(impatient.fiber);
    harness_wait(&impatient.done, 1);
    CHECK(fake_get(&fake.files_discarded) == 0); /* a thread writes to it */
    fake_set(&fake.hold_appends, false);
    while (fake_get(&fake.files_discarded) == 0)
        fiber_yield();
    setting_close(&impatient.setting);
    CHECK(fake.submitted == 0 && fake.files_discarded == 1);
}

/* ... and so with a thread that writes the body file. */
static void test_a_body_file_outlives_its_session(void **state)
{
    (void)state;
    harness_run(scenario_append_hangs, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_byte_is_stored),
        cmocka_unit_test(test_what_the_header_says),
        cmocka_unit_test(test_disk_errors),
        cmocka_unit_test(test_a_header_that_never_ends),
        cmocka_unit_test(test_a_dropped_draft_leaves_nothing),
        cmocka_unit_test(test_a_commit_outlives_its_session),
        cmocka_unit_test(test_a_body_file_outlives_its_session),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
