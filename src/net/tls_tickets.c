/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "net/tls_private.h"
#include "os/clock.h"
#include "os/random.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <pthread.h>

/* Makes tickets for so long, and resumes them for so long again: whoever steals a key reads no more than this. */
#define TLS_TICKET_KEY_AGE_MS (UINT64_C(4) * 3600 * 1000)

#define TLS_TICKET_NAME_BYTES 16
#define TLS_TICKET_IV_BYTES   16

struct ticket_key {
    unsigned char name[TLS_TICKET_NAME_BYTES];
    unsigned char cipher_key[32];
    unsigned char mac_key[32];
    uint64_t made_at_ms; /* monotonic */
    bool is_there;
};

struct tls_tickets {
    pthread_mutex_t mutex;
    struct ticket_key current, previous;
    EVP_CIPHER *cipher; /* looked up once: a lookup for each ticket costs more than the ticket */
};

static void key_make(struct ticket_key *key, uint64_t now_ms)
{
    random_bytes(key->name, sizeof(key->name));
    random_bytes(key->cipher_key, sizeof(key->cipher_key));
    random_bytes(key->mac_key, sizeof(key->mac_key));
    key->made_at_ms = now_ms;
    key->is_there = true;
}

static void keys_rotate(struct tls_tickets *tickets)
{
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t age_ms = tickets->current.is_there ? now_ms - tickets->current.made_at_ms : UINT64_MAX;

    if (age_ms < TLS_TICKET_KEY_AGE_MS)
        return;
    OPENSSL_cleanse(&tickets->previous, sizeof(tickets->previous));
    if (age_ms < 2 * TLS_TICKET_KEY_AGE_MS)
        tickets->previous = tickets->current;
    key_make(&tickets->current, now_ms);
}

/* The key that new tickets are made with. */
static void key_for_sealing(struct tls_tickets *tickets, struct ticket_key *key)
{
    pthread_mutex_lock(&tickets->mutex);
    keys_rotate(tickets);
    *key = tickets->current;
    pthread_mutex_unlock(&tickets->mutex);
}

/* The key of that name. false: too old, or never ours. */
static bool key_for_opening(struct tls_tickets *tickets, const unsigned char name[TLS_TICKET_NAME_BYTES],
                            struct ticket_key *key, bool *is_current)
{
    bool found = true;

    pthread_mutex_lock(&tickets->mutex);
    keys_rotate(tickets);
    *is_current = memcmp(tickets->current.name, name, TLS_TICKET_NAME_BYTES) == 0;
    if (*is_current)
        *key = tickets->current;
    else if (tickets->previous.is_there && memcmp(tickets->previous.name, name, TLS_TICKET_NAME_BYTES) == 0)
        *key = tickets->previous;
    else
        found = false;
    pthread_mutex_unlock(&tickets->mutex);
    return found;
}

static bool mac_init(EVP_MAC_CTX *mac, struct ticket_key *key)
{
    char digest[] = "SHA256";
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac_key, sizeof(key->mac_key)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };

    return EVP_MAC_CTX_set_params(mac, parameters) == 1;
}

/* OpenSSL's callback, the same for both directions. Results: -1 failure, 0 no such key, 1 done, 2 done and the client gets a new ticket. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                     int is_sealing)
{
    struct tls_context *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    struct tls_tickets *tickets = context->tickets;
    struct ticket_key key;
    bool is_current = true;
    int result = -1;

    if (is_sealing) {
        key_for_sealing(tickets, &key);
        memcpy(name, key.name, sizeof(key.name));
        random_bytes(iv, TLS_TICKET_IV_BYTES);
        if (EVP_EncryptInit_ex2(cipher, tickets->cipher, key.cipher_key, iv, NULL) == 1 && mac_init(mac, &key))
            result = 1;
    } else if (!key_for_opening(tickets, name, &key, &is_current)) {
        return 0;
    } else if (EVP_DecryptInit_ex2(cipher, tickets->cipher, key.cipher_key, iv, NULL) == 1 && mac_init(mac, &key)) {
        /* TLS 1.3 tickets are for one use (RFC 8446 C.4): without a new one the next connection would begin in full. */
        result = is_current && SSL_version(ssl) < TLS1_3_VERSION ? 1 : 2;
    }
    OPENSSL_cleanse(&key, sizeof(key));
    return result;
}

void tls_tickets_serve(SSL_CTX *ssl_context)
{
    SSL_CTX_set_session_cache_mode(ssl_context, SSL_SESS_CACHE_OFF); /* all state is in the ticket */
    SSL_CTX_set_num_tickets(ssl_context, 1);
    SSL_CTX_set_timeout(ssl_context, (long)(TLS_TICKET_KEY_AGE_MS / 1000));
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ssl_context, on_ticket);
}

struct tls_tickets *tls_tickets_create(void)
{
    struct tls_tickets *tickets = mem_alloc(sizeof(*tickets));

    pthread_mutex_init(&tickets->mutex, NULL);
    tickets->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    if (!tickets->cipher)
        abort(); /* part of every OpenSSL */
    return tickets;
}

void tls_tickets_destroy(struct tls_tickets **pointer)
{
    struct tls_tickets *tickets = *pointer;

    *pointer = NULL;
    if (!tickets)
        return;
    EVP_CIPHER_free(tickets->cipher);
    pthread_mutex_destroy(&tickets->mutex);
    OPENSSL_cleanse(tickets, sizeof(*tickets));
    free(tickets);
}
