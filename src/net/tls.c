/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tls.h"

#include "base/mem.h"
#include "net/tls_private.h"

#include <openssl/err.h>
#include <openssl/x509.h>

/* Key exchanges that can't be made expensive for us by a client's choice, as the library's own list can (ffdhe8192). The first is for libraries
 * that have it (OpenSSL 3.5): what is recorded today must not be read by the machines of tomorrow. */
#define TLS_GROUPS_HYBRID "X25519MLKEM768:X25519:P-256:P-384"
#define TLS_GROUPS        "X25519:P-256:P-384"

#define TLS_EXPORTER_LABEL "EXPORTER-Channel-Binding"
#define TLS_EXPORTER_BYTES 32

void tls_clear_errors(void)
{
    ERR_clear_error();
}

/* Alerts are errors of their own in OpenSSL, from this number on. */
#define TLS_ALERT_REASON 1000

const char *tls_error_words(void)
{
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_REASON(code);
    const char *words = NULL;

    if (code == 0)
        return "unknown error";
    if (ERR_GET_LIB(code) == ERR_LIB_SSL) {
        if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
            return "the peer closed the connection";
        if (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST || reason == SSL_R_BAD_PACKET_LENGTH)
            return "the peer does not speak TLS";
        if (reason == SSL_R_UNSUPPORTED_PROTOCOL || reason == SSL_R_TLSV1_ALERT_PROTOCOL_VERSION ||
            reason == SSL_R_VERSION_TOO_LOW || reason == SSL_R_NO_PROTOCOLS_AVAILABLE)
            return "no TLS version in common with the peer";
        if (reason == SSL_R_NO_SHARED_CIPHER || reason == SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE)
            return "no cipher or signature in common with the peer";
        if (reason > TLS_ALERT_REASON)
            words = SSL_alert_desc_string_long(reason - TLS_ALERT_REASON);
    }
    if (!words)
        words = ERR_reason_error_string(code);
    return words ? words : "unknown error";
}

int tls_protocol_version(enum tls_protocol protocol)
{
    switch (protocol) {
    case TLS_PROTOCOL_1_0:
        return TLS1_VERSION;
    case TLS_PROTOCOL_1_1:
        return TLS1_1_VERSION;
    case TLS_PROTOCOL_1_2:
        return TLS1_2_VERSION;
    case TLS_PROTOCOL_1_3:
        return TLS1_3_VERSION;
    }
    return TLS1_2_VERSION;
}

void tls_configure_common(SSL_CTX *ssl_context)
{
    SSL_CTX_set_options(ssl_context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    /* Connections are idle most of the time, and hold no buffers then; a write may go on with other memory, and stop between records. */
    SSL_CTX_set_mode(ssl_context,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_ENABLE_PARTIAL_WRITE);
    /* A peer that sends records without data must not keep a read from returning. */
    SSL_CTX_clear_mode(ssl_context, SSL_MODE_AUTO_RETRY);
    /* One system call for the header and the body of a record, and of those that follow. */
    SSL_CTX_set_read_ahead(ssl_context, 1);
    if (SSL_CTX_set1_groups_list(ssl_context, TLS_GROUPS_HYBRID) != 1)
        SSL_CTX_set1_groups_list(ssl_context, TLS_GROUPS);
    tls_clear_errors();
}

struct tls_context *tls_context_create(const SSL_METHOD *method)
{
    struct tls_context *context = mem_alloc(sizeof(*context));

    atomic_init(&context->references, 1);
    hash_table_init(&context->names);
    context->ssl_context = SSL_CTX_new(method);
    if (!context->ssl_context)
        abort(); /* only for want of memory, see base/mem.h */
    tls_configure_common(context->ssl_context);
    SSL_CTX_set_app_data(context->ssl_context, context);
    return context;
}

struct tls_context *tls_context_retain(struct tls_context *context)
{
    atomic_fetch_add_explicit(&context->references, 1, memory_order_relaxed);
    return context;
}

void tls_context_release(struct tls_context **pointer)
{
    struct tls_context *context = *pointer;

    *pointer = NULL;
    if (!context || atomic_fetch_sub(&context->references, 1) > 1)
        return;
    for (size_t i = 0; i < context->named_count; i++) {
        SSL_CTX_free(context->named[i].ssl_context);
        free(context->named[i].name);
    }
    free(context->named);
    hash_table_release(&context->names);
    SSL_CTX_free(context->ssl_context);
    tls_sessions_destroy(&context->sessions);
    free(context);
}

void tls_collect_facts(SSL *ssl, const struct tls_client_link *link, struct tls_facts *facts)
{
    X509 *certificate = SSL_get0_peer_certificate(ssl);
    unsigned bytes = 0;

    facts->protocol = SSL_get_version(ssl);
    facts->cipher = SSL_get_cipher_name(ssl);
    facts->cipher_bits = SSL_get_cipher_bits(ssl, NULL);
    facts->is_resumed = SSL_session_reused(ssl) == 1;
    /* A resumed session was verified when it began: its key holds what was demanded (tls_client.c). */
    facts->is_verified =
        link && link->verification != TLS_VERIFY_NONE && SSL_get_verify_result(ssl) == X509_V_OK && certificate;
    facts->has_certificate =
        certificate && X509_digest(certificate, EVP_sha256(), facts->certificate_sha256, &bytes) == 1;
    facts->server_name = SSL_is_server(ssl) ? SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) : NULL;
}

/* The Finished message that was sent first. Without the extended master secret two connections can be made to agree on it (RFC 7627 1). */
static size_t binding_unique(SSL *ssl, unsigned char data[TLS_BINDING_BYTES_MAX])
{
    bool is_ours = (SSL_is_server(ssl) == 1) == (SSL_session_reused(ssl) == 1);

    if (SSL_version(ssl) >= TLS1_3_VERSION || SSL_get_extms_support(ssl) != 1)
        return 0;
    return is_ours ? SSL_get_finished(ssl, data, TLS_BINDING_BYTES_MAX)
                   : SSL_get_peer_finished(ssl, data, TLS_BINDING_BYTES_MAX);
}

size_t tls_binding_data(SSL *ssl, enum tls_binding kind, unsigned char data[TLS_BINDING_BYTES_MAX])
{
    if (kind == TLS_BINDING_UNIQUE)
        return binding_unique(ssl, data);
    if (SSL_version(ssl) < TLS1_3_VERSION && SSL_get_extms_support(ssl) != 1)
        return 0;
    /* The context is there and empty (RFC 9266 2), which in TLS 1.2 is not the same as none. */
    if (SSL_export_keying_material(ssl, data, TLS_EXPORTER_BYTES, TLS_EXPORTER_LABEL, sizeof(TLS_EXPORTER_LABEL) - 1,
                                   (const unsigned char *)"", 0, 1) != 1) {
        tls_clear_errors();
        return 0;
    }
    return TLS_EXPORTER_BYTES;
}
