/* SPDX-License-Identifier: Apache-2.0 */
/* connectors: their address spaces and scopes for the policy, their hosts and settings for delivery. */
#include "config/build.h"
#include "mail/domain.h"

#define COST_MAX 1000000

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

    if (!map)
        return;
    if (s->smart_hosts.count > 0 && config_map_find(map, STR("route")))
        config_errors_add(b->errors, build_key_place(map, "route"),
                          "connectors.%.*s: route and smart-hosts exclude each other; keep one",
                          STR_ARG(s->named.name));
    else if (!hosts || (hosts->value->type == CONFIG_NODE_LIST && hosts->value->list.count == 0))
        config_errors_add(
            b->errors, build_key_place(map, "route"),
            "connectors.%.*s: route: dns needs the DNS client, which is not available in this version; name a "
            "smart host, as in smart-hosts: [\"192.0.2.25:25\"]",
            STR_ARG(s->named.name));
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
        .has_source_address = s->source_address.is_set,
        .source_address = s->source_address.address,
        .helo_name = s->helo_name.length > 0 ? build_copy(b, s->helo_name) : b->config->hostname,
        .timeouts = s->timeouts.timeouts,
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
}
