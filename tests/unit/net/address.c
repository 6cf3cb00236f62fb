/* SPDX-License-Identifier: Apache-2.0 */
/* Who may relay is decided from these addresses: two forms of one client must be one client. */
#include "net/address.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/un.h>

#include <cmocka.h>

static struct net_address parsed(const char *text)
{
    struct net_address address;

    assert_true(net_address_parse_ip(str_from_cstr(text), &address));
    return address;
}

static void check_text(const char *input, const char *ip, const char *with_port)
{
    struct net_address address = parsed(input);
    char text[NET_ADDRESS_TEXT_BYTES];

    assert_int_equal(address.port, 0);
    address.port = 25;
    assert_string_equal(net_address_format_ip(&address, text).data, ip);
    assert_true(str_equal(net_address_format_ip(&address, text), str_from_cstr(ip)));
    assert_string_equal(net_address_format(&address, text).data, with_port);
}

static void test_texts(void **state)
{
    (void)state;
    check_text("192.0.2.1", "192.0.2.1", "192.0.2.1:25");
    check_text("255.255.255.255", "255.255.255.255", "255.255.255.255:25");
    check_text("2001:DB8:0:0::1", "2001:db8::1", "[2001:db8::1]:25");
    check_text("::", "::", "[::]:25");
    check_text("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1:25");
    check_text("1111:2222:3333:4444:5555:6666:7777:8888", "1111:2222:3333:4444:5555:6666:7777:8888",
               "[1111:2222:3333:4444:5555:6666:7777:8888]:25");
}

static void test_what_is_no_address(void **state)
{
    static const char *const texts[] = {"",
                                        "192.0.2",
                                        "192.0.2.1.",
                                        "192.0.2.256",
                                        "010.0.0.1",
                                        "[::1]",
                                        "::1%lo",
                                        "1::2::3",
                                        "host",
                                        "192.0.2.1 ",
                                        "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc"};
    struct net_address address;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_false(net_address_parse_ip(str_from_cstr(texts[i]), &address));
    assert_false(net_address_parse_ip(STR("192.0.2.1\0"), &address));
}

/* An IPv4 client on an IPv6 socket must meet the same rules as on an IPv4 one. */
static void test_mapped_is_ipv4(void **state)
{
    struct sockaddr_in6 in6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(99), .sin6_addr.s6_addr = {[10] = 0xff, 0xff, 192, 0, 2, 1}};
    struct net_address mapped, plain = parsed("192.0.2.1");
    struct sockaddr_storage storage;

    (void)state;
    assert_true(net_address_from_sockaddr((struct sockaddr *)&in6, &mapped));
    assert_true(net_address_is_ipv4(&mapped));
    assert_memory_equal(mapped.ip, plain.ip, sizeof(plain.ip));
    assert_int_equal(mapped.port, 99);
    assert_int_equal(net_address_to_sockaddr(&mapped, &storage), sizeof(struct sockaddr_in));
    assert_int_equal(storage.ss_family, AF_INET);
    assert_false(net_address_is_ipv4(&(struct net_address){.ip = {[15] = 1}}));
}

static void check_sockaddr(const char *text, socklen_t bytes)
{
    struct net_address address = parsed(text), again;
    struct sockaddr_storage storage;

    address.port = 2525;
    assert_int_equal(net_address_to_sockaddr(&address, &storage), bytes);
    assert_true(net_address_from_sockaddr((struct sockaddr *)&storage, &again));
    assert_memory_equal(address.ip, again.ip, sizeof(again.ip));
    assert_int_equal(again.port, 2525);
}

static void test_sockaddr_and_back(void **state)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct net_address address;

    (void)state;
    check_sockaddr("127.0.0.1", sizeof(struct sockaddr_in));
    check_sockaddr("2001:db8::1", sizeof(struct sockaddr_in6));
    assert_false(net_address_from_sockaddr((struct sockaddr *)&un, &address));
}

static void test_wildcards(void **state)
{
    struct net_address address = parsed("0.0.0.0");

    (void)state;
    assert_true(net_address_is_any(&address));
    address = parsed("::");
    assert_true(net_address_is_any(&address));
    address = parsed("0.0.0.1");
    assert_false(net_address_is_any(&address));
    address = parsed("::1");
    assert_false(net_address_is_any(&address));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),          cmocka_unit_test(test_what_is_no_address),
        cmocka_unit_test(test_mapped_is_ipv4), cmocka_unit_test(test_sockaddr_and_back),
        cmocka_unit_test(test_wildcards),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
