/* SPDX-License-Identifier: Apache-2.0 */
#include "session/connections.h"

#include "base/hash.h"
#include "base/mem.h"

#include <assert.h>
#include <pthread.h>

struct connections {
    pthread_mutex_t mutex;
    struct hash_table clients; /* by key */
    uint64_t total;
};

struct client {
    unsigned char key[16];
    uint64_t count;
};

struct connections *connections_create(void)
{
    struct connections *connections = mem_alloc(sizeof(*connections));

    pthread_mutex_init(&connections->mutex, NULL);
    hash_table_init(&connections->clients);
    return connections;
}

void connections_destroy(struct connections **pointer)
{
    struct connections *connections = *pointer;
    size_t position = 0;
    struct str key;
    void *value;

    *pointer = NULL;
    if (!connections)
        return;
    while (hash_table_next(&connections->clients, &position, &key, &value))
        free(value);
    hash_table_release(&connections->clients);
    pthread_mutex_destroy(&connections->mutex);
    free(connections);
}

static struct str client_key(const struct net_address *address, unsigned char key[16])
{
    memcpy(key, address->ip, 16);
    if (!net_address_is_ipv4(address))
        memset(key + 8, 0, 8);
    return str_make((const char *)key, 16);
}

/* Under the mutex. */
static bool count_client(struct connections *connections, const struct net_address *address, uint64_t per_client_max)
{
    unsigned char key_bytes[16];
    struct str key = client_key(address, key_bytes);
    struct client *client = hash_table_get(&connections->clients, key);

    if ((client ? client->count : 0) >= per_client_max)
        return false;
    if (!client) {
        client = mem_alloc(sizeof(*client));
        memcpy(client->key, key_bytes, sizeof(client->key));
        hash_table_put(&connections->clients, str_make((const char *)client->key, sizeof(client->key)), client);
    }
    client->count++;
    return true;
}

bool connections_add(struct connections *connections, const struct net_address *address, uint64_t total_max,
                     uint64_t per_client_max)
{
    bool added;

    pthread_mutex_lock(&connections->mutex);
    added = connections->total < total_max && count_client(connections, address, per_client_max);
    connections->total += added;
    pthread_mutex_unlock(&connections->mutex);
    return added;
}

bool connections_add_nameless(struct connections *connections, uint64_t total_max)
{
    bool added;

    pthread_mutex_lock(&connections->mutex);
    added = connections->total < total_max;
    connections->total += added;
    pthread_mutex_unlock(&connections->mutex);
    return added;
}

bool connections_name(struct connections *connections, const struct net_address *address, uint64_t per_client_max)
{
    bool counted;

    pthread_mutex_lock(&connections->mutex);
    counted = count_client(connections, address, per_client_max);
    pthread_mutex_unlock(&connections->mutex);
    return counted;
}

void connections_remove_nameless(struct connections *connections)
{
    pthread_mutex_lock(&connections->mutex);
    assert(connections->total > 0);
    connections->total--;
    pthread_mutex_unlock(&connections->mutex);
}

void connections_remove(struct connections *connections, const struct net_address *address)
{
    unsigned char key_bytes[16];
    struct str key = client_key(address, key_bytes);
    struct client *client;

    pthread_mutex_lock(&connections->mutex);
    client = hash_table_get(&connections->clients, key);
    assert(client && client->count > 0 && connections->total > 0);
    connections->total--;
    if (--client->count == 0) {
        hash_table_remove(&connections->clients, key);
        free(client);
    }
    pthread_mutex_unlock(&connections->mutex);
}

uint64_t connections_count(struct connections *connections)
{
    uint64_t total;

    pthread_mutex_lock(&connections->mutex);
    total = connections->total;
    pthread_mutex_unlock(&connections->mutex);
    return total;
}
