/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tracking log: its files by day, what is removed when, and the search. What breaks here: an administrator who asks what became of a message is told
 * nothing or a lie, or the log fills the disk.
 */
#include "control/tracking.h"

#include "base/mem.h"
#include "control/daily.h"
#include "control/tracking_search.h"
#include "os/clock.h"

#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define DAY_MS   86400000
#define START_MS (1795255200000) /* 2026-11-21 10:00:00 */

static _Atomic int64_t now_ms = START_MS;

static uint64_t monotonic_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int64_t real_ms(void)
{
    return now_ms;
}

struct fixture {
    char directory[64];
    char *files;
    struct tracking *tracking;
    struct envelope envelope;
    struct envelope_recipient recipients[2];
};

static int remove_file(void *context, const char *name)
{
    char *path = mem_printf("%s/%s", ((struct fixture *)context)->files, name);

    vfs_system()->remove(vfs_system(), path);
    free(path);
    return 0;
}

static void configure(struct fixture *f, uint64_t keep_ms, uint64_t bytes_max)
{
    const struct config_tracking config = {
        .enabled = true, .refusals = true, .keep_ms = keep_ms, .bytes_max = bytes_max};

    assert_int_equal(tracking_configure(f->tracking, &config, NULL), 0);
}

static int setup(void **state)
{
    struct fixture *f = mem_alloc(sizeof(*f));

    now_ms = START_MS;
    snprintf(f->directory, sizeof(f->directory), "/tmp/postern-tracking-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    f->files = mem_printf("%s/tracking", f->directory);
    f->tracking = tracking_create(vfs_system(), f->directory);
    f->recipients[0] = (struct envelope_recipient){.address = STR("bob@contoso.test")};
    f->recipients[1] = (struct envelope_recipient){.address = STR("v@example.net")};
    f->envelope = (struct envelope){.arrived_at_ms = START_MS,
                                    .sender = STR("Alice@contoso.test"),
                                    .client = STR("192.0.2.1"),
                                    .server = STR("internet"),
                                    .recipients = f->recipients,
                                    .recipient_count = 2};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    tracking_destroy(&f->tracking);
    vfs_system()->list(vfs_system(), f->files, remove_file, f);
    rmdir(f->files);
    rmdir(f->directory);
    free(f->files);
    free(f);
    return 0;
}

static void tell(struct fixture *f, enum mail_event_kind kind, uint64_t id, size_t recipient, const char *reply)
{
    const struct mail_event event = {.kind = kind,
                                     .id = id,
                                     .envelope = &f->envelope,
                                     .recipient = recipient,
                                     .size_bytes = 100,
                                     .reply = str_from_cstr(reply)};

    mail_event_tell(tracking_sink(f->tracking), &event);
}

static size_t search(struct fixture *f, const struct tracking_filter *filter, struct buf *found)
{
    struct tracking_search *searching;
    size_t lines = 0;
    int result;

    tracking_flush(f->tracking);
    buf_init(found, 64u << 20);
    assert_int_equal(tracking_search_create(&searching, vfs_system(), f->files, filter), 0);
    do {
        struct buf piece;

        buf_init(&piece, 4u << 20);
        result = tracking_search_next(searching, &piece);
        assert_true(result >= 0);
        buf_append_str(found, buf_str(&piece));
        buf_release(&piece);
    } while (result > 0);
    tracking_search_destroy(&searching);
    for (size_t i = 0; i < found->length; i++)
        lines += found->data[i] == '\n';
    return lines;
}

static size_t count(struct fixture *f, const struct tracking_filter *filter)
{
    struct buf found;
    size_t lines = search(f, filter, &found);

    buf_release(&found);
    return lines;
}

static bool has_file(struct fixture *f, const char *name)
{
    char *path = mem_printf("%s/%s", f->files, name);
    bool result = access(path, F_OK) == 0;

    free(path);
    return result;
}

static void append(struct fixture *f, const char *name, const char *text)
{
    char *path = mem_printf("%s/%s", f->files, name);
    FILE *file = fopen(path, "ab");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    free(path);
}

/* ---- names ---- */

static void names_files_by_day(void **state)
{
    static const char *const foreign[] = {"2026-11-21",          "2026-11-21.json",     "2026-13-01.jsonl",
                                          "2026-11-21-1.jsonl",  "2026-11-21-02.jsonl", "x2026-11-21.jsonl",
                                          "2026-11-21-2x.jsonl", "2026-02-30.jsonl",    "ex261121.log"};
    const struct daily_file first = {.day = START_MS / DAY_MS, .part = 1},
                            third = {.day = START_MS / DAY_MS, .part = 3};
    char name[DAILY_NAME_BYTES];
    struct daily_file file;

    (void)state;
    daily_name(DAILY_NAMES_ISO, &first, name);
    assert_string_equal(name, "2026-11-21.jsonl");
    daily_name(DAILY_NAMES_W3C, &third, name);
    assert_string_equal(name, "ex261121-3.log");
    assert_true(daily_parse_name(DAILY_NAMES_W3C, STR("ex261121-3.log"), &file));
    assert_int_equal(daily_compare(&file, &third), 0);
    assert_true(daily_compare(&first, &third) < 0);
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++)
        assert_false(daily_parse_name(DAILY_NAMES_ISO, str_from_cstr(foreign[i]), &file));
}

/* ---- writing ---- */

static void writes_what_it_is_told(void **state)
{
    struct fixture *f = *state;
    struct mail_event event = {.kind = MAIL_EVENT_DEFERRED,
                               .id = 0x1A,
                               .envelope = &f->envelope,
                               .recipient = 1,
                               .size_bytes = 341,
                               .rule = STR("servers.internet.relay.only[0]"),
                               .rule_file = "postern.yaml",
                               .rule_line = 31,
                               .status = "4.2.1",
                               .reply = STR("450 \"later\"\n"),
                               .remote = "mx.example.net",
                               .attempts = 1,
                               .next_attempt_at_ms = START_MS + 60000};
    struct buf found;
    json_t *line;

    configure(f, 30 * (uint64_t)DAY_MS, 0);
    now_ms = START_MS + 1500;
    mail_event_tell(tracking_sink(f->tracking), &event);
    assert_int_equal(search(f, &(struct tracking_filter){.id = 0x1A}, &found), 1);
    line = json_loadb(found.data, found.length, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(line, "time")), "2026-11-21T10:00:01.500Z");
    assert_string_equal(json_string_value(json_object_get(line, "event")), "deferred");
    assert_string_equal(json_string_value(json_object_get(line, "id")), "1A");
    assert_string_equal(json_string_value(json_object_get(line, "sender")), "Alice@contoso.test");
    assert_string_equal(json_string_value(json_object_get(line, "recipient")), "v@example.net");
    assert_string_equal(json_string_value(json_object_get(line, "rule_at")), "postern.yaml:31");
    assert_string_equal(json_string_value(json_object_get(line, "reply")), "450 \"later\"\n");
    assert_string_equal(json_string_value(json_object_get(line, "next_attempt")), "2026-11-21T10:01:00Z");
    assert_int_equal(json_integer_value(json_object_get(line, "latency_ms")), 1500);
    assert_int_equal(json_integer_value(json_object_get(line, "size")), 341);
    json_decref(line);
    buf_release(&found);
}

/* What has no message yet, and no sender, is told all the same. */
static void writes_refusals(void **state)
{
    struct fixture *f = *state;
    const struct envelope stranger = {.client = STR("198.51.100.7")};
    const struct mail_event event = {.kind = MAIL_EVENT_REFUSED,
                                     .envelope = &stranger,
                                     .stage = "connect",
                                     .code = 554,
                                     .status = "5.7.1",
                                     .reply = STR("No")};
    const struct config_tracking quiet = {.enabled = true, .refusals = false, .keep_ms = DAY_MS};
    struct buf found;

    configure(f, 0, 0);
    mail_event_tell(tracking_sink(f->tracking), &event);
    assert_int_equal(search(f, &(struct tracking_filter){.kinds = 1u << MAIL_EVENT_REFUSED}, &found), 1);
    assert_null(memmem(found.data, found.length, "sender", 6));
    assert_non_null(memmem(found.data, found.length, "198.51.100.7", 12));
    buf_release(&found);
    assert_int_equal(tracking_configure(f->tracking, &quiet, NULL), 0);
    mail_event_tell(tracking_sink(f->tracking), &event);
    assert_int_equal(count(f, &(struct tracking_filter){.id = 0}), 1);
}

static void begins_a_file_each_day(void **state)
{
    struct fixture *f = *state;

    configure(f, 0, 0);
    tell(f, MAIL_EVENT_RECEIVED, 1, 0, "");
    now_ms = START_MS + DAY_MS;
    tell(f, MAIL_EVENT_DELIVERED, 1, 0, "");
    tracking_flush(f->tracking);
    assert_true(has_file(f, "2026-11-21.jsonl"));
    assert_true(has_file(f, "2026-11-22.jsonl"));
    assert_int_equal(count(f, &(struct tracking_filter){.id = 1}), 2);
    assert_int_equal(count(f, &(struct tracking_filter){.id = 1, .since_at_ms = START_MS + 1}), 1);
    assert_int_equal(count(f, &(struct tracking_filter){.id = 1, .until_at_ms = START_MS + 1}), 1);
    assert_int_equal(count(f, &(struct tracking_filter){.id = 1, .until_at_ms = START_MS}), 0);
}

static void removes_what_is_too_old(void **state)
{
    struct fixture *f = *state;

    configure(f, 2 * (uint64_t)DAY_MS, 0);
    tell(f, MAIL_EVENT_RECEIVED, 1, 0, "");
    tracking_flush(f->tracking);
    append(f, "notes.txt", "not ours\n");
    now_ms = START_MS + 2 * DAY_MS;
    tell(f, MAIL_EVENT_RECEIVED, 2, 0, "");
    tracking_flush(f->tracking);
    assert_true(has_file(f, "2026-11-21.jsonl"));
    now_ms = START_MS + 3 * DAY_MS;
    tell(f, MAIL_EVENT_RECEIVED, 3, 0, "");
    tracking_flush(f->tracking);
    assert_false(has_file(f, "2026-11-21.jsonl"));
    assert_true(has_file(f, "2026-11-23.jsonl"));
    assert_true(has_file(f, "notes.txt"));
}

static uint64_t bytes_of_all(struct fixture *f)
{
    struct daily_file *files;
    size_t file_count;
    uint64_t bytes = 0;

    assert_int_equal(daily_list(vfs_system(), f->files, DAILY_NAMES_ISO, &files, &file_count), 0);
    for (size_t i = 0; i < file_count; i++) {
        char name[DAILY_NAME_BYTES], *path;
        struct vfs_file *file;

        daily_name(DAILY_NAMES_ISO, &files[i], name);
        path = mem_printf("%s/%s", f->files, name);
        assert_int_equal(vfs_system()->open(vfs_system(), path, VFS_READ, &file), 0);
        bytes += (uint64_t)file->vfs->size(file);
        file->vfs->close(file);
        free(path);
    }
    free(files);
    return bytes;
}

/* One day's flood ends up in parts, of which the last stay. */
static void stays_within_its_size(void **state)
{
    struct fixture *f = *state;
    static char reply[501];

    memset(reply, 'x', 500);
    configure(f, 0, DAILY_BYTES_MIN);
    for (uint64_t id = 1; id <= 12000; id++) {
        tell(f, MAIL_EVENT_DELIVERED, id, 0, reply);
        if (id % 1000 == 0)
            tracking_flush(f->tracking);
    }
    tracking_flush(f->tracking);
    assert_true(bytes_of_all(f) <= DAILY_BYTES_MIN);
    assert_true(bytes_of_all(f) > DAILY_BYTES_MIN / 2);
    assert_false(has_file(f, "2026-11-21.jsonl"));
    assert_int_equal(count(f, &(struct tracking_filter){.id = 1}), 0);
    assert_int_equal(count(f, &(struct tracking_filter){.id = 12000}), 1);
}

/* A crash tears the last line: it is passed over, and the next one is whole. */
static void goes_on_behind_a_torn_line(void **state)
{
    struct fixture *f = *state;

    configure(f, 0, 0);
    tell(f, MAIL_EVENT_RECEIVED, 1, 0, "");
    tracking_destroy(&f->tracking);
    append(f, "2026-11-21.jsonl", "{\"time\":\"2026-11-21T10:00:00.000Z\",\"event\":\"received\",\"id\":\"1\",\"recip");
    f->tracking = tracking_create(vfs_system(), f->directory);
    configure(f, 0, 0);
    tell(f, MAIL_EVENT_DELIVERED, 1, 0, "");
    assert_int_equal(count(f, &(struct tracking_filter){.id = 1}), 2);
}

/* ---- a disk that refuses ---- */

static atomic_bool is_refusing;

static int refusing_open(const struct vfs *vfs, const char *path, int flags, struct vfs_file **file)
{
    (void)vfs;
    return is_refusing ? -ENOSPC : vfs_system()->open(vfs_system(), path, flags, file);
}

static void counts_what_the_disk_refuses(void **state)
{
    struct fixture *f = *state;
    struct vfs vfs = *vfs_system();
    struct tracking_statistics statistics;

    vfs.open = refusing_open;
    tracking_destroy(&f->tracking);
    f->tracking = tracking_create(&vfs, f->directory);
    is_refusing = true;
    configure(f, 0, 0);
    tell(f, MAIL_EVENT_RECEIVED, 1, 0, "");
    tracking_flush(f->tracking);
    tracking_get_statistics(f->tracking, &statistics);
    assert_int_equal(statistics.lost, 1);
    is_refusing = false;
    tell(f, MAIL_EVENT_RECEIVED, 2, 0, "");
    tracking_flush(f->tracking);
    tracking_get_statistics(f->tracking, &statistics);
    assert_int_equal(statistics.lost, 1);
    assert_int_equal(statistics.written, 1);
    tracking_destroy(&f->tracking);
}

/* ---- the search ---- */

static void finds_by_each_condition(void **state)
{
    struct fixture *f = *state;
    struct tracking_filter filter;

    configure(f, 0, 0);
    tell(f, MAIL_EVENT_RECEIVED, 0x10, 0, "");
    tell(f, MAIL_EVENT_RECEIVED, 0x10, 1, "");
    tell(f, MAIL_EVENT_DELIVERED, 0x10, 0, "Says \",\"recipient\":\"v@example.net\" and \",\"id\":\"11\"");
    tell(f, MAIL_EVENT_FAILED, 0x11, 1, "");
    assert_int_equal(count(f, &(struct tracking_filter){.id = 0x10}), 3);
    assert_int_equal(count(f, &(struct tracking_filter){.id = 0x11}), 1);
    assert_int_equal(count(f, &(struct tracking_filter){.id = 0x1}), 0);
    assert_int_equal(count(f, &(struct tracking_filter){.recipient = STR("V@EXAMPLE.net")}), 2);
    assert_int_equal(count(f, &(struct tracking_filter){.recipient = STR("*@contoso.test")}), 2);
    assert_int_equal(count(f, &(struct tracking_filter){.sender = STR("alice@*")}), 4);
    assert_int_equal(count(f, &(struct tracking_filter){.sender = STR("alice@")}), 0);
    filter = (struct tracking_filter){.recipient = STR("v@example.net"), .kinds = 1u << MAIL_EVENT_FAILED};
    assert_int_equal(count(f, &filter), 1);
    filter = (struct tracking_filter){.kinds = 1u << MAIL_EVENT_FAILED | 1u << MAIL_EVENT_DELIVERED};
    assert_int_equal(count(f, &filter), 2);
}

static void passes_over_foreign_lines(void **state)
{
    struct fixture *f = *state;
    static char long_line[(1u << 20) + 5000];

    configure(f, 0, 0);
    tell(f, MAIL_EVENT_RECEIVED, 1, 0, "");
    tracking_flush(f->tracking);
    memset(long_line, 'x', sizeof(long_line) - 2);
    long_line[sizeof(long_line) - 2] = '\n';
    append(f, "2026-11-20.jsonl", long_line);
    append(f, "2026-11-20.jsonl",
           "\n{}\n[1]\nnothing\n"
           "{\"time\":\"2026-11-20T10:00:00.000Z\",\"event\":\"received\",\"id\":\"1\"\n"
           "{\"time\":\"2026-11-20T10:00:00.000Z\",\"event\":\"received\",\"id\":\"1\"}\n");
    assert_int_equal(count(f, &(struct tracking_filter){.id = 1}), 2);
}

static void an_empty_log_has_nothing(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(count(f, &(struct tracking_filter){.id = 1}), 0);
}

int main(void)
{
    static const struct clock_source source = {.monotonic_ms = monotonic_ms, .real_ms = real_ms};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_files_by_day),
        cmocka_unit_test_setup_teardown(writes_what_it_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(writes_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(begins_a_file_each_day, setup, teardown),
        cmocka_unit_test_setup_teardown(removes_what_is_too_old, setup, teardown),
        cmocka_unit_test_setup_teardown(stays_within_its_size, setup, teardown),
        cmocka_unit_test_setup_teardown(goes_on_behind_a_torn_line, setup, teardown),
        cmocka_unit_test_setup_teardown(counts_what_the_disk_refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(finds_by_each_condition, setup, teardown),
        cmocka_unit_test_setup_teardown(passes_over_foreign_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(an_empty_log_has_nothing, setup, teardown),
    };

    clock_use(&source);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
