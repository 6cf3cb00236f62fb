/* SPDX-License-Identifier: Apache-2.0 */
/* The client's side: what it demands of a server's certificate, and which sessions it may resume. */
#include "net/address.h"
#include "net/tls_private.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

/* Beside what our server takes, what older servers have: a message that goes in plaintext otherwise is better protected by CBC. */
#define TLS_CLIENT_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:ECDHE+AES:DHE+AES:RSA+AESGCM:RSA+AES"

/* OpenSSL's measures, see tls_server.c. Whom nobody verifies need not sign well, but the exchange of keys must still hold off who listens. */
#define TLS_LEVEL_VERIFIED   2
#define TLS_LEVEL_UNVERIFIED 1
#define TLS_LEVEL_OLD        0

#define TLS_NAME_OCTETS_MAX 255

/* ---- sessions ---- */

static void hash_str(EVP_MD_CTX *hash, struct str s)
{
    uint64_t length = s.length;

    EVP_DigestUpdate(hash, &length, sizeof(length));
    if (length > 0)
        EVP_DigestUpdate(hash, s.data, s.length);
}

/* Whatever was demanded is in the key: so a session is resumed only by those who demand the same. */
static void make_session_key(const struct tls_client_options *options, unsigned char key[TLS_SESSION_KEY_BYTES])
{
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    const unsigned char verification = (unsigned char)options->verification;

    if (!hash || EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1)
        abort(); /* only for want of memory */
    EVP_DigestUpdate(hash, &verification, sizeof(verification));
    hash_str(hash, options->session_key);
    hash_str(hash, options->server_name);
    hash_str(hash, options->dane_base);
    for (size_t i = 0; options->verification == TLS_VERIFY_DANE && i < options->record_count; i++) {
        const struct tls_dane_record *record = &options->records[i];
        const unsigned char kind[] = {record->usage, record->selector, record->matching_type};

        EVP_DigestUpdate(hash, kind, sizeof(kind));
        hash_str(hash, record->data);
    }
    EVP_DigestFinal_ex(hash, key, NULL);
    EVP_MD_CTX_free(hash);
}

/* A copy is kept: this one goes on being changed by its connection, and others by theirs. */
static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    const struct tls_client_link *link = SSL_get_app_data(ssl);
    SSL_SESSION *copy;

    if (!link->keeps_sessions || SSL_SESSION_is_resumable(session) != 1)
        return 0;
    copy = SSL_SESSION_dup(session);
    if (copy)
        tls_sessions_put(link->sessions, link->session_key, copy);
    return 0;
}

/* ---- verification ---- */

static int on_certificate(X509_STORE_CTX *store, void *argument)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    const struct tls_client_link *link = SSL_get_app_data(ssl);

    (void)argument;
    if (link->verification != TLS_VERIFY_NONE)
        return X509_verify_cert(store);
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
}

static const char *verification_words(long result)
{
    switch (result) {
    case X509_V_OK:
        return NULL;
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return "the certificate has expired";
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return "the certificate is not valid yet";
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return "the certificate is self-signed";
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        return "the certificate's issuer is not trusted";
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return "the certificate is for another name";
    case X509_V_ERR_DANE_NO_MATCH:
        return "no TLSA record matches the certificate";
    default:
        return X509_verify_cert_error_string(result);
    }
}

const char *tls_client_refusal(const SSL *ssl)
{
    return verification_words(SSL_get_verify_result(ssl));
}

/* `room` with a NUL at its end, or NULL: not a name. */
static const char *name_text(struct str name, char room[TLS_NAME_OCTETS_MAX + 1])
{
    if (name.length == 0 || name.length > TLS_NAME_OCTETS_MAX || memchr(name.data, '\0', name.length))
        return NULL;
    memcpy(room, name.data, name.length);
    room[name.length] = '\0';
    return room;
}

static int demand_name(SSL *ssl, struct str name, bool is_address, struct error *error)
{
    X509_VERIFY_PARAM *parameters = SSL_get0_param(ssl);
    char room[TLS_NAME_OCTETS_MAX + 1];
    const char *text = name_text(name, room);

    if (!text)
        return error_set(error, "there is no name that the certificate could be verified against");
    X509_VERIFY_PARAM_set_hostflags(parameters, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if ((is_address ? X509_VERIFY_PARAM_set1_ip_asc(parameters, text)
                    : X509_VERIFY_PARAM_set1_host(parameters, name.data, name.length)) != 1)
        return error_set(error, "'%s' is no name that a certificate could have", text);
    return 0;
}

bool tls_dane_is_usable(const struct tls_dane_record *record)
{
    static const size_t hash_bytes[] = {0, 32, 64};

    if ((record->usage != 2 && record->usage != 3) || record->selector > 1 || record->matching_type > 2)
        return false;
    return record->matching_type == 0 ? record->data.length > 0
                                      : record->data.length == hash_bytes[record->matching_type];
}

/* RFC 7672: an end entity's record stands for itself, whatever name and dates the certificate bears; below a trust anchor the name counts. */
static int demand_dane(SSL *ssl, const struct tls_client_options *options, struct error *error)
{
    char room[TLS_NAME_OCTETS_MAX + 1];
    const char *name = name_text(options->server_name, room);
    const char *base;
    size_t usable = 0;

    if (!name || SSL_dane_enable(ssl, name) != 1)
        return error_set(error, "DANE: there is no server name");
    SSL_dane_set_flags(ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    base = name_text(options->dane_base, room);
    if (base && SSL_add1_host(ssl, base) != 1)
        return error_set(error, "DANE: '%s' is no name that a certificate could have", base);
    for (size_t i = 0; i < options->record_count; i++) {
        const struct tls_dane_record *record = &options->records[i];

        /* A record that the library can't use either (a certificate that it can't read) is one that doesn't match. */
        if (tls_dane_is_usable(record))
            usable += SSL_dane_tlsa_add(ssl, record->usage, record->selector, record->matching_type,
                                        (const unsigned char *)record->data.data, record->data.length) > 0;
    }
    tls_clear_errors();
    return usable > 0 ? 0 : error_set(error, "DANE: there is no usable TLSA record");
}

static int demand(SSL *ssl, const struct tls_client_options *options, bool is_address, struct error *error)
{
    bool is_old = options->context->protocol_min < TLS_PROTOCOL_1_2;
    int level = options->verification == TLS_VERIFY_NONE ? TLS_LEVEL_UNVERIFIED : TLS_LEVEL_VERIFIED;

    SSL_set_security_level(ssl, is_old ? TLS_LEVEL_OLD : level);
    switch (options->verification) {
    case TLS_VERIFY_NONE:
        SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
        return 0;
    case TLS_VERIFY_NAME:
        SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL);
        return demand_name(ssl, options->server_name, is_address, error);
    case TLS_VERIFY_DANE:
        SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL);
        return demand_dane(ssl, options, error);
    }
    return error_set(error, "unknown verification");
}

/* ---- the connection ---- */

static void offer_session(SSL *ssl, const struct tls_client_options *options, struct tls_client_link *link)
{
    SSL_SESSION *session;

    if (options->session_key.length == 0)
        return;
    link->sessions = options->context->sessions;
    link->keeps_sessions = true;
    make_session_key(options, link->session_key);
    session = tls_sessions_take(link->sessions, link->session_key);
    if (!session)
        return;
    SSL_set_session(ssl, session);
    SSL_SESSION_free(session);
}

SSL *tls_client_start(const struct tls_client_options *options, struct tls_client_link *link, struct error *error)
{
    SSL *ssl = SSL_new(options->context->ssl_context);
    char room[TLS_NAME_OCTETS_MAX + 1];
    const char *name = name_text(options->server_name, room);
    struct net_address literal;
    bool is_address = net_address_parse_ip(options->server_name, &literal);

    if (!ssl)
        abort(); /* only for want of memory */
    *link = (struct tls_client_link){.verification = options->verification};
    SSL_set_app_data(ssl, link);
    SSL_set_connect_state(ssl);
    if (demand(ssl, options, is_address, error) != 0) {
        SSL_free(ssl);
        return NULL;
    }
    /* RFC 6066 3: never an address. */
    if (name && !is_address)
        SSL_set_tlsext_host_name(ssl, name);
    offer_session(ssl, options, link);
    tls_clear_errors();
    return ssl;
}

struct tls_context *tls_client_create(const struct tls_client_settings *settings, struct error *error)
{
    struct tls_context *context = tls_context_create(TLS_client_method());
    SSL_CTX *ssl_context = context->ssl_context;
    int result;

    context->sessions = tls_sessions_create();
    context->protocol_min = settings->protocol_min;
    SSL_CTX_set_min_proto_version(ssl_context, tls_protocol_version(settings->protocol_min));
    SSL_CTX_set_max_proto_version(ssl_context, 0);
    SSL_CTX_set_security_level(ssl_context,
                               TLS_LEVEL_UNVERIFIED); /* of our own certificate too; a connection's is its own */
    SSL_CTX_set_cipher_list(ssl_context, TLS_CLIENT_CIPHERS);
    SSL_CTX_set_cert_verify_callback(ssl_context, on_certificate, NULL);
    SSL_CTX_set_session_cache_mode(ssl_context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ssl_context, on_new_session);
    if (SSL_CTX_dane_enable(ssl_context) != 1)
        abort(); /* only for want of memory */
    result = tls_files_trust(ssl_context, settings->ca_file, error);
    if (result == 0 && settings->own.certificate)
        result = tls_files_use(ssl_context, &settings->own, error);
    tls_clear_errors();
    if (result != 0)
        tls_context_release(&context);
    return context;
}
