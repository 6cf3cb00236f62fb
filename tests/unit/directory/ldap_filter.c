/* SPDX-License-Identifier: Apache-2.0 */
/* LDAP filters. If these break, whoever sends mail or signs in can ask the directory for somebody else, or for everybody. */
#include "directory/ldap_filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void check_made(const char *template, struct str value, const char *expected)
{
    struct error error = {0};
    struct buf out;

    if (ldap_filter_check(str_from_cstr(template), &error) != 0)
        fail_msg("%s: %s", template, error.text);
    buf_init(&out, 4096);
    ldap_filter_append(&out, str_from_cstr(template), value);
    buf_append_char(&out, '\0');
    assert_string_equal(out.data, expected);
    buf_release(&out);
}

/* What is special in a filter must never come out of a value as itself. */
static void test_escaping(void **state)
{
    (void)state;
    check_made("(uid=%s)", STR("alice"), "(uid=alice)");
    check_made("(uid=%s)", STR("*"), "(uid=\\2a)");
    check_made("(uid=%s)", STR("*)(uid=*"), "(uid=\\2a\\29\\28uid\\3d\\2a)");
    check_made("(uid=%s)", STR("a\0b"), "(uid=a\\00b)");
    check_made("(uid=%s)", STR("a\\2ab"), "(uid=a\\5c2ab)");
    check_made("(uid=%s)", STR("M\xc3\xbcller &|!~<>%s"), "(uid=M\\c3\\bcller\\20\\26\\7c\\21\\7e\\3c\\3e\\25s)");
    check_made("(mail=%s)", STR("A.b-c_d+e@contoso.test"), "(mail=A.b-c_d+e@contoso.test)");
}

static void test_places(void **state)
{
    (void)state;
    check_made("(|(mail=%s)(proxyAddresses=smtp:%s))", STR("a@b"), "(|(mail=a@b)(proxyAddresses=smtp:a@b))");
    check_made("(cn=100%% %s)", STR("x"), "(cn=100% x)");
    check_made("(cn=*%s*)", STR("x"), "(cn=*x*)");
}

/* Administrators' own filters, Active Directory's matching rules among them. */
static void test_right_templates(void **state)
{
    static const char *const right[] = {
        "(&(objectClass=person)(|(sAMAccountName=%s)(uid=%s)(userPrincipalName=%s)(mail=%s)))",
        "(|(mail=%s)(proxyAddresses=smtp:%s)(mailAlternateAddress=%s))",
        "(&(uid=%s)(!(userAccountControl:1.2.840.113556.1.4.803:=2)))",
        "(&(uid=%s)(memberOf:1.2.840.113556.1.4.1941:=CN=mail\\2c users,DC=contoso,DC=test))",
        "(&(uid=%s)(cn:caseExactMatch:=x)(ou:dn:=staff)(:dn:2.4.6.8.10:=y)(2.5.4.3=z)(cn;lang-de=w))",
        "(& (uid=%s)\n (pwdChanged>=2020) (pwdChanged<=2030) (cn~=x) )",
        "(!(!(uid=%s)))",
    };
    struct error error = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++)
        if (ldap_filter_check(str_from_cstr(right[i]), &error) != 0)
            fail_msg("%s: %s", right[i], error.text);
}

/* Each must be told when the configuration is loaded, not by a server with the first mail. */
static void test_wrong_templates(void **state)
{
    static const char *const wrong[] = {
        "",
        "uid=%s",
        "(uid=%s",
        "(uid=%s))",
        "()",
        "(&)",
        "(!(uid=%s)(cn=x))",
        "(uid=x)",
        "(uid%s)",
        "(%s=x)",
        "(uid=%d)",
        "(uid=%s)(cn=x)",
        "(uid=%",
        "(uid=%)",
        "(uid=(%s))",
        "(uid=\\zz%s)",
        "(uid=\\2)%s",
        "(uid=**%s)",
        "(uid>=*%s)",
        "(cn:=*)(uid=%s)",
        "(uid;=%s)",
        "(1..2=%s)",
        "(01.2=%s)",
        "(:=%s)",
        "(:dn:=%s)",
        "(cn:rule=%s)",
        "(=%s)",
        "(uid =%s)",
        "(uid~%s)",
        "(uid=%s) x",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct error error = {0};

        if (ldap_filter_check(str_from_cstr(wrong[i]), &error) == 0)
            fail_msg("taken: %s", wrong[i]);
        assert_true(error.text[0] != '\0');
    }
}

static void check_nested(unsigned depth, bool is_right)
{
    struct error error = {0};
    struct buf text;

    buf_init(&text, 4096);
    for (unsigned i = 1; i < depth; i++)
        buf_append_str(&text, STR("(!"));
    buf_append_str(&text, STR("(uid=%s)"));
    for (unsigned i = 1; i < depth; i++)
        buf_append_char(&text, ')');
    assert_int_equal(ldap_filter_check(buf_str(&text), &error), is_right ? 0 : -1);
    buf_release(&text);
}

static void check_places(unsigned count, bool is_right)
{
    struct error error = {0};
    struct buf text;

    buf_init(&text, 4096);
    buf_append_str(&text, STR("(uid="));
    for (unsigned i = 0; i < count; i++)
        buf_append_str(&text, STR("%s"));
    buf_append_char(&text, ')');
    assert_int_equal(ldap_filter_check(buf_str(&text), &error), is_right ? 0 : -1);
    buf_release(&text);
}

/* Without them a template could exhaust the stack, or a filter grow past all measure. */
static void test_bounds(void **state)
{
    static char longest[LDAP_FILTER_TEMPLATE_BYTES_MAX + 1];
    const struct str head = STR("(uid=%s");
    struct error error = {0};

    (void)state;
    check_nested(LDAP_FILTER_DEPTH_MAX, true);
    check_nested(LDAP_FILTER_DEPTH_MAX + 1, false);
    check_places(LDAP_FILTER_PLACES_MAX, true);
    check_places(LDAP_FILTER_PLACES_MAX + 1, false);
    memset(longest, 'x', sizeof(longest));
    memcpy(longest, head.data, head.length);
    longest[sizeof(longest) - 2] = ')';
    assert_int_equal(ldap_filter_check(str_make(longest, sizeof(longest) - 1), &error), 0);
    longest[sizeof(longest) - 2] = 'x';
    longest[sizeof(longest) - 1] = ')';
    assert_int_equal(ldap_filter_check(str_make(longest, sizeof(longest)), &error), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_escaping),        cmocka_unit_test(test_places), cmocka_unit_test(test_right_templates),
        cmocka_unit_test(test_wrong_templates), cmocka_unit_test(test_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
