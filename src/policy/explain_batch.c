/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass over the line, straight into the facts, and one straight into the answer: measured, the JSON library's objects alone
 * cost 8 µs a line, and a line may cost 10.
 */
#include "policy/explain_batch.h"

#include "base/mem.h"
#include "mail/domain.h"
#include "policy/explain.h"
#include "policy/json_text.h"

#include <stdlib.h>

struct explain_batch {
    const struct policy_model *model;
    uint64_t line_number;
    struct policy_question question;
    struct str groups[EXPLAIN_GROUPS_MAX];
    char client_name[DOMAIN_TEXT_BYTES];
    unsigned seen; /* fields, a bit each */
    bool has_client;
    const char *fault; /* of the line that is being read */
    struct policy_decision decision;
    char unescaped[EXPLAIN_LINE_BYTES_MAX];
};

static const char line_too_long[] = "the line is longer than 65536 bytes";

/* ---- values ---- */

bool explain_parse_name_state(struct str word, enum policy_name_state *state)
{
    static const struct {
        struct str word;
        enum policy_name_state state;
    } states[] = {
        {STR_INIT("none"), POLICY_NAME_NONE},
        {STR_INIT("verified"), POLICY_NAME_VERIFIED},
        {STR_INIT("unverified"), POLICY_NAME_UNVERIFIED},
        {STR_INIT("tempfail"), POLICY_NAME_TEMPFAIL},
    };

    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
        if (str_equal(word, states[i].word)) {
            *state = states[i].state;
            return true;
        }
    return false;
}

static bool fail(struct explain_batch *batch, const char *fault)
{
    batch->fault = fault;
    return false;
}

static bool set_server(struct explain_batch *batch, struct str value)
{
    batch->question.facts.server = policy_find_server(batch->model, value);
    return batch->question.facts.server || fail(batch, "server: the configuration has no server of this name");
}

static bool set_client(struct explain_batch *batch, struct str value)
{
    batch->has_client = true;
    return cidr_parse_address(value, &batch->question.facts.client) ||
           fail(batch, "client: wants an IP address without brackets or port");
}

/* What is no domain name is nobody's name: it matches nothing. */
static bool set_client_name(struct explain_batch *batch, struct str value)
{
    batch->question.facts.client_name = str_make(batch->client_name, domain_normalize(value, batch->client_name));
    return true;
}

static bool set_client_name_state(struct explain_batch *batch, struct str value)
{
    return explain_parse_name_state(value, &batch->question.facts.client_name_state) ||
           fail(batch, "client_name_state: wants verified, none, unverified or tempfail");
}

static bool set_user(struct explain_batch *batch, struct str value)
{
    batch->question.facts.user = value;
    batch->question.facts.is_authenticated = value.length > 0;
    return true;
}

static bool set_from(struct explain_batch *batch, struct str value)
{
    batch->question.from = value;
    return true;
}

static bool set_to(struct explain_batch *batch, struct str value)
{
    batch->question.to = value;
    return true;
}

static bool set_certificate(struct explain_batch *batch, struct str value)
{
    struct policy_facts *facts = &batch->question.facts;

    facts->has_certificate = value.length > 0;
    return !facts->has_certificate || policy_parse_certificate(value, facts->certificate_sha256) ||
           fail(batch, "cert: wants the SHA-256 of the certificate, 64 hex digits");
}

static bool read_groups(struct explain_batch *batch, struct json_reader *reader)
{
    struct policy_facts *facts = &batch->question.facts;

    facts->groups = batch->groups;
    if (!json_take(reader, '['))
        return fail(batch, "groups: wants a list of strings");
    if (json_take(reader, ']'))
        return true;
    do {
        if (facts->group_count == EXPLAIN_GROUPS_MAX)
            return fail(batch, "groups: there are more than 1000");
        if (!json_take_string(reader, &batch->groups[facts->group_count++]))
            return fail(batch, "groups: wants a list of strings");
    } while (json_take(reader, ','));
    return json_take(reader, ']') || fail(batch, "groups: wants a list of strings");
}

static bool read_tls(struct explain_batch *batch, struct json_reader *reader)
{
    if (json_take_word(reader, STR("true")))
        batch->question.facts.has_tls = true;
    else if (!json_take_word(reader, STR("false")))
        return fail(batch, "tls: wants true or false");
    return true;
}

/* ---- the object ---- */

struct field {
    struct str name;
    bool (*set)(struct explain_batch *batch, struct str value);            /* of a string */
    bool (*read)(struct explain_batch *batch, struct json_reader *reader); /* of anything else */
};

static const struct field fields[] = {
    {STR_INIT("server"), set_server, NULL},
    {STR_INIT("client"), set_client, NULL},
    {STR_INIT("client_name"), set_client_name, NULL},
    {STR_INIT("client_name_state"), set_client_name_state, NULL},
    {STR_INIT("tls"), NULL, read_tls},
    {STR_INIT("user"), set_user, NULL},
    {STR_INIT("groups"), NULL, read_groups},
    {STR_INIT("from"), set_from, NULL},
    {STR_INIT("to"), set_to, NULL},
    {STR_INIT("cert"), set_certificate, NULL},
};

#define FIELD_COUNT (sizeof(fields) / sizeof(fields[0]))

static bool read_value(struct explain_batch *batch, struct json_reader *reader, const struct field *field)
{
    struct str value;

    if (json_take_word(reader, STR("null")))
        return true;
    if (field->read)
        return field->read(batch, reader);
    if (!json_take_string(reader, &value))
        return fail(batch, "the value of a field is not a string, or not one of JSON");
    return field->set(batch, value);
}

static bool read_field(struct explain_batch *batch, struct json_reader *reader)
{
    struct str name;
    size_t i = 0;

    if (!json_take_string(reader, &name) || !json_take(reader, ':'))
        return fail(batch, "not a JSON object");
    while (i < FIELD_COUNT && !str_equal(fields[i].name, name))
        i++;
    if (i == FIELD_COUNT)
        return fail(batch, "a field has none of the known names: server, client, client_name, client_name_state, tls, "
                           "user, groups, from, to, cert");
    if (batch->seen & 1u << i)
        return fail(batch, "a field stands there twice");
    batch->seen |= 1u << i;
    return read_value(batch, reader, &fields[i]);
}

static bool read_question(struct explain_batch *batch, struct str line)
{
    struct json_reader reader = {line.data, line.data + line.length, batch->unescaped};

    /* The directory is not asked, and one that is not asked knows nobody. */
    batch->question = (struct policy_question){.facts.recipient_known = POLICY_ANSWER_NO};
    batch->seen = 0;
    batch->has_client = false;
    if (!json_take(&reader, '{'))
        return fail(batch, "not a JSON object");
    if (!json_take(&reader, '}')) {
        do {
            if (!read_field(batch, &reader))
                return false;
        } while (json_take(&reader, ','));
        if (!json_take(&reader, '}'))
            return fail(batch, "not a JSON object");
    }
    if (!json_at_end(&reader))
        return fail(batch, "something follows the JSON object");
    if (!batch->question.facts.server)
        return fail(batch, "server: is missing");
    if (!batch->has_client)
        return fail(batch, "client: is missing");
    return true;
}

/* ---- the answer ---- */

static void append_field(struct buf *out, struct str name, const char *value)
{
    buf_append_str(out, name);
    if (value)
        json_append_string(out, str_from_cstr(value));
    else
        buf_append_str(out, STR("null"));
}

static void append_place(struct buf *out, const struct policy_rule *rule)
{
    buf_append_str(out, STR(",\"at\":"));
    if (!rule || !rule->file) {
        buf_append_str(out, STR("null"));
        return;
    }
    json_append_string(out, str_from_cstr(rule->file));
    out->length--; /* the closing quote */
    buf_append_char(out, ':');
    buf_append_u64(out, rule->line);
    buf_append_char(out, '"');
}

static void append_answer(struct buf *out, const struct policy_decision *decision)
{
    append_field(out, STR("{\"verdict\":"), policy_verdict_name(decision->verdict));
    append_field(out, STR(",\"stage\":"), policy_stage_name(decision->stage));
    append_field(out, STR(",\"class\":"), policy_class_name(decision->recipient_class));
    buf_append_str(out, STR(",\"code\":"));
    buf_append_u64(out, (uint64_t)decision->code);
    append_field(out, STR(",\"enhanced\":"), decision->enhanced);
    buf_append_str(out, STR(",\"text\":"));
    json_append_string(out, str_make(decision->text, decision->text_length));
    append_field(out, STR(",\"rule\":"), decision->rule ? decision->rule->path : NULL);
    append_place(out, decision->rule);
    buf_append_str(out, STR("}\n"));
}

static void append_error(struct explain_batch *batch, struct buf *out)
{
    buf_append_str(out, STR("{\"line\":"));
    buf_append_u64(out, batch->line_number);
    append_field(out, STR(",\"error\":"), batch->fault);
    buf_append_str(out, STR("}\n"));
}

struct explain_batch *explain_batch_create(const struct policy_model *model)
{
    struct explain_batch *batch = mem_alloc(sizeof(*batch));

    batch->model = model;
    return batch;
}

void explain_batch_destroy(struct explain_batch **batch)
{
    mem_free(batch);
}

bool explain_batch_answer(struct explain_batch *batch, struct str line, struct buf *out)
{
    batch->line_number++;
    if (line.length <= EXPLAIN_LINE_BYTES_MAX ? read_question(batch, line) : fail(batch, line_too_long)) {
        policy_explain(batch->model, &batch->question, &batch->decision, NULL);
        append_answer(out, &batch->decision);
        return true;
    }
    append_error(batch, out);
    return false;
}

void explain_batch_refuse_long(struct explain_batch *batch, struct buf *out)
{
    batch->line_number++;
    batch->fault = line_too_long;
    append_error(batch, out);
}
