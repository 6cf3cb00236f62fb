/* SPDX-License-Identifier: Apache-2.0 */
/* Whoever writes MX records chooses whom we connect to: a list read wrongly sends mail round in circles, to the wrong host, or into our own machine. */
#include "delivery/mx.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t next_chance, chance_step;

static uint64_t counted_chance(uint64_t limit)
{
    next_chance += chance_step;
    return next_chance % limit;
}

/* "10 a, 20 b" in the records' order; the order that comes out as "b a". */
static struct mx_list order(struct dns_mx records[], size_t count, const char *own, char text[512])
{
    struct mx_list list;
    size_t length = 0;

    mx_order(records, count, str_from_cstr(own), counted_chance, &list);
    text[0] = '\0';
    for (size_t i = 0; i < list.count; i++)
        length += (size_t)snprintf(text + length, 512 - length, "%s%s", i > 0 ? " " : "", list.hosts[i]->host);
    return list;
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void test_preference(void **state)
{
    struct dns_mx records[] = {{30, "c"}, {10, "a"}, {20, "b"}, {65535, "e"}, {0, "z"}, {10, "a"}, {40, "b"}};
    char text[512];
    struct mx_list list = order(records, COUNT(records), "mail.contoso.test", text);

    (void)state;
    assert_string_equal(text, "z a b c e");
    assert_false(list.is_null);
    assert_false(list.is_ours);
    assert_int_equal(mx_group_end(&list, 0), 1);
}

/* RFC 5321 5.1: equal ones share the load; a fixed order would leave the last one idle for ever. */
static void test_equal_ones(void **state)
{
    struct dns_mx records[] = {{10, "a"}, {10, "b"}, {10, "c"}, {5, "first"}, {20, "last"}};
    bool was_first[3] = {false};
    char text[512];

    (void)state;
    chance_step = 0x123456789abcdef1u;
    for (int i = 0; i < 100; i++) {
        struct mx_list list = order(records, COUNT(records), "mail.contoso.test", text);

        assert_int_equal(list.count, 5);
        assert_string_equal(list.hosts[0]->host, "first");
        assert_string_equal(list.hosts[4]->host, "last");
        was_first[list.hosts[1]->host[0] - 'a'] = true;
        assert_int_equal(mx_group_end(&list, 1), 4);
        assert_int_equal(mx_group_end(&list, 4), 5);
    }
    assert_true(was_first[0] && was_first[1] && was_first[2]);
}

/* RFC 5321 5.1: whoever is not better than we are would send it back to us. */
static void test_ourselves(void **state)
{
    static const struct {
        unsigned own_preference;
        const char *left;
        bool is_ours;
    } cases[] = {{5, "", true}, {10, "", true}, {15, "a b", false}, {20, "a b", false}, {30, "a b c", false}};
    char text[512];

    (void)state;
    chance_step = 1; /* equal ones stay in their order */
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct dns_mx records[] = {{10, "a"},
                                   {10, "b"},
                                   {(uint16_t)cases[i].own_preference, "mail.contoso.test"},
                                   {20, "c"},
                                   {99, "mail.contoso.test"}};
        struct mx_list list = order(records, COUNT(records), "mail.contoso.test", text);

        assert_string_equal(text, cases[i].left);
        assert_int_equal(list.is_ours, cases[i].is_ours);
        assert_false(list.is_null);
    }
}

static void test_null(void **state)
{
    struct dns_mx only[] = {{0, ""}};
    struct dns_mx beside[] = {{0, ""}, {10, "a"}};
    struct dns_mx beside_ours[] = {{0, ""}, {10, "mail.contoso.test"}};
    char text[512];
    struct mx_list list;

    (void)state;
    assert_true(order(only, 1, "mail.contoso.test", text).is_null);
    list = order(beside, 2, "mail.contoso.test", text);
    assert_string_equal(text, "a");
    assert_false(list.is_null);
    list = order(beside_ours, 2, "mail.contoso.test", text);
    assert_true(list.is_ours);
    assert_false(list.is_null);
    list = order(only, 0, "mail.contoso.test", text); /* records that made no sense */
    assert_false(list.is_null || list.is_ours || list.count > 0);
}

/* Ten thousand records are not ten thousand attempts. */
static void test_bounds(void **state)
{
    struct dns_mx *records = calloc(DNS_RECORDS_MAX, sizeof(*records));
    struct mx_list list;

    (void)state;
    chance_step = 1;
    for (unsigned i = 0; i < DNS_RECORDS_MAX; i++) {
        records[i].preference = (uint16_t)(DNS_RECORDS_MAX - i);
        snprintf(records[i].host, sizeof(records[i].host), "h%u", i);
    }
    mx_order(records, DNS_RECORDS_MAX, STR("mail.contoso.test"), counted_chance, &list);
    assert_int_equal(list.count, MX_HOSTS_MAX);
    assert_string_equal(list.hosts[0]->host, "h99");
    free(records);
}

/* ---- addresses ---- */

static const struct config *load(void)
{
    static const char yaml[] =
        "hostname: mail.contoso.test\n"
        "domains: { contoso.test: { type: local, default: true, recipients: any } }\n"
        "servers:\n"
        "  one: { listen: ['127.0.0.1:25'], addresses: [203.0.113.25] }\n"
        "  two: { listen: ['[::]:25'] }\n"
        "connectors:\n"
        "  strict: { address-spaces: [a.test], route: dns }\n"
        "  open: { address-spaces: [b.test], route: dns, mx-networks: [127.0.0.0/8, 169.254.7.0/24, '::1'] }\n";
    static const struct cidr_address machine_addresses[] = {{{[10] = 0xff, 0xff, 192, 0, 2, 77}}};
    const struct config_machine machine = {
        .hostname = "mail.contoso.test", .addresses = machine_addresses, .address_count = 1};
    const struct config *config = NULL;
    struct config_errors errors;

    config_errors_init(&errors);
    if (config_load_text(vfs_system(), "test.yaml", str_from_cstr(yaml), &machine, &config, &errors) != 0)
        fail_msg("%s", errors.messages[0].text);
    config_errors_release(&errors);
    return config;
}

static void test_places(void **state)
{
    static const struct {
        const char *ip;
        enum mx_place strict, open;
    } rows[] = {
        {"192.0.2.1", MX_PLACE_GOOD, MX_PLACE_GOOD},
        {"10.0.0.1", MX_PLACE_GOOD, MX_PLACE_GOOD},
        {"2001:db8::1", MX_PLACE_GOOD, MX_PLACE_GOOD},
        {"fd00::1", MX_PLACE_GOOD, MX_PLACE_GOOD},
        {"127.0.0.1", MX_PLACE_OURS, MX_PLACE_OURS},
        {"203.0.113.25", MX_PLACE_OURS, MX_PLACE_OURS},
        {"192.0.2.77", MX_PLACE_OURS, MX_PLACE_OURS},
        {"127.0.0.2", MX_PLACE_LOOPBACK, MX_PLACE_GOOD},
        {"127.255.255.255", MX_PLACE_LOOPBACK, MX_PLACE_GOOD},
        {"128.0.0.1", MX_PLACE_GOOD, MX_PLACE_GOOD},
        {"126.255.255.255", MX_PLACE_GOOD, MX_PLACE_GOOD},
        {"0.0.0.0", MX_PLACE_LOOPBACK, MX_PLACE_LOOPBACK},
        {"0.1.2.3", MX_PLACE_LOOPBACK, MX_PLACE_LOOPBACK},
        {"::", MX_PLACE_LOOPBACK, MX_PLACE_LOOPBACK},
        {"::1", MX_PLACE_LOOPBACK, MX_PLACE_GOOD},
        {"::ffff:127.0.0.2", MX_PLACE_LOOPBACK, MX_PLACE_GOOD},
        {"169.254.169.254", MX_PLACE_UNUSABLE, MX_PLACE_UNUSABLE},
        {"169.254.7.1", MX_PLACE_UNUSABLE, MX_PLACE_GOOD},
        {"169.253.255.255", MX_PLACE_GOOD, MX_PLACE_GOOD},
        {"224.0.0.1", MX_PLACE_UNUSABLE, MX_PLACE_UNUSABLE},
        {"239.1.1.1", MX_PLACE_UNUSABLE, MX_PLACE_UNUSABLE},
        {"255.255.255.255", MX_PLACE_UNUSABLE, MX_PLACE_UNUSABLE},
        {"223.255.255.255", MX_PLACE_GOOD, MX_PLACE_GOOD},
        {"fe80::1", MX_PLACE_UNUSABLE, MX_PLACE_UNUSABLE},
        {"febf::1", MX_PLACE_UNUSABLE, MX_PLACE_UNUSABLE},
        {"fec0::1", MX_PLACE_GOOD, MX_PLACE_GOOD},
        {"ff02::1", MX_PLACE_UNUSABLE, MX_PLACE_UNUSABLE},
    };
    const struct config *config = load();

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct net_address address;

        assert_true(net_address_parse_ip(str_from_cstr(rows[i].ip), &address));
        if (mx_judge_address(config, &config->connectors[0], &address) != rows[i].strict ||
            mx_judge_address(config, &config->connectors[1], &address) != rows[i].open)
            fail_msg("%s: %d, %d", rows[i].ip, (int)mx_judge_address(config, &config->connectors[0], &address),
                     (int)mx_judge_address(config, &config->connectors[1], &address));
        assert_int_equal(mx_judge_address(config, &config->default_connector, &address), rows[i].strict);
    }
    config_release(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_preference), cmocka_unit_test(test_equal_ones), cmocka_unit_test(test_ourselves),
        cmocka_unit_test(test_null),       cmocka_unit_test(test_bounds),     cmocka_unit_test(test_places),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
