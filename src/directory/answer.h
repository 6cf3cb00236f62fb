/* SPDX-License-Identifier: Apache-2.0 */
/* answer: what a backend has found, as one immutable, counted allocation that the cache and several askers may share. Any thread. */
#ifndef POSTERN_DIRECTORY_ANSWER_H
#define POSTERN_DIRECTORY_ANSWER_H

#include "directory/directory_private.h"

#include <stdatomic.h>

struct answer {
    atomic_int references;
    size_t bytes; /* all of it, for the cache's bound */
    union {
        struct directory_user user;
        struct directory_recipient recipient;
    };
};

/* Memory that what a backend finds may take in all. */
#define DIRECTORY_FOUND_BYTES_MAX (8u << 20)

void directory_found_init(struct directory_found *found);
void directory_found_release(struct directory_found *found);

/* One reference. They copy what they take. */
struct answer *answer_make_user(const struct directory_found *found);
struct answer *answer_make_recipient(const struct directory_found *found);
struct answer *answer_retain(struct answer *answer);
/* NULL is allowed. */
void answer_release(struct answer *answer);

/* Adds an address in normal form, unless it is there. */
void directory_found_add_normal_address(struct directory_found *found, struct str normal);

#endif
