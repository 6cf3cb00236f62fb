/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates and keys from PEM files. Each is read as a whole before OpenSSL sees it, so that errors are the system's own words. */
#include "base/buf.h"
#include "net/tls_private.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <unistd.h>

#define TLS_FILE_BYTES_MAX (4u << 20)

/* Where systems keep the roots in one file, beside where the library expects them. */
static const char *const system_roots[] = {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                                           "/etc/ssl/cert.pem"};

/* ---- reading ---- */

/* A key that others can read is nobody's secret; its group may, if it is root's: that is how it is handed to the daemon. */
static int check_mode(const struct stat *status, const char *path, struct error *error)
{
    if (status->st_mode & (S_IWGRP | S_IXGRP | S_IRWXO))
        return error_set(error, "%s: a private key that others can read or replace (mode %03o): chmod 600", path,
                         (unsigned)(status->st_mode & 07777));
    if ((status->st_mode & S_IRGRP) && status->st_uid != 0)
        return error_set(error, "%s: a private key that a group can read (mode %03o), and not root's: chmod 600", path,
                         (unsigned)(status->st_mode & 07777));
    return 0;
}

static int read_whole(int fd, const char *path, struct buf *content, struct error *error)
{
    for (;;) {
        char *room = buf_reserve(content, 4096);
        ssize_t count;

        if (!room)
            return error_set(error, "%s: too large for a certificate or key", path);
        count = read(fd, room, 4096);
        if (count < 0)
            return error_set_errno(error, errno, "%s", path);
        if (count == 0)
            return 0;
        content->length += (size_t)count;
    }
}

/* NULL: `error` says why. */
static BIO *open_file(const char *path, bool is_key, struct error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;
    struct buf content;
    BIO *bio = NULL;

    buf_init(&content, TLS_FILE_BYTES_MAX);
    if (fd < 0 || fstat(fd, &status) != 0) {
        error_set_errno(error, errno, "%s", path);
        goto done;
    }
    if (!S_ISREG(status.st_mode)) {
        error_set(error, "%s: no regular file", path);
        goto done;
    }
    if ((is_key && check_mode(&status, path, error) != 0) || read_whole(fd, path, &content, error) != 0)
        goto done;
    bio = BIO_new(BIO_s_mem());
    if (!bio || (content.length > 0 && BIO_write(bio, content.data, (int)content.length) != (int)content.length))
        abort(); /* only for want of memory */
done:
    if (content.data)
        OPENSSL_cleanse(content.data, content.length);
    buf_release(&content);
    if (fd >= 0)
        close(fd);
    return bio;
}

/* PEM's callback for a passphrase: nobody is there to ask. */
static int refuse_passphrase(char *buffer, int size, int rwflag, void *asked)
{
    (void)buffer;
    (void)size;
    (void)rwflag;
    *(bool *)asked = true;
    return -1;
}

/* ---- a certificate and its key ---- */

/* The end of the file, as opposed to a block that is damaged. */
static bool is_at_end(void)
{
    unsigned long code = ERR_peek_last_error();

    return ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
}

static int use_chain(SSL_CTX *ssl_context, BIO *bio, const char *path, struct error *error)
{
    X509 *certificate;
    bool asked = false;

    while ((certificate = PEM_read_bio_X509(bio, NULL, refuse_passphrase, &asked))) {
        if (SSL_CTX_add0_chain_cert(ssl_context, certificate) != 1) {
            X509_free(certificate);
            return error_set(error, "%s: %s", path, tls_error_words());
        }
    }
    if (!is_at_end())
        return error_set(error, "%s: %s", path, tls_error_words());
    tls_clear_errors();
    return 0;
}

static int use_certificate(SSL_CTX *ssl_context, const char *path, struct error *error)
{
    BIO *bio = open_file(path, false, error);
    X509 *certificate = NULL;
    bool asked = false;
    int result = -1;

    if (!bio)
        return -1;
    certificate = PEM_read_bio_X509(bio, NULL, refuse_passphrase, &asked);
    if (!certificate)
        error_set(error, "%s: holds no certificate in PEM form", path);
    else if (SSL_CTX_use_certificate(ssl_context, certificate) != 1)
        error_set(error, "%s: %s", path, tls_error_words());
    else
        result = use_chain(ssl_context, bio, path, error);
    X509_free(certificate);
    BIO_free(bio);
    return result;
}

static int use_key(SSL_CTX *ssl_context, const struct tls_files *files, struct error *error)
{
    BIO *bio = open_file(files->key, true, error);
    EVP_PKEY *key = NULL;
    bool asked = false;
    int result = -1;

    if (!bio)
        return -1;
    key = PEM_read_bio_PrivateKey(bio, NULL, refuse_passphrase, &asked);
    if (!key && asked)
        error_set(error, "%s: is protected by a passphrase, which nobody could enter; store it without one",
                  files->key);
    else if (!key)
        error_set(error, "%s: holds no private key in PEM form", files->key);
    else if (X509_check_private_key(SSL_CTX_get0_certificate(ssl_context), key) != 1)
        error_set(error, "%s: is not the key of the certificate in %s", files->key, files->certificate);
    else if (SSL_CTX_use_PrivateKey(ssl_context, key) != 1)
        error_set(error, "%s: %s", files->key, tls_error_words());
    else
        result = 0;
    EVP_PKEY_free(key);
    BIO_free(bio);
    return result;
}

int tls_files_use(SSL_CTX *ssl_context, const struct tls_files *files, struct error *error)
{
    int result;

    tls_clear_errors();
    result = use_certificate(ssl_context, files->certificate, error);
    if (result == 0)
        result = use_key(ssl_context, files, error);
    tls_clear_errors();
    return result;
}

/* ---- trust ---- */

static int trust_file(SSL_CTX *ssl_context, const char *path, struct error *error)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ssl_context);
    BIO *bio = open_file(path, false, error);
    X509 *certificate;
    bool asked = false;
    size_t count = 0;

    if (!bio)
        return -1;
    while ((certificate = PEM_read_bio_X509(bio, NULL, refuse_passphrase, &asked))) {
        count += X509_STORE_add_cert(store, certificate) == 1;
        X509_free(certificate);
    }
    BIO_free(bio);
    if (!is_at_end())
        return error_set(error, "%s: %s", path, tls_error_words());
    return count > 0 ? 0 : error_set(error, "%s: holds no certificate in PEM form", path);
}

int tls_files_trust(SSL_CTX *ssl_context, const char *path, struct error *error)
{
    const char *expected = getenv(X509_get_default_cert_file_env());
    int result;

    tls_clear_errors();
    if (path) {
        result = trust_file(ssl_context, path, error);
    } else {
        /* Not the library's own way, which reads files in the middle of a handshake. */
        result = trust_file(ssl_context, expected ? expected : X509_get_default_cert_file(), NULL);
        for (size_t i = 0; result != 0 && i < sizeof(system_roots) / sizeof(system_roots[0]); i++)
            result = trust_file(ssl_context, system_roots[i], NULL);
        result = 0;
    }
    tls_clear_errors();
    return result;
}
