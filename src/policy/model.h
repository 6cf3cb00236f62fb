/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model: what the configuration says about who may do what, in the form that decisions are taken from. Built once by config,
 * immutable from policy_model_finish on, and then read by any thread without a lock. Every rule carries the path that names it
 * and the place where it stands, so that each decision can say which one decided.
 *
 * Calling sequence: policy_model_create; policy_model_add_* and the lists; policy_model_finish; reading; policy_model_destroy.
 * All names given to the model are in normal form (mail/domain.h) and are copied; nothing here parses configuration text.
 *
 * DIAGNOSTICS: config checks what it adds; adding an inconsistent thing (an alias of nothing) is a programmer's error and asserts.
 */
#ifndef POSTERN_POLICY_MODEL_H
#define POSTERN_POLICY_MODEL_H

#include "base/str.h"
#include "policy/cidr.h"

struct address; /* mail/address.h */

struct policy_model;
struct policy_client_list;
struct policy_user_list;

/* One rule's name and place. Strings live as long as the model. */
struct policy_rule {
    const char *path; /* servers.internet.relay.only[0] */
    const char *file; /* NULL for a default that stands nowhere */
    unsigned line;
};

/* ---- domains ---- */

enum policy_domain_type { POLICY_DOMAIN_LOCAL, POLICY_DOMAIN_ALIAS, POLICY_DOMAIN_ALLOWED };
enum policy_recipient_source { POLICY_RECIPIENTS_ANY, POLICY_RECIPIENTS_LIST, POLICY_RECIPIENTS_DIRECTORY };
enum policy_delivery_method { POLICY_DELIVER_MAILDIR, POLICY_DELIVER_LMTP, POLICY_DELIVER_SMTP };

/* How a local domain's mail is handed over. Without a host, LMTP goes to the local socket `socket_path`. */
struct policy_delivery {
    enum policy_delivery_method method;
    struct str host; /* name or address, no brackets */
    bool host_is_address;
    uint16_t port;
    struct str socket_path;
};

struct policy_domain {
    struct str name; /* normal form; for a wildcard what follows "*." */
    bool is_wildcard;
    bool is_default; /* the default local domain */
    enum policy_domain_type type;
    const struct policy_domain *alias_of; /* ALIAS: the local domain that it stands for, else NULL */
    enum policy_recipient_source recipients;
    struct policy_delivery delivery; /* LOCAL */
    struct policy_rule rule;
    struct policy_rule recipients_rule;
};

/* ---- servers ---- */

/* relay.only, relay.except, connect.only, connect.except; NONE only for connect: everybody may. */
enum policy_list_mode { POLICY_LIST_NONE, POLICY_LIST_ONLY, POLICY_LIST_EXCEPT };
enum policy_lookup { POLICY_LOOKUP_AFTER_ACCEPT, POLICY_LOOKUP_AT_RCPT };
enum policy_sender_match {
    POLICY_SENDER_MATCH_OFF,
    POLICY_SENDER_MATCH_ENVELOPE,
    POLICY_SENDER_MATCH_ENVELOPE_AND_HEADER
};

struct policy_server {
    struct str name;
    struct policy_rule rule;
    enum policy_list_mode connect_mode;
    const struct policy_client_list *connect; /* NULL when NONE */
    struct policy_rule connect_rule;
    enum policy_list_mode relay_mode;       /* ONLY (with an empty list by default) or EXCEPT */
    const struct policy_client_list *relay; /* never NULL */
    struct policy_rule relay_rule;
    bool relay_authenticated; /* whoever has authenticated may relay */
    struct policy_rule relay_authenticated_rule;
    bool anonymous; /* clients that have not authenticated may send */
    struct policy_rule anonymous_rule;
    bool tls_required;
    struct policy_rule tls_required_rule;
    const struct policy_user_list *submit_allow; /* the four may be NULL: empty */
    const struct policy_user_list *submit_deny;
    const struct policy_user_list *relay_allow;
    const struct policy_user_list *relay_deny;
    enum policy_lookup lookup;
    struct policy_rule lookup_rule;
    enum policy_sender_match sender_match;
    struct policy_rule sender_match_rule;
    bool anonymous_local_sender; /* false: reject */
    struct policy_rule anonymous_local_sender_rule;
    const struct policy_client_list *own_addresses; /* NULL: none. Entries name where each address is stated. */
};

/* ---- connectors ---- */

struct policy_address_space {
    struct str domain; /* normal form, for a wildcard what follows "*."; empty for "*" */
    bool is_wildcard;  /* "*" or "*.NAME" */
    unsigned cost;
    struct policy_rule rule;
};

struct policy_connector {
    struct str name;
    unsigned index; /* the position among all, in the configuration's order */
    const struct policy_address_space *spaces;
    size_t space_count;
    bool allow_relay; /* overrides every server's relay restrictions */
    struct policy_rule allow_relay_rule;
    const struct str *servers; /* scope: only mail that came in through these ... */
    size_t server_count;       /* ... or, when 0, all */
    struct policy_rule rule;
};

/* ---- building ---- */

struct policy_model *policy_model_create(void);
void policy_model_destroy(struct policy_model **model);
/* A rule whose path and file are copied into the model; file NULL for a default. */
struct policy_rule policy_model_rule(struct policy_model *model, struct str path, struct str file, unsigned line);
/* Copies bytes into the model. */
struct str policy_model_text(struct policy_model *model, struct str text);

/* The two below copy the structure, not what it points to, which must be the model's. NULL if the name stands there already.
 * `known`: for POLICY_RECIPIENTS_LIST, in lower case and unquoted, LOCAL@ for a mailbox of each domain that the entry
 * stands for, or LOCAL@DOMAIN for one under a wildcard. */
const struct policy_domain *policy_model_add_domain(struct policy_model *model, const struct policy_domain *domain,
                                                    const struct str *known, size_t known_count);
const struct policy_server *policy_model_add_server(struct policy_model *model, const struct policy_server *server);
const struct policy_connector *policy_model_add_connector(struct policy_model *model,
                                                          const struct policy_connector *connector);

/* Lists belong to the model. Adding the same list twice is fine; a list must not contain itself. */
struct policy_client_list *policy_client_list_create(struct policy_model *model);
void policy_client_list_add_network(struct policy_client_list *list, const struct cidr_range *range,
                                    struct policy_rule rule);
void policy_client_list_add_domain(struct policy_client_list *list, struct str name, struct policy_rule rule);
void policy_client_list_add_certificate(struct policy_client_list *list, const unsigned char sha256[32],
                                        struct policy_rule rule);
void policy_client_list_add_list(struct policy_client_list *list, struct policy_client_list *other,
                                 struct policy_rule rule);

/* What follows `cert:`, 64 hex digits: false if it is anything else. */
bool policy_parse_certificate(struct str hex, unsigned char sha256[32]);
/* After policy_model_finish: whether neither it nor a list that it names has an entry, so that nobody is named. At connection
 * certificates don't count. */
bool policy_client_list_is_empty(const struct policy_client_list *list, bool with_certificates);
/* Whether such an entry is `domain:`, and `cert:`. */
bool policy_client_list_has_domain(const struct policy_client_list *list);
bool policy_client_list_has_certificate(const struct policy_client_list *list);

/* Names are at most POLICY_USER_NAME_BYTES_MAX long and compared without case (ASCII). */
#define POLICY_USER_NAME_BYTES_MAX 255
struct policy_user_list *policy_user_list_create(struct policy_model *model, struct policy_rule rule);
void policy_user_list_add_user(struct policy_user_list *list, struct str name, struct policy_rule rule);
void policy_user_list_add_group(struct policy_user_list *list, struct str name, struct policy_rule rule);

/* Nothing is added after it. */
void policy_model_finish(struct policy_model *model);

/* ---- reading: any thread, no allocation ---- */

const struct policy_server *policy_find_server(const struct policy_model *model, struct str name); /* NULL: none */
/* NULL when there is no local domain. */
const struct policy_domain *policy_default_domain(const struct policy_model *model);
/* The entry of `domains` that decides for a name in normal form: exact, then the longest wildcard. NULL: none. */
const struct policy_domain *policy_find_domain(const struct policy_model *model, struct str domain);
/* The domain itself, or what its alias stands for. */
const struct policy_domain *policy_resolve_domain(const struct policy_domain *domain);
size_t policy_domain_count(const struct policy_model *model);
size_t policy_server_count(const struct policy_model *model);
const struct policy_server *policy_server_at(const struct policy_model *model, size_t index);
size_t policy_connector_count(const struct policy_model *model);
const struct policy_connector *policy_connector_at(const struct policy_model *model, size_t index);

enum policy_known {
    POLICY_KNOWN,
    POLICY_UNKNOWN,
    POLICY_ASK_DIRECTORY, /* the directory decides; an empty one knows nobody */
};

/* Whether a recipient exists in `domain`, its own entry (an alias is resolved here). An ALLOWED domain with recipients: any
 * knows everybody. postmaster of a local domain is always known. */
enum policy_known policy_recipient_known(const struct policy_domain *domain, const struct address *recipient);

/* Whether a domain that lists its recipients (POLICY_RECIPIENTS_LIST) lists postmaster. */
bool policy_domain_lists_postmaster(const struct policy_domain *domain);

/* Whether an address is one of this machine's, for any of its servers: mail that would go there goes in a circle. */
bool policy_is_own_address(const struct policy_model *model, const struct cidr_address *address);

#define POLICY_ROUTE_CONNECTORS_MAX 8

/*
 * Where a recipient's mail goes. `local`: the local domain (alias resolved; own address literals and addresses without a domain
 * stand for the default one), whose `delivery` says how; `entry` the entry of `domains` that matched, of an ALLOWED one too (whose
 * recipients delivery must check). Otherwise the connectors in scope whose most specific address space matches, cheapest first;
 * none: `route: dns`.
 */
struct policy_route {
    const struct policy_domain *entry;
    const struct policy_domain *local;
    const struct policy_connector *connectors[POLICY_ROUTE_CONNECTORS_MAX];
    size_t connector_count;
};

/* `server_name`: through which server the mail came in; empty for mail that Postern makes itself, which is in every connector's
 * scope. A server that no longer exists is in the scope of connectors for all servers only. */
void policy_route(const struct policy_model *model, struct str server_name, const struct address *recipient,
                  struct policy_route *route);

/* A recipient of `route` as the directory is asked about it, the local part as written, an alias domain's under the domain that it stands for. `text` has
 * room for ADDRESS_TEXT_OCTETS_MAX; the length. */
size_t policy_mailbox_text(const struct policy_route *route, const struct address *recipient, char *text);
/* Whether both are one mailbox: local parts without case, an alias domain as what it stands for. */
bool policy_same_mailbox(const struct policy_model *model, struct str server_name, const struct address *a,
                         const struct address *b);

#endif
