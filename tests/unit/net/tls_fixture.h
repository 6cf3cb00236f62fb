/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys and certificates made on the spot, in a directory that goes with the test; and a connection with TLS at both ends, each end a fiber's.
 */
#ifndef POSTERN_TESTS_NET_TLS_FIXTURE_H
#define POSTERN_TESTS_NET_TLS_FIXTURE_H

#include "net/conn.h"
#include "net/tls.h"
#include "sockets.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/stat.h>

#define IDENTITY_PATH_BYTES 128

/* ---- certificates ---- */

enum key_kind { KEY_EC, KEY_RSA_1024, KEY_RSA_2048, KEY_RSA_4096 };

struct identity {
    EVP_PKEY *key;
    X509 *certificate;
    unsigned char sha256[32];
    char certificate_path[IDENTITY_PATH_BYTES];
    char key_path[IDENTITY_PATH_BYTES];
};

struct identity_wish {
    const char *name;              /* the subject, and its host name unless `host` is given */
    const char *host;              /* "" for none; a form of the extension: "DNS:x" */
    const struct identity *issuer; /* NULL: itself */
    enum key_kind key;
    bool is_authority;
    bool has_expired;
    bool is_to_come;
};

static char identity_directory[64];

static inline void identity_path(char path[IDENTITY_PATH_BYTES], const char *name, const char *what)
{
    static unsigned number;

    if (identity_directory[0] == '\0') {
        snprintf(identity_directory, sizeof(identity_directory), "/tmp/postern-tls-XXXXXX");
        CHECK(mkdtemp(identity_directory));
    }
    snprintf(path, IDENTITY_PATH_BYTES, "%s/%u-%.20s.%s", identity_directory, number++, name[0] == '*' ? "any" : name,
             what);
}

/* After the last test. */
static inline void identity_remove_directory(void)
{
    char command[128];

    if (identity_directory[0] == '\0')
        return;
    snprintf(command, sizeof(command), "rm -r -- '%s'", identity_directory);
    CHECK(system(command) == 0);
    identity_directory[0] = '\0';
}

static inline EVP_PKEY *key_make(enum key_kind kind)
{
    EVP_PKEY *key = NULL;

    switch (kind) {
    case KEY_EC:
        key = EVP_EC_gen("P-256");
        break;
    case KEY_RSA_1024:
        key = EVP_RSA_gen(1024);
        break;
    case KEY_RSA_2048:
        key = EVP_RSA_gen(2048);
        break;
    case KEY_RSA_4096:
        key = EVP_RSA_gen(4096);
        break;
    }
    CHECK(key);
    return key;
}

static inline void extension_add(X509 *certificate, X509 *issuer, int kind, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;

    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, kind, value);
    CHECK(extension && X509_add_ext(certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

static inline void identity_sign(struct identity *identity, const struct identity_wish *wish)
{
    static long serial = 1;
    const long day = 24 * 3600;
    X509 *certificate = X509_new();
    X509 *issuer = wish->issuer ? wish->issuer->certificate : certificate;
    X509_NAME *subject = X509_get_subject_name(certificate);
    char host[300];

    identity->certificate = certificate;
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(certificate), wish->is_to_come ? day : -2 * day);
    X509_gmtime_adj(X509_getm_notAfter(certificate), wish->has_expired ? -day : 2 * day);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)wish->name, -1, -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(issuer));
    X509_set_pubkey(certificate, identity->key);
    extension_add(certificate, issuer, NID_basic_constraints, wish->is_authority ? "critical,CA:TRUE" : "CA:FALSE");
    if (!wish->is_authority && (!wish->host || wish->host[0] != '\0')) {
        snprintf(host, sizeof(host), "DNS:%s", wish->name);
        extension_add(certificate, issuer, NID_subject_alt_name, wish->host ? wish->host : host);
    }
    CHECK(X509_sign(certificate, wish->issuer ? wish->issuer->key : identity->key, EVP_sha256()) > 0);
    CHECK(X509_digest(certificate, EVP_sha256(), identity->sha256, NULL) == 1);
}

static inline void identity_write(struct identity *identity, const struct identity_wish *wish)
{
    FILE *file;

    identity_path(identity->certificate_path, wish->name, "pem");
    file = fopen(identity->certificate_path, "we");
    CHECK(file && PEM_write_X509(file, identity->certificate) == 1);
    if (wish->issuer)
        CHECK(PEM_write_X509(file, wish->issuer->certificate) == 1);
    CHECK(fclose(file) == 0);
    identity_path(identity->key_path, wish->name, "key");
    file = fopen(identity->key_path, "we");
    CHECK(file && fchmod(fileno(file), 0600) == 0);
    CHECK(PEM_write_PrivateKey(file, identity->key, NULL, NULL, 0, NULL, NULL) == 1);
    CHECK(fclose(file) == 0);
}

static inline void identity_make(struct identity *identity, const struct identity_wish *wish)
{
    *identity = (struct identity){.key = key_make(wish->key)};
    identity_sign(identity, wish);
    identity_write(identity, wish);
}

static inline void identity_release(struct identity *identity)
{
    EVP_PKEY_free(identity->key);
    X509_free(identity->certificate);
    *identity = (struct identity){0};
}

/* ---- contexts ---- */

static inline struct tls_files identity_files(const struct identity *identity, const char *name)
{
    return (struct tls_files){name, identity->certificate_path, identity->key_path};
}

static inline struct tls_context *server_context(const struct identity *identity, struct tls_tickets *tickets)
{
    const struct tls_files files = identity_files(identity, NULL);
    const struct tls_server_settings settings = {
        .certificates = &files, .certificate_count = 1, .protocol_min = TLS_PROTOCOL_1_2};
    struct error error;
    struct tls_context *context = tls_server_create(&settings, tickets, &error);

    if (!context)
        fprintf(stderr, "%s\n", error.text);
    CHECK(context);
    return context;
}

/* Trusts `root` alone. */
static inline struct tls_context *client_context(const struct identity *root)
{
    const struct tls_client_settings settings = {.ca_file = root->certificate_path, .protocol_min = TLS_PROTOCOL_1_2};
    struct error error;
    struct tls_context *context = tls_client_create(&settings, &error);

    if (!context)
        fprintf(stderr, "%s\n", error.text);
    CHECK(context);
    return context;
}

/* ---- two ends ---- */

struct tls_ends {
    struct conn *server, *client;
    enum conn_status server_status, client_status;
    struct error server_error, client_error;
    struct harness_latch done;
    struct tls_context *server_context;
    uint64_t server_deadline_ms;
};

static inline void tls_ends_connect(struct tls_ends *ends)
{
    struct net_address address;
    int ours, theirs;

    *ends = (struct tls_ends){.server_deadline_ms = harness_deadline()};
    socket_pair(&ours, &theirs);
    address = socket_address(theirs);
    ends->server = conn_create(ours, &address);
    address = socket_address(ours);
    ends->client = conn_create(theirs, &address);
    CHECK(ends->server && ends->client);
}

static inline void tls_ends_accept_main(void *argument)
{
    struct tls_ends *ends = argument;

    ends->server_status =
        conn_accept_tls(ends->server, ends->server_context, ends->server_deadline_ms, &ends->server_error);
    if (ends->server_status != CONN_OK)
        conn_close(&ends->server);
    harness_arrive(&ends->done);
}

/* Both handshakes; a side that fails closes. */
static inline void tls_ends_shake_hands(struct tls_ends *ends, struct tls_context *server,
                                        const struct tls_client_options *client)
{
    ends->server_context = server;
    CHECK(fiber_start(tls_ends_accept_main, ends) == 0);
    ends->client_status = conn_connect_tls(ends->client, client, harness_deadline(), &ends->client_error);
    if (ends->client_status != CONN_OK)
        conn_close(&ends->client);
    harness_wait(&ends->done, 1);
}

/* ... with nothing demanded, and nothing going wrong. */
static inline void tls_ends_open(struct tls_ends *ends, struct tls_context *server, struct tls_context *client)
{
    const struct tls_client_options options = {.context = client};

    tls_ends_connect(ends);
    tls_ends_shake_hands(ends, server, &options);
    if (ends->client_status != CONN_OK)
        fprintf(stderr, "client: %s\n", ends->client_error.text);
    if (ends->server_status != CONN_OK)
        fprintf(stderr, "server: %s\n", ends->server_error.text);
    CHECK(ends->client_status == CONN_OK && ends->server_status == CONN_OK);
}

static inline void tls_ends_close(struct tls_ends *ends)
{
    conn_close(&ends->client);
    conn_close(&ends->server);
}

/* A line from one to the other, for what comes with the first data (tickets). */
static inline void tls_pass_line(struct conn *from, struct conn *to)
{
    struct conn_line line;

    CHECK(conn_write(from, STR("line\r\n"), harness_deadline()) == CONN_OK);
    CHECK(conn_flush(from, harness_deadline()) == CONN_OK);
    CHECK(conn_read_line(to, 100, harness_deadline(), &line) == CONN_OK);
    CHECK(str_equal(line.text, STR("line")));
}

/* ---- somebody else's client ---- */

/* OpenSSL as it comes, which can be told to be old or rude. */
struct peer {
    int fd;
    SSL_CTX *ssl_context;
    SSL *ssl;
};

/* Our end is `ends->server`. `version` 0: any. `ciphers` NULL: the default. */
static inline void peer_connect(struct peer *peer, struct tls_ends *ends, int version, const char *ciphers)
{
    struct net_address address;
    int ours;

    *ends = (struct tls_ends){.server_deadline_ms = harness_deadline()};
    socket_pair(&ours, &peer->fd);
    address = socket_address(peer->fd);
    ends->server = conn_create(ours, &address);
    peer->ssl_context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(peer->ssl_context, 0);
    CHECK(SSL_CTX_set_min_proto_version(peer->ssl_context, version) == 1);
    CHECK(SSL_CTX_set_max_proto_version(peer->ssl_context, version) == 1);
    if (ciphers)
        CHECK(SSL_CTX_set_cipher_list(peer->ssl_context, ciphers) == 1);
    SSL_CTX_set_mode(peer->ssl_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    peer->ssl = SSL_new(peer->ssl_context);
    CHECK(SSL_set_fd(peer->ssl, peer->fd) == 1);
    SSL_set_connect_state(peer->ssl);
}

static inline void peer_close(struct peer *peer)
{
    /* Without it OpenSSL gives up the session too. */
    SSL_set_shutdown(peer->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(peer->ssl);
    SSL_CTX_free(peer->ssl_context);
    close(peer->fd);
}

/* false: not now. What can't be is the test's end. */
static inline bool peer_is_blocked(const struct peer *peer, int result)
{
    int error = SSL_get_error(peer->ssl, result);

    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

/* 1: done; 0: refused. */
static inline int peer_shake_hands(struct peer *peer, struct tls_ends *ends, struct tls_context *server)
{
    int result;

    ends->server_context = server;
    CHECK(fiber_start(tls_ends_accept_main, ends) == 0);
    ERR_clear_error();
    while ((result = SSL_do_handshake(peer->ssl)) != 1 && peer_is_blocked(peer, result)) {
        fiber_yield();
        ERR_clear_error();
    }
    harness_wait(&ends->done, 1);
    return result == 1;
}

/* What has come, at least a byte; 0 at the end, orderly (SSL_get_shutdown tells) or not. */
static inline size_t peer_read(struct peer *peer, char *room, size_t room_bytes)
{
    int result;

    ERR_clear_error();
    while ((result = SSL_read(peer->ssl, room, (int)room_bytes)) <= 0 && peer_is_blocked(peer, result)) {
        fiber_yield();
        ERR_clear_error();
    }
    return result > 0 ? (size_t)result : 0;
}

static inline void peer_write(struct peer *peer, struct str data)
{
    while (data.length > 0) {
        int result;

        ERR_clear_error();
        result = SSL_write(peer->ssl, data.data, (int)data.length);
        if (result > 0)
            data = str_skip(data, (size_t)result);
        else
            CHECK(peer_is_blocked(peer, result));
        if (result <= 0)
            fiber_yield();
    }
}

#endif
