/* SPDX-License-Identifier: Apache-2.0 */
/* What an address's domain means: its entry in `domains`, its class, its connectors, and whether the recipient is known. */
#include "policy/model_private.h"

/* The longest wildcard above `domain`. What is longer than any wildcard is not looked up. */
static void *find_wildcard(const struct hash_table *table, size_t octets_max, struct str domain)
{
    if (table->count == 0)
        return NULL;
    for (;;) {
        void *found;

        str_split(&domain, '.');
        if (domain.length == 0)
            return NULL;
        if (domain.length > octets_max)
            continue;
        found = hash_table_get(table, domain);
        if (found)
            return found;
    }
}

const struct policy_domain *policy_find_domain(const struct policy_model *model, struct str domain)
{
    const struct policy_domain_node *node = hash_table_get(&model->domains, domain);

    if (!node)
        node = find_wildcard(&model->wildcard_domains, model->wildcard_domain_octets_max, domain);
    return node ? &node->domain : NULL;
}

const struct policy_domain *policy_resolve_domain(const struct policy_domain *domain)
{
    return domain && domain->type == POLICY_DOMAIN_ALIAS ? domain->alias_of : domain;
}

bool policy_connector_in_scope(const struct policy_connector *connector, struct str server_name)
{
    if (connector->server_count == 0 || server_name.length == 0)
        return true;
    for (size_t i = 0; i < connector->server_count; i++)
        if (str_equal(connector->servers[i], server_name))
            return true;
    return false;
}

static const struct policy_space_list *with_scope(const struct policy_space_list *list, struct str server_name)
{
    for (size_t i = 0; list && i < list->count; i++)
        if (policy_connector_in_scope(list->entries[i].connector, server_name))
            return list;
    return NULL;
}

const struct policy_space_list *policy_find_spaces(const struct policy_model *model, struct str server_name,
                                                   const struct address *recipient)
{
    const struct policy_space_list *found = NULL;
    struct str domain = address_domain(recipient);

    if (recipient->domain_kind == ADDRESS_DOMAIN_NAME) {
        found = with_scope(hash_table_get(&model->spaces, domain), server_name);
        while (!found && model->wildcard_spaces.count > 0 && domain.length > 0) {
            str_split(&domain, '.');
            if (domain.length > 0 && domain.length <= model->wildcard_space_octets_max)
                found = with_scope(hash_table_get(&model->wildcard_spaces, domain), server_name);
        }
    }
    return found ? found : with_scope(&model->star_spaces, server_name);
}

/* The rule that names a literal as the server's own; NULL if it is none of its. */
static const struct policy_rule *find_own_address(const struct policy_server *server, const struct address *address)
{
    struct policy_facts facts = {0};

    if (!server->own_addresses)
        return NULL;
    memcpy(facts.client.bytes, address->ip, sizeof(facts.client.bytes));
    return policy_client_list_match(server->own_addresses, &facts).rule;
}

struct policy_domain_class policy_classify_domain(const struct policy_model *model, const struct policy_server *server,
                                                  const struct address *address)
{
    struct policy_domain_class result = {.recipient_class = POLICY_CLASS_EXTERNAL};

    if (address->is_unqualified || address->domain_kind == ADDRESS_DOMAIN_NONE) {
        result.recipient_class = POLICY_CLASS_LOCAL;
        result.entry = model->default_domain;
        result.rule = result.entry ? &result.entry->rule : NULL;
    } else if (address->domain_kind == ADDRESS_DOMAIN_NAME) {
        result.entry = policy_find_domain(model, address_domain(address));
        if (!result.entry)
            return result;
        result.rule = &result.entry->rule;
        result.recipient_class =
            result.entry->type == POLICY_DOMAIN_ALLOWED ? POLICY_CLASS_ALLOWED : POLICY_CLASS_LOCAL;
    } else if (model->default_domain && server) {
        result.rule = find_own_address(server, address);
        if (!result.rule)
            return result;
        result.recipient_class = POLICY_CLASS_LOCAL;
        result.entry = model->default_domain;
    }
    return result;
}

enum policy_known policy_recipient_known(const struct policy_domain *entry, const struct address *recipient)
{
    const struct policy_domain *domain = policy_resolve_domain(entry);
    const struct policy_domain_node *node = (const struct policy_domain_node *)(const void *)domain;
    char key[ADDRESS_KEY_BYTES];
    size_t length;
    struct str full;

    if (domain->recipients == POLICY_RECIPIENTS_ANY)
        return POLICY_KNOWN;
    if (domain->type == POLICY_DOMAIN_LOCAL && address_is_postmaster(recipient))
        return POLICY_KNOWN;
    if (domain->recipients == POLICY_RECIPIENTS_DIRECTORY)
        return POLICY_ASK_DIRECTORY;
    length = address_key(recipient, key);
    full = str_make(key, length);
    /* With its "@", since a quoted local part may look like a whole address. */
    if (hash_table_get(&node->known, str_take(full, address_local(recipient).length + 1)))
        return POLICY_KNOWN;
    return hash_table_get(&node->known, full) ? POLICY_KNOWN : POLICY_UNKNOWN;
}

bool policy_domain_lists_postmaster(const struct policy_domain *domain)
{
    const struct policy_domain_node *node = (const struct policy_domain_node *)(const void *)domain;

    return hash_table_get(&node->known, STR("postmaster@")) != NULL;
}

bool policy_is_own_address(const struct policy_model *model, const struct cidr_address *address)
{
    struct policy_facts facts = {.client = *address};

    for (size_t i = 0; i < model->server_count; i++)
        if (model->servers[i]->own_addresses && policy_client_list_match(model->servers[i]->own_addresses, &facts).rule)
            return true;
    return false;
}

/* For a literal of mail that no present server took: an address of any of them is our own. */
static struct policy_domain_class classify_for_route(const struct policy_model *model, struct str server_name,
                                                     const struct address *recipient)
{
    const struct policy_server *server = policy_find_server(model, server_name);
    struct policy_domain_class result = policy_classify_domain(model, server, recipient);

    for (size_t i = 0; !server && i < model->server_count && address_is_literal(recipient); i++) {
        result = policy_classify_domain(model, model->servers[i], recipient);
        if (result.recipient_class == POLICY_CLASS_LOCAL)
            break;
    }
    return result;
}

void policy_route(const struct policy_model *model, struct str server_name, const struct address *recipient,
                  struct policy_route *route)
{
    struct policy_domain_class found = classify_for_route(model, server_name, recipient);
    const struct policy_space_list *spaces;

    *route = (struct policy_route){.entry = found.entry};
    if (found.recipient_class == POLICY_CLASS_LOCAL) {
        route->local = policy_resolve_domain(found.entry);
        return;
    }
    spaces = policy_find_spaces(model, server_name, recipient);
    for (size_t i = 0; spaces && i < spaces->count && route->connector_count < POLICY_ROUTE_CONNECTORS_MAX; i++)
        if (policy_connector_in_scope(spaces->entries[i].connector, server_name))
            route->connectors[route->connector_count++] = spaces->entries[i].connector;
}

/* Below a wildcard each domain is its own; an allowed domain is not ours to rename. */
static struct str mailbox_domain(const struct policy_route *route, const struct address *recipient)
{
    return route->local && !route->local->is_wildcard ? route->local->name : address_domain(recipient);
}

size_t policy_mailbox_text(const struct policy_route *route, const struct address *recipient, char *text)
{
    struct str local = address_local_text(recipient);
    struct str domain = mailbox_domain(route, recipient);

    memcpy(text, local.data, local.length);
    text[local.length] = '@';
    memcpy(text + local.length + 1, domain.data, domain.length);
    return local.length + 1 + domain.length;
}

static size_t mailbox_key(const struct policy_model *model, struct str server_name, const struct address *address,
                          char key[ADDRESS_KEY_BYTES])
{
    size_t local_length = address_local(address).length;
    struct policy_route route;
    struct str domain;

    policy_route(model, server_name, address, &route);
    domain = mailbox_domain(&route, address);
    address_key(address, key); /* the local part, unquoted and in lower case */
    memcpy(key + local_length + 1, domain.data, domain.length);
    return local_length + 1 + domain.length;
}

bool policy_same_mailbox(const struct policy_model *model, struct str server_name, const struct address *a,
                         const struct address *b)
{
    char key_a[ADDRESS_KEY_BYTES], key_b[ADDRESS_KEY_BYTES];

    return !a->is_null && !b->is_null &&
           str_equal(str_make(key_a, mailbox_key(model, server_name, a, key_a)),
                     str_make(key_b, mailbox_key(model, server_name, b, key_b)));
}
