/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/ldap_entry.h"

#include <ldap.h>

const char *const ldap_entry_name_attributes[] = {"sAMAccountName", "uid", NULL};
const char *const ldap_entry_disabled_attributes[] = {"userAccountControl", "nsAccountLock", "pwdAccountLockedTime",
                                                      NULL};

/* Active Directory's userAccountControl, ADS_UF_ACCOUNTDISABLE. */
#define ACCOUNT_IS_DISABLED 2u

const struct ldap_attribute *ldap_entry_find(const struct ldap_entry *entry, struct str name)
{
    for (size_t i = 0; i < entry->attribute_count; i++)
        if (str_equal_nocase(entry->attributes[i].name, name))
            return &entry->attributes[i];
    return NULL;
}

/* ---- values ---- */

bool ldap_value_is_clean(struct str value)
{
    if (value.length == 0 || value.length > LDAP_VALUE_BYTES_MAX)
        return false;
    for (size_t i = 0; i < value.length; i++)
        if ((unsigned char)value.data[i] < ' ' || value.data[i] == 0x7f)
            return false;
    return true;
}

/* The value of a DN's first part; empty if `text` is no DN, or if that is no text. */
static struct str first_part(struct str text, bool *is_name, char out[LDAP_VALUE_BYTES_MAX])
{
    struct berval bytes = {text.length, (char *)(uintptr_t)text.data};
    struct str value = {0};
    LDAPDN dn = NULL;

    *is_name = str_find(text, '=') != STR_NONE && ldap_bv2dn(&bytes, &dn, LDAP_DN_FORMAT_LDAPV3) == LDAP_SUCCESS &&
               dn && dn[0] && dn[0][0];
    if (*is_name && !(dn[0][0]->la_flags & LDAP_AVA_BINARY) && dn[0][0]->la_value.bv_len <= LDAP_VALUE_BYTES_MAX) {
        value = str_make(out, dn[0][0]->la_value.bv_len);
        if (value.length > 0)
            memcpy(out, dn[0][0]->la_value.bv_val, value.length);
    }
    ldap_dnfree(dn);
    return value;
}

struct str ldap_value_group(struct str value, char out[LDAP_VALUE_BYTES_MAX])
{
    bool is_name = false;
    struct str first;

    if (!ldap_value_is_clean(value))
        return STR("");
    first = first_part(value, &is_name, out);
    if (!is_name)
        return value;
    return ldap_value_is_clean(first) ? first : STR("");
}

struct str ldap_value_address(struct str value)
{
    size_t kind = 0;

    if (!ldap_value_is_clean(value))
        return STR("");
    while (kind < value.length && (ascii_is_alpha(value.data[kind]) || ascii_is_digit(value.data[kind])))
        kind++;
    if (kind < value.length && value.data[kind] == ':') {
        if (!str_equal_nocase(str_take(value, kind), STR("smtp")))
            return STR("");
        value = str_skip(value, kind + 1);
    }
    return str_find(value, '@') != STR_NONE ? value : STR("");
}

/* ---- a user ---- */

static struct str first_clean_value(const struct ldap_entry *entry, struct str name)
{
    const struct ldap_attribute *attribute = ldap_entry_find(entry, name);

    for (size_t i = 0; attribute && i < attribute->value_count; i++)
        if (ldap_value_is_clean(attribute->values[i]))
            return attribute->values[i];
    return STR("");
}

struct str ldap_entry_name(const struct ldap_entry *entry, const struct config_ldap *config)
{
    struct str name = STR("");

    if (config->user_attribute.length > 0)
        return first_clean_value(entry, config->user_attribute);
    for (size_t i = 0; name.length == 0 && ldap_entry_name_attributes[i]; i++)
        name = first_clean_value(entry, str_from_cstr(ldap_entry_name_attributes[i]));
    return name;
}

static void describe_groups(const struct ldap_attribute *attribute, struct directory_found *found)
{
    char out[LDAP_VALUE_BYTES_MAX];

    found->groups_unknown = attribute->is_range || found->groups_unknown;
    for (size_t i = 0; i < attribute->value_count && !found->fault; i++) {
        const struct str group = ldap_value_group(attribute->values[i], out);

        if (group.length > 0)
            directory_found_add_group(found, group);
    }
}

static void describe_addresses(const struct ldap_attribute *attribute, struct directory_found *found)
{
    for (size_t i = 0; i < attribute->value_count && !found->fault; i++) {
        const struct str address = ldap_value_address(attribute->values[i]);

        if (address.length > 0)
            directory_found_add_address(found, address);
    }
}

bool ldap_entry_is_disabled(const struct ldap_entry *entry)
{
    const struct str control = first_clean_value(entry, STR("userAccountControl"));
    uint64_t flags;

    /* A number that can't be read says nothing good. */
    if (control.length > 0 && (!str_to_u64(control, &flags) || (flags & ACCOUNT_IS_DISABLED)))
        return true;
    /* draft-behera-ldap-password-policy: this time means locked until an administrator unlocks it. */
    return str_equal_nocase(first_clean_value(entry, STR("nsAccountLock")), STR("true")) ||
           str_equal(first_clean_value(entry, STR("pwdAccountLockedTime")), STR("000001010000Z"));
}

bool ldap_entry_describe(const struct ldap_entry *entry, const struct config_ldap *config,
                         struct directory_found *found)
{
    const struct str name = ldap_entry_name(entry, config);
    const struct ldap_attribute *attribute;

    if (name.length == 0)
        return false;
    directory_found_set_name(found, name);
    found->is_disabled = ldap_entry_is_disabled(entry);
    attribute = ldap_entry_find(entry, config->group_attribute);
    if (attribute)
        describe_groups(attribute, found);
    for (size_t i = 0; i < config->address_attribute_count; i++) {
        attribute = ldap_entry_find(entry, config->address_attributes[i]);
        if (attribute)
            describe_addresses(attribute, found);
    }
    return true;
}
