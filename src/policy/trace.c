/* SPDX-License-Identifier: Apache-2.0 */
/* The trace of a decision, in words for somebody who has never seen the configuration; and the names of its enumerations. */
#include "policy/model_private.h"

#include <stdarg.h>
#include <stdio.h>

static struct policy_trace_step *add_step(struct policy_trace *trace, const struct policy_rule *rule)
{
    struct policy_trace_step *step;

    if (!trace || trace->count == POLICY_TRACE_STEPS_MAX)
        return NULL;
    step = &trace->steps[trace->count++];
    step->stage = trace->stage;
    step->is_reply = false;
    step->rule = rule;
    step->inner = NULL;
    step->text[0] = '\0';
    return step;
}

void policy_trace_add(struct policy_trace *trace, const struct policy_rule *rule, const char *format, ...)
{
    struct policy_trace_step *step = add_step(trace, rule);
    va_list arguments;

    if (!step)
        return;
    va_start(arguments, format);
    vsnprintf(step->text, sizeof(step->text), format, arguments);
    va_end(arguments);
}

void policy_trace_reply(struct policy_trace *trace, const struct policy_decision *decision)
{
    struct policy_trace_step *step;

    /* The reply is worth more than what led to it. */
    if (trace && trace->count == POLICY_TRACE_STEPS_MAX)
        trace->count--;
    step = add_step(trace, decision->rule);
    if (!step)
        return;
    step->is_reply = true;
    /* Addresses are far shorter than texts may be. */
    snprintf(step->text, sizeof(step->text), "%d %s %.*s", decision->code, decision->enhanced,
             (int)(POLICY_TRACE_TEXT_BYTES - 32), decision->text);
}

/* ---- lists ---- */

/* The network of an entry is what the matching client's address and the entry's number of bits say. */
static void describe_network(const struct policy_client_entry *entry, const struct cidr_address *client, char *text,
                             size_t size)
{
    struct cidr_address network = *client;
    char client_text[CIDR_TEXT_BYTES];
    char network_text[CIDR_TEXT_BYTES];
    bool is_ipv4 = cidr_is_ipv4(client) && entry->network_bits >= 96;

    for (unsigned bit = entry->network_bits; bit < 128; bit++)
        network.bytes[bit / 8] &= (unsigned char)~(0x80u >> bit % 8);
    cidr_format_address(client, client_text);
    cidr_format_address(&network, network_text);
    if (entry->network_bits == 128)
        snprintf(text, size, "%s stands there", client_text);
    else
        snprintf(text, size, "%s is in %s/%u", client_text, network_text, entry->network_bits - (is_ipv4 ? 96 : 0));
}

static void describe_entry(const struct policy_client_entry *entry, const struct policy_facts *facts, char *text,
                           size_t size)
{
    text[0] = '\0';
    switch (entry->type) {
    case POLICY_ENTRY_NETWORK:
        describe_network(entry, &facts->client, text, size);
        break;
    case POLICY_ENTRY_DOMAIN:
        snprintf(text, size, "the verified host name %.*s is %s%.*s", STR_ARG(facts->client_name),
                 str_equal(entry->name, facts->client_name) ? "" : "below ", STR_ARG(entry->name));
        break;
    case POLICY_ENTRY_CERTIFICATE:
        snprintf(text, size, "the client proved that it holds the key of a certificate that stands there");
        break;
    case POLICY_ENTRY_LIST:
        break; /* its own entries match, not the name */
    }
}

static const char *why_no_name(enum policy_name_state state)
{
    static const char *const reasons[] = {
        [POLICY_NAME_NONE] = "; it has no host name, so that no domain: entry can match",
        [POLICY_NAME_VERIFIED] = "",
        [POLICY_NAME_UNVERIFIED] =
            "; its host name does not lead back to its address, so that no domain: entry can match",
        [POLICY_NAME_TEMPFAIL] = "",
    };

    return reasons[state];
}

static void describe_no(struct policy_trace *trace, const struct policy_client_list *list,
                        const struct policy_rule *list_rule, const char *about, const struct policy_facts *facts)
{
    char client[CIDR_TEXT_BYTES];

    if (list->entry_count == 0) {
        policy_trace_add(trace, list_rule, "the list of %s is empty", about);
        return;
    }
    cidr_format_address(&facts->client, client);
    policy_trace_add(trace, list_rule, "the list of %s does not name the client %s%s", about, client,
                     policy_client_list_has_domain(list) ? why_no_name(facts->client_name_state) : "");
}

void policy_trace_client_list(struct policy_trace *trace, const struct policy_client_list *list,
                              const struct policy_rule *list_rule, const char *about, const struct policy_facts *facts,
                              const struct policy_match_result *result)
{
    char entry[POLICY_TRACE_TEXT_BYTES / 2];
    size_t before = trace ? trace->count : 0;

    if (!trace)
        return;
    switch (result->match) {
    case POLICY_MATCH_NO:
        describe_no(trace, list, list_rule, about, facts);
        return;
    case POLICY_MATCH_UNKNOWN:
        policy_trace_add(trace, result->rule,
                         "the list of %s cannot be answered now: domain:%.*s needs the client's host name, and the DNS "
                         "does not answer",
                         about, STR_ARG(result->entry->name));
        break;
    case POLICY_MATCH_YES:
        describe_entry(result->entry, facts, entry, sizeof(entry));
        policy_trace_add(trace, result->rule, "the list of %s names the client: %s", about, entry);
        break;
    }
    if (trace->count > before)
        trace->steps[before].inner = result->inner;
}

void policy_trace_user(struct policy_trace *trace, const struct policy_match_result *result, const char *text)
{
    if (result->user)
        policy_trace_add(trace, result->rule, "%s, by %s:%.*s", text, result->user->is_group ? "group" : "user",
                         STR_ARG(result->user->name));
}

/* ---- names ---- */

const char *policy_verdict_name(enum policy_verdict verdict)
{
    static const char *const names[] = {
        [POLICY_ACCEPT] = "accept", [POLICY_REJECT] = "reject", [POLICY_DEFER] = "defer"};

    return names[verdict];
}

const char *policy_stage_name(enum policy_stage stage)
{
    static const char *const names[] = {
        [POLICY_STAGE_CONNECT] = "connect", [POLICY_STAGE_MAIL] = "mail", [POLICY_STAGE_RCPT] = "rcpt"};

    return names[stage];
}

const char *policy_class_name(enum policy_class recipient_class)
{
    static const char *const names[] = {[POLICY_CLASS_NONE] = NULL,
                                        [POLICY_CLASS_LOCAL] = "local",
                                        [POLICY_CLASS_ALLOWED] = "allowed",
                                        [POLICY_CLASS_CONNECTOR] = "connector",
                                        [POLICY_CLASS_EXTERNAL] = "external"};

    return names[recipient_class];
}
