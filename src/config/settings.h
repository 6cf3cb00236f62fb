/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings: the configuration as the schema reads it, before references are followed and the policy model is built. Field by field
 * what interfaces.md section 2 lists. Lives as long as the tree that it was read from.
 */
#ifndef POSTERN_CONFIG_SETTINGS_H
#define POSTERN_CONFIG_SETTINGS_H

#include "config/schema.h"

struct settings_domain {
    struct schema_named named;
    int type; /* enum policy_domain_type */
    bool is_default;
    struct str of;
    const struct config_node *deliver;
    const struct config_node *recipients;
};

/* connect, relay */
struct settings_client_rule {
    struct schema_map_head head;
    const struct config_node *only;
    const struct config_node *except;
    bool authenticated; /* relay */
};

struct settings_permission {
    struct schema_map_head head;
    const struct config_node *allow;
    const struct config_node *deny;
};

struct settings_permissions {
    struct schema_map_head head;
    struct settings_permission submit;
    struct settings_permission relay;
};

struct settings_proxy_protocol {
    struct schema_map_head head;
    const struct config_node *from;
};

struct settings_certificate {
    struct schema_named named;
    struct str certificate;
    struct str key;
};

struct settings_tls {
    struct schema_map_head head;
    struct str certificate;
    struct str key;
    struct schema_list names; /* struct settings_certificate */
    int mode;                 /* enum config_tls_mode */
    bool required;
    int version_min; /* enum config_tls_version */
    bool client_certificates;
};

struct settings_auth {
    struct schema_map_head head;
    struct schema_list mechanisms; /* struct str */
    bool require_tls;
    struct str keytab;
    struct str realm;
};

struct settings_recipients {
    struct schema_map_head head;
    int lookup; /* enum policy_lookup */
};

struct settings_limits {
    struct schema_map_head head;
    struct config_limits limits;
};

struct settings_server {
    struct schema_named named;
    struct schema_list listen; /* struct config_listen */
    struct str banner;
    struct schema_list addresses; /* struct schema_address */
    struct settings_proxy_protocol proxy_protocol;
    const struct config_node *etrn;
    bool anonymous;
    struct settings_client_rule connect;
    struct settings_tls tls;
    struct settings_auth auth;
    struct settings_client_rule relay;
    struct settings_permissions permissions;
    struct settings_recipients recipients;
    int sender_match; /* enum policy_sender_match */
    int anonymous_local_sender;
    int bare_newline; /* enum config_bare_newline */
    uint64_t tarpit_ms;
    struct settings_limits limits;
    struct str allow_open_relay;
};

struct settings_timeouts {
    struct schema_map_head head;
    struct config_timeouts timeouts;
};

struct settings_connector_auth {
    struct schema_map_head head;
    struct str user;
    struct str password;
    struct str password_file;
    struct schema_list mechanisms; /* struct str */
    bool without_tls;
};

struct settings_connector {
    struct schema_named named;
    const struct config_node *address_spaces;
    int route;
    struct schema_list smart_hosts; /* struct config_smart_host */
    uint64_t port;
    struct schema_list mx_networks; /* struct str */
    struct str masquerade;
    bool allow_relay;
    struct schema_list servers; /* struct str */
    int tls;                    /* enum config_connector_tls */
    bool implicit_tls;
    struct str ca_file;
    struct settings_connector_auth auth;
    struct schema_address source_address;
    struct str helo_name;
    struct settings_timeouts timeouts;
};

struct settings_ndr {
    struct schema_map_head head;
    struct str copy_to;
    int return_content; /* enum config_ndr_return */
    struct config_rate rate_per_domain;
    struct config_rate rate;
};

struct settings_delivery {
    struct schema_map_head head;
    struct schema_list retry; /* uint64_t */
    uint64_t expire_ms;
    uint64_t delay_notice_ms;
    uint64_t concurrency_per_destination;
    struct config_smart_host unresolved_recipients_host;
    struct settings_ndr ndr;
    uint64_t workers;
};

struct settings_ldap {
    struct schema_map_head head;
    struct str url; /* separated by spaces */
    bool start_tls;
    struct str ca_file;
    struct str bind_dn;
    struct str bind_password;
    struct str bind_password_file;
    struct str base;
    struct str user_filter;
    struct str recipient_filter;
    struct str certificate_filter;
    struct str user_attribute;
    struct str group_attribute;
    struct schema_list address_attributes; /* struct str */
    uint64_t timeout_ms;
};

struct settings_cache {
    struct schema_map_head head;
    uint64_t entries;
    uint64_t positive_ms;
    uint64_t negative_ms;
};

struct settings_brakes {
    struct schema_map_head head;
    struct config_brakes brakes;
};

struct settings_directory {
    struct schema_map_head head;
    int backend; /* enum config_directory_backend */
    struct str file;
    struct settings_ldap ldap;
    struct settings_cache cache;
    uint64_t timeout_ms;
    uint64_t workers;
};

struct settings_dns {
    struct schema_map_head head;
    struct str resolver;
    uint64_t timeout_ms;
    int dnssec; /* enum config_dnssec */
    struct str trust_anchor;
    bool received_names;
};

struct settings_control {
    struct schema_map_head head;
    struct str socket_group;
};

struct settings_tracking {
    struct schema_map_head head;
    bool enabled;
    bool refusals;
    uint64_t keep_ms;
    uint64_t bytes_max;
};

struct settings_session_log {
    struct schema_map_head head;
    int format; /* enum config_session_log_format */
    struct str directory;
    uint64_t keep_ms;
    uint64_t bytes_max;
};

/* console, metrics */
struct settings_endpoint {
    struct schema_map_head head;
    struct str listen;
};

struct settings_log {
    struct schema_map_head head;
    int format; /* enum config_log_format */
    int level;  /* enum log_level */
    struct str to;
};

struct settings_spool {
    struct schema_map_head head;
    struct config_spool spool;
};

struct settings_queue {
    struct schema_map_head head;
    struct config_queue queue;
};

struct settings {
    struct schema_map_head head;
    const struct config_node *include; /* done with before the schema sees it */
    struct str hostname;
    struct str data_dir;
    struct str run_dir;
    struct str user;
    struct schema_list domains; /* struct settings_domain */
    struct settings_directory directory;
    struct schema_list lists;      /* struct schema_named */
    struct schema_list servers;    /* struct settings_server */
    struct schema_list connectors; /* struct settings_connector */
    struct settings_delivery delivery;
    struct settings_dns dns;
    struct settings_brakes brakes;
    int sandbox; /* enum config_sandbox */
    struct settings_control control;
    struct settings_tracking tracking;
    struct settings_session_log session_log;
    struct settings_endpoint console;
    struct settings_endpoint metrics;
    struct settings_log log;
    uint64_t loops;
    struct settings_spool spool;
    struct settings_queue queue;
};

#endif
