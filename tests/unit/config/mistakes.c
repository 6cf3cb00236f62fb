/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One mistake each, and what is said about it where. An administrator who gets the wrong line searches in the wrong place; a
 * mistake that is not found is a setting that silently isn't there.
 */
#include "config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/* A good configuration of five lines, so that a case's text begins on line 6 at the top level. */
#define GOOD                                                                                                           \
    "hostname: mail.contoso.test\n"                                                                                    \
    "domains:\n"                                                                                                       \
    "  contoso.test: { type: local, default: true, recipients: any }\n"                                                \
    "servers:\n"                                                                                                       \
    "  one: { listen: ['127.0.0.1:2525'] }\n"
/* The same, open for more keys of the server, which begin on line 7, column 5. */
#define SHA256 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define SERVER                                                                                                         \
    "hostname: mail.contoso.test\n"                                                                                    \
    "domains:\n"                                                                                                       \
    "  contoso.test: { type: local, default: true, recipients: any }\n"                                                \
    "servers:\n"                                                                                                       \
    "  one:\n"                                                                                                         \
    "    listen: ['127.0.0.1:2525']\n"
/* Open for more domains, from line 6, column 3. */
#define DOMAINS                                                                                                        \
    "hostname: mail.contoso.test\n"                                                                                    \
    "servers:\n"                                                                                                       \
    "  one: { listen: ['127.0.0.1:2525'] }\n"                                                                          \
    "domains:\n"                                                                                                       \
    "  contoso.test: { type: local, default: true, recipients: any }\n"

struct mistake {
    const char *text;
    unsigned line;
    unsigned column;
    const char *message_part;
};

static const struct mistake mistakes[] = {
    /* Form. */
    {GOOD "hostnme: x\n", 6, 1, "did you mean \"hostname\"?"},
    {GOOD "data_dir: /x\n", 6, 1, "did you mean \"data-dir\"?"},
    {GOOD "zzzzzz: /x\n", 6, 1, "the keys here are include, hostname"},
    {GOOD "user:\n", 6, 6, "has no value"},
    {GOOD "user: [x]\n", 6, 7, "wants a single value, not a list"},
    {GOOD "user: \"\"\n", 6, 7, "must not be empty"},
    {GOOD "user: \"a\\nb\"\n", 6, 7, "control characters"},
    {GOOD "loops: -1\n", 6, 8, "whole number"},
    {GOOD "loops: 1000\n", 6, 8, "from 0 to 256"},
    {GOOD "log: { level: loud }\n", 6, 15, "debug, info, warning or error"},
    {GOOD "log: { to: here }\n", 6, 12, "absolute path"},
    {GOOD "log:\n", 6, 5, "write {}"},
    {GOOD "log: text\n", 6, 6, "wants keys with values"},
    {GOOD "spool: { segment-size: 1KiB }\n", 6, 24, "from 1MiB to 1GiB"},
    {GOOD "delivery: { retry: 15m }\n", 6, 20, "wants a list"},
    {GOOD "delivery: { retry: [] }\n", 6, 20, "from 1 to 100 entries"},
    {GOOD "delivery: { retry: [0s] }\n", 6, 21, "delivery.retry[0]: must be from 100ms"},
    {GOOD "delivery: { expire: 2 days }\n", 6, 21, "like 90s, 15m"},
    {GOOD "delivery: { ndr: { rate: 60 } }\n", 6, 26, "rate like 60/m"},
    {GOOD "delivery: { ndr: { copy-to: bob } }\n", 6, 29, "address with a domain"},
    {GOOD "delivery: { unresolved-recipients-host: 'a b' }\n", 6, 41, "host name"},
    {"hostname: mail.contoso.test\n", 1, 1, "\"servers\" is missing"},
    {"hostname: mail.contoso.test\nservers: {}\n", 2, 10, "at least one server"},
    {"hostname: 10.0.0.1\nservers: { s: { listen: ['127.0.0.1:0'] } }\n", 1, 11, "domain name like"},
    {"hostname: m.test\nservers: { 'a b': { listen: ['127.0.0.1:0'] } }\n", 2, 12, "letters, digits"},
    {"hostname: m.test\nservers: { s: { listen: [] } }\n", 2, 25, "from 1 to 100 entries"},
    {"hostname: m.test\nservers: { s: {} }\n", 2, 15, "\"listen\" is missing"},
    /* Domains. */
    {DOMAINS "  Contoso.TEST: { type: allowed }\n", 6, 3, "two spellings"},
    {DOMAINS "  '*': { type: allowed }\n", 6, 3, "is not a domain name"},
    {DOMAINS "  'a*.test': { type: allowed }\n", 6, 3, "is not a domain name"},
    {DOMAINS "  192.0.2.1: { type: allowed }\n", 6, 3, "is not a domain name"},
    {DOMAINS "  x.test: {}\n", 6, 11, "\"type\" is missing"},
    {DOMAINS "  x.test: local\n", 6, 11, "wants keys with values"},
    {DOMAINS "  x.test: { type: alias }\n", 6, 11, "needs the name of a local domain"},
    {DOMAINS "  x.test: { type: alias, of: y.test }\n", 6, 30, "which is not y.test"},
    {DOMAINS "  x.test: { type: alias, of: contoso.test, recipients: any }\n", 6, 44, "only; remove the key"},
    {DOMAINS "  x.test: { type: local, default: true }\n", 6, 35, "contoso.test is the default already"},
    {DOMAINS "  x.test: { type: allowed, deliver: maildir }\n", 6, 28, "for local domains only"},
    {DOMAINS "  x.test: { type: local, deliver: 'lmtp:localhost' }\n", 6, 35, "write lmtp:HOST:PORT"},
    {DOMAINS "  x.test: { type: local, deliver: 'lmtp:/run/"
             "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
             "01234567' }\n",
     6, 35, "a socket's path"},
    {DOMAINS "  x.test: { type: local, deliver: lmtp }\n", 6, 35, "lmtp:/SOCKET"},
    {DOMAINS "  x.test: { type: local, deliver: mbox }\n", 6, 35, "wants maildir, lmtp:HOST:PORT"},
    {DOMAINS "  x.test: { type: local, deliver: 'smtp:' }\n", 6, 35, "host name"},
    {DOMAINS "  x.test: { type: local, recipients: all }\n", 6, 38, "any, directory, or a list"},
    {DOMAINS "  x.test: { type: local, recipients: [a@y.test] }\n", 6, 39, "not an address of this domain"},
    {DOMAINS "  x.test: { type: local, recipients: ['a b'] }\n", 6, 39, "wants a local part"},
    {DOMAINS "  x.test: { type: local, recipients: [''] }\n", 6, 39, "wants a local part"},
    {"hostname: m.test\nservers: { s: { listen: ['127.0.0.1:0'] } }\ndomains:\n  a.test: { type: local }\n", 4, 3,
     "no local domain is the default"},
    {"hostname: m.test\nservers: { s: { listen: ['127.0.0.1:0'] } }\ndomains:\n  '*.a.test': { type: local, default: "
     "true }\n",
     4, 39, "a wildcard cannot"},
    /* Client lists. */
    {SERVER "    relay: { only: [10.1.2.3/16] }\n", 7, 21, "write 10.1.0.0/16"},
    {SERVER "    relay: { only: 10.1.0.0/16 }\n", 7, 20, "wants a list"},
    {SERVER "    relay: { only: [[10.1.0.0/16]] }\n", 7, 21, "single value"},
    {SERVER "    relay: { only: [''] }\n", 7, 21, "not an address or network"},
    {SERVER "    relay: { except: [] }\n", 7, 22, "let everyone"},
    {SERVER "    relay: { only: [10.0.0.1], except: [10.0.0.2] }\n", 7, 40, "exclude each other"},
    {SERVER "    connect: { only: [] }\n", 7, 22, "let nobody"},
    {SERVER "    connect: { except: [] }\n", 7, 24, "let everyone"},
    {SERVER "    connect: { only: ['list:none'] }\n", 7, 23, "there is no list \"none\""},
    {SERVER "    connect: { only: ['user:bob'] }\n", 7, 23, "not an address or network"},
    {SERVER "lists: { a: ['list:b'], b: ['list:a'] }\n", 7, 29, "contains itself"},
    {SERVER "lists: { a: 10.0.0.1 }\n", 7, 13, "{ file: PATH }"},
    {SERVER "lists: { a: { file: /nonexistent/list } }\n", 7, 21, "cannot read /nonexistent/list"},
    {SERVER "    permissions: { submit: { allow: [bob] } }\n", 7, 38, "user:NAME or group:NAME"},
    {SERVER "    permissions: { relay: { deny: ['user:'] } }\n", 7, 36, "user:NAME or group:NAME"},
    {SERVER "    relay: { only: ['domain:a..test'] }\n", 7, 21, "domain:NAME is NAME and every name below it"},
    {SERVER "    relay: { only: ['domain:*.a.test'] }\n", 7, 21, "domain:NAME is NAME and every name below it"},
    {SERVER "    relay: { only: ['domain:'] }\n", 7, 21, "domain:NAME is NAME and every name below it"},
    {SERVER "    relay: { only: ['domain:10.0.0.1'] }\n", 7, 21, "domain:NAME is NAME and every name below it"},
    {SERVER "    proxy-protocol: { from: ['domain:a.test'] }\n", 7, 29, "known by its address alone"},
    {SERVER "    proxy-protocol: { from: ['list:a'] }\nlists: { a: ['list:b'], b: ['domain:a.test'] }\n", 7, 29,
     "known by its address alone"},
    {SERVER "    proxy-protocol: { from: 10.0.0.1 }\n", 7, 29, "wants a list"},
    /* The DNS. */
    {GOOD "dns: { resolver: here }\n", 6, 18, "ADDRESS or ADDRESS@PORT"},
    {GOOD "dns: { resolver: '127.0.0.1:53' }\n", 6, 18, "ADDRESS or ADDRESS@PORT"},
    {GOOD "dns: { resolver: 127.0.0.1@0 }\n", 6, 18, "ADDRESS or ADDRESS@PORT"},
    {GOOD "dns: { resolver: 127.0.0.1@65536 }\n", 6, 18, "ADDRESS or ADDRESS@PORT"},
    {GOOD "dns: { resolver: '127.0.0.1@' }\n", 6, 18, "ADDRESS or ADDRESS@PORT"},
    {GOOD "dns: { timeout: 0s }\n", 6, 17, "10ms"},
    {GOOD "dns: { dnssec: maybe }\n", 6, 16, "auto, on"},
    /* Servers and connectors. */
    {SERVER "    addresses: [here]\n", 7, 17, "address like"},
    {SERVER "  two: { listen: ['127.0.0.1:0', '127.0.0.1:2525'] }\n", 7, 34, "taken by servers.one.listen[0]"},
    {SERVER "    banner: \"a\\r\\n250 b\"\n", 7, 13, "control characters"},
    {SERVER "connectors: { c: { address-spaces: [], smart-hosts: [h.test] } }\n", 7, 36, "1 to 10000"},
    {SERVER "connectors: { c: { address-spaces: ['*', '*'], smart-hosts: [h.test] } }\n", 7, 42, "already"},
    {SERVER "connectors: { c: { address-spaces: ['*x.test'], smart-hosts: [h.test] } }\n", 7, 37, "not \"*x.test\""},
    {SERVER "connectors: { c: { address-spaces: [{ cost: 3 }], smart-hosts: [h.test] } }\n", 7, 37,
     "\"domain\" is missing"},
    {SERVER "connectors: { c: { address-spaces: ['*'], smart-hosts: [h.test], servers: [two] } }\n", 7, 76,
     "no server \"two\""},
    {SERVER "connectors: { c: { address-spaces: ['*'], smart-hosts: [h.test], servers: [] } }\n", 7, 75, "for no mail"},
    {SERVER "connectors: { c: { address-spaces: ['*'], smart-hosts: [h.test], route: dns } }\n", 7, 73,
     "route is for mail that the DNS routes"},
    {SERVER "connectors: { c: { address-spaces: ['*'], smart-hosts: [h.test], port: 26 } }\n", 7, 72,
     "port is for mail that the DNS routes"},
    {SERVER "connectors: { c: { address-spaces: ['*'], smart-hosts: [] } }\n", 7, 56, "is empty"},
    {SERVER "connectors: { c: { address-spaces: ['*'], mx-networks: [10.1.2.3/16] } }\n", 7, 57, "10.1.0.0/16"},
    {SERVER "connectors: { c: { address-spaces: ['*'], port: 0 } }\n", 7, 49, "1"},
/* What this version cannot do is refused, never ignored. */
#define CONNECTOR SERVER "connectors: { c: { address-spaces: ['*'], "
    {CONNECTOR "smart-hosts: [h.test], auth: { user: u } } }\n", 7, 72, "a password or a password-file"},
    {CONNECTOR "smart-hosts: [h.test], auth: { password: p } } }\n", 7, 72, "wants a user"},
    {CONNECTOR "smart-hosts: [h.test], auth: { user: u, password-file: /none } } }\n", 7, 98, "No such file"},
    {CONNECTOR "smart-hosts: [h.test], auth: { user: u, password: p, mechanisms: [GSSAPI] } } }\n", 7, 109,
     "wants one of PLAIN, LOGIN, SCRAM-SHA-256, SCRAM-SHA-256-PLUS"},
    {CONNECTOR "route: dns, auth: { user: u, password: p } } }\n", 7, 61, "every mail exchanger"},
    {CONNECTOR "smart-hosts: [h.test], tls: none, auth: { user: u, password: p } } }\n", 7, 83, "in the clear"},
    {CONNECTOR "tls: none, implicit-tls: true } }\n", 7, 68, "exclude each other"},
    {CONNECTOR "ca-file: /ca.pem } }\n", 7, 52, "is for tls: verify"},
    {CONNECTOR "tls: maybe } }\n", 7, 48, "none, may"},
    /* Identity. */
    {SERVER "    tls: { mode: starttls }\n", 7, 18, "wants a certificate and a key"},
    {SERVER "    tls: { mode: implicit, certificate: none.pem, key: /dev/null }\n", 7, 41, "none.pem"},
    {SERVER
     "    tls: { mode: starttls, certificate: /dev/null, key: /dev/null, names: { 'a..b': { certificate: /dev/null, "
     "key: /dev/null } } }\n",
     7, 77, "not a host name"},
    {SERVER "    tls: { minimum-version: '0.9' }\n", 7, 29, "1.0, 1.1"},
    {SERVER "    auth: { mechanisms: [PLAIN, NTLM] }\n", 7, 33, "SCRAM-SHA-256-PLUS, GSSAPI, EXTERNAL"},
    {GOOD "directory: { backend: oracle }\n", 6, 23, "sqlite, ldap"},
    {GOOD "directory: { backend: ldap }\n", 6, 23, "wants directory.ldap.url"},
    {GOOD "directory: { backend: ldap, ldap: { url: 'http://h', base: 'dc=x' } }\n", 6, 42, "wants ldaps://"},
    {GOOD "directory: { backend: file }\n", 6, 23, "wants directory.file"},
    {GOOD "directory: { backend: ldap, ldap: { url: 'ldaps://h', base: 'dc=x', bind-password-file: none } }\n", 6, 89,
     "none"},
    {GOOD "auth-brakes: { window: 10 }\n", 6, 24, "duration"},
    {GOOD "sandbox: maybe\n", 6, 10, "auto, required"},
    {GOOD "delivery: { delay-notice: soon }\n", 6, 27, "duration"},
    {GOOD "delivery: { ndr: { return: all } }\n", 6, 28, "headers or full"},
    {SERVER "    relay: { only: ['cert:00'] }\n", 7, 21, "64 hex digits"},
    {SERVER "    connect: { only: ['cert:" SHA256 "'] }\n", 7, 23, "before TLS"},
    {SERVER "    relay: { except: ['list:none'] }\nlists: { none: [] }\n", 7, 0, "would let everyone"},
    {SERVER "    connect: { except: ['list:none'] }\nlists: { none: ['list:no'], no: [] }\n", 7, 0, "lists are empty"},
    {GOOD "console: { listen: '127.0.0.1:8025' }\n", 6, 20, "not available in this version"},
    {GOOD "metrics: { listen: '127.0.0.1:9725' }\n", 6, 20, "not available in this version"},
};

static void load(const char *text, const struct config **config, struct config_errors *errors)
{
    static const struct cidr_address nothing;
    static const struct config_machine machine = {"mail.contoso.test", &nothing, 0};

    config_errors_init(errors);
    config_load_text(vfs_system(), "t.yaml", str_from_cstr(text), &machine, config, errors);
}

static void test_mistakes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        const struct mistake *m = &mistakes[i];
        const struct config *config;
        struct config_errors errors;

        load(m->text, &config, &errors);
        if (config || errors.error_count != 1 || errors.messages[0].line != m->line ||
            errors.messages[0].column != m->column || !strstr(errors.messages[0].text, m->message_part))
            fail_msg("%s\ngot %zu errors, the first %u:%u: %s", m->text, errors.error_count,
                     errors.count ? errors.messages[0].line : 0, errors.count ? errors.messages[0].column : 0,
                     errors.count ? errors.messages[0].text : "");
        config_errors_release(&errors);
    }
}

/* What the cases start from has none. */
static void test_good(void **state)
{
    static const char *const texts[] = {GOOD, SERVER, DOMAINS};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const struct config *config;
        struct config_errors errors;

        load(texts[i], &config, &errors);
        assert_int_equal(errors.error_count, 0);
        assert_non_null(config);
        config_release(&config);
        config_errors_release(&errors);
    }
}

/* All of them at once, in the file's order, so that one round of editing is enough. */
static void test_all_at_once(void **state)
{
    const struct config *config;
    struct config_errors errors;

    (void)state;
    load("servers:\n  s: { listen: [x], tarpit: y, relay: { only: [z] } }\nloops: w\nhostname: -x\nuser: root\nlog: { "
         "level: v }\n",
         &config, &errors);
    assert_null(config);
    assert_int_equal(errors.error_count, 6);
    for (size_t i = 1; i < errors.count; i++)
        assert_true(errors.messages[i - 1].line < errors.messages[i].line ||
                    (errors.messages[i - 1].line == errors.messages[i].line &&
                     errors.messages[i - 1].column < errors.messages[i].column));
    config_errors_release(&errors);
}

/* More mistakes than anyone reads are counted, not kept. */
static void test_bound(void **state)
{
    struct buf text;
    const struct config *config;
    struct config_errors errors;

    (void)state;
    buf_init(&text, 1u << 20);
    for (int i = 0; i < CONFIG_MESSAGES_MAX * 2; i++)
        buf_printf(&text, "wrong%d: x\n", i);
    buf_append_char(&text, '\0');
    load(text.data, &config, &errors);
    assert_int_equal(errors.count, CONFIG_MESSAGES_MAX);
    assert_true(errors.error_count >= CONFIG_MESSAGES_MAX * 2);
    buf_release(&text);
    config_errors_release(&errors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_good), cmocka_unit_test(test_mistakes),
                                       cmocka_unit_test(test_all_at_once), cmocka_unit_test(test_bound)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
