/* SPDX-License-Identifier: Apache-2.0 */
/* front: what the files of the front share: directory.c (life, health), ask.c (users and recipients), authenticate.c (passwords, keys, certificates). */
#ifndef POSTERN_DIRECTORY_FRONT_H
#define POSTERN_DIRECTORY_FRONT_H

#include "directory/answer.h"
#include "directory/cache.h"
#include "directory/names.h"
#include "directory/settings.h"

#include <pthread.h>

struct health {
    pthread_mutex_t mutex;
    bool is_announced; /* that it does not answer */
    uint64_t last_failure_ms;
    uint64_t last_fault_ms; /* 0: never */
};

struct directory {
    atomic_int references;
    struct directory_settings *settings;
    const struct directory_backend_operations *operations;
    void *backend;
    struct worker_pool *lookup_pool, *password_pool;
    struct cache *cache;
    atomic_uint_fast64_t version_checked_ms; /* 0: never */
    atomic_uint_fast64_t version;
    atomic_uint_fast64_t lookups, cache_hits, unavailable;
    struct health health;
    unsigned char secret[32]; /* for made-up keys while the backend has none */
};

/* directory_create with a backend that the caller chooses. */
struct directory *front_create(const struct config *config, const struct directory_backend_operations *operations,
                               struct error *error);

/* When a question that is asked now must be answered. */
uint64_t front_deadline_ms(const struct directory *directory);

/* What a backend has said, on its way out: counts it, and notes the backend's health. Returns the status. */
enum directory_status front_note(struct directory *directory, enum directory_status status, const struct error *error);
/* One entry alone is of no use. */
void front_note_fault(struct directory *directory, struct str about, const char *fault);

/* YES: the user that was found, or a fault of the entry: UNAVAILABLE. */
enum directory_status front_finish_user(struct directory *directory, struct str about, struct directory_found *found,
                                        struct answer **answer);

#endif
