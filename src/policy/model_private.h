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

enum policy_entry_type { POLICY_ENTRY_NETWORK, POLICY_ENTRY_DOMAIN, POLICY_ENTRY_CERTIFICATE, POLICY_ENTRY_LIST };

/* One entry of a client list, in the order of the configuration: its position is its rank when several match. */
struct policy_client_entry {
    enum policy_entry_type type;
    unsigned network_bits; /* NETWORK: of 128, as the address is carried */
    struct policy_rule rule;
    union {
        struct str name; /* DOMAIN: normal form; CERTIFICATE: the SHA-256, 32 bytes */
        const struct policy_client_list *list;
    };
};

struct policy_match_result {
    enum policy_match match;
    const struct policy_rule *rule;          /* the entry that answers yes or unknown, as the asked list names it */
    const struct policy_rule *inner;         /* the entry of the named list behind it, or NULL */
    const struct policy_client_entry *entry; /* client lists: the entry itself, of the named list if there is one */
    const struct policy_user_entry *user;    /* user lists: the entry */
};

struct policy_user_entry {
    bool is_group;
    struct str name; /* as written */
    struct policy_rule rule;
};

/* A named list in a list, however deep: the position is that of the entry by which it is first reached. */
struct policy_sublist {
    const struct policy_client_list *list;
    size_t position;
};

struct policy_client_list {
    struct policy_model *model;
    struct policy_client_list *next;
    struct policy_client_entry *entries;
    size_t entry_count;
    size_t entry_capacity;
    struct cidr_set networks;       /* address to position */
    struct hash_table domains;      /* name to position + 1 */
    struct hash_table certificates; /* SHA-256 to position + 1 */
    size_t first_domain;            /* its position; SIZE_MAX: none */
    bool is_nested;                 /* some list names it */
    bool is_asked;                  /* a server has it as its own */
    struct policy_sublist
        *sublists; /* each once, in rising order of position; of asked and of free-standing lists only */
    size_t sublist_count;
    size_t sublist_capacity;
    size_t mark; /* while sublists are gathered */
};

struct policy_user_list {
    struct policy_model *model;
    struct policy_user_list *next;
    struct policy_rule rule;
    struct policy_user_entry *entries;
    size_t entry_count;
    size_t entry_capacity;
    struct hash_table users;  /* name in lower case to position + 1 */
    struct hash_table groups; /* the same */
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
    struct policy_domain_node *first_domain; /* in the configuration's order */
    struct policy_domain_node *last_domain;
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
/* After all lists are finished; `mark` is a number that no other call has. */
void policy_client_list_gather(struct policy_client_list *list, size_t mark);
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

/* c of MAIL: whether a user is kept from submitting. */
struct policy_match_result policy_submit_refusal(const struct policy_facts *facts);

/* All do nothing without a trace. `rule` may be NULL. */
void policy_trace_add(struct policy_trace *trace, const struct policy_rule *rule, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void policy_trace_reply(struct policy_trace *trace, const struct policy_decision *decision);
/* How `list`, the list of `about` ("who may relay"), answered for the client. */
void policy_trace_client_list(struct policy_trace *trace, const struct policy_client_list *list,
                              const struct policy_rule *list_rule, const char *about, const struct policy_facts *facts,
                              const struct policy_match_result *result);
/* "PREFIX, by user:NAME"; nothing if the entry is unknown. */
void policy_trace_user(struct policy_trace *trace, const struct policy_match_result *result, const char *text);

#endif
