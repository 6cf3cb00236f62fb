/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decision, step by step as relay-behaviour.md section 2 has it. Each case that answers "accept" where it should not is an
 * open relay for somebody; each wrong text is a test of a customer that fails.
 */
#include "policy/decide.h"

#include "mail/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/*
 * contoso.test is local and the default, contoso.example its alias, fabrikam.test allowed, *.northwind.test allowed with
 * a list. Connector "partners" overrides for *.partner.test, "out" is for everything and doesn't.
 */
struct world {
    struct policy_model *model;
    struct policy_server server; /* a template; tests change it and pass it as it is */
    struct policy_client_list *relay;
    struct policy_facts facts;
    struct address sender;
    struct address recipient;
    struct policy_decision decision;
};

static struct policy_rule rule(struct world *w, const char *path)
{
    return policy_model_rule(w->model, str_from_cstr(path), STR("postern.yaml"), 7);
}

static struct str text(struct world *w, const char *s)
{
    return policy_model_text(w->model, str_from_cstr(s));
}

static void add_network(struct policy_client_list *list, struct world *w, const char *network, const char *path)
{
    struct cidr_range range;

    assert_int_equal(cidr_parse_network(str_from_cstr(network), &range, NULL), 0);
    policy_client_list_add_network(list, &range, rule(w, path));
}

static void add_domains(struct world *w)
{
    struct policy_domain domain = {
        .type = POLICY_DOMAIN_LOCAL, .is_default = true, .recipients = POLICY_RECIPIENTS_LIST};
    struct str known[] = {text(w, "alice@"), text(w, "bob@")};

    domain.name = text(w, "contoso.test");
    domain.rule = rule(w, "domains.contoso.test");
    domain.recipients_rule = rule(w, "domains.contoso.test.recipients");
    domain.alias_of = policy_model_add_domain(w->model, &domain, known, 2);
    domain.type = POLICY_DOMAIN_ALIAS;
    domain.is_default = false;
    domain.name = text(w, "contoso.example");
    domain.rule = rule(w, "domains.contoso.example");
    policy_model_add_domain(w->model, &domain, NULL, 0);
    domain = (struct policy_domain){.type = POLICY_DOMAIN_ALLOWED, .name = text(w, "fabrikam.test")};
    domain.rule = rule(w, "domains.fabrikam.test");
    policy_model_add_domain(w->model, &domain, NULL, 0);
    domain.name = text(w, "northwind.test");
    domain.is_wildcard = true;
    domain.recipients = POLICY_RECIPIENTS_DIRECTORY;
    domain.rule = rule(w, "domains.*.northwind.test");
    policy_model_add_domain(w->model, &domain, NULL, 0);
}

static void add_connectors(struct world *w)
{
    static struct policy_address_space partner;
    static struct policy_address_space all;
    struct policy_connector connector = {
        .name = text(w, "partners"), .spaces = &partner, .space_count = 1, .allow_relay = true};

    partner = (struct policy_address_space){text(w, "partner.test"), true, 1,
                                            rule(w, "connectors.partners.address-spaces[0]")};
    all = (struct policy_address_space){text(w, ""), true, 1, rule(w, "connectors.out.address-spaces[0]")};
    connector.allow_relay_rule = rule(w, "connectors.partners.allow-relay");
    policy_model_add_connector(w->model, &connector);
    connector = (struct policy_connector){.name = text(w, "out"), .spaces = &all, .space_count = 1};
    policy_model_add_connector(w->model, &connector);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct policy_client_list *own;

    w->model = policy_model_create();
    w->relay = policy_client_list_create(w->model);
    own = policy_client_list_create(w->model);
    add_network(own, w, "203.0.113.25", "servers.internet.addresses[0]");
    add_network(own, w, "2001:db8::25", "servers.internet.addresses[1]");
    add_domains(w);
    add_connectors(w);
    w->server = (struct policy_server){
        .name = text(w, "internet"),
        .rule = rule(w, "servers.internet"),
        .connect_rule = rule(w, "servers.internet.connect"),
        .relay_mode = POLICY_LIST_ONLY,
        .relay = w->relay,
        .relay_rule = rule(w, "servers.internet.relay.only"),
        .relay_authenticated = true,
        .relay_authenticated_rule = rule(w, "servers.internet.relay.authenticated"),
        .anonymous = true,
        .anonymous_rule = rule(w, "servers.internet.anonymous"),
        .anonymous_local_sender = true,
        .anonymous_local_sender_rule = rule(w, "servers.internet.anonymous-local-sender"),
        .tls_required_rule = rule(w, "servers.internet.tls.required"),
        .sender_match_rule = rule(w, "servers.internet.sender-match"),
        .own_addresses = own,
    };
    w->facts.server = &w->server;
    assert_true(cidr_parse_address(STR("192.0.2.7"), &w->facts.client));
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    policy_model_destroy(&w->model);
    free(w);
    return 0;
}

static const char *decide(struct world *w, enum policy_stage stage)
{
    static char reply[POLICY_TEXT_BYTES + 32];

    policy_decide(w->model, stage, &w->facts, &w->decision, NULL);
    assert_int_equal(w->decision.stage, stage);
    assert_int_equal(strlen(w->decision.text), w->decision.text_length);
    snprintf(reply, sizeof(reply), "%d %s %s", w->decision.code, w->decision.enhanced, w->decision.text);
    return reply;
}

static const char *mail_from(struct world *w, const char *path)
{
    assert_true(address_parse(&w->sender, str_from_cstr(path), STR("contoso.test")));
    w->facts.sender = &w->sender;
    return decide(w, POLICY_STAGE_MAIL);
}

static const char *rcpt_to(struct world *w, const char *path)
{
    assert_true(address_parse(&w->recipient, str_from_cstr(path), STR("contoso.test")));
    w->facts.recipient = &w->recipient;
    return decide(w, POLICY_STAGE_RCPT);
}

static void log_in(struct world *w, const char *user)
{
    w->facts.is_authenticated = true;
    w->facts.user = str_from_cstr(user);
}

/* The tests that every relay scanner runs: nothing granted, nothing relayed, whatever the sender claims. */
static void test_classic(void **state)
{
    struct world *w = *state;
    static const char *const senders[] = {"u@example.org",        "alice",           "<>",
                                          "alice@contoso.test",   "alice@localhost", "alice@203.0.113.25",
                                          "alice@[203.0.113.25]", "alice@127.0.0.1", "alice@mail.contoso.test"};

    policy_model_finish(w->model);
    for (size_t i = 0; i < sizeof(senders) / sizeof(senders[0]); i++) {
        mail_from(w, senders[i]);
        assert_int_equal(w->decision.code, 250);
        assert_string_equal(rcpt_to(w, "v@example.net"), "550 5.7.1 Unable to relay for v@example.net");
        assert_int_equal(w->decision.recipient_class, POLICY_CLASS_EXTERNAL);
        assert_string_equal(w->decision.rule->path, "servers.internet.relay.only");
    }
    assert_string_equal(mail_from(w, "alice"), "250 2.1.0 alice@contoso.test....Sender OK");
    assert_string_equal(mail_from(w, "<>"), "250 2.1.0 <>....Sender OK");
    assert_string_equal(mail_from(w, "alice@[10.10.10.10]"), "250 2.1.0 alice@[10.10.10.10]....Sender OK");
    assert_string_equal(rcpt_to(w, "v%example.net"), "250 2.1.5 v%example.net@contoso.test");
    assert_string_equal(rcpt_to(w, "\"v@example.net\""), "250 2.1.5 \"v@example.net\"@contoso.test");
    assert_string_equal(rcpt_to(w, "<@a.test,@b.test:v@example.net>"), "550 5.7.1 Unable to relay for v@example.net");
}

/* Local and allowed domains are taken from anyone; a domain next to one is not. */
static void test_classes(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *recipient;
        enum policy_class recipient_class;
        const char *rule;
    } cases[] = {
        {"x@contoso.test", POLICY_CLASS_LOCAL, "domains.contoso.test"},
        {"x@CONTOSO.Test.", POLICY_CLASS_LOCAL, "domains.contoso.test"},
        {"x@contoso.example", POLICY_CLASS_LOCAL, "domains.contoso.example"},
        {"x", POLICY_CLASS_LOCAL, "domains.contoso.test"},
        {"x@[203.0.113.25]", POLICY_CLASS_LOCAL, "servers.internet.addresses[0]"},
        {"x@203.0.113.25", POLICY_CLASS_LOCAL, "servers.internet.addresses[0]"},
        {"x@[IPv6:2001:db8::25]", POLICY_CLASS_LOCAL, "servers.internet.addresses[1]"},
        {"x@fabrikam.test", POLICY_CLASS_ALLOWED, "domains.fabrikam.test"},
        {"x@a.b.northwind.test", POLICY_CLASS_ALLOWED, "domains.*.northwind.test"},
        {"x@a.partner.test", POLICY_CLASS_CONNECTOR, "connectors.partners.allow-relay"},
        {"x@partner.test", POLICY_CLASS_EXTERNAL, "servers.internet.relay.only"},
        {"x@northwind.test", POLICY_CLASS_EXTERNAL, "servers.internet.relay.only"},
        {"x@sub.contoso.test", POLICY_CLASS_EXTERNAL, "servers.internet.relay.only"},
        {"x@notcontoso.test", POLICY_CLASS_EXTERNAL, "servers.internet.relay.only"},
        {"x@sub.fabrikam.test", POLICY_CLASS_EXTERNAL, "servers.internet.relay.only"},
        {"x@[192.0.2.1]", POLICY_CLASS_EXTERNAL, "servers.internet.relay.only"},
        {"x@192.0.2.1", POLICY_CLASS_EXTERNAL, "servers.internet.relay.only"},
    };

    policy_model_finish(w->model);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        rcpt_to(w, cases[i].recipient);
        assert_int_equal(w->decision.recipient_class, cases[i].recipient_class);
        assert_string_equal(w->decision.rule->path, cases[i].rule);
        assert_int_equal(w->decision.verdict,
                         cases[i].recipient_class == POLICY_CLASS_EXTERNAL ? POLICY_REJECT : POLICY_ACCEPT);
    }
    rcpt_to(w, "x@a.partner.test");
    assert_true(str_equal(w->decision.connector->name, STR("partners")));
}

/* Who is on the list relays, by network, name, certificate and named list; nobody else does. */
static void test_relay_only(void **state)
{
    struct world *w = *state;
    struct policy_client_list *office = policy_client_list_create(w->model);

    add_network(w->relay, w, "10.1.0.0/16", "servers.internet.relay.only[0]");
    policy_client_list_add_domain(w->relay, STR("branch.contoso.test"), rule(w, "servers.internet.relay.only[1]"));
    policy_client_list_add_certificate(w->relay, (const unsigned char[32]){1, 2, 3},
                                       rule(w, "servers.internet.relay.only[2]"));
    add_network(office, w, "198.51.100.0/24", "lists.office[0]");
    policy_client_list_add_list(w->relay, office, rule(w, "servers.internet.relay.only[3]"));
    policy_model_finish(w->model);

    assert_string_equal(rcpt_to(w, "v@example.net"), "550 5.7.1 Unable to relay for v@example.net");
    assert_true(cidr_parse_address(STR("10.1.255.255"), &w->facts.client));
    assert_string_equal(rcpt_to(w, "v@example.net"), "250 2.1.5 v@example.net");
    assert_string_equal(w->decision.rule->path, "servers.internet.relay.only[0]");
    assert_string_equal(rcpt_to(w, "v@[192.0.2.1]"), "250 2.1.5 v@[192.0.2.1]");
    assert_true(cidr_parse_address(STR("198.51.100.1"), &w->facts.client));
    assert_string_equal(rcpt_to(w, "v@example.net"), "250 2.1.5 v@example.net");
    assert_string_equal(w->decision.rule->path, "servers.internet.relay.only[3]");
    assert_true(cidr_parse_address(STR("192.0.2.7"), &w->facts.client));

    w->facts.client_name = STR("pc1.branch.contoso.test");
    w->facts.client_name_state = POLICY_NAME_UNVERIFIED;
    assert_int_equal((rcpt_to(w, "v@example.net"), w->decision.verdict), POLICY_REJECT);
    w->facts.client_name_state = POLICY_NAME_VERIFIED;
    assert_int_equal((rcpt_to(w, "v@example.net"), w->decision.verdict), POLICY_ACCEPT);
    w->facts.client_name = STR("branch.contoso.test");
    assert_int_equal((rcpt_to(w, "v@example.net"), w->decision.verdict), POLICY_ACCEPT);
    w->facts.client_name = STR("evilbranch.contoso.test");
    assert_int_equal((rcpt_to(w, "v@example.net"), w->decision.verdict), POLICY_REJECT);
    w->facts.client_name_state = POLICY_NAME_TEMPFAIL;
    assert_string_equal(rcpt_to(w, "v@example.net"), "451 4.4.3 Cannot verify relay permission for v@example.net");

    w->facts.has_certificate = true;
    memcpy(w->facts.certificate_sha256, (const unsigned char[3]){1, 2, 3}, 3);
    assert_int_equal((rcpt_to(w, "v@example.net"), w->decision.verdict), POLICY_ACCEPT);
}

/* The one deliberate default-yes. */
static void test_relay_except(void **state)
{
    struct world *w = *state;

    add_network(w->relay, w, "10.1.0.0/16", "servers.internet.relay.except[0]");
    policy_client_list_add_domain(w->relay, STR("bad.test"), rule(w, "servers.internet.relay.except[1]"));
    policy_model_finish(w->model);
    w->server.relay_mode = POLICY_LIST_EXCEPT;
    assert_string_equal(rcpt_to(w, "v@example.net"), "250 2.1.5 v@example.net");
    w->facts.client_name_state = POLICY_NAME_TEMPFAIL;
    assert_int_equal((rcpt_to(w, "v@example.net"), w->decision.code), 451);
    assert_true(cidr_parse_address(STR("10.1.0.1"), &w->facts.client));
    assert_int_equal((rcpt_to(w, "v@example.net"), w->decision.code), 550);
}

/* A refused client must not even get a banner; an unanswered lookup must not let it in. */
static void test_connect(void **state)
{
    struct world *w = *state;

    add_network(w->relay, w, "192.0.2.0/24", "servers.internet.connect.only[0]");
    policy_client_list_add_domain(w->relay, STR("a.test"), rule(w, "servers.internet.connect.only[1]"));
    policy_model_finish(w->model);
    assert_int_equal((decide(w, POLICY_STAGE_CONNECT), w->decision.verdict), POLICY_ACCEPT);
    w->server.connect = w->relay;
    w->server.connect_mode = POLICY_LIST_ONLY;
    assert_int_equal((decide(w, POLICY_STAGE_CONNECT), w->decision.verdict), POLICY_ACCEPT);
    w->server.connect_mode = POLICY_LIST_EXCEPT;
    decide(w, POLICY_STAGE_CONNECT);
    assert_int_equal(w->decision.code, 554);
    assert_string_equal(w->decision.enhanced, "5.7.1");
    assert_true(cidr_parse_address(STR("198.51.100.1"), &w->facts.client));
    assert_int_equal((decide(w, POLICY_STAGE_CONNECT), w->decision.verdict), POLICY_ACCEPT);
    w->server.connect_mode = POLICY_LIST_ONLY;
    assert_int_equal((decide(w, POLICY_STAGE_CONNECT), w->decision.code), 554);
    w->facts.client_name_state = POLICY_NAME_TEMPFAIL;
    decide(w, POLICY_STAGE_CONNECT);
    assert_int_equal(w->decision.code, 421);
    assert_string_equal(w->decision.enhanced, "4.4.3");
    assert_int_equal(w->decision.recipient_class, POLICY_CLASS_NONE);
}

/* Steps a to e, and that they stand in this order. */
static void test_mail(void **state)
{
    struct world *w = *state;

    policy_model_finish(w->model);
    w->server.tls_required = true;
    w->server.anonymous = false;
    assert_string_equal(mail_from(w, "a@b.test"), "530 5.7.0 Must issue a STARTTLS command first");
    w->facts.has_tls = true;
    assert_string_equal(mail_from(w, "a@b.test"), "530 5.7.0 Authentication required");
    log_in(w, "carol");
    assert_string_equal(mail_from(w, "a@b.test"), "250 2.1.0 a@b.test....Sender OK");
    w->server.sender_match = POLICY_SENDER_MATCH_ENVELOPE;
    assert_string_equal(mail_from(w, "a@b.test"), "451 4.3.0 Directory unavailable, try again later");
    w->facts.sender_match = POLICY_ANSWER_NO;
    assert_string_equal(mail_from(w, "a@b.test"), "550 5.7.1 Sender a@b.test not permitted");
    w->facts.sender_match = POLICY_ANSWER_YES;
    assert_string_equal(mail_from(w, "a@b.test"), "250 2.1.0 a@b.test....Sender OK");
    assert_string_equal(mail_from(w, "<>"), "550 5.7.1 Sender <> not permitted");
}

/* Someone outside who writes as the boss. */
static void test_anonymous_local_sender(void **state)
{
    struct world *w = *state;

    add_network(w->relay, w, "10.1.0.0/16", "servers.internet.relay.only[0]");
    policy_model_finish(w->model);
    w->server.anonymous_local_sender = false;
    assert_string_equal(mail_from(w, "boss@contoso.test"),
                        "550 5.7.1 Sender boss@contoso.test requires authentication");
    assert_string_equal(mail_from(w, "boss@Contoso.EXAMPLE"),
                        "550 5.7.1 Sender boss@Contoso.EXAMPLE requires authentication");
    assert_string_equal(mail_from(w, "boss"), "550 5.7.1 Sender boss@contoso.test requires authentication");
    assert_string_equal(mail_from(w, "boss@[203.0.113.25]"),
                        "550 5.7.1 Sender boss@[203.0.113.25] requires authentication");
    assert_int_equal((mail_from(w, "<>"), w->decision.code), 250);
    assert_int_equal((mail_from(w, "boss@fabrikam.test"), w->decision.code), 250);
    assert_true(cidr_parse_address(STR("10.1.0.1"), &w->facts.client));
    assert_int_equal((mail_from(w, "boss@contoso.test"), w->decision.code), 250);
    assert_true(cidr_parse_address(STR("192.0.2.7"), &w->facts.client));
    log_in(w, "carol");
    assert_int_equal((mail_from(w, "boss@contoso.test"), w->decision.code), 250);
}

/* Whoever signs in as bob@contoso.test is bob to the directory: a denial that names the one must hold for the other. */
static void test_a_user_has_two_names(void **state)
{
    static const char *const names[] = {"bob", "bob@contoso.test"};
    static const char *const others[] = {"bob@fabrikam.test", "bo", "bob@", "@contoso.test", "contoso.test"};
    struct world *w = *state;

    policy_model_finish(w->model);
    for (size_t i = 0; i < 2; i++) {
        struct policy_user_list *deny = policy_user_list_create(w->model, rule(w, "permissions.deny"));

        policy_user_list_add_user(deny, str_from_cstr(names[i]), rule(w, "permissions.deny[0]"));
        w->server.submit_deny = deny;
        log_in(w, "BOB");
        assert_int_equal((mail_from(w, "a@b.test"), w->decision.code), 550);
        log_in(w, "Bob@Contoso.Test");
        assert_int_equal((mail_from(w, "a@b.test"), w->decision.code), 550);
        for (size_t j = 0; j < sizeof(others) / sizeof(others[0]); j++) {
            log_in(w, others[j]);
            assert_int_equal((mail_from(w, "a@b.test"), w->decision.code), 250);
        }
    }
}

/* Deny wins; a group that cannot be read decides nothing in anyone's favour. */
static void test_permissions(void **state)
{
    struct world *w = *state;
    struct policy_user_list *deny = policy_user_list_create(w->model, rule(w, "permissions.deny"));
    struct policy_user_list *allow = policy_user_list_create(w->model, rule(w, "permissions.allow"));
    static const struct str staff[] = {STR_INIT("Staff")};

    policy_user_list_add_user(deny, STR("bob"), rule(w, "permissions.deny[0]"));
    policy_user_list_add_group(deny, STR("interns"), rule(w, "permissions.deny[1]"));
    policy_user_list_add_group(allow, STR("staff"), rule(w, "permissions.allow[0]"));
    policy_user_list_add_user(allow, STR("carol"), rule(w, "permissions.allow[1]"));
    policy_model_finish(w->model);
    w->server.submit_deny = deny;

    log_in(w, "BOB");
    assert_string_equal(mail_from(w, "a@b.test"),
                        "550 5.7.1 Client does not have permission to submit mail to this server");
    assert_string_equal(w->decision.rule->path, "permissions.deny[0]");
    log_in(w, "dave");
    assert_int_equal((mail_from(w, "a@b.test"), w->decision.code), 250);
    w->facts.groups_unknown = true;
    assert_string_equal(mail_from(w, "a@b.test"), "451 4.3.0 Directory unavailable, try again later");
    w->server.submit_deny = NULL;
    assert_int_equal((mail_from(w, "a@b.test"), w->decision.code), 250);
    w->server.submit_allow = allow;
    assert_int_equal((mail_from(w, "a@b.test"), w->decision.code), 451);
    w->facts.groups_unknown = false;
    assert_int_equal((mail_from(w, "a@b.test"), w->decision.code), 550);
    w->facts.groups = staff;
    w->facts.group_count = 1;
    assert_int_equal((mail_from(w, "a@b.test"), w->decision.code), 250);

    /* The same for relaying, with relay.authenticated off and on. */
    w->server.submit_allow = NULL;
    w->server.relay_allow = allow;
    w->server.relay_deny = deny;
    w->server.relay_authenticated = false;
    assert_int_equal((rcpt_to(w, "v@example.net"), w->decision.code), 250);
    assert_string_equal(w->decision.rule->path, "permissions.allow[0]");
    log_in(w, "bob");
    assert_string_equal(rcpt_to(w, "v@example.net"), "550 5.7.1 Unable to relay for v@example.net");
    log_in(w, "dave");
    w->facts.group_count = 0;
    assert_int_equal((rcpt_to(w, "v@example.net"), w->decision.code), 550);
    w->facts.groups_unknown = true;
    assert_int_equal((rcpt_to(w, "v@example.net"), w->decision.code), 451);
    w->server.relay_allow = NULL;
    assert_int_equal((rcpt_to(w, "v@example.net"), w->decision.code), 550);
    w->server.relay_authenticated = true;
    assert_int_equal((rcpt_to(w, "v@example.net"), w->decision.code), 451);
    w->facts.groups_unknown = false;
    assert_int_equal((rcpt_to(w, "v@example.net"), w->decision.code), 250);
    assert_string_equal(w->decision.rule->path, "servers.internet.relay.authenticated");
    assert_true(policy_grants_relay(&w->facts));
}

/* With a lookup at RCPT the unknown are refused; a directory that is silent lets nobody pass as known, or as unknown. */
static void test_lookup(void **state)
{
    struct world *w = *state;

    policy_model_finish(w->model);
    assert_string_equal(rcpt_to(w, "nobody@contoso.test"), "250 2.1.5 nobody@contoso.test");
    assert_string_equal(rcpt_to(w, "x@a.northwind.test"), "250 2.1.5 x@a.northwind.test");
    assert_false(policy_needs_directory(w->model, &w->facts));
    w->server.lookup = POLICY_LOOKUP_AT_RCPT;
    assert_string_equal(rcpt_to(w, "nobody@contoso.test"), "550 5.1.1 nobody@contoso.test... User unknown");
    assert_string_equal(rcpt_to(w, "v%example.net"), "550 5.1.1 v%example.net@contoso.test... User unknown");
    assert_string_equal(rcpt_to(w, "ALICE@contoso.example"), "250 2.1.5 ALICE@contoso.example");
    assert_string_equal(rcpt_to(w, "alice@[203.0.113.25]"), "250 2.1.5 alice@[203.0.113.25]");
    assert_string_equal(rcpt_to(w, "PostMaster"), "250 2.1.5 PostMaster@contoso.test");
    assert_string_equal(rcpt_to(w, "x@fabrikam.test"), "250 2.1.5 x@fabrikam.test");
    assert_string_equal(rcpt_to(w, "x@a.northwind.test"), "451 4.3.0 Directory unavailable, try again later");
    assert_true(policy_needs_directory(w->model, &w->facts));
    w->facts.recipient_known = POLICY_ANSWER_UNAVAILABLE;
    assert_int_equal((rcpt_to(w, "x@a.northwind.test"), w->decision.code), 451);
    w->facts.recipient_known = POLICY_ANSWER_NO;
    assert_int_equal((rcpt_to(w, "x@a.northwind.test"), w->decision.code), 550);
    assert_int_equal((rcpt_to(w, "postmaster@a.northwind.test"), w->decision.code), 550);
    w->facts.recipient_known = POLICY_ANSWER_YES;
    assert_int_equal((rcpt_to(w, "x@a.northwind.test"), w->decision.code), 250);
}

/* What explain prints must name what decided, and end with the reply. */
static void test_trace(void **state)
{
    struct world *w = *state;
    struct policy_trace trace = {0};

    policy_model_finish(w->model);
    rcpt_to(w, "x@a.partner.test");
    policy_decide(w->model, POLICY_STAGE_RCPT, &w->facts, &w->decision, &trace);
    assert_int_equal(trace.count, 3);
    assert_non_null(strstr(trace.steps[0].text, "the connector partners is for this domain"));
    assert_string_equal(trace.steps[0].rule->path, "connectors.partners.address-spaces[0]");
    assert_non_null(strstr(trace.steps[1].text, "OVERRIDES every relay restriction of the server internet"));
    assert_true(trace.steps[2].is_reply);
    assert_string_equal(trace.steps[2].text, "250 2.1.5 x@a.partner.test");
    assert_string_equal(trace.steps[2].rule->path, "connectors.partners.allow-relay");
    assert_int_equal(trace.steps[2].stage, POLICY_STAGE_RCPT);
    for (int i = 0; i < 200; i++)
        policy_decide(w->model, POLICY_STAGE_RCPT, &w->facts, &w->decision, &trace);
    assert_int_equal(trace.count, POLICY_TRACE_STEPS_MAX);
    assert_true(trace.steps[POLICY_TRACE_STEPS_MAX - 1].is_reply);
}

static const struct policy_trace_step *last_finding(struct world *w, struct policy_trace *trace, const char *client)
{
    assert_true(cidr_parse_address(str_from_cstr(client), &w->facts.client));
    trace->count = 0;
    policy_decide(w->model, POLICY_STAGE_RCPT, &w->facts, &w->decision, trace);
    assert_true(trace->count >= 2 && trace->steps[trace->count - 1].is_reply);
    return &trace->steps[trace->count - 2];
}

/* `explain` is read by people who have never seen the list: it must say which entry, of which list, and what about the client. */
static void test_trace_of_lists(void **state)
{
    struct world *w = *state;
    static struct policy_trace trace;
    struct policy_client_list *office = policy_client_list_create(w->model);
    const struct policy_trace_step *step;

    add_network(office, w, "10.1.0.0/16", "lists.office[0]");
    policy_client_list_add_domain(office, text(w, "branch.test"), rule(w, "lists.office[1]"));
    policy_client_list_add_list(w->relay, office, rule(w, "servers.internet.relay.only[0]"));
    add_network(w->relay, w, "192.0.2.7", "servers.internet.relay.only[1]");
    policy_model_finish(w->model);
    rcpt_to(w, "v@example.net");
    step = last_finding(w, &trace, "10.1.2.3");
    assert_string_equal(step->text, "the list of who may relay names the client: 10.1.2.3 is in 10.1.0.0/16");
    assert_string_equal(step->rule->path, "servers.internet.relay.only[0]");
    assert_string_equal(step->inner->path, "lists.office[0]");
    step = last_finding(w, &trace, "192.0.2.7");
    assert_string_equal(step->text, "the list of who may relay names the client: 192.0.2.7 stands there");
    assert_null(step->inner);
    step = last_finding(w, &trace, "192.0.2.8");
    assert_non_null(strstr(step->text, "does not name the client 192.0.2.8; it has no host name"));
    assert_string_equal(step->rule->path, "servers.internet.relay.only");
    w->facts.client_name_state = POLICY_NAME_TEMPFAIL;
    step = last_finding(w, &trace, "192.0.2.8");
    assert_non_null(strstr(step->text, "domain:branch.test needs the client's host name"));
    assert_string_equal(step->inner->path, "lists.office[1]");
    assert_int_equal(w->decision.code, 451);
    w->facts.client_name_state = POLICY_NAME_VERIFIED;
    w->facts.client_name = STR("mail.branch.test");
    step = last_finding(w, &trace, "192.0.2.8");
    assert_non_null(strstr(step->text, "the verified host name mail.branch.test is below branch.test"));
}

/* Of the entries that match the first one decides, whatever its kind: it is the one that an administrator finds and removes. */
static void test_first_entry_decides(void **state)
{
    struct world *w = *state;
    struct policy_client_list *office = policy_client_list_create(w->model);

    policy_client_list_add_domain(w->relay, text(w, "branch.test"), rule(w, "relay.only[0]"));
    add_network(office, w, "10.1.0.0/16", "lists.office[0]");
    policy_client_list_add_list(w->relay, office, rule(w, "relay.only[1]"));
    add_network(w->relay, w, "10.1.2.3", "relay.only[2]");
    policy_model_finish(w->model);
    assert_true(cidr_parse_address(STR("10.1.2.3"), &w->facts.client));
    rcpt_to(w, "v@example.net");
    assert_string_equal(w->decision.rule->path, "relay.only[1]");
    w->facts.client_name_state = POLICY_NAME_VERIFIED;
    w->facts.client_name = STR("branch.test");
    rcpt_to(w, "v@example.net");
    assert_string_equal(w->decision.rule->path, "relay.only[0]");
}

/* Lists that name lists that name lists: each is asked once, however often it is named. */
static void test_tangled_lists(void **state)
{
    struct world *w = *state;
    struct policy_client_list *lists[9];

    for (size_t i = 0; i < 9; i++) {
        lists[i] = policy_client_list_create(w->model);
        for (int copies = 0; i > 0 && copies < 20; copies++)
            policy_client_list_add_list(lists[i], lists[i - 1], rule(w, "lists.x[0]"));
    }
    add_network(lists[0], w, "192.0.2.7", "lists.deepest[0]");
    policy_client_list_add_list(w->relay, lists[8], rule(w, "relay.only[0]"));
    policy_model_finish(w->model);
    rcpt_to(w, "v@example.net");
    assert_int_equal(w->decision.code, 250);
    assert_true(cidr_parse_address(STR("192.0.2.8"), &w->facts.client));
    rcpt_to(w, "v@example.net");
    assert_int_equal(w->decision.code, 550);
}

/* At connection nobody has proved a certificate, even if a list that relaying uses too names one. */
static void test_certificate_at_connection(void **state)
{
    struct world *w = *state;
    static const unsigned char sha256[32] = {1, 2, 3};

    policy_client_list_add_certificate(w->relay, sha256, rule(w, "lists.devices[0]"));
    w->server.connect_mode = POLICY_LIST_ONLY;
    w->server.connect = w->relay;
    w->facts.has_certificate = true;
    memcpy(w->facts.certificate_sha256, sha256, sizeof(sha256));
    policy_model_finish(w->model);
    decide(w, POLICY_STAGE_CONNECT);
    assert_int_equal(w->decision.code, 554);
    rcpt_to(w, "v@example.net");
    assert_int_equal(w->decision.code, 250);
}

/* The longest address that the parser lets through, with the longest default domain, still gives its whole reply. */
static void test_longest_text(void **state)
{
    struct world *w = *state;
    char path[ADDRESS_PATH_OCTETS_MAX + 1];

    policy_model_finish(w->model);
    memset(path, 'a', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    rcpt_to(w, path);
    assert_int_equal(w->decision.code, 250);
    assert_int_equal(w->decision.text_length, sizeof(path) - 1 + strlen("@contoso.test"));
    assert_true(ADDRESS_TEXT_OCTETS_MAX + 64 < POLICY_TEXT_BYTES);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_classic),
        TEST(test_classes),
        TEST(test_relay_only),
        TEST(test_relay_except),
        TEST(test_connect),
        TEST(test_mail),
        TEST(test_a_user_has_two_names),
        TEST(test_permissions),
        TEST(test_anonymous_local_sender),
        TEST(test_lookup),
        TEST(test_trace),
        TEST(test_trace_of_lists),
        TEST(test_first_entry_decides),
        TEST(test_tangled_lists),
        TEST(test_certificate_at_connection),
        TEST(test_longest_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
