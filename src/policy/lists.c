/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of client entries and of user entries, and the three-valued question to them. Each kind of entry has an index of its
 * own, so that ten thousand networks cost a binary search and a domain list one hash lookup a label.
 */
#include "base/mem.h"
#include "policy/model_private.h"

#include <assert.h>

struct policy_client_list *policy_client_list_create(struct policy_model *model)
{
    struct policy_client_list *list = policy_model_alloc(model, sizeof(*list));

    list->model = model;
    cidr_set_init(&list->networks);
    hash_table_init(&list->domains);
    hash_table_init(&list->certificates);
    list->next = model->client_lists;
    model->client_lists = list;
    return list;
}

void policy_client_list_release(struct policy_client_list *list)
{
    cidr_set_release(&list->networks);
    hash_table_release(&list->domains);
    hash_table_release(&list->certificates);
    mem_free(&list->rules);
    mem_free(&list->sublists);
}

void policy_client_list_finish(struct policy_client_list *list)
{
    cidr_set_finish(&list->networks);
}

void policy_client_list_add_network(struct policy_client_list *list, const struct cidr_range *range,
                                    struct policy_rule rule)
{
    if (list->rule_count == list->rule_capacity) {
        list->rule_capacity = list->rule_capacity ? list->rule_capacity * 2 : 8;
        list->rules = mem_resize_array(list->rules, list->rule_capacity, sizeof(list->rules[0]));
    }
    cidr_set_add(&list->networks, range, (uint32_t)list->rule_count);
    list->rules[list->rule_count++] = rule;
}

static const struct policy_rule *keep_rule(struct policy_model *model, struct policy_rule rule)
{
    struct policy_rule *kept = policy_model_alloc(model, sizeof(*kept));

    *kept = rule;
    return kept;
}

/* The first of several entries with the same key stays. */
static const struct policy_rule *put_once(struct policy_model *model, struct hash_table *table, struct str key,
                                          struct policy_rule rule)
{
    const struct policy_rule *kept = hash_table_get(table, key);

    if (!kept) {
        kept = keep_rule(model, rule);
        hash_table_put(table, policy_model_text(model, key), (void *)(uintptr_t)kept);
    }
    return kept;
}

void policy_client_list_add_domain(struct policy_client_list *list, struct str name, struct policy_rule rule)
{
    const struct policy_rule *kept = put_once(list->model, &list->domains, name, rule);

    if (!list->first_domain)
        list->first_domain = kept;
}

void policy_client_list_add_certificate(struct policy_client_list *list, const unsigned char sha256[32],
                                        struct policy_rule rule)
{
    put_once(list->model, &list->certificates, str_make((const char *)sha256, 32), rule);
}

void policy_client_list_add_list(struct policy_client_list *list, const struct policy_client_list *other,
                                 struct policy_rule rule)
{
    assert(list != other);
    if (list->sublist_count == list->sublist_capacity) {
        list->sublist_capacity = list->sublist_capacity ? list->sublist_capacity * 2 : 4;
        list->sublists = mem_resize_array(list->sublists, list->sublist_capacity, sizeof(list->sublists[0]));
    }
    list->sublists[list->sublist_count++] = (struct policy_sublist){other, rule};
}

/* `domain:NAME` matches NAME and what is below it: every suffix of the client's name at a label's border. */
static const struct policy_rule *match_name(const struct policy_client_list *list, struct str name)
{
    while (name.length > 0) {
        const struct policy_rule *rule = hash_table_get(&list->domains, name);

        if (rule)
            return rule;
        str_split(&name, '.');
    }
    return NULL;
}

static const struct policy_rule *match_own_entries(const struct policy_client_list *list,
                                                   const struct policy_facts *facts)
{
    uint32_t entry = cidr_set_find(&list->networks, &facts->client);
    const struct policy_rule *rule = NULL;

    if (entry != CIDR_NO_ENTRY)
        return &list->rules[entry];
    if (list->domains.count > 0 && facts->client_name_state == POLICY_NAME_VERIFIED)
        rule = match_name(list, facts->client_name);
    if (!rule && list->certificates.count > 0 && facts->has_certificate)
        rule = hash_table_get(&list->certificates, str_make((const char *)facts->certificate_sha256, 32));
    return rule;
}

struct policy_match_result policy_client_list_match(const struct policy_client_list *list,
                                                    const struct policy_facts *facts)
{
    struct policy_match_result result = {0};

    result.rule = match_own_entries(list, facts);
    if (result.rule) {
        result.match = POLICY_MATCH_YES;
        return result;
    }
    if (list->first_domain && facts->client_name_state == POLICY_NAME_TEMPFAIL)
        result = (struct policy_match_result){POLICY_MATCH_UNKNOWN, list->first_domain, NULL};
    /* Depth is bounded: config refuses lists that contain themselves, and nesting beyond a few levels. */
    for (size_t i = 0; i < list->sublist_count; i++) {
        struct policy_match_result inner = policy_client_list_match(list->sublists[i].list, facts);

        if (inner.match <= result.match)
            continue;
        result =
            (struct policy_match_result){inner.match, &list->sublists[i].rule, inner.inner ? inner.inner : inner.rule};
        if (result.match == POLICY_MATCH_YES)
            break;
    }
    return result;
}

struct policy_user_list *policy_user_list_create(struct policy_model *model, struct policy_rule rule)
{
    struct policy_user_list *list = policy_model_alloc(model, sizeof(*list));

    list->model = model;
    list->rule = rule;
    hash_table_init(&list->users);
    hash_table_init(&list->groups);
    list->next = model->user_lists;
    model->user_lists = list;
    return list;
}

void policy_user_list_release(struct policy_user_list *list)
{
    hash_table_release(&list->users);
    hash_table_release(&list->groups);
}

/* Lower case into `lower`; empty if it is longer than any entry can be. */
static struct str lower_name(struct str name, char lower[POLICY_USER_NAME_BYTES_MAX])
{
    if (name.length > POLICY_USER_NAME_BYTES_MAX)
        return str_make(lower, 0);
    for (size_t i = 0; i < name.length; i++)
        lower[i] = ascii_lower(name.data[i]);
    return str_make(lower, name.length);
}

void policy_user_list_add_user(struct policy_user_list *list, struct str name, struct policy_rule rule)
{
    char lower[POLICY_USER_NAME_BYTES_MAX];

    assert(name.length > 0 && name.length <= sizeof(lower));
    put_once(list->model, &list->users, lower_name(name, lower), rule);
}

void policy_user_list_add_group(struct policy_user_list *list, struct str name, struct policy_rule rule)
{
    char lower[POLICY_USER_NAME_BYTES_MAX];
    const struct policy_rule *kept;

    assert(name.length > 0 && name.length <= sizeof(lower));
    kept = put_once(list->model, &list->groups, lower_name(name, lower), rule);
    if (!list->first_group)
        list->first_group = kept;
}

bool policy_user_list_is_empty(const struct policy_user_list *list)
{
    return !list || (list->users.count == 0 && list->groups.count == 0);
}

static const struct policy_rule *find_name(const struct hash_table *table, struct str name)
{
    char lower[POLICY_USER_NAME_BYTES_MAX];
    struct str key = lower_name(name, lower);

    return key.length > 0 ? hash_table_get(table, key) : NULL;
}

struct policy_match_result policy_user_list_match(const struct policy_user_list *list, const struct policy_facts *facts)
{
    struct policy_match_result result = {0};

    if (policy_user_list_is_empty(list))
        return result;
    if (list->users.count > 0)
        result.rule = find_name(&list->users, facts->user);
    for (size_t i = 0; !result.rule && list->groups.count > 0 && i < facts->group_count; i++)
        result.rule = find_name(&list->groups, facts->groups[i]);
    if (result.rule)
        result.match = POLICY_MATCH_YES;
    else if (list->first_group && facts->groups_unknown)
        result = (struct policy_match_result){POLICY_MATCH_UNKNOWN, list->first_group, NULL};
    return result;
}
