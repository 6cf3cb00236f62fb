/* SPDX-License-Identifier: Apache-2.0 */
/* Whoever gets an address past this parser that the proxy did not mean is somebody else: on a relay, somebody who may relay. */
#include "net/proxy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define IPV4      "\300\0\2\1\300\0\2\2\1\2\0\31" /* 192.0.2.1 to 192.0.2.2, port 258 to 25 */
#define IPV6      "\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\1\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\2\1\2\0\31"
#define MAPPED    "\0\0\0\0\0\0\0\0\0\0\xff\xff\300\0\2\1\0\0\0\0\0\0\0\0\0\0\xff\xff\300\0\2\2\1\2\0\31"

struct good {
    struct str input;
    const char *client; /* NULL: none */
};

static const struct good good[] = {
    {STR_INIT("PROXY TCP4 192.0.2.1 192.0.2.2 258 25\r\n"), "192.0.2.1:258"},
    {STR_INIT("PROXY TCP4 255.255.255.255 255.255.255.255 65535 0\r\n"), "255.255.255.255:65535"},
    {STR_INIT("PROXY TCP6 2001:db8::1 2001:DB8::2 258 25\r\n"), "[2001:db8::1]:258"},
    {STR_INIT("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 258 25\r\n"), "192.0.2.1:258"},
    {STR_INIT(
         "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
     "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
    {STR_INIT("PROXY UNKNOWN\r\n"), NULL},
    {STR_INIT("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 "
              "65535\r\n"),
     NULL},
    {STR_INIT(SIGNATURE "\x21\x11\0\14" IPV4), "192.0.2.1:258"},
    {STR_INIT(SIGNATURE "\x21\x11\0\21" IPV4 "\4\0\2ab"), "192.0.2.1:258"}, /* with an extension */
    {STR_INIT(SIGNATURE "\x21\x21\0\44" IPV6), "[2001:db8::1]:258"},
    {STR_INIT(SIGNATURE "\x21\x21\0\44" MAPPED), "192.0.2.1:258"},
    {STR_INIT(SIGNATURE "\x21\0\0\0"), NULL},
    {STR_INIT(SIGNATURE "\x20\0\0\0"), NULL},
    {STR_INIT(SIGNATURE "\x20\x11\0\14" IPV4), NULL}, /* LOCAL: what else it says does not count */
};

static void check_good(const struct good *expected, struct str input)
{
    struct proxy_header header = {.length = 1};
    char text[NET_ADDRESS_TEXT_BYTES];

    assert_int_equal(proxy_parse(input, &header), PROXY_DONE);
    assert_int_equal(header.length, expected->input.length);
    assert_int_equal(header.has_client, expected->client != NULL);
    if (expected->client) {
        net_address_format(&header.client, text);
        assert_string_equal(text, expected->client);
    }
}

/* Whole, with what may follow, and byte by byte: a proxy's packets are cut anywhere. */
static void test_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct proxy_header header;
        char more[256];

        check_good(&good[i], good[i].input);
        memcpy(more, good[i].input.data, good[i].input.length);
        memcpy(more + good[i].input.length, "EHLO x\r\n", 8);
        check_good(&good[i], str_make(more, good[i].input.length + 8));
        for (size_t length = 0; length < good[i].input.length; length++)
            assert_int_equal(proxy_parse(str_take(good[i].input, length), &header), PROXY_INCOMPLETE);
    }
}

static const struct str bad[] = {
    STR_INIT("EHLO client.test\r\n"),
    STR_INIT("\n"),
    STR_INIT(" PROXY UNKNOWN\r\n"),
    STR_INIT("proxy UNKNOWN\r\n"),
    STR_INIT("PROXY\r\n"),
    STR_INIT("PROXY \r\n"),
    STR_INIT("PROXY UNKNOWN\n"),
    STR_INIT("PROXY \n"),
    STR_INIT("PROXY UNKNOWNS\r\n"),
    STR_INIT("PROXY  TCP4 192.0.2.1 192.0.2.2 258 25\r\n"),
    STR_INIT("PROXY TCP4  192.0.2.1 192.0.2.2 258 25\r\n"),
    STR_INIT("PROXY TCP4 192.0.2.1 192.0.2.2 258 25 \r\n"),
    STR_INIT("PROXY TCP4 192.0.2.1 192.0.2.2 258 25 1\r\n"),
    STR_INIT("PROXY TCP4 192.0.2.1 192.0.2.2 258\r\n"),
    STR_INIT("PROXY TCP4 192.0.2.1 192.0.2.2 258 \r\n"),
    STR_INIT("PROXY TCP4 192.0.2.1 192.0.2.2 65536 25\r\n"),
    STR_INIT("PROXY TCP4 192.0.2.1 192.0.2.2 258 -1\r\n"),
    STR_INIT("PROXY TCP4 192.0.2.1 192.0.2.2 0258 25\r\n"),
    STR_INIT("PROXY TCP4 192.0.2.1 192.0.2.2 258 99999999999999999999\r\n"),
    STR_INIT("PROXY TCP4 192.0.2.256 192.0.2.2 258 25\r\n"),
    STR_INIT("PROXY TCP4 192.0.2 192.0.2.2 258 25\r\n"),
    STR_INIT("PROXY TCP4 192.0.2.1\0 192.0.2.2 258 25\r\n"),
    STR_INIT("PROXY TCP4 2001:db8::1 2001:db8::2 258 25\r\n"),
    STR_INIT("PROXY TCP4 ::ffff:192.0.2.1 ::ffff:192.0.2.2 258 25\r\n"),
    STR_INIT("PROXY TCP6 192.0.2.1 192.0.2.2 258 25\r\n"),
    STR_INIT("PROXY TCP6 2001:db8::1%lo 2001:db8::2 258 25\r\n"),
    STR_INIT("PROXY TCP6 2001:db8::1 192.0.2.2 258 25\r\n"),
    STR_INIT("PROXY UDP4 192.0.2.1 192.0.2.2 258 25\r\n"),
    STR_INIT(SIGNATURE "\x11\x11\0\14" IPV4), /* another version */
    STR_INIT(SIGNATURE "\x31\x11\0\14" IPV4),
    STR_INIT(SIGNATURE "\x22\x11\0\14" IPV4), /* no such command */
    STR_INIT(SIGNATURE "\x21\x12\0\14" IPV4), /* datagrams */
    STR_INIT(SIGNATURE "\x21\x10\0\14" IPV4),
    STR_INIT(SIGNATURE "\x21\x01\0\0"),
    STR_INIT(SIGNATURE "\x21\x41\0\14" IPV4), /* no such family */
    STR_INIT(SIGNATURE "\x21\x11\0\13" IPV4), /* too short for what it promises */
    STR_INIT(SIGNATURE "\x21\x21\0\14" IPV4),
    STR_INIT(SIGNATURE "\x21\x31\0\14" IPV4),
    STR_INIT(SIGNATURE "\x21\x11\xff\xff" IPV4), /* more than anybody needs */
    STR_INIT("\r\n\r\n\0\r\nQUIT\r"),
    STR_INIT("\r\n\r\nQUIT"),
};

static void test_bad(void **state)
{
    struct proxy_header header;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (proxy_parse(bad[i], &header) != PROXY_MALFORMED)
            fail_msg("bad[%zu] is taken: %.*s", i, STR_ARG(bad[i]));
}

/* A line that does not end, and a header of the largest size: the reader never waits for more than it has room for. */
static void test_bounds(void **state)
{
    static char input[PROXY_HEADER_BYTES_MAX + 1];
    static const char fixed[] = SIGNATURE "\x21\x11";
    struct proxy_header header;

    (void)state;
    memset(input, ' ', sizeof(input));
    memcpy(input, "PROXY UNKNOWN", 13);
    assert_int_equal(proxy_parse(str_make(input, 106), &header), PROXY_INCOMPLETE);
    assert_int_equal(proxy_parse(str_make(input, 107), &header), PROXY_MALFORMED);
    memcpy(input + 105, "\r\n", 2);
    assert_int_equal(proxy_parse(str_make(input, 107), &header), PROXY_DONE);

    memcpy(input, fixed, sizeof(fixed) - 1);
    input[14] = (char)((PROXY_HEADER_BYTES_MAX - 16) >> 8);
    input[15] = (char)((PROXY_HEADER_BYTES_MAX - 16) & 0xff);
    assert_int_equal(proxy_parse(str_make(input, PROXY_HEADER_BYTES_MAX - 1), &header), PROXY_INCOMPLETE);
    assert_int_equal(proxy_parse(str_make(input, PROXY_HEADER_BYTES_MAX), &header), PROXY_DONE);
    assert_int_equal(header.length, PROXY_HEADER_BYTES_MAX);
    input[15]++;
    assert_int_equal(proxy_parse(str_make(input, 16), &header), PROXY_MALFORMED);
}

/* A local socket at the proxy: a client without an address is the proxy itself. */
static void test_local_socket(void **state)
{
    char input[16 + 216] = SIGNATURE "\x21\x31\0\xd8";
    struct proxy_header header;

    (void)state;
    assert_int_equal(proxy_parse(str_make(input, sizeof(input)), &header), PROXY_DONE);
    assert_false(header.has_client);
    input[15]--;
    assert_int_equal(proxy_parse(str_make(input, sizeof(input)), &header), PROXY_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_local_socket),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
