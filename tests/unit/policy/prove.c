/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The proof of who may relay, from configurations as people write them. A verdict that is too mild lets an open relay start; one
 * that is too harsh keeps an honest one down.
 */
#include "policy/prove.h"

#include "base/mem.h"
#include "config/config.h"
#include "policy/compare.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* One server, `s`, with these settings, and what follows. */
static const struct config *load(const char *server, const char *more)
{
    static const struct cidr_address own[1] = {{{[10] = 0xff, 0xff, 192, 0, 2, 25}}};
    const struct config_machine machine = {"mail.contoso.test", own, 1};
    char *text = mem_printf("domains: { contoso.test: { type: local, default: true, recipients: any } }\n"
                            "servers: { s: { listen: ['192.0.2.25:25'], %s } }\n%s",
                            server, more);
    const struct config *config;
    struct config_errors errors;

    config_errors_init(&errors);
    config_load_text(vfs_system(), "t.yaml", str_from_cstr(text), &machine, &config, &errors);
    for (size_t i = 0; !config && i < errors.count; i++)
        if (!errors.messages[i].is_warning)
            fail_msg("%s\n%s", errors.messages[i].text, text);
    config_errors_release(&errors);
    free(text);
    return config;
}

static void check_exposure(const char *server, const char *more, enum policy_exposure expected)
{
    const struct config *config = load(server, more);

    if (config->proof->exposure != expected)
        fail_msg("%s is %s", server, policy_exposure_name(config->proof->exposure));
    assert_true((expected == POLICY_OPEN) == (config->proof->servers[0].reason.rule != NULL));
    config_release(&config);
}

#define NETS(list) "relay: { only: [" list "] }"
#define CONNECTOR(space)                                                                                               \
    "connectors: { c: { address-spaces: ['" space "'], smart-hosts: [h.test], allow-relay: true } }\n"

/* The thresholds, to the address. */
static void test_thresholds(void **state)
{
    (void)state;
    check_exposure("anonymous: true", "", POLICY_CLOSED);
    check_exposure(NETS("10.0.0.0/8, 192.168.0.0/16, 'fc00::/7', '2001:db8::/32'"), "", POLICY_CLOSED);
    check_exposure(NETS("8.8.8.8"), "", POLICY_RESTRICTED);
    check_exposure(NETS("'2a00::1'"), "", POLICY_RESTRICTED);
    check_exposure(NETS("8.0.0.0/8"), "", POLICY_RESTRICTED);
    check_exposure(NETS("8.0.0.0/8, 9.0.0.0"), "", POLICY_OPEN);
    check_exposure(NETS("'2a00::/16'"), "", POLICY_RESTRICTED);
    check_exposure(NETS("'2a00::/16', '2600::1'"), "", POLICY_OPEN);
    check_exposure("relay: { except: [10.0.0.0/8] }", "", POLICY_OPEN);
    check_exposure("relay: { except: [10.0.0.0/8] }, connect: { only: [10.0.0.0/7] }", "", POLICY_RESTRICTED);
    check_exposure("relay: { except: [10.0.0.0/8] }, anonymous: false", "", POLICY_CLOSED);
    check_exposure(NETS("0.0.0.0/0") ", connect: { only: [10.0.0.0/8] }", "", POLICY_CLOSED);
}

static void test_host_names(void **state)
{
    (void)state;
    check_exposure(NETS("'domain:branch.test'"), "", POLICY_RESTRICTED);
    check_exposure(NETS("'domain:test'"), "", POLICY_OPEN);
    check_exposure(NETS("10.0.0.0/8") ", connect: { only: ['domain:branch.test'] }", "", POLICY_RESTRICTED);
    check_exposure(NETS("10.0.0.0/8") ", connect: { only: [10.0.0.0/8, 'domain:test'] }", "", POLICY_CLOSED);
    check_exposure(NETS("'domain:a.test'") ", connect: { only: ['domain:b.test'] }", "", POLICY_CLOSED);
    check_exposure(NETS("'domain:test'") ", connect: { only: ['domain:b.test'] }", "", POLICY_OPEN);
    check_exposure(NETS("'domain:a.test'") ", connect: { except: ['domain:test'] }", "", POLICY_CLOSED);
    check_exposure(NETS("'domain:a.test'") ", connect: { except: ['domain:x.a.test'] }", "", POLICY_RESTRICTED);
    check_exposure("relay: { except: ['domain:a.test'] }, connect: { only: [10.0.0.1] }", "", POLICY_CLOSED);
}

/* What everybody may send to, without being granted anything, can be most of the world. */
static void test_overrides(void **state)
{
    const struct config *config;

    (void)state;
    check_exposure("anonymous: true", CONNECTOR("*"), POLICY_OPEN);
    check_exposure("anonymous: true", CONNECTOR("*.com"), POLICY_OPEN);
    check_exposure("anonymous: true", CONNECTOR("*.example.com"), POLICY_CLOSED);
    check_exposure("anonymous: true", CONNECTOR("com"), POLICY_CLOSED);
    check_exposure("anonymous: false", CONNECTOR("*"), POLICY_CLOSED);
    check_exposure("connect: { only: [10.0.0.0/8] }", CONNECTOR("*"), POLICY_CLOSED);
    check_exposure("connect: { only: [8.8.8.8] }", CONNECTOR("*"), POLICY_OPEN);
    check_exposure("connect: { only: [10.0.0.0/8, 'domain:a.test'] }", CONNECTOR("*"), POLICY_OPEN);
    config = load("anonymous: true", CONNECTOR("*.partner.test"));
    assert_int_equal(config->proof->servers[0].override_count, 1);
    assert_string_equal(config->proof->servers[0].overrides[0]->name.data, "c");
    config_release(&config);
}

static void test_authenticated(void **state)
{
    static const struct {
        const char *server;
        enum policy_authenticated expected;
    } cases[] = {
        {"anonymous: true", POLICY_AUTHENTICATED_EVERYONE},
        {"relay: { authenticated: false }", POLICY_AUTHENTICATED_NOBODY},
        {"permissions: { relay: { deny: ['user:bob'] } }", POLICY_AUTHENTICATED_EVERYONE},
        {"permissions: { submit: { allow: ['user:bob'] } }", POLICY_AUTHENTICATED_LISTED},
        {"permissions: { submit: { allow: ['user:bob'], deny: ['user:BOB'] } }", POLICY_AUTHENTICATED_NOBODY},
        {"relay: { authenticated: false }, permissions: { relay: { allow: ['user:bob'] } }",
         POLICY_AUTHENTICATED_LISTED},
        {"relay: { authenticated: false }, permissions: { relay: { allow: ['group:g'], deny: ['group:g'] } }",
         POLICY_AUTHENTICATED_NOBODY},
        {"relay: { authenticated: false }, permissions: { relay: { allow: ['user:a'] }, submit: { allow: ['user:b'] } "
         "}",
         POLICY_AUTHENTICATED_NOBODY},
        {"relay: { authenticated: false }, permissions: { relay: { allow: ['user:a'] }, submit: { allow: ['group:b'] } "
         "}",
         POLICY_AUTHENTICATED_LISTED},
        {"relay: { authenticated: false }, permissions: { relay: { allow: ['group:a'] }, submit: { allow: ['user:b'] } "
         "}",
         POLICY_AUTHENTICATED_LISTED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct config *config = load(cases[i].server, "");

        if (config->proof->servers[0].authenticated != cases[i].expected)
            fail_msg("%s: %s", cases[i].server, policy_authenticated_name(config->proof->servers[0].authenticated));
        config_release(&config);
    }
}

static void check_names(const struct policy_names *names, const char *expected)
{
    char actual[1024] = "";
    size_t length = 0;

    for (size_t i = 0; i < names->count; i++)
        length += (size_t)snprintf(actual + length, sizeof(actual) - length, "%s%.*s", i > 0 ? " " : "",
                                   STR_ARG(names->items[i]));
    assert_string_equal(actual, expected);
}

/* Before a change goes live: who gains, who loses. */
static void test_compare(void **state)
{
    const struct config *old_config =
        load(NETS("10.0.0.0/8, 'domain:a.test'") ", permissions: { relay: { deny: ['user:bob'] } }", "");
    const struct config *new_config =
        load(NETS("10.0.0.0/9, 192.0.2.7, 'domain:b.test'") ", permissions: { relay: { deny: ['user:eve'] } }",
             CONNECTOR("*.partner.test"));
    struct policy_comparison *comparison = policy_compare(old_config->proof, new_config->proof);
    struct space_counts counts;

    (void)state;
    assert_int_equal(comparison->server_count, 1);
    space_count(&comparison->servers[0].gains.addresses, &counts);
    assert_true(counts.ipv4 == 1);
    space_count(&comparison->servers[0].loses.addresses, &counts);
    assert_true(counts.ipv4 == 1u << 23);
    check_names(&comparison->servers[0].gains.domains, "b.test");
    check_names(&comparison->servers[0].loses.domains, "a.test");
    check_names(&comparison->servers[0].gains.users, "user:bob");
    check_names(&comparison->servers[0].loses.users, "user:eve");
    check_names(&comparison->servers[0].gains.overrides, "c: *.partner.test");
    check_names(&comparison->servers[0].loses.overrides, "");
    policy_comparison_destroy(&comparison);
    comparison = policy_compare(new_config->proof, new_config->proof);
    assert_true(policy_change_is_empty(&comparison->servers[0].gains));
    assert_true(policy_change_is_empty(&comparison->servers[0].loses));
    policy_comparison_destroy(&comparison);
    config_release(&old_config);
    config_release(&new_config);
}

/* A server that goes takes its grants with it, though it stands in the old file only. */
static void test_compare_servers(void **state)
{
    const struct config *one = load(NETS("10.0.0.1"), "");
    const struct config *two =
        load(NETS("10.0.0.1") " }, t: { listen: ['192.0.2.25:26'], relay: { only: [10.0.0.2] }", "");
    struct policy_comparison *comparison = policy_compare(two->proof, one->proof);

    (void)state;
    assert_int_equal(comparison->server_count, 2);
    assert_string_equal(comparison->servers[1].server.data, "t");
    assert_false(space_is_empty(&comparison->servers[1].loses.addresses));
    check_names(&comparison->servers[1].loses.users, "authenticated users");
    assert_true(policy_change_is_empty(&comparison->servers[1].gains));
    policy_comparison_destroy(&comparison);
    config_release(&one);
    config_release(&two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thresholds),    cmocka_unit_test(test_host_names), cmocka_unit_test(test_overrides),
        cmocka_unit_test(test_authenticated), cmocka_unit_test(test_compare),    cmocka_unit_test(test_compare_servers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
