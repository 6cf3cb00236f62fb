/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/prove.h"

#include "base/mem.h"
#include "policy/model_private.h"
#include "policy/prove_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- sets of addresses ---- */

static void add_networks(struct space *set, const struct policy_client_list *list)
{
    size_t position = 0;
    struct cidr_range range;
    uint32_t entry;

    while (cidr_set_next(&list->networks, &position, &range, &entry))
        space_add(set, &range);
}

void policy_list_space(const struct policy_client_list *list, struct space *out)
{
    space_init(out);
    add_networks(out, list);
    for (size_t i = 0; i < list->sublist_count; i++)
        add_networks(out, list->sublists[i].list);
    space_finish(out);
}

/* The addresses that pass a list of this mode, without a host name. */
static void passing(enum policy_list_mode mode, const struct policy_client_list *list, struct space *out)
{
    struct space named;

    if (mode == POLICY_LIST_NONE) {
        space_all(out);
        return;
    }
    policy_list_space(list, &named);
    if (mode == POLICY_LIST_ONLY) {
        *out = named;
        return;
    }
    space_complement(&named, out);
    space_release(&named);
}

static void prove_addresses(struct policy_server_proof *proof)
{
    const struct policy_server *server = proof->server;
    struct space relay;

    space_init(&proof->submit);
    space_init(&proof->relay);
    if (server->anonymous) {
        passing(server->connect_mode, server->connect, &proof->submit);
        passing(server->relay_mode, server->relay, &relay);
        space_intersection(&relay, &proof->submit, &proof->relay);
        space_release(&relay);
    }
    space_count(&proof->relay, &proof->relay_counts);
}

/* ---- who has authenticated ---- */

/* No list can hold an empty name: it stands for whom nothing names. */
static bool may_relay(const struct policy_server *server, struct str user, const struct str *group)
{
    struct policy_facts facts = {
        .server = server, .is_authenticated = true, .user = user, .groups = group, .group_count = group ? 1 : 0};

    return policy_submit_refusal(&facts).match == POLICY_MATCH_NO &&
           policy_user_list_match(server->relay_deny, &facts).match == POLICY_MATCH_NO &&
           (server->relay_authenticated ||
            policy_user_list_match(server->relay_allow, &facts).match == POLICY_MATCH_YES);
}

bool policy_may_relay_authenticated(const struct policy_server *server, const struct policy_user_view *view)
{
    if (!view)
        return may_relay(server, STR(""), NULL);
    return view->is_group ? may_relay(server, STR(""), &view->name) : may_relay(server, view->name, NULL);
}

static bool is_denied(const struct policy_server *server, const struct policy_user_entry *entry)
{
    struct policy_facts facts = {.user = entry->is_group ? STR("") : entry->name,
                                 .groups = &entry->name,
                                 .group_count = entry->is_group ? 1 : 0};

    return policy_user_list_match(server->submit_deny, &facts).match == POLICY_MATCH_YES ||
           policy_user_list_match(server->relay_deny, &facts).match == POLICY_MATCH_YES;
}

/* Whether a list that is to name somebody can: one of its entries is not denied. What lets a user be in a group that does is
 * the directory, which may say so of anybody. */
static bool can_name(const struct policy_server *server, const struct policy_user_list *list)
{
    for (size_t i = 0; list && i < list->entry_count; i++)
        if (!is_denied(server, &list->entries[i]))
            return true;
    return false;
}

static const struct policy_user_entry *find_user(const struct policy_user_list *list, struct str name)
{
    struct policy_facts facts = {.user = name};

    return policy_user_list_match(list, &facts).user;
}

static bool has_group(const struct policy_server *server, const struct policy_user_list *list)
{
    for (size_t i = 0; list && i < list->entry_count; i++)
        if (list->entries[i].is_group && !is_denied(server, &list->entries[i]))
            return true;
    return false;
}

/* Both lists must name the same somebody: two users are two people, and a group may hold anyone. */
static bool can_name_in_both(const struct policy_server *server)
{
    const struct policy_user_list *allow = server->relay_allow;
    const struct policy_user_list *submit = server->submit_allow;

    if (has_group(server, allow))
        return can_name(server, submit);
    if (has_group(server, submit))
        return can_name(server, allow);
    for (size_t i = 0; allow && i < allow->entry_count; i++)
        if (!is_denied(server, &allow->entries[i]) && find_user(submit, allow->entries[i].name))
            return true;
    return false;
}

static enum policy_authenticated prove_authenticated(const struct policy_server *server)
{
    bool must_be_listed = !policy_user_list_is_empty(server->submit_allow);
    bool some;

    if (server->relay_authenticated && !must_be_listed)
        return POLICY_AUTHENTICATED_EVERYONE;
    if (server->relay_authenticated)
        some = can_name(server, server->submit_allow);
    else
        some = must_be_listed ? can_name_in_both(server) : can_name(server, server->relay_allow);
    return some ? POLICY_AUTHENTICATED_LISTED : POLICY_AUTHENTICATED_NOBODY;
}

bool policy_user_list_next(const struct policy_user_list *list, size_t *position, struct policy_user_view *view)
{
    const struct policy_user_entry *entry;

    if (!list || *position >= list->entry_count)
        return false;
    entry = &list->entries[(*position)++];
    *view = (struct policy_user_view){entry->is_group, entry->name, &entry->rule};
    return true;
}

bool policy_next_relay_without_submit(const struct policy_server *server, size_t *position,
                                      struct policy_user_view *view, bool *is_certain)
{
    while (policy_user_list_next(server->relay_allow, position, view)) {
        struct policy_facts facts = {.server = server,
                                     .user = view->is_group ? STR("") : view->name,
                                     .groups = &view->name,
                                     .group_count = view->is_group ? 1 : 0};

        if (policy_submit_refusal(&facts).match != POLICY_MATCH_YES)
            continue;
        *is_certain = policy_user_list_match(server->submit_deny, &facts).match == POLICY_MATCH_YES ||
                      (!view->is_group && !has_group(server, server->submit_allow));
        return true;
    }
    return false;
}

/* ---- connectors, and what is OPEN ---- */

size_t policy_pattern(struct str name, bool is_wildcard, char text[POLICY_PATTERN_BYTES])
{
    int length;

    if (is_wildcard && name.length == 0)
        length = snprintf(text, POLICY_PATTERN_BYTES, "*");
    else
        length = snprintf(text, POLICY_PATTERN_BYTES, "%s%.*s", is_wildcard ? "*." : "", STR_ARG(name));
    return (size_t)length < POLICY_PATTERN_BYTES ? (size_t)length : POLICY_PATTERN_BYTES - 1;
}

static void prove_overrides(const struct policy_model *model, struct policy_server_proof *proof)
{
    proof->overrides = mem_alloc_array(policy_connector_count(model), sizeof(proof->overrides[0]));
    for (size_t i = 0; i < policy_connector_count(model); i++) {
        const struct policy_connector *connector = policy_connector_at(model, i);

        if (connector->allow_relay && policy_connector_in_scope(connector, proof->server->name))
            proof->overrides[proof->override_count++] = connector;
    }
}

static bool is_single_label(struct str name)
{
    return str_find(name, '.') == STR_NONE;
}

static void set_reason(struct policy_server_proof *proof, const struct policy_rule *rule, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void set_reason(struct policy_server_proof *proof, const struct policy_rule *rule, const char *format, ...)
{
    va_list arguments;

    proof->exposure = POLICY_OPEN;
    if (proof->reason.rule)
        return;
    proof->reason.rule = rule;
    va_start(arguments, format);
    vsnprintf(proof->reason.text, sizeof(proof->reason.text), format, arguments);
    va_end(arguments);
}

/* "*" or "*.LABEL" is that much of the world. */
static bool is_vast(struct str name, bool is_wildcard)
{
    return is_wildcard && is_single_label(name);
}

static void judge_overrides(struct policy_server_proof *proof)
{
    char pattern[POLICY_PATTERN_BYTES];

    for (size_t i = 0; i < proof->override_count; i++) {
        const struct policy_connector *connector = proof->overrides[i];

        for (size_t j = 0; j < connector->space_count; j++) {
            const struct policy_address_space *space = &connector->spaces[j];

            if (!is_vast(space->domain, space->is_wildcard))
                continue;
            policy_pattern(space->domain, true, pattern);
            set_reason(
                proof, &connector->allow_relay_rule,
                "the connector %.*s overrides the relay restrictions for \"%s\", so that anyone reaches all of it",
                STR_ARG(connector->name), pattern);
        }
    }
}

static void judge_domains(const struct policy_model *model, struct policy_server_proof *proof)
{
    const struct policy_domain *domain = NULL;

    while ((domain = policy_next_domain(model, domain)))
        if (domain->type == POLICY_DOMAIN_ALLOWED && is_vast(domain->name, domain->is_wildcard))
            set_reason(proof, &domain->rule, "mail for all of \"*.%.*s\" is taken from anyone", STR_ARG(domain->name));
}

static void judge_addresses(struct policy_server_proof *proof)
{
    const struct space_counts *counts = &proof->relay_counts;
    char number[SPACE_NUMBER_BYTES];

    if (counts->ipv4_public > POLICY_OPEN_IPV4) {
        space_format_number(counts->ipv4_public, ',', number);
        set_reason(proof, &proof->server->relay_rule, "%s public IPv4 addresses may relay without authenticating",
                   number);
    }
    if (counts->ipv6_public > POLICY_OPEN_IPV6) {
        space_format_number(counts->ipv6_public, ',', number);
        set_reason(proof, &proof->server->relay_rule, "%s public IPv6 addresses may relay without authenticating",
                   number);
    }
    for (size_t i = 0; i < proof->domains.count; i++)
        if (is_single_label(proof->domains.items[i].name))
            set_reason(proof, proof->domains.items[i].rule,
                       "every host below \"%.*s\" may relay without authenticating",
                       STR_ARG(proof->domains.items[i].name));
}

/* Whether some public address, or a client by its host name, may send without authenticating. */
static bool is_reachable(const struct policy_server_proof *proof)
{
    struct space_counts counts;

    if (!proof->server->anonymous)
        return false;
    space_count(&proof->submit, &counts);
    if (counts.ipv4_public > 0 || counts.ipv6_public > 0)
        return true;
    return proof->server->connect_mode == POLICY_LIST_ONLY && policy_client_list_has_domain(proof->server->connect);
}

static void judge(const struct policy_model *model, struct policy_server_proof *proof)
{
    judge_addresses(proof);
    if (is_reachable(proof)) {
        judge_overrides(proof);
        judge_domains(model, proof);
    }
    if (proof->exposure != POLICY_OPEN &&
        (proof->relay_counts.ipv4_public > 0 || proof->relay_counts.ipv6_public > 0 || proof->domains.count > 0))
        proof->exposure = POLICY_RESTRICTED;
}

/* ---- the proof ---- */

struct policy_proof *policy_prove(const struct policy_model *model)
{
    struct policy_proof *proof = mem_alloc(sizeof(*proof));

    proof->server_count = policy_server_count(model);
    proof->servers = mem_alloc_array(proof->server_count, sizeof(proof->servers[0]));
    for (size_t i = 0; i < proof->server_count; i++) {
        struct policy_server_proof *server = &proof->servers[i];

        server->server = policy_server_at(model, i);
        prove_addresses(server);
        policy_prove_names(server);
        server->authenticated = prove_authenticated(server->server);
        prove_overrides(model, server);
        judge(model, server);
        if (server->exposure > proof->exposure)
            proof->exposure = server->exposure;
    }
    return proof;
}

static void release_grants(struct policy_grants *grants, bool owns_names)
{
    for (size_t i = 0; owns_names && i < grants->count; i++)
        free((char *)(uintptr_t)grants->items[i].name.data);
    free(grants->items);
}

void policy_proof_destroy(struct policy_proof **proof_pointer)
{
    struct policy_proof *proof = *proof_pointer;

    if (!proof)
        return;
    *proof_pointer = NULL;
    for (size_t i = 0; i < proof->server_count; i++) {
        space_release(&proof->servers[i].relay);
        space_release(&proof->servers[i].submit);
        release_grants(&proof->servers[i].domains, false);
        release_grants(&proof->servers[i].certificates, true);
        free(proof->servers[i].overrides);
    }
    free(proof->servers);
    free(proof);
}

const char *policy_exposure_name(enum policy_exposure exposure)
{
    static const char *const names[] = {
        [POLICY_CLOSED] = "CLOSED", [POLICY_RESTRICTED] = "RESTRICTED", [POLICY_OPEN] = "OPEN"};

    return names[exposure];
}

const char *policy_authenticated_name(enum policy_authenticated authenticated)
{
    static const char *const names[] = {[POLICY_AUTHENTICATED_NOBODY] = "nobody",
                                        [POLICY_AUTHENTICATED_LISTED] = "listed",
                                        [POLICY_AUTHENTICATED_EVERYONE] = "everyone"};

    return names[authenticated];
}

const struct policy_rule *policy_granting_rule(const struct policy_server *server, const struct cidr_address *address)
{
    struct policy_facts facts = {.client = *address};

    return server->relay_mode == POLICY_LIST_ONLY ? policy_client_list_match(server->relay, &facts).rule : NULL;
}

const struct policy_domain *policy_next_domain(const struct policy_model *model, const struct policy_domain *domain)
{
    const struct policy_domain_node *node = (const struct policy_domain_node *)(const void *)domain;

    node = node ? node->next : model->first_domain;
    return node ? &node->domain : NULL;
}
