/* SPDX-License-Identifier: Apache-2.0 */
/* The client's TLS (RFC 3207, RFC 8314 3.3) and authentication (RFC 4954). */
#include "base/mem.h"
#include "loop/loop.h"
#include "smtp/base64.h"
#include "smtp/client_private.h"
#include "smtp/sasl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES 512
/* RFC 5321 4.5.3.1.4: with a longer initial response the command waits for an empty challenge first (RFC 4954 4). */
#define AUTH_COMMAND_BYTES_MAX 510

/* ---- TLS ---- */

static void copy_reason(struct smtp_client *client, struct str text)
{
    snprintf(client->plaintext_reason, sizeof(client->plaintext_reason), "%.*s", STR_ARG(text));
}

enum smtp_client_opened client_handshake(struct smtp_client *client, const struct tls_client_options *tls)
{
    struct error error;

    memset(&client->capabilities, 0, sizeof(client->capabilities));
    if (conn_connect_tls(client->conn, tls, loop_now_ms() + client->command_timeout_ms, &error) == CONN_OK)
        return SMTP_CLIENT_OPENED;
    client_end_with(client, CLIENT_END_UNSAFE, "4.7.5", error.text);
    return SMTP_CLIENT_TLS_FAILED;
}

/* The server has TLS no more than by its word, if at all. */
static enum smtp_client_opened go_without(struct smtp_client *client, bool is_required, const char *reason)
{
    char text[TEXT_BYTES + sizeof("TLS is required: ")];

    if (!is_required) {
        copy_reason(client, str_from_cstr(reason));
        return SMTP_CLIENT_OPENED;
    }
    snprintf(text, sizeof(text), "TLS is required: %s", reason);
    client_result_set(&client->failure, "4.7.4", false, text);
    return SMTP_CLIENT_REFUSED;
}

/* After the server's "go ahead". */
static enum smtp_client_opened turn_to_tls(struct smtp_client *client, const struct smtp_client_options *options)
{
    enum smtp_client_opened opened;

    /* Anybody on the way could have put it there, to be taken for protected. */
    if (conn_buffered(client->conn).length > 0) {
        client_end_with(client, CLIENT_END_UNSAFE, "4.7.5", "TLS: plaintext came behind the reply to STARTTLS");
        return SMTP_CLIENT_TLS_FAILED;
    }
    opened = client_handshake(client, options->tls);
    if (opened == SMTP_CLIENT_OPENED && client_hello(client, options->helo_name) != 0)
        opened = SMTP_CLIENT_REFUSED;
    return opened;
}

enum smtp_client_opened client_secure(struct smtp_client *client, const struct smtp_client_options *options)
{
    const struct reply *reply;
    char reason[TEXT_BYTES];

    if (!options->tls || conn_tls(client->conn))
        return SMTP_CLIENT_OPENED;
    if (!client->capabilities.starttls)
        return go_without(client, options->tls_is_required, "the server does not offer STARTTLS");
    reply = client_ask(client, STR("STARTTLS"), STR(""), CLIENT_EXPECT_FINAL, "STARTTLS");
    if (!reply)
        return SMTP_CLIENT_TLS_FAILED;
    if (reply->code < 400)
        return turn_to_tls(client, options);
    snprintf(reason, sizeof(reason), "the server refused STARTTLS: %.*s",
             STR_ARG(str_take(reply_text(reply), TEXT_BYTES / 2)));
    return go_without(client, options->tls_is_required, reason);
}

/* ---- AUTH ---- */

/* An exchange in the hands of the fiber or of the worker thread, which may outlive the fiber's patience. */
struct exchange {
    struct worker_job job;
    struct sasl_client *sasl;
    bool has_input;
    struct buf input, output; /* decoded */
    enum sasl_status status;
};

static void exchange_run(struct worker_job *job)
{
    struct exchange *exchange = LIST_ENTRY(job, struct exchange, job);
    struct str input = exchange->has_input ? buf_str(&exchange->input) : (struct str){0};

    if (exchange->has_input && !input.data)
        input.data = ""; /* an empty challenge is not none */
    exchange->status = sasl_client_step(exchange->sasl, input, &exchange->output);
}

static void exchange_destroy(struct worker_job *job)
{
    struct exchange *exchange = LIST_ENTRY(job, struct exchange, job);

    sasl_client_destroy(&exchange->sasl);
    sasl_clear(&exchange->input);
    sasl_clear(&exchange->output);
    buf_release(&exchange->input);
    buf_release(&exchange->output);
    free(exchange);
}

static int fail(struct smtp_client *client, const char *status, const char *text)
{
    client_end_with(client, CLIENT_END_UNSAFE, status, text);
    return -1;
}

/* Nothing was begun: the connection can still be ended in words. */
static int refuse(struct smtp_client *client, const char *status, const char *text)
{
    client_result_set(&client->failure, status, false, text);
    return -1;
}

/* A refusal of our user is nothing that the recipients can help: it is tried again. */
static int fail_by_reply(struct smtp_client *client, const struct reply *reply)
{
    if (!reply)
        return -1;
    client_result_from_reply(&client->failure, reply);
    client->failure.permanent = false;
    client->failure.status[0] = '4';
    return -1;
}

static struct exchange *create_exchange(struct smtp_client *client, const struct smtp_client_auth *auth,
                                        enum sasl_mechanism *mechanism)
{
    unsigned char unique[TLS_BINDING_BYTES_MAX], exporter[TLS_BINDING_BYTES_MAX];
    struct sasl_client_options options = {.user = auth->user, .password = auth->password};
    const struct reply_capabilities *offered = &client->capabilities;
    struct sasl_client *sasl;
    struct exchange *exchange;
    struct error error;

    options.channel.binding_unique =
        str_make((char *)unique, conn_tls_binding(client->conn, TLS_BINDING_UNIQUE, unique));
    options.channel.binding_exporter =
        str_make((char *)exporter, conn_tls_binding(client->conn, TLS_BINDING_EXPORTER, exporter));
    *mechanism = sasl_client_choose(sasl_mechanisms_parse(str_make(offered->auth_mechanisms, offered->auth_length)),
                                    auth->mechanisms, &options.channel);
    if (*mechanism == 0) {
        refuse(client, "4.7.9", "The server offers no authentication that this connector may use");
        return NULL;
    }
    sasl = sasl_client_create(*mechanism, &options, &error);
    if (!sasl) {
        refuse(client, "4.7.0", error.text);
        return NULL;
    }
    exchange = mem_alloc(sizeof(*exchange));
    worker_job_init(&exchange->job, exchange_run, exchange_destroy);
    exchange->sasl = sasl;
    buf_init(&exchange->input, SASL_MESSAGE_BYTES_MAX);
    buf_init(&exchange->output, SASL_MESSAGE_BYTES_MAX);
    return exchange;
}

/* 0, and what to say stands in `output`. */
static int step(struct smtp_client *client, const struct smtp_client_auth *auth, struct exchange *exchange)
{
    if (worker_run(auth->pool, &exchange->job, loop_now_ms() + client->command_timeout_ms) != WAIT_READY)
        return fail(client, "4.7.0", "Authentication could not be computed in time");
    switch (exchange->status) {
    case SASL_CONTINUE:
    case SASL_DONE:
        return 0;
    case SASL_REFUSED:
        return fail(client, "4.7.8", "The server could not prove that it knows the password");
    case SASL_UNAVAILABLE:
    case SASL_MALFORMED:
        break;
    }
    return fail(client, "4.7.0", "The server's challenge makes no sense");
}

/* `first`: the command before it, which goes without the response if both are too long. */
static const struct reply *send_response(struct smtp_client *client, const struct exchange *exchange, struct str first)
{
    struct buf line;
    const struct reply *reply;

    buf_init(&line, AUTH_COMMAND_BYTES_MAX + BASE64_ENCODED_BYTES(SASL_MESSAGE_BYTES_MAX));
    buf_reserve(&line, line.length_max); /* at once as large as it can get: growing would leave copies behind */
    if (first.length > 0 && exchange->output.length == 0)
        buf_append_str(&line, STR(" ="));
    else if (first.length > 0)
        buf_append_char(&line, ' ');
    if (exchange->output.length > 0)
        base64_append(&line, buf_str(&exchange->output));
    if (first.length > 0 && first.length + line.length > AUTH_COMMAND_BYTES_MAX) {
        reply = client_ask(client, first, STR(""), CLIENT_EXPECT_AUTH, "AUTH");
        if (reply && reply->code / 100 == 3)
            reply = client_ask(client, str_skip(buf_str(&line), 1), STR(""), CLIENT_EXPECT_AUTH, "AUTH");
    } else {
        reply = client_ask(client, first, buf_str(&line), CLIENT_EXPECT_AUTH, "AUTH");
    }
    sasl_clear(&line);
    buf_release(&line);
    return reply;
}

/* The challenge in "334 ...". */
static int take_challenge(struct smtp_client *client, struct exchange *exchange, const struct reply *reply)
{
    buf_clear(&exchange->input);
    exchange->has_input = true;
    if (exchange->status == SASL_DONE || reply->text_is_cut ||
        !base64_decode(str_trim(str_skip(reply_text(reply), 3)), &exchange->input))
        return fail(client, "4.7.0", "The server's challenge makes no sense");
    return 0;
}

static int exchange_all(struct smtp_client *client, const struct smtp_client_auth *auth, struct exchange *exchange,
                        const char *command)
{
    const struct reply *reply;

    if (step(client, auth, exchange) != 0)
        return -1;
    if (sasl_client_has_initial(exchange->sasl))
        reply = send_response(client, exchange, str_from_cstr(command));
    else
        reply = client_ask(client, str_from_cstr(command), STR(""), CLIENT_EXPECT_AUTH, "AUTH");
    while (reply && reply->code / 100 == 3) {
        if (take_challenge(client, exchange, reply) != 0 || step(client, auth, exchange) != 0)
            return -1;
        reply = send_response(client, exchange, STR(""));
    }
    if (!reply || reply->code >= 400)
        return fail_by_reply(client, reply);
    if (!sasl_client_is_satisfied(exchange->sasl))
        return fail(client, "4.7.8", "The server accepted without the proof that it knows the password");
    return 0;
}

int client_authenticate(struct smtp_client *client, const struct smtp_client_auth *auth)
{
    enum sasl_mechanism mechanism;
    struct exchange *exchange;
    char command[64];
    int result;

    if (!conn_tls(client->conn) && !auth->without_tls)
        return refuse(client, "4.7.11", "The connection has no TLS, and the password is not sent without");
    if (!client->capabilities.auth)
        return refuse(client, "4.7.0", "The server does not offer authentication");
    exchange = create_exchange(client, auth, &mechanism);
    if (!exchange)
        return -1;
    snprintf(command, sizeof(command), "AUTH %s", sasl_mechanism_name(mechanism));
    result = exchange_all(client, auth, exchange, command);
    worker_job_release(&exchange->job);
    return result;
}
