/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema: one table that describes every key of the configuration: its type, its default, and a sentence for people. It drives
 * the reading into structures, the messages for what is wrong, and the JSON Schema that editors use. The table stands in
 * schema_table.c, the structures that it fills in settings.h.
 *
 * A key that this version cannot honour yet stands in the table too, and is refused unless it has the value that means "off":
 * a setting is never ignored silently.
 */
#ifndef POSTERN_CONFIG_SCHEMA_H
#define POSTERN_CONFIG_SCHEMA_H

#include "base/arena.h"
#include "base/buf.h"
#include "config/config.h"
#include "config/tree.h"

enum schema_type {
    /* Scalars, and the field that each fills. */
    SCHEMA_BOOL,       /* bool */
    SCHEMA_INTEGER,    /* uint64_t */
    SCHEMA_DURATION,   /* uint64_t, milliseconds */
    SCHEMA_SIZE,       /* uint64_t, bytes */
    SCHEMA_RATE,       /* struct config_rate */
    SCHEMA_ENUM,       /* int; -1 where a required one is missing or wrong */
    SCHEMA_TEXT,       /* struct str; `maximum` octets */
    SCHEMA_PATH,       /* struct str; relative to the directory of the file that states it */
    SCHEMA_DOMAIN,     /* struct str in normal form; empty where the default is empty */
    SCHEMA_ADDRESS,    /* struct schema_address; empty text is none where the default is empty */
    SCHEMA_LISTEN,     /* struct config_listen */
    SCHEMA_SMART_HOST, /* struct config_smart_host; `host` empty is none where the default is empty */
    /* Composed. */
    SCHEMA_MAP,   /* a structure that begins with struct schema_map_head */
    SCHEMA_NAMED, /* struct schema_list of structures that begin with struct schema_named */
    SCHEMA_NODE,  /* const struct config_node *, read elsewhere; NULL if absent */
};

/* What a SCHEMA_NODE looks like, and what names a SCHEMA_NAMED has: for editors. */
enum schema_shape {
    SCHEMA_SHAPE_NONE,
    SCHEMA_SHAPE_CLIENT_ENTRIES,
    SCHEMA_SHAPE_CLIENT_LIST, /* entries, or { file: PATH } */
    SCHEMA_SHAPE_USER_ENTRIES,
    SCHEMA_SHAPE_RECIPIENTS,
    SCHEMA_SHAPE_DELIVER,
    SCHEMA_SHAPE_ADDRESS_SPACES,
    SCHEMA_SHAPE_INCLUDE,
    SCHEMA_SHAPE_NAMES,   /* of servers, connectors, lists */
    SCHEMA_SHAPE_DOMAINS, /* exact or wildcard domain names */
};

struct schema_map_head {
    const struct config_node *node; /* NULL if the map is absent */
};

struct schema_named {
    struct schema_map_head head;
    struct str name;
    struct config_place place; /* of the name */
    const struct config_node *value;
};

struct schema_list {
    void *items;
    size_t count;
    const struct config_node *node; /* NULL if the default stands */
};

struct schema_address {
    bool is_set;
    struct cidr_address address;
};

/* One value of a SCHEMA_ENUM. */
struct schema_word {
    const char *name;
    int value;
    const char *unavailable; /* what this version lacks for it, or NULL */
};

struct schema_map;

struct schema_key {
    const char *name;
    enum schema_type type;
    bool is_list; /* a list of the scalar type, in a struct schema_list */
    bool is_required;
    size_t offset;
    const char *fallback; /* the default as it would be written; of a list, separated by spaces; NULL: empty */
    uint64_t minimum;     /* of numbers; octets of texts and paths */
    uint64_t maximum;     /* 0: none */
    size_t count_min;     /* of a list */
    size_t count_max;     /* 0: none */
    const struct schema_word *words; /* ENUM; ends with a NULL name */
    const struct schema_map *map;    /* MAP; and what stands under each name of NAMED, NULL: a node of `shape` */
    enum schema_shape shape;
    enum schema_shape names;
    const char *unavailable; /* what this version lacks: only the default is taken */
    const char *about;       /* one sentence, documentation */
};

struct schema_map {
    const struct schema_key *keys;
    size_t count;
    size_t size; /* of the structure */
};

/* The whole configuration: struct settings. */
extern const struct schema_map schema_root;
/* Of a connector: struct settings_timeouts. */
extern const struct schema_map schema_timeouts;

/* Fills `structure` (zeroed before, of map->size) from the root of a tree, defaults included. Mistakes go to tree->errors; what
 * could not be read has its default. Memory is the tree's. */
void schema_read(struct config_tree *tree, const struct schema_map *map, const struct config_node *node,
                 void *structure);

/* The JSON Schema (draft 2020-12), indented, with a line end. */
void schema_write_json(struct buf *out);

#endif
