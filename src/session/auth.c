/* SPDX-License-Identifier: Apache-2.0 */
#include "session/auth.h"

#include "base/log.h"
#include "base/mem.h"
#include "loop/fiber.h"
#include "loop/loop.h"
#include "session/auth_private.h"
#include "session/runtime.h"

_Static_assert((int)SASL_PLAIN == (int)CONFIG_MECHANISM_PLAIN && (int)SASL_LOGIN == (int)CONFIG_MECHANISM_LOGIN &&
                   (int)SASL_SCRAM_SHA_256 == (int)CONFIG_MECHANISM_SCRAM_SHA_256 &&
                   (int)SASL_SCRAM_SHA_256_PLUS == (int)CONFIG_MECHANISM_SCRAM_SHA_256_PLUS &&
                   (int)SASL_GSSAPI == (int)CONFIG_MECHANISM_GSSAPI &&
                   (int)SASL_EXTERNAL == (int)CONFIG_MECHANISM_EXTERNAL,
               "config.h names the mechanisms by sasl.h's bits");

#define SCRAM_BITS ((unsigned)SASL_SCRAM_SHA_256 | (unsigned)SASL_SCRAM_SHA_256_PLUS)
/* Room for all their names. */
#define LIST_BYTES 128
/*
 * No refusal comes sooner after what the client said: an LDAP server may hash a password only where there is a user to check it for, and
 * the difference would tell who exists. More than the slowest of usual hashes takes.
 */
#define AUTH_REFUSAL_MS 300
/* Of a name in the log. */
#define LOGGED_USER_BYTES_MAX 128

struct auth_setup {
    const struct config_server *servers;
    unsigned mechanisms[]; /* of each server: those that are configured and work */
};

struct auth {
    struct runtime *runtime;
    const struct config_server *server;
    struct brakes *brakes;
    struct conn *conn;
    struct auth_exchange *exchange; /* under way */
    enum sasl_mechanism mechanism;
    struct auth_identity identity;
    struct directory_user *user; /* identity.user */
    struct buf list;
    char client_text[NET_ADDRESS_TEXT_BYTES];
};

/* ---- the setup ---- */

static bool works(const struct config_server *server, enum sasl_mechanism mechanism)
{
    struct error error;

    if (sasl_server_can(mechanism, server->auth.keytab, &error))
        return true;
    LOG_WARNING("auth-problem", log_str("server", server->name), log_cstr("mechanism", sasl_mechanism_name(mechanism)),
                log_error(&error));
    return false;
}

struct auth_setup *auth_setup_create(const struct config *config)
{
    struct auth_setup *setup = mem_alloc(sizeof(*setup) + config->server_count * sizeof(setup->mechanisms[0]));

    setup->servers = config->servers;
    for (size_t i = 0; i < config->server_count; i++)
        for (unsigned bit = SASL_PLAIN; bit <= SASL_EXTERNAL; bit <<= 1)
            if ((config->servers[i].auth.mechanisms & bit) != 0 && works(&config->servers[i], bit))
                setup->mechanisms[i] |= bit;
    return setup;
}

void auth_setup_destroy(struct auth_setup **setup)
{
    mem_free(setup);
}

/* ---- life ---- */

struct auth *auth_create(const struct auth_options *options)
{
    struct auth *auth = mem_alloc(sizeof(*auth));

    auth->runtime = options->runtime;
    auth->server = options->server;
    auth->brakes = options->brakes;
    auth->conn = options->conn;
    buf_init(&auth->list, LIST_BYTES);
    net_address_format_ip(conn_peer(auth->conn), auth->client_text);
    return auth;
}

const struct auth_identity *auth_identity(const struct auth *auth)
{
    return auth->user ? &auth->identity : NULL;
}

void auth_forget(struct auth *auth)
{
    directory_user_free(&auth->user);
    auth->identity = (struct auth_identity){0};
}

void auth_abort(struct auth *auth)
{
    auth_exchange_release(&auth->exchange);
}

void auth_destroy(struct auth **pointer)
{
    struct auth *auth = *pointer;

    *pointer = NULL;
    if (!auth)
        return;
    auth_abort(auth);
    auth_forget(auth);
    buf_release(&auth->list);
    free(auth);
}

/* ---- what is offered ---- */

/* A directory may come to have keys for SCRAM, or have none any more. */
static unsigned working(const struct auth *auth)
{
    const struct auth_setup *setup = auth->runtime->auth;
    unsigned mechanisms = setup ? setup->mechanisms[auth->server - setup->servers] : 0;

    if ((mechanisms & SCRAM_BITS) != 0 && !directory_has_scram(auth->runtime->directory))
        mechanisms &= ~SCRAM_BITS;
    return mechanisms;
}

static bool has_binding(const struct auth *auth)
{
    unsigned char data[TLS_BINDING_BYTES_MAX];

    return conn_tls_binding(auth->conn, TLS_BINDING_EXPORTER, data) > 0 ||
           conn_tls_binding(auth->conn, TLS_BINDING_UNIQUE, data) > 0;
}

static unsigned offered(const struct auth *auth)
{
    const struct tls_facts *tls = conn_tls(auth->conn);
    unsigned mechanisms = working(auth);

    if (!tls && auth->server->auth.require_tls)
        return 0;
    if (!tls || !has_binding(auth))
        mechanisms &= ~(unsigned)SASL_SCRAM_SHA_256_PLUS;
    if (!tls || !tls->has_certificate)
        mechanisms &= ~(unsigned)SASL_EXTERNAL;
    return mechanisms;
}

const char *auth_mechanisms(struct auth *auth)
{
    if (working(auth) == 0)
        return NULL;
    buf_clear(&auth->list);
    sasl_mechanism_list(offered(auth), &auth->list);
    buf_append_char(&auth->list, '\0');
    return auth->list.data;
}

/* ---- what comes of a step ---- */

/* A name, as most people have one: what is typed in its place by mistake, and is better than that, is a password. */
static struct str loggable(struct str user)
{
    for (size_t i = 0; i < user.length; i++)
        if (!ascii_is_alpha(user.data[i]) && !ascii_is_digit(user.data[i]) &&
            str_find(STR("._+@-"), user.data[i]) == STR_NONE)
            return STR("");
    return user.length <= LOGGED_USER_BYTES_MAX ? user : STR("");
}

static void log_outcome(const struct auth *auth, const char *event, const char *reason)
{
    LOG_WARNING(event, log_str("server", auth->server->name), log_cstr("client", auth->client_text),
                log_cstr("mechanism", sasl_mechanism_name(auth->mechanism)),
                log_str("user", loggable(auth_exchange_user(auth->exchange))), log_cstr("reason", reason));
}

static enum smtp_auth_status locked(struct auth *auth, struct smtp_reply *reply)
{
    smtp_reply_set(reply, 421, "4.7.0", "%.*s Too many failed authentications, try again later",
                   STR_ARG(auth->runtime->config->hostname));
    return SMTP_AUTH_CLOSE;
}

/* Holds the answer back; nothing but the session is held meanwhile. */
static void hold_back(uint64_t until_ms)
{
    while (loop_now_ms() < until_ms && fiber_wait(until_ms) == WAIT_READY) {
    }
}

static enum smtp_auth_status refused(struct auth *auth, uint64_t asked_at_ms, struct smtp_reply *reply)
{
    uint64_t level_until_ms = asked_at_ms + AUTH_REFUSAL_MS;
    uint64_t brake_until_ms;
    bool locks = false;
    unsigned delay_ms = brakes_failed(auth->brakes, &auth->runtime->config->brakes, conn_peer(auth->conn),
                                      auth_exchange_address(auth->exchange), loop_now_ms(), &locks);

    log_outcome(auth, "auth-failed", auth_exchange_reason(auth->exchange));
    if (locks)
        log_outcome(auth, "auth-locked", "too many failures");
    auth_abort(auth);
    brake_until_ms = loop_now_ms() + delay_ms;
    hold_back(level_until_ms > brake_until_ms ? level_until_ms : brake_until_ms);
    smtp_reply_set(reply, 535, "5.7.8", "Authentication failed");
    return SMTP_AUTH_FAILED;
}

static enum smtp_auth_status unavailable(struct auth *auth, struct smtp_reply *reply, const char *reason)
{
    LOG_WARNING("auth-unavailable", log_str("server", auth->server->name), log_cstr("client", auth->client_text),
                log_cstr("mechanism", sasl_mechanism_name(auth->mechanism)), log_cstr("reason", reason));
    smtp_reply_set(reply, 454, "4.7.0", "Temporary authentication failure");
    return SMTP_AUTH_FAILED;
}

static enum smtp_auth_status succeeded(struct auth *auth, struct smtp_reply *reply)
{
    const struct tls_facts *tls = conn_tls(auth->conn);

    brakes_succeeded(auth->brakes, &auth->runtime->config->brakes, conn_peer(auth->conn),
                     auth_exchange_address(auth->exchange), loop_now_ms());
    auth->user = auth_exchange_take_user(auth->exchange);
    auth->identity = (struct auth_identity){.user = auth->user, .mechanism = auth->mechanism, .over_tls = tls != NULL};
    LOG_INFO("authenticated", log_str("server", auth->server->name), log_cstr("client", auth->client_text),
             log_cstr("mechanism", sasl_mechanism_name(auth->mechanism)), log_str("user", auth->user->name),
             log_cstr("tls", tls ? tls->protocol : ""));
    smtp_reply_set(reply, 235, "2.7.0", "Authentication successful");
    return SMTP_AUTH_DONE;
}

static enum smtp_auth_status step(struct auth *auth, struct str input, struct buf *challenge, struct smtp_reply *reply)
{
    enum smtp_auth_status status = SMTP_AUTH_FAILED;
    uint64_t asked_at_ms = loop_now_ms();

    switch (auth_exchange_step(auth->exchange, input, challenge)) {
    case AUTH_CONTINUE:
        return SMTP_AUTH_CONTINUE;
    case AUTH_DONE:
        status = succeeded(auth, reply);
        break;
    case AUTH_REFUSED:
        return refused(auth, asked_at_ms, reply);
    case AUTH_MALFORMED:
        log_outcome(auth, "auth-failed", auth_exchange_reason(auth->exchange));
        smtp_reply_set(reply, 501, "5.5.2", "Malformed authentication exchange");
        break;
    case AUTH_UNAVAILABLE:
        status = unavailable(auth, reply, "directory");
        break;
    case AUTH_LOCKED:
        log_outcome(auth, "auth-failed", auth_exchange_reason(auth->exchange));
        status = locked(auth, reply);
        break;
    case AUTH_GIVEN_UP:
        status = unavailable(auth, reply, "timeout");
        break;
    }
    auth_abort(auth);
    return status;
}

/* ---- the hooks ---- */

/* Whether the client may go on with this mechanism. The reply is set if not. */
static bool is_offered(const struct auth *auth, enum sasl_mechanism mechanism, struct smtp_reply *reply)
{
    if ((offered(auth) & mechanism) != 0)
        return true;
    if ((working(auth) & mechanism) != 0 && !conn_tls(auth->conn))
        smtp_reply_set(reply, 538, "5.7.11", "Encryption required for requested authentication mechanism");
    else
        smtp_reply_set(reply, 504, "5.5.4", "Unrecognized authentication type");
    return false;
}

enum smtp_auth_status auth_begin(struct auth *auth, struct str mechanism, struct str initial, struct buf *challenge,
                                 struct smtp_reply *reply)
{
    struct auth_exchange_options options = {.config = auth->runtime->config,
                                            .server = auth->server,
                                            .directory = auth->runtime->directory,
                                            .brakes = auth->brakes,
                                            .conn = auth->conn,
                                            .mechanism = sasl_mechanism_find(mechanism),
                                            .plus_is_offered = (offered(auth) & SASL_SCRAM_SHA_256_PLUS) != 0};

    if (!is_offered(auth, options.mechanism, reply))
        return SMTP_AUTH_FAILED;
    auth->mechanism = options.mechanism;
    auth->exchange = auth_exchange_create(&options);
    if (brakes_check(auth->brakes, &auth->runtime->config->brakes, conn_peer(auth->conn), STR(""), loop_now_ms()) !=
        BRAKES_FREE) {
        log_outcome(auth, "auth-failed", "locked");
        auth_abort(auth);
        return locked(auth, reply);
    }
    return step(auth, initial, challenge, reply);
}

enum smtp_auth_status auth_continue(struct auth *auth, struct str response, struct buf *challenge,
                                    struct smtp_reply *reply)
{
    return step(auth, response, challenge, reply);
}
