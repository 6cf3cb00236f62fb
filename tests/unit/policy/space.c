/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of addresses. A wrong count, or a range too much, is an open relay that is certified closed. */
#include "policy/space.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* From networks in any order, separated by spaces. */
static struct space make(const char *text)
{
    struct space set;
    struct str rest = str_from_cstr(text);

    space_init(&set);
    while (rest.data && rest.length > 0) {
        struct cidr_range range;

        assert_int_equal(cidr_parse_network(str_split(&rest, ' '), &range, NULL), 0);
        space_add(&set, &range);
    }
    space_finish(&set);
    return set;
}

static void check_networks(struct space *set, const char *expected)
{
    char actual[4096] = "";
    size_t length = 0;
    struct space_network *networks;
    size_t count = space_networks(set, &networks);

    for (size_t i = 0; i < count; i++) {
        char text[CIDR_TEXT_BYTES];

        space_format_network(&networks[i], text);
        length += (size_t)snprintf(actual + length, sizeof(actual) - length, "%s%s", i > 0 ? " " : "", text);
    }
    assert_string_equal(actual, expected);
    free(networks);
    space_release(set);
}

static void check_number(__uint128_t number, const char *expected)
{
    char text[SPACE_NUMBER_BYTES];

    assert_int_equal(space_format_number(number, 0, text), strlen(expected));
    assert_string_equal(text, expected);
}

static void test_union(void **state)
{
    struct space set = make("10.0.0.128/25 10.0.0.0/25 192.0.2.8 192.0.2.9 192.0.2.7 2001:db8::/33 2001:db8:8000::/33");

    (void)state;
    check_networks(&set, "10.0.0.0/24 192.0.2.7 192.0.2.8/31 2001:db8::/32");
    set = make("10.0.0.0/8 10.1.0.0/16 10.255.255.255");
    check_networks(&set, "10.0.0.0/8");
    set = make("");
    assert_true(space_is_empty(&set));
    check_networks(&set, "");
}

static void test_complement(void **state)
{
    struct space set = make("128.0.0.0/1");
    struct space out;

    (void)state;
    space_complement(&set, &out);
    check_networks(&out, "0.0.0.0/1 ::/0");
    space_release(&set);
    set = make("0.0.0.0/0 ::/0");
    space_complement(&set, &out);
    assert_true(space_is_empty(&out));
    space_release(&set);
    set = make("");
    space_complement(&set, &out);
    check_networks(&out, "0.0.0.0/0 ::/0");
    set = make(":: ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 0.0.0.0 255.255.255.255");
    space_complement(&set, &out);
    assert_int_equal(out.count, 3); /* :: to 0.0.0.0, 0.0.0.1 to 255.255.255.254, and the rest */
    space_release(&set);
    space_complement(&out, &set);
    space_release(&out);
    check_networks(&set, "0.0.0.0 255.255.255.255 :: ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
}

static void test_intersection_and_difference(void **state)
{
    struct space a = make("10.0.0.0/8 192.0.2.0/24 2001:db8::/32");
    struct space b = make("10.1.0.0/16 192.0.2.128/25 198.51.100.0/24 ::/0");
    struct space out;

    (void)state;
    space_intersection(&a, &b, &out);
    check_networks(&out, "10.1.0.0/16 192.0.2.128/25 2001:db8::/32");
    space_difference(&b, &a, &out);
    assert_true(space_contains(&out, &(struct cidr_address){{0x20, 0x02}}));
    assert_false(space_contains(&out, &(struct cidr_address){{0x20, 0x01, 0x0d, 0xb8, [15] = 9}}));
    space_release(&out);
    space_difference(&a, &b, &out);
    check_networks(&out, "10.0.0.0/16 10.2.0.0/15 10.4.0.0/14 10.8.0.0/13 10.16.0.0/12 10.32.0.0/11 10.64.0.0/10 "
                         "10.128.0.0/9 192.0.2.0/25");
    space_release(&a);
    space_release(&b);
}

/* Numbers of 39 digits, to the last one. */
static void test_counts(void **state)
{
    struct space set;
    struct space_counts counts;

    (void)state;
    space_all(&set);
    space_count(&set, &counts);
    check_number(counts.ipv4, "4294967296");
    check_number(counts.ipv6, "340282366920938463463374607427473244160");       /* 2^128 - 2^32 */
    check_number(counts.ipv6_public, "42535295785889145418657488335427076096"); /* 2^125 - 2^96 */
    check_number(counts.ipv4_public, "3702258688");
    space_release(&set);
    set = make("::ffff:10.1.0.0/112 8.8.8.8 2001:db8::1 2a00::/127");
    space_count(&set, &counts);
    check_number(counts.ipv4, "65537");
    check_number(counts.ipv4_public, "1");
    check_number(counts.ipv6, "3");
    check_number(counts.ipv6_public, "2");
    space_release(&set);
    set = make("");
    space_count(&set, &counts);
    check_number(counts.ipv4, "0");
    check_number(counts.ipv6, "0");
    space_release(&set);
}

static void test_public(void **state)
{
    static const struct {
        const char *address;
        bool is_public;
    } cases[] = {
        {"0.255.255.255", false},   {"1.0.0.0", true},
        {"9.255.255.255", true},    {"10.0.0.0", false},
        {"11.0.0.0", true},         {"100.63.255.255", true},
        {"100.64.0.0", false},      {"100.128.0.0", true},
        {"126.255.255.255", true},  {"127.0.0.1", false},
        {"169.254.1.1", false},     {"172.15.255.255", true},
        {"172.31.255.255", false},  {"172.32.0.0", true},
        {"192.0.0.255", false},     {"192.0.1.0", true},
        {"192.0.2.1", false},       {"192.168.1.1", false},
        {"198.18.0.0", false},      {"198.20.0.0", true},
        {"198.51.100.1", false},    {"203.0.113.1", false},
        {"223.255.255.255", true},  {"224.0.0.0", false},
        {"255.255.255.255", false}, {"1fff::", false},
        {"2000::", true},           {"3fff:ffff::", true},
        {"4000::", false},          {"2001:db7:ffff::", true},
        {"2001:db8::", false},      {"2001:db9::", true},
        {"fe80::1", false},         {"::1", false},
    };
    struct space set;

    (void)state;
    space_public(&set);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cidr_address address;

        assert_true(cidr_parse_address(str_from_cstr(cases[i].address), &address));
        if (space_contains(&set, &address) != cases[i].is_public)
            fail_msg("%s", cases[i].address);
    }
    space_release(&set);
}

static void test_bridge(void **state)
{
    static const struct {
        const char *set;
        const char *found;
    } cases[] = {
        {"172.16.0.0/12", "172.16.0.1"},
        {"172.17.0.1", "172.17.0.1"},
        {"172.17.5.0/24 172.20.0.0/30", "172.17.5.1"},
        {"172.17.0.2/31", NULL},
        {"172.32.0.1", NULL},
        {"10.0.0.0/8 192.168.0.1", NULL},
        {"172.17.0.2/31 172.31.255.0/24", "172.31.255.1"},
        {"0.0.0.0/0", "172.16.0.1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct space set = make(cases[i].set);
        struct cidr_address address;
        char text[CIDR_TEXT_BYTES] = "";

        if (space_find_bridge(&set, &address))
            cidr_format_address(&address, text);
        assert_string_equal(text, cases[i].found ? cases[i].found : "");
        space_release(&set);
    }
}

static void test_numbers(void **state)
{
    char text[SPACE_NUMBER_BYTES];

    (void)state;
    check_number(0, "0");
    check_number(~(__uint128_t)0, "340282366920938463463374607431768211455");
    space_format_number(65536, ',', text);
    assert_string_equal(text, "65,536");
    space_format_number(~(__uint128_t)0, ',', text);
    assert_string_equal(text, "340,282,366,920,938,463,463,374,607,431,768,211,455");
    space_format_number(999, ',', text);
    assert_string_equal(text, "999");
}

/* IPv6 networks around the IPv4-mapped block are written as a configuration has them, and never as that block. */
static void test_networks_around_ipv4(void **state)
{
    struct space all_ipv6 = make("::/0");
    struct space low = make("::/1");
    struct space before = make("::fffe:ffff:ffff");
    struct space odd;
    struct space rest;

    (void)state;
    check_networks(&all_ipv6, "::/0");
    check_networks(&low, "::/1");
    space_complement(&before, &rest);
    all_ipv6 = make("::/0");
    space_intersection(&rest, &all_ipv6, &odd);
    space_release(&all_ipv6);
    space_release(&rest);
    space_release(&before);
    assert_int_equal(odd.count, 2);
    assert_false(space_contains(&odd, &(struct cidr_address){{[10] = 0xff, 0xff, 1, 2, 3, 4}}));
    space_release(&odd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_union),
        cmocka_unit_test(test_complement),
        cmocka_unit_test(test_intersection_and_difference),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_public),
        cmocka_unit_test(test_bridge),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_networks_around_ipv4),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
