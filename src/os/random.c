/* SPDX-License-Identifier: Apache-2.0 */
#include "os/random.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* One system call serves dozens of queue ids. Bytes handed out are wiped, so what was used can't be read from memory
 * later. */
#define RANDOM_BUFFER_BYTES 512

struct random_buffer {
    unsigned char bytes[RANDOM_BUFFER_BYTES];
    size_t left; /* the last `left` bytes are unused */
};

static _Thread_local struct random_buffer buffer;

static bool is_seeded;
static _Atomic uint64_t seeded_state;

static void fill_from_system(unsigned char *to, size_t length)
{
    while (length > 0) {
        ssize_t count = getrandom(to, length, 0);

        if (count < 0) {
            /* Without randomness queue ids and hash keys could be guessed: no way to go on. */
            if (errno != EINTR)
                abort();
            continue;
        }
        to += count;
        length -= (size_t)count;
    }
}

/* SplitMix64: one atomic addition, so that any thread may draw. */
static uint64_t next_seeded(void)
{
    uint64_t x = atomic_fetch_add(&seeded_state, 0x9e3779b97f4a7c15) + 0x9e3779b97f4a7c15;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

static void fill_seeded(unsigned char *to, size_t length)
{
    while (length > 0) {
        uint64_t word = next_seeded();
        size_t count = length < sizeof(word) ? length : sizeof(word);

        memcpy(to, &word, count);
        to += count;
        length -= count;
    }
}

void random_bytes(void *data, size_t length)
{
    unsigned char *unused;

    if (length == 0)
        return; /* with NULL, perhaps, which memcpy must not see */
    if (is_seeded) {
        fill_seeded(data, length);
        return;
    }
    if (length > RANDOM_BUFFER_BYTES) {
        fill_from_system(data, length);
        return;
    }
    if (buffer.left < length) {
        fill_from_system(buffer.bytes, RANDOM_BUFFER_BYTES);
        buffer.left = RANDOM_BUFFER_BYTES;
    }
    unused = buffer.bytes + RANDOM_BUFFER_BYTES - buffer.left;
    memcpy(data, unused, length);
    explicit_bzero(unused, length);
    buffer.left -= length;
}

uint64_t random_u64(void)
{
    uint64_t value;

    random_bytes(&value, sizeof(value));
    return value;
}

uint64_t random_below(uint64_t limit)
{
    /* 2^64 mod limit: values below it would make the low results more likely. */
    uint64_t threshold = -limit % limit;
    uint64_t value;

    do {
        value = random_u64();
    } while (value < threshold);
    return value % limit;
}

void random_use_seed(uint64_t seed)
{
    is_seeded = seed != 0;
    atomic_store(&seeded_state, seed);
}
