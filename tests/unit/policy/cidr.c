/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and networks. If these break, a relay list grants to the wrong clients. */
#include "policy/cidr.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct cidr_address address(const char *text)
{
    struct cidr_address a;

    assert_true(cidr_parse_address(str_from_cstr(text), &a));
    return a;
}

static void check_range(const char *text, const char *first, const char *last)
{
    struct cidr_range range;
    struct error error;
    char shown[CIDR_TEXT_BYTES];

    if (cidr_parse_network(str_from_cstr(text), &range, &error) != 0)
        fail_msg("%s: %s", text, error.text);
    cidr_format_address(&range.first, shown);
    assert_string_equal(shown, first);
    cidr_format_address(&range.last, shown);
    assert_string_equal(shown, last);
}

/* A network that covers more or less than written relays for strangers, or refuses those who may. */
static void test_networks(void **state)
{
    (void)state;
    check_range("192.0.2.7", "192.0.2.7", "192.0.2.7");
    check_range("10.1.0.0/16", "10.1.0.0", "10.1.255.255");
    check_range("10.1.0.0/255.255.0.0", "10.1.0.0", "10.1.255.255");
    check_range("0.0.0.0/0", "0.0.0.0", "255.255.255.255");
    check_range("0.0.0.0/0.0.0.0", "0.0.0.0", "255.255.255.255");
    check_range("192.0.2.128/25", "192.0.2.128", "192.0.2.255");
    check_range("192.0.2.7/32", "192.0.2.7", "192.0.2.7");
    check_range("2001:db8::/32", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff");
    check_range("2001:DB8::7/128", "2001:db8::7", "2001:db8::7");
    check_range("2001:db8:0:8000::/49", "2001:db8:0:8000::", "2001:db8:0:ffff:ffff:ffff:ffff:ffff");
    check_range("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
}

/* An IPv4-mapped IPv6 client is an IPv4 client: written either way it is the same network. */
static void test_mapped(void **state)
{
    struct cidr_address mapped = address("::ffff:192.0.2.7");
    struct cidr_address plain = address("192.0.2.7");

    (void)state;
    assert_true(cidr_equal(&mapped, &plain));
    assert_true(cidr_is_ipv4(&mapped));
    check_range("::ffff:10.1.0.0/112", "10.1.0.0", "10.1.255.255");
}

static void check_wrong(const char *text, const char *message_part)
{
    struct cidr_range range;
    struct error error = {0};

    assert_int_equal(cidr_parse_network(str_from_cstr(text), &range, &error), -1);
    if (!strstr(error.text, message_part))
        fail_msg("%s: \"%s\" does not say \"%s\"", text, error.text, message_part);
}

/* A typing mistake must be named with its right form, never be taken for something else. */
static void test_wrong_networks(void **state)
{
    (void)state;
    check_wrong("10.1.2.3/16", "write 10.1.0.0/16");
    check_wrong("10.1.2.3/255.255.0.0", "write 10.1.0.0/16");
    check_wrong("2001:db8::1/32", "write 2001:db8::/32");
    check_wrong("10.0.0.0/255.0.255.0", "one after a zero");
    check_wrong("10.0.0.0/33", "0 to 32");
    check_wrong("2001:db8::/129", "0 to 128");
    check_wrong("10.0.0.0/", "0 to 32");
    check_wrong("10.0.0.0/-1", "0 to 32");
    check_wrong("10.0.0.0/+8", "0 to 32");
    check_wrong("10.0.0.0/8/8", "0 to 32");
    check_wrong("2001:db8::/255.255.0.0", "0 to 128");
    check_wrong("", "is not an address");
    check_wrong("/8", "is not an address");
    check_wrong("10.1", "is not an address");
    check_wrong("010.0.0.1", "is not an address");
    check_wrong("10.0.0.256", "is not an address");
    check_wrong("0x0a000001", "is not an address");
    check_wrong("fe80::1%eth0", "is not an address");
    check_wrong("[2001:db8::1]", "is not an address");
    check_wrong("mail.contoso.test", "is not an address");
    check_wrong("1111111111111111111111111111111111111111111111111111111111111111111111", "is not an address");
}

static void add(struct cidr_set *set, const char *text, uint32_t entry)
{
    struct cidr_range range;

    assert_int_equal(cidr_parse_network(str_from_cstr(text), &range, NULL), 0);
    cidr_set_add(set, &range, entry);
}

static uint32_t find(const struct cidr_set *set, const char *text)
{
    struct cidr_address a = address(text);

    return cidr_set_find(set, &a);
}

/* The trace names the entry that decided: with overlaps the first in the file. */
static void test_set(void **state)
{
    struct cidr_set set;

    (void)state;
    cidr_set_init(&set);
    assert_int_equal(find(&set, "10.0.0.1"), CIDR_NO_ENTRY);
    add(&set, "10.0.0.0/8", 1);
    add(&set, "10.1.0.0/16", 0);
    add(&set, "10.1.2.0/24", 2);
    add(&set, "255.255.255.255", 3);
    add(&set, "0.0.0.0", 4);
    cidr_set_finish(&set);
    assert_int_equal(find(&set, "10.0.0.1"), 1);
    assert_int_equal(find(&set, "10.1.0.0"), 0);
    assert_int_equal(find(&set, "10.1.2.3"), 0);
    assert_int_equal(find(&set, "10.2.0.0"), 1);
    assert_int_equal(find(&set, "10.255.255.255"), 1);
    assert_int_equal(find(&set, "11.0.0.0"), CIDR_NO_ENTRY);
    assert_int_equal(find(&set, "9.255.255.255"), CIDR_NO_ENTRY);
    assert_int_equal(find(&set, "255.255.255.255"), 3);
    assert_int_equal(find(&set, "0.0.0.0"), 4);
    assert_int_equal(find(&set, "::"), CIDR_NO_ENTRY);
    cidr_set_release(&set);
}

/* Granting to all of IPv6 must not grant to IPv4, which lives inside its numbers. */
static void test_all_of_ipv6(void **state)
{
    struct cidr_set set;
    size_t position = 0;
    struct cidr_range range;
    uint32_t entry;
    size_t count = 0;

    (void)state;
    cidr_set_init(&set);
    add(&set, "::/0", 0);
    cidr_set_finish(&set);
    assert_int_equal(find(&set, "::"), 0);
    assert_int_equal(find(&set, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), 0);
    assert_int_equal(find(&set, "::fffe:ffff:ffff"), 0);
    assert_int_equal(find(&set, "::1:0:0:0"), 0);
    assert_int_equal(find(&set, "0.0.0.0"), CIDR_NO_ENTRY);
    assert_int_equal(find(&set, "255.255.255.255"), CIDR_NO_ENTRY);
    while (cidr_set_next(&set, &position, &range, &entry))
        count++;
    assert_int_equal(count, 2);
    cidr_set_release(&set);
}

#define RANDOM_ENTRIES 400

/* Against a plain search through all entries, at every border: random networks, nested and overlapping, in both families. */
static void test_against_plain_search(void **state)
{
    struct cidr_set set;
    struct cidr_range ranges[RANDOM_ENTRIES];
    uint64_t seed = 42;
    size_t position = 0;
    struct cidr_range interval;
    struct cidr_range before = {0};
    uint32_t entry;

    (void)state;
    cidr_set_init(&set);
    for (uint32_t i = 0; i < RANDOM_ENTRIES; i++) {
        unsigned char low[4];
        unsigned char high[4];

        for (int j = 0; j < 4; j++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            low[j] = (unsigned char)(j < 2 ? 10 : seed >> 33);
            high[j] = low[j];
        }
        high[3] = 255;
        high[2] = (unsigned char)(low[2] | (seed >> 41 & 0x1f));
        ranges[i] = (struct cidr_range){cidr_from_ipv4(low), cidr_from_ipv4(high)};
        cidr_set_add(&set, &ranges[i], i);
    }
    cidr_set_finish(&set);
    for (size_t i = 0; i < (size_t)RANDOM_ENTRIES * 4; i++) {
        struct cidr_address probe = i % 2 ? ranges[i / 4].first : ranges[i / 4].last;
        uint32_t expected = CIDR_NO_ENTRY;

        if (i % 4 == 2)
            probe.bytes[15]++;
        else if (i % 4 == 3)
            probe.bytes[15]--;
        for (uint32_t j = 0; j < RANDOM_ENTRIES && expected == CIDR_NO_ENTRY; j++)
            if (cidr_compare(&probe, &ranges[j].first) >= 0 && cidr_compare(&probe, &ranges[j].last) <= 0)
                expected = j;
        assert_int_equal(cidr_set_find(&set, &probe), expected);
    }
    while (cidr_set_next(&set, &position, &interval, &entry)) {
        if (position > 1)
            assert_true(cidr_compare(&before.last, &interval.first) < 0);
        before = interval;
    }
    cidr_set_release(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_networks),       cmocka_unit_test(test_mapped),
        cmocka_unit_test(test_wrong_networks), cmocka_unit_test(test_set),
        cmocka_unit_test(test_all_of_ipv6),    cmocka_unit_test(test_against_plain_search),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
