/* SPDX-License-Identifier: Apache-2.0 */
/* The snapshot: defaults, values, references, warnings. A default that drifts changes every installation that relies on it. */
#include "config/config.h"
#include "base/mem.h"
#include "mail/address.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static struct config_errors errors;

static const struct config *load(const char *text)
{
    static struct cidr_address own[2];
    static const struct config_machine machine = {"mail.contoso.test", own, 2};
    const struct config *config;

    assert_true(cidr_parse_address(STR("198.51.100.10"), &own[0]));
    assert_true(cidr_parse_address(STR("::1"), &own[1]));
    config_errors_init(&errors);
    config_load_text(vfs_system(), "dir/t.yaml", str_from_cstr(text), &machine, &config, &errors);
    if (!config)
        fail_msg("%u:%u: %s", errors.messages[0].line, errors.messages[0].column, errors.messages[0].text);
    return config;
}

static void unload(const struct config **config)
{
    config_release(config);
    assert_null(*config);
    config_errors_release(&errors);
}

#define CHECK_STR(actual, expected) assert_string_equal((actual).data, expected)

static void check_default_limits(const struct config_limits *limits)
{
    assert_int_equal(limits->message_bytes_max, 36u << 20);
    assert_int_equal(limits->recipients_max, 1000);
    assert_int_equal(limits->connections_max, 20000);
    assert_int_equal(limits->connections_per_client_max, 100);
    assert_int_equal(limits->idle_timeout_ms, 300000);
    assert_int_equal(limits->messages_per_connection_max, 0);
    assert_int_equal(limits->errors_max, 10);
    assert_int_equal(limits->unknown_recipients_max, 100);
    assert_int_equal(limits->received_hops_max, 100);
}

static void test_defaults(void **state)
{
    const struct config *config = load("servers: { one: { listen: ['127.0.0.1:2525'] } }\n"
                                       "connectors: { c: { address-spaces: ['*'], smart-hosts: [H.test] } }\n");
    const struct config_server *server = &config->servers[0];

    (void)state;
    CHECK_STR(config->path, "dir/t.yaml");
    CHECK_STR(config->hostname, "mail.contoso.test");
    CHECK_STR(config->data_dir, "/var/lib/postern");
    CHECK_STR(config->run_dir, "/run/postern");
    CHECK_STR(config->user, "postern");
    CHECK_STR(config->log.to, "stderr");
    assert_int_equal(config->log.level, LOG_LEVEL_INFO);
    assert_int_equal(config->log.format, CONFIG_LOG_TEXT);
    assert_int_equal(config->loops, 0);
    assert_int_equal(config->spool.shards, 1);
    assert_int_equal(config->spool.segment_bytes, 64u << 20);
    assert_int_equal(config->spool.reserve_bytes, 16u << 20);
    assert_int_equal(config->server_count, 1);
    CHECK_STR(server->banner, "Postern ESMTP");
    CHECK_STR(server->allow_open_relay, "");
    assert_int_equal(server->tarpit_ms, 0);
    assert_int_equal(server->bare_newline, CONFIG_BARE_NEWLINE_REJECT);
    check_default_limits(&server->limits);
    assert_true(server->policy->anonymous);
    assert_true(server->policy->anonymous_local_sender);
    assert_true(server->policy->relay_authenticated);
    assert_false(server->policy->tls_required);
    assert_int_equal(server->policy->relay_mode, POLICY_LIST_ONLY);
    assert_int_equal(server->policy->connect_mode, POLICY_LIST_NONE);
    assert_int_equal(server->policy->lookup, POLICY_LOOKUP_AFTER_ACCEPT);
    assert_int_equal(server->policy->sender_match, POLICY_SENDER_MATCH_OFF);
    assert_null(server->policy->relay_rule.file);
    assert_string_equal(server->policy->relay_rule.path, "servers.one.relay.only");
    CHECK_STR(config->connectors[0].helo_name, "mail.contoso.test");
    CHECK_STR(config->connectors[0].smart_hosts[0].host, "H.test");
    assert_false(config->connectors[0].has_source_address);
    assert_false(config->connectors[0].policy->allow_relay);
    assert_int_equal(config->connectors[0].policy->spaces[0].cost, 1);
    assert_int_equal(config->connectors[0].timeouts.connect_ms, 30000);
    assert_int_equal(config->connectors[0].timeouts.command_ms, 300000);
    assert_int_equal(config->connectors[0].timeouts.data_ms, 600000);
    assert_int_equal(config->connectors[0].timeouts.unreachable_ms, 60000);
    assert_int_equal(config->connectors[0].port, 25);
    CHECK_STR(config->connectors[0].masquerade, "");
    assert_int_equal(config->default_connector.timeouts.data_ms, 600000);
    assert_int_equal(config->default_connector.port, 25);
    CHECK_STR(config->default_connector.helo_name, "mail.contoso.test");
    assert_int_equal(config->delivery.retry_count, 4);
    assert_int_equal(config->delivery.retry_ms[0], 900000);
    assert_int_equal(config->delivery.retry_ms[3], 14400000);
    assert_int_equal(config->delivery.expire_ms, 172800000);
    assert_int_equal(config->delivery.delay_notice_ms, 43200000);
    assert_int_equal(config->delivery.concurrency_per_destination, 20);
    assert_int_equal(config->delivery.unresolved_recipients_host.host.length, 0);
    assert_int_equal(config->delivery.ndr.rate_per_domain.count, 60);
    assert_int_equal(config->delivery.ndr.rate.count, 600);
    assert_int_equal(config->delivery.workers, 8);
    CHECK_STR(config->dns.resolver, "");
    assert_int_equal(config->dns.timeout_ms, 5000);
    assert_int_equal(config->dns.dnssec, CONFIG_DNSSEC_AUTO);
    assert_false(config->dns.received_names);
    assert_false(config->dns.is_needed);
    assert_null(server->proxies);
    unload(&config);
}

static void test_values(void **state)
{
    const struct config *config =
        load("hostname: MX.Contoso.TEST.\n"
             "data-dir: var/data\n"
             "loops: 3\n"
             "log: { format: json, level: debug, to: /var/log/postern.log }\n"
             "servers:\n"
             "  one: { listen: ['127.0.0.1:0', '[::1]:26'], banner: '', tarpit: 5s, bare-newline: normalize,\n"
             "         limits: { errors: 3 }, allow-open-relay: a lab }\n"
             "  two: { listen: ['127.0.0.1:0'], recipients: { lookup: at-rcpt } }\n"
             "connectors:\n"
             "  c: { address-spaces: [{ domain: '*.X.test', cost: 7 }], smart-hosts: ['[10.0.0.9]:26'],\n"
             "       source-address: 192.0.2.1, helo-name: out.contoso.test, servers: [two], allow-relay: true,\n"
             "       masquerade: Contoso.TEST }\n"
             "  d: { address-spaces: [d.test], route: dns, port: 2525, mx-networks: [127.0.0.0/8, '::1'] }\n"
             "delivery: { retry: [1s, 2s], unresolved-recipients-host: 'old.contoso.test:26' }\n");

    (void)state;
    CHECK_STR(config->hostname, "mx.contoso.test");
    CHECK_STR(config->data_dir, "dir/var/data");
    CHECK_STR(config->log.to, "/var/log/postern.log");
    assert_int_equal(config->log.level, LOG_LEVEL_DEBUG);
    assert_int_equal(config->loops, 3);
    CHECK_STR(config->servers[0].name, "one");
    CHECK_STR(config->servers[0].banner, "");
    CHECK_STR(config->servers[0].listen[1].text, "[::1]:26");
    CHECK_STR(config->servers[0].allow_open_relay, "a lab");
    assert_int_equal(config->servers[0].listen[1].port, 26);
    assert_int_equal(config->servers[0].tarpit_ms, 5000);
    assert_int_equal(config->servers[0].limits.errors_max, 3);
    assert_int_equal(config->servers[0].limits.recipients_max, 1000);
    assert_int_equal(config->servers[0].bare_newline, CONFIG_BARE_NEWLINE_NORMALIZE);
    assert_ptr_equal(config_find_server(config, STR("two")), &config->servers[1]);
    assert_null(config_find_server(config, STR("three")));
    assert_int_equal(config->servers[1].policy->lookup, POLICY_LOOKUP_AT_RCPT);
    assert_int_equal(config->connectors[0].policy->spaces[0].cost, 7);
    CHECK_STR(config->connectors[0].policy->spaces[0].domain, "x.test");
    CHECK_STR(config->connectors[0].helo_name, "out.contoso.test");
    assert_true(config->connectors[0].smart_hosts[0].skip_mx);
    assert_true(config->connectors[0].has_source_address);
    CHECK_STR(config->connectors[0].masquerade, "contoso.test");
    assert_int_equal(config->connectors[1].smart_host_count, 0);
    assert_int_equal(config->connectors[1].port, 2525);
    assert_int_equal(config->connectors[1].mx_network_count, 2);
    assert_int_equal(config->connectors[0].policy->server_count, 1);
    assert_ptr_equal(config_connector_of(config, config->connectors[0].policy), &config->connectors[0]);
    assert_int_equal(config->delivery.retry_count, 2);
    assert_int_equal(config->delivery.unresolved_recipients_host.port, 26);
    unload(&config);
}

static int decide(const struct config *config, const char *server, const char *client, const char *recipient,
                  struct policy_decision *decision)
{
    struct policy_facts facts = {.server = policy_find_server(config->policy, str_from_cstr(server))};
    struct address address;

    assert_non_null(facts.server);
    assert_true(cidr_parse_address(str_from_cstr(client), &facts.client));
    assert_true(address_parse(&address, str_from_cstr(recipient), policy_default_domain(config->policy)->name));
    facts.recipient = &address;
    policy_decide(config->policy, POLICY_STAGE_RCPT, &facts, decision, NULL);
    return decision->code;
}

/* From the text of a list to the decision, with the rule's place: what `explain` will print. */
static void test_policy(void **state)
{
    char list_path[] = "/tmp/postern-list-XXXXXX";
    int fd = mkstemp(list_path);
    char *text = mem_printf("domains: { contoso.test: { type: local, default: true, recipients: any } }\n"
                            "lists:\n"
                            "  office: [10.1.0.0/16, 'list:devices']\n"
                            "  devices: { file: %s }\n"
                            "servers:\n"
                            "  one:\n"
                            "    listen: ['0.0.0.0:25']\n"
                            "    relay:\n"
                            "      only: [192.0.2.7, 'list:office']\n",
                            list_path);
    const struct config *config;
    struct policy_decision decision;
    static const char entries[] = "# devices\n10.9.0.1 # printer\n\n\t10.9.1.0/24\r\n10.9.2.0/255.255.255.0";

    (void)state;
    assert_int_equal(write(fd, entries, sizeof(entries) - 1), sizeof(entries) - 1);
    close(fd);
    config = load(text);
    assert_int_equal(decide(config, "one", "192.0.2.7", "v@example.net", &decision), 250);
    assert_string_equal(decision.rule->path, "servers.one.relay.only[0]");
    assert_string_equal(decision.rule->file, "dir/t.yaml");
    assert_int_equal(decision.rule->line, 9);
    assert_int_equal(decide(config, "one", "10.1.2.3", "v@example.net", &decision), 250);
    assert_string_equal(decision.rule->path, "servers.one.relay.only[1]");
    assert_int_equal(decide(config, "one", "10.9.0.1", "v@example.net", &decision), 250);
    assert_int_equal(decide(config, "one", "10.9.1.77", "v@example.net", &decision), 250);
    assert_int_equal(decide(config, "one", "10.9.2.77", "v@example.net", &decision), 250);
    assert_int_equal(decide(config, "one", "10.9.3.77", "v@example.net", &decision), 550);
    assert_int_equal(decide(config, "one", "10.9.0.2", "v@example.net", &decision), 550);
    /* A listener on every address: each of the machine's is the server's own. */
    assert_int_equal(decide(config, "one", "203.0.113.1", "v@[198.51.100.10]", &decision), 250);
    assert_string_equal(decision.rule->path, "servers.one.listen[0]");
    assert_int_equal(decide(config, "one", "203.0.113.1", "v@[198.51.100.11]", &decision), 550);
    unload(&config);
    free(text);
    unlink(list_path);
}

/* A mistake in a list's file is told with that file's line. */
static void test_list_file_mistake(void **state)
{
    char list_path[] = "/tmp/postern-list-XXXXXX";
    int fd = mkstemp(list_path);
    char *text = mem_printf(
        "hostname: m.test\nservers: { s: { listen: ['127.0.0.1:0'] } }\nlists: { l: { file: %s } }\n", list_path);
    const struct config *config;

    (void)state;
    assert_int_equal(write(fd, "10.0.0.1\n\n10.0.0.1/8\n", 21), 21);
    close(fd);
    config_errors_init(&errors);
    assert_int_equal(config_load_text(vfs_system(), "t.yaml", str_from_cstr(text), NULL, &config, &errors), -1);
    assert_null(config);
    assert_int_equal(errors.error_count, 1);
    assert_string_equal(errors.messages[0].file, list_path);
    assert_int_equal(errors.messages[0].line, 3);
    config_errors_release(&errors);
    free(text);
    unlink(list_path);
}

static bool has_warning(const char *code)
{
    for (size_t i = 0; i < errors.count; i++)
        if (errors.messages[i].is_warning && strcmp(errors.messages[i].code, code) == 0)
            return true;
    return false;
}

static void test_warnings(void **state)
{
    const struct config *config =
        load("user: root\nhostname: mail\n"
             "domains: { contoso.test: { type: local, default: true } }\n"
             "servers: { one: { listen: ['127.0.0.1:0'], relay: { except: [10.0.0.0/8] } } }\n"
             "connectors: { c: { address-spaces: [a.test], smart-hosts: [h.test], allow-relay: true } }\n");

    (void)state;
    assert_true(has_warning("user-root"));
    assert_true(has_warning("hostname-short"));
    assert_true(has_warning("relay-except"));
    assert_true(has_warning("connector-overrides"));
    assert_false(has_warning("no-local-domain"));
    unload(&config);
    config = load("domains: { contoso.test: { type: local, default: true, recipients: any } }\n"
                  "servers: { one: { listen: ['127.0.0.1:0'] } }\n"
                  "connectors: { c: { address-spaces: ['*'], smart-hosts: [h.test] } }\n");
    assert_int_equal(errors.warning_count, 0);
    unload(&config);
}

static void *retain_and_release(void *argument)
{
    const struct config *config = argument;

    for (int i = 0; i < 10000; i++) {
        const struct config *mine = config_retain(config);

        assert_int_equal(mine->server_count, 1);
        config_release(&mine);
    }
    return NULL;
}

/* Sessions on several loops hold it while a reload lets go of it. */
static void test_references(void **state)
{
    const struct config *config = load("servers: { one: { listen: ['127.0.0.1:0'] } }\n");
    const struct config *other = config_retain(config);
    pthread_t threads[2];

    (void)state;
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, retain_and_release, (void *)(uintptr_t)config);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    config_release(&other);
    CHECK_STR(config->servers[0].name, "one");
    unload(&config);
    config_release(&config); /* NULL is nothing */
}

/* Without a resolver the mail of a connector that names hosts would never leave; with one that nobody needs a machine without a DNS would not start. */
static void test_names_for_routes(void **state)
{
#define ONE_SERVER "servers: { one: { listen: ['127.0.0.1:0'] }, two: { listen: ['127.0.0.1:0'] } }\n"
#define CONNECTORS                                                                                                     \
    ONE_SERVER "connectors:\n  all: { address-spaces: ['*'], smart-hosts: ['10.0.0.1:25', '[2001:db8::1]:25'] }\n"
    static const struct {
        const char *text;
        bool is_needed;
    } cases[] = {
        {CONNECTORS, false},
        {ONE_SERVER, true},
        {ONE_SERVER "connectors: { some: { address-spaces: [a.test], smart-hosts: ['10.0.0.1'] } }\n", true},
        {ONE_SERVER "connectors: { all: { address-spaces: ['*'], smart-hosts: ['10.0.0.1'], servers: [one] } }\n",
         true},
        {CONNECTORS "  named: { address-spaces: [a.test], smart-hosts: ['10.0.0.1', 'h.test'] }\n", true},
        {CONNECTORS "  named: { address-spaces: [a.test], smart-hosts: ['[h.test]'] }\n", true},
        {CONNECTORS "  dns: { address-spaces: [a.test], route: dns }\n", true},
        {CONNECTORS "  dns: { address-spaces: [a.test] }\n", true},
        {CONNECTORS "delivery: { unresolved-recipients-host: old.test }\n", true},
        {CONNECTORS "delivery: { unresolved-recipients-host: 10.0.0.2 }\n", false},
        {CONNECTORS "domains: { a.test: { type: local, default: true, recipients: any, deliver: 'smtp:b.test:25' } }\n",
         true},
        {CONNECTORS
         "domains: { a.test: { type: local, default: true, recipients: any, deliver: 'smtp:10.0.0.3:25' } }\n",
         false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct config *config = load(cases[i].text);

        if (config->dns.is_needed_for_routes != cases[i].is_needed)
            fail_msg("case %zu: %d", i, config->dns.is_needed_for_routes);
        assert_false(config->dns.is_needed);
        unload(&config);
    }
}

/* Nobody is looked up where nothing asks for it: the DNS would be told of every client, and every outage of it felt. */
static void test_names(void **state)
{
    static const struct {
        const char *text;
        bool is_needed;
    } cases[] = {
        {"servers: { one: { listen: ['127.0.0.1:0'], relay: { only: ['domain:A.test'] } } }\n", true},
        {"servers: { one: { listen: ['127.0.0.1:0'], connect: { except: [10.0.0.1, 'list:a'] } } }\n"
         "lists: { a: ['list:b'], b: ['domain:a.test'] }\n",
         true},
        {"servers: { one: { listen: ['127.0.0.1:0'] } }\nlists: { b: ['domain:a.test'] }\n", false},
        {"servers: { one: { listen: ['127.0.0.1:0'] } }\ndns: { received-names: true }\n", true},
        {"servers: { one: { listen: ['127.0.0.1:0'], proxy-protocol: { from: ['10.0.0.1'] } } }\n", false},
    };
    const struct config *config;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        config = load(cases[i].text);
        assert_int_equal(config->dns.is_needed, cases[i].is_needed);
        unload(&config);
    }
    config = load("servers: { one: { listen: ['127.0.0.1:0'], proxy-protocol: { from: ['10.0.0.1'] } } }\n"
                  "dns: { resolver: '::1@5353', timeout: 250ms, dnssec: on }\n");
    assert_non_null(config->servers[0].proxies);
    CHECK_STR(config->dns.resolver, "::1@5353");
    assert_int_equal(config->dns.timeout_ms, 250);
    assert_int_equal(config->dns.dnssec, CONFIG_DNSSEC_ON);
    unload(&config);
}

/* A gateway for a hundred thousand domains and ten thousand networks loads. */
static void test_large(void **state)
{
    struct buf text;
    const struct config *config;
    struct policy_decision decision;

    (void)state;
    buf_init(&text, 8u << 20);
    buf_append_str(&text, STR("servers: { one: { listen: ['127.0.0.1:0'], relay: { only: ['list:nets'] } } }\n"
                              "lists:\n  nets:\n"));
    for (unsigned i = 0; i < 10000; i++)
        buf_printf(&text, "    - 10.%u.%u.0/25\n", i / 256, i % 256);
    buf_append_str(&text, STR("domains:\n  contoso.test: { type: local, default: true, recipients: any }\n"));
    for (unsigned i = 0; i < 100000; i++)
        buf_printf(&text, "  domain%u.test: { type: allowed }\n", i);
    buf_append_char(&text, '\0');
    config = load(text.data);
    assert_int_equal(policy_domain_count(config->policy), 100001);
    assert_int_equal(decide(config, "one", "192.0.2.1", "v@domain99999.test", &decision), 250);
    assert_int_equal(decision.rule->line, 10005 + 100000);
    assert_int_equal(decide(config, "one", "10.39.15.1", "v@example.net", &decision), 250);
    assert_int_equal(decide(config, "one", "10.39.15.128", "v@example.net", &decision), 550);
    unload(&config);
    buf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_policy),
        cmocka_unit_test(test_list_file_mistake),
        cmocka_unit_test(test_warnings),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_names_for_routes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
