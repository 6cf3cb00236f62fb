/* SPDX-License-Identifier: Apache-2.0 */
/* Questions and answers as JSON lines. A line that is read differently than it was meant is a proof of something else. */
#include "policy/explain_batch.h"

#include "base/mem.h"
#include "config/config.h"
#include "policy/json_text.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct config *config;
static struct explain_batch *batch;

static int set_up(void **state)
{
    static const struct cidr_address own = {{[10] = 0xff, 0xff, 192, 0, 2, 25}};
    static const struct config_machine machine = {"mail.contoso.test", &own, 1};
    struct config_errors errors;

    (void)state;
    config_errors_init(&errors);
    config_load_text(vfs_system(), "t.yaml",
                     STR("domains: { contoso.test: { type: local, default: true, recipients: any } }\n"
                         "servers:\n"
                         "  s:\n"
                         "    listen: ['192.0.2.25:25']\n"
                         "    relay:\n"
                         "      only:\n"
                         "      - 10.1.0.0/16\n"
                         "      - domain:branch.test\n"
                         "      - cert:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"
                         "    permissions: { relay: { deny: ['group:temps'] } }\n"),
                     &machine, &config, &errors);
    if (!config)
        fail_msg("%s", errors.messages[0].text);
    config_errors_release(&errors);
    batch = explain_batch_create(config->policy);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    explain_batch_destroy(&batch);
    config_release(&config);
    return 0;
}

/* NUL-terminated, without the line end; static. */
static const char *answer(const char *line)
{
    static char text[EXPLAIN_ANSWER_BYTES_MAX + 1];
    struct buf out;

    buf_init(&out, EXPLAIN_ANSWER_BYTES_MAX);
    explain_batch_answer(batch, str_from_cstr(line), &out);
    assert_true(!out.overflowed && out.length > 0 && out.data[out.length - 1] == '\n');
    memcpy(text, out.data, out.length - 1);
    text[out.length - 1] = '\0';
    buf_release(&out);
    return text;
}

/* The form that the interface fixes, to the byte. */
static void test_answers(void **state)
{
    (void)state;
    assert_string_equal(
        answer("{\"server\":\"s\",\"client\":\"10.1.2.3\",\"from\":\"a@b.test\",\"to\":\"v@example.net\"}"),
        "{\"verdict\":\"accept\",\"stage\":\"rcpt\",\"class\":\"external\",\"code\":250,\"enhanced\":\"2.1.5\","
        "\"text\":\"v@example.net\",\"rule\":\"servers.s.relay.only[0]\",\"at\":\"t.yaml:7\"}");
    assert_string_equal(
        answer("{\"server\":\"s\",\"client\":\"192.0.2.7\",\"from\":\"a@b.test\",\"to\":\"v@example.net\",\"user\":"
               "\"u\"}"),
        "{\"verdict\":\"accept\",\"stage\":\"rcpt\",\"class\":\"external\",\"code\":250,\"enhanced\":\"2.1.5\","
        "\"text\":\"v@example.net\",\"rule\":\"servers.s.relay.authenticated\",\"at\":null}");
    assert_string_equal(answer("{\"server\":\"s\",\"client\":\"10.1.2.3\",\"to\":\"a@b@c\"}"),
                        "{\"verdict\":\"reject\",\"stage\":\"rcpt\",\"class\":null,\"code\":501,\"enhanced\":\"5.5.4\","
                        "\"text\":\"Invalid Address\",\"rule\":null,\"at\":null}");
    assert_string_equal(
        answer("{\"server\":\"s\",\"client\":\"10.1.2.3\",\"to\":\"\\\"a\\\\\\\"b\\\"\"}"),
        "{\"verdict\":\"accept\",\"stage\":\"rcpt\",\"class\":\"local\",\"code\":250,\"enhanced\":\"2.1.5\","
        "\"text\":\"\\\"a\\\\\\\"b\\\"@contoso.test\",\"rule\":\"domains.contoso.test\",\"at\":\"t.yaml:1\"}");
}

static void check_rule(const char *fields, const char *rule)
{
    char *line =
        mem_printf("{\"server\":\"s\",\"client\":\"192.0.2.7\",\"from\":\"\",\"to\":\"v@example.net\",%s}", fields);
    char *expected = mem_printf("\"rule\":\"servers.s.%s\"", rule);
    const char *text = answer(line);

    if (!strstr(text, expected))
        fail_msg("%s\n%s", line, text);
    free(line);
    free(expected);
}

/* Every field reaches the decision; null and an empty text are the same as nothing. */
static void test_fields(void **state)
{
    (void)state;
    check_rule("\"tls\":false", "relay.only");
    check_rule("\"client_name\":\"X.branch.test\",\"client_name_state\":\"verified\"", "relay.only[1]");
    check_rule("\"client_name\":\"x.branch.test\",\"client_name_state\":\"unverified\"", "relay.only");
    check_rule("\"client_name\":\"x.branch.test\"", "relay.only");
    check_rule("\"client_name_state\":\"tempfail\"", "relay.only[1]");
    check_rule(
        "\"client_name\":null,\"client_name_state\":null,\"tls\":null,\"user\":null,\"groups\":null,\"cert\":null",
        "relay.only");
    check_rule("\"cert\":\"0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef\"", "relay.only[2]");
    check_rule("\"user\":\"u\"", "relay.authenticated");
    check_rule("\"user\":\"u\",\"groups\":[]", "relay.authenticated");
    check_rule("\"user\":\"u\",\"groups\":[\"staff\",\"Temps\"]", "permissions.relay.deny[0]");
    check_rule("\"user\":\"\",\"groups\":[\"temps\"]", "relay.only");
    check_rule(" \"user\" :\t\"\\u0075\" , \"groups\" : [ \"\\ud83d\\ude00\" , \"t\\u0065mps\" ] ",
               "permissions.relay.deny[0]");
}

/* Each of them would otherwise be answered for a question that nobody asked. */
static void test_bad_lines(void **state)
{
    static const char *const lines[] = {
        "",
        " ",
        "null",
        "[]",
        "{",
        "{}",
        "{\"server\":\"s\"}",
        "{\"client\":\"10.1.2.3\"}",
        "{\"server\":\"s\",\"client\":null}",
        "{\"server\":\"t\",\"client\":\"10.1.2.3\"}",
        "{\"server\":\"s\",\"client\":\"10.1.2\"}",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\",}",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\"} x",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\"}{}",
        "{\"server\":\"s\" \"client\":\"10.1.2.3\"}",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\",\"server\":\"s\"}",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\",\"clinet\":\"x\"}",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\",\"tls\":\"yes\"}",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\",\"tls\":1}",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\",\"groups\":\"staff\"}",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\",\"groups\":[1]}",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\",\"groups\":[\"a\"",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\",\"groups\":[\"a\",]}",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\",\"client_name_state\":\"maybe\"}",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\",\"cert\":\"12\"}",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\",\"to\":\"a\tb\"}",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\",\"to\":\"\\x\"}",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\",\"to\":\"\\u12\"}",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\",\"to\":\"\\ud800\"}",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\",\"to\":\"\\ud800\\u0041\"}",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\",\"to\":\"\\udc00\"}",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\",\"to\":\"\\",
        "{\"server\":\"s\",\"client\":\"10.1.2.3\",\"to\":\"a",
        "{\"server\":s}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        char *begin = mem_printf("{\"line\":%zu,\"error\":\"", i + 1);

        if (strncmp(answer(lines[i]), begin, strlen(begin)) != 0)
            fail_msg("%s", lines[i]);
        free(begin);
    }
}

static void test_long_line(void **state)
{
    char *line = mem_alloc(EXPLAIN_LINE_BYTES_MAX + 2);
    struct buf out;

    (void)state;
    buf_init(&out, EXPLAIN_ANSWER_BYTES_MAX);
    memset(line, ' ', EXPLAIN_LINE_BYTES_MAX + 1);
    memcpy(line, "{\"server\":\"s\",\"client\":\"10.1.2.3\"}", 34);
    assert_true(explain_batch_answer(batch, str_make(line, EXPLAIN_LINE_BYTES_MAX), &out));
    assert_false(explain_batch_answer(batch, str_make(line, EXPLAIN_LINE_BYTES_MAX + 1), &out));
    buf_release(&out);
    free(line);
}

/* What we write any JSON reader reads back, whatever bytes it was. */
static void test_strings_come_back(void **state)
{
    unsigned char bytes[256];
    struct buf out;
    json_t *value;

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)i;
    buf_init(&out, 4096);
    json_append_string(&out, str_make((const char *)bytes, 128));
    value = json_loadb(out.data, out.length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    assert_non_null(value);
    assert_int_equal(json_string_length(value), 128);
    assert_memory_equal(json_string_value(value), bytes, 128);
    json_decref(value);
    buf_clear(&out);
    json_append_string(&out, str_make((const char *)bytes + 128, 128));
    value = json_loadb(out.data, out.length, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    json_decref(value);
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_lines, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_line, set_up, tear_down),
        cmocka_unit_test(test_strings_come_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
