/* SPDX-License-Identifier: Apache-2.0 */
#include "config/tree.h"

#include "base/mem.h"

/* A map with fewer entries is searched one by one. */
#define INDEX_FROM 16

struct config_map_index {
    struct hash_table table; /* key to position + 1, as a pointer */
    struct config_map_index *next;
};

void config_tree_init(struct config_tree *tree, struct config_errors *errors)
{
    *tree = (struct config_tree){.errors = errors};
    arena_init(&tree->arena, CONFIG_TREE_BYTES_MAX);
}

void config_tree_release(struct config_tree *tree)
{
    while (tree->indexes) {
        struct config_map_index *index = tree->indexes;

        tree->indexes = index->next;
        hash_table_release(&index->table);
        free(index);
    }
    arena_release(&tree->arena);
    tree->root = NULL;
}

static void *position_to_pointer(size_t position)
{
    return (void *)(uintptr_t)(position + 1);
}

const struct config_entry *config_map_find(const struct config_node *map, struct str key)
{
    if (map->map.index) {
        void *found = hash_table_get(&map->map.index->table, key);

        return found ? &map->map.entries[(uintptr_t)found - 1] : NULL;
    }
    for (size_t i = 0; i < map->map.count; i++)
        if (str_equal(map->map.entries[i].key, key))
            return &map->map.entries[i];
    return NULL;
}

static void grow(struct config_tree *tree, struct config_node *map)
{
    size_t capacity = map->map.capacity ? map->map.capacity * 2 : 4;
    struct config_entry *entries = arena_alloc(&tree->arena, capacity * sizeof(*entries));

    /* The bounds on nodes and file sizes keep the arena below its maximum. */
    if (!entries)
        abort();
    if (map->map.count > 0)
        memcpy(entries, map->map.entries, map->map.count * sizeof(*entries));
    map->map.entries = entries;
    map->map.capacity = capacity;
}

static void index_all(struct config_tree *tree, struct config_node *map)
{
    struct config_map_index *index = mem_alloc(sizeof(*index));

    hash_table_init(&index->table);
    index->next = tree->indexes;
    tree->indexes = index;
    map->map.index = index;
    for (size_t i = 0; i < map->map.count; i++)
        hash_table_put(&index->table, map->map.entries[i].key, position_to_pointer(i));
}

bool config_map_add(struct config_tree *tree, struct config_node *map, const struct config_entry *entry)
{
    if (config_map_find(map, entry->key))
        return false;
    if (map->map.count == map->map.capacity)
        grow(tree, map);
    map->map.entries[map->map.count] = *entry;
    if (map->map.index)
        hash_table_put(&map->map.index->table, entry->key, position_to_pointer(map->map.count));
    map->map.count++;
    if (!map->map.index && map->map.count == INDEX_FROM)
        index_all(tree, map);
    return true;
}

const char *config_tree_path(struct config_tree *tree, const char *file, struct str name)
{
    struct str base = str_from_cstr(file);
    size_t slash = str_find_last(base, '/');

    if (str_starts_with(name, STR("/")) || slash == STR_NONE)
        return arena_copy(&tree->arena, name).data;
    return arena_printf(&tree->arena, "%.*s/%.*s", STR_ARG(str_take(base, slash)), STR_ARG(name)).data;
}
