/* SPDX-License-Identifier: Apache-2.0 */
/* The server's side: which certificate, which protocol versions and ciphers, which tickets. */
#include "base/mem.h"
#include "net/tls_private.h"

#include <openssl/err.h>
#include <openssl/x509.h>

/* Forward secrecy and authenticated encryption, nothing else. For TLS 1.3 that is all there is. */
#define TLS_SERVER_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20"
/* ... and behind it what devices from before TLS 1.2 can do: CBC, SHA-1, key exchange without forward secrecy. */
#define TLS_SERVER_CIPHERS_OLD TLS_SERVER_CIPHERS ":ECDHE+AES:RSA+AESGCM:RSA+AES"

/* OpenSSL's measures: 2 demands 112 bits (RSA 2048, SHA-2), 0 takes what TLS 1.0 has. */
#define TLS_LEVEL     2
#define TLS_LEVEL_OLD 0

#define TLS_NAME_OCTETS_MAX 256

/* ---- names ---- */

static struct str lower_name(struct str name, char room[TLS_NAME_OCTETS_MAX])
{
    for (size_t i = 0; i < name.length; i++)
        room[i] = ascii_lower(name.data[i]);
    return str_make(room, name.length);
}

/* NULL: the default certificate answers. */
static const struct tls_named *find_named(const struct tls_context *context, const char *server_name)
{
    char room[TLS_NAME_OCTETS_MAX];
    struct str name = str_from_cstr(server_name);
    const struct tls_named *named;
    size_t dot;

    if (name.length > 0 && name.data[name.length - 1] == '.')
        name.length--;
    if (name.length == 0 || name.length > sizeof(room))
        return NULL;
    name = lower_name(name, room);
    named = hash_table_get(&context->names, name);
    dot = str_find(name, '.');
    if (!named && dot != STR_NONE && dot > 0)
        named = hash_table_get(&context->names, str_skip(name, dot));
    return named;
}

static int on_server_name(SSL *ssl, int *alert, void *argument)
{
    const struct tls_context *context = argument;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const struct tls_named *named = name ? find_named(context, name) : NULL;

    (void)alert;
    if (!named)
        return SSL_TLSEXT_ERR_NOACK;
    SSL_set_SSL_CTX(ssl, named->ssl_context);
    return SSL_TLSEXT_ERR_OK;
}

/* ---- settings ---- */

/* Any certificate: that its key is the client's is proved by the handshake itself, and who may use it is decided by its fingerprint. */
static int accept_any_certificate(X509_STORE_CTX *store, void *argument)
{
    (void)argument;
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
}

/* A ticket is good only where it was demanded as much: another minimum, or no certificate, makes another id. */
static void set_session_id(SSL_CTX *ssl_context, const struct tls_server_settings *settings)
{
    const unsigned char id[] = {
        'p', 'o', 's', 't', 'e', 'r', 'n', (unsigned char)settings->protocol_min, settings->asks_certificate};

    SSL_CTX_set_session_id_context(ssl_context, id, sizeof(id));
}

static void configure(SSL_CTX *ssl_context, const struct tls_server_settings *settings)
{
    bool is_old = settings->protocol_min < TLS_PROTOCOL_1_2;

    SSL_CTX_set_security_level(ssl_context, is_old ? TLS_LEVEL_OLD : TLS_LEVEL);
    SSL_CTX_set_min_proto_version(ssl_context, tls_protocol_version(settings->protocol_min));
    SSL_CTX_set_max_proto_version(ssl_context, 0);
    SSL_CTX_set_cipher_list(ssl_context, is_old ? TLS_SERVER_CIPHERS_OLD : TLS_SERVER_CIPHERS);
    /* Ours is the order, but a client that puts ChaCha20 first has no AES instructions. */
    SSL_CTX_set_options(ssl_context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    if (settings->asks_certificate) {
        SSL_CTX_set_verify(ssl_context, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_cert_verify_callback(ssl_context, accept_any_certificate, NULL);
    }
    set_session_id(ssl_context, settings);
    tls_tickets_serve(ssl_context);
}

static int add_named(struct tls_context *context, const struct tls_server_settings *settings,
                     const struct tls_files *files, struct error *error)
{
    struct tls_named *named = &context->named[context->named_count];
    struct str name = str_from_cstr(files->name);
    char room[TLS_NAME_OCTETS_MAX];

    if (name.length == 0 || name.length > sizeof(room))
        return error_set(error, "%s: no name that it answers to", files->certificate);
    if (str_starts_with(name, STR("*.")))
        name = str_skip(name, 1);
    name = lower_name(name, room);
    if (hash_table_get(&context->names, name))
        return error_set(error, "%s: another certificate answers to %s already", files->certificate, files->name);
    named->name = mem_copy_str(name);
    named->ssl_context = SSL_CTX_new(TLS_server_method());
    if (!named->ssl_context)
        abort(); /* only for want of memory */
    context->named_count++;
    hash_table_put(&context->names, str_from_cstr(named->name), named);
    tls_configure_common(named->ssl_context);
    configure(named->ssl_context, settings);
    SSL_CTX_set_app_data(named->ssl_context, context);
    return tls_files_use(named->ssl_context, files, error);
}

struct tls_context *tls_server_create(const struct tls_server_settings *settings, struct tls_tickets *tickets,
                                      struct error *error)
{
    struct tls_context *context = tls_context_create(TLS_server_method());
    int result;

    context->tickets = tickets;
    context->protocol_min = settings->protocol_min;
    context->named = mem_alloc_array(settings->certificate_count, sizeof(*context->named));
    configure(context->ssl_context, settings);
    SSL_CTX_set_tlsext_servername_callback(context->ssl_context, on_server_name);
    SSL_CTX_set_tlsext_servername_arg(context->ssl_context, context);
    if (settings->certificate_count == 0)
        result = error_set(error, "no certificate");
    else
        result = tls_files_use(context->ssl_context, &settings->certificates[0], error);
    /* The default one may have a name too; without an entry it answers to that as to any other. */
    for (size_t i = 1; result == 0 && i < settings->certificate_count; i++)
        result = add_named(context, settings, &settings->certificates[i], error);
    tls_clear_errors();
    if (result != 0)
        tls_context_release(&context);
    return context;
}

SSL *tls_server_start(struct tls_context *context)
{
    SSL *ssl = SSL_new(context->ssl_context);

    if (!ssl)
        abort(); /* only for want of memory */
    SSL_set_accept_state(ssl);
    return ssl;
}
