/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the building share, delivery's settings, and the warnings. */
#include "config/build.h"

#include "mail/address.h"

#include <stdarg.h>

void *build_alloc(struct build *b, size_t size)
{
    void *memory = arena_alloc(b->arena, size);

    /* Bounded by the files' sizes. */
    if (!memory)
        abort();
    return memory;
}

struct str build_copy(struct build *b, struct str text)
{
    char *copy = build_alloc(b, text.length + 1);

    if (text.length > 0)
        memcpy(copy, text.data, text.length);
    return str_make(copy, text.length);
}

struct config_smart_host build_copy_smart_host(struct build *b, const struct config_smart_host *host)
{
    struct config_smart_host copy = *host;

    copy.text = build_copy(b, host->text);
    copy.host = build_copy(b, host->host);
    return copy;
}

struct policy_rule build_rule(struct build *b, const struct config_place *place, const char *format, ...)
{
    char path[BUILD_PATH_BYTES];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(path, sizeof(path), format, arguments);
    va_end(arguments);
    return policy_model_rule(b->model, str_from_cstr(path), str_from_cstr(place ? place->file : NULL),
                             place ? place->line : 0);
}

struct policy_rule build_key_rule(struct build *b, const struct config_node *map, const char *prefix, const char *key)
{
    const struct config_entry *entry = map ? config_map_find(map, str_from_cstr(key)) : NULL;

    return build_rule(b, entry ? &entry->place : NULL, "%s.%s", prefix, key);
}

const struct config_place *build_key_place(const struct config_node *map, const char *key)
{
    static const struct config_place nowhere;
    const struct config_entry *entry = map ? config_map_find(map, str_from_cstr(key)) : NULL;

    if (entry)
        return &entry->value->place;
    return map ? &map->place : &nowhere;
}

static struct str check_copy_to(struct build *b, const struct settings_ndr *ndr)
{
    struct address address;

    if (ndr->copy_to.length > 0 && (!address_parse(&address, ndr->copy_to, (struct str){0}) || address.is_null ||
                                    address.domain_kind == ADDRESS_DOMAIN_NONE))
        config_errors_add(b->errors, build_key_place(ndr->head.node, "copy-to"),
                          "delivery.ndr.copy-to: wants an address with a domain, like postmaster@contoso.test");
    return build_copy(b, ndr->copy_to);
}

void build_delivery(struct build *b)
{
    const struct settings_delivery *s = &b->settings->delivery;
    uint64_t *retry = build_alloc(b, s->retry.count * sizeof(*retry));

    memcpy(retry, s->retry.items, s->retry.count * sizeof(*retry));
    b->config->delivery = (struct config_delivery){
        .retry_ms = retry,
        .retry_count = s->retry.count,
        .expire_ms = s->expire_ms,
        .delay_notice_ms = s->delay_notice_ms,
        .concurrency_per_destination = s->concurrency_per_destination,
        .unresolved_recipients_host = build_copy_smart_host(b, &s->unresolved_recipients_host),
        .ndr = {.copy_to = check_copy_to(b, &s->ndr),
                .return_content = (enum config_ndr_return)s->ndr.return_content,
                .rate_per_domain = s->ndr.rate_per_domain,
                .rate = s->ndr.rate},
        .workers = s->workers,
    };
}

/* ADDRESS or ADDRESS@PORT. */
static bool is_resolver(struct str text)
{
    struct cidr_address address;
    struct str rest = text;
    uint64_t port = 53;

    return cidr_parse_address(str_split(&rest, '@'), &address) &&
           (!rest.data || (str_to_u64(rest, &port) && port > 0 && port <= UINT16_MAX));
}

/* A proxy is known before anybody could look up its name. */
static void check_proxies(struct build *b, const struct settings_server *settings, const struct config_server *server)
{
    if (server->proxies && policy_client_list_has_domain(server->proxies))
        config_errors_add(b->errors, &settings->proxy_protocol.from->place,
                          "servers.%.*s.proxy-protocol.from: a proxy is known by its address alone; name addresses or "
                          "networks instead of domain:",
                          STR_ARG(server->name));
}

/* No session waits for a name before it greets, and none has proven a certificate by then. */
static void check_etrn(struct build *b, const struct settings_server *settings, const struct config_server *server)
{
    if (server->etrn &&
        (policy_client_list_has_domain(server->etrn) || policy_client_list_has_certificate(server->etrn)))
        config_errors_add(b->errors, &settings->etrn->place,
                          "servers.%.*s.etrn: a client is known by its address alone; name addresses or networks "
                          "instead of domain: or cert:",
                          STR_ARG(server->name));
}

/* Everything goes to addresses only if a connector for all domains and all servers says so, and nothing else names a host. */
static bool has_routes_by_name(const struct build *b)
{
    const struct config *config = b->config;
    const struct config_smart_host *unresolved = &config->delivery.unresolved_recipients_host;
    bool has_route_for_all = false;

    for (size_t i = 0; i < config->connector_count; i++) {
        const struct config_connector *connector = &config->connectors[i];

        if (connector->smart_host_count == 0)
            return true;
        for (size_t j = 0; j < connector->smart_host_count; j++)
            if (!connector->smart_hosts[j].is_address)
                return true;
        for (size_t j = 0; connector->policy && j < connector->policy->space_count; j++)
            has_route_for_all = has_route_for_all || (connector->policy->spaces[j].domain.length == 0 &&
                                                      connector->policy->server_count == 0);
    }
    return b->delivers_to_names || !has_route_for_all || (unresolved->host.length > 0 && !unresolved->is_address);
}

void build_dns(struct build *b)
{
    const struct settings_dns *s = &b->settings->dns;
    struct config_dns *dns = &b->config->dns;

    if (s->resolver.length > 0 && !is_resolver(s->resolver))
        config_errors_add(
            b->errors, build_key_place(s->head.node, "resolver"),
            "dns.resolver: wants ADDRESS or ADDRESS@PORT, as in 192.0.2.53 or 127.0.0.1@5353, not \"%.*s\"",
            STR_ARG(s->resolver));
    *dns = (struct config_dns){
        .resolver = build_copy(b, s->resolver),
        .timeout_ms = s->timeout_ms,
        .dnssec = (enum config_dnssec)s->dnssec,
        .trust_anchor = build_copy(b, s->trust_anchor),
        .received_names = s->received_names,
        .is_needed = s->received_names,
        .is_needed_for_routes = has_routes_by_name(b),
    };
    for (size_t i = 0; i < b->config->server_count; i++) {
        const struct config_server *server = &b->config->servers[i];
        const struct policy_client_list *connect = server->policy ? server->policy->connect : NULL;

        check_proxies(b, &((const struct settings_server *)b->settings->servers.items)[i], server);
        check_etrn(b, &((const struct settings_server *)b->settings->servers.items)[i], server);
        dns->is_needed = dns->is_needed || (connect && policy_client_list_has_domain(connect)) ||
                         (server->policy && policy_client_list_has_domain(server->policy->relay));
    }
}

/* ---- warnings ---- */

static void warn_domains(struct build *b)
{
    if (!policy_default_domain(b->model))
        config_errors_warn(b->errors, &b->tree->root->place, "no-local-domain",
                           "there is no local domain: addresses without a domain, postmaster among them, are refused");
}

void build_warnings(struct build *b)
{
    const struct config_node *root = b->settings->head.node;

    if (str_equal(b->settings->user, STR("root")))
        config_errors_warn(b->errors, build_key_place(root, "user"), "user-root",
                           "user: the daemon will keep all rights of root; name an ordinary user");
    if (str_find(b->config->hostname, '.') == STR_NONE)
        config_errors_warn(b->errors, build_key_place(root, "hostname"), "hostname-short",
                           "hostname: \"%.*s\" is not fully qualified; set one like mail.contoso.test",
                           STR_ARG(b->config->hostname));
    warn_domains(b);
}
