/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters are sent on as they came: what is let through here the next server has to take. */
#include "mail/dsn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void assert_xtext(const char *in, const char *expected)
{
    struct buf out;

    buf_init(&out, 256);
    assert_int_equal(dsn_xtext_decode(&out, str_from_cstr(in)), expected != NULL);
    if (expected)
        assert_true(str_equal(buf_str(&out), str_from_cstr(expected)));
    assert_int_equal(dsn_xtext_decode(NULL, str_from_cstr(in)), expected != NULL);
    buf_release(&out);
}

static void test_xtext(void **state)
{
    struct buf out;

    (void)state;
    assert_xtext("plain", "plain");
    assert_xtext("a+2Bb+3d", "a+b=");
    assert_xtext("", "");
    assert_xtext("+2", NULL);
    assert_xtext("+", NULL);
    assert_xtext("+2G", NULL);
    assert_xtext("a b", NULL);
    assert_xtext("a=b", NULL);
    assert_xtext("a\xc3\xbc", NULL);
    buf_init(&out, 256);
    dsn_xtext_encode(&out, STR("a+b=c d\n\xff"));
    assert_true(str_equal(buf_str(&out), STR("a+2Bb+3Dc+20d+0A+FF")));
    buf_release(&out);
    buf_init(&out, 2);
    assert_false(dsn_xtext_decode(&out, STR("abc")));
    buf_release(&out);
}

static void test_return(void **state)
{
    enum dsn_return ret;

    (void)state;
    assert_true(dsn_parse_return(STR("full"), &ret) && ret == DSN_RETURN_FULL);
    assert_true(dsn_parse_return(STR("HDRS"), &ret) && ret == DSN_RETURN_HEADERS);
    assert_false(dsn_parse_return(STR("BODY"), &ret));
    assert_false(dsn_parse_return(STR(""), &ret));
}

static void assert_notify(const char *value, int expected)
{
    unsigned flags;
    const bool ok = dsn_parse_notify(str_from_cstr(value), &flags);

    assert_int_equal(ok, expected >= 0);
    if (ok)
        assert_int_equal(flags, expected);
}

static void test_notify(void **state)
{
    (void)state;
    assert_notify("NEVER", DSN_NOTIFY_NEVER);
    assert_notify("success,Failure", DSN_NOTIFY_SUCCESS | DSN_NOTIFY_FAILURE);
    assert_notify("DELAY,FAILURE,SUCCESS", DSN_NOTIFY_DELAY | DSN_NOTIFY_SUCCESS | DSN_NOTIFY_FAILURE);
    assert_notify("NEVER,SUCCESS", -1); /* RFC 3461 4.1: NEVER stands alone */
    assert_notify("", -1);
    assert_notify("SUCCESS,", -1);
    assert_notify(",SUCCESS", -1);
    assert_notify("SOMETIMES", -1);
}

static void test_envid(void **state)
{
    char text[DSN_ENVID_OCTETS_MAX + 1];

    (void)state;
    memset(text, 'a', sizeof(text));
    assert_true(dsn_is_envid(STR("QQ314159+2B")));
    assert_false(dsn_is_envid(STR("")));
    assert_false(dsn_is_envid(STR("a+zz")));
    assert_true(dsn_is_envid(str_make(text, DSN_ENVID_OCTETS_MAX)));
    assert_false(dsn_is_envid(str_make(text, DSN_ENVID_OCTETS_MAX + 1)));
}

static void assert_orcpt(const char *value, const char *type_expected, const char *address)
{
    struct buf out;
    struct str type;

    buf_init(&out, 1024);
    assert_int_equal(dsn_is_orcpt(str_from_cstr(value)), address != NULL);
    assert_int_equal(dsn_orcpt_decode(&out, str_from_cstr(value), &type), address != NULL);
    if (address) {
        assert_true(str_equal(type, str_from_cstr(type_expected)));
        assert_true(str_equal(buf_str(&out), str_from_cstr(address)));
    }
    buf_release(&out);
}

static void test_orcpt(void **state)
{
    char text[DSN_ORCPT_OCTETS_MAX + 2];

    (void)state;
    assert_orcpt("rfc822;bob+2Bx@example.org", "rfc822", "bob+x@example.org");
    assert_orcpt("x400;+2FC=", "x400", NULL);
    assert_orcpt("utf-8;j\\x{F6}rg@example.org", "utf-8", "j\xc3\xb6rg@example.org");
    assert_orcpt("UTF-8;j\xc3\xb6rg@example.org", "UTF-8", "j\xc3\xb6rg@example.org");
    assert_orcpt("utf-8;\\x{1F4E7}@x", "utf-8", "\xf0\x9f\x93\xa7@x");
    assert_orcpt("utf-8;\\x{2B}@x", "utf-8", "+@x");
    assert_orcpt("utf-8;a b@x", "utf-8", NULL);
    assert_orcpt("utf-8;\\x{2G}@x", "utf-8", NULL);
    assert_orcpt("utf-8;\\x{20AC}@x", "utf-8", "\xe2\x82\xac@x");
    assert_orcpt("utf-8;\\x{D800}@x", "utf-8", NULL);
    assert_orcpt("utf-8;\\x{110000}@x", "utf-8", NULL);
    assert_orcpt("utf-8;\\x{1234567}@x", "utf-8", NULL);
    assert_orcpt("utf-8;\\x{F}@x", "utf-8", NULL);
    assert_orcpt("utf-8;\\x{F6@x", "utf-8", NULL);
    assert_orcpt("utf-8;\\y@x", "utf-8", NULL);
    assert_orcpt("utf-8;\\", "utf-8", NULL);
    assert_orcpt("utf-8;\xff@x", "utf-8", NULL);
    assert_orcpt("rfc822;j\xc3\xb6rg@x", "rfc822", NULL);
    assert_orcpt("rfc822;", "rfc822", NULL);
    assert_orcpt(";a@b", "", NULL);
    assert_orcpt("rfc822", "", NULL);
    assert_orcpt("rf c;a@b", "", NULL);
    memset(text, 'a', sizeof(text));
    memcpy(text, "rfc822;", 7);
    assert_true(dsn_is_orcpt(str_make(text, DSN_ORCPT_OCTETS_MAX)));
    assert_false(dsn_is_orcpt(str_make(text, DSN_ORCPT_OCTETS_MAX + 1)));
}

/* What is put in for a sender that has given none must be readable to whoever gets it, whatever the address is made of. */
static void test_orcpt_encode(void **state)
{
    static const struct {
        const char *address, *orcpt;
    } cases[] = {
        {"bob@example.org", "rfc822;bob@example.org"},
        {"a+b=c@example.org", "rfc822;a+2Bb+3Dc@example.org"},
        {"\"a b\"@example.org", "rfc822;\"a+20b\"@example.org"},
        {"gr\xc3\xbc\xc3\x9f"
         "e@example.org",
         "utf-8;gr\\x{FC}\\x{DF}e@example.org"},
        {"a+\\ \xf0\x9f\x93\xa7@x.test", "utf-8;a\\x{2B}\\x{5C}\\x{20}\\x{1F4E7}@x.test"},
    };
    struct buf encoded, decoded;
    struct str type;
    char long_address[DSN_ORCPT_OCTETS_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        buf_init(&encoded, 1000);
        buf_init(&decoded, 1000);
        assert_true(dsn_orcpt_encode(&encoded, str_from_cstr(cases[i].address)));
        assert_true(str_equal(buf_str(&encoded), str_from_cstr(cases[i].orcpt)));
        assert_true(dsn_orcpt_decode(&decoded, buf_str(&encoded), &type));
        assert_true(str_equal(buf_str(&decoded), str_from_cstr(cases[i].address)));
        buf_release(&encoded);
        buf_release(&decoded);
    }
    memset(long_address, 'x', sizeof(long_address));
    buf_init(&encoded, 10000);
    assert_true(dsn_orcpt_encode(&encoded, str_make(long_address, DSN_ORCPT_OCTETS_MAX - 7)));
    buf_clear(&encoded);
    assert_false(dsn_orcpt_encode(&encoded, str_make(long_address, DSN_ORCPT_OCTETS_MAX - 6)));
    buf_release(&encoded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xtext), cmocka_unit_test(test_return), cmocka_unit_test(test_notify),
        cmocka_unit_test(test_envid), cmocka_unit_test(test_orcpt),  cmocka_unit_test(test_orcpt_encode),
    };

    return cmocka_run_group_tests_name("mail/dsn", tests, NULL, NULL);
}
