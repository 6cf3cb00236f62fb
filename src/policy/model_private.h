/* SPDX-License-Identifier: Apache-2.0 */
/* What the module's own files share: the model's insides, and how lists and classes are asked. */
#ifndef POSTERN_POLICY_MODEL_PRIVATE_H
#define POSTERN_POLICY_MODEL_PRIVATE_H

#include "base/arena.h"
#include "base/hash.h"
#include "mail/address.h"
#include "policy/decide.h"

/* A list's answer, and a lookup's (relay-behaviour.md section 2, "Terms"). */
enum policy_match { POLICY_MATCH_NO, POLICY_MATCH_UNKNOWN, POLICY_MATCH_YES };

struct policy_match_result {
    enum policy_match match;
    const struct policy_rule *rule;  /* the entry that answers yes or unknown, as the asked list names it */
    const struct policy_rule *inner; /* the entry of the named list behind it, or NULL */
};

struct policy_sublist {
    const struct policy_client_list *list;
    struct policy_rule rule;
};

struct policy_client_list {
    struct policy_model *model;
    struct policy_client_list *next;
    struct cidr_set networks; /* numbers into `rules` */
    struct policy_rule *rules;
    size_t rule_count;
    size_t rule_capacity;
    struct hash_table domains; /* name to rule */
    const struct policy_rule *first_domain;
    struct hash_table certificates; /* SHA-256 to rule */
    struct policy_sublist *sublists;
    size_t sublist_count;
    size_t sublist_capacity;
};

struct policy_user_list {
    struct policy_model *model;
    struct policy_user_list *next;
    struct policy_rule rule;
    struct hash_table users;  /* name in lower case to rule */
    struct hash_table groups; /* the same */
    const struct policy_rule *first_group;
};

/* All address spaces for one name, cheapest first. */
struct policy_space_entry {
    const struct policy_connector *connector;
    const struct policy_address_space *space;
};

struct policy_space_list {
    struct policy_space_entry *entries;
    size_t count;
    size_t capacity;
};

/* A domain with what nobody outside reads. */
struct policy_domain_node {
    struct policy_domain domain; /* first: a pointer to one is a pointer to the other */
    struct policy_domain_node *next;
    struct hash_table known; /* LOCAL@ and LOCAL@DOMAIN in lower case */
};

struct policy_model {
    struct arena arena;
    bool finished;
    struct str last_file;               /* of the rule made last */
    struct hash_table domains;          /* name to policy_domain_node */
    struct hash_table wildcard_domains; /* what follows "*." to policy_domain_node */
    size_t wildcard_domain_octets_max;
    struct policy_domain_node *first_domain;
    size_t domain_count;
    const struct policy_domain *default_domain;
    struct policy_server **servers;
    size_t server_count;
    size_t server_capacity;
    struct hash_table servers_by_name;
    struct policy_connector **connectors;
    size_t connector_count;
    size_t connector_capacity;
    struct hash_table spaces;          /* name to policy_space_list */
    struct hash_table wildcard_spaces; /* what follows "*." to policy_space_list */
    size_t wildcard_space_octets_max;
    struct policy_space_list star_spaces;
    struct policy_client_list *client_lists; /* to be finished and freed */
    struct policy_user_list *user_lists;
};

/* Memory of the model's life. */
void *policy_model_alloc(struct policy_model *model, size_t size);

struct policy_match_result policy_client_list_match(const struct policy_client_list *list,
                                                    const struct policy_facts *facts);
/* NULL list: empty. */
struct policy_match_result policy_user_list_match(const struct policy_user_list *list,
                                                  const struct policy_facts *facts);
bool policy_user_list_is_empty(const struct policy_user_list *list);
void policy_client_list_finish(struct policy_client_list *list);
void policy_client_list_release(struct policy_client_list *list);
void policy_user_list_release(struct policy_user_list *list);

/* The connectors in scope at the most specific address space that matches; NULL for a literal without a "*" connector, or none. */
const struct policy_space_list *policy_find_spaces(const struct policy_model *model, struct str server_name,
                                                   const struct address *recipient);
bool policy_connector_in_scope(const struct policy_connector *connector, struct str server_name);

/* Whether an address's domain is LOCAL or ALLOWED on a server, and by which rule. Otherwise class EXTERNAL, `entry` NULL: connectors are not asked. */
struct policy_domain_class {
    enum policy_class recipient_class;
    const struct policy_domain *entry; /* NULL for LOCAL without any local domain */
    const struct policy_rule *rule;    /* NULL as `entry` */
};
struct policy_domain_class policy_classify_domain(const struct policy_model *model, const struct policy_server *server,
                                                  const struct address *address);

void policy_trace_add(struct policy_trace *trace, const struct policy_rule *rule, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
