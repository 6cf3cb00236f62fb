/* SPDX-License-Identifier: Apache-2.0 */
/* Which certificate, which versions, which tickets: what is agreed on in a handshake decides who can read the mail. */
#include "net/tls.h"

#include "os/clock.h"
#include "tls_fixture.h"

#include <openssl/ssl.h>
#include <pthread.h>

/* All that the scenarios share; keys take long to make. */
static struct {
    struct identity root, plain, other, wild, client;
} identities;

static int make_identities(void **state)
{
    (void)state;
    identity_make(&identities.root, &(struct identity_wish){.name = "Test Root", .is_authority = true});
    identity_make(&identities.plain, &(struct identity_wish){.name = "mx.contoso.test", .issuer = &identities.root});
    identity_make(&identities.other, &(struct identity_wish){.name = "mx.fabrikam.test", .issuer = &identities.root});
    identity_make(&identities.wild, &(struct identity_wish){.name = "*.contoso.test", .issuer = &identities.root});
    identity_make(&identities.client, &(struct identity_wish){.name = "client"});
    return 0;
}

static int remove_identities(void **state)
{
    (void)state;
    identity_release(&identities.root);
    identity_release(&identities.plain);
    identity_release(&identities.other);
    identity_release(&identities.wild);
    identity_release(&identities.client);
    identity_remove_directory();
    return 0;
}

/* ---- a handshake ---- */

static void scenario_facts(void *argument)
{
    struct tls_tickets *tickets = tls_tickets_create();
    struct tls_context *server = server_context(&identities.plain, tickets);
    struct tls_context *client = client_context(&identities.root);
    struct tls_ends ends;
    const struct tls_facts *facts;

    (void)argument;
    tls_ends_connect(&ends);
    CHECK(!conn_tls(ends.server) && !conn_tls(ends.client));
    tls_ends_shake_hands(&ends, server,
                         &(struct tls_client_options){.context = client, .server_name = STR("Mx.Contoso.test")});
    facts = conn_tls(ends.server);
    CHECK(facts && strcmp(facts->protocol, "TLSv1.3") == 0 && strcmp(facts->cipher, "TLS_AES_256_GCM_SHA384") == 0);
    CHECK(facts->cipher_bits == 256 && !facts->is_resumed && !facts->is_verified && !facts->has_certificate);
    CHECK(facts->server_name && strcmp(facts->server_name, "Mx.Contoso.test") == 0);
    facts = conn_tls(ends.client);
    CHECK(facts && facts->has_certificate && !facts->is_verified && !facts->server_name);
    CHECK(memcmp(facts->certificate_sha256, identities.plain.sha256, 32) == 0);
    tls_pass_line(ends.client, ends.server);
    tls_pass_line(ends.server, ends.client);
    tls_ends_close(&ends);
    tls_context_release(&server);
    tls_context_release(&client);
    tls_tickets_destroy(&tickets);
}

static void test_a_handshake(void **state)
{
    (void)state;
    harness_run(scenario_facts, NULL);
}

/* ---- names ---- */

static void check_answer(struct tls_context *server, struct tls_context *client, struct str name,
                         const struct identity *expected)
{
    struct tls_ends ends;

    tls_ends_connect(&ends);
    tls_ends_shake_hands(&ends, server, &(struct tls_client_options){.context = client, .server_name = name});
    CHECK(ends.client_status == CONN_OK && ends.server_status == CONN_OK);
    if (memcmp(conn_tls(ends.client)->certificate_sha256, expected->sha256, 32) != 0)
        fprintf(stderr, "the wrong certificate answers to %.*s\n", STR_ARG(name));
    CHECK(memcmp(conn_tls(ends.client)->certificate_sha256, expected->sha256, 32) == 0);
    tls_ends_close(&ends);
}

static void scenario_names(void *argument)
{
    const struct tls_files files[] = {identity_files(&identities.plain, NULL),
                                      identity_files(&identities.other, "MX.Fabrikam.test"),
                                      identity_files(&identities.wild, "*.contoso.test")};
    const struct tls_server_settings settings = {
        .certificates = files, .certificate_count = 3, .protocol_min = TLS_PROTOCOL_1_2};
    struct tls_tickets *tickets = tls_tickets_create();
    struct tls_context *server = tls_server_create(&settings, tickets, NULL);
    struct tls_context *client = client_context(&identities.root);

    (void)argument;
    CHECK(server);
    check_answer(server, client, STR(""), &identities.plain);
    check_answer(server, client, STR("unknown.test"), &identities.plain);
    check_answer(server, client, STR("mx.fabrikam.test"), &identities.other);
    check_answer(server, client, STR("mx.FABRIKAM.test"), &identities.other);
    check_answer(server, client, STR("a.mx.fabrikam.test"), &identities.plain);
    check_answer(server, client, STR("any.contoso.test"), &identities.wild);
    check_answer(server, client, STR("a.b.contoso.test"), &identities.plain);
    check_answer(server, client, STR("contoso.test"), &identities.plain);
    check_answer(server, client, STR("192.0.2.1"), &identities.plain);
    tls_context_release(&server);
    tls_context_release(&client);
    tls_tickets_destroy(&tickets);
}

/* A host with several domains shows each client the certificate of the name that it came for, or the client refuses it. */
static void test_the_certificate_follows_the_name(void **state)
{
    (void)state;
    harness_run(scenario_names, NULL);
}

/* ---- resumption ---- */

/* One connection; whether it was resumed. */
static bool resumes(struct tls_context *server, const struct tls_client_options *options)
{
    struct tls_ends ends;
    bool is_resumed;

    tls_ends_connect(&ends);
    tls_ends_shake_hands(&ends, server, options);
    CHECK(ends.client_status == CONN_OK && ends.server_status == CONN_OK);
    is_resumed = conn_tls(ends.client)->is_resumed;
    CHECK(conn_tls(ends.server)->is_resumed == is_resumed);
    tls_pass_line(ends.server, ends.client);
    tls_ends_close(&ends);
    return is_resumed;
}

static void check_resumption(struct tls_context *server, struct tls_context *after_reload, struct tls_context *foreign,
                             struct tls_context *client)
{
    struct tls_client_options options = {
        .context = client, .server_name = STR("mx.contoso.test"), .session_key = STR("a")};

    CHECK(!resumes(server, &options));
    CHECK(resumes(server, &options));
    CHECK(resumes(server, &options));
    CHECK(resumes(after_reload, &options));
    options.session_key = STR("b");
    CHECK(!resumes(server, &options));
    options.session_key = STR("");
    CHECK(!resumes(server, &options) && !resumes(server, &options));
    options.session_key = STR("a");
    CHECK(!resumes(foreign, &options));
    CHECK(!resumes(server, &options));
    /* What was not verified may not pass for what is. */
    options.verification = TLS_VERIFY_NAME;
    CHECK(!resumes(server, &options));
    CHECK(resumes(server, &options));
    options.server_name = STR("localhost.contoso.test");
    options.verification = TLS_VERIFY_NONE;
    CHECK(!resumes(server, &options));
}

static void scenario_resumption(void *argument)
{
    struct tls_tickets *tickets = tls_tickets_create();
    struct tls_tickets *other_tickets = tls_tickets_create();
    struct tls_context *server = server_context(&identities.plain, tickets);
    struct tls_context *after_reload = server_context(&identities.plain, tickets);
    struct tls_context *foreign = server_context(&identities.plain, other_tickets);
    struct tls_context *client = client_context(&identities.root);

    (void)argument;
    check_resumption(server, after_reload, foreign, client);
    tls_context_release(&server);
    tls_context_release(&after_reload);
    tls_context_release(&foreign);
    tls_context_release(&client);
    tls_tickets_destroy(&tickets);
    tls_tickets_destroy(&other_tickets);
}

/* Resuming saves both sides the expensive half of a handshake, across reloads; but never between those who must not share. */
static void test_resumption(void **state)
{
    (void)state;
    harness_run(scenario_resumption, NULL);
}

/* ---- rotation ---- */

static uint64_t later_ms;

static uint64_t shifted_monotonic_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 + later_ms;
}

static void scenario_rotation(void *argument)
{
    static const uint64_t hour_ms = 3600 * 1000;
    struct tls_tickets *tickets = tls_tickets_create();
    struct tls_context *server = server_context(&identities.plain, tickets);
    struct tls_context *client = client_context(&identities.root);
    const struct tls_client_options options = {.context = client, .session_key = STR("a")};

    (void)argument;
    /* The client keeps a session for two hours, so it comes back after less than that each time. */
    CHECK(!resumes(server, &options));
    later_ms += hour_ms;
    CHECK(resumes(server, &options));
    /* The first key is now too old for new tickets, but good for this one, which is renewed; and again. */
    later_ms += 3 * hour_ms - hour_ms / 2;
    CHECK(!resumes(server, &options)); /* two and a half hours: the client has let go */
    for (unsigned i = 0; i < 12; i++) {
        later_ms += hour_ms + hour_ms / 2;
        CHECK(resumes(server, &options));
    }
    tls_context_release(&server);
    tls_context_release(&client);
    tls_tickets_destroy(&tickets);
}

/* One connection of a plain client, with the session of the one before; whether it was resumed. */
static bool peer_resumes(struct tls_context *server, int version, SSL_SESSION **session)
{
    struct tls_ends ends;
    struct peer peer;
    char byte;
    bool is_resumed;

    peer_connect(&peer, &ends, version, NULL);
    if (*session)
        CHECK(SSL_set_session(peer.ssl, *session) == 1);
    CHECK(peer_shake_hands(&peer, &ends, server) == 1);
    is_resumed = conn_tls(ends.server)->is_resumed;
    CHECK(conn_write(ends.server, STR("x"), harness_deadline()) == CONN_OK);
    CHECK(conn_flush(ends.server, harness_deadline()) == CONN_OK);
    CHECK(peer_read(&peer, &byte, 1) == 1);
    SSL_SESSION_free(*session);
    *session = SSL_get1_session(peer.ssl);
    conn_close(&ends.server);
    peer_close(&peer);
    return is_resumed;
}

static void scenario_ages(void *argument)
{
    const int version = *(const int *)argument;
    static const uint64_t hour_ms = 3600 * 1000;
    struct tls_tickets *tickets = tls_tickets_create();
    struct tls_context *server = server_context(&identities.plain, tickets);
    SSL_SESSION *session = NULL;

    CHECK(!peer_resumes(server, version, &session));
    CHECK(peer_resumes(server, version, &session));
    later_ms += 5 * hour_ms; /* the key is one generation back, and the ticket is renewed */
    CHECK(peer_resumes(server, version, &session));
    later_ms += 5 * hour_ms;
    CHECK(peer_resumes(server, version, &session));
    later_ms += 9 * hour_ms;
    CHECK(!peer_resumes(server, version, &session));
    SSL_SESSION_free(session);
    tls_context_release(&server);
    tls_tickets_destroy(&tickets);
}

/* Keys change under sessions that go on being renewed: a stolen key opens hours, not months. */
static void test_ticket_keys_change(void **state)
{
    const struct clock_source clock = {.monotonic_ms = shifted_monotonic_ms, .real_ms = clock_real_ms};
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

    (void)state;
    later_ms = 0;
    clock_use(&clock);
    harness_run(scenario_rotation, NULL);
    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++)
        harness_run(scenario_ages, (void *)(uintptr_t)&versions[i]);
    clock_use(NULL);
}

/* ---- threads ---- */

struct crowd {
    struct tls_context *server, *client;
    pthread_t thread;
};

static void scenario_crowd(void *argument)
{
    const struct crowd *crowd = argument;
    const struct tls_client_options options = {.context = crowd->client,
                                               .server_name = STR("mx.contoso.test"),
                                               .verification = TLS_VERIFY_NAME,
                                               .session_key = STR("shared")};

    for (unsigned i = 0; i < 30; i++)
        resumes(crowd->server, &options);
}

static void *crowd_main(void *argument)
{
    harness_run(scenario_crowd, argument);
    return NULL;
}

/* The contexts, the ticket keys and the sessions are everybody's: each loop uses them at once with the others. */
static void test_many_threads(void **state)
{
    struct tls_tickets *tickets = tls_tickets_create();
    struct tls_context *server = server_context(&identities.plain, tickets);
    struct tls_context *client = client_context(&identities.root);
    struct crowd crowds[4];

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        crowds[i] = (struct crowd){tls_context_retain(server), tls_context_retain(client), 0};
        assert_int_equal(pthread_create(&crowds[i].thread, NULL, crowd_main, &crowds[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(crowds[i].thread, NULL);
        tls_context_release(&crowds[i].server);
        tls_context_release(&crowds[i].client);
    }
    tls_context_release(&server);
    tls_context_release(&client);
    tls_tickets_destroy(&tickets);
}

/* ---- client certificates ---- */

static struct tls_context *asking_server(struct tls_tickets *tickets)
{
    const struct tls_files files = identity_files(&identities.plain, NULL);
    const struct tls_server_settings settings = {
        .certificates = &files, .certificate_count = 1, .protocol_min = TLS_PROTOCOL_1_2, .asks_certificate = true};
    struct tls_context *server = tls_server_create(&settings, tickets, NULL);

    CHECK(server);
    return server;
}

static void scenario_client_certificate(void *argument)
{
    const struct tls_client_settings settings = {.ca_file = identities.root.certificate_path,
                                                 .own = identity_files(&identities.client, NULL),
                                                 .protocol_min = TLS_PROTOCOL_1_2};
    struct tls_tickets *tickets = tls_tickets_create();
    struct tls_context *asking = asking_server(tickets);
    struct tls_context *not_asking = server_context(&identities.plain, tickets);
    struct tls_context *client = tls_client_create(&settings, NULL);
    struct tls_context *without = client_context(&identities.root);
    struct tls_client_options options = {.context = client, .session_key = STR("a")};
    struct tls_ends ends;

    (void)argument;
    for (unsigned i = 0; i < 2; i++) {
        tls_ends_connect(&ends);
        tls_ends_shake_hands(&ends, asking, &options);
        CHECK(ends.client_status == CONN_OK && ends.server_status == CONN_OK);
        /* Resumed, it is proved by the ticket. */
        CHECK(conn_tls(ends.server)->is_resumed == (i == 1));
        CHECK(conn_tls(ends.server)->has_certificate && !conn_tls(ends.server)->is_verified);
        CHECK(memcmp(conn_tls(ends.server)->certificate_sha256, identities.client.sha256, 32) == 0);
        tls_pass_line(ends.server, ends.client);
        tls_ends_close(&ends);
    }
    /* A ticket from where nobody asked for one must not open this door, nor the other way round. */
    CHECK(!resumes(not_asking, &options));
    CHECK(!resumes(asking, &options));
    tls_ends_open(&ends, not_asking, client);
    CHECK(!conn_tls(ends.server)->has_certificate);
    tls_ends_close(&ends);
    tls_ends_open(&ends, asking, without);
    CHECK(!conn_tls(ends.server)->has_certificate);
    tls_ends_close(&ends);
    tls_context_release(&asking);
    tls_context_release(&not_asking);
    tls_context_release(&client);
    tls_context_release(&without);
    tls_tickets_destroy(&tickets);
}

/* cert: entries grant relay to whoever proved the key of that certificate: whose it is must be told exactly. */
static void test_client_certificates(void **state)
{
    (void)state;
    harness_run(scenario_client_certificate, NULL);
}

/* ---- bindings ---- */

static void check_bindings(struct tls_ends *ends, enum tls_binding kind, size_t expected)
{
    unsigned char ours[TLS_BINDING_BYTES_MAX], theirs[TLS_BINDING_BYTES_MAX];
    size_t length = conn_tls_binding(ends->server, kind, ours);

    CHECK(length == expected && conn_tls_binding(ends->client, kind, theirs) == expected);
    CHECK(length == 0 || memcmp(ours, theirs, length) == 0);
}

static void scenario_bindings(void *argument)
{
    struct tls_tickets *tickets = tls_tickets_create();
    struct tls_context *server = server_context(&identities.plain, tickets);
    struct tls_context *client = client_context(&identities.root);
    struct tls_ends ends, others;
    unsigned char one[TLS_BINDING_BYTES_MAX], two[TLS_BINDING_BYTES_MAX];

    (void)argument;
    tls_ends_connect(&ends);
    CHECK(conn_tls_binding(ends.server, TLS_BINDING_EXPORTER, one) == 0);
    tls_ends_close(&ends);
    tls_ends_open(&ends, server, client);
    tls_ends_open(&others, server, client);
    check_bindings(&ends, TLS_BINDING_EXPORTER, 32);
    check_bindings(&ends, TLS_BINDING_UNIQUE, 0);
    CHECK(conn_tls_binding(ends.server, TLS_BINDING_EXPORTER, one) == 32);
    CHECK(conn_tls_binding(others.server, TLS_BINDING_EXPORTER, two) == 32 && memcmp(one, two, 32) != 0);
    tls_ends_close(&ends);
    tls_ends_close(&others);
    tls_context_release(&server);
    tls_context_release(&client);
    tls_tickets_destroy(&tickets);
}

/* With TLS 1.2, and against the definition itself (RFC 5929 3.1): the first Finished, which a resumed handshake has the server send. */
static void scenario_bindings_before_1_3(void *argument)
{
    struct tls_tickets *tickets = tls_tickets_create();
    struct tls_context *server = server_context(&identities.plain, tickets);
    unsigned char ours[TLS_BINDING_BYTES_MAX], theirs[TLS_BINDING_BYTES_MAX];
    SSL_SESSION *session = NULL;

    (void)argument;
    for (unsigned i = 0; i < 2; i++) {
        struct tls_ends ends;
        struct peer peer;
        size_t length;

        peer_connect(&peer, &ends, TLS1_2_VERSION, NULL);
        if (session)
            SSL_set_session(peer.ssl, session);
        CHECK(peer_shake_hands(&peer, &ends, server) == 1 && conn_tls(ends.server)->is_resumed == (i == 1));
        length = i == 0 ? SSL_get_finished(peer.ssl, theirs, sizeof(theirs))
                        : SSL_get_peer_finished(peer.ssl, theirs, sizeof(theirs));
        CHECK(length == 12 && conn_tls_binding(ends.server, TLS_BINDING_UNIQUE, ours) == 12);
        CHECK(memcmp(ours, theirs, 12) == 0);
        CHECK(SSL_export_keying_material(peer.ssl, theirs, 32, "EXPORTER-Channel-Binding", 24, ours, 0, 1) == 1);
        CHECK(conn_tls_binding(ends.server, TLS_BINDING_EXPORTER, ours) == 32 && memcmp(ours, theirs, 32) == 0);
        SSL_SESSION_free(session);
        session = SSL_get1_session(peer.ssl);
        conn_close(&ends.server);
        peer_close(&peer);
    }
    /* Without the extended master secret two connections could be made to have the same. */
    struct tls_ends ends;
    struct peer peer;

    peer_connect(&peer, &ends, TLS1_2_VERSION, NULL);
    SSL_set_options(peer.ssl, SSL_OP_NO_EXTENDED_MASTER_SECRET);
    CHECK(peer_shake_hands(&peer, &ends, server) == 1);
    CHECK(conn_tls_binding(ends.server, TLS_BINDING_UNIQUE, ours) == 0);
    CHECK(conn_tls_binding(ends.server, TLS_BINDING_EXPORTER, ours) == 0);
    conn_close(&ends.server);
    peer_close(&peer);
    SSL_SESSION_free(session);
    tls_context_release(&server);
    tls_tickets_destroy(&tickets);
}

/* SCRAM-PLUS proves that nobody stands in between: both ends must compute the same, and no two connections. */
static void test_binding_data(void **state)
{
    (void)state;
    harness_run(scenario_bindings, NULL);
    harness_run(scenario_bindings_before_1_3, NULL);
}

/* ---- other clients: versions and ciphers ---- */

/* `expected`: what is agreed on; NULL: nothing. */
static void check_offer(struct tls_context *server, int version, const char *ciphers, const char *expected)
{
    struct tls_ends ends;
    struct peer peer;

    peer_connect(&peer, &ends, version, ciphers);
    CHECK(peer_shake_hands(&peer, &ends, server) == (expected != NULL));
    CHECK((ends.server_status == CONN_OK) == (expected != NULL));
    if (expected && strcmp(conn_tls(ends.server)->cipher, expected) != 0)
        fprintf(stderr, "%s\n", conn_tls(ends.server)->cipher);
    CHECK(!expected || strcmp(conn_tls(ends.server)->cipher, expected) == 0);
    if (!expected)
        CHECK(strstr(ends.server_error.text, "in common"));
    conn_close(&ends.server);
    peer_close(&peer);
}

static struct tls_context *server_from(const struct identity *identity, enum tls_protocol protocol_min,
                                       struct tls_tickets *tickets)
{
    const struct tls_files files = identity_files(identity, NULL);
    const struct tls_server_settings settings = {
        .certificates = &files, .certificate_count = 1, .protocol_min = protocol_min};
    struct tls_context *context = tls_server_create(&settings, tickets, NULL);

    CHECK(context);
    return context;
}

static void scenario_versions(void *argument)
{
    struct tls_tickets *tickets = tls_tickets_create();
    struct identity rsa;
    struct tls_context *today, *strict, *old;

    (void)argument;
    identity_make(&rsa, &(struct identity_wish){.name = "mx.contoso.test", .key = KEY_RSA_2048});
    today = server_from(&rsa, TLS_PROTOCOL_1_2, tickets);
    strict = server_from(&rsa, TLS_PROTOCOL_1_3, tickets);
    old = server_from(&rsa, TLS_PROTOCOL_1_0, tickets);
    check_offer(today, TLS1_3_VERSION, NULL, "TLS_AES_256_GCM_SHA384");
    check_offer(today, TLS1_2_VERSION, NULL, "ECDHE-RSA-AES256-GCM-SHA384");
    check_offer(today, TLS1_2_VERSION, "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES256-GCM-SHA384",
                "ECDHE-RSA-CHACHA20-POLY1305");
    check_offer(today, TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305",
                "ECDHE-RSA-AES128-GCM-SHA256");
    check_offer(today, TLS1_2_VERSION, "AES256-GCM-SHA384:AES128-SHA", NULL);
    check_offer(today, TLS1_2_VERSION, "ECDHE-RSA-AES256-SHA384:ECDHE-RSA-AES128-SHA", NULL);
    check_offer(today, TLS1_1_VERSION, NULL, NULL);
    check_offer(today, TLS1_VERSION, NULL, NULL);
    check_offer(strict, TLS1_2_VERSION, NULL, NULL);
    check_offer(strict, TLS1_3_VERSION, NULL, "TLS_AES_256_GCM_SHA384");
    check_offer(old, TLS1_3_VERSION, NULL, "TLS_AES_256_GCM_SHA384");
    check_offer(old, TLS1_2_VERSION, NULL, "ECDHE-RSA-AES256-GCM-SHA384");
    check_offer(old, TLS1_1_VERSION, NULL, "ECDHE-RSA-AES256-SHA");
    check_offer(old, TLS1_VERSION, "AES128-SHA", "AES128-SHA");
    tls_context_release(&today);
    tls_context_release(&strict);
    tls_context_release(&old);
    identity_release(&rsa);
    tls_tickets_destroy(&tickets);
}

/* What is weak is agreed on only where somebody has asked for it, for the sake of a device. */
static void test_versions_and_ciphers(void **state)
{
    (void)state;
    harness_run(scenario_versions, NULL);
}

/* ---- files ---- */

static void check_refused(const char *certificate, const char *key, const char *words)
{
    const struct tls_files files = {NULL, certificate, key};
    const struct tls_server_settings settings = {
        .certificates = &files, .certificate_count = 1, .protocol_min = TLS_PROTOCOL_1_2};
    struct tls_tickets *tickets = tls_tickets_create();
    struct error error = {0};

    assert_null(tls_server_create(&settings, tickets, &error));
    if (!strstr(error.text, words))
        print_error("\"%s\" instead of \"%s\"\n", error.text, words);
    assert_non_null(strstr(error.text, words));
    tls_tickets_destroy(&tickets);
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0600), 0);
}

static void test_files_that_are_no_good(void **state)
{
    char path[IDENTITY_PATH_BYTES], locked[IDENTITY_PATH_BYTES];
    const struct identity *good = &identities.plain;
    FILE *file;

    (void)state;
    identity_path(path, "bad", "pem");
    check_refused(path, good->key_path, "bad.pem: No such file or directory");
    check_refused(good->certificate_path, path, "bad.pem: No such file or directory");
    check_refused(identity_directory, good->key_path, "no regular file");
    write_text(path, "");
    check_refused(path, good->key_path, "bad.pem: holds no certificate in PEM form");
    check_refused(good->certificate_path, path, "bad.pem: holds no private key in PEM form");
    write_text(path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    check_refused(path, good->key_path, "bad.pem: holds no certificate in PEM form");
    check_refused(good->certificate_path, good->certificate_path, "that others can read");
    check_refused(good->certificate_path, identities.other.key_path, "is not the key of the certificate in");
    identity_path(locked, "locked", "key");
    file = fopen(locked, "we");
    assert_true(file && fchmod(fileno(file), 0600) == 0);
    assert_int_equal(PEM_write_PrivateKey(file, good->key, EVP_aes_128_cbc(), NULL, 0, NULL, (void *)(uintptr_t) "pw"),
                     1);
    assert_int_equal(fclose(file), 0);
    check_refused(good->certificate_path, locked, "locked.key: is protected by a passphrase");
}

/* Whoever reads the key is the server, for everybody who trusts it. */
static void test_keys_that_others_can_read(void **state)
{
    const struct identity *good = &identities.plain;

    (void)state;
    assert_int_equal(chmod(good->key_path, 0604), 0);
    check_refused(good->certificate_path, good->key_path, "can read or replace (mode 604)");
    assert_int_equal(chmod(good->key_path, 0660), 0);
    check_refused(good->certificate_path, good->key_path, "can read or replace (mode 660)");
    assert_int_equal(chmod(good->key_path, 0640), 0);
    if (geteuid() == 0)
        assert_int_equal(chown(good->key_path, 65534, (gid_t)-1), 0);
    check_refused(good->certificate_path, good->key_path, "that a group can read (mode 640)");
    assert_int_equal(chmod(good->key_path, 0600), 0);
}

static void test_a_weak_certificate(void **state)
{
    struct identity weak;
    struct tls_tickets *tickets = tls_tickets_create();
    struct tls_context *old;

    (void)state;
    identity_make(&weak, &(struct identity_wish){.name = "old.contoso.test", .key = KEY_RSA_1024});
    check_refused(weak.certificate_path, weak.key_path, "ee key too small");
    old = server_from(&weak, TLS_PROTOCOL_1_0, tickets);
    tls_context_release(&old);
    tls_tickets_destroy(&tickets);
    identity_release(&weak);
}

static void test_the_client_s_files(void **state)
{
    struct tls_client_settings settings = {.ca_file = "/nonexistent/roots.pem", .protocol_min = TLS_PROTOCOL_1_2};
    struct tls_context *client;
    struct error error;

    (void)state;
    assert_null(tls_client_create(&settings, &error));
    assert_string_equal(error.text, "/nonexistent/roots.pem: No such file or directory");
    settings.ca_file = identities.plain.key_path;
    assert_null(tls_client_create(&settings, &error));
    assert_non_null(strstr(error.text, "holds no certificate"));
    settings.ca_file = NULL; /* the system's, whatever there is */
    client = tls_client_create(&settings, &error);
    assert_non_null(client);
    tls_context_release(&client);
    assert_null(client);
    tls_context_release(&client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_handshake),
        cmocka_unit_test(test_the_certificate_follows_the_name),
        cmocka_unit_test(test_resumption),
        cmocka_unit_test(test_ticket_keys_change),
        cmocka_unit_test(test_many_threads),
        cmocka_unit_test(test_client_certificates),
        cmocka_unit_test(test_binding_data),
        cmocka_unit_test(test_versions_and_ciphers),
        cmocka_unit_test(test_files_that_are_no_good),
        cmocka_unit_test(test_keys_that_others_can_read),
        cmocka_unit_test(test_a_weak_certificate),
        cmocka_unit_test(test_the_client_s_files),
    };

    return cmocka_run_group_tests(tests, make_identities, remove_identities);
}
