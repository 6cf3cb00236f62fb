/* SPDX-License-Identifier: Apache-2.0 */
/*
 * build: from settings as read to the snapshot: references followed, the policy model made, what contradicts itself reported.
 * Each part reports all it finds and goes on; what comes out after an error is thrown away. One thread at a time.
 */
#ifndef POSTERN_CONFIG_BUILD_H
#define POSTERN_CONFIG_BUILD_H

#include "config/config.h"
#include "config/settings.h"

struct build {
    const struct vfs *vfs;
    struct config_tree *tree;
    struct config_errors *errors;
    const struct settings *settings;
    struct config_machine machine; /* complete */
    struct arena *arena;           /* the snapshot's */
    struct policy_model *model;
    struct config *config;
    struct hash_table lists; /* name to struct build_list */
    size_t entry_count;      /* client entries of all lists and files */
    bool delivers_to_names;  /* some domain's `deliver` names a host that must be looked up */
};

/* Zeroed memory of the snapshot's life; a copy of text in it. */
void *build_alloc(struct build *b, size_t size);
struct str build_copy(struct build *b, struct str text);
struct config_smart_host build_copy_smart_host(struct build *b, const struct config_smart_host *host);

#define BUILD_PATH_BYTES 512
/* A rule that stands at `place`; NULL for a default. A path beyond the maximum is cut. */
struct policy_rule build_rule(struct build *b, const struct config_place *place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* PREFIX.KEY, which stands in `map` (which may be NULL) or is a default. */
struct policy_rule build_key_rule(struct build *b, const struct config_node *map, const char *prefix, const char *key);
/* Where a key of `map` stands; where the map does if the key is absent. */
const struct config_place *build_key_place(const struct config_node *map, const char *key);

/* All named lists, referenced or not. Before build_servers. */
void build_lists(struct build *b);
/* Client entries under `path`; NULL node: an empty list. Never NULL. */
struct policy_client_list *build_client_list(struct build *b, const struct config_node *node, const char *path);
/* User entries; NULL if there are none. */
struct policy_user_list *build_user_list(struct build *b, const struct config_node *node, const char *path);

/* A key's file; for certificates and keys of TLS. */
#define CONFIG_PEM_BYTES_MAX (1u << 20)
/* The text of KEY, or what the file of KEY-file holds without its line end. */
struct str build_secret(struct build *b, const struct config_node *map, const char *key, struct str inline_text,
                        struct str path);
void build_server_tls(struct build *b, const struct settings_server *s, struct config_server_tls *tls);
/* The bits of a list's names, which stands at `path`; of others than `allowed` it complains. */
unsigned build_mechanisms(struct build *b, const struct schema_list *names, const char *path, unsigned allowed);
void build_server_auth(struct build *b, const struct settings_server *s, struct config_server_auth *auth);
void build_directory(struct build *b);

void build_domains(struct build *b);
void build_servers(struct build *b);
void build_connectors(struct build *b); /* after build_servers */
void build_delivery(struct build *b);

/* What can only be seen when all lists are read. After the model is finished. */
void build_relay_checks(struct build *b);
void build_dns(struct build *b);
/* What is allowed and may surprise; the latter, of relaying. After the proof is made, without errors. */
void build_warnings(struct build *b);
void build_relay_warnings(struct build *b);

#endif
