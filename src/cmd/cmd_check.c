/* SPDX-License-Identifier: Apache-2.0 */
/* postern check: what is wrong with a configuration, who may relay under it, and what has changed since another. */
#include "cmd/check_text.h"
#include "cmd/tool.h"

#include <stdlib.h>

struct check {
    const struct tool_options *options;
    const struct config *config;     /* NULL: invalid */
    const struct config *old_config; /* of --against */
    struct policy_comparison *comparison;
    struct config_errors errors;
};

/* ---- for people ---- */

static void print_messages(const struct config_errors *errors, bool warnings, FILE *out)
{
    struct buf line;

    buf_init(&line, CONFIG_MESSAGE_BYTES_MAX * 8);
    for (size_t i = 0; i < errors->count; i++) {
        if (errors->messages[i].is_warning != warnings)
            continue;
        buf_clear(&line);
        config_message_format(&errors->messages[i], &line);
        fprintf(out, "%.*s\n", STR_ARG(buf_str(&line)));
    }
    buf_release(&line);
}

static void print_text(const struct check *check)
{
    const struct config_errors *errors = &check->errors;
    const struct config *config = check->config;

    if (config)
        check_text_print_proof(config);
    if (check->comparison)
        check_text_print_comparison(check->comparison, check->options->against);
    print_messages(errors, true, stdout);
    print_messages(errors, false, stderr);
    if (errors->error_count + errors->warning_count > errors->count)
        fprintf(stderr, "... and %zu more\n", errors->error_count + errors->warning_count - errors->count);
    if (config)
        printf("%s: ok, %s\n", check->options->config_path, policy_exposure_name(config->proof->exposure));
}

/* ---- for programs ---- */

static json_t *json_number(__uint128_t number)
{
    char text[SPACE_NUMBER_BYTES];

    space_format_number(number, 0, text);
    return json_string(text);
}

static json_t *json_overrides(const struct policy_server_proof *proof)
{
    json_t *list = json_array();
    char pattern[POLICY_PATTERN_BYTES];

    for (size_t i = 0; i < proof->override_count; i++) {
        const struct policy_connector *connector = proof->overrides[i];
        json_t *spaces = json_array();

        for (size_t j = 0; j < connector->space_count; j++) {
            policy_pattern(connector->spaces[j].domain, connector->spaces[j].is_wildcard, pattern);
            json_array_append_new(spaces, json_string(pattern));
        }
        json_array_append_new(
            list, json_pack("{s:o, s:o}", "connector", tool_json_text(connector->name), "address_spaces", spaces));
    }
    return list;
}

static json_t *json_server(const struct policy_server_proof *proof)
{
    const struct space_counts *counts = &proof->relay_counts;
    json_t *domains = json_array();

    for (size_t i = 0; i < proof->domains.count; i++)
        json_array_append_new(domains, tool_json_text(proof->domains.items[i].name));
    return json_pack("{s:s, s:{s:o, s:o, s:o, s:o, s:o}, s:s, s:o}", "verdict", policy_exposure_name(proof->exposure),
                     "anonymous_relay", "ipv4", json_number(counts->ipv4), "ipv4_public",
                     json_number(counts->ipv4_public), "ipv6", json_number(counts->ipv6), "ipv6_public",
                     json_number(counts->ipv6_public), "domains", domains, "authenticated_relay",
                     policy_authenticated_name(proof->authenticated), "overrides", json_overrides(proof));
}

static json_t *json_servers(const struct policy_proof *proof)
{
    json_t *servers = json_object();

    for (size_t i = 0; i < proof->server_count; i++) {
        struct str name = proof->servers[i].server->name;

        json_object_setn_new(servers, name.data, name.length, json_server(&proof->servers[i]));
    }
    return servers;
}

/* FILE:LINE, of an error with :COLUMN; null if it stands nowhere. */
static json_t *json_message_place(const struct config_message *message)
{
    struct buf place;
    json_t *value;

    if (!message->file[0])
        return json_null();
    buf_init(&place, CONFIG_MESSAGE_BYTES_MAX * 8);
    buf_append_str(&place, str_from_cstr(message->file));
    if (message->line)
        buf_printf(&place, ":%u", message->line);
    if (message->line && message->column && !message->is_warning)
        buf_printf(&place, ":%u", message->column);
    value = tool_json_text(buf_str(&place));
    buf_release(&place);
    return value;
}

static json_t *json_messages(const struct config_errors *errors, bool warnings)
{
    json_t *list = json_array();

    for (size_t i = 0; i < errors->count; i++) {
        const struct config_message *message = &errors->messages[i];
        json_t *item = json_object();

        if (message->is_warning != warnings) {
            json_decref(item);
            continue;
        }
        if (warnings)
            json_object_set_new(item, "code", json_string(message->code));
        json_object_set_new(item, "at", json_message_place(message));
        json_object_set_new(item, "text", tool_json_text(str_from_cstr(message->text)));
        json_array_append_new(list, item);
    }
    return list;
}

static json_t *json_names(const struct policy_names *names)
{
    json_t *list = json_array();

    for (size_t i = 0; i < names->count; i++)
        json_array_append_new(list, tool_json_text(names->items[i]));
    return list;
}

static json_t *json_change(const struct policy_change *change)
{
    json_t *addresses = json_array();
    char text[CIDR_TEXT_BYTES];
    struct space_network *networks;
    size_t count = space_networks(&change->addresses, &networks);

    for (size_t i = 0; i < count; i++) {
        space_format_network(&networks[i], text);
        json_array_append_new(addresses, json_string(text));
    }
    free(networks);
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "addresses", addresses, "domains", json_names(&change->domains),
                     "certificates", json_names(&change->certificates), "users", json_names(&change->users),
                     "overrides", json_names(&change->overrides));
}

static json_t *json_comparison(const struct policy_comparison *comparison)
{
    json_t *servers = json_object();

    for (size_t i = 0; i < comparison->server_count; i++) {
        const struct policy_server_change *change = &comparison->servers[i];

        json_object_setn_new(
            servers, change->server.data, change->server.length,
            json_pack("{s:o, s:o}", "gains", json_change(&change->gains), "loses", json_change(&change->loses)));
    }
    return servers;
}

static void print_json(const struct check *check)
{
    json_t *root = json_object();

    if (check->config) {
        json_object_set_new(root, "verdict", json_string(policy_exposure_name(check->config->proof->exposure)));
        json_object_set_new(root, "servers", json_servers(check->config->proof));
    } else {
        json_object_set_new(root, "verdict", json_null());
        json_object_set_new(root, "errors", json_messages(&check->errors, false));
    }
    json_object_set_new(root, "warnings", json_messages(&check->errors, true));
    if (check->comparison)
        json_object_set_new(root, "against", json_comparison(check->comparison));
    tool_print_json(root);
}

/* ---- the command ---- */

/* Warnings of the old configuration are yesterday's. */
static bool compare(struct check *check)
{
    if (!check->options->against || !check->config)
        return true;
    check->old_config = tool_load_config(check->options->against);
    if (!check->old_config)
        return false;
    check->comparison = policy_compare(check->old_config->proof, check->config->proof);
    return true;
}

enum exit_code tool_check(const struct tool_options *options, char *const *arguments)
{
    struct check check = {.options = options};
    enum exit_code code = EXIT_COULD_NOT;

    (void)arguments;
    config_errors_init(&check.errors);
    config_load(vfs_system(), options->config_path, NULL, &check.config, &check.errors);
    if (compare(&check)) {
        if (options->json)
            print_json(&check);
        else
            print_text(&check);
        if (check.config)
            code = check.config->proof->exposure == POLICY_OPEN ? EXIT_NO : EXIT_DONE;
    }
    policy_comparison_destroy(&check.comparison);
    config_release(&check.old_config);
    config_release(&check.config);
    config_errors_release(&check.errors);
    return code;
}
