/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/verdict.h"

#include "base/log.h"

#include <stdio.h>

static void complain(const struct policy_server_proof *proof, bool starting)
{
    const struct policy_rule *rule = proof->reason.rule;
    struct buf text;

    buf_init(&text, CONFIG_MESSAGE_BYTES_MAX * 8);
    buf_printf(&text,
               "%s:%u: the server %.*s would be an open relay: %s (%s); restrict it, or say why in "
               "servers.%.*s.allow-open-relay",
               rule->file ? rule->file : "", rule->line, STR_ARG(proof->server->name), proof->reason.text, rule->path,
               STR_ARG(proof->server->name));
    if (starting)
        fprintf(stderr, "%.*s\n", STR_ARG(buf_str(&text)));
    else
        LOG_ERROR("open-relay", log_str("server", proof->server->name), log_str("text", buf_str(&text)));
    buf_release(&text);
}

bool verdict_permits(const struct config *config, bool starting)
{
    bool permitted = true;

    for (size_t i = 0; i < config->server_count; i++) {
        const struct policy_server_proof *proof = &config->proof->servers[i];

        if (proof->exposure != POLICY_OPEN || config->servers[i].allow_open_relay.length > 0)
            continue;
        complain(proof, starting);
        permitted = false;
    }
    return permitted;
}

/* Counts are text: they go beyond what numbers of the log hold. */
static void log_server(const struct config_server *server, const struct policy_server_proof *proof)
{
    const struct space_counts *counts = &proof->relay_counts;
    char ipv4[SPACE_NUMBER_BYTES];
    char ipv4_public[SPACE_NUMBER_BYTES];
    char ipv6[SPACE_NUMBER_BYTES];
    char ipv6_public[SPACE_NUMBER_BYTES];

    space_format_number(counts->ipv4, 0, ipv4);
    space_format_number(counts->ipv4_public, 0, ipv4_public);
    space_format_number(counts->ipv6, 0, ipv6);
    space_format_number(counts->ipv6_public, 0, ipv6_public);
    LOG_AT(proof->exposure == POLICY_OPEN ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "relay-verdict",
           log_str("server", server->name), log_cstr("verdict", policy_exposure_name(proof->exposure)),
           log_cstr("ipv4", ipv4), log_cstr("ipv4_public", ipv4_public), log_cstr("ipv6", ipv6),
           log_cstr("ipv6_public", ipv6_public), log_u64("domains", proof->domains.count),
           log_cstr("authenticated", policy_authenticated_name(proof->authenticated)),
           log_u64("overrides", proof->override_count), log_str("allow_open_relay", server->allow_open_relay));
}

void verdict_log(const struct config *config)
{
    for (size_t i = 0; i < config->server_count; i++)
        log_server(&config->servers[i], &config->proof->servers[i]);
}
