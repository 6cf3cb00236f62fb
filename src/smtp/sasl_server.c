/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "smtp/sasl_private.h"

#include <assert.h>

enum sasl_status sasl_server_refuse(struct sasl_server *server, const char *reason)
{
    server->reason = reason;
    return SASL_REFUSED;
}

enum sasl_status sasl_server_malformed(struct sasl_server *server)
{
    server->reason = "malformed";
    return SASL_MALFORMED;
}

enum sasl_status sasl_server_conclude(struct sasl_server *server, enum sasl_answer answer)
{
    switch (answer) {
    case SASL_YES:
        return SASL_DONE;
    case SASL_NO:
        return sasl_server_refuse(server, "credentials");
    case SASL_NO_ANSWER:
        break;
    }
    return SASL_UNAVAILABLE;
}

bool sasl_server_set_user(struct sasl_server *server, struct str user)
{
    buf_clear(&server->user);
    return sasl_prepare(user, SASL_USER_BYTES_MAX, &server->user);
}

bool sasl_server_permits(const struct sasl_server *server, struct str authorization)
{
    const struct sasl_verifier *verifier = server->verifier;
    struct str user = buf_str(&server->user);

    if (authorization.length == 0 || str_equal_nocase(authorization, user))
        return true;
    return verifier->is_same_user && verifier->is_same_user(verifier->context, authorization, user);
}

/* The user is set. */
static enum sasl_status check_password(struct sasl_server *server, struct str password)
{
    const struct sasl_verifier *verifier = server->verifier;
    struct buf prepared;
    enum sasl_status status;

    buf_init(&prepared, SASL_PASSWORD_BYTES_MAX);
    /* An empty password never gets through: to LDAP it would mean nobody in particular, who is always welcome. */
    if (sasl_prepare(password, SASL_PASSWORD_BYTES_MAX, &prepared))
        status = sasl_server_conclude(
            server, verifier->check_password(verifier->context, buf_str(&server->user), buf_str(&prepared)));
    else
        status = sasl_server_refuse(server, "credentials");
    sasl_clear(&prepared);
    buf_release(&prepared);
    return status;
}

/* [authorization] NUL user NUL password (RFC 4616 2) */
static enum sasl_status plain_step(struct sasl_server *server, struct str input, struct buf *out)
{
    struct str rest = input;
    struct str authorization, user;

    (void)out;
    if (!input.data && server->step_count == 1)
        return SASL_CONTINUE;
    authorization = str_split(&rest, '\0');
    if (!rest.data)
        return sasl_server_malformed(server);
    user = str_split(&rest, '\0');
    if (!rest.data || str_find(rest, '\0') != STR_NONE)
        return sasl_server_malformed(server);
    if (!sasl_server_set_user(server, user))
        return sasl_server_refuse(server, "credentials");
    if (!sasl_server_permits(server, authorization))
        return sasl_server_refuse(server, "not-permitted");
    return check_password(server, rest);
}

/* As all servers do it that there have been; it was never more than a draft. */
static enum sasl_status login_step(struct sasl_server *server, struct str input, struct buf *out)
{
    if (!input.data && server->step_count == 1) {
        buf_append_str(out, STR("Username:"));
        return SASL_CONTINUE;
    }
    if (str_find(input, '\0') != STR_NONE)
        return sasl_server_malformed(server);
    if (server->user.length > 0)
        return check_password(server, input);
    if (!sasl_server_set_user(server, input))
        return sasl_server_refuse(server, "credentials");
    buf_append_str(out, STR("Password:"));
    return SASL_CONTINUE;
}

/* The certificate has been proved by TLS: all that is left to say is who one is, and one needn't (RFC 4422 A). */
static enum sasl_status external_step(struct sasl_server *server, struct str input, struct buf *out)
{
    const struct sasl_verifier *verifier = server->verifier;
    struct buf name;
    enum sasl_status status;

    (void)out;
    if (!input.data && server->step_count == 1)
        return SASL_CONTINUE;
    if (input.length > 0 && !sasl_server_set_user(server, input))
        return sasl_server_refuse(server, "credentials");
    buf_init(&name, SASL_USER_BYTES_MAX);
    status = sasl_server_conclude(server, verifier->find_certificate(verifier->context, buf_str(&server->user), &name));
    if (status == SASL_DONE) {
        buf_clear(&server->user);
        buf_append_str(&server->user, buf_str(&name));
    }
    buf_release(&name);
    return status;
}

static enum sasl_status mechanism_step(struct sasl_server *server, struct str input, struct buf *out)
{
    switch (server->mechanism) {
    case SASL_PLAIN:
        return plain_step(server, input, out);
    case SASL_LOGIN:
        return login_step(server, input, out);
    case SASL_SCRAM_SHA_256:
    case SASL_SCRAM_SHA_256_PLUS:
        return sasl_scram_step_server(server, input, out);
    case SASL_GSSAPI:
        return sasl_gssapi_step(server, input, out);
    case SASL_EXTERNAL:
        return external_step(server, input, out);
    }
    return sasl_server_malformed(server);
}

/* ---- life ---- */

bool sasl_server_can(enum sasl_mechanism mechanism, struct str keytab, struct error *error)
{
    char *path;
    bool result;

    if (mechanism == SASL_SCRAM_SHA_256 || mechanism == SASL_SCRAM_SHA_256_PLUS)
        return sasl_scram_can(error);
    if (mechanism != SASL_GSSAPI)
        return true;
    path = mem_copy_str(keytab);
    result = sasl_gssapi_can(path, error);
    free(path);
    return result;
}

struct sasl_server *sasl_server_create(enum sasl_mechanism mechanism, const struct sasl_server_options *options,
                                       struct error *error)
{
    struct sasl_server *server = mem_alloc(sizeof(*server));
    bool created = true;

    server->mechanism = mechanism;
    server->verifier = options->verifier;
    server->keytab = mem_copy_str(options->keytab);
    server->reason = "credentials";
    sasl_bindings_keep(&server->bindings, &options->channel);
    buf_init(&server->user, SASL_USER_BYTES_MAX);
    if (mechanism == SASL_SCRAM_SHA_256 || mechanism == SASL_SCRAM_SHA_256_PLUS) {
        server->scram = sasl_scram_create_server(server, error);
        created = server->scram != NULL;
    } else if (mechanism == SASL_GSSAPI) {
        server->gssapi = sasl_gssapi_create(server->keytab, error);
        created = server->gssapi != NULL;
    }
    if (!created)
        sasl_server_destroy(&server);
    return server;
}

enum sasl_status sasl_server_step(struct sasl_server *server, struct str input, struct buf *out)
{
    enum sasl_status status;

    sasl_clear(out);
    if (server->is_over || ++server->step_count > SASL_STEPS_MAX || input.length > SASL_MESSAGE_BYTES_MAX)
        status = sasl_server_malformed(server);
    else
        status = mechanism_step(server, input, out);
    if (status != SASL_CONTINUE) {
        server->is_over = true;
        sasl_clear(out);
    }
    assert(status != SASL_DONE || server->user.length > 0);
    return status;
}

struct str sasl_server_user(const struct sasl_server *server)
{
    return buf_str(&server->user);
}

const char *sasl_server_reason(const struct sasl_server *server)
{
    return server->reason;
}

void sasl_server_destroy(struct sasl_server **pointer)
{
    struct sasl_server *server = *pointer;

    *pointer = NULL;
    if (!server)
        return;
    sasl_scram_destroy(&server->scram);
    sasl_gssapi_destroy(&server->gssapi);
    buf_release(&server->user);
    free(server->keytab);
    free(server);
}
