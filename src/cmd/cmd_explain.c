/* SPDX-License-Identifier: Apache-2.0 */
/* postern explain: one case through the live server's decision function, and every step of it in words. */
#include "cmd/ask_directory.h"
#include "cmd/lookup_name.h"
#include "cmd/tool.h"
#include "mail/domain.h"
#include "mail/text.h"
#include "policy/explain.h"
#include "policy/explain_batch.h"

#include <stdlib.h>

#define SHOWN_BYTES_MAX 1024

struct explain {
    const struct tool_options *options;
    const struct config *config;
    struct policy_question question;
    char client_name[DOMAIN_TEXT_BYTES];
    bool was_looked_up;
    struct ask_directory asked;
    struct policy_decision decision;
    struct policy_trace trace;
};

/* ---- the question ---- */

static enum exit_code read_server(struct explain *explain)
{
    const char *name = explain->options->server;

    if (!name && explain->config->server_count == 1)
        explain->question.facts.server = explain->config->servers[0].policy;
    else if (name)
        explain->question.facts.server = policy_find_server(explain->config->policy, str_from_cstr(name));
    if (explain->question.facts.server)
        return EXIT_DONE;
    fprintf(stderr,
            name ? "postern: there is no server \"%s\"; there are:" : "postern: --server is missing; there are:", name);
    for (size_t i = 0; i < explain->config->server_count; i++)
        fprintf(stderr, " %.*s", STR_ARG(explain->config->servers[i].name));
    fputc('\n', stderr);
    return EXIT_USAGE;
}

/* Whatever was given counts; a name alone is taken for a verified one; without both the DNS is asked. */
static enum exit_code read_client_name(struct explain *explain)
{
    const struct tool_options *options = explain->options;
    struct policy_facts *facts = &explain->question.facts;
    struct str state = str_from_cstr(options->client_name_state);
    size_t length = 0;

    if (options->client_name) {
        length = domain_normalize(str_from_cstr(options->client_name), explain->client_name);
        if (length == 0)
            return tool_usage("--client-name: \"%s\" is not a host name", options->client_name);
        facts->client_name_state = POLICY_NAME_VERIFIED;
    }
    if (options->client_name_state && !explain_parse_name_state(state, &facts->client_name_state))
        return tool_usage("--client-name-state: wants verified, none, unverified or tempfail, not \"%s\"",
                          options->client_name_state);
    if (facts->client_name_state == POLICY_NAME_VERIFIED && length == 0)
        return tool_usage("--client-name-state verified needs --client-name");
    explain->was_looked_up = !options->client_name && !options->client_name_state;
    if (explain->was_looked_up)
        facts->client_name_state = explain_lookup_name(explain->config, &facts->client, explain->client_name);
    facts->client_name = str_from_cstr(explain->client_name);
    return EXIT_DONE;
}

static enum exit_code read_question(struct explain *explain)
{
    const struct tool_options *options = explain->options;
    struct policy_facts *facts = &explain->question.facts;
    enum exit_code code = read_server(explain);

    if (code != EXIT_DONE)
        return code;
    if (!cidr_parse_address(str_from_cstr(options->client), &facts->client))
        return tool_usage("--client: \"%s\" is not an IP address; write it without brackets and port", options->client);
    facts->has_tls = options->tls;
    if (options->certificate) {
        facts->has_certificate = true;
        if (!policy_parse_certificate(str_from_cstr(options->certificate), facts->certificate_sha256))
            return tool_usage("--cert: wants the SHA-256 of the certificate, 64 hex digits");
    }
    facts->user = str_from_cstr(options->user);
    facts->is_authenticated = facts->user.length > 0;
    facts->groups = options->groups;
    facts->group_count = options->group_count;
    explain->question.from = str_from_cstr(options->from);
    explain->question.to = str_from_cstr(options->to);
    return read_client_name(explain);
}

/* ---- for people ---- */

/* What came from the command line may hold anything, also a terminal's commands. */
static void print_clean(const char *before, struct str text, const char *after)
{
    struct buf clean;

    buf_init(&clean, SHOWN_BYTES_MAX);
    text_append_clean(&clean, text, SHOWN_BYTES_MAX, false);
    printf("%s%.*s%s", before, STR_ARG(buf_str(&clean)), after);
    buf_release(&clean);
}

static const char *name_state_words(const struct explain *explain)
{
    static const char *const words[] = {
        [POLICY_NAME_NONE] = "no host name",
        [POLICY_NAME_VERIFIED] = "verified host name ",
        [POLICY_NAME_UNVERIFIED] = "a host name that does not lead back to it",
        [POLICY_NAME_TEMPFAIL] = "its host name unknown, since the DNS does not answer",
    };

    return words[explain->question.facts.client_name_state];
}

static const char *name_source(const struct explain *explain)
{
    if (!explain->was_looked_up)
        return "as given";
    return explain->config->dns.is_needed ? "asked of the DNS now" : "not looked up, since no server uses host names";
}

static void print_question(const struct explain *explain)
{
    const struct policy_facts *facts = &explain->question.facts;
    const struct tool_colors *colors = tool_colors();
    char client[CIDR_TEXT_BYTES];

    cidr_format_address(&facts->client, client);
    printf("%sServer %.*s, client %s%s\n", colors->strong, STR_ARG(facts->server->name), client, colors->end);
    printf("  %s%s (%s)\n", name_state_words(explain), explain->client_name, name_source(explain));
    printf("  %s%s\n", facts->has_tls ? "TLS" : "no TLS", facts->has_certificate ? ", with a client certificate" : "");
    if (!facts->is_authenticated) {
        printf("  not authenticated\n");
        return;
    }
    print_clean("  authenticated as ", facts->user, "");
    for (size_t i = 0; i < facts->group_count; i++)
        print_clean(i == 0 ? ", of the groups " : ", ", facts->groups[i], "");
    printf(" (%s)\n", ask_directory_user_words(&explain->asked));
}

static void print_stage(const struct explain *explain, enum policy_stage stage)
{
    const struct tool_colors *colors = tool_colors();

    printf("\n%s", colors->strong);
    if (stage == POLICY_STAGE_CONNECT)
        printf("Connection");
    else if (stage == POLICY_STAGE_MAIL)
        print_clean("MAIL FROM:<", str_equal(explain->question.from, STR("<>")) ? STR("") : explain->question.from,
                    ">");
    else
        print_clean("RCPT TO:<", explain->question.to, ">");
    printf("%s\n", colors->end);
}

static void print_rule(const struct policy_rule *rule, const char *what)
{
    const struct tool_colors *colors = tool_colors();

    if (!rule)
        return;
    printf("      %s%s%s", colors->faint, what, rule->path);
    if (rule->file)
        printf(" (%s:%u)", rule->file, rule->line);
    else
        printf(" (default)");
    printf("%s\n", colors->end);
}

static const char *verdict_color(enum policy_verdict verdict)
{
    const struct tool_colors *colors = tool_colors();

    return verdict == POLICY_ACCEPT ? colors->good : verdict == POLICY_DEFER ? colors->warning : colors->bad;
}

/* The banner is the reply to a connection that is taken. */
static void print_reply(const struct explain *explain, const struct policy_trace_step *step)
{
    bool is_last = step->stage == explain->decision.stage;
    enum policy_verdict verdict = is_last ? explain->decision.verdict : POLICY_ACCEPT;
    bool is_banner = step->stage == POLICY_STAGE_CONNECT && verdict == POLICY_ACCEPT;

    printf("  %s\xe2\x86\x92 %s%s\n", verdict_color(verdict), is_banner ? "accepted" : step->text, tool_colors()->end);
    if (is_last)
        print_rule(step->rule, "decided by ");
}

static void print_text(const struct explain *explain)
{
    print_question(explain);
    for (size_t i = 0; i < explain->trace.count; i++) {
        const struct policy_trace_step *step = &explain->trace.steps[i];

        if (i == 0 || step->stage != explain->trace.steps[i - 1].stage)
            print_stage(explain, step->stage);
        if (step->is_reply) {
            print_reply(explain, step);
            continue;
        }
        print_clean("  ", str_from_cstr(step->text), "\n");
        print_rule(step->rule, "");
        print_rule(step->inner, "by ");
    }
}

/* ---- for programs ---- */

static json_t *json_rule(const struct policy_rule *rule)
{
    return rule ? tool_json_text(str_from_cstr(rule->path)) : json_null();
}

static json_t *json_steps(const struct policy_trace *trace)
{
    json_t *steps = json_array();

    for (size_t i = 0; i < trace->count; i++) {
        const struct policy_trace_step *step = &trace->steps[i];
        json_t *item = json_pack("{s:s, s:b, s:o, s:o, s:o}", "stage", policy_stage_name(step->stage), "reply",
                                 step->is_reply, "text", tool_json_text(str_from_cstr(step->text)), "rule",
                                 json_rule(step->rule), "at", tool_json_place(step->rule));

        if (step->inner)
            json_object_set_new(
                item, "by",
                json_pack("{s:o, s:o}", "rule", json_rule(step->inner), "at", tool_json_place(step->inner)));
        json_array_append_new(steps, item);
    }
    return steps;
}

/* The same fields as a line of --batch, and the steps. */
static void print_json(const struct explain *explain)
{
    const struct policy_decision *decision = &explain->decision;
    const char *class_name = policy_class_name(decision->recipient_class);

    tool_print_json(json_pack(
        "{s:s, s:s, s:o, s:i, s:s, s:o, s:o, s:o, s:o}", "verdict", policy_verdict_name(decision->verdict), "stage",
        policy_stage_name(decision->stage), "class", class_name ? json_string(class_name) : json_null(), "code",
        decision->code, "enhanced", decision->enhanced, "text",
        tool_json_text(str_make(decision->text, decision->text_length)), "rule", json_rule(decision->rule), "at",
        tool_json_place(decision->rule), "steps", json_steps(&explain->trace)));
}

/* ---- the command ---- */

enum exit_code tool_explain(const struct tool_options *options, char *const *arguments)
{
    struct explain *explain;
    enum exit_code code = EXIT_COULD_NOT;

    (void)arguments;
    if (options->batch)
        return tool_explain_batch(options);
    if (!options->client || !options->from || !options->to)
        return tool_usage("explain wants --client, --from and --to, or --batch");
    explain = calloc(1, sizeof(*explain));
    if (!explain)
        abort();
    explain->options = options;
    explain->config = tool_load_config(options->config_path);
    if (explain->config)
        code = read_question(explain);
    if (code == EXIT_DONE) {
        ask_directory(&explain->asked, explain->config, &explain->question);
        policy_explain(explain->config->policy, &explain->question, &explain->decision, &explain->trace);
        if (options->json)
            print_json(explain);
        else
            print_text(explain);
        code = explain->decision.verdict == POLICY_ACCEPT ? EXIT_DONE : EXIT_NO;
    }
    ask_directory_end(&explain->asked);
    config_release(&explain->config);
    free(explain);
    return code;
}
