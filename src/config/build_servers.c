/* SPDX-License-Identifier: Apache-2.0 */
/* servers: each one's policy, and what it listens on. */
#include "config/build.h"

/* The prefix of one server's rules. */
#define SERVER_PATH_BYTES 128

struct server_builder {
    struct build *b;
    const struct settings_server *settings;
    char path[SERVER_PATH_BYTES]; /* servers.NAME */
};

static struct policy_client_list *client_list_at(struct server_builder *sb, const struct config_node *node,
                                                 const char *key)
{
    char path[SERVER_PATH_BYTES + 32];

    snprintf(path, sizeof(path), "%s.%s", sb->path, key);
    return build_client_list(sb->b, node, path);
}

static struct policy_user_list *user_list_at(struct server_builder *sb, const struct config_node *node, const char *key)
{
    char path[SERVER_PATH_BYTES + 32];

    snprintf(path, sizeof(path), "%s.%s", sb->path, key);
    return build_user_list(sb->b, node, path);
}

/* only and except together, and what would be empty by accident. */
static void check_client_rule(struct server_builder *sb, const struct settings_client_rule *rule, const char *key,
                              bool only_may_be_empty)
{
    struct config_errors *errors = sb->b->errors;
    const struct config_node *except = rule->except;
    const struct config_node *only = rule->only;

    if (only && except)
        config_errors_add(errors, &except->place, "%s.%s: only and except exclude each other; keep one", sb->path, key);
    if (except && except->type == CONFIG_NODE_LIST && except->list.count == 0)
        config_errors_add(errors, &except->place,
                          "%s.%s.except: is empty, which would let everyone; name who is excluded, or remove it",
                          sb->path, key);
    if (!only_may_be_empty && only && only->type == CONFIG_NODE_LIST && only->list.count == 0)
        config_errors_add(errors, &only->place,
                          "%s.%s.only: is empty, which would let nobody; name who may, or remove it", sb->path, key);
}

/* At connection there is no TLS yet. In a named list, which relaying may use too, they just don't match. */
static void refuse_certificates(struct server_builder *sb, const struct config_node *node, const char *key)
{
    for (size_t i = 0; node && node->type == CONFIG_NODE_LIST && i < node->list.count; i++) {
        const struct config_node *item = node->list.items[i];

        if (item->type == CONFIG_NODE_SCALAR && str_starts_with(item->text, STR("cert:")))
            config_errors_add(sb->b->errors, &item->place,
                              "%s.connect.%s[%zu]: nobody can prove a certificate before TLS; use cert: in relay.only",
                              sb->path, key, i);
    }
}

static void build_connect(struct server_builder *sb, struct policy_server *server)
{
    const struct settings_client_rule *rule = &sb->settings->connect;
    char path[SERVER_PATH_BYTES + 32];

    snprintf(path, sizeof(path), "%s.connect", sb->path);
    check_client_rule(sb, rule, "connect", false);
    refuse_certificates(sb, rule->only, "only");
    refuse_certificates(sb, rule->except, "except");
    if (rule->only) {
        server->connect_mode = POLICY_LIST_ONLY;
        server->connect = client_list_at(sb, rule->only, "connect.only");
        server->connect_rule = build_key_rule(sb->b, rule->head.node, path, "only");
    } else if (rule->except) {
        server->connect_mode = POLICY_LIST_EXCEPT;
        server->connect = client_list_at(sb, rule->except, "connect.except");
        server->connect_rule = build_key_rule(sb->b, rule->head.node, path, "except");
    } else {
        server->connect_mode = POLICY_LIST_NONE;
        server->connect_rule = build_rule(sb->b, NULL, "%s", path);
    }
}

static void build_relay(struct server_builder *sb, struct policy_server *server)
{
    const struct settings_client_rule *rule = &sb->settings->relay;
    bool is_except = rule->except && !rule->only;
    const char *key = is_except ? "except" : "only";
    char path[SERVER_PATH_BYTES + 32];

    check_client_rule(sb, rule, "relay", true);
    server->relay_mode = is_except ? POLICY_LIST_EXCEPT : POLICY_LIST_ONLY;
    server->relay =
        client_list_at(sb, is_except ? rule->except : rule->only, is_except ? "relay.except" : "relay.only");
    snprintf(path, sizeof(path), "%s.relay", sb->path);
    server->relay_rule = build_key_rule(sb->b, rule->head.node, path, key);
    server->relay_authenticated = rule->authenticated;
    server->relay_authenticated_rule = build_key_rule(sb->b, rule->head.node, path, "authenticated");
}

static void build_permissions(struct server_builder *sb, struct policy_server *server)
{
    const struct settings_permissions *permissions = &sb->settings->permissions;

    server->submit_allow = user_list_at(sb, permissions->submit.allow, "permissions.submit.allow");
    server->submit_deny = user_list_at(sb, permissions->submit.deny, "permissions.submit.deny");
    server->relay_allow = user_list_at(sb, permissions->relay.allow, "permissions.relay.allow");
    server->relay_deny = user_list_at(sb, permissions->relay.deny, "permissions.relay.deny");
}

static void add_own(struct policy_client_list *list, const struct cidr_address *address, struct policy_rule rule)
{
    struct cidr_range range = {*address, *address};

    policy_client_list_add_network(list, &range, rule);
}

/* What this server's listeners are bound to; for one on every address, every address of the machine; and `addresses`. */
static struct policy_client_list *build_own_addresses(struct server_builder *sb)
{
    struct build *b = sb->b;
    struct policy_client_list *list = policy_client_list_create(b->model);
    const struct config_listen *listen = sb->settings->listen.items;
    const struct schema_address *addresses = sb->settings->addresses.items;

    for (size_t i = 0; i < sb->settings->addresses.count; i++)
        add_own(list, &addresses[i].address,
                build_rule(b, &sb->settings->addresses.node->list.items[i]->place, "%s.addresses[%zu]", sb->path, i));
    for (size_t i = 0; i < sb->settings->listen.count; i++) {
        struct policy_rule rule =
            build_rule(b, &sb->settings->listen.node->list.items[i]->place, "%s.listen[%zu]", sb->path, i);

        if (!cidr_is_unspecified(&listen[i].address))
            add_own(list, &listen[i].address, rule);
        else
            for (size_t j = 0; j < b->machine.address_count; j++)
                add_own(list, &b->machine.addresses[j], rule);
    }
    return list;
}

static const struct policy_server *build_policy(struct server_builder *sb)
{
    struct build *b = sb->b;
    const struct settings_server *s = sb->settings;
    const struct config_node *map = s->named.head.node;
    struct policy_server server = {
        .name = policy_model_text(b->model, s->named.name),
        .rule = build_rule(b, &s->named.place, "%s", sb->path),
        .anonymous = s->anonymous,
        .anonymous_rule = build_key_rule(b, map, sb->path, "anonymous"),
        .tls_required = s->tls.required,
        .lookup = (enum policy_lookup)s->recipients.lookup,
        .sender_match = (enum policy_sender_match)s->sender_match,
        .sender_match_rule = build_key_rule(b, map, sb->path, "sender-match"),
        .anonymous_local_sender = s->anonymous_local_sender,
        .anonymous_local_sender_rule = build_key_rule(b, map, sb->path, "anonymous-local-sender"),
        .own_addresses = build_own_addresses(sb),
    };
    char path[SERVER_PATH_BYTES + 32];

    snprintf(path, sizeof(path), "%s.tls", sb->path);
    server.tls_required_rule = build_key_rule(b, s->tls.head.node, path, "required");
    snprintf(path, sizeof(path), "%s.recipients", sb->path);
    server.lookup_rule = build_key_rule(b, s->recipients.head.node, path, "lookup");
    build_connect(sb, &server);
    build_relay(sb, &server);
    build_permissions(sb, &server);
    return policy_model_add_server(b->model, &server);
}

static struct config_listen *copy_listen(struct build *b, const struct settings_server *s)
{
    const struct config_listen *from = s->listen.items;
    struct config_listen *listen = build_alloc(b, s->listen.count * sizeof(*listen));

    for (size_t i = 0; i < s->listen.count; i++) {
        listen[i] = from[i];
        listen[i].text = build_copy(b, from[i].text);
    }
    return listen;
}

static void build_server(struct build *b, const struct settings_server *s, struct config_server *server)
{
    struct server_builder sb = {.b = b, .settings = s};

    snprintf(sb.path, sizeof(sb.path), "servers.%.*s", STR_ARG(s->named.name));
    *server = (struct config_server){
        .name = build_copy(b, s->named.name),
        .policy = build_policy(&sb),
        .listen = copy_listen(b, s),
        .listen_count = s->listen.count,
        .banner = build_copy(b, s->banner),
        .bare_newline = (enum config_bare_newline)s->bare_newline,
        .tarpit_ms = s->tarpit_ms,
        .limits = s->limits.limits,
        .allow_open_relay = build_copy(b, s->allow_open_relay),
    };
    build_server_tls(b, s, &server->tls);
    build_server_auth(b, s, &server->auth);
    if (s->proxy_protocol.from)
        server->proxies = client_list_at(&sb, s->proxy_protocol.from, "proxy-protocol.from");
    if (s->etrn)
        server->etrn = client_list_at(&sb, s->etrn, "etrn");
}

/* The same address and port again, in this server or an earlier one. */
static void check_listen(struct build *b, const struct settings_server *servers, size_t server, size_t index)
{
    const struct settings_server *s = &servers[server];
    const struct config_listen *listen = &((const struct config_listen *)s->listen.items)[index];

    if (listen->port == 0)
        return;
    for (size_t i = 0; i <= server; i++) {
        const struct config_listen *others = servers[i].listen.items;
        size_t count = i == server ? index : servers[i].listen.count;

        for (size_t j = 0; j < count; j++)
            if (others[j].port == listen->port && cidr_equal(&others[j].address, &listen->address)) {
                config_errors_add(
                    b->errors, &s->listen.node->list.items[index]->place,
                    "servers.%.*s.listen[%zu]: %.*s is taken by servers.%.*s.listen[%zu]; use another address or port",
                    STR_ARG(s->named.name), index, STR_ARG(listen->text), STR_ARG(servers[i].named.name), j);
                return;
            }
    }
}

void build_servers(struct build *b)
{
    const struct settings_server *settings = b->settings->servers.items;
    size_t count = b->settings->servers.count;
    struct config_server *servers = build_alloc(b, count * sizeof(*servers));

    if (b->settings->servers.node && b->settings->servers.node->map.count == 0)
        config_errors_add(b->errors, &b->settings->servers.node->place, "servers: wants at least one server");
    for (size_t i = 0; i < count; i++) {
        build_server(b, &settings[i], &servers[i]);
        for (size_t j = 0; j < settings[i].listen.count; j++)
            check_listen(b, settings, i, j);
    }
    b->config->servers = servers;
    b->config->server_count = count;
}
