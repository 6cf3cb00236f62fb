/* SPDX-License-Identifier: Apache-2.0 */
/* Exchanges against a verifier that knows one user, and counts what it is asked. alice's password is "pencil"; the user "later" gets no answer. */
#ifndef POSTERN_TESTS_SMTP_SASL_FIXTURE_H
#define POSTERN_TESTS_SMTP_SASL_FIXTURE_H

#include "smtp/sasl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
#include <gsasl.h>

#define PASSWORD "pencil"

struct fake {
    struct sasl_verifier verifier;
    unsigned questions;
    char user[SASL_USER_BYTES_MAX + 1]; /* of the last question */
    char password[SASL_PASSWORD_BYTES_MAX + 1];
    char salt[16];
    char stored_key[32], server_key[32];
    unsigned iterations;
};

static inline void fake_note(struct fake *fake, struct str user, struct str password)
{
    fake->questions++;
    snprintf(fake->user, sizeof(fake->user), "%.*s", STR_ARG(user));
    snprintf(fake->password, sizeof(fake->password), "%.*s", STR_ARG(password));
}

static inline enum sasl_answer fake_check_password(void *context, struct str user, struct str password)
{
    struct fake *fake = context;

    fake_note(fake, user, password);
    if (str_equal(user, STR("later")))
        return SASL_NO_ANSWER;
    return str_equal_nocase(user, STR("alice")) && str_equal(password, STR(PASSWORD)) ? SASL_YES : SASL_NO;
}

static inline enum sasl_answer fake_find_scram_keys(void *context, struct str user, struct sasl_scram_keys *keys)
{
    static const char nobody[32] = "keys that nobody has";
    struct fake *fake = context;
    bool is_alice = str_equal_nocase(user, STR("alice"));

    fake_note(fake, user, STR(""));
    if (str_equal(user, STR("later")))
        return SASL_NO_ANSWER;
    keys->iterations = fake->iterations;
    keys->salt = str_make(fake->salt, sizeof(fake->salt));
    keys->stored_key = str_make(is_alice ? fake->stored_key : nobody, 32);
    keys->server_key = str_make(is_alice ? fake->server_key : nobody, 32);
    return SASL_YES;
}

static inline enum sasl_answer fake_find_certificate(void *context, struct str user, struct buf *name)
{
    struct fake *fake = context;

    fake_note(fake, user, STR(""));
    if (str_equal(user, STR("later")))
        return SASL_NO_ANSWER;
    if (user.length > 0 && !str_equal_nocase(user, STR("alice")))
        return SASL_NO;
    return buf_append_str(name, STR("alice")) ? SASL_YES : SASL_NO_ANSWER;
}

/* "alice@contoso.test" is alice too. */
static inline bool fake_is_same_user(void *context, struct str authorization, struct str user)
{
    (void)context;
    return str_equal(user, STR("alice")) && str_equal(authorization, STR("alice@contoso.test"));
}

static inline void fake_init(struct fake *fake)
{
    char salted[32], client_key[32];

    *fake = (struct fake){.verifier = {.context = fake,
                                       .check_password = fake_check_password,
                                       .find_scram_keys = fake_find_scram_keys,
                                       .find_certificate = fake_find_certificate,
                                       .is_same_user = fake_is_same_user},
                          .salt = "0123456789abcde",
                          .iterations = SASL_ITERATIONS_MIN};
    assert_int_equal(gsasl_scram_secrets_from_password(GSASL_HASH_SHA256, PASSWORD, fake->iterations, fake->salt,
                                                       sizeof(fake->salt), salted, client_key, fake->server_key,
                                                       fake->stored_key),
                     GSASL_OK);
}

static inline struct sasl_server *fake_server(struct fake *fake, enum sasl_mechanism mechanism,
                                              struct sasl_channel channel)
{
    const struct sasl_server_options options = {.verifier = &fake->verifier, .channel = channel};
    struct error error = {0};
    struct sasl_server *server = sasl_server_create(mechanism, &options, &error);

    assert_non_null(server);
    return server;
}

static inline struct sasl_client *fake_client(enum sasl_mechanism mechanism, const char *user, const char *password,
                                              struct sasl_channel channel)
{
    const struct sasl_client_options options = {
        .user = str_from_cstr(user), .password = str_from_cstr(password), .channel = channel};
    struct error error = {0};
    struct sasl_client *client = sasl_client_create(mechanism, &options, &error);

    assert_non_null(client);
    return client;
}

#endif
