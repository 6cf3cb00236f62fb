/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "smtp/sasl_private.h"

enum client_phase { CLIENT_BEGIN, CLIENT_USER, CLIENT_PASSWORD, CLIENT_SCRAM, CLIENT_OVER };

struct sasl_client {
    enum sasl_mechanism mechanism;
    enum client_phase phase;
    unsigned step_count;
    struct str user, password; /* heap */
    struct sasl_bindings bindings;
    struct sasl_scram *scram;
    bool is_satisfied;
};

/* What we would rather use, without what needs more than a password. */
static const enum sasl_mechanism preferred[] = {SASL_SCRAM_SHA_256_PLUS, SASL_SCRAM_SHA_256, SASL_PLAIN, SASL_LOGIN,
                                                SASL_EXTERNAL};

enum sasl_mechanism sasl_client_choose(unsigned offered, unsigned allowed, const struct sasl_channel *channel)
{
    bool has_binding = channel->binding_unique.length > 0 || channel->binding_exporter.length > 0;

    for (size_t i = 0; i < sizeof(preferred) / sizeof(preferred[0]); i++) {
        if ((offered & allowed & preferred[i]) == 0)
            continue;
        if (preferred[i] == SASL_SCRAM_SHA_256_PLUS && !has_binding)
            continue;
        return preferred[i];
    }
    return 0;
}

static bool may_be_sent(enum sasl_mechanism mechanism, const struct sasl_client_options *options)
{
    if (str_find(options->user, '\0') != STR_NONE || str_find(options->password, '\0') != STR_NONE)
        return false;
    if (options->user.length > SASL_USER_BYTES_MAX || options->password.length > SASL_PASSWORD_BYTES_MAX)
        return false;
    return mechanism == SASL_EXTERNAL || (options->user.length > 0 && options->password.length > 0);
}

static int client_error(struct error *error, const struct sasl_client_options *options, const char *text)
{
    return error_set(error, "authenticating%s%.*s: %s", options->host.length > 0 ? " to " : "", STR_ARG(options->host),
                     text);
}

struct sasl_client *sasl_client_create(enum sasl_mechanism mechanism, const struct sasl_client_options *options,
                                       struct error *error)
{
    bool is_plus = mechanism == SASL_SCRAM_SHA_256_PLUS;
    struct sasl_client *client;

    if (mechanism == SASL_GSSAPI || sasl_mechanism_name(mechanism)[0] == '\0') {
        client_error(error, options, "no mechanism that can be used");
        return NULL;
    }
    if (!may_be_sent(mechanism, options)) {
        client_error(error, options, "the user or the password is empty, too long, or has a NUL in it");
        return NULL;
    }
    client = mem_alloc(sizeof(*client));
    client->mechanism = mechanism;
    client->user = str_make(mem_copy_str(options->user), options->user.length);
    client->password = str_make(mem_copy_str(options->password), options->password.length);
    sasl_bindings_keep(&client->bindings, &options->channel);
    if (is_plus || mechanism == SASL_SCRAM_SHA_256) {
        client->phase = CLIENT_SCRAM;
        client->scram =
            sasl_scram_create_client(is_plus, client->user.data, client->password.data, &client->bindings, error);
        if (!client->scram)
            sasl_client_destroy(&client);
    }
    return client;
}

bool sasl_client_has_initial(const struct sasl_client *client)
{
    return client->mechanism != SASL_LOGIN;
}

static enum sasl_status finish(struct sasl_client *client)
{
    client->phase = CLIENT_OVER;
    client->is_satisfied = true;
    return SASL_DONE;
}

/* All that these mechanisms say, they say at once. */
static enum sasl_status say_all(struct sasl_client *client, struct buf *out)
{
    if (client->mechanism == SASL_PLAIN)
        buf_append_char(out, '\0');
    buf_append_str(out, client->user);
    if (client->mechanism == SASL_PLAIN) {
        buf_append_char(out, '\0');
        buf_append_str(out, client->password);
    }
    return finish(client);
}

static enum sasl_status next_step(struct sasl_client *client, struct str input, struct buf *out)
{
    enum sasl_status status;

    switch (client->phase) {
    case CLIENT_BEGIN:
        if (client->mechanism != SASL_LOGIN)
            return say_all(client, out);
        client->phase = CLIENT_USER;
        return SASL_CONTINUE;
    case CLIENT_USER: /* what the challenge says differs from server to server; their order does not */
        client->phase = CLIENT_PASSWORD;
        buf_append_str(out, client->user);
        return SASL_CONTINUE;
    case CLIENT_PASSWORD:
        buf_append_str(out, client->password);
        return finish(client);
    case CLIENT_SCRAM:
        status = sasl_scram_step_client(client->scram, input, out);
        return status == SASL_DONE ? finish(client) : status;
    case CLIENT_OVER:
        break;
    }
    return SASL_MALFORMED;
}

enum sasl_status sasl_client_step(struct sasl_client *client, struct str input, struct buf *out)
{
    enum sasl_status status = SASL_MALFORMED;

    sasl_clear(out);
    if (++client->step_count <= SASL_STEPS_MAX && input.length <= SASL_MESSAGE_BYTES_MAX)
        status = next_step(client, input, out);
    if (out->overflowed)
        status = SASL_MALFORMED;
    if (status != SASL_CONTINUE && status != SASL_DONE) {
        client->phase = CLIENT_OVER;
        client->is_satisfied = false;
        sasl_clear(out);
    }
    return status;
}

bool sasl_client_is_satisfied(const struct sasl_client *client)
{
    return client->is_satisfied;
}

static void free_secret(struct str secret)
{
    explicit_bzero((char *)(uintptr_t)secret.data, secret.length);
    free((char *)(uintptr_t)secret.data);
}

void sasl_client_destroy(struct sasl_client **pointer)
{
    struct sasl_client *client = *pointer;

    *pointer = NULL;
    if (!client)
        return;
    sasl_scram_destroy(&client->scram);
    free_secret(client->user);
    free_secret(client->password);
    free(client);
}
