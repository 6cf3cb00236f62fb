/* SPDX-License-Identifier: Apache-2.0 */
/* Where mail goes: the wrong connector is mail that leaves by the wrong door. Read from a configuration, as it will be. */
#include "config/config.h"
#include "mail/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char text[] =
    "hostname: mail.contoso.test\n"
    "domains:\n"
    "  contoso.test: { type: local, default: true, recipients: [Alice, 'bob@contoso.test', '\"x y\"'] }\n"
    "  contoso.example: { type: alias, of: contoso.test }\n"
    "  '*.dev.test': { type: local, recipients: [carol, dave@eu.dev.test], deliver: 'smtp:[2001:db8::9]:2525' }\n"
    "  '*.eu.dev.test': { type: allowed }\n"
    "  fabrikam.test: { type: allowed, recipients: directory }\n"
    "servers:\n"
    "  internet: { listen: ['192.0.2.25:25'] }\n"
    "  internal: { listen: ['192.0.2.26:25'] }\n"
    "connectors:\n"
    "  all: { address-spaces: ['*'], smart-hosts: [198.51.100.1] }\n"
    "  cheap: { address-spaces: [{ domain: '*.net.test', cost: 2 }], smart-hosts: [198.51.100.2] }\n"
    "  cheaper: { address-spaces: ['*.net.test', 'b.net.test'], smart-hosts: [198.51.100.3] }\n"
    "  scoped: { address-spaces: ['a.net.test'], servers: [internal], smart-hosts: [198.51.100.4] }\n"
    "  deep: { address-spaces: ['*.c.net.test'], smart-hosts: [198.51.100.5] }\n";

static const struct config *config;

static int set_up(void **state)
{
    struct config_errors errors;
    struct config_machine machine = {"mail.contoso.test", NULL, 1};
    struct cidr_address loopback;

    (void)state;
    assert_true(cidr_parse_address(STR("127.0.0.1"), &loopback));
    machine.addresses = &loopback;
    config_errors_init(&errors);
    config_load_text(vfs_system(), "test.yaml", str_from_cstr(text), &machine, &config, &errors);
    if (!config)
        fail_msg("%u: %s", errors.messages[0].line, errors.messages[0].text);
    config_errors_release(&errors);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    config_release(&config);
    return 0;
}

static struct policy_route route(const char *server, const char *recipient)
{
    struct address address;
    struct policy_route found;

    assert_true(address_parse(&address, str_from_cstr(recipient), STR("contoso.test")));
    policy_route(config->policy, str_from_cstr(server), &address, &found);
    return found;
}

static void check_connectors(const char *server, const char *recipient, const char *expected)
{
    struct policy_route found = route(server, recipient);
    char names[256] = "";
    size_t length = 0;

    assert_null(found.local);
    for (size_t i = 0; i < found.connector_count; i++)
        length += (size_t)snprintf(names + length, sizeof(names) - length, "%s%.*s", i ? " " : "",
                                   STR_ARG(found.connectors[i]->name));
    assert_string_equal(names, expected);
}

/* The most specific address space, then the lowest cost; scope before either. */
static void test_connectors(void **state)
{
    (void)state;
    check_connectors("internet", "x@example.net", "all");
    check_connectors("internet", "x@z.net.test", "cheaper cheap");
    check_connectors("internet", "x@net.test", "all");
    check_connectors("internet", "x@b.net.test", "cheaper");
    check_connectors("internet", "x@a.net.test", "cheaper cheap");
    check_connectors("internal", "x@a.net.test", "scoped");
    check_connectors("", "x@a.net.test", "scoped");
    check_connectors("gone", "x@a.net.test", "cheaper cheap");
    check_connectors("internet", "x@y.c.net.test", "deep");
    check_connectors("internet", "x@c.net.test", "cheaper cheap");
    check_connectors("internet", "x@[198.51.100.77]", "all");
    check_connectors("internet", "x@198.51.100.77", "all");
    check_connectors("internet", "x@fabrikam.test", "all");
    check_connectors("internet", "x@a.eu.dev.test", "all");
}

static void check_local(const char *server, const char *recipient, const char *domain)
{
    struct policy_route found = route(server, recipient);

    assert_non_null(found.local);
    assert_true(str_equal(found.local->name, str_from_cstr(domain)));
}

/* Mail to our own address literal must not go out to ourselves again. */
static void test_local(void **state)
{
    (void)state;
    check_local("internet", "x@contoso.test", "contoso.test");
    check_local("internet", "x@contoso.example", "contoso.test");
    check_local("internet", "x", "contoso.test");
    check_local("internet", "x@[192.0.2.25]", "contoso.test");
    check_local("", "x@192.0.2.26", "contoso.test");
    check_local("gone", "x@192.0.2.26", "contoso.test");
    check_local("internet", "x@a.dev.test", "dev.test");
    check_local("internet", "x@eu.dev.test", "dev.test");
    check_connectors("internet", "x@[192.0.2.26]", "all");
    assert_int_equal(route("", "x@a.dev.test").local->delivery.method, POLICY_DELIVER_SMTP);
    assert_true(str_equal(route("", "x@a.dev.test").local->delivery.host, STR("2001:db8::9")));
    assert_int_equal(route("", "x@a.dev.test").local->delivery.port, 2525);
    assert_true(str_equal(route("", "x@fabrikam.test").entry->name, STR("fabrikam.test")));
}

static enum policy_known known(const char *recipient)
{
    struct address address;
    struct policy_route found;

    assert_true(address_parse(&address, str_from_cstr(recipient), STR("contoso.test")));
    policy_route(config->policy, STR("internet"), &address, &found);
    return policy_recipient_known(found.entry, &address);
}

/* Whoever is wrongly unknown loses mail; whoever is wrongly known gets none, silently. */
static void test_known(void **state)
{
    (void)state;
    assert_int_equal(known("alice@contoso.test"), POLICY_KNOWN);
    assert_int_equal(known("ALICE@contoso.example"), POLICY_KNOWN);
    assert_int_equal(known("\"alice\"@contoso.test"), POLICY_KNOWN);
    assert_int_equal(known("bob@contoso.test"), POLICY_KNOWN);
    assert_int_equal(known("bob@contoso.example"), POLICY_KNOWN);
    assert_int_equal(known("\"X Y\"@contoso.test"), POLICY_KNOWN);
    assert_int_equal(known("bob@[192.0.2.25]"), POLICY_KNOWN);
    assert_int_equal(known("carol@contoso.test"), POLICY_UNKNOWN);
    assert_int_equal(known("\"alice@contoso.test\"@contoso.test"), POLICY_UNKNOWN);
    assert_int_equal(known("postmaster@contoso.example"), POLICY_KNOWN);
    assert_int_equal(known("carol@any.dev.test"), POLICY_KNOWN);
    assert_int_equal(known("dave@any.dev.test"), POLICY_UNKNOWN);
    assert_int_equal(known("dave@eu.dev.test"), POLICY_KNOWN);
    assert_int_equal(known("\"dave@eu.dev.test\"@any.dev.test"), POLICY_UNKNOWN);
    assert_int_equal(known("x@a.eu.dev.test"), POLICY_KNOWN);
    assert_int_equal(known("x@fabrikam.test"), POLICY_ASK_DIRECTORY);
    assert_int_equal(known("postmaster@fabrikam.test"), POLICY_ASK_DIRECTORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_connectors), cmocka_unit_test(test_local),
                                       cmocka_unit_test(test_known)};

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
