/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client demands of the server's certificate. Whatever passes here that should not is a man in the middle who reads mail that was to be
 * protected; whatever fails must say why in words that the administrator of either side understands.
 */
#include "tls_fixture.h"

static struct {
    struct identity root, other_root, good, expired, to_come, self_signed, foreign, bare, address, wild;
    struct tls_tickets *tickets;
    struct tls_context *client;
} shared;

static int make_shared(void **state)
{
    const struct identity *root = &shared.root;

    (void)state;
    identity_make(&shared.root, &(struct identity_wish){.name = "Test Root", .is_authority = true});
    identity_make(&shared.other_root, &(struct identity_wish){.name = "Other Root", .is_authority = true});
    identity_make(&shared.good, &(struct identity_wish){.name = "mx.contoso.test", .issuer = root});
    identity_make(&shared.expired,
                  &(struct identity_wish){.name = "mx.contoso.test", .issuer = root, .has_expired = true});
    identity_make(&shared.to_come,
                  &(struct identity_wish){.name = "mx.contoso.test", .issuer = root, .is_to_come = true});
    identity_make(&shared.self_signed, &(struct identity_wish){.name = "mx.contoso.test"});
    identity_make(&shared.foreign, &(struct identity_wish){.name = "mx.contoso.test", .issuer = &shared.other_root});
    identity_make(&shared.bare, &(struct identity_wish){.name = "mx.contoso.test", .host = "", .issuer = root});
    identity_make(&shared.address,
                  &(struct identity_wish){.name = "host.test", .host = "IP:192.0.2.1", .issuer = root});
    identity_make(&shared.wild, &(struct identity_wish){.name = "*.contoso.test", .issuer = root});
    shared.tickets = tls_tickets_create();
    shared.client = client_context(&shared.root);
    return 0;
}

static int release_shared(void **state)
{
    (void)state;
    tls_context_release(&shared.client);
    tls_tickets_destroy(&shared.tickets);
    identity_release(&shared.root);
    identity_release(&shared.other_root);
    identity_release(&shared.good);
    identity_release(&shared.expired);
    identity_release(&shared.to_come);
    identity_release(&shared.self_signed);
    identity_release(&shared.foreign);
    identity_release(&shared.bare);
    identity_release(&shared.address);
    identity_release(&shared.wild);
    identity_remove_directory();
    return 0;
}

/* `words` NULL: it is accepted; else what the error says. */
static void check(const struct identity *server_identity, const struct tls_client_options *options, const char *words)
{
    struct tls_context *server = server_context(server_identity, shared.tickets);
    struct tls_ends ends;

    tls_ends_connect(&ends);
    tls_ends_shake_hands(&ends, server, options);
    if (words) {
        if (ends.client_status == CONN_OK || !strstr(ends.client_error.text, words))
            fprintf(stderr, "\"%s\" instead of \"%s\"\n",
                    ends.client_status == CONN_OK ? "accepted" : ends.client_error.text, words);
        CHECK(ends.client_status == CONN_FAILED && strstr(ends.client_error.text, words));
        CHECK(strstr(ends.client_error.text, "TLS: ") == ends.client_error.text);
    } else {
        if (ends.client_status != CONN_OK)
            fprintf(stderr, "%s\n", ends.client_error.text);
        CHECK(ends.client_status == CONN_OK);
        CHECK(conn_tls(ends.client)->is_verified == (options->verification != TLS_VERIFY_NONE));
        tls_pass_line(ends.client, ends.server);
    }
    tls_ends_close(&ends);
    tls_context_release(&server);
}

static void scenario_names(void *argument)
{
    struct tls_client_options options = {
        .context = shared.client, .server_name = STR("mx.contoso.test"), .verification = TLS_VERIFY_NAME};

    (void)argument;
    check(&shared.good, &options, NULL);
    check(&shared.wild, &options, NULL);
    check(&shared.bare, &options, NULL); /* no names but the subject's: RFC 6125 6.4.4 */
    check(&shared.expired, &options, "TLS: the certificate has expired");
    check(&shared.to_come, &options, "TLS: the certificate is not valid yet");
    check(&shared.self_signed, &options, "TLS: the certificate is self-signed");
    check(&shared.foreign, &options, "TLS: the certificate's issuer is not trusted");
    check(&shared.address, &options, "TLS: the certificate is for another name");
    options.server_name = STR("mx2.contoso.test");
    check(&shared.good, &options, "TLS: the certificate is for another name");
    check(&shared.wild, &options, NULL);
    options.server_name = STR("a.mx.contoso.test");
    check(&shared.wild, &options, "TLS: the certificate is for another name");
    options.server_name = STR("192.0.2.1");
    check(&shared.address, &options, NULL);
    check(&shared.good, &options, "TLS: the certificate is for another name");
    options.server_name = STR("192.0.2.2");
    check(&shared.address, &options, "TLS: the certificate is for another name");
    /* No name is no verification, and so a failure. */
    options.server_name = STR("");
    check(&shared.good, &options, "TLS: there is no name that the certificate could be verified against");
    options.server_name = STR("mx.contoso.test\0.evil.test");
    check(&shared.good, &options, "TLS: there is no name");
}

static void test_verified_by_name(void **state)
{
    (void)state;
    harness_run(scenario_names, NULL);
}

static void scenario_none(void *argument)
{
    struct tls_client_options options = {.context = shared.client, .server_name = STR("other.test")};

    (void)argument;
    check(&shared.good, &options, NULL);
    check(&shared.expired, &options, NULL);
    check(&shared.self_signed, &options, NULL);
    check(&shared.foreign, &options, NULL);
    options.server_name = STR("");
    check(&shared.self_signed, &options, NULL);
}

/* Opportunistic: any certificate is better than plaintext. */
static void test_not_verified(void **state)
{
    (void)state;
    harness_run(scenario_none, NULL);
}

/* ---- DANE ---- */

static struct str digest_of_certificate(const struct identity *identity)
{
    return str_make((const char *)identity->sha256, 32);
}

/* SHA-256 of the public key: selector 1. */
static struct str digest_of_key(const struct identity *identity, unsigned char room[32])
{
    unsigned bytes;
    unsigned char *encoded = NULL;
    int length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(identity->certificate), &encoded);

    CHECK(length > 0 && EVP_Digest(encoded, (size_t)length, room, &bytes, EVP_sha256(), NULL) == 1);
    OPENSSL_free(encoded);
    return str_make((const char *)room, bytes);
}

static struct tls_client_options dane(const struct tls_dane_record *records, size_t count)
{
    return (struct tls_client_options){.context = shared.client,
                                       .server_name = STR("mx.contoso.test"),
                                       .verification = TLS_VERIFY_DANE,
                                       .records = records,
                                       .record_count = count};
}

static void check_one(const struct identity *server, struct tls_dane_record record, const char *words)
{
    const struct tls_client_options options = dane(&record, 1);

    check(server, &options, words);
}

#define NO_MATCH "TLS: no TLSA record matches the certificate"

static void scenario_end_entity(void *argument)
{
    unsigned char room[32], good_room[32];
    struct tls_dane_record records[3] = {{3, 1, 1, digest_of_key(&shared.self_signed, room)},
                                         {3, 1, 1, digest_of_key(&shared.good, good_room)},
                                         {1, 0, 1, digest_of_certificate(&shared.foreign)}};
    struct tls_client_options options = dane(records, 3);

    (void)argument;
    check_one(&shared.self_signed, records[0], NULL);
    check_one(&shared.good, records[0], NO_MATCH);
    check_one(&shared.good, (struct tls_dane_record){3, 0, 1, digest_of_certificate(&shared.good)}, NULL);
    check_one(&shared.foreign, (struct tls_dane_record){3, 0, 1, digest_of_certificate(&shared.good)}, NO_MATCH);
    /* RFC 7672 3.1.1: neither dates nor names count. */
    check_one(&shared.expired, (struct tls_dane_record){3, 1, 1, digest_of_key(&shared.expired, room)}, NULL);
    check_one(&shared.to_come, (struct tls_dane_record){3, 1, 1, digest_of_key(&shared.to_come, room)}, NULL);
    check_one(&shared.address, (struct tls_dane_record){3, 1, 1, digest_of_key(&shared.address, room)}, NULL);
    /* Several: any of the usable ones. */
    digest_of_key(&shared.self_signed, room);
    check(&shared.self_signed, &options, NULL);
    check(&shared.good, &options, NULL);
    check(&shared.foreign, &options, NO_MATCH);
}

static void scenario_trust_anchor(void *argument)
{
    const struct tls_dane_record records[] = {{2, 0, 1, digest_of_certificate(&shared.other_root)}};
    struct tls_client_options options = dane(records, 1);

    (void)argument;
    /* An anchor that nobody here trusts, and that nobody needs to. */
    check(&shared.foreign, &options, NULL);
    check(&shared.good, &options, NO_MATCH);
    options.server_name = STR("mx9.contoso.test");
    check(&shared.foreign, &options, "TLS: the certificate is for another name");
    options.dane_base = STR("mx.contoso.test");
    check(&shared.foreign, &options, NULL);
    options.dane_base = STR("contoso.test");
    check(&shared.foreign, &options, "TLS: the certificate is for another name");
    check_one(&shared.expired, (struct tls_dane_record){2, 0, 1, digest_of_certificate(&shared.root)},
              "TLS: the certificate has expired");
}

static void scenario_unusable(void *argument)
{
    static const char words[] = "TLS: DANE: there is no usable TLSA record";
    const struct str digest = digest_of_certificate(&shared.good);

    (void)argument;
    check_one(&shared.good, (struct tls_dane_record){0, 0, 1, digest}, words);
    check_one(&shared.good, (struct tls_dane_record){1, 0, 1, digest}, words);
    check_one(&shared.good, (struct tls_dane_record){4, 0, 1, digest}, words);
    check_one(&shared.good, (struct tls_dane_record){255, 0, 1, digest}, words);
    check_one(&shared.good, (struct tls_dane_record){3, 2, 1, digest}, words);
    check_one(&shared.good, (struct tls_dane_record){3, 0, 3, digest}, words);
    check_one(&shared.good, (struct tls_dane_record){3, 0, 2, digest}, words);
    check_one(&shared.good, (struct tls_dane_record){3, 0, 1, str_take(digest, 31)}, words);
    check_one(&shared.good, (struct tls_dane_record){3, 0, 0, STR("")}, words);
    check_one(&shared.good, (struct tls_dane_record){3, 0, 0, STR("no certificate")}, words);
}

static void test_verified_by_dane(void **state)
{
    (void)state;
    harness_run(scenario_end_entity, NULL);
    harness_run(scenario_trust_anchor, NULL);
    harness_run(scenario_unusable, NULL);
}

static void scenario_dane_sessions(void *argument)
{
    struct tls_context *server = server_context(&shared.good, shared.tickets);
    struct tls_dane_record record = {3, 0, 1, digest_of_certificate(&shared.good)};
    struct tls_client_options options = dane(&record, 1);

    (void)argument;
    options.session_key = STR("k");
    for (unsigned i = 0; i < 4; i++) {
        struct tls_ends ends;

        if (i == 2)
            record.selector = 1; /* other records: what matched before counts no more */
        if (i == 3)
            record = (struct tls_dane_record){3, 0, 1, digest_of_certificate(&shared.good)};
        tls_ends_connect(&ends);
        tls_ends_shake_hands(&ends, server, &options);
        CHECK((ends.client_status == CONN_OK) == (i != 2));
        if (ends.client_status == CONN_OK) {
            CHECK(conn_tls(ends.client)->is_verified && conn_tls(ends.client)->is_resumed == (i != 0));
            tls_pass_line(ends.server, ends.client);
        }
        tls_ends_close(&ends);
    }
    tls_context_release(&server);
}

static void test_dane_and_resumption(void **state)
{
    (void)state;
    harness_run(scenario_dane_sessions, NULL);
}

/* ---- failures that are not the certificate's ---- */

struct script {
    int fd;
    struct str text;
    bool closes;
};

static void script_main(void *argument)
{
    struct script *script = argument;

    CHECK(send(script->fd, script->text.data, script->text.length, MSG_NOSIGNAL) == (ssize_t)script->text.length);
    if (script->closes)
        shutdown(script->fd, SHUT_WR);
}

/* Against a server that says `text`, in plaintext, and perhaps closes. */
static void check_other(struct str text, bool closes, enum conn_status expected, const char *words)
{
    const struct tls_client_options options = {.context = shared.client};
    struct script script = {.text = text, .closes = closes};
    struct net_address address;
    struct conn *client;
    struct error error;
    enum conn_status status;
    int ours;

    socket_pair(&ours, &script.fd);
    address = socket_address(script.fd);
    client = conn_create(ours, &address);
    CHECK(fiber_start(script_main, &script) == 0);
    status =
        conn_connect_tls(client, &options, expected == CONN_TIMEOUT ? loop_now_ms() + 20 : harness_deadline(), &error);
    if (status != expected || !strstr(error.text, words))
        fprintf(stderr, "%s, \"%s\" instead of \"%s\"\n", conn_status_text(status), error.text, words);
    CHECK(status == expected && strstr(error.text, words));
    CHECK(!conn_tls(client));
    /* Nothing may go out in plaintext any more. */
    CHECK(conn_write(client, STR("secret"), harness_deadline()) == CONN_OK);
    CHECK(conn_flush(client, harness_deadline()) != CONN_OK);
    conn_close(&client);
    close(script.fd);
}

static void scenario_other(void *argument)
{
    (void)argument;
    check_other(STR("220 ready\r\n"), false, CONN_FAILED, "TLS: the peer does not speak TLS");
    check_other(STR(""), true, CONN_CLOSED, "TLS: the peer closed the connection");
    check_other(STR("\x16\x03"), true, CONN_CLOSED, "TLS: the peer closed the connection");
    check_other(STR(""), false, CONN_TIMEOUT, "TLS: timed out");
    check_other(STR("\x15\x03\x03\x00\x02\x02\x46"), false, CONN_FAILED, "TLS: no TLS version in common");
    check_other(STR("\x15\x03\x03\x00\x02\x02\x28"), false, CONN_FAILED, "TLS: no cipher or signature in common");
    check_other(STR("\x15\x03\x03\x00\x02\x02\x70"), false, CONN_FAILED, "TLS: unrecognized name");
}

static void test_other_failures(void **state)
{
    (void)state;
    harness_run(scenario_other, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verified_by_name), cmocka_unit_test(test_not_verified),
        cmocka_unit_test(test_verified_by_dane), cmocka_unit_test(test_dane_and_resumption),
        cmocka_unit_test(test_other_failures),
    };

    return cmocka_run_group_tests(tests, make_shared, release_shared);
}
