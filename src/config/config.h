/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config: the configuration as one immutable, reference-counted snapshot: typed settings and the policy model made of them. A
 * session keeps the snapshot that it started with; a reload loads another and changes nothing if that fails.
 *
 * Threads: config_load reads files (it blocks: not on a loop thread). A snapshot is read by any thread, without a lock;
 * config_retain and config_release are atomic. All strings live as long as the snapshot, are never NULL (empty where
 * nothing is set) and NUL-terminated.
 *
 * DIAGNOSTICS: every mistake of every file is reported at once, as FILE:LINE:COLUMN: what is wrong, and what would be right.
 */
#ifndef POSTERN_CONFIG_CONFIG_H
#define POSTERN_CONFIG_CONFIG_H

#include "base/log.h"
#include "base/str.h"
#include "config/errors.h"
#include "os/vfs.h"
#include "policy/decide.h"
#include "policy/model.h"
#include "policy/prove.h"

#define CONFIG_PATH_DEFAULT "/etc/postern/postern.yaml"

/* An address to listen on; port 0 lets the system choose. */
struct config_listen {
    struct str text; /* as written */
    struct cidr_address address;
    bool is_ipv4;
    uint16_t port;
};

enum config_bare_newline { CONFIG_BARE_NEWLINE_REJECT, CONFIG_BARE_NEWLINE_NORMALIZE };
enum config_log_format { CONFIG_LOG_TEXT, CONFIG_LOG_JSON };
enum config_dnssec { CONFIG_DNSSEC_AUTO, CONFIG_DNSSEC_ON, CONFIG_DNSSEC_OFF };
enum config_ndr_return { CONFIG_NDR_RETURN_HEADERS, CONFIG_NDR_RETURN_FULL };

struct config_limits {
    uint64_t message_bytes_max;
    uint64_t recipients_max;
    uint64_t connections_max;
    uint64_t connections_per_client_max;
    uint64_t idle_timeout_ms;
    uint64_t messages_per_connection_max; /* 0: no limit */
    uint64_t errors_max;
    uint64_t unknown_recipients_max; /* 0: no limit */
    uint64_t received_hops_max;
};

enum config_tls_mode { CONFIG_TLS_NONE, CONFIG_TLS_STARTTLS, CONFIG_TLS_IMPLICIT };
/* In the order of enum tls_protocol. */
enum config_tls_version { CONFIG_TLS_1_0, CONFIG_TLS_1_1, CONFIG_TLS_1_2, CONFIG_TLS_1_3 };

struct config_certificate {
    struct str name; /* that clients ask for, in normal form, "*." in front of a wildcard; empty: the default one */
    struct str certificate; /* path */
    struct str key;
};

/* mode NONE: nothing else holds. */
struct config_server_tls {
    enum config_tls_mode mode;
    const struct config_certificate *certificates; /* the first is the default one */
    size_t certificate_count;
    enum config_tls_version version_min;
    bool client_certificates; /* asked for: `cert:` entries and EXTERNAL */
};

enum config_mechanism {
    CONFIG_MECHANISM_PLAIN = 1,
    CONFIG_MECHANISM_LOGIN = 2,
    CONFIG_MECHANISM_SCRAM_SHA_256 = 4,
    CONFIG_MECHANISM_SCRAM_SHA_256_PLUS = 8,
    CONFIG_MECHANISM_GSSAPI = 16,
    CONFIG_MECHANISM_EXTERNAL = 32,
};

struct config_server_auth {
    unsigned mechanisms; /* enum config_mechanism bits; 0: no AUTH */
    bool require_tls;
    struct str keytab; /* GSSAPI: path; empty: the system's */
    struct str realm;  /* GSSAPI: a principal of this realm is the user without it; empty: none is */
};

struct config_server {
    struct str name;
    const struct policy_server *policy;
    const struct config_listen *listen;
    size_t listen_count;
    const struct policy_client_list *proxies; /* who must begin with a PROXY header; NULL: nobody */
    const struct policy_client_list *etrn;    /* who may have queued mail tried (RFC 1985); NULL: nobody */
    struct str banner;                        /* "220 HOST BANNER ready at DATE"; may be empty */
    enum config_bare_newline bare_newline;
    uint64_t tarpit_ms;
    struct config_limits limits;
    struct config_server_tls tls;
    struct config_server_auth auth;
    struct str allow_open_relay; /* the reason in words, or empty */
};

/* A numeric or bracketed host is connected to as it is; a name is looked up. */
struct config_smart_host {
    struct str text; /* as written */
    struct str host; /* no brackets */
    bool is_address;
    struct cidr_address address; /* when is_address */
    bool skip_mx;                /* bracketed or numeric */
    uint16_t port;
};

struct config_timeouts {
    uint64_t connect_ms;
    uint64_t command_ms;
    uint64_t data_ms;
    uint64_t unreachable_ms; /* how long a host that could not be reached is passed over, while there are others */
};

enum config_connector_tls {
    CONFIG_CONNECTOR_TLS_NONE,
    CONFIG_CONNECTOR_TLS_MAY,      /* where it is offered; DANE where it applies */
    CONFIG_CONNECTOR_TLS_REQUIRED, /* to whomever; DANE where it applies */
    CONFIG_CONNECTOR_TLS_VERIFY,   /* name and chain */
    CONFIG_CONNECTOR_TLS_DANE,     /* where it does not apply no mail goes */
};

struct config_connector_auth {
    struct str user; /* empty: nobody */
    struct str password;
    unsigned mechanisms; /* enum config_mechanism bits */
    bool without_tls;
};

/* config->connectors[i].policy->index == i. */
struct config_connector {
    struct str name;
    const struct policy_connector *policy;
    const struct config_smart_host *smart_hosts; /* none: route: dns */
    size_t smart_host_count;
    uint16_t port;                        /* of the hosts that the DNS names for a domain */
    const struct cidr_range *mx_networks; /* where these may be although they are loopback or the like */
    size_t mx_network_count;
    struct str masquerade; /* local sender domains turn into this one; empty: they don't */
    enum config_connector_tls tls;
    bool implicit_tls;  /* connections begin with it */
    struct str ca_file; /* of VERIFY; empty: the system's */
    struct config_connector_auth auth;
    bool has_source_address;
    struct cidr_address source_address;
    struct str helo_name; /* never empty: the default is filled in */
    struct config_timeouts timeouts;
};

/* A rate of reports: so many in a period; never 0. */
struct config_rate {
    uint64_t count;
    uint64_t period_ms;
};

struct config_ndr {
    struct str copy_to; /* an address, or empty */
    enum config_ndr_return return_content;
    struct config_rate rate_per_domain;
    struct config_rate rate;
};

struct config_delivery {
    const uint64_t *retry_ms; /* at least one; the last repeats */
    size_t retry_count;
    uint64_t expire_ms;
    uint64_t delay_notice_ms; /* 0: none */
    uint64_t concurrency_per_destination;
    struct config_smart_host unresolved_recipients_host; /* host empty: none */
    struct config_ndr ndr;
    uint64_t workers; /* threads for what blocks: Maildirs, name look-ups */
};

struct config_dns {
    struct str resolver; /* ADDRESS or ADDRESS@PORT; empty: the system's */
    uint64_t timeout_ms;
    enum config_dnssec dnssec;
    struct str trust_anchor; /* path; empty: the system's */
    bool received_names;
    bool is_needed;            /* by a domain: entry of some server's lists, or for the Received lines */
    bool is_needed_for_routes; /* some mail may go to a host that only a name tells of */
};

enum config_directory_backend { CONFIG_DIRECTORY_SQLITE, CONFIG_DIRECTORY_LDAP, CONFIG_DIRECTORY_FILE };

struct config_ldap {
    const struct str *urls; /* tried in this order */
    size_t url_count;
    bool start_tls;     /* on ldap: URLs; required to succeed */
    struct str ca_file; /* empty: the system's */
    struct str bind_dn; /* empty: anonymous */
    struct str bind_password;
    struct str base;
    struct str user_filter;        /* %s: the user's name, escaped */
    struct str recipient_filter;   /* %s: the address, escaped */
    struct str certificate_filter; /* %s: the fingerprint in hex; empty: no EXTERNAL */
    struct str user_attribute;     /* the name that policies know */
    struct str group_attribute;
    const struct str *address_attributes; /* that hold a user's addresses */
    size_t address_attribute_count;
    uint64_t timeout_ms;
};

struct config_directory {
    enum config_directory_backend backend;
    struct str path; /* sqlite: the database; file: the map */
    struct config_ldap ldap;
    uint64_t timeout_ms; /* of one question, whatever the backend */
    uint64_t cache_entries;
    uint64_t cache_positive_ms;
    uint64_t cache_negative_ms;
    uint64_t workers; /* threads */
};

/* Failed authentications that are let through in one window, by whom they are counted; beyond that a lock. 0: no limit. */
struct config_brakes {
    uint64_t failures_per_client;
    uint64_t failures_per_network; /* IPv4 /24, IPv6 /64 */
    uint64_t failures_per_user;
    uint64_t window_ms;
    uint64_t lock_ms;
};

enum config_sandbox { CONFIG_SANDBOX_AUTO, CONFIG_SANDBOX_REQUIRED, CONFIG_SANDBOX_OFF };

struct config_log {
    enum log_format format;
    enum log_level level;
    struct str to; /* stderr, or an absolute path */
};

struct config_control {
    struct str socket_group; /* who may use the control socket, beside root and the daemon's user; empty: nobody */
};

struct config_tracking {
    bool enabled;
    bool refusals;      /* also what was refused */
    uint64_t keep_ms;   /* 0: for ever */
    uint64_t bytes_max; /* 0: no limit */
};

enum config_session_log_format { CONFIG_SESSION_LOG_NONE, CONFIG_SESSION_LOG_W3C };

struct config_session_log {
    enum config_session_log_format format;
    struct str directory;
    uint64_t keep_ms;
    uint64_t bytes_max;
};

struct config_spool {
    uint64_t shards;
    uint64_t segment_bytes;
    uint64_t reserve_bytes;
};

struct config_queue {
    uint64_t memory_messages; /* 0: all */
};

struct config {
    struct str path; /* of the main file, as given */
    struct str hostname;
    struct str data_dir;
    struct str run_dir;
    struct str user;
    const struct config_server *servers;
    size_t server_count;
    const struct config_connector *connectors;
    size_t connector_count;
    /* What goes through no connector: to mail exchangers, to a `deliver:` or unresolved-recipients host. No name, no policy. */
    struct config_connector default_connector;
    struct config_delivery delivery;
    struct config_dns dns;
    struct config_directory directory;
    struct config_brakes brakes;
    enum config_sandbox sandbox;
    struct config_control control;
    struct config_tracking tracking;
    struct config_session_log session_log;
    struct config_log log;
    struct config_spool spool;
    struct config_queue queue;
    uint64_t loops; /* 0: one for each core */
    const struct policy_model *policy;
    const struct policy_proof *proof; /* who may relay, of `policy` */
};

/* What the machine says; for tests. A NULL `hostname` or `addresses` asks the system. */
struct config_machine {
    const char *hostname;
    const struct cidr_address *addresses; /* for listeners on every address: which those are */
    size_t address_count;
};

/*
 * Reads, checks and builds. 0 and one reference in `*config`; or -1, NULL, and at least one error in `errors`. Warnings
 * come in either case. `machine` may be NULL. Initialise `errors` before and release it after.
 */
int config_load(const struct vfs *vfs, const char *path, const struct config_machine *machine,
                const struct config **config, struct config_errors *errors);
/* The same from text in memory that stands for the file `path` (includes are still read from the vfs). */
int config_load_text(const struct vfs *vfs, const char *path, struct str text, const struct config_machine *machine,
                     const struct config **config, struct config_errors *errors);

/* Where the daemon of this configuration is, for those who only want to talk to it. Heap. */
struct config_places {
    char *data_dir;
    char *run_dir;
};
/* 0, whatever else may be wrong with the configuration, and without opening the other files that it names; -1 and errors where it is no YAML at all. */
int config_load_places(const struct vfs *vfs, const char *path, struct config_places *places,
                       struct config_errors *errors);
void config_places_release(struct config_places *places);

const struct config *config_retain(const struct config *config);
/* The last release frees it; sets the pointer to NULL. NULL is allowed inside. */
void config_release(const struct config **config);

/* NULL: no such server, or connector. */
const struct config_server *config_find_server(const struct config *config, struct str name);
const struct config_connector *config_connector_of(const struct config *config,
                                                   const struct policy_connector *connector);

#endif
