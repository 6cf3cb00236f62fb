/* SPDX-License-Identifier: Apache-2.0 */
/* domains: local and allowed ones first, then the aliases, which name the former. */
#include "config/build.h"
#include "config/value.h"
#include "mail/address.h"
#include "mail/domain.h"

#include <sys/un.h>

#define SMTP_PORT 25

/* "*.NAME" or NAME in normal form, in the model's memory. 0, or -1 and an error was reported. */
static int read_name(struct build *b, const struct settings_domain *s, struct policy_domain *domain)
{
    struct str text = s->named.name;
    char normal[DOMAIN_TEXT_BYTES];
    size_t length;

    domain->is_wildcard = str_starts_with(text, STR("*."));
    length = domain_normalize(str_skip(text, domain->is_wildcard ? 2 : 0), normal);
    if (length == 0)
        return config_errors_add(b->errors, &s->named.place,
                                 "domains: \"%.*s\" is not a domain name; write one like "
                                 "contoso.test, or \"*.contoso.test\" for all below it",
                                 STR_ARG(str_take(text, 80)));
    domain->name = policy_model_text(b->model, str_make(normal, length));
    return 0;
}

/* Keys that mean something for other types only. */
static void refuse_key(struct build *b, const struct settings_domain *s, const char *key, const char *only_for)
{
    const struct config_node *map = s->named.head.node;
    const struct config_entry *entry = map ? config_map_find(map, str_from_cstr(key)) : NULL;

    if (entry)
        config_errors_add(b->errors, &entry->place, "domains.%.*s.%s: is for %s only; remove the key",
                          STR_ARG(s->named.name), key, only_for);
}

/* HOST:PORT, or /SOCKET for LMTP. */
static int read_deliver_to(struct build *b, struct str text, struct policy_delivery *delivery, struct error *error)
{
    bool is_lmtp = delivery->method == POLICY_DELIVER_LMTP;
    struct config_smart_host host;

    if (is_lmtp && str_starts_with(text, STR("/"))) {
        if (text.length >= sizeof(((struct sockaddr_un *)0)->sun_path))
            return error_set(error, "a socket's path has at most %zu octets, not %zu",
                             sizeof(((struct sockaddr_un *)0)->sun_path) - 1, text.length);
        delivery->socket_path = policy_model_text(b->model, text);
        return 0;
    }
    if (value_smart_host(text, &host, error) != 0)
        return -1;
    /* RFC 2033 5: LMTP must not use SMTP's port, and has none of its own. */
    if (is_lmtp && host.port == SMTP_PORT)
        return error_set(error,
                         "LMTP has no port of its own: write lmtp:HOST:PORT, with one that is not %d, or lmtp:/SOCKET",
                         SMTP_PORT);
    delivery->host = policy_model_text(b->model, host.host);
    delivery->host_is_address = host.is_address;
    delivery->port = host.port;
    b->delivers_to_names = b->delivers_to_names || !host.is_address;
    return 0;
}

static void read_deliver(struct build *b, const struct settings_domain *s, struct policy_delivery *delivery)
{
    const struct config_node *node = s->deliver;
    struct error error;
    struct str text;

    *delivery = (struct policy_delivery){.method = POLICY_DELIVER_MAILDIR, .host = STR(""), .socket_path = STR("")};
    if (!node)
        return;
    text = node->type == CONFIG_NODE_SCALAR ? node->text : STR("");
    if (str_equal(text, STR("maildir")))
        return;
    if (str_starts_with(text, STR("lmtp:"))) {
        delivery->method = POLICY_DELIVER_LMTP;
    } else if (str_starts_with(text, STR("smtp:"))) {
        delivery->method = POLICY_DELIVER_SMTP;
    } else {
        config_errors_add(b->errors, &node->place,
                          "domains.%.*s.deliver: wants maildir, lmtp:HOST:PORT, lmtp:/SOCKET or smtp:HOST:PORT",
                          STR_ARG(s->named.name));
        return;
    }
    if (read_deliver_to(b, str_skip(text, 5), delivery, &error) != 0)
        config_errors_add(b->errors, &node->place, "domains.%.*s.deliver: %s", STR_ARG(s->named.name), error.text);
}

/* The key under which policy_recipient_known will look: a local part, or under a wildcard a full address. */
static int read_recipient(struct build *b, const struct policy_domain *domain, const struct config_node *item,
                          struct str *known)
{
    struct address address;
    char key[ADDRESS_KEY_BYTES];
    struct str own = domain->is_wildcard ? STR("") : domain->name;
    struct str parsed;
    size_t length;

    if (item->type != CONFIG_NODE_SCALAR || !address_parse(&address, item->text, own) || address.is_null)
        return config_errors_add(b->errors, &item->place, "%s: wants a local part or an address, not \"%.*s\"",
                                 domain->recipients_rule.path,
                                 STR_ARG(item->type == CONFIG_NODE_SCALAR ? str_take(item->text, 80) : STR("...")));
    parsed = address_domain(&address);
    if (address.domain_kind != ADDRESS_DOMAIN_NONE &&
        !(domain->is_wildcard ? domain_is_below(parsed, domain->name) : str_equal(parsed, domain->name)))
        return config_errors_add(b->errors, &item->place, "%s: %.*s is not an address of this domain",
                                 domain->recipients_rule.path, STR_ARG(str_take(item->text, 300)));
    length = address_key(&address, key);
    if (!domain->is_wildcard || address.domain_kind == ADDRESS_DOMAIN_NONE) {
        length = address_local(&address).length;
        key[length++] = '@';
    }
    *known = policy_model_text(b->model, str_make(key, length));
    return 0;
}

/* The number of names in `*known`. */
static size_t read_recipients(struct build *b, const struct settings_domain *s, struct policy_domain *domain,
                              struct str **known)
{
    const struct config_node *node = s->recipients;
    size_t count = 0;

    domain->recipients = domain->type == POLICY_DOMAIN_ALLOWED ? POLICY_RECIPIENTS_ANY : POLICY_RECIPIENTS_DIRECTORY;
    *known = NULL;
    if (!node)
        return 0;
    if (node->type == CONFIG_NODE_LIST) {
        domain->recipients = POLICY_RECIPIENTS_LIST;
        *known = arena_alloc(&b->tree->arena, node->list.count * sizeof(struct str));
        for (size_t i = 0; *known && i < node->list.count; i++)
            count += read_recipient(b, domain, node->list.items[i], &(*known)[count]) == 0;
    } else if (node->type == CONFIG_NODE_SCALAR && str_equal(node->text, STR("any"))) {
        domain->recipients = POLICY_RECIPIENTS_ANY;
    } else if (node->type == CONFIG_NODE_SCALAR && str_equal(node->text, STR("directory"))) {
        domain->recipients = POLICY_RECIPIENTS_DIRECTORY;
    } else {
        config_errors_add(b->errors, &node->place, "%s: wants any, directory, or a list like [alice, bob]",
                          domain->recipients_rule.path);
    }
    return count;
}

static void add_domain(struct build *b, const struct settings_domain *s, struct policy_domain *domain,
                       const struct str *known, size_t known_count)
{
    if (!policy_model_add_domain(b->model, domain, known, known_count))
        config_errors_add(b->errors, &s->named.place, "domains: \"%.*s\" stands here twice, in two spellings of %s%.*s",
                          STR_ARG(s->named.name), domain->is_wildcard ? "*." : "", STR_ARG(domain->name));
}

static void build_domain(struct build *b, const struct settings_domain *s)
{
    struct policy_domain domain = {.type = (enum policy_domain_type)s->type, .is_default = s->is_default};
    struct str *known;
    size_t known_count;

    refuse_key(b, s, "of", "aliases");
    if (domain.type == POLICY_DOMAIN_ALLOWED) {
        refuse_key(b, s, "default", "local domains");
        refuse_key(b, s, "deliver", "local domains");
        domain.is_default = false;
    }
    if (read_name(b, s, &domain) != 0)
        return;
    domain.rule = build_rule(b, &s->named.place, "domains.%.*s", STR_ARG(s->named.name));
    domain.recipients_rule = build_key_rule(b, s->named.head.node, domain.rule.path, "recipients");
    if (domain.is_default && domain.is_wildcard) {
        config_errors_add(b->errors, build_key_place(s->named.head.node, "default"),
                          "%s.default: a wildcard cannot be appended to an address; name one domain", domain.rule.path);
        domain.is_default = false;
    }
    read_deliver(b, s, &domain.delivery);
    known_count = read_recipients(b, s, &domain, &known);
    add_domain(b, s, &domain, known, known_count);
}

static void build_alias(struct build *b, const struct settings_domain *s)
{
    struct policy_domain domain = {.type = POLICY_DOMAIN_ALIAS};

    refuse_key(b, s, "default", "local domains");
    refuse_key(b, s, "deliver", "local domains");
    refuse_key(b, s, "recipients", "local and allowed domains");
    if (read_name(b, s, &domain) != 0)
        return;
    domain.rule = build_rule(b, &s->named.place, "domains.%.*s", STR_ARG(s->named.name));
    if (s->of.length > 0)
        domain.alias_of = policy_find_domain(b->model, s->of);
    if (!domain.alias_of || domain.alias_of->type != POLICY_DOMAIN_LOCAL || domain.alias_of->is_wildcard) {
        config_errors_add(b->errors, build_key_place(s->named.head.node, "of"),
                          "%s.of: an alias needs the name of a local domain of this configuration%s%.*s",
                          domain.rule.path, s->of.length > 0 ? ", which is not " : "", STR_ARG(s->of));
        return;
    }
    domain.recipients_rule = domain.alias_of->recipients_rule;
    add_domain(b, s, &domain, NULL, 0);
}

static void check_default(struct build *b)
{
    const struct settings_domain *domains = b->settings->domains.items;
    const struct settings_domain *first_local = NULL;
    const struct settings_domain *found = NULL;

    for (size_t i = 0; i < b->settings->domains.count; i++) {
        const struct settings_domain *s = &domains[i];

        if (s->type < 0)
            return; /* its type was not to be read: it may be the one */
        if (s->type != POLICY_DOMAIN_LOCAL)
            continue;
        if (!first_local)
            first_local = s;
        if (s->is_default && found)
            config_errors_add(b->errors, build_key_place(s->named.head.node, "default"),
                              "domains.%.*s.default: %.*s is the default already; only one domain can be",
                              STR_ARG(s->named.name), STR_ARG(found->named.name));
        else if (s->is_default)
            found = s;
    }
    if (first_local && !found)
        config_errors_add(
            b->errors, &first_local->named.place,
            "domains: no local domain is the default; give one of them default: true, as in %.*s: { type: "
            "local, default: true }",
            STR_ARG(first_local->named.name));
}

void build_domains(struct build *b)
{
    const struct settings_domain *domains = b->settings->domains.items;

    for (size_t i = 0; i < b->settings->domains.count; i++)
        if (domains[i].type == POLICY_DOMAIN_LOCAL || domains[i].type == POLICY_DOMAIN_ALLOWED)
            build_domain(b, &domains[i]);
    for (size_t i = 0; i < b->settings->domains.count; i++)
        if (domains[i].type == POLICY_DOMAIN_ALIAS)
            build_alias(b, &domains[i]);
    check_default(b);
}
