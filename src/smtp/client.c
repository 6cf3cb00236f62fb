/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Greeting, transactions and goodbye. One transaction on the wire, with PIPELINING:
 *
 *     out   [RSET] MAIL RCPT... DATA        body . [RSET] MAIL RCPT... DATA       body . ...
 *                │                             │       └──── the next one's envelope
 *     in         └─> [2xx] 2xx 2xx... 354 ──┘  └─> 2xx [2xx] 2xx 2xx... 354 ──┘
 *
 * Without it, each command waits for its reply. Until its dot a transaction that loses the connection is untried; from
 * the dot on nobody knows whether the server took the message, and it must be sent again.
 */
#include "base/mem.h"
#include "loop/loop.h"
#include "smtp/client_private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Leaves room for keywords and numbers around the two longest texts of a command. */
#define COMMAND_TEXT_BYTES_MAX ((CLIENT_COMMAND_BYTES_MAX - 512) / 2)

/* ---- greeting and goodbye ---- */

const struct reply *client_ask(struct smtp_client *client, struct str command, struct str argument,
                               enum client_expect expect, const char *about)
{
    client->write_deadline_ms = loop_now_ms() + client->command_timeout_ms;
    client_write(client, command);
    client_write(client, argument);
    client_write(client, STR("\r\n"));
    return client_read_reply(client, expect, about, client->command_timeout_ms);
}

int client_hello(struct smtp_client *client, struct str helo_name)
{
    struct str command = client->is_lmtp ? STR("LHLO ") : STR("EHLO ");
    const struct reply *reply = client_ask(client, command, helo_name, CLIENT_EXPECT_EHLO, "the greeting");

    if (reply && reply->code < 400) {
        client->capabilities = reply->capabilities;
        return 0;
    }
    /* A server that doesn't know EHLO says so with a 5xx, not always the right one (RFC 5321 3.2, 4.1.1.1). */
    if (reply && reply->code >= 500 && !client->is_lmtp)
        reply = client_ask(client, STR("HELO "), helo_name, CLIENT_EXPECT_FINAL, "the greeting");
    if (reply && reply->code < 400)
        return 0;
    if (reply)
        client_result_from_reply(&client->failure, reply);
    return -1;
}

/* The banner and our answer: 0, or -1 with the failure filled in; the connection may still stand. */
static int greet(struct smtp_client *client, struct str helo_name)
{
    const struct reply *reply =
        client_read_reply(client, CLIENT_EXPECT_FINAL, "the connection", client->command_timeout_ms);

    if (reply && reply->code < 400)
        return client_hello(client, helo_name);
    if (reply)
        client_result_from_reply(&client->failure, reply);
    return -1;
}

static enum smtp_client_opened begin(struct smtp_client *client, const struct smtp_client_options *options)
{
    enum smtp_client_opened opened = SMTP_CLIENT_OPENED;

    if (options->tls && options->tls_at_once)
        opened = client_handshake(client, options->tls);
    if (opened == SMTP_CLIENT_OPENED && greet(client, options->helo_name) != 0)
        opened = SMTP_CLIENT_REFUSED;
    if (opened == SMTP_CLIENT_OPENED)
        opened = client_secure(client, options);
    if (opened == SMTP_CLIENT_OPENED && options->auth && client_authenticate(client, options->auth) != 0)
        opened = SMTP_CLIENT_REFUSED;
    return opened;
}

enum smtp_client_opened smtp_client_open(struct smtp_client **client, struct conn *conn,
                                         const struct smtp_client_options *options, struct smtp_client_result *result)
{
    struct smtp_client *created = mem_alloc(sizeof(*created));
    enum smtp_client_opened opened;

    created->conn = conn;
    created->is_lmtp = options->is_lmtp;
    created->command_timeout_ms =
        options->command_timeout_ms ? options->command_timeout_ms : SMTP_CLIENT_COMMAND_TIMEOUT_MS_DEFAULT;
    created->data_timeout_ms =
        options->data_timeout_ms ? options->data_timeout_ms : SMTP_CLIENT_DATA_TIMEOUT_MS_DEFAULT;
    buf_init(&created->command, CLIENT_COMMAND_BYTES_MAX);
    opened = begin(created, options);
    *client = created;
    if (opened != SMTP_CLIENT_OPENED) {
        *result = created->failure;
        smtp_client_quit(client);
    }
    return opened;
}

bool smtp_client_offers_dsn(const struct smtp_client *client)
{
    return client->capabilities.dsn;
}

const struct tls_facts *smtp_client_tls(const struct smtp_client *client)
{
    return client->conn ? conn_tls(client->conn) : NULL;
}

const char *smtp_client_plaintext_reason(const struct smtp_client *client)
{
    return client->plaintext_reason;
}

void smtp_client_quit(struct smtp_client **client)
{
    struct smtp_client *old = *client;

    if (!old)
        return;
    *client = NULL;
    old->write_deadline_ms = loop_now_ms() + CLIENT_QUIT_TIMEOUT_MS;
    client_write(old, STR("QUIT\r\n"));
    client_read_reply(old, CLIENT_EXPECT_FINAL, "QUIT", CLIENT_QUIT_TIMEOUT_MS);
    if (old->conn)
        conn_close(&old->conn);
    buf_release(&old->command);
    free(old);
}

/* ---- what can't be sent to this server ---- */

static bool is_command_text(struct str text)
{
    if (text.length > COMMAND_TEXT_BYTES_MAX)
        return false;
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];

        if (c < 0x20 || c == 0x7f)
            return false;
    }
    return true;
}

/* The envelope's texts were checked when they came in; what ends a line must not get out even if the spool has been tampered with. */
static bool is_envelope_sound(const struct smtp_client_transaction *transaction)
{
    if (!is_command_text(transaction->sender) || !is_command_text(transaction->envid))
        return false;
    for (size_t i = 0; i < transaction->recipient_count; i++) {
        if (!is_command_text(transaction->recipients[i].address) || !is_command_text(transaction->recipients[i].orcpt))
            return false;
    }
    return true;
}

static void refuse_all(struct smtp_client_transaction *transaction, const char *status, const char *text)
{
    for (size_t i = 0; i < transaction->recipient_count; i++)
        client_result_set(&transaction->recipients[i].result, status, true, text);
}

/* true: refused on the spot, for good; nothing is sent. */
static bool refuse(const struct smtp_client *client, struct smtp_client_transaction *transaction)
{
    const struct reply_capabilities *capabilities = &client->capabilities;
    char text[128];

    if (!is_envelope_sound(transaction)) {
        refuse_all(transaction, "5.1.3", "The envelope can't be sent: an address or parameter is malformed");
        return true;
    }
    if (transaction->needs_smtputf8 && !capabilities->smtputf8) {
        refuse_all(transaction, "5.6.7", "The message needs SMTPUTF8, which the next server does not offer");
        return true;
    }
    if (transaction->needs_8bitmime && !capabilities->eightbitmime) {
        refuse_all(transaction, "5.6.3", "The message is 8-bit, and the next server does not offer 8BITMIME");
        return true;
    }
    if (capabilities->size && capabilities->size_max > 0 && transaction->body_bytes > capabilities->size_max) {
        snprintf(text, sizeof(text), "The message has %llu bytes, and the next server takes at most %llu",
                 (unsigned long long)transaction->body_bytes, (unsigned long long)capabilities->size_max);
        refuse_all(transaction, "5.3.4", text);
        return true;
    }
    return false;
}

/* ---- envelope ---- */

static void start_results(struct smtp_client_transaction *transaction)
{
    transaction->untried = false;
    for (size_t i = 0; i < transaction->recipient_count; i++) {
        struct smtp_client_result *result = &transaction->recipients[i].result;

        result->code = 0;
        result->permanent = false;
        result->delivered = false;
        result->status[0] = '\0';
        result->text[0] = '\0';
    }
}

static void write_reset(struct smtp_client *client)
{
    client_write(client, STR("RSET\r\n"));
    client->is_reset_owed = false;
    client->is_reset_sent = true;
}

/* With PIPELINING: everything up to DATA, gathered to leave with what stands before it. */
static void write_envelope(struct smtp_client *client, const struct smtp_client_transaction *transaction)
{
    client->write_deadline_ms = loop_now_ms() + client->command_timeout_ms;
    if (client->is_reset_owed)
        write_reset(client);
    client_write_mail(client, transaction);
    for (size_t i = 0; i < transaction->recipient_count; i++)
        client_write_recipient(client, &transaction->recipients[i]);
    client_write(client, STR("DATA\r\n"));
}

/* MAIL's reply, after that of an RSET before it. True if the server took it. */
static bool exchange_mail(struct smtp_client *client, struct smtp_client_transaction *transaction)
{
    const struct reply *reply;

    if (!client->capabilities.pipelining && client->is_reset_owed)
        write_reset(client);
    if (client->is_reset_sent) {
        client->is_reset_sent = false;
        client_read_reply(client, CLIENT_EXPECT_FINAL, "RSET", client->command_timeout_ms);
    }
    if (!client->capabilities.pipelining)
        client_write_mail(client, transaction);
    reply = client_read_reply(client, CLIENT_EXPECT_FINAL, "MAIL", client->command_timeout_ms);
    if (!reply)
        return false;
    if (reply->code >= 400) {
        client_refuse_rest_by(transaction, reply);
        return false;
    }
    return true;
}

/* 552 once meant too many recipients, and says nothing about this one (RFC 5321 4.5.3.1.10). */
static void soften_too_many(struct smtp_client_result *result, const struct reply *reply)
{
    bool other_meaning = reply->has_enhanced && (reply->enhanced[1] != 5 || reply->enhanced[2] != 3);

    if (reply->code == 552 && !other_meaning) {
        result->permanent = false;
        memcpy(result->status, "4.5.3", sizeof("4.5.3"));
    }
}

/* RCPTs' replies. Returns how many recipients the server took. `is_open`: it has taken MAIL; otherwise the replies only have to be read. */
static size_t exchange_recipients(struct smtp_client *client, struct smtp_client_transaction *transaction, bool is_open)
{
    size_t accepted = 0;

    if (!is_open && !client->capabilities.pipelining)
        return 0;
    for (size_t i = 0; i < transaction->recipient_count && client->conn; i++) {
        struct smtp_client_result *result = &transaction->recipients[i].result;
        const struct reply *reply;

        if (!client->capabilities.pipelining)
            client_write_recipient(client, &transaction->recipients[i]);
        reply = client_read_reply(client, CLIENT_EXPECT_FINAL, "RCPT", client->command_timeout_ms);
        if (!reply || !is_open)
            continue;
        if (reply->code >= 400) {
            client_result_from_reply(result, reply);
            soften_too_many(result, reply);
            continue;
        }
        result->code = reply->code; /* the rest of the result comes with the reply to the dot */
        accepted++;
    }
    return accepted;
}

/* DATA's reply: true if the server waits for the message now, whether or not it has anybody to give it to. */
static bool exchange_data(struct smtp_client *client, struct smtp_client_transaction *transaction, size_t accepted)
{
    const struct reply *reply;

    if (!client->capabilities.pipelining) {
        if (accepted == 0)
            return false;
        client->write_deadline_ms = loop_now_ms() + client->command_timeout_ms;
        client_write(client, STR("DATA\r\n"));
    }
    reply = client_read_reply(client, CLIENT_EXPECT_DATA, "DATA", client->command_timeout_ms);
    if (!reply)
        return false;
    if (reply->code >= 400) {
        if (accepted > 0)
            client_refuse_rest_by(transaction, reply);
        return false;
    }
    /* RFC 2033 4.2: it had to refuse; how many replies there would be to a message for nobody, nobody knows. */
    if (client->is_lmtp && accepted == 0) {
        client_end_with(client, CLIENT_END_OUT_OF_STEP, "4.5.0", "The server wants a message for nobody");
        return false;
    }
    return true;
}

/* ---- transactions ---- */

/* One transaction on its way; `following` is the one whose envelope was chained behind its dot, or that was taken in order to try. */
struct exchange {
    const struct smtp_client_source *source;
    struct smtp_client_transaction *transaction;
    struct smtp_client_transaction *following;
    bool is_announced; /* the envelope is out already */
    bool is_following_announced;
};

/* The reply to the dot, for all who were accepted, or by LMTP for one of them each. */
static void read_final(struct smtp_client *client, struct smtp_client_transaction *transaction)
{
    const struct reply *reply = NULL;

    for (size_t i = 0; i < transaction->recipient_count; i++) {
        struct smtp_client_result *result = &transaction->recipients[i].result;

        if (!client_result_is_accepted(result))
            continue;
        if (!reply || client->is_lmtp)
            reply = client_read_reply(client, CLIENT_EXPECT_FINAL, "the end of the message", client->data_timeout_ms);
        if (!reply)
            return;
        client_result_from_reply(result, reply);
        result->delivered = reply->code < 300;
    }
    /* Nobody was accepted, and the server asked for the message all the same. */
    if (!reply)
        client_read_reply(client, CLIENT_EXPECT_FINAL, "the end of the message", client->data_timeout_ms);
}

/* The connection has ended under a transaction. */
static void set_ended(const struct smtp_client *client, struct smtp_client_transaction *transaction, bool is_untried)
{
    bool is_refused = true;

    for (size_t i = 0; i < transaction->recipient_count; i++)
        is_refused = is_refused && client_result_is_refusal(&transaction->recipients[i].result);
    transaction->untried = is_untried && !is_refused;
    client_refuse_rest(transaction, &client->failure);
}

/* Whether the connection ended by something that is not this transaction's fault, as a timeout, an unreadable or a refused body may be. */
static bool is_end_neutral(const struct smtp_client *client)
{
    return client->end == CLIENT_END_LOST || client->end == CLIENT_END_CLOSING || client->end == CLIENT_END_OUT_OF_STEP;
}

static void chain_following(struct smtp_client *client, struct exchange *exchange)
{
    if (!client->capabilities.pipelining || client->is_lmtp || !client->conn)
        return;
    exchange->following = exchange->source->next(exchange->source->context, false);
    if (!exchange->following)
        return;
    start_results(exchange->following);
    /* One that is refused on the spot has its turn when this one is through, since results come in order. */
    if (refuse(client, exchange->following))
        return;
    write_envelope(client, exchange->following);
    exchange->is_following_announced = true;
}

static void transfer(struct smtp_client *client, struct exchange *exchange)
{
    struct smtp_client_transaction *transaction = exchange->transaction;
    bool is_open, wants_message, dot_sent = false;
    size_t accepted;

    if (!exchange->is_announced && client->capabilities.pipelining)
        write_envelope(client, transaction);
    is_open = exchange_mail(client, transaction);
    accepted = exchange_recipients(client, transaction, is_open);
    wants_message =
        client->conn && (is_open || client->capabilities.pipelining) && exchange_data(client, transaction, accepted);
    if (wants_message) {
        dot_sent = client_write_message(client, transaction, accepted);
        if (dot_sent) {
            chain_following(client, exchange);
            read_final(client, transaction);
        }
    } else if (is_open) {
        client->is_reset_owed = true;
    }
    if (!client->conn)
        set_ended(client, transaction, !(dot_sent && accepted > 0) && is_end_neutral(client));
}

/* What a server has said while nothing was asked is not taken for MAIL's reply. */
static void check_silence(struct smtp_client *client)
{
    if (conn_buffered(client->conn).length == 0)
        return;
    if (client_read_reply(client, CLIENT_EXPECT_FINAL, "nothing", client->command_timeout_ms))
        client_end_with(client, CLIENT_END_OUT_OF_STEP, "4.5.0", "The server sent a reply that was not asked for");
}

static void run_one(struct smtp_client *client, struct exchange *exchange)
{
    assert(exchange->transaction->recipient_count > 0 &&
           exchange->transaction->recipient_count <= SMTP_CLIENT_RECIPIENTS_MAX);
    if (!exchange->is_announced) {
        start_results(exchange->transaction);
        if (client->conn)
            check_silence(client);
    }
    if (!client->conn) {
        set_ended(client, exchange->transaction, true);
        return;
    }
    if (!exchange->is_announced && refuse(client, exchange->transaction))
        return;
    transfer(client, exchange);
}

bool smtp_client_run(struct smtp_client *client, const struct smtp_client_source *source)
{
    struct exchange exchange = {.source = source};

    exchange.transaction = client->conn ? source->next(source->context, true) : NULL;
    while (exchange.transaction) {
        run_one(client, &exchange);
        source->finished(source->context, exchange.transaction);
        if (exchange.following)
            exchange.transaction = exchange.following;
        else
            exchange.transaction = client->conn ? source->next(source->context, true) : NULL;
        exchange.is_announced = exchange.is_following_announced;
        exchange.following = NULL;
        exchange.is_following_announced = false;
    }
    return client->conn != NULL;
}

bool smtp_client_should_back_off(const struct smtp_client *client)
{
    return client->end == CLIENT_END_CLOSING || client->end == CLIENT_END_TIMEOUT;
}
