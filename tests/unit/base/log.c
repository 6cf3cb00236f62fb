/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log is what an administrator has when mail goes missing, and it is written from every loop thread: a client must
 * not be able to forge a line, and a reader that stops must not stop the relay.
 */
#include "base/log.h"

#include "base/log_private.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define THREADS          4
#define LINES_PER_THREAD 5000

static char text_line[LOG_LINE_BYTES_MAX + 1];

/* The line without its time, as a string. */
static const char *format(enum log_format format, const struct log_field *fields, size_t count)
{
    size_t length = log_line_format(text_line, LOG_LINE_BYTES_MAX, format, LOG_LEVEL_INFO, "event", fields, count);

    assert_true(length <= LOG_LINE_BYTES_MAX);
    assert_int_equal(text_line[length - 1], '\n');
    text_line[length - 1] = '\0';
    assert_null(strchr(text_line, '\n'));
    return text_line + (format == LOG_FORMAT_JSON ? strlen("{'time':'2026-11-21T10:00:00.123Z',") : 25);
}

static const char *format_one(enum log_format kind, struct log_field field)
{
    const char *line = format(kind, &field, 1);

    return line + strlen(kind == LOG_FORMAT_JSON ? "'level':'info','event':'event'," : "info event ");
}

static void test_time_is_rfc_3339(void **state)
{
    static const char shape[] = "0000-00-00T00:00:00.000Z ";

    (void)state;
    format(LOG_FORMAT_TEXT, NULL, 0);
    for (size_t i = 0; shape[i]; i++) {
        if (shape[i] == '0')
            assert_true(text_line[i] >= '0' && text_line[i] <= '9');
        else
            assert_int_equal(text_line[i], shape[i]);
    }
}

static void test_types(void **state)
{
    const struct log_field fields[] = {log_str("id", STR("1A")),
                                       log_cstr("from", "<a@b>"),
                                       log_u64("max", UINT64_MAX),
                                       log_i64("min", INT64_MIN),
                                       log_bool("yes", true),
                                       log_bool("no", false),
                                       log_str("empty", (struct str){NULL, 0})};

    (void)state;
    assert_string_equal(format(LOG_FORMAT_TEXT, fields, 7),
                        "info event id=1A from=<a@b> max=18446744073709551615 min=-9223372036854775808 yes=true "
                        "no=false empty=\"\"");
    assert_string_equal(format(LOG_FORMAT_JSON, fields, 7),
                        "\"level\":\"info\",\"event\":\"event\",\"id\":\"1A\",\"from\":\"<a@b>\","
                        "\"max\":18446744073709551615,\"min\":-9223372036854775808,\"yes\":true,\"no\":false,"
                        "\"empty\":\"\"}");
}

/* What a client sends in EHLO or MAIL is logged: it must not end the line, the field, or steer a terminal. */
static void test_hostile_values_are_escaped(void **state)
{
    static const struct {
        struct str value;
        const char *text;
        const char *json;
    } cases[] = {
        {STR_INIT("a b"), "\"a b\"", "\"a b\""},
        {STR_INIT("a=b"), "\"a=b\"", "\"a=b\""},
        {STR_INIT("a\"\\b"), "\"a\\\"\\\\b\"", "\"a\\\"\\\\b\""},
        {STR_INIT("x\r\n2026 error"), "\"x\\x0d\\x0a2026 error\"", "\"x\\u000d\\u000a2026 error\""},
        {STR_INIT("\0\x1b[2J\x7f"), "\"\\x00\\x1b[2J\\x7f\"", "\"\\u0000\\u001b[2J\\u007f\""},
        {STR_INIT("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"), "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"",
         "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {STR_INIT("\xc2\x9b"), "\"\\xc2\\x9b\"", "\"\\ufffd\\ufffd\""},                 /* C1 CSI */
        {STR_INIT("\xc0\xaf"), "\"\\xc0\\xaf\"", "\"\\ufffd\\ufffd\""},                 /* overlong */
        {STR_INIT("\xed\xa0\x80"), "\"\\xed\\xa0\\x80\"", "\"\\ufffd\\ufffd\\ufffd\""}, /* surrogate */
        {STR_INIT("\xf4\x90\x80\x80"), "\"\\xf4\\x90\\x80\\x80\"", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
        {STR_INIT("\xe2\x82"), "\"\\xe2\\x82\"", "\"\\ufffd\\ufffd\""}, /* cut short */
        {STR_INIT("\x80"), "\"\\x80\"", "\"\\ufffd\""},
        {STR_INIT("\xff"), "\"\\xff\"", "\"\\ufffd\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char expected[200];

        snprintf(expected, sizeof(expected), "v=%s", cases[i].text);
        assert_string_equal(format_one(LOG_FORMAT_TEXT, log_str("v", cases[i].value)), expected);
        snprintf(expected, sizeof(expected), "\"v\":%s}", cases[i].json);
        assert_string_equal(format_one(LOG_FORMAT_JSON, log_str("v", cases[i].value)), expected);
    }
}

/* Long values are cut and the line is still a line: with every kind of content, at many lengths around the bounds. */
static void test_long_values_are_cut(void **state)
{
    static const char *const contents[] = {"x", "\x01", "\"", "\xff", "\xf0\x9f\x98\x80"};
    static char value[2000];

    (void)state;
    for (size_t c = 0; c < sizeof(contents) / sizeof(contents[0]); c++) {
        for (size_t i = 0; i < sizeof(value); i++)
            value[i] = contents[c][i % strlen(contents[c])];
        for (size_t length = 0; length < sizeof(value); length += 7) {
            const struct str cut = {value, length};
            const struct log_field fields[] = {log_str("a", cut), log_str("b", cut), log_str("c", cut),
                                               log_str("d", cut), log_str("e", cut), log_u64("f", 1)};
            const char *line = format(LOG_FORMAT_JSON, fields, 6);

            assert_memory_equal(line + strlen(line) - 1, "}", 1);
            format(LOG_FORMAT_TEXT, fields, 6);
        }
    }
}

/* The smallest room that is allowed, and names that do not fit. */
static void test_fields_that_do_not_fit_are_left_out(void **state)
{
    char line[256];
    char name[300];
    struct log_field fields[2];
    size_t length;

    (void)state;
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    fields[0] = log_u64("a", 1);
    fields[1] = log_u64(name, 2);
    length = log_line_format(line, sizeof(line), LOG_FORMAT_JSON, LOG_LEVEL_ERROR, "event", fields, 2);
    assert_memory_equal(line + length - 8, ",\"a\":1}\n", 8);
}

struct reader {
    int fd;
    char *data;
    size_t length;
};

static void *read_all(void *context)
{
    struct reader *r = context;
    size_t capacity = 0;
    ssize_t count;

    do {
        if (capacity - r->length < 65536) {
            capacity += 1 << 20;
            r->data = realloc(r->data, capacity);
            if (!r->data)
                abort();
        }
        count = read(r->fd, r->data + r->length, capacity - r->length - 1);
        r->length += count > 0 ? (size_t)count : 0;
    } while (count > 0);
    r->data[r->length] = '\0';
    return NULL;
}

static void *write_lines(void *context)
{
    const uint64_t writer = (uint64_t)(uintptr_t)context;

    for (uint64_t i = 0; i < LINES_PER_THREAD; i++)
        LOG_INFO("line", log_u64("writer", writer), log_u64("number", i));
    return NULL;
}

/* Every line whole, each writer's in its order, none lost while a reader keeps up. The pipe does not block: EAGAIN
 * happens. */
static void test_threads(void **state)
{
    struct reader reader = {0};
    pthread_t reading;
    pthread_t writing[THREADS];
    uint64_t next[THREADS] = {0};
    int ends[2];

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    reader.fd = ends[0];
    pthread_create(&reading, NULL, read_all, &reader);
    log_start(ends[1], LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&writing[i], NULL, write_lines, (void *)i);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(writing[i], NULL);
    log_stop();
    log_stop();
    close(ends[1]);
    pthread_join(reading, NULL);
    close(ends[0]);
    for (char *at = reader.data; *at; at = strchr(at, '\0') + 1) {
        unsigned long writer;
        unsigned long number;
        char *end = strchr(at, '\n');

        assert_non_null(end);
        *end = '\0'; /* sscanf measures its whole input each time */
        assert_int_equal(sscanf(at + 25, "info line writer=%lu number=%lu", &writer, &number), 2);
        assert_true(writer < THREADS);
        assert_int_equal(number, next[writer]++);
    }
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(next[i], LINES_PER_THREAD);
    free(reader.data);
}

/* Nobody reads: the writers go on at once, lines are dropped and counted, and the first that fits says how many. */
static void test_full_ring_drops_and_tells(void **state)
{
    struct reader reader = {0};
    pthread_t reading;
    const char *report;
    char padding[900];
    unsigned long dropped = 0;
    size_t lines = 0;
    const size_t written = 3 * LOG_RING_BYTES / sizeof(padding);
    int ends[2];

    (void)state;
    memset(padding, 'x', sizeof(padding));
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    log_start(ends[1], LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
    for (size_t i = 0; i < written; i++)
        LOG_INFO("long", log_str("padding", str_make(padding, sizeof(padding))));
    reader.fd = ends[0];
    pthread_create(&reading, NULL, read_all, &reader);
    log_stop();
    close(ends[1]);
    pthread_join(reading, NULL);
    close(ends[0]);
    for (const char *at = reader.data; (at = strstr(at, " info long ")) != NULL; at++)
        lines++;
    for (report = reader.data; (report = strstr(report, "warning log-dropped lines=")) != NULL; report++)
        dropped += strtoul(report + strlen("warning log-dropped lines="), NULL, 10);
    assert_true(dropped > 0);
    assert_int_equal(lines + dropped, written);
    free(reader.data);
}

/* The reader went away, as a crashed log collector does: no SIGPIPE, no spinning, and stopping works. */
static void test_broken_pipe(void **state)
{
    int ends[2];

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    close(ends[0]);
    log_start(ends[1], LOG_FORMAT_JSON, LOG_LEVEL_DEBUG);
    for (unsigned i = 0; i < 100; i++)
        LOG_ERROR("gone", log_u64("i", i));
    /* The report of what was dropped goes out from this thread, which has not blocked the signal. */
    sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    log_stop();
    close(ends[1]);
}

static size_t read_now(int fd, char *data, size_t size)
{
    ssize_t count = read(fd, data, size - 1);

    data[count > 0 ? count : 0] = '\0';
    return count > 0 ? (size_t)count : 0;
}

/* An error must be out before the process may crash over it; a blocking read here hangs if nobody is woken. */
static void test_level_change_and_prompt_errors(void **state)
{
    char data[1000];
    int ends[2];

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    log_start(ends[1], LOG_FORMAT_TEXT, LOG_LEVEL_WARNING);
    assert_false(log_is_enabled(LOG_LEVEL_INFO));
    LOG_INFO("not-this", log_u64("i", 1));
    LOG_ERROR("this", log_u64("i", 2));
    read_now(ends[0], data, sizeof(data));
    assert_string_equal(data + 25, "error this i=2\n");
    log_configure(LOG_FORMAT_JSON, LOG_LEVEL_DEBUG);
    LOG_DEBUG("now", log_u64("i", 3));
    read_now(ends[0], data, sizeof(data));
    assert_non_null(strstr(data, "\"level\":\"debug\",\"event\":\"now\",\"i\":3}\n"));
    log_stop();
    /* Without the thread lines go straight out. */
    LOG_INFO("late", log_u64("i", 4));
    read_now(ends[0], data, sizeof(data));
    assert_non_null(strstr(data, "\"event\":\"late\""));
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_time_is_rfc_3339),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_hostile_values_are_escaped),
        cmocka_unit_test(test_long_values_are_cut),
        cmocka_unit_test(test_fields_that_do_not_fit_are_left_out),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_full_ring_drops_and_tells),
        cmocka_unit_test(test_level_change_and_prompt_errors),
        cmocka_unit_test(test_broken_pipe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
