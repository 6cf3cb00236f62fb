/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines of the W3C log. What breaks here: a tool that splits at spaces would read other people's words as fields, or a client could write lines of its own
 * into the log.
 */
#include "control/session_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define AT_MS       1795255200000 /* 2026-11-21 10:00:00 */
#define FIELD_COUNT 21

static void format(struct buf *out, const struct smtp_command_log *command, struct str helo, struct str user)
{
    struct net_address local;
    struct command_log_entry entry = {.server = STR("internet"),
                                      .hostname = STR("mail.contoso.test"),
                                      .client = STR("192.0.2.1"),
                                      .helo = helo,
                                      .user = user,
                                      .local = &local,
                                      .command = command};

    assert_true(net_address_parse_ip(STR("203.0.113.25"), &local));
    local.port = 25;
    buf_init(out, 65536);
    session_log_format(out, &entry, AT_MS);
}

static void writes_the_fields_in_order(void **state)
{
    const struct smtp_command_log command = {.method = STR("MAIL"),
                                             .argument = STR("FROM:<a@b.test> SIZE=7"),
                                             .code = 250,
                                             .bytes_received = 30,
                                             .bytes_sent = 40,
                                             .taken_ms = 5};
    struct buf line;

    (void)state;
    format(&line, &command, STR("client.test"), STR(""));
    assert_true(
        str_equal(buf_str(&line),
                  STR("2026-11-21 10:00:00 192.0.2.1 client.test internet mail.contoso.test 203.0.113.25 25 MAIL - "
                      "+FROM:<a@b.test>+SIZE=7 250 0 40 30 5 SMTP - - - -\n")));
    buf_release(&line);
}

static size_t count(struct str text, char c)
{
    size_t result = 0;

    for (size_t i = 0; i < text.length; i++)
        result += text.data[i] == c;
    return result;
}

static void keeps_to_one_line_and_its_fields(void **state)
{
    static char long_argument[5000];
    struct smtp_command_log command = {.method = STR("EHLO"), .argument = STR("a b\tc\rd\ne"), .code = 501};
    struct buf line;

    (void)state;
    format(&line, &command, STR(""), STR(""));
    assert_int_equal(count(buf_str(&line), '\n'), 1);
    assert_int_equal(count(buf_str(&line), ' '), FIELD_COUNT - 1);
    assert_non_null(memmem(line.data, line.length, " - internet ", 12));
    assert_non_null(memmem(line.data, line.length, " +a+b+c?d?e ", 12));
    buf_release(&line);
    memset(long_argument, ' ', sizeof(long_argument));
    command.argument = str_make(long_argument, sizeof(long_argument));
    format(&line, &command, STR("x"), STR("al ice"));
    assert_int_equal(count(buf_str(&line), ' '), FIELD_COUNT - 1);
    assert_non_null(memmem(line.data, line.length, " al+ice ", 8));
    assert_true(line.length < 4096);
    buf_release(&line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_the_fields_in_order),
        cmocka_unit_test(keeps_to_one_line_and_its_fields),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
