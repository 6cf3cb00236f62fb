/* SPDX-License-Identifier: Apache-2.0 */
/* relay-behaviour section 3, row by row. An address that is taken for another one is how relays get abused: see each test. */
#include "mail/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define L              "contoso.test"
#define DEFAULT_DOMAIN STR(L)

static void assert_str(struct str actual, const char *expected)
{
    assert_int_equal(actual.length, strlen(expected));
    if (actual.length > 0)
        assert_memory_equal(actual.data, expected, actual.length);
}

/* A copy that ends where the text ends, so that the sanitizer sees a read past it. */
static struct str exact_copy(struct str text)
{
    char *copy = malloc(text.length > 0 ? text.length : 1);

    assert_non_null(copy);
    if (text.length > 0)
        memcpy(copy, text.data, text.length);
    return str_make(copy, text.length);
}

static bool parse(struct address *a, struct str path)
{
    const struct str copy = exact_copy(path);
    const bool ok = address_parse(a, copy, DEFAULT_DOMAIN);

    memset((char *)(uintptr_t)copy.data, 'X', copy.length); /* the structure holds everything */
    free((void *)(uintptr_t)copy.data);
    return ok;
}

/* Parses it bare, in brackets, and as the argument of a command: all mean the same. */
static void assert_address(const char *path, const char *text, const char *local, const char *domain,
                           enum address_domain_kind kind)
{
    char variants[3][700];

    snprintf(variants[0], sizeof(variants[0]), "%s", path);
    snprintf(variants[1], sizeof(variants[1]), "<%s>", path);
    snprintf(variants[2], sizeof(variants[2]), "  %s ", path);
    for (size_t i = 0; i < 3; i++) {
        struct address a;
        struct address again;

        assert_true(parse(&a, str_from_cstr(variants[i])));
        assert_str(address_text(&a), text);
        assert_str(address_local(&a), local);
        assert_str(address_domain(&a), domain);
        assert_int_equal(a.domain_kind, kind);
        assert_false(a.is_null);
        assert_true(address_parse_stored(&again, address_text(&a)));
        assert_true(address_equal(&a, &again));
        assert_str(address_text(&again), text);
    }
}

static void assert_invalid(struct str path)
{
    struct address a;
    struct str rest;
    char bracketed[1024];
    const struct str copy = exact_copy(path);

    assert_false(parse(&a, path));
    assert_false(address_parse_path(&a, copy, DEFAULT_DOMAIN, &rest) && str_is_empty(rest));
    free((void *)(uintptr_t)copy.data);
    bracketed[0] = '<';
    memcpy(bracketed + 1, path.data, path.length);
    bracketed[path.length + 1] = '>';
    if (path.length > 0 && path.data[0] != '<')
        assert_false(parse(&a, str_make(bracketed, path.length + 2)));
}

/* Clients leave out the brackets, or write a space: they are to be served. */
static void test_plain_addresses(void **state)
{
    (void)state;
    assert_address("user@dom.example", "user@dom.example", "user", "dom.example", ADDRESS_DOMAIN_NAME);
    assert_address("User.Name@DOM.Example", "User.Name@DOM.Example", "User.Name", "dom.example", ADDRESS_DOMAIN_NAME);
    assert_address("user@dom.example.", "user@dom.example.", "user", "dom.example", ADDRESS_DOMAIN_NAME);
    assert_address("a+b=c/d!e#$%&'*?^_`{|}~-@x", "a+b=c/d!e#$%&'*?^_`{|}~-@x", "a+b=c/d!e#$%&'*?^_`{|}~-", "x",
                   ADDRESS_DOMAIN_NAME);
    assert_address(".a..b.@x", ".a..b.@x", ".a..b.", "x", ADDRESS_DOMAIN_NAME);
}

static void test_null_sender(void **state)
{
    struct address a;

    (void)state;
    assert_true(parse(&a, STR("<>")));
    assert_true(a.is_null);
    assert_str(address_text(&a), "<>");
    assert_str(address_local(&a), "");
    assert_str(address_local_text(&a), "");
    assert_str(address_domain(&a), "");
    assert_int_equal(a.domain_kind, ADDRESS_DOMAIN_NONE);
    assert_false(a.is_unqualified);
    assert_true(address_parse_stored(&a, STR("<>")));
    assert_true(a.is_null);
    assert_invalid(STR("< >"));
    assert_invalid(STR(""));
}

/* The classic attempts to have a relay take the local part for a route. The domain must be the default one, whatever the local
 * part looks like. */
static void test_unqualified_addresses(void **state)
{
    struct address a;

    (void)state;
    assert_address("alice", "alice@" L, "alice", L, ADDRESS_DOMAIN_NAME);
    assert_address("user%X.example", "user%X.example@" L, "user%X.example", L, ADDRESS_DOMAIN_NAME);
    assert_address("X.example!user", "X.example!user@" L, "X.example!user", L, ADDRESS_DOMAIN_NAME);
    assert_address("\"user@X.example\"", "\"user@X.example\"@" L, "user@X.example", L, ADDRESS_DOMAIN_NAME);
    assert_true(parse(&a, STR("v%example.net")));
    assert_true(a.is_unqualified);
    assert_true(parse(&a, STR("v@example.net")));
    assert_false(a.is_unqualified);
    assert_address("u%X@H.example", "u%X@H.example", "u%X", "h.example", ADDRESS_DOMAIN_NAME);
    assert_address("\"u@X\"@H.example", "\"u@X\"@H.example", "u@X", "h.example", ADDRESS_DOMAIN_NAME);
    assert_address("X!u@[192.0.2.1]", "X!u@[192.0.2.1]", "X!u", "[192.0.2.1]", ADDRESS_DOMAIN_IPV4);
}

/* A server without any local domain: the address stays as it is, and the caller sees that it has no domain. */
static void test_no_default_domain(void **state)
{
    struct address a;

    (void)state;
    assert_true(address_parse(&a, STR("<alice>"), (struct str){0}));
    assert_true(a.is_unqualified);
    assert_int_equal(a.domain_kind, ADDRESS_DOMAIN_NONE);
    assert_str(address_text(&a), "alice");
    assert_false(a.is_null);
}

static void test_postmaster(void **state)
{
    struct address a;

    (void)state;
    assert_true(parse(&a, STR("<PostMaster>")));
    assert_true(address_is_postmaster(&a));
    assert_true(a.is_unqualified);
    assert_str(address_text(&a), "PostMaster@" L);
    assert_true(parse(&a, STR("<\"postmaster\"@x.example>")));
    assert_true(address_is_postmaster(&a));
    assert_true(parse(&a, STR("<postmaster1>")));
    assert_false(address_is_postmaster(&a));
    assert_true(parse(&a, STR("<>")));
    assert_false(address_is_postmaster(&a));
}

/* A route that was followed would relay through whoever is named in it. */
static void test_source_routes_are_dropped(void **state)
{
    (void)state;
    assert_address("@a.example,@b.example:user@X.example", "user@X.example", "user", "x.example", ADDRESS_DOMAIN_NAME);
    assert_address("@H:u@X.example", "u@X.example", "u", "x.example", ADDRESS_DOMAIN_NAME);
    assert_address("@[192.0.2.1]:u@X.example", "u@X.example", "u", "x.example", ADDRESS_DOMAIN_NAME);
    assert_address("@[IPv6:2001:db8::1],@b:u@X.example", "u@X.example", "u", "x.example", ADDRESS_DOMAIN_NAME);
    assert_address("@a:\"u@X\"", "\"u@X\"@" L, "u@X", L, ADDRESS_DOMAIN_NAME);
    assert_address("@a:user", "user@" L, "user", L, ADDRESS_DOMAIN_NAME);
    assert_invalid(STR("@a"));
    assert_invalid(STR("@a:"));
    assert_invalid(STR("@:u@x"));
    assert_invalid(STR("@a,:u@x"));
    assert_invalid(STR("@a,b:u@x"));
    assert_invalid(STR("@[1.2.3.4:u@x"));
    assert_invalid(STR("@a:@b:u@x"));
    assert_invalid(STR("@a b:u@x"));
}

/* Literals are local only when they are the server's own; the address must come out the same however it was written. */
static void test_literals(void **state)
{
    static const unsigned char ipv4[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1};
    static const unsigned char ipv6[16] = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    struct address a;

    (void)state;
    assert_address("user@[192.0.2.1]", "user@[192.0.2.1]", "user", "[192.0.2.1]", ADDRESS_DOMAIN_IPV4);
    assert_address("user@192.0.2.1", "user@192.0.2.1", "user", "[192.0.2.1]", ADDRESS_DOMAIN_IPV4);
    assert_address("user@[IPv6:2001:DB8:0::1]", "user@[IPv6:2001:DB8:0::1]", "user", "[IPv6:2001:db8::1]",
                   ADDRESS_DOMAIN_IPV6);
    assert_address("user@[ipv6:::ffff:192.0.2.1]", "user@[ipv6:::ffff:192.0.2.1]", "user", "[192.0.2.1]",
                   ADDRESS_DOMAIN_IPV4);
    assert_true(parse(&a, STR("u@192.0.2.1")));
    assert_true(a.is_literal_bare && address_is_literal(&a));
    assert_memory_equal(a.ip, ipv4, 16);
    assert_true(parse(&a, STR("u@[192.0.2.1]")));
    assert_false(a.is_literal_bare);
    assert_memory_equal(a.ip, ipv4, 16);
    assert_true(parse(&a, STR("u@[IPv6:2001:db8::1]")));
    assert_memory_equal(a.ip, ipv6, 16);
    assert_invalid(STR("u@[192.0.2.1"));
    assert_invalid(STR("u@[192.0.2.1]x"));
    assert_invalid(STR("u@192.0.2.1]"));
    assert_invalid(STR("u@[]"));
    assert_invalid(STR("u@["));
    assert_invalid(STR("u@[192.0.2.256]"));
    assert_invalid(STR("u@[192.0.2]"));
    assert_invalid(STR("u@[2001:db8::1]"));
    assert_invalid(STR("u@[IPv6:]"));
    assert_invalid(STR("u@[IPv6:192.0.2.1]"));
    assert_invalid(STR("u@[IPv6:fe80::1%eth0]"));
    assert_invalid(STR("u@[localhost]"));
    assert_invalid(STR("u@[ 192.0.2.1 ]"));
    assert_invalid(STR("u@[192.0.2.1\0]"));
}

/* Forms that the system's resolver takes for an address, but no parser of literals does. */
static void test_disguised_ip_addresses(void **state)
{
    (void)state;
    assert_invalid(STR("u@127.1"));
    assert_invalid(STR("u@2130706433"));
    assert_invalid(STR("u@0x7f000001"));
    assert_invalid(STR("u@0177.0.0.1"));
    assert_invalid(STR("u@192.0.2.1."));
    assert_invalid(STR("u@300.1.1.1"));
    assert_invalid(STR("u@\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1"));
}

static void test_quoted_local_parts(void **state)
{
    struct address a;

    (void)state;
    assert_address("\"a\\\"b\"@dom.example", "\"a\\\"b\"@dom.example", "a\"b", "dom.example", ADDRESS_DOMAIN_NAME);
    assert_address("\"a\\\\\"@dom.example", "\"a\\\\\"@dom.example", "a\\", "dom.example", ADDRESS_DOMAIN_NAME);
    assert_address("\"a b>c<\"@dom.example", "\"a b>c<\"@dom.example", "a b>c<", "dom.example", ADDRESS_DOMAIN_NAME);
    assert_address("\"abc\"@dom.example", "\"abc\"@dom.example", "abc", "dom.example", ADDRESS_DOMAIN_NAME);
    assert_true(parse(&a, STR("\"a\\\"b\"@dom")));
    assert_true(a.is_quoted);
    assert_str(address_local_text(&a), "\"a\\\"b\"");
    assert_invalid(STR("\"\""));
    assert_invalid(STR("\"\"@dom"));
    assert_invalid(STR("\"abc"));
    assert_invalid(STR("\"abc@dom"));
    assert_invalid(STR("\"abc\\"));
    assert_invalid(STR("\"abc\\\""));
    assert_invalid(STR("\"abc\"x@dom"));
    assert_invalid(STR("\"abc\".x@dom"));
    assert_invalid(STR("x.\"abc\"@dom"));
    assert_invalid(STR("a\"b@dom"));
    assert_invalid(STR("\"a\nb\"@dom"));
    assert_invalid(STR("\"a\\\nb\"@dom"));
    assert_invalid(STR("\"a\\\xc3\xbc\"@dom"));
    assert_invalid(STR("\""));
}

/* A second @, control bytes, specials: what one server refuses and the next re-reads differently must not pass. */
static void test_invalid_addresses(void **state)
{
    (void)state;
    assert_invalid(STR("user@X@H"));
    assert_invalid(STR("user@X@"));
    assert_invalid(STR("user@X@[192.0.2.1]"));
    assert_invalid(STR("user@"));
    assert_invalid(STR("@"));
    assert_invalid(STR("@dom"));
    assert_invalid(STR("user name@dom"));
    assert_invalid(STR("user@dom ain"));
    assert_invalid(STR("us\001er@dom"));
    assert_invalid(STR("us\0er@dom"));
    assert_invalid(STR("user@dom\r"));
    assert_invalid(STR("user@do\nm"));
    assert_invalid(STR("us\x7f"
                       "er@dom"));
    assert_invalid(STR("user@dom\t\001"));
    assert_invalid(STR("a,b@dom"));
    assert_invalid(STR("a:b@dom"));
    assert_invalid(STR("a;b@dom"));
    assert_invalid(STR("a(b)@dom"));
    assert_invalid(STR("a\\@b@dom"));
    assert_invalid(STR("a<b@dom"));
    assert_invalid(STR("a>b@dom"));
    assert_invalid(STR("<user@dom"));
    assert_invalid(STR("<user@dom>>"));
    assert_invalid(STR("<<user@dom>>"));
    assert_invalid(STR("< user@dom>"));
    assert_invalid(STR("<user@dom >"));
    assert_invalid(STR("<user@dom>x"));
    assert_invalid(STR("<user@X>@H"));
    assert_invalid(STR("<"));
    assert_invalid(STR(">"));
    assert_invalid(STR("user@-dom.example"));
    assert_invalid(STR("user@dom..example"));
    assert_invalid(STR("user@dom_\xff"));
}

static void test_smtputf8(void **state)
{
    struct address a;

    (void)state;
    assert_true(parse(&a, STR("<j\xc3\xb6rg@M\xc3\xbcnchen.example>")));
    assert_true(a.needs_smtputf8);
    assert_str(address_text(&a), "j\xc3\xb6rg@M\xc3\xbcnchen.example");
    assert_str(address_domain(&a), "xn--mnchen-3ya.example");
    assert_true(parse(&a, STR("<\"j \xc3\xb6\"@x.example>")));
    assert_true(a.needs_smtputf8);
    assert_str(address_local(&a), "j \xc3\xb6");
    assert_true(parse(&a, STR("<joe@xn--mnchen-3ya.example>")));
    assert_false(a.needs_smtputf8);
    assert_invalid(STR("j\xf6rg@x.example")); /* Latin-1 */
    assert_invalid(STR("j\xc3@x.example"));
    assert_invalid(STR("j\xc2\x85g@x.example"));
    assert_invalid(STR("\"\xed\xa0\x80\"@x.example"));
}

/* VERP and SRS make long local parts, so only the path counts; at its limit, and one over. */
static void test_lengths(void **state)
{
    char path[ADDRESS_PATH_OCTETS_MAX + 2];
    char domain[DOMAIN_OCTETS_MAX + 1];
    struct address a;
    struct address again;

    (void)state;
    memset(path, 'a', sizeof(path));
    memcpy(path + ADDRESS_PATH_OCTETS_MAX - 2, "@x", 2);
    assert_true(parse(&a, str_make(path, ADDRESS_PATH_OCTETS_MAX)));
    assert_int_equal(a.local_length, ADDRESS_PATH_OCTETS_MAX - 2);
    memset(path, 'a', sizeof(path));
    memcpy(path + ADDRESS_PATH_OCTETS_MAX - 1, "@x", 2);
    assert_false(parse(&a, str_make(path, ADDRESS_PATH_OCTETS_MAX + 1)));
    /* Unqualified, with the longest default domain: what replies show can be stored and read back. */
    memset(path, 'a', sizeof(path));
    memset(domain, 'd', sizeof(domain));
    domain[63] = domain[127] = domain[191] = '.';
    assert_true(address_parse(&a, str_make(path, ADDRESS_PATH_OCTETS_MAX), str_make(domain, DOMAIN_OCTETS_MAX)));
    assert_int_equal(a.text_length, ADDRESS_TEXT_OCTETS_MAX);
    assert_true(address_parse_stored(&again, address_text(&a)));
    assert_true(address_equal(&a, &again));
    assert_false(parse(&again, address_text(&a)));
    /* A source route counts: the limit is the path's. */
    memset(path, 'a', sizeof(path));
    memcpy(path, "@x:", 3);
    memcpy(path + sizeof(path) - 3, "@x", 2);
    assert_false(parse(&a, str_make(path, ADDRESS_PATH_OCTETS_MAX + 1)));
    /* Text that a damaged envelope holds must not overrun the structure. */
    char damaged[ADDRESS_TEXT_OCTETS_MAX];

    memset(damaged, 'a', sizeof(damaged));
    assert_false(address_parse_stored(&a, str_make(damaged, sizeof(damaged))));
    damaged[0] = '"';
    damaged[sizeof(damaged) - 1] = '"';
    assert_false(address_parse_stored(&a, str_make(damaged, sizeof(damaged))));
    /* Nor must quoted pairs, of which none counts in the local part, make its text longer than a client's can be: another domain may be put behind it. */
    for (size_t i = 1; i < sizeof(damaged); i += 2)
        damaged[i] = '\\';
    memcpy(damaged + 2 * (ADDRESS_PATH_OCTETS_MAX / 2) - 1, "\"@x", 3);
    assert_true(address_parse_stored(&a, str_make(damaged, 2 * (ADDRESS_PATH_OCTETS_MAX / 2) + 2)));
    memset(damaged + 2 * (ADDRESS_PATH_OCTETS_MAX / 2) - 1, '\\', 2);
    memcpy(damaged + 2 * (ADDRESS_PATH_OCTETS_MAX / 2) + 1, "\"@x", 3);
    assert_false(address_parse_stored(&a, str_make(damaged, 2 * (ADDRESS_PATH_OCTETS_MAX / 2) + 4)));
}

static void assert_path(const char *argument, const char *text, const char *parameters)
{
    struct address a;
    struct str rest;

    assert_true(address_parse_path(&a, str_from_cstr(argument), DEFAULT_DOMAIN, &rest));
    assert_str(address_text(&a), text);
    assert_str(rest, parameters);
}

/* Where the path ends and the parameters begin, with quotes that hold what looks like the end. */
static void test_paths_with_parameters(void **state)
{
    struct address a;
    struct str rest;

    (void)state;
    assert_path("<u@x> SIZE=5 BODY=8BITMIME", "u@x", "SIZE=5 BODY=8BITMIME");
    assert_path(" <u@x>\tSIZE=5 ", "u@x", "SIZE=5");
    assert_path("u@x SIZE=5", "u@x", "SIZE=5");
    assert_path("<> RET=HDRS", "<>", "RET=HDRS");
    assert_path("u", "u@" L, "");
    assert_path("<\"a > b\"@x> SIZE=5", "\"a > b\"@x", "SIZE=5");
    assert_path("\"a b\"@x SIZE=5", "\"a b\"@x", "SIZE=5");
    assert_path("<\"a\\\" > b\"@x> SIZE=5", "\"a\\\" > b\"@x", "SIZE=5");
    assert_path("\"a\\\" b\" SIZE=5", "\"a\\\" b\"@" L, "SIZE=5");
    assert_path("<@a,@b:u@x> SIZE=5", "u@x", "SIZE=5");
    assert_false(address_parse_path(&a, STR("<u@x>SIZE=5"), DEFAULT_DOMAIN, &rest));
    assert_false(address_parse_path(&a, STR("<u@x SIZE=5"), DEFAULT_DOMAIN, &rest));
    assert_false(address_parse_path(&a, STR("<\"u@x> SIZE=5"), DEFAULT_DOMAIN, &rest));
    assert_false(address_parse_path(&a, STR(""), DEFAULT_DOMAIN, &rest));
    assert_false(address_parse_path(&a, STR("   "), DEFAULT_DOMAIN, &rest));
}

static void assert_equal_addresses(const char *left, const char *right, bool exact, bool nocase)
{
    struct address a;
    struct address b;

    assert_true(parse(&a, str_from_cstr(left)));
    assert_true(parse(&b, str_from_cstr(right)));
    assert_int_equal(address_equal(&a, &b), exact);
    assert_int_equal(address_equal_nocase(&a, &b), nocase);
}

static void test_comparing(void **state)
{
    (void)state;
    assert_equal_addresses("a@x.example", "a@X.Example.", true, true);
    assert_equal_addresses("\"a\"@x.example", "a@x.example", true, true);
    assert_equal_addresses("A@x.example", "a@x.example", false, true);
    assert_equal_addresses("a@[192.0.2.1]", "a@192.0.2.1", true, true);
    assert_equal_addresses("a", "a@" L, true, true);
    assert_equal_addresses("a@x.example", "b@x.example", false, false);
    assert_equal_addresses("a@x.example", "a@y.example", false, false);
    assert_equal_addresses("<>", "<>", true, true);
}

static void test_keys(void **state)
{
    struct address a;
    char key[ADDRESS_KEY_BYTES];

    (void)state;
    assert_true(parse(&a, STR("\"A@B\"@X.Example")));
    assert_int_equal(address_key(&a, key), strlen("a@b@x.example"));
    assert_string_equal(key, "a@b@x.example");
    assert_true(address_parse(&a, STR("Alice"), (struct str){0}));
    assert_int_equal(address_key(&a, key), 5);
    assert_string_equal(key, "alice");
    assert_true(parse(&a, STR("<>")));
    assert_int_equal(address_key(&a, key), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_addresses),
        cmocka_unit_test(test_null_sender),
        cmocka_unit_test(test_unqualified_addresses),
        cmocka_unit_test(test_no_default_domain),
        cmocka_unit_test(test_postmaster),
        cmocka_unit_test(test_source_routes_are_dropped),
        cmocka_unit_test(test_literals),
        cmocka_unit_test(test_disguised_ip_addresses),
        cmocka_unit_test(test_quoted_local_parts),
        cmocka_unit_test(test_invalid_addresses),
        cmocka_unit_test(test_smtputf8),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_paths_with_parameters),
        cmocka_unit_test(test_comparing),
        cmocka_unit_test(test_keys),
    };

    return cmocka_run_group_tests_name("mail/address", tests, NULL, NULL);
}
