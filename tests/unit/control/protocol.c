/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of the control protocol. What breaks here: a client could end the daemon with one line, or an action would reach more messages than its
 * filter says.
 */
#include "control/protocol.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define NOW_MS 1800000000000

static const char *fault_of(const char *line)
{
    struct control_request request;
    const char *fault = control_request_parse(str_from_cstr(line), &request);

    if (!fault)
        control_request_release(&request);
    return fault;
}

static void takes_a_request(void **state)
{
    struct control_request request;

    (void)state;
    assert_null(control_request_parse(STR("{\"id\":7,\"command\":\"status\"}"), &request));
    assert_int_equal(request.id, 7);
    assert_string_equal(request.command, "status");
    control_request_release(&request);
    assert_null(request.body);
}

static void refuses_what_is_no_request(void **state)
{
    static const char *const lines[] = {"",
                                        "x",
                                        "[]",
                                        "7",
                                        "{}",
                                        "{\"id\":1}",
                                        "{\"command\":\"status\"}",
                                        "{\"id\":\"1\",\"command\":\"status\"}",
                                        "{\"id\":1,\"command\":7}",
                                        "{\"id\":1,\"id\":2,\"command\":\"status\"}",
                                        "{\"id\":1,\"command\":\"status\"} x",
                                        "{\"id\":1,\"command\":\"st\xff\"}",
                                        "{\"id\":99999999999999999999,\"command\":\"status\"}"};

    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        assert_non_null(fault_of(lines[i]));
}

/* A parser that recurses would overrun a fiber's stack. Brackets in a text are no nesting. */
static void bounds_nesting(void **state)
{
    char line[4096];
    size_t length = (size_t)snprintf(line, sizeof(line), "{\"id\":1,\"command\":\"x\",\"a\":");

    (void)state;
    memset(line + length, '[', 3000);
    line[length + 3000] = '\0';
    assert_string_equal(fault_of(line), "it is nested too deeply");
    assert_null(fault_of("{\"id\":1,\"command\":\"[[[[[[[[[[[[{{{{{{{{\\\"[[[[\"}"));
    assert_null(fault_of("{\"id\":1,\"command\":\"x\",\"a\":[[[[[[[]]]]]]]}"));
    assert_non_null(fault_of("{\"id\":1,\"command\":\"x\",\"a\":[[[[[[[[]]]]]]]]}"));
}

static bool parse(const char *text, struct control_filter *filter, char fault[CONTROL_FAULT_BYTES], json_t **json)
{
    *json = json_loads(text, 0, NULL);
    assert_non_null(*json);
    return control_filter_parse(*json, NOW_MS, filter, fault);
}

static void reads_a_filter(void **state)
{
    struct control_filter filter;
    char fault[CONTROL_FAULT_BYTES];
    json_t *json;

    (void)state;
    assert_true(parse("{\"domain\":\"@B\xc3\xbc"
                      "cher.Example\",\"sender\":\"<>\",\"recipient\":\"*@x\",\"older_than_ms\":1000,"
                      "\"states\":[\"held\",\"waiting\"]}",
                      &filter, fault, &json));
    assert_true(str_equal(filter.filter.domain, STR("@xn--bcher-kva.example")));
    assert_true(str_equal(filter.filter.sender, STR("<>")));
    assert_true(str_equal(filter.filter.recipient, STR("*@x")));
    assert_int_equal(filter.filter.arrived_before_at_ms, NOW_MS - 1000);
    assert_int_equal(filter.filter.states, QUEUE_STATE_HELD | QUEUE_STATE_WAITING);
    json_decref(json);
}

/* A condition that is not understood must not be passed over: "delete" would take everything. */
static void refuses_what_it_does_not_understand(void **state)
{
    static const char *const filters[] = {"[]",
                                          "{\"domian\":\"x.test\"}",
                                          "{\"domain\":\"\"}",
                                          "{\"domain\":7}",
                                          "{\"domain\":\"a..b\"}",
                                          "{\"sender\":[]}",
                                          "{\"older_than_ms\":-1}",
                                          "{\"older_than_ms\":\"1d\"}",
                                          "{\"older_than_ms\":9000000000000000000}",
                                          "{\"states\":\"held\"}",
                                          "{\"states\":[]}",
                                          "{\"states\":[\"gone\"]}",
                                          "{\"states\":[7]}"};
    struct control_filter filter;
    char fault[CONTROL_FAULT_BYTES];
    json_t *json;

    (void)state;
    for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
        fault[0] = '\0';
        assert_false(parse(filters[i], &filter, fault, &json));
        assert_true(fault[0] != '\0');
        json_decref(json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_a_request),
        cmocka_unit_test(refuses_what_is_no_request),
        cmocka_unit_test(bounds_nesting),
        cmocka_unit_test(reads_a_filter),
        cmocka_unit_test(refuses_what_it_does_not_understand),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
