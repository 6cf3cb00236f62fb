/* SPDX-License-Identifier: Apache-2.0 */
/* What only the finished model tells of relaying: lists that turn out to be empty, and what is allowed and may surprise. */
#include "config/build.h"

/* From here on nobody would call it a limit: reports a minute. */
#define REPORTS_PER_MINUTE_MAX 6000

static struct config_place place_of(const struct policy_rule *rule)
{
    return (struct config_place){rule->file, rule->line, 0};
}

/* An empty list of exceptions lets everyone, whether it is empty here or in the file that it names. */
void build_relay_checks(struct build *b)
{
    for (size_t i = 0; i < policy_server_count(b->model); i++) {
        const struct policy_server *server = policy_server_at(b->model, i);
        struct config_place relay = place_of(&server->relay_rule);
        struct config_place connect = place_of(&server->connect_rule);

        /* What is empty as it stands was reported with its place already. */
        if (b->errors->error_count > 0)
            return;
        if (server->relay_mode == POLICY_LIST_EXCEPT && policy_client_list_is_empty(server->relay, true))
            config_errors_add(b->errors, &relay,
                              "%s: its lists are empty, which would let everyone; name who is excluded, or remove it",
                              server->relay_rule.path);
        if (server->connect_mode != POLICY_LIST_NONE && policy_client_list_is_empty(server->connect, false))
            config_errors_add(b->errors, &connect, "%s: its lists are empty; name somebody, or remove it",
                              server->connect_rule.path);
    }
}

/* ---- who is granted ---- */

static void warn_exposure(struct build *b, const struct policy_server_proof *proof)
{
    const struct policy_server *server = proof->server;
    struct config_place place = place_of(&server->relay_rule);

    if (server->relay_mode == POLICY_LIST_EXCEPT)
        config_errors_warn(b->errors, &place, "relay-except",
                           "%s: everyone who is not listed may relay through this server", server->relay_rule.path);
    if (proof->exposure != POLICY_OPEN)
        return;
    place = place_of(proof->reason.rule);
    config_errors_warn(b->errors, &place, "open-relay", "the server %.*s is an OPEN relay: %s", STR_ARG(server->name),
                       proof->reason.text);
}

static const struct policy_rule *granting_rule(const struct policy_server *server, const struct cidr_address *address)
{
    const struct policy_rule *rule = policy_granting_rule(server, address);

    return rule ? rule : &server->relay_rule;
}

/* Behind a bridge or a proxy every client of the Internet has its address. */
static void warn_bridges(struct build *b, const struct policy_server_proof *proof)
{
    struct cidr_address address;
    struct config_place place;
    const struct policy_rule *rule;
    char text[CIDR_TEXT_BYTES];

    if (!space_find_bridge(&proof->relay, &address))
        return;
    rule = granting_rule(proof->server, &address);
    place = place_of(rule);
    cidr_format_address(&address, text);
    config_errors_warn(b->errors, &place, "bridge-address-granted",
                       "%s: grants relay to %s, an address that container bridges and proxies use: whoever reaches one "
                       "of those may relay; leave the gateways out",
                       rule->path, text);
}

static bool is_loopback(const struct cidr_address *address)
{
    static const unsigned char ipv6_loopback[16] = {[15] = 1};

    return cidr_is_ipv4(address) ? address->bytes[12] == 127 : memcmp(address->bytes, ipv6_loopback, 16) == 0;
}

/* A proxy or a container on this machine speaks for others with the machine's own address. */
static void warn_own_addresses(struct build *b, const struct policy_server_proof *proof)
{
    for (size_t i = 0; i < b->machine.address_count; i++) {
        const struct cidr_address *address = &b->machine.addresses[i];
        const struct policy_rule *rule = granting_rule(proof->server, address);
        struct config_place place = place_of(rule);
        char text[CIDR_TEXT_BYTES];

        if (is_loopback(address) || !space_contains(&proof->relay, address))
            continue;
        cidr_format_address(address, text);
        config_errors_warn(b->errors, &place, "own-address-granted",
                           "%s: grants relay to %s, an address of this machine: a proxy or container on it that speaks "
                           "for others may relay; grant 127.0.0.1 for what runs here",
                           rule->path, text);
        return;
    }
}

static void warn_users(struct build *b, const struct policy_server *server)
{
    size_t position = 0;
    struct policy_user_view view;
    bool is_certain;

    while (policy_next_relay_without_submit(server, &position, &view, &is_certain)) {
        struct config_place place = place_of(view.rule);

        config_errors_warn(b->errors, &place, "relay-without-submit",
                           "%s: %s:%.*s may relay, but permissions.submit does not let it send at all%s",
                           view.rule->path, view.is_group ? "group" : "user", STR_ARG(view.name),
                           is_certain ? "" : ", unless by another group");
    }
}

static void warn_connectors(struct build *b)
{
    for (size_t i = 0; i < policy_connector_count(b->model); i++) {
        const struct policy_connector *connector = policy_connector_at(b->model, i);
        struct config_place place = place_of(&connector->allow_relay_rule);

        if (connector->allow_relay)
            config_errors_warn(b->errors, &place, "connector-overrides",
                               "%s: anyone may relay to this connector's address spaces, whatever the servers' relay "
                               "restrictions are",
                               connector->allow_relay_rule.path);
    }
}

/* ---- credentials ---- */

#define CONFIG_PASSWORD_MECHANISMS (CONFIG_MECHANISM_PLAIN | CONFIG_MECHANISM_LOGIN)
#define CONFIG_SCRAM_MECHANISMS    (CONFIG_MECHANISM_SCRAM_SHA_256 | CONFIG_MECHANISM_SCRAM_SHA_256_PLUS)

static void warn_mechanisms(struct build *b, const struct settings_server *settings, const struct config_server *server)
{
    const struct config_node *node = settings->auth.head.node;
    unsigned mechanisms = server->auth.mechanisms;
    bool has_tls = server->tls.mode != CONFIG_TLS_NONE;
    unsigned need_tls = CONFIG_MECHANISM_EXTERNAL | CONFIG_MECHANISM_SCRAM_SHA_256_PLUS |
                        (server->auth.require_tls ? (unsigned)CONFIG_PASSWORD_MECHANISMS : 0u);

    if ((mechanisms & CONFIG_PASSWORD_MECHANISMS) && !server->auth.require_tls)
        config_errors_warn(b->errors, build_key_place(node, "require-tls"), "password-without-tls",
                           "servers.%.*s.auth: passwords may be sent without TLS, for everyone on the way to read",
                           STR_ARG(server->name));
    if ((mechanisms & need_tls) && !has_tls)
        config_errors_warn(b->errors, build_key_place(node, "mechanisms"), "auth-without-tls",
                           "servers.%.*s.auth: mechanisms that need TLS are never offered, since the server has none",
                           STR_ARG(server->name));
    if ((mechanisms & CONFIG_SCRAM_MECHANISMS) && b->config->directory.backend == CONFIG_DIRECTORY_LDAP)
        config_errors_warn(b->errors, build_key_place(node, "mechanisms"), "scram-with-ldap",
                           "servers.%.*s.auth: SCRAM is never offered, since an LDAP directory can't verify it",
                           STR_ARG(server->name));
    if ((mechanisms & CONFIG_MECHANISM_EXTERNAL) && !server->tls.client_certificates)
        config_errors_warn(b->errors, build_key_place(node, "mechanisms"), "external-not-asked",
                           "servers.%.*s.auth: EXTERNAL is never offered without tls.client-certificates: true",
                           STR_ARG(server->name));
}

static void warn_credentials(struct build *b, const struct settings_server *settings,
                             const struct config_server *server)
{
    const struct policy_server *policy = server->policy;
    struct config_place tls = place_of(&policy->tls_required_rule);
    struct config_place relay = place_of(&policy->relay_rule);
    bool has_tls = server->tls.mode != CONFIG_TLS_NONE;

    warn_mechanisms(b, settings, server);
    if (policy->tls_required && !has_tls)
        config_errors_warn(b->errors, &tls, "tls-required-without-tls",
                           "%s: TLS is required and not offered, so that nobody can send",
                           policy->tls_required_rule.path);
    if (has_tls && server->tls.version_min < CONFIG_TLS_1_2)
        config_errors_warn(b->errors, build_key_place(settings->tls.head.node, "minimum-version"), "tls-old",
                           "servers.%.*s.tls: versions below 1.2 are taken: what their clients send, passwords too, "
                           "can be read and changed by whoever is determined to",
                           STR_ARG(server->name));
    if (policy_client_list_has_certificate(policy->relay) && (!has_tls || !server->tls.client_certificates))
        config_errors_warn(b->errors, &relay, "cert-without-tls",
                           "%s: its cert: entries match nobody, since the server does not ask for certificates: %s",
                           policy->relay_rule.path, has_tls ? "set tls.client-certificates: true" : "it has no TLS");
}

/* ---- reports and the postmaster ---- */

static bool is_unlimited(const struct config_rate *rate)
{
    return (__uint128_t)rate->count * 60000 > (__uint128_t)REPORTS_PER_MINUTE_MAX * rate->period_ms;
}

static void warn_reports(struct build *b, const struct policy_server *server)
{
    const struct config_ndr *ndr = &b->config->delivery.ndr;
    struct config_place place = place_of(&server->lookup_rule);

    if (!place.file)
        place = place_of(&server->rule);
    if (server->anonymous && server->lookup == POLICY_LOOKUP_AFTER_ACCEPT && is_unlimited(&ndr->rate) &&
        is_unlimited(&ndr->rate_per_domain))
        config_errors_warn(
            b->errors, &place, "report-limits-off",
            "%s: unknown recipients are accepted and reported later, and delivery.ndr sets no limit that "
            "matters: forged senders will be flooded with reports; look up at-rcpt, or lower the rates",
            server->lookup_rule.path);
}

static void warn_postmaster(struct build *b)
{
    const struct policy_domain *domain = NULL;

    while ((domain = policy_next_domain(b->model, domain))) {
        struct config_place place = place_of(&domain->recipients_rule);

        if (domain->type == POLICY_DOMAIN_LOCAL && domain->recipients == POLICY_RECIPIENTS_LIST &&
            !policy_domain_lists_postmaster(domain))
            config_errors_warn(
                b->errors, &place, "no-postmaster",
                "%s: does not list postmaster, whose mail is taken all the same (RFC 5321 4.5.1): see that "
                "somebody reads it",
                domain->recipients_rule.path);
    }
}

void build_relay_warnings(struct build *b)
{
    const struct settings_server *settings = b->settings->servers.items;

    for (size_t i = 0; i < b->config->proof->server_count; i++) {
        const struct policy_server_proof *proof = &b->config->proof->servers[i];

        warn_exposure(b, proof);
        warn_bridges(b, proof);
        warn_own_addresses(b, proof);
        warn_users(b, proof->server);
        warn_credentials(b, &settings[i], &b->config->servers[i]);
        warn_reports(b, proof->server);
    }
    warn_connectors(b);
    warn_postmaster(b);
}
