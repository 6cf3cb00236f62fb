/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linear probing over a power of two, at most three quarters full. A removal shifts the entries that follow back by one
 * where their home slot allows, so there are no tombstones and a probe ends at the first free slot.
 */
#include "base/hash.h"

#include "base/mem.h"

#include <assert.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define HASH_CAPACITY_MIN 8

struct hash_slot {
    uint64_t hash;
    struct str key;
    void *value; /* NULL: the slot is free */
};

static uint64_t hash_key[2] = {0x706f737465726e20, 0x6669786564206b65};

void hash_set_key(const unsigned char key[16])
{
    memcpy(hash_key, key, sizeof(hash_key));
}

struct sip_state {
    uint64_t v0, v1, v2, v3;
};

static uint64_t rotate_left(uint64_t x, unsigned bits)
{
    return (x << bits) | (x >> (64 - bits));
}

static void sip_round(struct sip_state *s)
{
    s->v0 += s->v1;
    s->v1 = rotate_left(s->v1, 13) ^ s->v0;
    s->v0 = rotate_left(s->v0, 32);
    s->v2 += s->v3;
    s->v3 = rotate_left(s->v3, 16) ^ s->v2;
    s->v0 += s->v3;
    s->v3 = rotate_left(s->v3, 21) ^ s->v0;
    s->v2 += s->v1;
    s->v1 = rotate_left(s->v1, 17) ^ s->v2;
    s->v2 = rotate_left(s->v2, 32);
}

static void sip_word(struct sip_state *s, uint64_t word)
{
    s->v3 ^= word;
    sip_round(s);
    s->v0 ^= word;
}

/* SipHash-1-3 (Aumasson, Bernstein): enough against flooding, at half the cost of 2-4. */
uint64_t hash_bytes(const void *data, size_t length)
{
    struct sip_state s = {hash_key[0] ^ 0x736f6d6570736575, hash_key[1] ^ 0x646f72616e646f6d,
                          hash_key[0] ^ 0x6c7967656e657261, hash_key[1] ^ 0x7465646279746573};
    const unsigned char *bytes = data;
    uint64_t last = (uint64_t)length << 56;
    uint64_t word;
    size_t i;

    for (i = 0; length - i >= sizeof(word); i += sizeof(word)) {
        memcpy(&word, bytes + i, sizeof(word));
        sip_word(&s, le64toh(word));
    }
    for (unsigned shift = 0; i < length; i++, shift += 8)
        last |= (uint64_t)bytes[i] << shift;
    sip_word(&s, last);
    s.v2 ^= 0xff;
    sip_round(&s);
    sip_round(&s);
    sip_round(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

void hash_table_init(struct hash_table *t)
{
    *t = (struct hash_table){0};
}

void hash_table_release(struct hash_table *t)
{
    free(t->slots);
    hash_table_init(t);
}

/* The slot that holds the key, or the free one where it would go. There is always a free one. */
static struct hash_slot *find_slot(const struct hash_table *t, uint64_t hash, struct str key)
{
    size_t i = hash & (t->capacity - 1);

    while (t->slots[i].value && !(t->slots[i].hash == hash && str_equal(t->slots[i].key, key)))
        i = (i + 1) & (t->capacity - 1);
    return &t->slots[i];
}

static void resize(struct hash_table *t, size_t capacity)
{
    struct hash_table old = *t;

    t->slots = mem_alloc_array(capacity, sizeof(*t->slots));
    t->capacity = capacity;
    for (size_t i = 0; i < old.capacity; i++) {
        if (old.slots[i].value)
            *find_slot(t, old.slots[i].hash, old.slots[i].key) = old.slots[i];
    }
    free(old.slots);
}

void *hash_table_get(const struct hash_table *t, struct str key)
{
    if (t->count == 0)
        return NULL;
    return find_slot(t, hash_bytes(key.data, key.length), key)->value;
}

void *hash_table_put(struct hash_table *t, struct str key, void *value)
{
    uint64_t hash = hash_bytes(key.data, key.length);
    struct hash_slot *slot;
    void *previous;

    assert(value);
    if (t->count >= t->capacity - t->capacity / 4)
        resize(t, t->capacity ? t->capacity * 2 : HASH_CAPACITY_MIN);
    slot = find_slot(t, hash, key);
    previous = slot->value;
    *slot = (struct hash_slot){hash, key, value};
    if (!previous)
        t->count++;
    return previous;
}

/* Closes the gap at `hole`: an entry may move back into it unless its home lies after the hole (cyclically). */
static void shift_back(struct hash_table *t, size_t hole)
{
    size_t mask = t->capacity - 1;

    for (size_t i = (hole + 1) & mask; t->slots[i].value; i = (i + 1) & mask) {
        size_t home = t->slots[i].hash & mask;

        if (((i - home) & mask) >= ((i - hole) & mask)) {
            t->slots[hole] = t->slots[i];
            hole = i;
        }
    }
    t->slots[hole] = (struct hash_slot){0};
}

void *hash_table_remove(struct hash_table *t, struct str key)
{
    struct hash_slot *slot;
    void *value;

    if (t->count == 0)
        return NULL;
    slot = find_slot(t, hash_bytes(key.data, key.length), key);
    value = slot->value;
    if (!value)
        return NULL;
    shift_back(t, (size_t)(slot - t->slots));
    t->count--;
    /* An eighth, not a half: a table that swings around one size must not be rebuilt at each swing. */
    if (t->capacity > HASH_CAPACITY_MIN && t->count < t->capacity / 8)
        resize(t, t->capacity / 2);
    return value;
}

bool hash_table_next(const struct hash_table *t, size_t *position, struct str *key, void **value)
{
    while (*position < t->capacity) {
        const struct hash_slot *slot = &t->slots[(*position)++];

        if (slot->value) {
            *key = slot->key;
            *value = slot->value;
            return true;
        }
    }
    return false;
}
