/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/compare.h"

#include "base/hash.h"
#include "base/mem.h"

#include <stdlib.h>

/* Takes over `text`, which was allocated. */
static void add_name(struct policy_names *names, char *text)
{
    if (names->count == names->capacity) {
        names->capacity = names->capacity ? names->capacity * 2 : 8;
        names->items = mem_resize_array(names->items, names->capacity, sizeof(names->items[0]));
    }
    names->items[names->count++] = str_from_cstr(text);
}

static void release_names(struct policy_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free((char *)(uintptr_t)names->items[i].data);
    free(names->items);
}

/* What stands in `now` and not in `before`, which may be NULL. */
static void subtract_names(const struct policy_names *now, const struct policy_names *before, struct policy_names *out)
{
    struct hash_table known;

    hash_table_init(&known);
    for (size_t i = 0; before && i < before->count; i++)
        hash_table_put(&known, before->items[i], &known);
    for (size_t i = 0; i < now->count; i++)
        if (!hash_table_put(&known, now->items[i], &known))
            add_name(out, mem_copy_str(now->items[i]));
    hash_table_release(&known);
}

static void subtract_grants(const struct policy_grants *now, const struct policy_grants *before,
                            struct policy_names *out)
{
    struct hash_table known;

    hash_table_init(&known);
    for (size_t i = 0; before && i < before->count; i++)
        hash_table_put(&known, before->items[i].name, &known);
    for (size_t i = 0; i < now->count; i++)
        if (!hash_table_put(&known, now->items[i].name, &known))
            add_name(out, mem_copy_str(now->items[i].name));
    hash_table_release(&known);
}

/* ---- users ---- */

/* All whom either server's lists name: nobody else is told from a user whom nothing names. */
static void check_list(const struct policy_user_list *list, const struct policy_server *now,
                       const struct policy_server *before, struct policy_names *out)
{
    size_t position = 0;
    struct policy_user_view view;

    while (policy_user_list_next(list, &position, &view))
        if (policy_may_relay_authenticated(now, &view) && !(before && policy_may_relay_authenticated(before, &view)))
            add_name(out, mem_printf("%s:%.*s", view.is_group ? "group" : "user", STR_ARG(view.name)));
}

static void check_lists(const struct policy_server *lists, const struct policy_server *now,
                        const struct policy_server *before, struct policy_names *out)
{
    if (!lists)
        return;
    check_list(lists->submit_allow, now, before, out);
    check_list(lists->submit_deny, now, before, out);
    check_list(lists->relay_allow, now, before, out);
    check_list(lists->relay_deny, now, before, out);
}

static void subtract_users(const struct policy_server *now, const struct policy_server *before,
                           struct policy_names *out)
{
    struct policy_names found = {0};

    if (policy_may_relay_authenticated(now, NULL) && !(before && policy_may_relay_authenticated(before, NULL)))
        add_name(&found, mem_copy_str(STR("authenticated users")));
    check_lists(now, now, before, &found);
    check_lists(before, now, before, &found);
    subtract_names(&found, NULL, out);
    release_names(&found);
}

/* ---- overrides ---- */

static void list_overrides(const struct policy_server_proof *proof, struct policy_names *out)
{
    char pattern[POLICY_PATTERN_BYTES];

    for (size_t i = 0; i < proof->override_count; i++)
        for (size_t j = 0; j < proof->overrides[i]->space_count; j++) {
            const struct policy_address_space *space = &proof->overrides[i]->spaces[j];

            policy_pattern(space->domain, space->is_wildcard, pattern);
            add_name(out, mem_printf("%.*s: %s", STR_ARG(proof->overrides[i]->name), pattern));
        }
}

static void subtract_overrides(const struct policy_server_proof *now, const struct policy_server_proof *before,
                               struct policy_names *out)
{
    struct policy_names new_names = {0};
    struct policy_names old_names = {0};

    list_overrides(now, &new_names);
    if (before)
        list_overrides(before, &old_names);
    subtract_names(&new_names, &old_names, out);
    release_names(&new_names);
    release_names(&old_names);
}

/* ---- one server, and all ---- */

/* What `now` grants and `before`, which may be NULL, does not. A NULL `now` grants nothing. */
static void subtract(const struct policy_server_proof *now, const struct policy_server_proof *before,
                     struct policy_change *out)
{
    struct space nobody;

    space_init(&nobody);
    space_init(&out->addresses);
    if (!now)
        return;
    space_difference(&now->relay, before ? &before->relay : &nobody, &out->addresses);
    subtract_grants(&now->domains, before ? &before->domains : NULL, &out->domains);
    subtract_grants(&now->certificates, before ? &before->certificates : NULL, &out->certificates);
    subtract_users(now->server, before ? before->server : NULL, &out->users);
    subtract_overrides(now, before, &out->overrides);
}

static const struct policy_server_proof *find_server(const struct policy_proof *proof, struct str name)
{
    for (size_t i = 0; i < proof->server_count; i++)
        if (str_equal(proof->servers[i].server->name, name))
            return &proof->servers[i];
    return NULL;
}

static void add_server(struct policy_comparison *comparison, const struct policy_server_proof *old_server,
                       const struct policy_server_proof *new_server)
{
    struct policy_server_change *change = &comparison->servers[comparison->server_count++];

    change->server = (new_server ? new_server : old_server)->server->name;
    subtract(new_server, old_server, &change->gains);
    subtract(old_server, new_server, &change->loses);
}

struct policy_comparison *policy_compare(const struct policy_proof *old_proof, const struct policy_proof *new_proof)
{
    struct policy_comparison *comparison = mem_alloc(sizeof(*comparison));

    comparison->servers =
        mem_alloc_array(old_proof->server_count + new_proof->server_count, sizeof(comparison->servers[0]));
    for (size_t i = 0; i < new_proof->server_count; i++)
        add_server(comparison, find_server(old_proof, new_proof->servers[i].server->name), &new_proof->servers[i]);
    for (size_t i = 0; i < old_proof->server_count; i++)
        if (!find_server(new_proof, old_proof->servers[i].server->name))
            add_server(comparison, &old_proof->servers[i], NULL);
    return comparison;
}

static void release_change(struct policy_change *change)
{
    space_release(&change->addresses);
    release_names(&change->domains);
    release_names(&change->certificates);
    release_names(&change->users);
    release_names(&change->overrides);
}

void policy_comparison_destroy(struct policy_comparison **comparison_pointer)
{
    struct policy_comparison *comparison = *comparison_pointer;

    if (!comparison)
        return;
    *comparison_pointer = NULL;
    for (size_t i = 0; i < comparison->server_count; i++) {
        release_change(&comparison->servers[i].gains);
        release_change(&comparison->servers[i].loses);
    }
    free(comparison->servers);
    free(comparison);
}

bool policy_change_is_empty(const struct policy_change *change)
{
    return space_is_empty(&change->addresses) && change->domains.count == 0 && change->certificates.count == 0 &&
           change->users.count == 0 && change->overrides.count == 0;
}
