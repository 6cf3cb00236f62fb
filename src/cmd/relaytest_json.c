/* SPDX-License-Identifier: Apache-2.0 */
/* The result of relaytest for programs (docs/relaytest.schema.json) and, as JUnit's XML, for build servers. */
#include "cmd/relaytest_output.h"

#include "mail/text.h"

#include <errno.h>

#define TEXT_BYTES_MAX  4096
#define JUNIT_BYTES_MAX (1u << 20)

/* ---- JSON ---- */

static json_t *text_or_null(const char *text)
{
    return text && text[0] ? tool_json_text(str_from_cstr(text)) : json_null();
}

static json_t *json_report(const struct relaytest_outcome *outcome)
{
    if (!outcome->has_report)
        return json_null();
    return json_pack("{s:s, s:o, s:o, s:b, s:I}", "format", outcome->report.format, "status",
                     text_or_null(outcome->report.status), "diagnostic", text_or_null(outcome->report.diagnostic),
                     "tried_outside", outcome->report.tried_outside, "after_ms", (json_int_t)outcome->report_after_ms);
}

static json_t *json_arrival(const struct relaytest_outcome *outcome)
{
    if (!outcome->has_arrived)
        return json_null();
    return json_pack("{s:o, s:I}", "recipient", text_or_null(outcome->arrived_recipient), "after_ms",
                     (json_int_t)outcome->arrived_after_ms);
}

static json_t *json_outcome(const struct relaytest_outcome *outcome)
{
    const char *stage = relaytest_stage_name(outcome->stage);

    return json_pack(
        "{s:o, s:o, s:o, s:s, s:b, s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:b}", "token", text_or_null(outcome->token),
        "mail_from", text_or_null(outcome->sender), "rcpt_to", text_or_null(outcome->recipient), "verdict",
        relaytest_verdict_name(outcome->verdict), "accepted", outcome->is_accepted, "stage", text_or_null(stage),
        "code", outcome->code ? json_integer(outcome->code) : json_null(), "reply", text_or_null(outcome->reply),
        "retried", outcome->is_retried, "report", json_report(outcome), "arrival", json_arrival(outcome), "passed_on",
        text_or_null(outcome->passed_on_recipient), "delay_notice", outcome->has_delay_notice);
}

static json_t *json_explanation(const struct relaytest_row *row)
{
    struct buf text;
    json_t *value;

    buf_init(&text, TEXT_BYTES_MAX);
    relaytest_explain(row, &text);
    value = text.length > 0 ? tool_json_text(buf_str(&text)) : json_null();
    buf_release(&text);
    return value;
}

static json_t *json_rows(const struct relaytest_result *result)
{
    json_t *rows = json_array();

    for (size_t i = 0; i < result->row_count; i++) {
        const struct relaytest_row *row = &result->rows[i];
        char id[RELAYTEST_ID_BYTES];

        relaytest_probe_id(row, id);
        json_array_append_new(rows, json_pack("{s:s, s:i, s:s, s:s, s:o, s:o, s:s, s:o, s:o, s:o}", "id", id, "probe",
                                              (int)row->probe->number, "name", row->probe->name, "why", row->probe->why,
                                              "from", text_or_null(row->sender), "to", text_or_null(row->recipient),
                                              "verdict", relaytest_verdict_name(row->verdict), "explanation",
                                              json_explanation(row), "first",
                                              row->is_run ? json_outcome(&row->first) : json_null(), "repeat",
                                              row->has_repeat ? json_outcome(&row->repeat) : json_null()));
    }
    return rows;
}

static json_t *json_counts(const struct relaytest_result *result)
{
    json_t *counts = json_object();

    for (unsigned i = 0; i < RELAYTEST_VERDICT_COUNT; i++)
        json_object_set_new(counts, relaytest_verdict_name((enum relaytest_verdict)i), json_integer(result->counts[i]));
    return counts;
}

static json_t *json_target(const struct relaytest_subject *subject, const struct relaytest_result *result)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:b, s:b, s:b, s:b}", "given",
                     tool_json_text(str_from_cstr(subject->target)), "address", text_or_null(result->address), "banner",
                     text_or_null(result->banner), "server_name", text_or_null(result->server_name), "server_address",
                     text_or_null(result->server_address), "local_domain", text_or_null(result->local_domain),
                     "offers_starttls", result->offers_starttls, "offers_auth", result->offers_auth, "demands_tls",
                     result->demands_tls, "demands_auth", result->demands_auth, "refuses_external_sender",
                     result->refuses_external);
}

static const char *conclusion(const struct relaytest_result *result)
{
    static const char *const names[] = {"closed", "relays", "not-proven", "not-tested"};

    return names[relaytest_exit(result)];
}

static json_t *json_summary(const struct relaytest_result *result)
{
    struct buf text;
    json_t *value;

    buf_init(&text, TEXT_BYTES_MAX);
    relaytest_summarise(result, &text);
    value = tool_json_text(buf_str(&text));
    buf_release(&text);
    return value;
}

void relaytest_print_json(const struct relaytest_subject *subject, const struct relaytest_result *result)
{
    json_t *root = json_pack(
        "{s:s, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b}", "verdict", conclusion(result), "exit",
        relaytest_exit(result), "summary", json_summary(result), "error", text_or_null(result->error.text), "target",
        json_target(subject, result), "external_domain", text_or_null(result->external), "client_name",
        text_or_null(result->client_name), "catch", text_or_null(result->catch_address), "tls",
        text_or_null(result->tls), "user", text_or_null(subject->user), "envelope_only", subject->envelope_only);

    json_object_set_new(root, "started_at_ms", json_integer(result->started_at_ms));
    json_object_set_new(root, "duration_ms", json_integer((json_int_t)result->duration_ms));
    json_object_set_new(root, "wait_ms", json_integer((json_int_t)result->wait_ms));
    json_object_set_new(root, "strays", json_integer(result->strays));
    json_object_set_new(root, "counts", json_counts(result));
    json_object_set_new(root, "probes", json_rows(result));
    tool_print_json(root);
}

/* ---- JUnit ---- */

/* For an attribute or text, in ASCII: XML 1.0 has no control bytes, and nobody knows what a server sends. */
static void append_xml(struct buf *out, struct str text)
{
    struct buf clean;

    buf_init(&clean, TEXT_BYTES_MAX);
    text_append_clean(&clean, text, TEXT_BYTES_MAX, true);
    for (size_t i = 0; i < clean.length; i++) {
        char c = clean.data[i];

        if (c == '&')
            buf_append_str(out, STR("&amp;"));
        else if (c == '<')
            buf_append_str(out, STR("&lt;"));
        else if (c == '>')
            buf_append_str(out, STR("&gt;"));
        else if (c == '"')
            buf_append_str(out, STR("&quot;"));
        else
            buf_append_char(out, c);
    }
    buf_release(&clean);
}

enum junit_kind { JUNIT_PASSED, JUNIT_FAILURE, JUNIT_ERROR };

/* As the exit code sees it: what is not proven fails, what could not be tested is an error. */
static enum junit_kind junit_kind(enum relaytest_verdict verdict)
{
    switch (verdict) {
    case RELAYTEST_REFUSED:
    case RELAYTEST_UNDELIVERABLE:
        return JUNIT_PASSED;
    case RELAYTEST_UNTESTED:
        return JUNIT_ERROR;
    case RELAYTEST_DEFERRED:
    case RELAYTEST_UNPROVEN:
    case RELAYTEST_SILENT:
    case RELAYTEST_PASSED_ON:
    case RELAYTEST_ATTEMPTED:
    case RELAYTEST_RELAYED:
    case RELAYTEST_VERDICT_COUNT:
        break;
    }
    return JUNIT_FAILURE;
}

static void append_case(struct buf *out, const struct relaytest_subject *subject, const struct relaytest_row *row)
{
    static const char *const elements[] = {[JUNIT_FAILURE] = "failure", [JUNIT_ERROR] = "error"};
    enum junit_kind kind = junit_kind(row->verdict);
    struct buf explanation;
    char id[RELAYTEST_ID_BYTES];

    relaytest_probe_id(row, id);
    buf_init(&explanation, TEXT_BYTES_MAX);
    relaytest_explain(row, &explanation);
    buf_append_str(out, STR("  <testcase classname=\"relaytest."));
    append_xml(out, str_from_cstr(subject->target));
    buf_printf(out, "\" name=\"%s %s\"", id, row->probe->name);
    if (kind == JUNIT_PASSED) {
        buf_append_str(out, STR("/>\n"));
    } else {
        buf_printf(out, ">\n    <%s message=\"%s\">", elements[kind], relaytest_verdict_text(row->verdict));
        append_xml(out, str_from_cstr(row->sender));
        buf_append_str(out, STR(" -&gt; "));
        append_xml(out, str_from_cstr(row->recipient));
        buf_append_str(out, STR(": "));
        append_xml(out, buf_str(&explanation));
        buf_printf(out, "</%s>\n  </testcase>\n", elements[kind]);
    }
    buf_release(&explanation);
}

static void compose_junit(struct buf *out, const struct relaytest_subject *subject,
                          const struct relaytest_result *result)
{
    unsigned counts[3] = {0};

    for (size_t i = 0; i < result->row_count; i++)
        counts[junit_kind(result->rows[i].verdict)]++;
    buf_append_str(out, STR("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"relaytest "));
    append_xml(out, str_from_cstr(subject->target));
    buf_printf(out, "\" tests=\"%zu\" failures=\"%u\" errors=\"%u\" time=\"%llu.%03llu\">\n", result->row_count,
               counts[JUNIT_FAILURE], counts[JUNIT_ERROR], (unsigned long long)(result->duration_ms / 1000),
               (unsigned long long)(result->duration_ms % 1000));
    for (size_t i = 0; i < result->row_count; i++)
        append_case(out, subject, &result->rows[i]);
    if (result->error.text[0]) {
        buf_append_str(out, STR("  <system-err>"));
        append_xml(out, str_from_cstr(result->error.text));
        buf_append_str(out, STR("</system-err>\n"));
    }
    buf_append_str(out, STR("</testsuite>\n"));
}

int relaytest_write_junit(const char *path, const struct relaytest_subject *subject,
                          const struct relaytest_result *result, struct error *error)
{
    struct buf text;
    FILE *file = fopen(path, "we");
    int failed;

    if (!file)
        return error_set_errno(error, errno, "%s", path);
    buf_init(&text, JUNIT_BYTES_MAX);
    compose_junit(&text, subject, result);
    failed = fwrite(text.data, 1, text.length, file) != text.length;
    buf_release(&text);
    if (fclose(file) != 0 || failed)
        return error_set_errno(error, errno, "%s", path);
    return 0;
}
