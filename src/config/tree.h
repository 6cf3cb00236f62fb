/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree: configuration files as a bounded tree of maps, lists and untyped scalars, each with its place. The subset of YAML that
 * people write by hand: no anchors, aliases, tags or further documents. Meaning is the schema's, not YAML's: a scalar is bytes.
 * Blocks (files). One thread at a time.
 *
 * DIAGNOSTICS: what is not YAML, or over a bound, ends the reading with that one error; duplicates are all reported.
 */
#ifndef POSTERN_CONFIG_TREE_H
#define POSTERN_CONFIG_TREE_H

#include "base/arena.h"
#include "base/hash.h"
#include "config/errors.h"
#include "os/vfs.h"

#define CONFIG_FILE_BYTES_MAX (8u << 20)
#define CONFIG_FILES_MAX      1000
#define CONFIG_ALL_BYTES_MAX  (64u << 20)
#define CONFIG_NODES_MAX      2000000
#define CONFIG_DEPTH_MAX      32
#define CONFIG_TREE_BYTES_MAX ((size_t)1 << 30)

enum config_node_type { CONFIG_NODE_SCALAR, CONFIG_NODE_LIST, CONFIG_NODE_MAP };

struct config_node;
struct config_map_index;

struct config_entry {
    struct str key;
    struct config_place place; /* of the key */
    struct config_node *value;
};

struct config_node {
    enum config_node_type type;
    bool is_plain; /* a scalar without quotes */
    struct config_place place;
    union {
        struct str text; /* SCALAR, NUL-terminated, without a NUL inside */
        struct {
            struct config_node **items;
            size_t count;
        } list;
        struct {
            struct config_entry *entries; /* in the file's order */
            size_t count;
            size_t capacity;
            struct config_map_index *index; /* large maps only */
        } map;
    };
};

struct config_tree {
    struct arena arena;
    struct config_map_index *indexes; /* to be freed */
    size_t node_count;
    size_t file_count;
    size_t byte_count;
    struct config_errors *errors;
    struct config_node *root; /* a map */
};

void config_tree_init(struct config_tree *tree, struct config_errors *errors);
void config_tree_release(struct config_tree *tree);

/* Parses one file's text; the root is always a map. NULL after an error. `file` must outlive the tree. */
struct config_node *config_tree_parse(struct config_tree *tree, const char *file, struct str text);

/* Reads `path` and what it includes, merged, into tree->root: 0 or -1. With `text` not NULL that stands for the main file. */
int config_tree_load(struct config_tree *tree, const struct vfs *vfs, const char *path, const struct str *text);

/* NULL if the map has no such key. */
const struct config_entry *config_map_find(const struct config_node *map, struct str key);
/* Adds an entry; false, and nothing added, if the key stands there already. */
bool config_map_add(struct config_tree *tree, struct config_node *map, const struct config_entry *entry);

/* `name` taken relative to the directory of `file`; in the tree's arena. */
const char *config_tree_path(struct config_tree *tree, const char *file, struct str name);

#endif
