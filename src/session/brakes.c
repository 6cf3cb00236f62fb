/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries come from one array that is never larger than its bound (pages of it that were never used cost nothing), are found by a keyed hash of who they
 * are about, and stand in one of three lists by what they are worth, each in order of the last failure:
 *
 *     ONCE ──second failure──> REPEATED ──limit reached──> LOCKED ──first failure after its end──> REPEATED
 *
 * The hash is the identity: 64 bits under a secret key, so nobody can make two names meet, and chance doesn't. No name is kept.
 *
 * A window slides: counts are kept for the present and the previous one, windows being aligned to the clock, and of the previous one that
 * share counts which still lies within reach. Alignment makes it possible to forgive exactly what was counted: an address's failures with one user are an
 * entry too, in the same windows.
 */
#include "session/brakes.h"

#include "base/hash.h"
#include "base/list.h"
#include "base/mem.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#define BUCKET_COUNT       BRAKES_ENTRIES_MAX
#define KNOWN_BUCKET_COUNT BRAKES_KNOWN_MAX
/* Names that differ only beyond it are counted as one. */
#define NAME_BYTES_MAX 320

enum subject { SUBJECT_CLIENT, SUBJECT_NETWORK, SUBJECT_USER, SUBJECT_CLIENT_WITH_USER, SUBJECT_KNOWN };
enum worth { WORTH_ONCE, WORTH_REPEATED, WORTH_LOCKED, WORTH_COUNT };

struct entry {
    struct entry *next; /* in its bucket; or of the free ones */
    struct list_link link;
    uint64_t hash;
    uint64_t window;          /* which one `now` counts for; `before` is for the one before it */
    uint64_t locked_until_ms; /* 0: never locked */
    uint64_t failed_at_ms;    /* the last time */
    uint32_t now;
    uint32_t before;
};

struct known_address {
    unsigned char ip[16];
    uint64_t seen_ms; /* 0: none */
};

/* Where a user has authenticated lately. */
struct known {
    struct known *next;
    struct list_link link; /* the least lately seen first */
    uint64_t hash;
    struct known_address addresses[BRAKES_KNOWN_ADDRESSES_MAX];
};

struct brakes {
    pthread_mutex_t mutex;
    struct entry **buckets;
    struct entry *entries;
    size_t entries_used; /* of the array; those beyond were never used */
    struct list_link lists[WORTH_COUNT];
    struct known **known_buckets;
    struct known *known;
    size_t known_used;
    struct list_link known_list;
};

/* What one call is about: whom it counts for, and by which settings. */
struct attempt {
    const struct config_brakes *settings;
    uint64_t now_ms;
    uint64_t client;
    uint64_t network;
    uint64_t user;             /* 0: no name */
    uint64_t client_with_user; /* 0: no name */
    uint64_t known;            /* 0: no name */
    unsigned char known_ip[16];
};

struct brakes *brakes_create(void)
{
    struct brakes *brakes = mem_alloc(sizeof(*brakes));

    pthread_mutex_init(&brakes->mutex, NULL);
    brakes->buckets = mem_alloc_array(BUCKET_COUNT, sizeof(*brakes->buckets));
    brakes->entries = mem_alloc_array(BRAKES_ENTRIES_MAX, sizeof(*brakes->entries));
    for (size_t i = 0; i < WORTH_COUNT; i++)
        list_init(&brakes->lists[i]);
    brakes->known_buckets = mem_alloc_array(KNOWN_BUCKET_COUNT, sizeof(*brakes->known_buckets));
    brakes->known = mem_alloc_array(BRAKES_KNOWN_MAX, sizeof(*brakes->known));
    list_init(&brakes->known_list);
    return brakes;
}

void brakes_destroy(struct brakes **pointer)
{
    struct brakes *brakes = *pointer;

    *pointer = NULL;
    if (!brakes)
        return;
    pthread_mutex_destroy(&brakes->mutex);
    free(brakes->buckets);
    free(brakes->entries);
    free(brakes->known_buckets);
    free(brakes->known);
    free(brakes);
}

/* ---- who ---- */

/* Never 0, which stands for nobody. */
static uint64_t hash_subject(enum subject subject, const unsigned char ip[16], struct str user)
{
    unsigned char key[1 + 16 + NAME_BYTES_MAX] = {(unsigned char)subject};
    size_t length = 17;
    uint64_t hash;

    if (ip)
        memcpy(key + 1, ip, 16);
    user = str_take(user, NAME_BYTES_MAX);
    for (size_t i = 0; i < user.length; i++)
        key[length++] = (unsigned char)ascii_lower(user.data[i]);
    hash = hash_bytes(key, length);
    return hash == 0 ? 1 : hash;
}

static void attempt_init(struct attempt *a, const struct config_brakes *settings, const struct net_address *client,
                         struct str user, uint64_t now_ms)
{
    const bool is_ipv4 = net_address_is_ipv4(client);
    unsigned char network_ip[16] = {0};

    assert(settings->window_ms > 0);
    memcpy(network_ip, client->ip, is_ipv4 ? 15 : 8);
    *a = (struct attempt){.settings = settings, .now_ms = now_ms};
    a->client = hash_subject(SUBJECT_CLIENT, client->ip, STR(""));
    a->network = hash_subject(SUBJECT_NETWORK, network_ip, STR(""));
    if (user.length > 0) {
        a->user = hash_subject(SUBJECT_USER, NULL, user);
        a->client_with_user = hash_subject(SUBJECT_CLIENT_WITH_USER, client->ip, user);
        a->known = hash_subject(SUBJECT_KNOWN, NULL, user);
    }
    /* A host that has one address of a /64 has them all, and changes between them. */
    memcpy(a->known_ip, is_ipv4 ? client->ip : network_ip, sizeof(a->known_ip));
}

/* ---- entries ---- */

static struct entry *find(const struct brakes *brakes, uint64_t hash)
{
    struct entry *entry = brakes->buckets[hash % BUCKET_COUNT];

    while (entry && entry->hash != hash)
        entry = entry->next;
    return entry;
}

static struct entry *oldest(struct brakes *brakes, enum worth worth)
{
    struct list_link *head = &brakes->lists[worth];

    return list_is_empty(head) ? NULL : LIST_ENTRY(head->next, struct entry, link);
}

static bool has_ended(const struct attempt *a, const struct entry *entry)
{
    return entry && entry->locked_until_ms <= a->now_ms &&
           entry->failed_at_ms + 2 * a->settings->window_ms <= a->now_ms;
}

static struct entry *least_worth(struct brakes *brakes, const struct attempt *a)
{
    struct entry *first = NULL;

    for (size_t i = WORTH_COUNT; i-- > 0;) {
        struct entry *entry = oldest(brakes, (enum worth)i);

        if (has_ended(a, entry))
            return entry;
        if (entry)
            first = entry;
    }
    return first;
}

static void unlink_entry(struct brakes *brakes, struct entry *entry)
{
    struct entry **place = &brakes->buckets[entry->hash % BUCKET_COUNT];

    while (*place != entry)
        place = &(*place)->next;
    *place = entry->next;
    list_remove(&entry->link);
}

/* A new one that counts nothing yet, in no list. The one that makes room for it may be any but those just moved to the end of a list. */
static struct entry *add(struct brakes *brakes, const struct attempt *a, uint64_t hash)
{
    struct entry *entry;

    if (brakes->entries_used < BRAKES_ENTRIES_MAX) {
        entry = &brakes->entries[brakes->entries_used++];
    } else {
        entry = least_worth(brakes, a);
        unlink_entry(brakes, entry);
    }
    *entry = (struct entry){.hash = hash, .next = brakes->buckets[hash % BUCKET_COUNT]};
    list_init(&entry->link);
    brakes->buckets[hash % BUCKET_COUNT] = entry;
    return entry;
}

/* Another window length makes other windows: then counts begin afresh, and locks stay. A thread whose clock is a tick behind counts for the window that
 * another has begun. */
static void slide(const struct attempt *a, struct entry *entry)
{
    const uint64_t window = a->now_ms / a->settings->window_ms;

    if (entry->window == window || entry->window == window + 1)
        return;
    entry->before = entry->window + 1 == window ? entry->now : 0;
    entry->now = 0;
    entry->window = window;
}

static uint64_t failures(const struct attempt *a, const struct entry *entry)
{
    const uint64_t left_ms = a->settings->window_ms - a->now_ms % a->settings->window_ms;

    return entry->now + entry->before * left_ms / a->settings->window_ms;
}

static bool is_locked(const struct brakes *brakes, const struct attempt *a, uint64_t hash, uint64_t limit)
{
    const struct entry *entry = hash != 0 && limit != 0 ? find(brakes, hash) : NULL;

    return entry && entry->locked_until_ms > a->now_ms;
}

/* One more failure; `limit` 0 for what is counted but never locked. Returns how many there are in the window. */
static uint64_t count(struct brakes *brakes, const struct attempt *a, uint64_t hash, uint64_t limit, bool *locks)
{
    struct entry *entry = find(brakes, hash);
    enum worth worth = WORTH_REPEATED;
    uint64_t total;

    if (!entry)
        entry = add(brakes, a, hash);
    slide(a, entry);
    if (entry->now < UINT32_MAX)
        entry->now++;
    entry->failed_at_ms = a->now_ms;
    total = failures(a, entry);
    if (entry->locked_until_ms > a->now_ms) {
        /* An attempt that was under way when the lock fell: it neither prolongs the lock nor moves it to the young ones. */
        return total;
    }
    if (limit != 0 && total >= limit) {
        worth = WORTH_LOCKED;
        entry->locked_until_ms = a->now_ms + a->settings->lock_ms;
        *locks = true;
    } else if (total <= 1) {
        worth = WORTH_ONCE;
    }
    list_remove(&entry->link);
    list_append(&brakes->lists[worth], &entry->link);
    return total;
}

static void take_off(struct brakes *brakes, const struct attempt *a, uint64_t hash, const struct entry *forgiven)
{
    struct entry *entry = find(brakes, hash);

    if (!entry || (entry->locked_until_ms != 0 && entry->locked_until_ms + 2 * a->settings->window_ms > a->now_ms))
        return;
    slide(a, entry);
    entry->now -= forgiven->now < entry->now ? forgiven->now : entry->now;
    entry->before -= forgiven->before < entry->before ? forgiven->before : entry->before;
}

static void forgive(struct brakes *brakes, const struct attempt *a)
{
    struct entry *entry = find(brakes, a->client_with_user);

    if (!entry)
        return;
    slide(a, entry);
    take_off(brakes, a, a->client, entry);
    take_off(brakes, a, a->network, entry);
    take_off(brakes, a, a->user, entry);
    entry->now = entry->before = 0;
}

/* ---- who is known ---- */

static struct known *find_known(const struct brakes *brakes, uint64_t hash)
{
    struct known *known = brakes->known_buckets[hash % KNOWN_BUCKET_COUNT];

    while (known && known->hash != hash)
        known = known->next;
    return known;
}

static bool is_known(const struct brakes *brakes, const struct attempt *a)
{
    const struct known *known = a->known != 0 ? find_known(brakes, a->known) : NULL;

    for (size_t i = 0; known && i < BRAKES_KNOWN_ADDRESSES_MAX; i++) {
        const struct known_address *address = &known->addresses[i];

        if (address->seen_ms != 0 && address->seen_ms + BRAKES_KNOWN_MS > a->now_ms &&
            memcmp(address->ip, a->known_ip, sizeof(address->ip)) == 0)
            return true;
    }
    return false;
}

static struct known *add_known(struct brakes *brakes, uint64_t hash)
{
    struct known *known;

    if (brakes->known_used < BRAKES_KNOWN_MAX) {
        known = &brakes->known[brakes->known_used++];
    } else {
        struct known **place;

        known = LIST_ENTRY(list_take_first(&brakes->known_list), struct known, link);
        place = &brakes->known_buckets[known->hash % KNOWN_BUCKET_COUNT];
        while (*place != known)
            place = &(*place)->next;
        *place = known->next;
    }
    *known = (struct known){.hash = hash, .next = brakes->known_buckets[hash % KNOWN_BUCKET_COUNT]};
    list_init(&known->link);
    brakes->known_buckets[hash % KNOWN_BUCKET_COUNT] = known;
    return known;
}

/* In the place where the address stands, else in a free one, else in that of the one that was seen the longest ago. */
static void make_known(struct brakes *brakes, const struct attempt *a)
{
    struct known *known = find_known(brakes, a->known);
    struct known_address *place;

    if (!known)
        known = add_known(brakes, a->known);
    place = &known->addresses[0];
    for (size_t i = 0; i < BRAKES_KNOWN_ADDRESSES_MAX; i++) {
        struct known_address *address = &known->addresses[i];

        if (address->seen_ms != 0 && memcmp(address->ip, a->known_ip, sizeof(address->ip)) == 0) {
            place = address;
            break;
        }
        if (address->seen_ms < place->seen_ms)
            place = address;
    }
    memcpy(place->ip, a->known_ip, sizeof(place->ip));
    place->seen_ms = a->now_ms != 0 ? a->now_ms : 1;
    list_remove(&known->link);
    list_append(&brakes->known_list, &known->link);
}

/* ---- calls ---- */

enum brakes_verdict brakes_check(struct brakes *brakes, const struct config_brakes *settings,
                                 const struct net_address *client, struct str user, uint64_t now_ms)
{
    enum brakes_verdict verdict = BRAKES_FREE;
    struct attempt a;

    attempt_init(&a, settings, client, user, now_ms);
    pthread_mutex_lock(&brakes->mutex);
    if (is_locked(brakes, &a, a.client, settings->failures_per_client))
        verdict = BRAKES_LOCKED_CLIENT;
    else if (a.user == 0 || is_known(brakes, &a))
        verdict = BRAKES_FREE;
    else if (is_locked(brakes, &a, a.network, settings->failures_per_network))
        verdict = BRAKES_LOCKED_CLIENT;
    else if (is_locked(brakes, &a, a.user, settings->failures_per_user))
        verdict = BRAKES_LOCKED_USER;
    pthread_mutex_unlock(&brakes->mutex);
    return verdict;
}

static unsigned delay_after(uint64_t failure_count)
{
    uint64_t delay_ms = BRAKES_DELAY_MS_MIN;

    if (failure_count == 0)
        return 0;
    while (--failure_count > 0 && delay_ms < BRAKES_DELAY_MS_MAX)
        delay_ms *= 2;
    return delay_ms < BRAKES_DELAY_MS_MAX ? (unsigned)delay_ms : BRAKES_DELAY_MS_MAX;
}

unsigned brakes_failed(struct brakes *brakes, const struct config_brakes *settings, const struct net_address *client,
                       struct str user, uint64_t now_ms, bool *locks)
{
    uint64_t by_client = 0;
    uint64_t by_user = 0;
    struct attempt a;

    *locks = false;
    attempt_init(&a, settings, client, user, now_ms);
    pthread_mutex_lock(&brakes->mutex);
    if (settings->failures_per_network != 0)
        count(brakes, &a, a.network, settings->failures_per_network, locks);
    if (a.user != 0 && settings->failures_per_user != 0)
        by_user = count(brakes, &a, a.user, settings->failures_per_user, locks);
    if (settings->failures_per_client != 0)
        by_client = count(brakes, &a, a.client, settings->failures_per_client, locks);
    if (a.user != 0 && (by_user != 0 || by_client != 0 || settings->failures_per_network != 0))
        count(brakes, &a, a.client_with_user, 0, locks);
    pthread_mutex_unlock(&brakes->mutex);
    return delay_after(by_client > by_user ? by_client : by_user);
}

void brakes_succeeded(struct brakes *brakes, const struct config_brakes *settings, const struct net_address *client,
                      struct str user, uint64_t now_ms)
{
    struct attempt a;

    if (str_is_empty(user))
        return;
    attempt_init(&a, settings, client, user, now_ms);
    pthread_mutex_lock(&brakes->mutex);
    forgive(brakes, &a);
    make_known(brakes, &a);
    pthread_mutex_unlock(&brakes->mutex);
}

size_t brakes_count(struct brakes *brakes)
{
    size_t total;

    pthread_mutex_lock(&brakes->mutex);
    total = brakes->entries_used;
    pthread_mutex_unlock(&brakes->mutex);
    return total;
}
