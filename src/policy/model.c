/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/model.h"

#include "base/mem.h"
#include "policy/model_private.h"

#include <assert.h>

/* Far above what the bounds on configuration files let through. */
#define MODEL_BYTES_MAX ((size_t)4 << 30)

void *policy_model_alloc(struct policy_model *model, size_t size)
{
    void *memory = arena_alloc(&model->arena, size);

    if (!memory)
        abort();
    return memory;
}

struct str policy_model_text(struct policy_model *model, struct str text)
{
    char *copy = policy_model_alloc(model, text.length + 1);

    if (text.length > 0)
        memcpy(copy, text.data, text.length);
    return str_make(copy, text.length);
}

struct policy_rule policy_model_rule(struct policy_model *model, struct str path, struct str file, unsigned line)
{
    struct policy_rule rule = {.path = policy_model_text(model, path).data};

    if (file.data) {
        /* A hundred thousand rules of one file share its name. */
        if (!model->last_file.data || !str_equal(model->last_file, file))
            model->last_file = policy_model_text(model, file);
        rule.file = model->last_file.data;
        rule.line = line;
    }
    return rule;
}

struct policy_model *policy_model_create(void)
{
    struct policy_model *model = mem_alloc(sizeof(*model));

    arena_init(&model->arena, MODEL_BYTES_MAX);
    hash_table_init(&model->domains);
    hash_table_init(&model->wildcard_domains);
    hash_table_init(&model->servers_by_name);
    hash_table_init(&model->spaces);
    hash_table_init(&model->wildcard_spaces);
    return model;
}

static void release_spaces(struct hash_table *table)
{
    size_t position = 0;
    struct str key;
    void *value;

    while (hash_table_next(table, &position, &key, &value))
        free(((struct policy_space_list *)value)->entries);
    hash_table_release(table);
}

void policy_model_destroy(struct policy_model **model_pointer)
{
    struct policy_model *model = *model_pointer;

    if (!model)
        return;
    *model_pointer = NULL;
    for (struct policy_client_list *list = model->client_lists; list; list = list->next)
        policy_client_list_release(list);
    for (struct policy_user_list *list = model->user_lists; list; list = list->next)
        policy_user_list_release(list);
    for (struct policy_domain_node *node = model->first_domain; node; node = node->next)
        hash_table_release(&node->known);
    release_spaces(&model->spaces);
    release_spaces(&model->wildcard_spaces);
    free(model->star_spaces.entries);
    hash_table_release(&model->domains);
    hash_table_release(&model->wildcard_domains);
    hash_table_release(&model->servers_by_name);
    free(model->servers);
    free(model->connectors);
    arena_release(&model->arena);
    free(model);
}

const struct policy_domain *policy_model_add_domain(struct policy_model *model, const struct policy_domain *domain,
                                                    const struct str *known, size_t known_count)
{
    struct hash_table *table = domain->is_wildcard ? &model->wildcard_domains : &model->domains;
    struct policy_domain_node *node;

    assert(!model->finished);
    assert((domain->type == POLICY_DOMAIN_ALIAS) == (domain->alias_of != NULL));
    assert(!domain->is_default || (domain->type == POLICY_DOMAIN_LOCAL && !domain->is_wildcard));
    if (hash_table_get(table, domain->name))
        return NULL;
    node = policy_model_alloc(model, sizeof(*node));
    node->domain = *domain;
    hash_table_init(&node->known);
    for (size_t i = 0; i < known_count; i++)
        hash_table_put(&node->known, known[i], node);
    hash_table_put(table, domain->name, node);
    if (domain->is_wildcard && domain->name.length > model->wildcard_domain_octets_max)
        model->wildcard_domain_octets_max = domain->name.length;
    if (domain->is_default)
        model->default_domain = &node->domain;
    if (model->last_domain)
        model->last_domain->next = node;
    else
        model->first_domain = node;
    model->last_domain = node;
    model->domain_count++;
    return &node->domain;
}

static void mark_asked(const struct policy_client_list *list)
{
    if (list)
        ((struct policy_client_list *)(uintptr_t)list)->is_asked = true;
}

const struct policy_server *policy_model_add_server(struct policy_model *model, const struct policy_server *server)
{
    struct policy_server *copy;

    assert(!model->finished && server->relay);
    if (hash_table_get(&model->servers_by_name, server->name))
        return NULL;
    if (model->server_count == model->server_capacity) {
        model->server_capacity = model->server_capacity ? model->server_capacity * 2 : 4;
        model->servers = mem_resize_array(model->servers, model->server_capacity, sizeof(struct policy_server *));
    }
    copy = policy_model_alloc(model, sizeof(*copy));
    *copy = *server;
    mark_asked(copy->relay);
    mark_asked(copy->connect);
    mark_asked(copy->own_addresses);
    model->servers[model->server_count++] = copy;
    hash_table_put(&model->servers_by_name, copy->name, copy);
    return copy;
}

static struct policy_space_list *space_list_for(struct policy_model *model, const struct policy_address_space *space)
{
    struct hash_table *table = space->is_wildcard ? &model->wildcard_spaces : &model->spaces;
    struct policy_space_list *list;

    if (space->domain.length == 0)
        return &model->star_spaces;
    list = hash_table_get(table, space->domain);
    if (!list) {
        list = policy_model_alloc(model, sizeof(*list));
        hash_table_put(table, space->domain, list);
    }
    if (space->is_wildcard && space->domain.length > model->wildcard_space_octets_max)
        model->wildcard_space_octets_max = space->domain.length;
    return list;
}

/* Keeps the cheapest first; equal costs in the configuration's order. */
static void add_space(struct policy_space_list *list, struct policy_space_entry entry)
{
    size_t at;

    if (list->count == list->capacity) {
        list->capacity = list->capacity ? list->capacity * 2 : 2;
        list->entries = mem_resize_array(list->entries, list->capacity, sizeof(list->entries[0]));
    }
    for (at = list->count; at > 0 && list->entries[at - 1].space->cost > entry.space->cost; at--)
        list->entries[at] = list->entries[at - 1];
    list->entries[at] = entry;
    list->count++;
}

const struct policy_connector *policy_model_add_connector(struct policy_model *model,
                                                          const struct policy_connector *connector)
{
    struct policy_connector *copy;

    assert(!model->finished);
    for (size_t i = 0; i < model->connector_count; i++)
        if (str_equal(model->connectors[i]->name, connector->name))
            return NULL;
    if (model->connector_count == model->connector_capacity) {
        model->connector_capacity = model->connector_capacity ? model->connector_capacity * 2 : 4;
        model->connectors =
            mem_resize_array(model->connectors, model->connector_capacity, sizeof(struct policy_connector *));
    }
    copy = policy_model_alloc(model, sizeof(*copy));
    *copy = *connector;
    copy->index = (unsigned)model->connector_count;
    model->connectors[model->connector_count++] = copy;
    for (size_t i = 0; i < copy->space_count; i++)
        add_space(space_list_for(model, &copy->spaces[i]), (struct policy_space_entry){copy, &copy->spaces[i]});
    return copy;
}

void policy_model_finish(struct policy_model *model)
{
    size_t mark = 0;

    assert(!model->finished);
    for (struct policy_client_list *list = model->client_lists; list; list = list->next)
        policy_client_list_finish(list);
    /* One that only other lists name is asked through those. */
    for (struct policy_client_list *list = model->client_lists; list; list = list->next)
        if (list->is_asked || !list->is_nested)
            policy_client_list_gather(list, ++mark);
    model->finished = true;
}

const struct policy_server *policy_find_server(const struct policy_model *model, struct str name)
{
    return hash_table_get(&model->servers_by_name, name);
}

const struct policy_domain *policy_default_domain(const struct policy_model *model)
{
    return model->default_domain;
}

size_t policy_domain_count(const struct policy_model *model)
{
    return model->domain_count;
}

size_t policy_server_count(const struct policy_model *model)
{
    return model->server_count;
}

const struct policy_server *policy_server_at(const struct policy_model *model, size_t index)
{
    assert(index < model->server_count);
    return model->servers[index];
}

size_t policy_connector_count(const struct policy_model *model)
{
    return model->connector_count;
}

const struct policy_connector *policy_connector_at(const struct policy_model *model, size_t index)
{
    assert(index < model->connector_count);
    return model->connectors[index];
}
