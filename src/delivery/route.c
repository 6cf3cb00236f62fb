/* SPDX-License-Identifier: Apache-2.0 */
#include "delivery/route.h"

#include "mail/address.h"

#include <stdio.h>
#include <string.h>

#define CONNECTOR_PREFIX "smtp:"
#define HOST_PREFIX      "host:"
#define LMTP_PREFIX      "lmtp:"

static void refuse(struct queue_route *route, enum queue_route_kind kind, const char *status, const char *text)
{
    route->kind = kind;
    snprintf(route->status, sizeof(route->status), "%s", status);
    snprintf(route->text, sizeof(route->text), "%s", text);
}

/* `length`: what snprintf said. A name that does not fit would be another destination's. */
static void deliver(const struct config *config, struct queue_route *route, int length)
{
    if (length < 0 || (size_t)length >= sizeof(route->destination)) {
        refuse(route, QUEUE_ROUTE_DEFER, "4.3.5", "The name of the connector or host is too long");
        return;
    }
    route->kind = QUEUE_ROUTE_DELIVER;
    route->concurrency = (unsigned)config->delivery.concurrency_per_destination;
}

static void deliver_to_host(const struct config *config, struct queue_route *route, struct str host, uint16_t port)
{
    deliver(config, route,
            snprintf(route->destination, sizeof(route->destination), HOST_PREFIX "%u:%.*s", port, STR_ARG(host)));
}

static void deliver_by_lmtp(const struct config *config, struct queue_route *route,
                            const struct policy_delivery *delivery)
{
    if (delivery->host.length == 0)
        deliver(config, route,
                snprintf(route->destination, sizeof(route->destination), LMTP_PREFIX "%.*s",
                         STR_ARG(delivery->socket_path)));
    else
        deliver(config, route,
                snprintf(route->destination, sizeof(route->destination), LMTP_PREFIX "%u:%.*s", delivery->port,
                         STR_ARG(delivery->host)));
}

static void choose_local(const struct config *config, const struct policy_domain *local, bool is_known,
                         struct queue_route *route)
{
    const struct config_smart_host *unresolved = &config->delivery.unresolved_recipients_host;

    if (!is_known && unresolved->host.length > 0) {
        deliver_to_host(config, route, unresolved->host, unresolved->port);
        return;
    }
    if (!is_known) {
        refuse(route, QUEUE_ROUTE_FAIL, "5.1.1", "User unknown");
        return;
    }
    switch (local->delivery.method) {
    case POLICY_DELIVER_MAILDIR:
        deliver(config, route, snprintf(route->destination, sizeof(route->destination), "maildir"));
        return;
    case POLICY_DELIVER_SMTP:
        deliver_to_host(config, route, local->delivery.host, local->delivery.port);
        return;
    case POLICY_DELIVER_LMTP:
        deliver_by_lmtp(config, route, &local->delivery);
        return;
    }
}

/* The names of connectors that fit: three of the longest that there may be, beside the longest domain. */
static size_t put_connectors(const struct config *config, const struct policy_route *found, size_t room, char *out,
                             bool *asks_dns)
{
    size_t length = 0;

    *asks_dns = found->connector_count == 0;
    for (size_t i = 0; i < found->connector_count; i++) {
        const struct config_connector *connector = &config->connectors[found->connectors[i]->index];
        int printed = snprintf(out + length, room - length, "%s%.*s", i > 0 ? "," : "", STR_ARG(connector->name));

        if (printed < 0 || (size_t)printed >= room - length)
            break;
        length += (size_t)printed;
        *asks_dns = *asks_dns || connector->smart_host_count == 0;
    }
    out[length] = '\0';
    return length;
}

static void choose_remote(const struct config *config, const struct policy_route *found, struct str domain,
                          struct queue_route *route)
{
    char names[QUEUE_DESTINATION_BYTES_MAX - sizeof(CONNECTOR_PREFIX)];
    bool asks_dns;
    size_t length = put_connectors(config, found, sizeof(names) - domain.length - 1, names, &asks_dns);

    deliver(config, route,
            snprintf(route->destination, sizeof(route->destination), CONNECTOR_PREFIX "%.*s%s%.*s", (int)length, names,
                     asks_dns ? "/" : "", asks_dns ? (int)domain.length : 0, domain.data));
}

/* POLICY_ASK_DIRECTORY until the directory has been asked: also about the postmaster, who is known whatever it says, but may be an alias in it. */
static enum policy_known known_by_now(const struct policy_route *found, const struct address *address,
                                      enum queue_resolution resolution)
{
    const struct policy_domain *entry = found->entry ? found->entry : found->local;
    enum policy_known known = entry ? policy_recipient_known(entry, address) : POLICY_KNOWN;

    if (resolution == QUEUE_NOT_RESOLVED)
        return entry && policy_resolve_domain(entry)->recipients == POLICY_RECIPIENTS_DIRECTORY ? POLICY_ASK_DIRECTORY
                                                                                                : known;
    if (known != POLICY_ASK_DIRECTORY)
        return known;
    return resolution == QUEUE_RESOLVED_KNOWN ? POLICY_KNOWN : POLICY_UNKNOWN;
}

void route_choose(const struct config *config, const struct envelope *envelope, size_t recipient,
                  enum queue_resolution resolution, struct queue_route *route)
{
    struct address address;
    struct policy_route found;
    enum policy_known known;

    route->destination[0] = route->status[0] = route->text[0] = '\0';
    route->concurrency = 1;
    if (!address_parse_stored(&address, envelope->recipients[recipient].address) || address.is_null) {
        refuse(route, QUEUE_ROUTE_FAIL, "5.1.3", "The recipient's address is malformed");
        return;
    }
    policy_route(config->policy, envelope->server, &address, &found);
    known = known_by_now(&found, &address, resolution);
    if (known == POLICY_ASK_DIRECTORY)
        deliver(config, route, snprintf(route->destination, sizeof(route->destination), "directory"));
    else if (found.local)
        choose_local(config, found.local, known == POLICY_KNOWN, route);
    else if (known == POLICY_UNKNOWN)
        refuse(route, QUEUE_ROUTE_FAIL, "5.1.1", "User unknown");
    else
        choose_remote(config, &found, address_domain(&address), route);
}

/* "PORT:HOST". */
static bool parse_host(struct str text, struct route_destination *parsed)
{
    struct str port_text = str_split(&text, ':');
    uint64_t port;

    if (!str_to_u64(port_text, &port) || port == 0 || port > UINT16_MAX || text.length == 0)
        return false;
    parsed->host = text;
    parsed->port = (uint16_t)port;
    return true;
}

bool route_parse_destination(const char *destination, struct route_destination *parsed)
{
    struct str rest = str_from_cstr(destination);

    *parsed = (struct route_destination){0};
    if (str_equal(rest, STR("directory"))) {
        parsed->kind = ROUTE_DESTINATION_DIRECTORY;
        return true;
    }
    if (str_equal(rest, STR("maildir"))) {
        parsed->kind = ROUTE_DESTINATION_MAILDIR;
        return true;
    }
    if (str_starts_with(rest, STR(CONNECTOR_PREFIX))) {
        parsed->kind = ROUTE_DESTINATION_CONNECTORS;
        rest = str_skip(rest, sizeof(CONNECTOR_PREFIX) - 1);
        parsed->connectors = str_split(&rest, '/');
        parsed->domain = rest;
        return parsed->connectors.length > 0 || parsed->domain.length > 0;
    }
    if (str_starts_with(rest, STR(LMTP_PREFIX))) {
        parsed->kind = ROUTE_DESTINATION_LMTP;
        rest = str_skip(rest, sizeof(LMTP_PREFIX) - 1);
        if (!str_starts_with(rest, STR("/")))
            return parse_host(rest, parsed);
        parsed->socket_path = rest.data;
        return true;
    }
    if (!str_starts_with(rest, STR(HOST_PREFIX)))
        return false;
    parsed->kind = ROUTE_DESTINATION_HOST;
    return parse_host(str_skip(rest, sizeof(HOST_PREFIX) - 1), parsed);
}

/* ---- mailboxes ---- */

/* FNV-1a: the name must be the same in every process, so the keyed hash won't do; and whoever finds two that are
 * equal has found two mailboxes of his own making. */
#define FNV_OFFSET      0xcbf29ce484222325u
#define FNV_PRIME       0x100000001b3u
#define HASH_TEXT_BYTES 17 /* "+" and 16 digits */

struct mailbox_name {
    char *out;
    size_t length; /* of the whole name, also of what does not fit */
    uint64_t hash;
};

static void put(struct mailbox_name *name, char c)
{
    if (name->length < ROUTE_MAILBOX_BYTES - 1)
        name->out[name->length] = c;
    name->length++;
    name->hash = (name->hash ^ (unsigned char)c) * FNV_PRIME;
}

static void put_escaped(struct mailbox_name *name, struct str text)
{
    static const char digits[] = "0123456789ABCDEF";

    for (size_t i = 0; i < text.length; i++) {
        char c = ascii_lower(text.data[i]);
        bool is_plain = (c >= 'a' && c <= 'z') || ascii_is_digit(c) || (c != '\0' && strchr("._+=-", c));

        if (is_plain && !(c == '.' && name->length == 0)) {
            put(name, c);
            continue;
        }
        put(name, '%');
        put(name, digits[(unsigned char)c >> 4]);
        put(name, digits[(unsigned char)c & 15]);
    }
}

void route_mailbox_name(struct str user, struct str domain, char name[ROUTE_MAILBOX_BYTES])
{
    struct mailbox_name state = {.out = name, .hash = FNV_OFFSET};

    put_escaped(&state, user);
    put(&state, '@');
    put_escaped(&state, domain);
    if (state.length < ROUTE_MAILBOX_BYTES) {
        name[state.length] = '\0';
        return;
    }
    snprintf(name + ROUTE_MAILBOX_BYTES - 1 - HASH_TEXT_BYTES, HASH_TEXT_BYTES + 1, "+%016llx",
             (unsigned long long)state.hash);
}

bool route_mailbox(const struct config *config, const struct envelope *envelope, size_t recipient,
                   char name[ROUTE_MAILBOX_BYTES])
{
    struct address address;
    struct policy_route found;
    struct str domain;

    if (!address_parse_stored(&address, envelope->recipients[recipient].address) || address.is_null)
        return false;
    policy_route(config->policy, envelope->server, &address, &found);
    if (!found.local)
        return false;
    /* Below a wildcard each domain is its own. */
    domain = found.local->is_wildcard ? address_domain(&address) : found.local->name;
    route_mailbox_name(address_local(&address), domain, name);
    return true;
}
