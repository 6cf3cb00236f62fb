/* SPDX-License-Identifier: Apache-2.0 */
/* Every key there is. What stands here is what the man page, the example and the JSON Schema say, to the default. */
#include "config/schema.h"
#include "config/settings.h"

#define COUNT(array)     (sizeof(array) / sizeof((array)[0]))
#define AT(owner, field) .offset = offsetof(struct owner, field)
#define MAP_OF(owner, keys)                                                                                            \
    {                                                                                                                  \
        keys, COUNT(keys), sizeof(struct owner)                                                                        \
    }

#define KIB    ((uint64_t)1 << 10)
#define MIB    ((uint64_t)1 << 20)
#define GIB    ((uint64_t)1 << 30)
#define SECOND ((uint64_t)1000)
#define MINUTE (60 * SECOND)
#define DAY    (1440 * MINUTE)

#define LINE_OCTETS 200

static const char lacks_console[] = "the console";
static const char lacks_metrics[] = "the metrics listener";

/* ---- domains ---- */

static const struct schema_word domain_types[] = {{"local", POLICY_DOMAIN_LOCAL, NULL},
                                                  {"alias", POLICY_DOMAIN_ALIAS, NULL},
                                                  {"allowed", POLICY_DOMAIN_ALLOWED, NULL},
                                                  {0}};

static const struct schema_key domain_keys[] = {
    {"type", SCHEMA_ENUM, AT(settings_domain, type), .is_required = true, .words = domain_types,
     .about = "local: delivered here. alias: another name of a local domain. allowed: taken from anyone and sent on."},
    {"default", SCHEMA_BOOL, AT(settings_domain, is_default), .fallback = "false",
     .about = "The local domain that addresses without a domain belong to; exactly one."},
    {"of", SCHEMA_DOMAIN, AT(settings_domain, of), .about = "The local domain that an alias stands for."},
    {"deliver", SCHEMA_NODE, AT(settings_domain, deliver), .shape = SCHEMA_SHAPE_DELIVER,
     .about =
         "Where a local domain's mail goes: maildir (the default), lmtp:HOST:PORT, lmtp:/SOCKET or smtp:HOST:PORT."},
    {"recipients", SCHEMA_NODE, AT(settings_domain, recipients), .shape = SCHEMA_SHAPE_RECIPIENTS,
     .about =
         "Who exists: any, directory (the default of local domains), or a list of local parts and addresses. Allowed "
         "domains default to any."},
};
static const struct schema_map domain_map = MAP_OF(settings_domain, domain_keys);

/* ---- directory ---- */

static const struct schema_key ldap_keys[] = {
    {"url", SCHEMA_TEXT, AT(settings_ldap, url), .maximum = 4096,
     .about = "ldaps://HOST or ldap://HOST; of several, separated by spaces, the next is asked where one does not "
              "answer."},
    {"start-tls", SCHEMA_BOOL, AT(settings_ldap, start_tls), .fallback = "true",
     .about = "Whether ldap: connections must turn to TLS before anything is said."},
    {"ca-file", SCHEMA_PATH, AT(settings_ldap, ca_file),
     .about = "The authorities that the servers' certificates must come from; by default the system's."},
    {"bind-dn", SCHEMA_TEXT, AT(settings_ldap, bind_dn), .maximum = 4096,
     .about = "The name to bind as; by default nobody's."},
    {"bind-password", SCHEMA_TEXT, AT(settings_ldap, bind_password), .maximum = 4096,
     .about = "The password to bind with."},
    {"bind-password-file", SCHEMA_PATH, AT(settings_ldap, bind_password_file),
     .about = "A file that holds the password."},
    {"base", SCHEMA_TEXT, AT(settings_ldap, base), .maximum = 4096, .about = "Where searches begin."},
    {"user-filter", SCHEMA_TEXT, AT(settings_ldap, user_filter), .maximum = 4096,
     .fallback = "(&(objectClass=person)(|(sAMAccountName=%s)(uid=%s)(userPrincipalName=%s)(mail=%s)))",
     .about = "The filter that finds a user; %s is the name, escaped."},
    {"recipient-filter", SCHEMA_TEXT, AT(settings_ldap, recipient_filter), .maximum = 4096,
     .fallback = "(|(mail=%s)(proxyAddresses=smtp:%s)(mailAlternateAddress=%s))",
     .about = "The filter that finds a recipient; %s is the address, escaped."},
    {"certificate-filter", SCHEMA_TEXT, AT(settings_ldap, certificate_filter), .maximum = 4096, .fallback = "",
     .about = "The filter that finds the user of a client certificate; %s is its SHA-256 in hexadecimal. By default "
              "none does."},
    {"user-attribute", SCHEMA_TEXT, AT(settings_ldap, user_attribute), .fallback = "", .maximum = 256,
     .about = "The attribute with the name that user: entries mean; by default sAMAccountName or uid, what there is."},
    {"group-attribute", SCHEMA_TEXT, AT(settings_ldap, group_attribute), .fallback = "memberOf", .maximum = 256,
     .about = "The attribute that holds a user's groups: names, or distinguished names whose first part is the name."},
    {"address-attributes", SCHEMA_TEXT, .is_list = true, AT(settings_ldap, address_attributes),
     .fallback = "mail proxyAddresses mailAlternateAddress", .maximum = 256, .count_max = 16,
     .about = "The attributes that hold a user's own addresses."},
    {"timeout", SCHEMA_DURATION, AT(settings_ldap, timeout_ms), .fallback = "3s", .minimum = 10, .maximum = MINUTE,
     .about = "How long one server's answer may take."},
};
static const struct schema_map ldap_map = MAP_OF(settings_ldap, ldap_keys);

static const struct schema_key cache_keys[] = {
    {"entries", SCHEMA_INTEGER, AT(settings_cache, entries), .fallback = "100000", .maximum = 10000000,
     .about = "The most answers that are kept; 0: none."},
    {"positive", SCHEMA_DURATION, AT(settings_cache, positive_ms), .fallback = "5m", .maximum = DAY,
     .about = "How long the answer that somebody exists is kept."},
    {"negative", SCHEMA_DURATION, AT(settings_cache, negative_ms), .fallback = "30s", .maximum = DAY,
     .about = "How long the answer that nobody does is kept."},
};
static const struct schema_map cache_map = MAP_OF(settings_cache, cache_keys);

static const struct schema_word directory_backends[] = {{"sqlite", CONFIG_DIRECTORY_SQLITE, NULL},
                                                        {"ldap", CONFIG_DIRECTORY_LDAP, NULL},
                                                        {"file", CONFIG_DIRECTORY_FILE, NULL},
                                                        {0}};

static const struct schema_key directory_keys[] = {
    {"backend", SCHEMA_ENUM, AT(settings_directory, backend), .fallback = "sqlite", .words = directory_backends,
     .about = "Where users, groups and recipients are: sqlite (data-dir/directory.db), ldap or file."},
    {"file", SCHEMA_PATH, AT(settings_directory, file), .about = "The map of the backend file."},
    {"ldap", SCHEMA_MAP, AT(settings_directory, ldap), .map = &ldap_map, .about = "An LDAP directory."},
    {"cache", SCHEMA_MAP, AT(settings_directory, cache), .map = &cache_map, .about = "Answers that are kept."},
    {"timeout", SCHEMA_DURATION, AT(settings_directory, timeout_ms), .fallback = "5s", .minimum = 10, .maximum = MINUTE,
     .about = "How long a question may take in all."},
    {"workers", SCHEMA_INTEGER, AT(settings_directory, workers), .fallback = "8", .minimum = 1, .maximum = 256,
     .about = "Threads that ask it and check passwords."},
};
static const struct schema_map directory_map = MAP_OF(settings_directory, directory_keys);

/* ---- servers ---- */

static const struct schema_key proxy_keys[] = {
    {"from", SCHEMA_NODE, AT(settings_proxy_protocol, from), .shape = SCHEMA_SHAPE_CLIENT_ENTRIES,
     .about = "The proxies' addresses: they must begin with a PROXY header, version 1 or 2; nobody by default."},
};
static const struct schema_map proxy_map = MAP_OF(settings_proxy_protocol, proxy_keys);

static const struct schema_key connect_keys[] = {
    {"only", SCHEMA_NODE, AT(settings_client_rule, only), .shape = SCHEMA_SHAPE_CLIENT_ENTRIES,
     .about = "Only these clients may connect."},
    {"except", SCHEMA_NODE, AT(settings_client_rule, except), .shape = SCHEMA_SHAPE_CLIENT_ENTRIES,
     .about = "Everyone but these clients may connect."},
};
static const struct schema_map connect_map = MAP_OF(settings_client_rule, connect_keys);

static const struct schema_word tls_modes[] = {{"none", CONFIG_TLS_NONE, NULL},
                                               {"starttls", CONFIG_TLS_STARTTLS, NULL},
                                               {"implicit", CONFIG_TLS_IMPLICIT, NULL},
                                               {0}};
static const struct schema_word tls_versions[] = {{"1.0", CONFIG_TLS_1_0, NULL},
                                                  {"1.1", CONFIG_TLS_1_1, NULL},
                                                  {"1.2", CONFIG_TLS_1_2, NULL},
                                                  {"1.3", CONFIG_TLS_1_3, NULL},
                                                  {0}};

static const struct schema_key certificate_keys[] = {
    {"certificate", SCHEMA_PATH, AT(settings_certificate, certificate), .is_required = true,
     .about = "The certificate and its chain, PEM."},
    {"key", SCHEMA_PATH, AT(settings_certificate, key), .is_required = true, .about = "The private key, PEM."},
};
static const struct schema_map certificate_map = MAP_OF(settings_certificate, certificate_keys);

static const struct schema_key tls_keys[] = {
    {"certificate", SCHEMA_PATH, AT(settings_tls, certificate), .about = "The certificate and its chain, PEM."},
    {"key", SCHEMA_PATH, AT(settings_tls, key), .about = "The private key, PEM."},
    {"names", SCHEMA_NAMED, AT(settings_tls, names), .map = &certificate_map, .names = SCHEMA_SHAPE_DOMAINS,
     .about = "Other certificates, by the host name that a client asks for (SNI), which may be a wildcard."},
    {"mode", SCHEMA_ENUM, AT(settings_tls, mode), .fallback = "none", .words = tls_modes,
     .about = "Whether TLS is offered, begins at once, or neither."},
    {"required", SCHEMA_BOOL, AT(settings_tls, required), .fallback = "false",
     .about = "Whether mail without TLS is refused."},
    {"minimum-version", SCHEMA_ENUM, AT(settings_tls, version_min), .fallback = "1.2", .words = tls_versions,
     .about =
         "The oldest version that is spoken. Below 1.2 only for devices that know no better: what they send can be "
         "read and changed by whoever is determined to."},
    {"client-certificates", SCHEMA_BOOL, AT(settings_tls, client_certificates), .fallback = "false",
     .about = "Whether clients are asked for a certificate, for cert: entries and EXTERNAL."},
};
static const struct schema_map tls_map = MAP_OF(settings_tls, tls_keys);

static const struct schema_key auth_keys[] = {
    {"mechanisms", SCHEMA_TEXT, .is_list = true, AT(settings_auth, mechanisms), .maximum = 64, .count_max = 16,
     .about =
         "The SASL mechanisms that are offered: PLAIN, LOGIN, SCRAM-SHA-256, SCRAM-SHA-256-PLUS, GSSAPI, EXTERNAL."},
    {"require-tls", SCHEMA_BOOL, AT(settings_auth, require_tls), .fallback = "true",
     .about = "Whether authentication needs TLS."},
    {"keytab", SCHEMA_PATH, AT(settings_auth, keytab),
     .about = "The Kerberos keys of GSSAPI; by default the system's keytab."},
    {"realm", SCHEMA_TEXT, AT(settings_auth, realm), .fallback = "", .maximum = 256,
     .about = "The Kerberos realm whose principals are users by their bare names."},
};
static const struct schema_map auth_map = MAP_OF(settings_auth, auth_keys);

static const struct schema_key relay_keys[] = {
    {"only", SCHEMA_NODE, AT(settings_client_rule, only), .shape = SCHEMA_SHAPE_CLIENT_ENTRIES,
     .about = "Only these clients may relay without authenticating; by default nobody."},
    {"except", SCHEMA_NODE, AT(settings_client_rule, except), .shape = SCHEMA_SHAPE_CLIENT_ENTRIES,
     .about = "Everyone but these clients may relay: an open relay for all who are not listed."},
    {"authenticated", SCHEMA_BOOL, AT(settings_client_rule, authenticated), .fallback = "true",
     .about = "Whether whoever has authenticated may relay."},
};
static const struct schema_map relay_map = MAP_OF(settings_client_rule, relay_keys);

static const struct schema_key permission_keys[] = {
    {"allow", SCHEMA_NODE, AT(settings_permission, allow), .shape = SCHEMA_SHAPE_USER_ENTRIES,
     .about = "Users and groups that may."},
    {"deny", SCHEMA_NODE, AT(settings_permission, deny), .shape = SCHEMA_SHAPE_USER_ENTRIES,
     .about = "Users and groups that may not; deny wins."},
};
static const struct schema_map permission_map = MAP_OF(settings_permission, permission_keys);

static const struct schema_key permissions_keys[] = {
    {"submit", SCHEMA_MAP, AT(settings_permissions, submit), .map = &permission_map,
     .about = "Who, once authenticated, may send at all. An empty allow list lets everyone."},
    {"relay", SCHEMA_MAP, AT(settings_permissions, relay), .map = &permission_map,
     .about = "Who, once authenticated, may relay."},
};
static const struct schema_map permissions_map = MAP_OF(settings_permissions, permissions_keys);

static const struct schema_word lookups[] = {
    {"after-accept", POLICY_LOOKUP_AFTER_ACCEPT, NULL}, {"at-rcpt", POLICY_LOOKUP_AT_RCPT, NULL}, {0}};

static const struct schema_key recipients_keys[] = {
    {"lookup", SCHEMA_ENUM, AT(settings_recipients, lookup), .fallback = "after-accept", .words = lookups,
     .about = "Whether an unknown recipient is reported after the message was taken, or refused at RCPT."},
};
static const struct schema_map recipients_map = MAP_OF(settings_recipients, recipients_keys);

#define LIMIT(field) AT(settings_limits, limits.field)

static const struct schema_key limits_keys[] = {
    {"message-size", SCHEMA_SIZE, LIMIT(message_bytes_max), .fallback = "36MiB", .minimum = KIB, .maximum = 1024 * GIB,
     .about = "The largest message."},
    {"recipients", SCHEMA_INTEGER, LIMIT(recipients_max), .fallback = "1000", .minimum = 1, .maximum = 100000,
     .about = "The most recipients of one message."},
    {"connections", SCHEMA_INTEGER, LIMIT(connections_max), .fallback = "20000", .minimum = 1, .maximum = 1000000,
     .about = "The most connections at a time."},
    {"connections-per-client", SCHEMA_INTEGER, LIMIT(connections_per_client_max), .fallback = "100", .minimum = 1,
     .maximum = 1000000, .about = "The most connections at a time from one address."},
    {"idle-timeout", SCHEMA_DURATION, LIMIT(idle_timeout_ms), .fallback = "5m", .minimum = 100, .maximum = DAY,
     .about = "How long a client may keep the server waiting."},
    {"messages-per-connection", SCHEMA_INTEGER, LIMIT(messages_per_connection_max), .fallback = "0",
     .maximum = 1000000000, .about = "The most messages over one connection; 0 is no limit."},
    {"errors", SCHEMA_INTEGER, LIMIT(errors_max), .fallback = "10", .minimum = 1, .maximum = 1000000,
     .about = "How many errors end the session."},
    {"unknown-recipients", SCHEMA_INTEGER, LIMIT(unknown_recipients_max), .fallback = "100", .maximum = 1000000,
     .about = "How many unknown recipients end the session; 0 is no limit."},
    {"received-hops", SCHEMA_INTEGER, LIMIT(received_hops_max), .fallback = "100", .minimum = 1, .maximum = 10000,
     .about = "More Received lines than this are a mail loop."},
};
static const struct schema_map limits_map = MAP_OF(settings_limits, limits_keys);

static const struct schema_word sender_matches[] = {
    {"off", POLICY_SENDER_MATCH_OFF, NULL},
    {"envelope", POLICY_SENDER_MATCH_ENVELOPE, NULL},
    {"envelope-and-header", POLICY_SENDER_MATCH_ENVELOPE_AND_HEADER, NULL},
    {0}};
static const struct schema_word accept_reject[] = {{"accept", true, NULL}, {"reject", false, NULL}, {0}};
static const struct schema_word bare_newlines[] = {
    {"reject", CONFIG_BARE_NEWLINE_REJECT, NULL}, {"normalize", CONFIG_BARE_NEWLINE_NORMALIZE, NULL}, {0}};

static const struct schema_key server_keys[] = {
    {"listen", SCHEMA_LISTEN, .is_list = true, AT(settings_server, listen), .is_required = true, .count_min = 1,
     .count_max = 100, .about = "The addresses and ports to listen on; port 0 is any free one."},
    {"banner", SCHEMA_TEXT, AT(settings_server, banner), .fallback = "Postern ESMTP", .maximum = LINE_OCTETS,
     .about = "What the greeting says between the host's name and the date."},
    {"addresses", SCHEMA_ADDRESS, .is_list = true, AT(settings_server, addresses), .count_max = 1000,
     .about = "The server's own addresses behind NAT, beside those it listens on."},
    {"proxy-protocol", SCHEMA_MAP, AT(settings_server, proxy_protocol), .map = &proxy_map,
     .about = "Load balancers that tell the client's address."},
    {"etrn", SCHEMA_NODE, AT(settings_server, etrn), .shape = SCHEMA_SHAPE_CLIENT_ENTRIES,
     .about =
         "The addresses of clients that may have queued mail for a domain tried at once (ETRN); nobody by default."},
    {"anonymous", SCHEMA_BOOL, AT(settings_server, anonymous), .fallback = "true",
     .about = "Whether clients that have not authenticated may send."},
    {"connect", SCHEMA_MAP, AT(settings_server, connect), .map = &connect_map,
     .about = "Who may connect; without it everyone."},
    {"tls", SCHEMA_MAP, AT(settings_server, tls), .map = &tls_map, .about = "TLS towards clients."},
    {"auth", SCHEMA_MAP, AT(settings_server, auth), .map = &auth_map, .about = "How clients authenticate."},
    {"relay", SCHEMA_MAP, AT(settings_server, relay), .map = &relay_map,
     .about = "Who may relay to domains that are not this host's; by default nobody who has not authenticated."},
    {"permissions", SCHEMA_MAP, AT(settings_server, permissions), .map = &permissions_map,
     .about = "What users and groups may do."},
    {"recipients", SCHEMA_MAP, AT(settings_server, recipients), .map = &recipients_map,
     .about = "When recipients are looked up."},
    {"sender-match", SCHEMA_ENUM, AT(settings_server, sender_match), .fallback = "off", .words = sender_matches,
     .about = "Whether an authenticated user may send under its own addresses only."},
    {"anonymous-local-sender", SCHEMA_ENUM, AT(settings_server, anonymous_local_sender), .fallback = "accept",
     .words = accept_reject, .about = "Whether clients that have not authenticated may send as a local domain."},
    {"bare-newline", SCHEMA_ENUM, AT(settings_server, bare_newline), .fallback = "reject", .words = bare_newlines,
     .about = "What becomes of a message with a bare CR or LF."},
    {"tarpit", SCHEMA_DURATION, AT(settings_server, tarpit_ms), .fallback = "0s", .maximum = 10 * MINUTE,
     .about = "How long refusals are held back from strangers."},
    {"limits", SCHEMA_MAP, AT(settings_server, limits), .map = &limits_map, .about = "Bounds on what clients may do."},
    {"allow-open-relay", SCHEMA_TEXT, AT(settings_server, allow_open_relay), .fallback = "", .maximum = 1000,
     .about = "The reason, in words, why this server may be an open relay."},
};
static const struct schema_map server_map = MAP_OF(settings_server, server_keys);

/* ---- connectors ---- */

static const struct schema_word routes[] = {{"dns", 0, NULL}, {0}};
static const struct schema_word connector_tls[] = {
    {"none", CONFIG_CONNECTOR_TLS_NONE, NULL},         {"may", CONFIG_CONNECTOR_TLS_MAY, NULL},
    {"required", CONFIG_CONNECTOR_TLS_REQUIRED, NULL}, {"verify", CONFIG_CONNECTOR_TLS_VERIFY, NULL},
    {"dane", CONFIG_CONNECTOR_TLS_DANE, NULL},         {0}};

static const struct schema_key connector_auth_keys[] = {
    {"user", SCHEMA_TEXT, AT(settings_connector_auth, user), .maximum = 256, .about = "The user to authenticate as."},
    {"password", SCHEMA_TEXT, AT(settings_connector_auth, password), .maximum = 1024, .about = "Its password."},
    {"password-file", SCHEMA_PATH, AT(settings_connector_auth, password_file),
     .about = "A file that holds its password."},
    {"mechanisms", SCHEMA_TEXT, .is_list = true, AT(settings_connector_auth, mechanisms), .maximum = 64, .count_min = 1,
     .count_max = 16, .fallback = "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN",
     .about = "The SASL mechanisms that may be used; of those that the server offers the strongest is."},
    {"without-tls", SCHEMA_BOOL, AT(settings_connector_auth, without_tls), .fallback = "false",
     .about = "Whether the password may be sent over a connection without TLS."},
};
static const struct schema_map connector_auth_map = MAP_OF(settings_connector_auth, connector_auth_keys);

static const struct schema_key timeouts_keys[] = {
    {"connect", SCHEMA_DURATION, AT(settings_timeouts, timeouts.connect_ms), .fallback = "30s", .minimum = 100,
     .maximum = DAY, .about = "How long connecting may take."},
    {"command", SCHEMA_DURATION, AT(settings_timeouts, timeouts.command_ms), .fallback = "5m", .minimum = 100,
     .maximum = DAY, .about = "How long a reply to a command may take."},
    {"data", SCHEMA_DURATION, AT(settings_timeouts, timeouts.data_ms), .fallback = "10m", .minimum = 100,
     .maximum = DAY, .about = "How long the reply to a message may take."},
    {"unreachable", SCHEMA_DURATION, AT(settings_timeouts, timeouts.unreachable_ms), .fallback = "1m", .minimum = 100,
     .maximum = DAY, .about = "How long a host that could not be reached is passed over where there are others."},
};
const struct schema_map schema_timeouts = MAP_OF(settings_timeouts, timeouts_keys);

static const struct schema_key connector_keys[] = {
    {"address-spaces", SCHEMA_NODE, AT(settings_connector, address_spaces), .is_required = true,
     .shape = SCHEMA_SHAPE_ADDRESS_SPACES,
     .about =
         "The domains it is for: \"*\", \"*.NAME\", NAME, or { domain: ..., cost: N }. The most specific wins, then "
         "the lowest cost (default 1)."},
    {"route", SCHEMA_ENUM, AT(settings_connector, route), .fallback = "dns", .words = routes,
     .about = "Where mail goes without smart hosts: to the mail exchangers that the DNS names."},
    {"smart-hosts", SCHEMA_SMART_HOST, .is_list = true, AT(settings_connector, smart_hosts), .count_max = 100,
     .about = "Hosts to hand all mail to, tried in this order; a bracketed or numeric address skips MX."},
    {"port", SCHEMA_INTEGER, AT(settings_connector, port), .fallback = "25", .minimum = 1, .maximum = 65535,
     .about = "The port of the mail exchangers that the DNS names."},
    {"mx-networks", SCHEMA_TEXT, .is_list = true, AT(settings_connector, mx_networks), .maximum = 64, .count_max = 100,
     .about = "Networks that the DNS may lead mail to although they are loopback, link-local, multicast or reserved."},
    {"masquerade", SCHEMA_DOMAIN, AT(settings_connector, masquerade), .fallback = "",
     .about = "The domain that stands in place of our local ones in senders' addresses, of mail that began here."},
    {"allow-relay", SCHEMA_BOOL, AT(settings_connector, allow_relay), .fallback = "false",
     .about = "true overrides every server's relay restrictions for these domains."},
    {"servers", SCHEMA_TEXT, .is_list = true, AT(settings_connector, servers), .maximum = 64, .count_max = 1000,
     .about = "Only mail that came in through these servers; by default all."},
    {"tls", SCHEMA_ENUM, AT(settings_connector, tls), .fallback = "may", .words = connector_tls,
     .about = "Whether TLS is tried, or required and how far its certificate is checked."},
    {"implicit-tls", SCHEMA_BOOL, AT(settings_connector, implicit_tls), .fallback = "false",
     .about = "Whether connections begin with TLS, as on port 465, instead of with STARTTLS."},
    {"ca-file", SCHEMA_PATH, AT(settings_connector, ca_file),
     .about = "The authorities that tls: verify trusts; by default the system's."},
    {"auth", SCHEMA_MAP, AT(settings_connector, auth), .map = &connector_auth_map, .about = "How to authenticate."},
    {"source-address", SCHEMA_ADDRESS, AT(settings_connector, source_address), .fallback = "",
     .about = "The address to connect from; by default the system chooses."},
    {"helo-name", SCHEMA_DOMAIN, AT(settings_connector, helo_name), .fallback = "",
     .about = "The name to greet with; by default hostname."},
    {"timeouts", SCHEMA_MAP, AT(settings_connector, timeouts), .map = &schema_timeouts, .about = "How long to wait."},
};
static const struct schema_map connector_map = MAP_OF(settings_connector, connector_keys);

/* ---- delivery ---- */

static const struct schema_word ndr_returns[] = {
    {"headers", CONFIG_NDR_RETURN_HEADERS, NULL}, {"full", CONFIG_NDR_RETURN_FULL, NULL}, {0}};

static const struct schema_key ndr_keys[] = {
    {"copy-to", SCHEMA_TEXT, AT(settings_ndr, copy_to), .fallback = "", .maximum = 254,
     .about = "A mailbox that gets a copy of every report."},
    {"return", SCHEMA_ENUM, AT(settings_ndr, return_content), .fallback = "headers", .words = ndr_returns,
     .about = "How much of the message a report returns."},
    {"rate-per-domain", SCHEMA_RATE, AT(settings_ndr, rate_per_domain), .fallback = "60/m",
     .about = "The most reports to one domain."},
    {"rate", SCHEMA_RATE, AT(settings_ndr, rate), .fallback = "600/m", .about = "The most reports in all."},
};
static const struct schema_map ndr_map = MAP_OF(settings_ndr, ndr_keys);

static const struct schema_key delivery_keys[] = {
    {"retry", SCHEMA_DURATION, .is_list = true, AT(settings_delivery, retry), .fallback = "15m 30m 60m 240m",
     .minimum = 100, .maximum = 60 * DAY, .count_min = 1, .count_max = 100,
     .about = "The waits between attempts; the last one repeats."},
    {"expire", SCHEMA_DURATION, AT(settings_delivery, expire_ms), .fallback = "2d", .minimum = SECOND,
     .maximum = 60 * DAY, .about = "After this time what is not delivered is reported."},
    {"delay-notice", SCHEMA_DURATION, AT(settings_delivery, delay_notice_ms), .fallback = "12h", .maximum = 60 * DAY,
     .about = "After this time the sender is told of the delay; 0s: never."},
    {"concurrency-per-destination", SCHEMA_INTEGER, AT(settings_delivery, concurrency_per_destination),
     .fallback = "20", .minimum = 1, .maximum = 10000, .about = "The most connections to one destination."},
    {"unresolved-recipients-host", SCHEMA_SMART_HOST, AT(settings_delivery, unresolved_recipients_host), .fallback = "",
     .about = "A host that gets the mail for unknown local recipients, instead of a report to the sender."},
    {"ndr", SCHEMA_MAP, AT(settings_delivery, ndr), .map = &ndr_map, .about = "Non-delivery reports."},
    {"workers", SCHEMA_INTEGER, AT(settings_delivery, workers), .fallback = "8", .minimum = 1, .maximum = 256,
     .about = "Threads for what blocks: Maildirs and stored messages."},
};
static const struct schema_map delivery_map = MAP_OF(settings_delivery, delivery_keys);

/* ---- the rest ---- */

static const struct schema_word dnssec_words[] = {
    {"auto", CONFIG_DNSSEC_AUTO, NULL}, {"on", CONFIG_DNSSEC_ON, NULL}, {"off", CONFIG_DNSSEC_OFF, NULL}, {0}};

static const struct schema_key dns_keys[] = {
    {"resolver", SCHEMA_TEXT, AT(settings_dns, resolver), .fallback = "", .maximum = 64,
     .about = "ADDRESS or ADDRESS@PORT of the resolver to ask; by default those of /etc/resolv.conf."},
    {"timeout", SCHEMA_DURATION, AT(settings_dns, timeout_ms), .fallback = "5s", .minimum = 10, .maximum = MINUTE,
     .about =
         "How long finding a client's verified host name may take in all, and one answer on the way of a message."},
    {"dnssec", SCHEMA_ENUM, AT(settings_dns, dnssec), .fallback = "auto", .words = dnssec_words,
     .about = "Whether answers are validated: auto is where the trust anchor is installed and no resolver is named."},
    {"trust-anchor", SCHEMA_PATH, AT(settings_dns, trust_anchor),
     .about = "The trust anchor to validate with; by default the root's, /usr/share/dns/root.key."},
    {"received-names", SCHEMA_BOOL, AT(settings_dns, received_names), .fallback = "false",
     .about = "Whether host names are looked up for the Received lines even where no domain: entry needs them."},
};
static const struct schema_map dns_map = MAP_OF(settings_dns, dns_keys);

static const struct schema_key brakes_keys[] = {
    {"failures-per-client", SCHEMA_INTEGER, AT(settings_brakes, brakes.failures_per_client), .fallback = "10",
     .maximum = 1000000, .about = "Failed authentications from one address before it is locked out; 0 is no limit."},
    {"failures-per-network", SCHEMA_INTEGER, AT(settings_brakes, brakes.failures_per_network), .fallback = "50",
     .maximum = 1000000, .about = "The same for an IPv4 /24 or an IPv6 /64."},
    {"failures-per-user", SCHEMA_INTEGER, AT(settings_brakes, brakes.failures_per_user), .fallback = "50",
     .maximum = 1000000, .about = "The same for a user's name, from wherever."},
    {"window", SCHEMA_DURATION, AT(settings_brakes, brakes.window_ms), .fallback = "10m", .minimum = SECOND,
     .maximum = 7 * DAY, .about = "How long a failure is remembered."},
    {"lock", SCHEMA_DURATION, AT(settings_brakes, brakes.lock_ms), .fallback = "15m", .minimum = SECOND,
     .maximum = 7 * DAY, .about = "How long a lock lasts."},
};
static const struct schema_map brakes_map = MAP_OF(settings_brakes, brakes_keys);

static const struct schema_word sandbox_words[] = {{"auto", CONFIG_SANDBOX_AUTO, NULL},
                                                   {"required", CONFIG_SANDBOX_REQUIRED, NULL},
                                                   {"off", CONFIG_SANDBOX_OFF, NULL},
                                                   {0}};

static const struct schema_key control_keys[] = {
    {"socket-group", SCHEMA_TEXT, AT(settings_control, socket_group), .fallback = "", .maximum = 64,
     .about = "The group that may use the control socket, beside root and the daemon's user; read at start."},
};
static const struct schema_map control_map = MAP_OF(settings_control, control_keys);

static const struct schema_key tracking_keys[] = {
    {"enabled", SCHEMA_BOOL, AT(settings_tracking, enabled), .fallback = "true",
     .about = "Whether a record of every message is kept in data-dir/tracking, for postern track and why."},
    {"refusals", SCHEMA_BOOL, AT(settings_tracking, refusals), .fallback = "true",
     .about = "Whether that has what was refused, too."},
    {"keep", SCHEMA_DURATION, AT(settings_tracking, keep_ms), .fallback = "30d", .minimum = DAY, .maximum = 3660 * DAY,
     .about = "How long its files are kept."},
    {"size", SCHEMA_SIZE, AT(settings_tracking, bytes_max), .fallback = "4GiB", .minimum = 4 * MIB,
     .maximum = 16384 * GIB, .about = "How large all its files may be together; beyond that the oldest are removed."},
};
static const struct schema_map tracking_map = MAP_OF(settings_tracking, tracking_keys);

static const struct schema_word session_log_formats[] = {
    {"none", CONFIG_SESSION_LOG_NONE, NULL}, {"w3c", CONFIG_SESSION_LOG_W3C, NULL}, {0}};

static const struct schema_key session_log_keys[] = {
    {"format", SCHEMA_ENUM, AT(settings_session_log, format), .fallback = "none", .words = session_log_formats,
     .about = "w3c: the extended log file format, with the fields of the IIS SMTP service."},
    {"directory", SCHEMA_PATH, AT(settings_session_log, directory),
     .about = "Where its files are, exYYMMDD.log; by default data-dir/session-log."},
    {"keep", SCHEMA_DURATION, AT(settings_session_log, keep_ms), .fallback = "30d", .minimum = DAY,
     .maximum = 3660 * DAY, .about = "How long its files are kept."},
    {"size", SCHEMA_SIZE, AT(settings_session_log, bytes_max), .fallback = "4GiB", .minimum = 4 * MIB,
     .maximum = 16384 * GIB, .about = "How large all its files may be together; beyond that the oldest are removed."},
};
static const struct schema_map session_log_map = MAP_OF(settings_session_log, session_log_keys);

static const struct schema_key console_keys[] = {
    {"listen", SCHEMA_TEXT, AT(settings_endpoint, listen), .fallback = "", .maximum = 64, .unavailable = lacks_console,
     .about = "The address and port of the console."},
};
static const struct schema_map console_map = MAP_OF(settings_endpoint, console_keys);

static const struct schema_key metrics_keys[] = {
    {"listen", SCHEMA_TEXT, AT(settings_endpoint, listen), .fallback = "", .maximum = 64, .unavailable = lacks_metrics,
     .about = "The address and port of the metrics."},
};
static const struct schema_map metrics_map = MAP_OF(settings_endpoint, metrics_keys);

static const struct schema_word log_formats[] = {{"text", CONFIG_LOG_TEXT, NULL}, {"json", CONFIG_LOG_JSON, NULL}, {0}};
static const struct schema_word log_levels[] = {{"debug", LOG_LEVEL_DEBUG, NULL},
                                                {"info", LOG_LEVEL_INFO, NULL},
                                                {"warning", LOG_LEVEL_WARNING, NULL},
                                                {"error", LOG_LEVEL_ERROR, NULL},
                                                {0}};

static const struct schema_key log_keys[] = {
    {"format", SCHEMA_ENUM, AT(settings_log, format), .fallback = "text", .words = log_formats,
     .about = "Lines of text, or JSON objects."},
    {"level", SCHEMA_ENUM, AT(settings_log, level), .fallback = "info", .words = log_levels,
     .about = "The least important lines that are written."},
    {"to", SCHEMA_TEXT, AT(settings_log, to), .fallback = "stderr", .maximum = 4096,
     .about = "stderr, or the absolute path of a file."},
};
static const struct schema_map log_map = MAP_OF(settings_log, log_keys);

static const struct schema_key spool_keys[] = {
    {"shards", SCHEMA_INTEGER, AT(settings_spool, spool.shards), .fallback = "1", .minimum = 1, .maximum = 64,
     .about = "Logs that are written side by side, each with a thread of its own."},
    {"segment-size", SCHEMA_SIZE, AT(settings_spool, spool.segment_bytes), .fallback = "64MiB", .minimum = MIB,
     .maximum = GIB, .about = "The size of one file of the log."},
    {"reserve", SCHEMA_SIZE, AT(settings_spool, spool.reserve_bytes), .fallback = "16MiB", .maximum = 1024 * GIB,
     .about = "Disk space that new mail may not use, so that what is queued can be finished."},
};
static const struct schema_map spool_map = MAP_OF(settings_spool, spool_keys);

static const struct schema_key queue_keys[] = {
    {"memory-messages", SCHEMA_INTEGER, AT(settings_queue, queue.memory_messages), .fallback = "500000",
     .maximum = 100000000,
     .about = "With more messages than this under way, senders and recipients of those that wait are on the disk "
              "alone; 0: never."},
};
static const struct schema_map queue_map = MAP_OF(settings_queue, queue_keys);

static const struct schema_key root_keys[] = {
    {"include", SCHEMA_NODE, AT(settings, include), .shape = SCHEMA_SHAPE_INCLUDE,
     .about = "Files to merge in, relative to this one; the last part may have wildcards."},
    {"hostname", SCHEMA_DOMAIN, AT(settings, hostname), .fallback = "",
     .about = "This host's name; by default the system's fully qualified one."},
    {"data-dir", SCHEMA_PATH, AT(settings, data_dir), .fallback = "/var/lib/postern", .minimum = 1,
     .about = "Where spool, drop and badmail are. One daemon each."},
    {"run-dir", SCHEMA_PATH, AT(settings, run_dir), .fallback = "/run/postern", .minimum = 1,
     .about = "Where the running daemon's files are."},
    {"user", SCHEMA_TEXT, AT(settings, user), .fallback = "postern", .minimum = 1, .maximum = 32,
     .about = "Who to become after binding the ports, when started as root."},
    {"domains", SCHEMA_NAMED, AT(settings, domains), .map = &domain_map, .names = SCHEMA_SHAPE_DOMAINS,
     .about = "The domains that mail is taken for. Exact names beat wildcards, a longer wildcard beats a shorter."},
    {"directory", SCHEMA_MAP, AT(settings, directory), .map = &directory_map, .about = "Users, groups and recipients."},
    {"lists", SCHEMA_NAMED, AT(settings, lists), .shape = SCHEMA_SHAPE_CLIENT_LIST, .names = SCHEMA_SHAPE_NAMES,
     .about = "Named client entries, for list:NAME; or { file: PATH } with one entry a line and # comments."},
    {"servers", SCHEMA_NAMED, AT(settings, servers), .is_required = true, .map = &server_map,
     .names = SCHEMA_SHAPE_NAMES, .about = "SMTP virtual servers: each has its own addresses and its own policy."},
    {"connectors", SCHEMA_NAMED, AT(settings, connectors), .map = &connector_map, .names = SCHEMA_SHAPE_NAMES,
     .about = "Routes to other hosts."},
    {"delivery", SCHEMA_MAP, AT(settings, delivery), .map = &delivery_map,
     .about = "How mail is delivered and reported."},
    {"dns", SCHEMA_MAP, AT(settings, dns), .map = &dns_map, .about = "Name resolution."},
    {"auth-brakes", SCHEMA_MAP, AT(settings, brakes), .map = &brakes_map,
     .about = "What stops those who guess passwords."},
    {"sandbox", SCHEMA_ENUM, AT(settings, sandbox), .fallback = "auto", .words = sandbox_words,
     .about = "Whether the daemon locks itself in (seccomp, Landlock): as far as the kernel can, or not without."},
    {"control", SCHEMA_MAP, AT(settings, control), .map = &control_map, .about = "The control socket."},
    {"tracking", SCHEMA_MAP, AT(settings, tracking), .map = &tracking_map, .about = "The record of every message."},
    {"session-log", SCHEMA_MAP, AT(settings, session_log), .map = &session_log_map,
     .about = "A log of each command of the SMTP sessions."},
    {"console", SCHEMA_MAP, AT(settings, console), .map = &console_map, .about = "The browser console."},
    {"metrics", SCHEMA_MAP, AT(settings, metrics), .map = &metrics_map, .about = "Prometheus metrics."},
    {"log", SCHEMA_MAP, AT(settings, log), .map = &log_map, .about = "The daemon's log."},
    {"loops", SCHEMA_INTEGER, AT(settings, loops), .fallback = "0", .maximum = 256,
     .about = "Threads that serve connections; 0: one for each core."},
    {"spool", SCHEMA_MAP, AT(settings, spool), .map = &spool_map, .about = "The durable store of messages under way."},
    {"queue", SCHEMA_MAP, AT(settings, queue), .map = &queue_map, .about = "The messages under way, in memory."},
};

const struct schema_map schema_root = MAP_OF(settings, root_keys);
