/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file_map: the text map of the backend file (postern.directory(5)), parsed and checked as a whole: all of it or an error. Immutable once it is made, reference
 * counted; any thread. Pure.
 *
 *   user NAME HASH|- [disabled] [groups=A,B] [addresses=A,B] [certificates=SHA256,SHA256] [scram=SCRAM-SHA-256$...]
 *   recipient ADDRESS
 *   alias ADDRESS TARGET[,TARGET]
 *   list ADDRESS OWNER|- TARGET[,TARGET]
 *
 * A line that begins with a blank goes on with the one before; "#" in the first column begins a comment. ADDRESS may be PREFIX*@domain.
 */
#ifndef POSTERN_DIRECTORY_FILE_MAP_H
#define POSTERN_DIRECTORY_FILE_MAP_H

#include "directory/directory_private.h"

#define FILE_MAP_BYTES_MAX (64u << 20)
#define FILE_MAP_LINES_MAX 1000000

struct file_map;

struct file_user {
    struct str name;
    char hash[PASSWORD_HASH_BYTES]; /* empty: none */
    bool is_disabled;
    struct directory_strings groups, addresses;
    const struct directory_scram_keys *scram; /* NULL: none */
};

struct file_recipient {
    struct str address; /* normal form; of a pattern PREFIX@domain */
    struct directory_strings targets;
    struct str owner;
};

/*
 * One reference; NULL and an error "FILE:LINE:COLUMN: what is wrong, and what would be right". `path` is for that alone. Copies the text.
 */
struct file_map *file_map_parse(const char *path, struct str text, struct str default_domain, struct error *error);
struct file_map *file_map_retain(struct file_map *map);
/* Sets the pointer to NULL, which it may be. */
void file_map_release(struct file_map **map);

/* NULL: there is none. As long as the map. */
const struct file_user *file_map_find_user(const struct file_map *map, const struct directory_name *name);
const struct file_user *file_map_find_certificate(const struct file_map *map, const unsigned char sha256[32]);
/* What is exact, then a user (`is_user`, and NULL), then the longest pattern. */
const struct file_recipient *file_map_find_recipient(const struct file_map *map,
                                                     const struct directory_address *address, bool *is_user);

/* The first user with SCRAM keys, after whom made-up ones are modelled, and a user with a hash, any but the same for a name; NULL: there is none. */
const struct file_user *file_map_scram_model(const struct file_map *map);
const struct file_user *file_map_hash_model(const struct file_map *map, struct str name);

size_t file_map_user_count(const struct file_map *map);
size_t file_map_recipient_count(const struct file_map *map);

#endif
