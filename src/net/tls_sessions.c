/* SPDX-License-Identifier: Apache-2.0 */
/* The latest session for each key, the least recently used leaving first. */
#include "base/list.h"
#include "base/mem.h"
#include "net/tls_private.h"
#include "os/clock.h"

#include <pthread.h>

/* A session holds the server's certificates: a few KiB each. */
#define TLS_SESSIONS_MAX 1000
/* Older ones are not resumed, whatever the server allows: what was verified then may hold no more. */
#define TLS_SESSION_AGE_MAX_MS (UINT64_C(2) * 3600 * 1000)

struct entry {
    struct list_link link;
    unsigned char key[TLS_SESSION_KEY_BYTES];
    SSL_SESSION *session;
    uint64_t made_at_ms;
};

struct tls_sessions {
    pthread_mutex_t mutex;
    struct hash_table by_key;
    struct list_link by_use; /* the latest first */
};

static struct str key_str(const unsigned char key[TLS_SESSION_KEY_BYTES])
{
    return str_make((const char *)key, TLS_SESSION_KEY_BYTES);
}

static void entry_remove(struct tls_sessions *sessions, struct entry *entry)
{
    hash_table_remove(&sessions->by_key, key_str(entry->key));
    list_remove(&entry->link);
    SSL_SESSION_free(entry->session);
    free(entry);
}

void tls_sessions_put(struct tls_sessions *sessions, const unsigned char key[TLS_SESSION_KEY_BYTES],
                      SSL_SESSION *session)
{
    struct entry *entry;

    pthread_mutex_lock(&sessions->mutex);
    entry = hash_table_get(&sessions->by_key, key_str(key));
    if (entry)
        entry_remove(sessions, entry);
    else if (sessions->by_key.count >= TLS_SESSIONS_MAX)
        entry_remove(sessions, LIST_ENTRY(sessions->by_use.previous, struct entry, link));
    entry = mem_alloc(sizeof(*entry));
    memcpy(entry->key, key, sizeof(entry->key));
    entry->session = session;
    entry->made_at_ms = clock_monotonic_ms();
    list_prepend(&sessions->by_use, &entry->link);
    hash_table_put(&sessions->by_key, key_str(entry->key), entry);
    pthread_mutex_unlock(&sessions->mutex);
}

/* For the caller alone: threads must not share what a handshake changes. */
static SSL_SESSION *entry_use(struct tls_sessions *sessions, struct entry *entry)
{
    SSL_SESSION *session = NULL;

    if (clock_monotonic_ms() - entry->made_at_ms >= TLS_SESSION_AGE_MAX_MS) {
        entry_remove(sessions, entry);
        return NULL;
    }
    if (SSL_SESSION_get_protocol_version(entry->session) >= TLS1_3_VERSION) {
        session = entry->session;
        entry->session = NULL;
        entry_remove(sessions, entry);
        return session;
    }
    list_remove(&entry->link);
    list_prepend(&sessions->by_use, &entry->link);
    return SSL_SESSION_dup(entry->session);
}

SSL_SESSION *tls_sessions_take(struct tls_sessions *sessions, const unsigned char key[TLS_SESSION_KEY_BYTES])
{
    SSL_SESSION *session = NULL;
    struct entry *entry;

    pthread_mutex_lock(&sessions->mutex);
    entry = hash_table_get(&sessions->by_key, key_str(key));
    if (entry)
        session = entry_use(sessions, entry);
    pthread_mutex_unlock(&sessions->mutex);
    return session;
}

void tls_sessions_forget(struct tls_sessions *sessions, const unsigned char key[TLS_SESSION_KEY_BYTES])
{
    struct entry *entry;

    pthread_mutex_lock(&sessions->mutex);
    entry = hash_table_get(&sessions->by_key, key_str(key));
    if (entry)
        entry_remove(sessions, entry);
    pthread_mutex_unlock(&sessions->mutex);
}

struct tls_sessions *tls_sessions_create(void)
{
    struct tls_sessions *sessions = mem_alloc(sizeof(*sessions));

    pthread_mutex_init(&sessions->mutex, NULL);
    hash_table_init(&sessions->by_key);
    list_init(&sessions->by_use);
    return sessions;
}

void tls_sessions_destroy(struct tls_sessions **pointer)
{
    struct tls_sessions *sessions = *pointer;

    *pointer = NULL;
    if (!sessions)
        return;
    while (!list_is_empty(&sessions->by_use))
        entry_remove(sessions, LIST_ENTRY(sessions->by_use.next, struct entry, link));
    hash_table_release(&sessions->by_key);
    pthread_mutex_destroy(&sessions->mutex);
    free(sessions);
}
