/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/file_map.h"

#include "directory/file_map_private.h"
#include "mail/address.h"

struct file_map *file_map_retain(struct file_map *map)
{
    atomic_fetch_add(&map->references, 1);
    return map;
}

void file_map_release(struct file_map **pointer)
{
    struct file_map *map = *pointer;

    *pointer = NULL;
    if (!map || atomic_fetch_sub(&map->references, 1) != 1)
        return;
    for (size_t i = 0; i < map->with_hash_count; i++)
        explicit_bzero(map->with_hash[i]->hash, PASSWORD_HASH_BYTES);
    free(map->with_hash);
    hash_table_release(&map->users);
    hash_table_release(&map->recipients);
    hash_table_release(&map->patterns);
    hash_table_release(&map->certificates);
    arena_release(&map->arena);
    free(map);
}

const struct file_user *file_map_find_user(const struct file_map *map, const struct directory_name *name)
{
    const struct file_user *user = NULL;

    for (size_t i = 0; i < name->form_count && !user; i++)
        user = hash_table_get(&map->users, name->forms[i]);
    return user;
}

const struct file_user *file_map_find_certificate(const struct file_map *map, const unsigned char sha256[32])
{
    return hash_table_get(&map->certificates, str_make((const char *)sha256, 32));
}

static const struct file_recipient *find_pattern(const struct file_map *map, const struct directory_address *address)
{
    size_t prefix = address->local.length < map->prefix_bytes_max ? address->local.length : map->prefix_bytes_max;
    const struct file_recipient *found = NULL;
    char key[ADDRESS_KEY_BYTES];

    if (map->patterns.count == 0)
        return NULL;
    for (;; prefix--) {
        memcpy(key, address->local.data, prefix);
        key[prefix] = '@';
        memcpy(key + prefix + 1, address->domain.data, address->domain.length);
        found = hash_table_get(&map->patterns, str_make(key, prefix + 1 + address->domain.length));
        if (found || prefix == 0)
            return found;
    }
}

const struct file_recipient *file_map_find_recipient(const struct file_map *map,
                                                     const struct directory_address *address, bool *is_user)
{
    const struct file_recipient *found = hash_table_get(&map->recipients, address->normal);

    *is_user = false;
    if (found)
        return found;
    *is_user = hash_table_get(&map->users, address->normal) ||
               (str_equal(address->domain, map->default_domain) && hash_table_get(&map->users, address->local));
    return *is_user ? NULL : find_pattern(map, address);
}

const struct file_user *file_map_scram_model(const struct file_map *map)
{
    return map->scram_model;
}

const struct file_user *file_map_hash_model(const struct file_map *map, struct str name)
{
    if (map->with_hash_count == 0)
        return NULL;
    return map->with_hash[hash_bytes(name.data, name.length) % map->with_hash_count];
}

size_t file_map_user_count(const struct file_map *map)
{
    return map->users.count;
}

size_t file_map_recipient_count(const struct file_map *map)
{
    return map->recipients.count + map->patterns.count;
}
