/* SPDX-License-Identifier: Apache-2.0 */
/* What an LDAP entry says of a user. If these break, rules name the wrong groups, and senders are taken for others. */
#include "directory/ldap_entry.h"

#include "directory/answer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void check_group(struct str value, const char *expected)
{
    char out[LDAP_VALUE_BYTES_MAX];
    const struct str group = ldap_value_group(value, out);

    if (!str_equal(group, str_from_cstr(expected)))
        fail_msg("%.*s: %.*s", STR_ARG(value), STR_ARG(group));
}

static void test_group_names(void **state)
{
    (void)state;
    check_group(STR("staff"), "staff");
    check_group(STR("CN=staff,OU=groups,DC=contoso,DC=test"), "staff");
    check_group(STR("cn=Smith\\, friends of,ou=groups"), "Smith, friends of");
    check_group(STR("cn=M\\C3\\BCller,ou=groups"), "M\xc3\xbcller");
    check_group(STR("cn=two+uid=parts,ou=groups"), "two");
    check_group(STR("cn=  inner space  ,ou=x"), "inner space");
    check_group(STR("a = b = c, that is no name"), "a = b = c, that is no name");
    /* No text, no name: a group that somebody deleted while it was replicated, a value in BER. */
    check_group(STR("CN=staff\\0ACNF:1f2e,OU=groups"), "");
    check_group(STR("cn=a\\00b,ou=x"), "");
    check_group(STR("1.2.3=#04024869,ou=x"), "");
    check_group(STR("staff\nadmins"), "");
    check_group(STR("staff\0"), "");
    check_group(STR(""), "");
}

static void check_address(struct str value, const char *expected)
{
    const struct str address = ldap_value_address(value);

    if (!str_equal(address, str_from_cstr(expected)))
        fail_msg("%.*s: %.*s", STR_ARG(value), STR_ARG(address));
}

static void test_addresses(void **state)
{
    (void)state;
    check_address(STR("alice@contoso.test"), "alice@contoso.test");
    check_address(STR("SMTP:Alice@contoso.test"), "Alice@contoso.test");
    check_address(STR("smtp:a.smith@contoso.test"), "a.smith@contoso.test");
    check_address(STR("sip:alice@contoso.test"), "");
    check_address(STR("x500:/o=contoso/cn=alice@x"), "");
    check_address(STR("EUM:12345@contoso.test;phone-context=x"), "");
    check_address(STR("\"smtp:x\"@contoso.test"), "\"smtp:x\"@contoso.test");
    check_address(STR("alice"), "");
    check_address(STR("smtp:"), "");
    check_address(STR("a\0@contoso.test"), "");
    check_address(STR("a\r\n@contoso.test"), "");
}

#define VALUES(...) (struct str[]){__VA_ARGS__}, sizeof((struct str[]){__VA_ARGS__}) / sizeof(struct str)

static const struct str address_attributes[] = {STR_INIT("mail"), STR_INIT("proxyAddresses")};
static const struct config_ldap standard = {
    .group_attribute = STR_INIT("memberOf"), .address_attributes = address_attributes, .address_attribute_count = 2};

static void check_strings(const struct directory_strings *list, const char *expected)
{
    struct buf text;

    buf_init(&text, 4096);
    for (size_t i = 0; i < list->count; i++)
        buf_printf(&text, "%.*s;", STR_ARG(list->items[i]));
    buf_append_char(&text, '\0');
    assert_string_equal(text.data, expected);
    buf_release(&text);
}

static void test_user(void **state)
{
    struct ldap_attribute attributes[] = {
        {STR("UID"), false, VALUES(STR("alice"), STR("al"))},
        {STR("userAccountControl"), false, VALUES(STR("512"))},
        {STR("memberof"), false, VALUES(STR("CN=staff,DC=x"), STR("bad\x01"), STR("plain"))},
        {STR("mail"), false, VALUES(STR("Alice@contoso.test"))},
        {STR("proxyAddresses"), false,
         VALUES(STR("SMTP:alice@contoso.test"), STR("smtp:a@contoso.test"), STR("sip:b@contoso.test"))},
    };
    const struct ldap_entry entry = {STR("uid=alice,dc=x"), attributes, sizeof(attributes) / sizeof(attributes[0])};
    struct directory_found found;

    (void)state;
    directory_found_init(&found);
    assert_true(ldap_entry_describe(&entry, &standard, &found));
    assert_true(str_equal(found.name, STR("alice")));
    check_strings(&found.groups, "staff;plain;");
    check_strings(&found.addresses, "alice@contoso.test;a@contoso.test;");
    assert_false(found.groups_unknown);
    assert_false(found.is_disabled);
    assert_null(found.fault);
    directory_found_release(&found);
}

/* The name decides which rules hold: it comes from the attribute that is meant, or the user is nobody. */
static void test_name(void **state)
{
    struct ldap_attribute attributes[] = {
        {STR("uid"), false, VALUES(STR("alice"))},
        {STR("sAMAccountName"), false, VALUES(STR("ALICE1"))},
    };
    const struct ldap_entry both = {STR("x"), attributes, 2}, one = {STR("x"), attributes, 1},
                            none = {STR("x"), NULL, 0};
    const struct config_ldap other = {.user_attribute = STR_INIT("mail")}, named = {.user_attribute = STR_INIT("UID")};
    struct directory_found found;

    (void)state;
    assert_true(str_equal(ldap_entry_name(&both, &standard), STR("ALICE1")));
    assert_true(str_equal(ldap_entry_name(&one, &standard), STR("alice")));
    assert_true(str_equal(ldap_entry_name(&both, &named), STR("alice")));
    assert_true(str_is_empty(ldap_entry_name(&none, &standard)));
    directory_found_init(&found);
    assert_false(ldap_entry_describe(&both, &other, &found));
    directory_found_release(&found);
}

/* Active Directory gives the first 1500 values and keeps the rest: a deny rule for a group among these must not be missed. */
static void test_groups_cut_off(void **state)
{
    struct ldap_attribute attributes[] = {
        {STR("uid"), false, VALUES(STR("alice"))},
        {STR("memberOf"), true, VALUES(STR("CN=staff,DC=x"))},
    };
    const struct ldap_entry entry = {STR("x"), attributes, 2};
    struct directory_found found;

    (void)state;
    directory_found_init(&found);
    assert_true(ldap_entry_describe(&entry, &standard, &found));
    assert_true(found.groups_unknown);
    directory_found_release(&found);
}

static bool is_disabled(struct str attribute, struct str value)
{
    struct ldap_attribute attributes[] = {{attribute, false, &value, 1}};
    const struct ldap_entry entry = {STR("x"), attributes, 1};

    return ldap_entry_is_disabled(&entry);
}

static void test_disabled(void **state)
{
    (void)state;
    assert_false(is_disabled(STR("userAccountControl"), STR("512")));
    assert_true(is_disabled(STR("userAccountControl"), STR("514")));
    assert_true(is_disabled(STR("userAccountControl"), STR("odd")));
    assert_true(is_disabled(STR("nsAccountLock"), STR("TRUE")));
    assert_false(is_disabled(STR("nsAccountLock"), STR("false")));
    assert_true(is_disabled(STR("pwdAccountLockedTime"), STR("000001010000Z")));
    assert_false(is_disabled(STR("pwdAccountLockedTime"), STR("20260101000000Z")));
    assert_false(is_disabled(STR("uid"), STR("alice")));
}

static void test_clean_at_the_bound(void **state)
{
    static char longest[LDAP_VALUE_BYTES_MAX + 1];

    (void)state;
    memset(longest, 'x', sizeof(longest));
    assert_true(ldap_value_is_clean(str_make(longest, LDAP_VALUE_BYTES_MAX)));
    assert_false(ldap_value_is_clean(str_make(longest, LDAP_VALUE_BYTES_MAX + 1)));
    assert_false(ldap_value_is_clean(STR("\x7f")));
    assert_true(ldap_value_is_clean(STR("M\xc3\xbcller")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_group_names),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_user),
        cmocka_unit_test(test_name),
        cmocka_unit_test(test_groups_cut_off),
        cmocka_unit_test(test_disabled),
        cmocka_unit_test(test_clean_at_the_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
