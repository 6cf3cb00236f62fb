/* SPDX-License-Identifier: Apache-2.0 */
/* What is allowed and may surprise about relaying: each warning where it is due, and none where it is not. */
#include "base/mem.h"
#include "config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define RECIPIENTS_ANY "recipients: any"
#define SHA256         "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* The codes of the warnings, each with its line, as in "relay-except:3 no-postmaster:1". */
static void check(const char *recipients, const char *server, const char *more, const char *expected)
{
    static const struct cidr_address own[] = {{{[10] = 0xff, 0xff, 192, 0, 2, 25}},
                                              {{[10] = 0xff, 0xff, 127, 0, 0, 1}}};
    const struct config_machine machine = {"mail.contoso.test", own, 2};
    char *text = mem_printf("domains: { contoso.test: { type: local, default: true, %s } }\n"
                            "connectors: { all: { address-spaces: ['*'], smart-hosts: [h.test] } }\n"
                            "servers: { s: { listen: ['192.0.2.25:25'], %s } }\n%s",
                            recipients, server, more);
    const struct config *config;
    struct config_errors errors;
    char actual[1024] = "";
    size_t length = 0;

    config_errors_init(&errors);
    if (config_load_text(vfs_system(), "t.yaml", str_from_cstr(text), &machine, &config, &errors) != 0)
        fail_msg("%s\n%s", errors.messages[0].text, text);
    for (size_t i = 0; i < errors.count; i++)
        /* Others than those of relaying come and go with what this version lacks. */
        if (strcmp(errors.messages[i].code, "no-route") != 0)
            length += (size_t)snprintf(actual + length, sizeof(actual) - length, "%s%s:%u", length > 0 ? " " : "",
                                       errors.messages[i].code, errors.messages[i].line);
    assert_string_equal(actual, expected);
    config_release(&config);
    config_errors_release(&errors);
    free(text);
}

static void test_grants(void **state)
{
    (void)state;
    check(RECIPIENTS_ANY, "relay: { only: [10.0.0.0/8, 127.0.0.0/8, 172.17.0.2] }", "", "");
    check(RECIPIENTS_ANY, "relay: { only: [172.17.0.1] }", "", "bridge-address-granted:3");
    check(RECIPIENTS_ANY, "relay: { only: [172.17.0.0/16] }, anonymous: false", "", "");
    check(RECIPIENTS_ANY, "relay: { only: [172.17.0.0/16] }, connect: { except: [172.16.0.0/12] }", "", "");
    check(RECIPIENTS_ANY, "relay: { only: [192.0.2.0/24] }", "", "own-address-granted:3");
    check(RECIPIENTS_ANY, "relay: { only: ['list:x'] }", "lists:\n  x:\n  - 10.0.0.1\n  - 192.0.2.25\n",
          "own-address-granted:3");
    check(RECIPIENTS_ANY, "relay: { except: [10.0.0.0/8] }, connect: { only: [10.0.0.0/7] }", "", "relay-except:3");
    check(RECIPIENTS_ANY, "relay: { only: [8.0.0.0/7] }", "", "open-relay:3");
    check(RECIPIENTS_ANY, "relay: { only: ['cert:" SHA256 "'] }", "", "cert-without-tls:3");
    check(RECIPIENTS_ANY, "tls: { required: true }", "", "tls-required-without-tls:3");
}

/* What an administrator has configured, and no client will ever be offered. */
static void test_authentication(void **state)
{
    (void)state;
    check(RECIPIENTS_ANY, "auth: { mechanisms: [SCRAM-SHA-256] }", "", "");
    check(RECIPIENTS_ANY, "auth: { mechanisms: [PLAIN] }", "", "auth-without-tls:3");
    check(RECIPIENTS_ANY, "auth: { mechanisms: [plain, login], require-tls: false }", "", "password-without-tls:3");
    check(RECIPIENTS_ANY, "auth: { mechanisms: [EXTERNAL] }", "", "auth-without-tls:3 external-not-asked:3");
    check(RECIPIENTS_ANY, "auth: { mechanisms: [SCRAM-SHA-256] }",
          "directory: { backend: ldap, ldap: { url: 'ldaps://h.test', base: 'dc=test' } }\n", "scram-with-ldap:3");
}

static void test_users(void **state)
{
    (void)state;
    check(RECIPIENTS_ANY, "permissions: { relay: { allow: ['user:bob'] } }", "", "");
    check(RECIPIENTS_ANY, "permissions: { relay: { allow: ['user:bob'] }, submit: { deny: ['user:BOB'] } }", "",
          "relay-without-submit:3");
    check(RECIPIENTS_ANY, "permissions: { relay: { allow: ['user:bob', 'group:g'] }, submit: { allow: ['user:bob'] } }",
          "", "relay-without-submit:3");
    check(RECIPIENTS_ANY,
          "permissions: { relay: { allow: ['user:bob', 'group:g'] }, submit: { allow: ['user:bob', 'group:g'] } }", "",
          "");
}

static void test_reports_and_postmaster(void **state)
{
    static const char no_limits[] = "delivery: { ndr: { rate: 10000/s, rate-per-domain: 1000000/m } }\n";

    (void)state;
    check(RECIPIENTS_ANY, "anonymous: true", no_limits, "report-limits-off:3");
    check(RECIPIENTS_ANY, "recipients: { lookup: at-rcpt }", no_limits, "");
    check(RECIPIENTS_ANY, "anonymous: false", no_limits, "");
    check(RECIPIENTS_ANY, "anonymous: true", "delivery: { ndr: { rate: 10000/s } }\n", "");
    check(RECIPIENTS_ANY, "anonymous: true", "delivery: { ndr: { rate: 6000/m, rate-per-domain: 100/s } }\n", "");
    check("recipients: [alice]", "anonymous: true", "", "no-postmaster:1");
    check("recipients: [alice, Postmaster]", "anonymous: true", "", "");
    check("recipients: [alice, postmaster@contoso.test]", "anonymous: true", "", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grants),
        cmocka_unit_test(test_authentication),
        cmocka_unit_test(test_users),
        cmocka_unit_test(test_reports_and_postmaster),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
