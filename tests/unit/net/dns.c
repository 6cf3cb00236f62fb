/* SPDX-License-Identifier: Apache-2.0 */
/* A name that is verified wrongly relays for a stranger; one that is not verified in time bounces a branch office's mail. */
#include "net/dns.h"

#include "dns_server.h"
#include "net/dns_private.h"

#define TIMEOUT_MS 30000
#define SHORT_MS   300

static const struct dns_record records[] = {
    {"1.2.0.192.in-addr.arpa", RECORD_PTR, "Mail.Contoso.Test"},
    {"mail.contoso.test", RECORD_A, "192.0.2.9"},
    {"mail.contoso.test", RECORD_A, "192.0.2.1"},
    {"2.2.0.192.in-addr.arpa", RECORD_PTR, "claimed.contoso.test"},
    {"claimed.contoso.test", RECORD_A, "192.0.2.9"},
    {"claimed.contoso.test", RECORD_AAAA, "::ffff:192.0.2.2"},
    {"3.2.0.192.in-addr.arpa", RECORD_PTR, "gone.contoso.test"},
    {"4.2.0.192.in-addr.arpa", RECORD_PTR, RECORD_NOTHING},
    {"5.2.0.192.in-addr.arpa", RECORD_PTR, RECORD_SERVFAIL},
    {"6.2.0.192.in-addr.arpa", RECORD_PTR, "broken.contoso.test"},
    {"broken.contoso.test", RECORD_A, RECORD_SERVFAIL},
    {"7.2.0.192.in-addr.arpa", RECORD_PTR, RECORD_SILENCE},
    {"8.2.0.192.in-addr.arpa", RECORD_PTR, "silent.contoso.test"},
    {"silent.contoso.test", RECORD_A, RECORD_SILENCE},
    /* Several names. */
    {"10.2.0.192.in-addr.arpa", RECORD_PTR, "claimed.contoso.test"},
    {"10.2.0.192.in-addr.arpa", RECORD_PTR, "first.contoso.test"},
    {"10.2.0.192.in-addr.arpa", RECORD_PTR, "second.contoso.test"},
    {"first.contoso.test", RECORD_A, "192.0.2.10"},
    {"second.contoso.test", RECORD_A, "192.0.2.10"},
    {"11.2.0.192.in-addr.arpa", RECORD_PTR, "silent.contoso.test"},
    {"11.2.0.192.in-addr.arpa", RECORD_PTR, "late.contoso.test"},
    {"late.contoso.test", RECORD_A, "192.0.2.11"},
    {"12.2.0.192.in-addr.arpa", RECORD_PTR, "broken.contoso.test"},
    {"12.2.0.192.in-addr.arpa", RECORD_PTR, "claimed.contoso.test"},
    {"13.2.0.192.in-addr.arpa", RECORD_PTR, "not a host.contoso.test"},
    {"14.2.0.192.in-addr.arpa", RECORD_PTR, ""},
    /* Zones that a resolver keeps to itself unless told otherwise. */
    {"1.1.1.10.in-addr.arpa", RECORD_PTR, "inside.internal"},
    {"inside.internal", RECORD_A, "10.1.1.1"},
    {"9.0.0.127.in-addr.arpa", RECORD_PTR, "own.home.arpa"},
    {"own.home.arpa", RECORD_A, "127.0.0.9"},
    /* Signed, or so the root says. */
    {"1.33.41.96.in-addr.arpa", RECORD_PTR, "host.signed.example"},
    {"host.signed.example", RECORD_A, "96.41.33.1"},
    /* IPv6. */
    {"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", RECORD_PTR, "six.contoso.test"},
    {"six.contoso.test", RECORD_AAAA, "2001:db8::1"},
    {"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", RECORD_PTR, "mail.contoso.test"},
};

static struct dns_server server;

static struct net_address client_address(const char *ip)
{
    struct net_address address;

    CHECK(net_address_parse_ip(str_from_cstr(ip), &address));
    return address;
}

static struct dns_settings settings_for(const char *resolver)
{
    return (struct dns_settings){.resolver = str_from_cstr(resolver)};
}

/* ---- names ---- */

static void test_reverse_names(void **state)
{
    struct net_address address = client_address("192.0.2.1");
    char name[DNS_REVERSE_BYTES];

    (void)state;
    dns_reverse_name(&address, name);
    assert_string_equal(name, "1.2.0.192.in-addr.arpa.");
    address = client_address("2001:db8::ab");
    dns_reverse_name(&address, name);
    assert_string_equal(name, "b.a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.");
}

/* A PTR's owner writes what he likes into it. */
static void test_hostile_names(void **state)
{
    static const struct str bad[] = {
        STR_INIT(""),          STR_INIT("\0"),
        STR_INIT("\1a"),       STR_INIT("\2a"),
        STR_INIT("\1a\0\0"),   STR_INIT("\1a\0\1b\0"),
        STR_INIT("\3a.b\0"),   STR_INIT("\3a b\0"),
        STR_INIT("\2a\n\0"),   STR_INIT("\2a\0\0"),
        STR_INIT("\2a\377\0"), STR_INIT("\1*\1a\0"),
        STR_INIT("\300\14"),   STR_INIT("\100aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\0"),
    };
    char name[DNS_NAME_BYTES];
    char longest[300];
    size_t length = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (dns_parse_name(bad[i], name))
            fail_msg("bad[%zu] is taken as %s", i, name);
    assert_true(dns_parse_name(STR("\4Mail\1b\7x_-9xx0\0"), name));
    assert_string_equal(name, "Mail.b.x_-9xx0");
    /* 126 labels of one letter are the longest name there is, 253 octets in text; one more is too long. */
    while (length < 252) {
        longest[length++] = 1;
        longest[length++] = 'a';
    }
    memcpy(longest + length, "\0\1a\0", 4);
    assert_true(dns_parse_name(str_make(longest, length + 1), name));
    assert_int_equal(strlen(name), 251);
    memcpy(longest + length, "\1a\0", 3);
    assert_true(dns_parse_name(str_make(longest, length + 3), name));
    assert_int_equal(strlen(name), 253);
    memcpy(longest + length, "\2aa\0", 4);
    assert_false(dns_parse_name(str_make(longest, length + 4), name));
}

static void test_resolver_addresses(void **state)
{
    static const char *const bad[] = {
        "", "here", "127.0.0.1:53", "127.0.0.1@", "127.0.0.1@0", "127.0.0.1@65536", "127.0.0.1@53@53", "@53"};
    struct dns_settings settings;
    struct net_address address;
    struct error error;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(dns_parse_resolver(str_from_cstr(bad[i]), &address));
    assert_true(dns_parse_resolver(STR("127.0.0.1"), &address));
    assert_int_equal(address.port, 53);
    assert_true(dns_parse_resolver(STR("::1@5353"), &address));
    assert_int_equal(address.port, 5353);
    settings = settings_for("here");
    assert_null(dns_resolver_create(&settings, &error));
    assert_non_null(strstr(error.text, "ADDRESS@PORT"));
}

/* ---- states ---- */

struct expectation {
    const char *client;
    enum dns_name_state state;
    const char *name;
};

static const struct expectation expectations[] = {
    {"192.0.2.1", DNS_NAME_VERIFIED, "Mail.Contoso.Test"},
    {"192.0.2.2", DNS_NAME_UNVERIFIED, ""},
    {"192.0.2.3", DNS_NAME_UNVERIFIED, ""},
    {"192.0.2.4", DNS_NAME_NONE, ""},
    {"192.0.2.200", DNS_NAME_NONE, ""},
    {"192.0.2.5", DNS_NAME_TEMPFAIL, ""},
    {"192.0.2.6", DNS_NAME_TEMPFAIL, ""},
    {"192.0.2.10", DNS_NAME_VERIFIED, "first.contoso.test"},
    {"192.0.2.12", DNS_NAME_TEMPFAIL, ""},
    {"192.0.2.13", DNS_NAME_UNVERIFIED, ""},
    {"192.0.2.14", DNS_NAME_UNVERIFIED, ""},
    {"10.1.1.1", DNS_NAME_VERIFIED, "inside.internal"},
    {"127.0.0.9", DNS_NAME_VERIFIED, "own.home.arpa"},
    {"2001:db8::1", DNS_NAME_VERIFIED, "six.contoso.test"},
    {"2001:db8::2", DNS_NAME_UNVERIFIED, ""},
};

#define EXPECTATIONS (sizeof(expectations) / sizeof(expectations[0]))

/* The same question without a loop, as a command asks it. */
static void test_now(void **state)
{
    struct dns_settings settings = settings_for(server.resolver);

    (void)state;
    for (size_t i = 0; i < EXPECTATIONS; i++) {
        struct net_address client = client_address(expectations[i].client);
        struct dns_name name = {0};

        assert_int_equal(dns_look_up_now(&settings, &client, TIMEOUT_MS, &name, NULL), 0);
        if (name.state != expectations[i].state || strcmp(name.text, expectations[i].name) != 0)
            fail_msg("%s: state %d, name %s", expectations[i].client, name.state, name.text);
    }
}

static enum dns_name_state ask_now(const struct dns_settings *settings, const char *ip)
{
    struct net_address client = client_address(ip);
    struct dns_name name = {0};

    assert_int_equal(dns_look_up_now(settings, &client, TIMEOUT_MS, &name, NULL), 0);
    return name.state;
}

/* An answer that does not validate is forged until proven otherwise; an organisation's own zones, which nobody can sign, still work. The trust anchor
 * is of a root that this server is not. */
static void test_validation(void **state)
{
    static const char anchor[] = ". IN DS 12345 8 2 e06d44b80b8f1d39a95c0b0d7c65d08458e880409bbc683457104237c7f8ec8d\n";
    char path[] = "/tmp/postern-anchor-XXXXXX";
    struct dns_settings settings = settings_for(server.resolver);
    struct error error;
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0 && write(fd, anchor, sizeof(anchor) - 1) == sizeof(anchor) - 1);
    close(fd);
    settings.trust_anchor = path;
    assert_int_equal(ask_now(&settings, "96.41.33.1"), DNS_NAME_VERIFIED); /* a resolver that is named is trusted */
    settings.validation = DNS_VALIDATION_ON;
    assert_int_equal(ask_now(&settings, "96.41.33.1"), DNS_NAME_TEMPFAIL);
    assert_int_equal(ask_now(&settings, "10.1.1.1"), DNS_NAME_VERIFIED);
    assert_int_equal(ask_now(&settings, "192.0.2.1"), DNS_NAME_VERIFIED);
    settings.validation = DNS_VALIDATION_OFF;
    assert_int_equal(ask_now(&settings, "96.41.33.1"), DNS_NAME_VERIFIED);
    unlink(path);
    settings.validation = DNS_VALIDATION_ON;
    assert_null(dns_resolver_create(&settings, &error));
    assert_non_null(strstr(error.text, path));
}

/* ---- lookups from loops ---- */

struct scenario {
    void (*run)(void *scenario);
    struct dns *dns;
    struct harness_latch latch;
    const char *client;
    uint64_t timeout_ms;
    unsigned answers[4]; /* by state */
    struct fiber *fiber;
    struct dns_resolver *resolvers[3]; /* to be used one after the other */
};

static struct dns_resolver *make_resolver(const char *resolver_address)
{
    struct dns_settings settings = settings_for(resolver_address);
    struct dns_resolver *resolver = dns_resolver_create(&settings, NULL);

    CHECK(resolver);
    CHECK(!dns_resolver_validates(resolver));
    return resolver;
}

static void use(struct dns *dns, struct dns_resolver *resolver)
{
    CHECK(dns_use(dns, &resolver, NULL) == 0);
    CHECK(!resolver);
}

/* The loop outlives the module, to which lookups go home. */
static void run_inside(void *argument)
{
    struct scenario *scenario = argument;

    scenario->run(scenario);
    dns_destroy(&scenario->dns);
    CHECK(!scenario->dns);
}

static void run(void (*scenario_run)(void *scenario), const char *resolver)
{
    struct scenario scenario = {.run = scenario_run, .dns = dns_create()};

    if (resolver)
        use(scenario.dns, make_resolver(resolver));
    harness_run(run_inside, &scenario);
}

static void all_at_once(void *argument)
{
    struct scenario *scenario = argument;
    struct dns_lookup *lookups[EXPECTATIONS];

    for (size_t i = 0; i < EXPECTATIONS; i++) {
        struct net_address client = client_address(expectations[i].client);

        lookups[i] = dns_lookup_start(scenario->dns, &client, TIMEOUT_MS);
        CHECK(!dns_lookup_result(lookups[i]));
    }
    for (size_t i = 0; i < EXPECTATIONS; i++) {
        const struct dns_name *name = dns_lookup_wait(lookups[i], DEADLINE_NEVER);

        CHECK(name && name == dns_lookup_result(lookups[i]));
        CHECK(name->state == expectations[i].state);
        CHECK(strcmp(name->text, expectations[i].name) == 0);
        dns_lookup_release(&lookups[i]);
        CHECK(!lookups[i]);
        dns_lookup_release(&lookups[i]);
    }
}

static void test_states(void **state)
{
    (void)state;
    run(all_at_once, server.resolver);
}

/* Until it is told whom to ask it asks nobody, and knows nothing. */
static void unused(void *argument)
{
    struct scenario *scenario = argument;
    struct net_address client = client_address("192.0.2.1");
    struct dns_lookup *lookup = dns_lookup_start(scenario->dns, &client, TIMEOUT_MS);

    CHECK(dns_lookup_result(lookup)->state == DNS_NAME_TEMPFAIL);
    dns_lookup_release(&lookup);
}

static void test_unused(void **state)
{
    (void)state;
    run(unused, NULL);
}

/* The whole has one deadline; what is known by then counts. */
static void silence(void *argument)
{
    struct scenario *scenario = argument;
    static const struct expectation cases[] = {
        {"192.0.2.7", DNS_NAME_TEMPFAIL, ""},
        {"192.0.2.8", DNS_NAME_TEMPFAIL, ""},
        {"192.0.2.11", DNS_NAME_VERIFIED, "late.contoso.test"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct net_address client = client_address(cases[i].client);
        struct dns_lookup *lookup = dns_lookup_start(scenario->dns, &client, SHORT_MS);
        uint64_t began_at_ms = loop_now_ms();
        const struct dns_name *name;

        CHECK(!dns_lookup_wait(lookup, loop_now_ms() + 1));
        name = dns_lookup_wait(lookup, DEADLINE_NEVER);
        CHECK(name && name->state == cases[i].state && strcmp(name->text, cases[i].name) == 0);
        CHECK(loop_now_ms() - began_at_ms >= SHORT_MS / 2);
        dns_lookup_release(&lookup);
    }
}

static void test_silence(void **state)
{
    (void)state;
    run(silence, server.resolver);
}

static void cancelled_main(void *argument)
{
    struct scenario *scenario = argument;
    struct net_address client = client_address("192.0.2.7");
    struct dns_lookup *lookup = dns_lookup_start(scenario->dns, &client, TIMEOUT_MS);

    scenario->fiber = fiber_current();
    CHECK(!dns_lookup_wait(lookup, DEADLINE_NEVER));
    dns_lookup_release(&lookup);
    harness_arrive(&scenario->latch);
}

/* A session that is ended does not wait for the DNS; its lookup ends later, without it. */
static void cancelling(void *argument)
{
    struct scenario *scenario = argument;

    CHECK(fiber_start(cancelled_main, scenario) == 0);
    fiber_yield();
    fiber_cancel(scenario->fiber);
    harness_wait(&scenario->latch, 1);
}

static void test_cancelling(void **state)
{
    (void)state;
    run(cancelling, server.resolver);
}

static void waiting_main(void *argument)
{
    struct scenario *scenario = argument;
    struct net_address client = client_address(scenario->client);
    struct dns_lookup *lookup = dns_lookup_start(scenario->dns, &client, scenario->timeout_ms);
    const struct dns_name *name = dns_lookup_wait(lookup, DEADLINE_NEVER);

    CHECK(name);
    scenario->answers[name->state]++;
    dns_lookup_release(&lookup);
    harness_arrive(&scenario->latch);
}

/* A hundred connections from one host are one question. */
static void joining(void *argument)
{
    struct scenario *scenario = argument;
    unsigned before = atomic_load(&server.query_count);

    scenario->client = "192.0.2.1";
    scenario->timeout_ms = TIMEOUT_MS;
    for (unsigned i = 0; i < 100; i++)
        CHECK(fiber_start(waiting_main, scenario) == 0);
    harness_wait(&scenario->latch, 100);
    CHECK(scenario->answers[DNS_NAME_VERIFIED] == 100);
    CHECK(atomic_load(&server.query_count) - before <= 4); /* one may be sent twice on a busy machine */
}

static void test_joining(void **state)
{
    (void)state;
    run(joining, server.resolver);
}

/* Nobody who does not answer makes us hold more than so many questions: what goes beyond is told at once. */
static void too_many(void *argument)
{
    struct scenario *scenario = argument;
    static struct dns_lookup *lookups[DNS_QUERIES_MAX + 100];
    const size_t count = sizeof(lookups) / sizeof(lookups[0]);
    size_t answered = 0;

    for (size_t i = 0; i < count; i++) {
        struct net_address client = client_address("10.9.0.0");

        client.ip[14] = (unsigned char)(i >> 8);
        client.ip[15] = (unsigned char)i;
        lookups[i] = dns_lookup_start(scenario->dns, &client, TIMEOUT_MS);
    }
    for (size_t i = DNS_QUERIES_MAX; i < count; i++) {
        const struct dns_name *name = dns_lookup_wait(lookups[i], DEADLINE_NEVER);

        CHECK(name && name->state == DNS_NAME_TEMPFAIL);
    }
    for (size_t i = 0; i < count; i++) {
        answered += dns_lookup_result(lookups[i]) != NULL;
        dns_lookup_release(&lookups[i]);
    }
    CHECK(answered < count);
}

/* A socket that takes questions and answers none. */
static void test_too_many(void **state)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char resolver[32];

    (void)state;
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&in, sizeof(in)) == 0);
    snprintf(resolver, sizeof(resolver), "127.0.0.1@%u", (unsigned)socket_address(fd).port);
    run(too_many, resolver);
    close(fd);
}

/* Lookups under way end with the resolver that they began with; new ones ask the new one. */
static void changing(void *argument)
{
    struct scenario *scenario = argument;
    struct net_address silent = client_address("192.0.2.8"), client = client_address("192.0.2.1");
    struct dns_lookup *before = dns_lookup_start(scenario->dns, &silent, SHORT_MS);

    for (unsigned i = 0; i < 3; i++) {
        struct dns_lookup *lookup;

        use(scenario->dns, scenario->resolvers[i]);
        lookup = dns_lookup_start(scenario->dns, &client, TIMEOUT_MS);
        CHECK(dns_lookup_wait(lookup, DEADLINE_NEVER)->state == DNS_NAME_VERIFIED);
        dns_lookup_release(&lookup);
    }
    CHECK(dns_lookup_wait(before, DEADLINE_NEVER)->state == DNS_NAME_TEMPFAIL);
    dns_lookup_release(&before);
}

static void test_changing(void **state)
{
    struct scenario scenario = {.run = changing, .dns = dns_create()};

    (void)state;
    use(scenario.dns, make_resolver(server.resolver));
    for (unsigned i = 0; i < 3; i++)
        scenario.resolvers[i] = make_resolver(server.resolver);
    harness_run(run_inside, &scenario);
}

/* The end comes while others still wait: they are told, not forgotten. */
static void ending(void *argument)
{
    struct scenario *scenario = argument;
    struct dns *dns = dns_create();
    struct scenario inner = {.dns = dns, .client = "192.0.2.8", .timeout_ms = TIMEOUT_MS};

    use(dns, scenario->resolvers[0]);
    for (unsigned i = 0; i < 10; i++)
        CHECK(fiber_start(waiting_main, &inner) == 0);
    fiber_yield();
    dns_destroy(&dns);
    harness_wait(&inner.latch, 10);
    CHECK(inner.answers[DNS_NAME_TEMPFAIL] == 10);
}

static void test_ending(void **state)
{
    struct scenario scenario = {.run = ending, .dns = dns_create(), .resolvers = {make_resolver(server.resolver)}};

    (void)state;
    harness_run(run_inside, &scenario);
}

static int start_server(void **state)
{
    (void)state;
    dns_server_start(&server, records, sizeof(records) / sizeof(records[0]));
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    dns_server_stop(&server);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reverse_names),
        cmocka_unit_test(test_hostile_names),
        cmocka_unit_test(test_resolver_addresses),
        cmocka_unit_test(test_now),
        cmocka_unit_test(test_validation),
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_unused),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_cancelling),
        cmocka_unit_test(test_joining),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_changing),
        cmocka_unit_test(test_ending),
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
