/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ldap_entry: what a search found, apart from the connection it came by, and what it says of a user. Directories hold what people typed over
 * decades: a value with control characters is passed over, and one that is no address is no address. Pure, any thread.
 */
#ifndef POSTERN_DIRECTORY_LDAP_ENTRY_H
#define POSTERN_DIRECTORY_LDAP_ENTRY_H

#include "directory/directory_private.h"

/* Of one value; a longer one is passed over. A DN of a group may be long. */
#define LDAP_VALUE_BYTES_MAX 4096

struct ldap_attribute {
    struct str name; /* without options */
    bool is_range;   /* the server gave only the first values (Active Directory's ;range=0-1499) */
    struct str *values;
    size_t value_count;
};

struct ldap_entry {
    struct str dn;
    struct ldap_attribute *attributes;
    size_t attribute_count;
};

/* Names compare without case. NULL: it has none. */
const struct ldap_attribute *ldap_entry_find(const struct ldap_entry *entry, struct str name);

/* The name that policies know: the first value of user-attribute, or without one of sAMAccountName or uid. Empty: it has none. */
struct str ldap_entry_name(const struct ldap_entry *entry, const struct config_ldap *config);
/*
 * Puts name, groups and addresses into `found`, and whether the account is disabled. false: the entry has no name, so that no rule could mean it.
 *
 * Groups that stand in groups are not looked up: only what the attribute says counts (in Active Directory neither nested groups nor the primary
 * one). If the server gave only some of the values, the groups are unknown.
 */
bool ldap_entry_describe(const struct ldap_entry *entry, const struct config_ldap *config,
                         struct directory_found *found);
/* Whether the account is switched off, as Active Directory, 389 Directory Server and OpenLDAP's password policy say it. For those who sign in
 * without a bind. */
bool ldap_entry_is_disabled(const struct ldap_entry *entry);

/* A group's name is the value, or where the value is a distinguished name the value of its first part, unescaped: "CN=staff,OU=groups" is
 * "staff". Points into `value`, or into `out`. Empty: it is none (control characters, or a first part that is no text). */
struct str ldap_value_group(struct str value, char out[LDAP_VALUE_BYTES_MAX]);
/* An address of mail, or of proxyAddresses without its "SMTP:". Empty: another kind of address, or none. */
struct str ldap_value_address(struct str value);
/* At least one octet, at most LDAP_VALUE_BYTES_MAX, none a control character. */
bool ldap_value_is_clean(struct str value);

/* Attributes to ask for, beside those of the configuration. NULL ends them. */
extern const char *const ldap_entry_name_attributes[];
extern const char *const ldap_entry_disabled_attributes[];

#endif
