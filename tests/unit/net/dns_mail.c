/* SPDX-License-Identifier: Apache-2.0 */
/* What is taken for "no such domain" is reported to the sender, and what is taken for "try again" waits for days: the two must not be mixed up. */
#include "net/dns_mail.h"

#include "dns_server.h"
#include "net/dns_private.h"

#define TIMEOUT_MS 30000
#define SHORT_MS   300

static const struct dns_record records[] = {
    {"example.net", RECORD_MX, "10 Mx1.Example.NET"},
    {"example.net", RECORD_MX, "5 mx2.example.net"},
    {"null.test", RECORD_MX, "0 "},
    {"nothing.test", RECORD_A, "192.0.2.1"},
    {"broken.test", RECORD_MX, RECORD_SERVFAIL},
    {"silent.test", RECORD_MX, RECORD_SILENCE},
    {"alias.test", RECORD_CNAME, "example.net"},
    {"circle1.test", RECORD_CNAME, "circle2.test"},
    {"circle2.test", RECORD_CNAME, "circle1.test"},
    {"odd.test", RECORD_CNAME, "a b.test"},
    {"mx1.example.net", RECORD_A, "192.0.2.1"},
    {"mx1.example.net", RECORD_A, "192.0.2.2"},
    {"mx1.example.net", RECORD_AAAA, "2001:db8::1"},
    {"_25._tcp.mx1.example.net", RECORD_TLSA, "\3\1\1digest"},
    {"in-hosts.test", RECORD_A, "192.0.2.9"},
    /* Signed, or so the root says. */
    {"signed.example", RECORD_MX, "10 mx.signed.example"},
};

static struct dns_server server;

/* ---- pure ---- */

static void test_mx_rdata(void **state)
{
    static const struct str bad[] = {
        STR_INIT(""),         STR_INIT("\0"),           STR_INIT("\0\12"),
        STR_INIT("\0\12\1a"), STR_INIT("\0\12\1a\0\0"), STR_INIT("\0\12\3a b\0"),
        STR_INIT("\0\0\0\0"),
    };
    struct dns_mx mx;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(dns_parse_mx(bad[i], &mx));
    assert_true(dns_parse_mx(STR("\1\2\2Mx\4TEST\0"), &mx));
    assert_int_equal(mx.preference, 258);
    assert_string_equal(mx.host, "mx.test");
    assert_true(dns_parse_mx(STR("\0\0\0"), &mx));
    assert_string_equal(mx.host, "");
}

static void test_other_rdata(void **state)
{
    struct net_address address;
    struct dns_tlsa tlsa;
    char text[NET_ADDRESS_TEXT_BYTES];
    static char long_data[DNS_TLSA_BYTES_MAX + 4];

    (void)state;
    assert_false(dns_parse_address(STR("\1\2\3"), DNS_RECORD_A, &address));
    assert_false(dns_parse_address(STR("\1\2\3\4"), DNS_RECORD_AAAA, &address));
    assert_true(dns_parse_address(STR("\300\0\2\1"), DNS_RECORD_A, &address));
    net_address_format_ip(&address, text);
    assert_string_equal(text, "192.0.2.1");
    assert_false(dns_parse_tlsa(STR("\3\1\1"), &tlsa)); /* without data */
    assert_true(dns_parse_tlsa(STR("\2\0\1x"), &tlsa));
    assert_int_equal(tlsa.usage, 2);
    assert_int_equal(tlsa.matching_type, 1);
    assert_true(str_equal(tlsa.data, STR("x")));
    assert_true(dns_parse_tlsa(str_make(long_data, sizeof(long_data) - 1), &tlsa));
    assert_false(dns_parse_tlsa(str_make(long_data, sizeof(long_data)), &tlsa));
}

static void test_text_names(void **state)
{
    static const char *const bad[] = {"", ".", "a..b", ".a", "a b", "a\\.b", "a/b", "\303\244"};
    char name[DNS_NAME_BYTES], text[300];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(dns_parse_text_name(bad[i], name));
    assert_true(dns_parse_text_name("_25._tcp.MX.test.", name));
    assert_string_equal(name, "_25._tcp.mx.test");
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = i % 2 ? '.' : 'a';
    text[253] = '\0';
    assert_true(dns_parse_text_name(text, name));
    text[253] = '.';
    text[254] = '\0';
    assert_true(dns_parse_text_name(text, name)); /* the root's dot does not count */
    text[254] = 'a';
    text[255] = '\0';
    assert_false(dns_parse_text_name(text, name));
    memset(text, 'a', 64);
    text[63] = '\0';
    assert_true(dns_parse_text_name(text, name));
    text[63] = 'a';
    text[64] = '\0';
    assert_false(dns_parse_text_name(text, name));
}

/* Administrators write all sorts of things into it, and expect getent's answer. */
static void test_hosts(void **state)
{
    static const char text[] = "# comment\n"
                               "127.0.0.1\tlocalhost\n"
                               "::1 localhost ip6-localhost # both\r\n"
                               "  10.0.0.9   Smart.Contoso.TEST  smart\n"
                               "nonsense here\n"
                               "10.0.0.10\n"
                               "10.0.0.11 bad/name good.test\n"
                               "10.0.0.12 last.test";
    struct dns_hosts *hosts = dns_hosts_parse(str_from_cstr(text));
    const struct net_address *addresses;
    char ip[NET_ADDRESS_TEXT_BYTES];

    (void)state;
    assert_int_equal(dns_hosts_find(hosts, "localhost", &addresses), 2);
    net_address_format_ip(&addresses[1], ip);
    assert_string_equal(ip, "::1");
    assert_int_equal(dns_hosts_find(hosts, "smart.contoso.test", &addresses), 1);
    net_address_format_ip(&addresses[0], ip);
    assert_string_equal(ip, "10.0.0.9");
    assert_int_equal(dns_hosts_find(hosts, "smart", &addresses), 1);
    assert_int_equal(dns_hosts_find(hosts, "good.test", &addresses), 1);
    assert_int_equal(dns_hosts_find(hosts, "last.test", &addresses), 1);
    assert_int_equal(dns_hosts_find(hosts, "here", &addresses), 0);
    assert_int_equal(dns_hosts_find(hosts, "both", &addresses), 0);
    dns_hosts_destroy(&hosts);
    dns_hosts_destroy(&hosts);
    hosts = dns_hosts_read("/nonexistent/hosts");
    assert_int_equal(dns_hosts_find(hosts, "localhost", &addresses), 0);
    dns_hosts_destroy(&hosts);
}

static void test_hosts_bounds(void **state)
{
    struct buf text;
    struct dns_hosts *hosts;
    const struct net_address *addresses;

    (void)state;
    buf_init(&text, 1u << 20);
    for (unsigned i = 0; i < 100; i++)
        buf_printf(&text, "10.0.0.%u many.test\n", i);
    buf_printf(&text, "10.0.1.1");
    for (unsigned i = 0; i < 1000; i++)
        buf_printf(&text, " n%u.test", i);
    hosts = dns_hosts_parse(buf_str(&text));
    assert_int_equal(dns_hosts_find(hosts, "many.test", &addresses), DNS_HOSTS_ADDRESSES_MAX);
    assert_int_equal(dns_hosts_find(hosts, "n0.test", &addresses), 1);
    assert_int_equal(dns_hosts_find(hosts, "n999.test", &addresses), 0);
    dns_hosts_destroy(&hosts);
    buf_release(&text);
}

/* ---- lookups ---- */

struct scenario {
    void (*run)(struct scenario *scenario);
    struct dns *dns;
    struct dns_resolver *second;
    struct harness_latch latch;
    struct fiber *fiber;
};

static void run_inside(void *argument)
{
    struct scenario *scenario = argument;

    scenario->run(scenario);
    dns_destroy(&scenario->dns);
}

static struct dns_resolver *make_resolver(const char *address, const char *anchor)
{
    char hosts[] = "/tmp/postern-hosts-XXXXXX";
    static const char text[] = "10.0.0.9 in-hosts.test\n";
    struct dns_settings settings = {.resolver = str_from_cstr(address), .hosts = hosts};
    struct dns_resolver *resolver;
    int fd = mkstemp(hosts);

    CHECK(fd >= 0 && write(fd, text, sizeof(text) - 1) == sizeof(text) - 1);
    close(fd);
    settings.trust_anchor = anchor;
    settings.validation = anchor ? DNS_VALIDATION_ON : DNS_VALIDATION_AUTO;
    resolver = dns_resolver_create(&settings, NULL);
    CHECK(resolver);
    unlink(hosts);
    return resolver;
}

static void run(void (*scenario_run)(struct scenario *scenario), const char *address, const char *anchor)
{
    struct scenario scenario = {.run = scenario_run, .dns = dns_create()};
    struct dns_resolver *resolver = make_resolver(address, anchor);

    scenario.second = make_resolver(address, anchor);
    CHECK(dns_use(scenario.dns, &resolver, NULL) == 0);
    harness_run(run_inside, &scenario);
    if (scenario.second)
        dns_resolver_destroy(&scenario.second);
}

static struct dns_records_lookup *begin(struct scenario *scenario, const char *name, enum dns_record_type type,
                                        uint64_t timeout_ms)
{
    const struct dns_question question = {.name = name, .type = type};

    return dns_records_start(scenario->dns, &question, timeout_ms);
}

static enum dns_records_state ask(struct scenario *scenario, const char *name, enum dns_record_type type)
{
    struct dns_records_lookup *lookup = begin(scenario, name, type, TIMEOUT_MS);
    const struct dns_records *found = dns_records_wait(lookup);
    enum dns_records_state state = found->state;

    CHECK(state != DNS_RECORDS_FAILED || found->error[0] != '\0');
    dns_records_release(&lookup);
    CHECK(!lookup);
    dns_records_release(&lookup);
    return state;
}

static void states(struct scenario *scenario)
{
    CHECK(ask(scenario, "example.net", DNS_RECORD_MX) == DNS_RECORDS_FOUND);
    CHECK(ask(scenario, "Example.NET.", DNS_RECORD_MX) == DNS_RECORDS_FOUND);
    CHECK(ask(scenario, "nothing.test", DNS_RECORD_MX) == DNS_RECORDS_NONE);
    CHECK(ask(scenario, "nowhere.test", DNS_RECORD_MX) == DNS_RECORDS_NO_NAME);
    CHECK(ask(scenario, "broken.test", DNS_RECORD_MX) == DNS_RECORDS_FAILED);
    CHECK(ask(scenario, "circle1.test", DNS_RECORD_MX) == DNS_RECORDS_FAILED);
    CHECK(ask(scenario, "odd.test", DNS_RECORD_MX) == DNS_RECORDS_FAILED);
    CHECK(ask(scenario, "not a name", DNS_RECORD_MX) == DNS_RECORDS_FAILED);
    CHECK(ask(scenario, "", DNS_RECORD_MX) == DNS_RECORDS_FAILED);
}

static void test_states(void **state)
{
    (void)state;
    run(states, server.resolver, NULL);
}

static void contents(struct scenario *scenario)
{
    struct dns_records_lookup *mx = begin(scenario, "alias.test", DNS_RECORD_MX, TIMEOUT_MS);
    struct dns_records_lookup *null = begin(scenario, "null.test", DNS_RECORD_MX, TIMEOUT_MS);
    struct dns_records_lookup *a = begin(scenario, "mx1.example.net", DNS_RECORD_A, TIMEOUT_MS);
    struct dns_records_lookup *aaaa = begin(scenario, "mx1.example.net", DNS_RECORD_AAAA, TIMEOUT_MS);
    struct dns_records_lookup *tlsa = begin(scenario, "_25._tcp.mx1.example.net", DNS_RECORD_TLSA, TIMEOUT_MS);
    const struct dns_records *found = dns_records_wait(mx);

    CHECK(found->count == 2 && strcmp(found->canonical, "example.net") == 0 && !found->is_secure);
    CHECK(found->mx[0].preference + found->mx[1].preference == 15);
    CHECK(strcmp(found->mx[found->mx[0].preference == 10 ? 0 : 1].host, "mx1.example.net") == 0);
    found = dns_records_wait(null);
    CHECK(found->count == 1 && found->mx[0].host[0] == '\0');
    CHECK(strcmp(found->canonical, "null.test") == 0);
    CHECK(dns_records_wait(a)->count == 2 && net_address_is_ipv4(&dns_records_wait(a)->addresses[0]));
    CHECK(dns_records_wait(aaaa)->count == 1 && !net_address_is_ipv4(&dns_records_wait(aaaa)->addresses[0]));
    found = dns_records_wait(tlsa);
    CHECK(found->count == 1 && found->tlsa[0].usage == 3 && str_equal(found->tlsa[0].data, STR("digest")));
    dns_records_release(&mx);
    dns_records_release(&null);
    dns_records_release(&a);
    dns_records_release(&aaaa);
    dns_records_release(&tlsa);
}

static void test_contents(void **state)
{
    (void)state;
    run(contents, server.resolver, NULL);
}

/* The file goes before the DNS for those who ask for it, and is unknown to the others: a client's name, or a stranger's domain, is what the DNS says. */
static void from_hosts(struct scenario *scenario)
{
    struct dns_question question = {.name = "In-Hosts.test", .type = DNS_RECORD_A, .asks_hosts = true};
    struct dns_records_lookup *lookup = dns_records_start(scenario->dns, &question, TIMEOUT_MS);

    CHECK(dns_records_wait(lookup)->count == 1 && dns_records_wait(lookup)->addresses[0].ip[12] == 10);
    dns_records_release(&lookup);
    question.type = DNS_RECORD_AAAA;
    lookup = dns_records_start(scenario->dns, &question, TIMEOUT_MS);
    CHECK(dns_records_wait(lookup)->state == DNS_RECORDS_NONE);
    dns_records_release(&lookup);
    question.asks_hosts = false;
    question.type = DNS_RECORD_A;
    lookup = dns_records_start(scenario->dns, &question, TIMEOUT_MS);
    CHECK(dns_records_wait(lookup)->addresses[0].ip[12] == 192);
    dns_records_release(&lookup);
    question = (struct dns_question){.name = "nothing.test", .type = DNS_RECORD_A, .asks_hosts = true};
    lookup = dns_records_start(scenario->dns, &question, TIMEOUT_MS);
    CHECK(dns_records_wait(lookup)->state == DNS_RECORDS_FOUND);
    dns_records_release(&lookup);
}

static void test_from_hosts(void **state)
{
    (void)state;
    run(from_hosts, server.resolver, NULL);
}

static void silence(struct scenario *scenario)
{
    uint64_t began_at_ms = loop_now_ms();
    struct dns_records_lookup *lookup = begin(scenario, "silent.test", DNS_RECORD_MX, SHORT_MS);
    struct dns_records_lookup *dropped = begin(scenario, "silent.test", DNS_RECORD_MX, SHORT_MS);

    dns_records_release(&dropped);
    CHECK(dns_records_wait(lookup)->state == DNS_RECORDS_FAILED);
    CHECK(strstr(dns_records_wait(lookup)->error, "in time"));
    CHECK(loop_now_ms() - began_at_ms >= SHORT_MS / 2);
    dns_records_release(&lookup);
}

static void test_silence(void **state)
{
    (void)state;
    run(silence, server.resolver, NULL);
}

/* Questions whose time is over are libunbound's until it gives them up, and outlive the resolver that was changed, or the module's end. */
static void changing(struct scenario *scenario)
{
    struct dns_records_lookup *before = begin(scenario, "silent.test", DNS_RECORD_MX, SHORT_MS);

    CHECK(dns_use(scenario->dns, &scenario->second, NULL) == 0);
    CHECK(ask(scenario, "example.net", DNS_RECORD_MX) == DNS_RECORDS_FOUND);
    CHECK(dns_records_wait(before)->state == DNS_RECORDS_FAILED);
    dns_records_release(&before);
}

static void test_changing(void **state)
{
    (void)state;
    run(changing, server.resolver, NULL);
}

static void cancelled_main(void *argument)
{
    struct scenario *scenario = argument;
    struct dns_records_lookup *lookup = begin(scenario, "silent.test", DNS_RECORD_MX, TIMEOUT_MS);

    scenario->fiber = fiber_current();
    CHECK(dns_records_wait(lookup)->state == DNS_RECORDS_FAILED);
    dns_records_release(&lookup);
    harness_arrive(&scenario->latch);
}

static void cancelling(struct scenario *scenario)
{
    CHECK(fiber_start(cancelled_main, scenario) == 0);
    fiber_yield();
    fiber_cancel(scenario->fiber);
    harness_wait(&scenario->latch, 1);
}

static void test_cancelling(void **state)
{
    (void)state;
    run(cancelling, server.resolver, NULL);
}

/* Ten thousand domains at once are asked for one after the other, and leave room for the names of clients. */
static void many(struct scenario *scenario)
{
    static struct dns_records_lookup *lookups[DNS_RECORD_QUERIES_MAX * 3];
    const size_t count = sizeof(lookups) / sizeof(lookups[0]);
    struct net_address client = {.ip = {[10] = 0xff, 0xff, 192, 0, 2, 1}};
    struct dns_lookup *name;
    char text[32];

    for (size_t i = 0; i < count; i++) {
        snprintf(text, sizeof(text), "d%zu.test", i);
        lookups[i] = begin(scenario, text, DNS_RECORD_MX, TIMEOUT_MS);
    }
    name = dns_lookup_start(scenario->dns, &client, TIMEOUT_MS);
    CHECK(dns_lookup_wait(name, DEADLINE_NEVER)->state == DNS_NAME_NONE);
    dns_lookup_release(&name);
    for (size_t i = 0; i < count; i++) {
        CHECK(dns_records_wait(lookups[i])->state == DNS_RECORDS_NO_NAME);
        dns_records_release(&lookups[i]);
    }
}

static void test_many(void **state)
{
    (void)state;
    run(many, server.resolver, NULL);
}

static void no_resolver(struct scenario *scenario)
{
    struct dns *unused = dns_create();
    const struct dns_question question = {.name = "example.net", .type = DNS_RECORD_MX};
    struct dns_records_lookup *lookup = dns_records_start(unused, &question, TIMEOUT_MS);

    (void)scenario;
    CHECK(dns_records_wait(lookup)->state == DNS_RECORDS_FAILED);
    dns_records_release(&lookup);
    dns_destroy(&unused);
}

static void test_no_resolver(void **state)
{
    (void)state;
    run(no_resolver, server.resolver, NULL);
}

static void bogus(struct scenario *scenario)
{
    struct dns_records_lookup *lookup = begin(scenario, "signed.example", DNS_RECORD_MX, TIMEOUT_MS);
    const struct dns_records *found = dns_records_wait(lookup);

    CHECK(found->state == DNS_RECORDS_FAILED && found->is_bogus && strstr(found->error, "DNSSEC"));
    dns_records_release(&lookup);
    CHECK(ask(scenario, "null.test", DNS_RECORD_MX) == DNS_RECORDS_FOUND);
}

/* Mail follows no answer that may be forged, and says why it waits. */
static void test_bogus(void **state)
{
    static const char anchor[] = ". IN DS 12345 8 2 e06d44b80b8f1d39a95c0b0d7c65d08458e880409bbc683457104237c7f8ec8d\n";
    char path[] = "/tmp/postern-anchor-XXXXXX";
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0 && write(fd, anchor, sizeof(anchor) - 1) == sizeof(anchor) - 1);
    close(fd);
    run(bogus, server.resolver, path);
    unlink(path);
}

static int set_up(void **state)
{
    (void)state;
    dns_server_start(&server, records, sizeof(records) / sizeof(records[0]));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    dns_server_stop(&server);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mx_rdata),    cmocka_unit_test(test_other_rdata),  cmocka_unit_test(test_text_names),
        cmocka_unit_test(test_hosts),       cmocka_unit_test(test_hosts_bounds), cmocka_unit_test(test_states),
        cmocka_unit_test(test_contents),    cmocka_unit_test(test_from_hosts),   cmocka_unit_test(test_silence),
        cmocka_unit_test(test_changing),    cmocka_unit_test(test_cancelling),   cmocka_unit_test(test_many),
        cmocka_unit_test(test_no_resolver), cmocka_unit_test(test_bogus),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
