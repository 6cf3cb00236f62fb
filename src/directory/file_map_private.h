/* SPDX-License-Identifier: Apache-2.0 */
/* file_map_private: the map as file_parse.c makes it and file_map.c reads it. */
#ifndef POSTERN_DIRECTORY_FILE_MAP_PRIVATE_H
#define POSTERN_DIRECTORY_FILE_MAP_PRIVATE_H

#include "base/hash.h"
#include "directory/file_map.h"

#include <stdatomic.h>

struct file_map {
    atomic_int references;
    struct arena arena;
    struct str default_domain;
    struct hash_table users;        /* by normal name */
    struct hash_table recipients;   /* by normal address */
    struct hash_table patterns;     /* by PREFIX@domain */
    struct hash_table certificates; /* by fingerprint */
    size_t prefix_bytes_max;        /* the longest of a pattern */
    struct file_user **with_hash;   /* those who have one */
    size_t with_hash_count, with_hash_capacity;
    const struct file_user *scram_model;
};

#endif
