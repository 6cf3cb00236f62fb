/* SPDX-License-Identifier: Apache-2.0 */
/* Where mail goes. A wrong answer here sends somebody's mail to strangers, into the wrong mailbox, or nowhere. */
#include "delivery/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char yaml[] =
    "hostname: mail.contoso.test\n"
    "domains:\n"
    "  contoso.test: { type: local, default: true, recipients: [alice, bob] }\n"
    "  contoso.example: { type: alias, of: contoso.test }\n"
    "  any.test: { type: local, recipients: any }\n"
    "  directory.test: { type: local }\n"
    "  forward.test: { type: local, recipients: any, deliver: \"smtp:backend.test:2525\" }\n"
    "  literal.test: { type: local, recipients: any, deliver: \"smtp:[2001:db8::5]:26\" }\n"
    "  socket.test: { type: local, recipients: any, deliver: \"lmtp:/run/dovecot/lmtp\" }\n"
    "  store.test: { type: local, recipients: any, deliver: \"lmtp:[::1]:24\" }\n"
    "  \"*.wild.test\": { type: local, recipients: any }\n"
    "  fabrikam.test: { type: allowed }\n"
    "  known.test: { type: allowed, recipients: [carol] }\n"
    "servers:\n"
    "  internet: { listen: [\"127.0.0.1:25\"], addresses: [203.0.113.25] }\n"
    "  internal: { listen: [\"127.0.0.1:26\"] }\n"
    "connectors:\n"
    "  partners: { address-spaces: [{ domain: \"*.fabrikam.test\", cost: 10 }], smart-hosts: [\"10.0.0.9:25\"] }\n"
    "  cheap: { address-spaces: [{ domain: \"*.fabrikam.test\", cost: 5 }], smart-hosts: [\"10.0.0.8:25\"] }\n"
    "  exact: { address-spaces: [fabrikam.test, known.test], smart-hosts: [\"10.0.0.7:25\"] }\n"
    "  names: { address-spaces: [{ domain: \"*.mixed.test\", cost: 9 }], route: dns }\n"
    "  hosts: { address-spaces: [{ domain: \"*.mixed.test\", cost: 8 }], smart-hosts: [\"10.0.0.5:25\"] }\n"
    "  inside: { address-spaces: [\"*\"], smart-hosts: [\"10.0.0.6:25\"], servers: [internal] }\n";

static const struct config *load(const char *extra)
{
    const struct config *config = NULL;
    const struct config_machine machine = {.hostname = "mail.contoso.test"};
    struct config_errors errors;
    char text[8192];
    int length = snprintf(text, sizeof(text), "%s%s", yaml, extra);

    config_errors_init(&errors);
    if (config_load_text(vfs_system(), "test.yaml", str_make(text, (size_t)length), &machine, &config, &errors) != 0) {
        for (size_t i = 0; i < errors.count; i++)
            print_message("%s:%u: %s\n", errors.messages[i].file, errors.messages[i].line, errors.messages[i].text);
        fail();
    }
    config_errors_release(&errors);
    return config;
}

static struct queue_route choose(const struct config *config, const char *server, const char *address)
{
    struct envelope_recipient recipient = {.address = str_from_cstr(address)};
    struct envelope envelope = {.server = str_from_cstr(server), .recipients = &recipient, .recipient_count = 1};
    struct queue_route route;

    memset(&route, 0xff, sizeof(route));
    route_choose(config, &envelope, 0, QUEUE_NOT_RESOLVED, &route);
    return route;
}

static struct queue_route choose_resolved(const struct config *config, const char *address,
                                          enum queue_resolution resolution)
{
    struct envelope_recipient recipient = {.address = str_from_cstr(address)};
    struct envelope envelope = {.server = STR("internet"), .recipients = &recipient, .recipient_count = 1};
    struct queue_route route;

    route_choose(config, &envelope, 0, resolution, &route);
    return route;
}

static void test_chooses(void **state)
{
    static const struct {
        const char *server, *address;
        enum queue_route_kind kind;
        const char *expected; /* the destination, or the status */
    } rows[] = {
        /* local */
        {"internet", "alice@contoso.test", QUEUE_ROUTE_DELIVER, "maildir"},
        {"internet", "ALICE@Contoso.Test", QUEUE_ROUTE_DELIVER, "maildir"},
        {"internet", "nobody@contoso.test", QUEUE_ROUTE_FAIL, "5.1.1"},
        {"internet", "postmaster@contoso.test", QUEUE_ROUTE_DELIVER, "maildir"},
        {"internet", "alice@contoso.example", QUEUE_ROUTE_DELIVER, "maildir"},
        {"internet", "nobody@contoso.example", QUEUE_ROUTE_FAIL, "5.1.1"},
        {"internet", "whoever@any.test", QUEUE_ROUTE_DELIVER, "maildir"},
        {"internet", "someone@x.y.wild.test", QUEUE_ROUTE_DELIVER, "maildir"},
        /* who is in the directory it has to say; and of the postmaster, who is known without, what he stands for */
        {"internet", "alice@directory.test", QUEUE_ROUTE_DELIVER, "directory"},
        {"internet", "Postmaster@directory.test", QUEUE_ROUTE_DELIVER, "directory"},
        /* the local part is never looked into */
        {"internet", "v%example.net@contoso.test", QUEUE_ROUTE_FAIL, "5.1.1"},
        {"internet", "\"v@example.net\"@contoso.test", QUEUE_ROUTE_FAIL, "5.1.1"},
        {"internet", "example.net!v@contoso.test", QUEUE_ROUTE_FAIL, "5.1.1"},
        /* the server's own address is the default domain */
        {"internet", "alice@[203.0.113.25]", QUEUE_ROUTE_DELIVER, "maildir"},
        {"internet", "nobody@203.0.113.25", QUEUE_ROUTE_FAIL, "5.1.1"},
        /* handed to a host */
        {"internet", "a@forward.test", QUEUE_ROUTE_DELIVER, "host:2525:backend.test"},
        {"internet", "a@literal.test", QUEUE_ROUTE_DELIVER, "host:26:2001:db8::5"},
        {"internet", "a@socket.test", QUEUE_ROUTE_DELIVER, "lmtp:/run/dovecot/lmtp"},
        {"internet", "a@store.test", QUEUE_ROUTE_DELIVER, "lmtp:24:::1"},
        /* connectors: the most specific, then the cheapest, in scope */
        {"internet", "a@fabrikam.test", QUEUE_ROUTE_DELIVER, "smtp:exact"},
        {"internet", "a@sub.fabrikam.test", QUEUE_ROUTE_DELIVER, "smtp:cheap,partners"},
        {"internal", "a@example.net", QUEUE_ROUTE_DELIVER, "smtp:inside"},
        {"internal", "a@example.org", QUEUE_ROUTE_DELIVER, "smtp:inside"},
        /* without a connector: as the DNS says, each domain for itself */
        {"internet", "a@Example.NET", QUEUE_ROUTE_DELIVER, "smtp:/example.net"},
        /* one that asks the DNS beside one that does not */
        {"internet", "a@x.mixed.test", QUEUE_ROUTE_DELIVER, "smtp:hosts,names/x.mixed.test"},
        {"", "a@example.net", QUEUE_ROUTE_DELIVER, "smtp:inside"}, /* our own reports are in every scope */
        {"internet", "carol@known.test", QUEUE_ROUTE_DELIVER, "smtp:exact"},
        {"internet", "dave@known.test", QUEUE_ROUTE_FAIL, "5.1.1"},
        /* a literal that is not ours matches "*" only */
        {"internal", "a@[192.0.2.1]", QUEUE_ROUTE_DELIVER, "smtp:inside"},
        {"internet", "a@[192.0.2.1]", QUEUE_ROUTE_DELIVER, "smtp:/[192.0.2.1]"},
        {"internet", "a@[IPv6:2001:DB8::1]", QUEUE_ROUTE_DELIVER, "smtp:/[IPv6:2001:db8::1]"},
        {"internet", "", QUEUE_ROUTE_FAIL, "5.1.3"},
        {"internet", "<>", QUEUE_ROUTE_FAIL, "5.1.3"},
    };
    const struct config *config = load("");

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct queue_route route = choose(config, rows[i].server, rows[i].address);
        const char *got = route.kind == QUEUE_ROUTE_DELIVER ? route.destination : route.status;

        if (route.kind != rows[i].kind || strcmp(got, rows[i].expected) != 0)
            fail_msg("%s: kind %d, %s (%s), expected %s", rows[i].address, (int)route.kind, got, route.text,
                     rows[i].expected);
        if (route.kind == QUEUE_ROUTE_DELIVER)
            assert_int_equal(route.concurrency, config->delivery.concurrency_per_destination);
        else
            assert_true(route.text[0] != '\0');
    }
    config_release(&config);
}

/* What the directory said is heeded; what it was not asked is not changed by it. */
static void test_the_directory_decides(void **state)
{
    const struct config *config = load("");
    struct queue_route route;

    (void)state;
    route = choose_resolved(config, "alice@directory.test", QUEUE_RESOLVED_KNOWN);
    assert_int_equal(route.kind, QUEUE_ROUTE_DELIVER);
    assert_string_equal(route.destination, "maildir");
    route = choose_resolved(config, "alice@directory.test", QUEUE_RESOLVED_UNKNOWN);
    assert_int_equal(route.kind, QUEUE_ROUTE_FAIL);
    assert_string_equal(route.status, "5.1.1");
    route = choose_resolved(config, "postmaster@directory.test", QUEUE_RESOLVED_UNKNOWN);
    assert_string_equal(route.destination, "maildir");
    route = choose_resolved(config, "nobody@contoso.test", QUEUE_RESOLVED_KNOWN);
    assert_int_equal(route.kind, QUEUE_ROUTE_FAIL);
    config_release(&config);
}

/* A name that was cut would be another destination, or another domain's. */
static void test_long_domains(void **state)
{
    char domain[254], extra[4096], address[300];
    size_t length = 0;
    const struct config *config;
    struct queue_route route;
    struct route_destination parsed;

    (void)state;
    for (size_t i = 0; i < 253; i++)
        domain[i] = i % 64 == 63 ? '.' : 'd';
    domain[253] = '\0';
    for (int i = 0; i < 8; i++)
        length += (size_t)snprintf(extra + length, sizeof(extra) - length,
                                   "  c%d%062d: { address-spaces: [{ domain: \"*\", cost: %d }] }\n", i, 0, i + 2);
    config = load(extra);
    snprintf(address, sizeof(address), "a@%s", domain);
    route = choose(config, "internet", address);
    assert_int_equal(route.kind, QUEUE_ROUTE_DELIVER);
    assert_true(route_parse_destination(route.destination, &parsed));
    assert_true(str_equal(parsed.domain, str_from_cstr(domain)));
    assert_int_equal(parsed.connectors.length, 3 * 64 + 2);
    config_release(&config);
}

/* "Forward all mail with unresolved recipients to host": instead of a report, and only for local domains. */
static void test_unresolved_recipients_host(void **state)
{
    const struct config *config = load("delivery: { unresolved-recipients-host: \"legacy.test:2600\" }\n");
    struct queue_route unknown = choose(config, "internet", "nobody@contoso.test");
    struct queue_route known = choose(config, "internet", "bob@contoso.test");
    struct queue_route allowed = choose(config, "internet", "dave@known.test");

    (void)state;
    assert_int_equal(unknown.kind, QUEUE_ROUTE_DELIVER);
    assert_string_equal(unknown.destination, "host:2600:legacy.test");
    assert_string_equal(known.destination, "maildir");
    assert_int_equal(allowed.kind, QUEUE_ROUTE_FAIL);
    config_release(&config);
}

static void test_parses_destinations(void **state)
{
    struct route_destination parsed;

    (void)state;
    assert_true(route_parse_destination("maildir", &parsed));
    assert_int_equal(parsed.kind, ROUTE_DESTINATION_MAILDIR);
    assert_true(route_parse_destination("smtp:a,b", &parsed));
    assert_int_equal(parsed.kind, ROUTE_DESTINATION_CONNECTORS);
    assert_true(str_equal(parsed.connectors, STR("a,b")));
    assert_int_equal(parsed.domain.length, 0);
    assert_true(route_parse_destination("smtp:a/[IPv6:2001:db8::1]", &parsed));
    assert_true(str_equal(parsed.connectors, STR("a")));
    assert_true(str_equal(parsed.domain, STR("[IPv6:2001:db8::1]")));
    assert_true(route_parse_destination("smtp:/example.net", &parsed));
    assert_int_equal(parsed.connectors.length, 0);
    assert_true(str_equal(parsed.domain, STR("example.net")));
    assert_false(route_parse_destination("smtp:", &parsed));
    assert_false(route_parse_destination("smtp:/", &parsed));
    assert_true(route_parse_destination("host:26:2001:db8::5", &parsed));
    assert_int_equal(parsed.kind, ROUTE_DESTINATION_HOST);
    assert_int_equal(parsed.port, 26);
    assert_true(str_equal(parsed.host, STR("2001:db8::5")));
    assert_true(route_parse_destination("lmtp:24:::1", &parsed));
    assert_int_equal(parsed.kind, ROUTE_DESTINATION_LMTP);
    assert_true(parsed.port == 24 && !parsed.socket_path && str_equal(parsed.host, STR("::1")));
    assert_true(route_parse_destination("lmtp:/run/a:b", &parsed));
    assert_int_equal(parsed.kind, ROUTE_DESTINATION_LMTP);
    assert_string_equal(parsed.socket_path, "/run/a:b");
    assert_false(route_parse_destination("lmtp:", &parsed));
    assert_false(route_parse_destination("lmtp:0:a", &parsed));
    assert_false(route_parse_destination("", &parsed));
    assert_false(route_parse_destination("host:25:", &parsed));
    assert_false(route_parse_destination("host:0:a", &parsed));
    assert_false(route_parse_destination("host:65536:a", &parsed));
    assert_false(route_parse_destination("host:x:a", &parsed));
    assert_false(route_parse_destination("maildirs", &parsed));
}

static void check_mailbox(const struct config *config, const char *address, const char *expected)
{
    struct envelope_recipient recipient = {.address = str_from_cstr(address)};
    struct envelope envelope = {.server = STR("internet"), .recipients = &recipient, .recipient_count = 1};
    char name[ROUTE_MAILBOX_BYTES] = "";

    assert_true(route_mailbox(config, &envelope, 0, name));
    assert_string_equal(name, expected);
}

/* A name may not leave drop/, hide itself, or be another recipient's. */
static void test_mailbox_names(void **state)
{
    const struct config *config = load("");

    (void)state;
    check_mailbox(config, "Alice@CONTOSO.test", "alice@contoso.test");
    check_mailbox(config, "alice@contoso.example", "alice@contoso.test");
    check_mailbox(config, "alice@[203.0.113.25]", "alice@contoso.test");
    check_mailbox(config, "x@Sub.Wild.test", "x@sub.wild.test");
    check_mailbox(config, "\"../../etc/passwd\"@any.test", "%2E.%2F..%2Fetc%2Fpasswd@any.test");
    config_release(&config);
}

static void check_name(const char *user, const char *expected)
{
    char name[ROUTE_MAILBOX_BYTES];

    route_mailbox_name(str_from_cstr(user), STR("d.test"), name);
    assert_string_equal(name, expected);
}

static void test_escapes_names(void **state)
{
    (void)state;
    check_name("a.b_c+d=e-f9", "a.b_c+d=e-f9@d.test");
    check_name(".hidden", "%2Ehidden@d.test");
    check_name("a/b", "a%2Fb@d.test");
    check_name("a%2fb", "a%252fb@d.test");
    check_name("a@b", "a%40b@d.test");
    check_name("a b\"c'*:", "a%20b%22c%27%2A%3A@d.test");
    check_name("J\xc3\xb6rg", "j%C3%B6rg@d.test");
    check_name("..", "%2E.@d.test");
}

/* File systems take 255 bytes: longer names are cut, and stay different. */
static void test_long_names(void **state)
{
    char user[300], first[ROUTE_MAILBOX_BYTES], second[ROUTE_MAILBOX_BYTES];

    (void)state;
    memset(user, 'a', sizeof(user));
    route_mailbox_name(str_make(user, 248), STR("d.test"), first);
    assert_int_equal(strlen(first), 255);
    assert_true(str_ends_with(str_from_cstr(first), STR("a@d.test")));
    route_mailbox_name(str_make(user, 249), STR("d.test"), first);
    assert_int_equal(strlen(first), 255);
    assert_int_equal(first[255 - 17], '+');
    route_mailbox_name(str_make(user, 250), STR("d.test"), second);
    assert_int_equal(strlen(second), 255);
    assert_string_not_equal(first, second);
    route_mailbox_name(str_make(user, 249), STR("d.test"), second);
    assert_string_equal(first, second);
    /* The same in every process and version, or mail would end up in two places. */
    assert_true(str_ends_with(str_from_cstr(first), STR("+09f08cd283a831f2")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chooses),
        cmocka_unit_test(test_long_domains),
        cmocka_unit_test(test_the_directory_decides),
        cmocka_unit_test(test_unresolved_recipients_host),
        cmocka_unit_test(test_parses_destinations),
        cmocka_unit_test(test_mailbox_names),
        cmocka_unit_test(test_escapes_names),
        cmocka_unit_test(test_long_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
