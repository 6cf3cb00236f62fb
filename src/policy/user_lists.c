/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of users and groups, and the three-valued question to them. */
#include "base/mem.h"
#include "policy/model_private.h"

#include <assert.h>

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
    mem_free(&list->entries);
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

/* The first of several with the same name stays. */
static void add_entry(struct policy_user_list *list, struct hash_table *table, struct str name, struct policy_rule rule)
{
    char lower[POLICY_USER_NAME_BYTES_MAX];
    struct str key = lower_name(name, lower);

    assert(key.length > 0);
    if (hash_table_get(table, key))
        return;
    if (list->entry_count == list->entry_capacity) {
        list->entry_capacity = list->entry_capacity ? list->entry_capacity * 2 : 8;
        list->entries = mem_resize_array(list->entries, list->entry_capacity, sizeof(list->entries[0]));
    }
    list->entries[list->entry_count++] =
        (struct policy_user_entry){table == &list->groups, policy_model_text(list->model, name), rule};
    hash_table_put(table, policy_model_text(list->model, key), (void *)list->entry_count);
}

void policy_user_list_add_user(struct policy_user_list *list, struct str name, struct policy_rule rule)
{
    add_entry(list, &list->users, name, rule);
}

void policy_user_list_add_group(struct policy_user_list *list, struct str name, struct policy_rule rule)
{
    add_entry(list, &list->groups, name, rule);
}

bool policy_user_list_is_empty(const struct policy_user_list *list)
{
    return !list || list->entry_count == 0;
}

static const struct policy_user_entry *find_name(const struct policy_user_list *list, const struct hash_table *table,
                                                 struct str name)
{
    char lower[POLICY_USER_NAME_BYTES_MAX];
    struct str key = lower_name(name, lower);
    size_t number = table->count > 0 && key.length > 0 ? (size_t)hash_table_get(table, key) : 0;

    return number > 0 ? &list->entries[number - 1] : NULL;
}

/* USER and USER@default-domain are one user, whichever of them the entry and the directory have: a denial must not miss by that. */
static const struct policy_user_entry *find_user(const struct policy_user_list *list, struct str name)
{
    const struct policy_user_entry *entry = find_name(list, &list->users, name);
    const struct policy_domain *domain = list->model->default_domain;
    size_t at = str_find_last(name, '@');
    char text[POLICY_USER_NAME_BYTES_MAX];

    if (entry || !domain)
        return entry;
    if (at != STR_NONE)
        return str_equal_nocase(str_skip(name, at + 1), domain->name)
                   ? find_name(list, &list->users, str_take(name, at))
                   : NULL;
    if (name.length + 1 + domain->name.length > sizeof(text) || name.length == 0)
        return NULL;
    memcpy(text, name.data, name.length);
    text[name.length] = '@';
    memcpy(text + name.length + 1, domain->name.data, domain->name.length);
    return find_name(list, &list->users, str_make(text, name.length + 1 + domain->name.length));
}

static const struct policy_user_entry *first_group(const struct policy_user_list *list)
{
    for (size_t i = 0; i < list->entry_count; i++)
        if (list->entries[i].is_group)
            return &list->entries[i];
    return NULL;
}

struct policy_match_result policy_user_list_match(const struct policy_user_list *list, const struct policy_facts *facts)
{
    struct policy_match_result result = {0};

    if (policy_user_list_is_empty(list))
        return result;
    result.user = find_user(list, facts->user);
    for (size_t i = 0; !result.user && i < facts->group_count; i++)
        result.user = find_name(list, &list->groups, facts->groups[i]);
    if (result.user) {
        result.match = POLICY_MATCH_YES;
    } else if (facts->groups_unknown) {
        result.user = first_group(list);
        result.match = result.user ? POLICY_MATCH_UNKNOWN : POLICY_MATCH_NO;
    }
    result.rule = result.user ? &result.user->rule : NULL;
    return result;
}
