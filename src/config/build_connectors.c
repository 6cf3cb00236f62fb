/* SPDX-License-Identifier: Apache-2.0 */
/* connectors: their address spaces and scopes for the policy, their hosts and settings for delivery. */
#include "config/build.h"
#include "mail/domain.h"

#define COST_MAX  1000000
#define SMTP_PORT 25

/* The long form of an address space. */
struct space_settings {
    struct schema_map_head head;
    struct str domain;
    uint64_t cost;
};

static const struct schema_key space_keys[] = {
    {"domain", SCHEMA_TEXT, .offset = offsetof(struct space_settings, domain), .is_required = true, .maximum = 1024,
     .about = "\"*\", \"*.NAME\" or NAME."},
    {"cost", SCHEMA_INTEGER, .offset = offsetof(struct space_settings, cost), .fallback = "1", .maximum = COST_MAX,
     .about = "Among equally specific address spaces the lowest wins."},
};
static const struct schema_map space_map = {space_keys, sizeof(space_keys) / sizeof(space_keys[0]),
                                            sizeof(struct space_settings)};

/* "*", "*.NAME" or NAME; 0 or -1. */
static int read_space_domain(struct build *b, struct str text, struct policy_address_space *space)
{
    char normal[DOMAIN_TEXT_BYTES];
    size_t length;

    space->is_wildcard = str_starts_with(text, STR("*"));
    space->domain = STR("");
    if (str_equal(text, STR("*")))
        return 0;
    length = space->is_wildcard && !str_starts_with(text, STR("*."))
                 ? 0
                 : domain_normalize(str_skip(text, space->is_wildcard ? 2 : 0), normal);
    if (length == 0)
        return -1;
    space->domain = policy_model_text(b->model, str_make(normal, length));
    return 0;
}

static int read_space(struct build *b, const struct config_node *node, const char *path,
                      struct policy_address_space *space)
{
    struct space_settings settings = {.cost = 1};

    if (node->type == CONFIG_NODE_MAP) {
        size_t errors_before = b->errors->error_count;

        schema_read(b->tree, &space_map, node, &settings);
        if (b->errors->error_count != errors_before)
            return -1;
    } else if (node->type == CONFIG_NODE_SCALAR) {
        settings.domain = node->text;
    }
    if (settings.domain.length == 0 || read_space_domain(b, settings.domain, space) != 0)
        return config_errors_add(b->errors, &node->place,
                                 "%s: wants \"*\", \"*.NAME\", NAME, or { domain: ..., cost: N }, not \"%.*s\"", path,
                                 STR_ARG(str_take(settings.domain, 80)));
    space->cost = (unsigned)settings.cost;
    space->rule = build_rule(b, &node->place, "%s", path);
    return 0;
}

static bool has_space(const struct policy_address_space *spaces, size_t count, const struct policy_address_space *space)
{
    for (size_t i = 0; i < count; i++)
        if (spaces[i].is_wildcard == space->is_wildcard && str_equal(spaces[i].domain, space->domain))
            return true;
    return false;
}

/* Above it, finding what stands twice would take long; such tables belong into several connectors. */
#define SPACES_MAX 10000

static void build_spaces(struct build *b, const struct settings_connector *s, struct policy_connector *connector)
{
    const struct config_node *node = s->address_spaces;
    struct policy_address_space *spaces;

    if (!node)
        return;
    if (node->type != CONFIG_NODE_LIST || node->list.count == 0 || node->list.count > SPACES_MAX) {
        config_errors_add(b->errors, &node->place,
                          "connectors.%.*s.address-spaces: wants a list of 1 to %d, as in [\"*\"]",
                          STR_ARG(s->named.name), SPACES_MAX);
        return;
    }
    spaces = build_alloc(b, node->list.count * sizeof(*spaces));
    for (size_t i = 0; i < node->list.count; i++) {
        char path[BUILD_PATH_BYTES];
        struct policy_address_space *space = &spaces[connector->space_count];

        snprintf(path, sizeof(path), "connectors.%.*s.address-spaces[%zu]", STR_ARG(s->named.name), i);
        if (read_space(b, node->list.items[i], path, space) != 0)
            continue;
        if (has_space(spaces, connector->space_count, space))
            config_errors_add(b->errors, &node->list.items[i]->place, "%s: stands in this list already", path);
        else
            connector->space_count++;
    }
    connector->spaces = spaces;
}

static void build_scope(struct build *b, const struct settings_connector *s, struct policy_connector *connector)
{
    const struct str *names = s->servers.items;
    struct str *scope = build_alloc(b, s->servers.count * sizeof(*scope));

    for (size_t i = 0; i < s->servers.count; i++) {
        if (!policy_find_server(b->model, names[i]))
            config_errors_add(b->errors, &s->servers.node->list.items[i]->place,
                              "connectors.%.*s.servers[%zu]: there is no server \"%.*s\"", STR_ARG(s->named.name), i,
                              STR_ARG(str_take(names[i], 80)));
        scope[i] = policy_model_text(b->model, names[i]);
    }
    if (s->servers.node && s->servers.count == 0)
        config_errors_add(
            b->errors, &s->servers.node->place,
            "connectors.%.*s.servers: is empty, which would be for no mail; name servers, or remove it for all",
            STR_ARG(s->named.name));
    connector->servers = scope;
    connector->server_count = s->servers.count;
}

static const struct policy_connector *build_policy(struct build *b, const struct settings_connector *s)
{
    struct policy_connector connector = {
        .name = policy_model_text(b->model, s->named.name),
        .allow_relay = s->allow_relay,
        .rule = build_rule(b, &s->named.place, "connectors.%.*s", STR_ARG(s->named.name)),
    };

    connector.allow_relay_rule = build_key_rule(b, s->named.head.node, connector.rule.path, "allow-relay");
    build_spaces(b, s, &connector);
    build_scope(b, s, &connector);
    return policy_model_add_connector(b->model, &connector);
}

static void check_route(struct build *b, const struct settings_connector *s)
{
    const struct config_node *map = s->named.head.node;
    const struct config_entry *hosts = map ? config_map_find(map, STR("smart-hosts")) : NULL;
    static const char *const of_the_dns[] = {"route", "port", "mx-networks"};

    if (!map)
        return;
    for (size_t i = 0; s->smart_hosts.count > 0 && i < sizeof(of_the_dns) / sizeof(of_the_dns[0]); i++)
        if (config_map_find(map, str_from_cstr(of_the_dns[i])))
            config_errors_add(b->errors, build_key_place(map, of_the_dns[i]),
                              "connectors.%.*s: %s is for mail that the DNS routes, and smart-hosts is set; keep one",
                              STR_ARG(s->named.name), of_the_dns[i]);
    if (hosts && hosts->value->type == CONFIG_NODE_LIST && hosts->value->list.count == 0)
        config_errors_add(b->errors, &hosts->value->place,
                          "connectors.%.*s.smart-hosts: is empty; name a host, or write route: dns instead",
                          STR_ARG(s->named.name));
}

static void build_tls(struct build *b, const struct settings_connector *s, struct config_connector *connector)
{
    connector->tls = (enum config_connector_tls)s->tls;
    connector->implicit_tls = s->implicit_tls;
    connector->ca_file = build_copy(b, s->ca_file);
    if (connector->implicit_tls && connector->tls == CONFIG_CONNECTOR_TLS_NONE)
        config_errors_add(b->errors, build_key_place(s->named.head.node, "implicit-tls"),
                          "connectors.%.*s: implicit-tls and tls: none exclude each other; keep one",
                          STR_ARG(s->named.name));
    if (connector->ca_file.length > 0 && connector->tls != CONFIG_CONNECTOR_TLS_VERIFY)
        config_errors_add(b->errors, build_key_place(s->named.head.node, "ca-file"),
                          "connectors.%.*s: ca-file is for tls: verify; write that, or remove it",
                          STR_ARG(s->named.name));
}

/* What a password's way to a server is worth: without verification whoever stands in it can ask for the password itself. */
static void check_auth_tls(struct build *b, const struct settings_connector *s,
                           const struct config_connector *connector)
{
    const unsigned plain = CONFIG_MECHANISM_PLAIN | CONFIG_MECHANISM_LOGIN;
    bool is_verified = connector->tls == CONFIG_CONNECTOR_TLS_VERIFY || connector->tls == CONFIG_CONNECTOR_TLS_DANE;

    if ((connector->auth.mechanisms & plain) && !is_verified)
        config_errors_warn(b->errors, build_key_place(s->named.head.node, "auth"), "auth-unverified",
                           "connectors.%.*s.auth: the password goes to a server that nobody verifies; set tls: verify, "
                           "or mechanisms: [SCRAM-SHA-256-PLUS, SCRAM-SHA-256]",
                           STR_ARG(s->named.name));
}

static void build_auth(struct build *b, const struct settings_connector *s, struct config_connector *connector)
{
    const struct settings_connector_auth *from = &s->auth;
    const struct config_place *place = build_key_place(s->named.head.node, "auth");
    size_t errors_before = b->errors->error_count;
    bool is_told; /* what is wrong with the password's file */
    char path[BUILD_PATH_BYTES];

    connector->auth.user = build_copy(b, from->user);
    connector->auth.password = build_secret(b, from->head.node, "password", from->password, from->password_file);
    connector->auth.without_tls = from->without_tls;
    is_told = b->errors->error_count != errors_before;
    if (!from->head.node)
        return;
    snprintf(path, sizeof(path), "connectors.%.*s.auth.mechanisms", STR_ARG(s->named.name));
    connector->auth.mechanisms =
        build_mechanisms(b, &from->mechanisms, path,
                         CONFIG_MECHANISM_PLAIN | CONFIG_MECHANISM_LOGIN | CONFIG_MECHANISM_SCRAM_SHA_256 |
                             CONFIG_MECHANISM_SCRAM_SHA_256_PLUS);
    if (from->user.length == 0 || (connector->auth.password.length == 0 && !is_told))
        config_errors_add(b->errors, place, "connectors.%.*s.auth: wants a user, and a password or a password-file",
                          STR_ARG(s->named.name));
    if (s->smart_hosts.count == 0)
        config_errors_add(
            b->errors, place,
            "connectors.%.*s.auth: without smart-hosts the password would go to every mail exchanger that "
            "the DNS names; name smart-hosts",
            STR_ARG(s->named.name));
    if (connector->tls == CONFIG_CONNECTOR_TLS_NONE && !from->without_tls)
        config_errors_add(b->errors, place,
                          "connectors.%.*s.auth: with tls: none the password would be sent in the clear; set tls, or "
                          "without-tls: true",
                          STR_ARG(s->named.name));
    if (b->errors->error_count == errors_before)
        check_auth_tls(b, s, connector);
}

static void build_mx_networks(struct build *b, const struct settings_connector *s, struct config_connector *connector)
{
    const struct str *texts = s->mx_networks.items;
    struct cidr_range *networks = build_alloc(b, s->mx_networks.count * sizeof(*networks));
    struct error error;

    for (size_t i = 0; i < s->mx_networks.count; i++)
        if (cidr_parse_network(texts[i], &networks[i], &error) != 0)
            config_errors_add(b->errors, &s->mx_networks.node->list.items[i]->place,
                              "connectors.%.*s.mx-networks[%zu]: %s", STR_ARG(s->named.name), i, error.text);
    connector->mx_networks = networks;
    connector->mx_network_count = s->mx_networks.count;
}

static void build_connector(struct build *b, const struct settings_connector *s, struct config_connector *connector)
{
    const struct config_smart_host *hosts = s->smart_hosts.items;
    struct config_smart_host *copies = build_alloc(b, s->smart_hosts.count * sizeof(*copies));

    for (size_t i = 0; i < s->smart_hosts.count; i++)
        copies[i] = build_copy_smart_host(b, &hosts[i]);
    check_route(b, s);
    *connector = (struct config_connector){
        .name = build_copy(b, s->named.name),
        .policy = build_policy(b, s),
        .smart_hosts = copies,
        .smart_host_count = s->smart_hosts.count,
        .port = (uint16_t)s->port,
        .masquerade = build_copy(b, s->masquerade),
        .has_source_address = s->source_address.is_set,
        .source_address = s->source_address.address,
        .helo_name = s->helo_name.length > 0 ? build_copy(b, s->helo_name) : b->config->hostname,
        .timeouts = s->timeouts.timeouts,
    };
    build_tls(b, s, connector);
    build_auth(b, s, connector);
    build_mx_networks(b, s, connector);
}

static void build_default_connector(struct build *b)
{
    struct settings_timeouts timeouts = {0};

    schema_read(b->tree, &schema_timeouts, NULL, &timeouts);
    b->config->default_connector = (struct config_connector){
        .name = STR(""),
        .port = SMTP_PORT,
        .masquerade = STR(""),
        .tls = CONFIG_CONNECTOR_TLS_MAY,
        .ca_file = STR(""),
        .auth = {.user = STR(""), .password = STR("")},
        .helo_name = b->config->hostname,
        .timeouts = timeouts.timeouts,
    };
}

void build_connectors(struct build *b)
{
    const struct settings_connector *settings = b->settings->connectors.items;
    size_t count = b->settings->connectors.count;
    struct config_connector *connectors = build_alloc(b, count * sizeof(*connectors));

    for (size_t i = 0; i < count; i++)
        build_connector(b, &settings[i], &connectors[i]);
    b->config->connectors = connectors;
    b->config->connector_count = count;
    build_default_connector(b);
}
