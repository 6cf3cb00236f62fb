/* SPDX-License-Identifier: Apache-2.0 */
/* The client's commands on their way out, the replies on their way in, and what either means as a result. */
#include "loop/loop.h"
#include "mail/dsn.h"
#include "smtp/client_private.h"
#include "smtp/reply_wait.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define END_TEXT_BYTES 200
/* An address that is longer is passed on without: each of its characters may take eight octets there, of the command's. */
#define ADDED_ORCPT_OCTETS_MAX 254

/* Copies as much as fits without cutting a UTF-8 character in two. */
static void copy_text(char *out, size_t size, struct str text)
{
    size_t length = text.length < size ? text.length : size - 1;

    if (length < text.length) {
        while (length > 0 && ((unsigned char)text.data[length] & 0xc0) == 0x80)
            length--;
    }
    if (length > 0)
        memcpy(out, text.data, length);
    out[length] = '\0';
}

void client_result_set(struct smtp_client_result *result, const char *status, bool permanent, const char *text)
{
    result->code = 0;
    result->permanent = permanent;
    result->delivered = false;
    copy_text(result->status, sizeof(result->status), str_from_cstr(status));
    copy_text(result->text, sizeof(result->text), str_from_cstr(text));
}

/* At most three digits; returns where the next character goes. */
static char *put_number(char *out, unsigned number)
{
    number %= 1000;
    if (number >= 100)
        *out++ = (char)('0' + number / 100);
    if (number >= 10)
        *out++ = (char)('0' + number / 10 % 10);
    *out++ = (char)('0' + number % 10);
    return out;
}

void client_result_from_reply(struct smtp_client_result *result, const struct reply *reply)
{
    char *end = result->status;

    result->code = reply->code;
    result->permanent = reply->code >= 500;
    result->delivered = false;
    /* Of a code without an enhanced one only the first digit is sure to say something (RFC 5321 4.2). */
    end = put_number(end, (unsigned)reply->code / 100);
    *end++ = '.';
    end = put_number(end, reply->has_enhanced ? reply->enhanced[1] : 0);
    *end++ = '.';
    end = put_number(end, reply->has_enhanced ? reply->enhanced[2] : 0);
    *end = '\0';
    copy_text(result->text, sizeof(result->text), reply_text(reply));
}

void client_refuse_rest(struct smtp_client_transaction *transaction, const struct smtp_client_result *result)
{
    for (size_t i = 0; i < transaction->recipient_count; i++) {
        struct smtp_client_result *of_recipient = &transaction->recipients[i].result;

        if (!client_result_is_refusal(of_recipient) && !of_recipient->delivered)
            *of_recipient = *result;
    }
}

void client_refuse_rest_by(struct smtp_client_transaction *transaction, const struct reply *reply)
{
    struct smtp_client_result result;

    client_result_from_reply(&result, reply);
    client_refuse_rest(transaction, &result);
}

void client_end_with(struct smtp_client *client, enum client_end end, const char *status, const char *text)
{
    if (!client->conn)
        return;
    conn_close(&client->conn);
    client->end = end;
    client_result_set(&client->failure, status, false, text);
}

static void end_by_conn(struct smtp_client *client, enum conn_status status, const char *doing, const char *about)
{
    char text[END_TEXT_BYTES];

    if (status == CONN_TIMEOUT) {
        snprintf(text, sizeof(text), "Timeout while %s %s", doing, about);
        client_end_with(client, CLIENT_END_TIMEOUT, "4.4.2", text);
        return;
    }
    snprintf(text, sizeof(text), "Connection lost while %s %s: %s", doing, about,
             status == CONN_FAILED ? strerrordesc_np(conn_errno(client->conn)) : conn_status_text(status));
    client_end_with(client, CLIENT_END_LOST, "4.4.2", text);
}

void client_write(struct smtp_client *client, struct str data)
{
    enum conn_status status;

    if (!client->conn || data.length == 0)
        return;
    status = conn_write(client->conn, data, client->write_deadline_ms);
    if (status != CONN_OK)
        end_by_conn(client, status, "sending", "to the server");
}

static void write_command(struct smtp_client *client)
{
    client->write_deadline_ms = loop_now_ms() + client->command_timeout_ms;
    client_write(client, buf_str(&client->command));
}

void client_write_mail(struct smtp_client *client, const struct smtp_client_transaction *transaction)
{
    const struct reply_capabilities *capabilities = &client->capabilities;
    struct buf *command = &client->command;

    buf_clear(command);
    buf_append_str(command, STR("MAIL FROM:<"));
    buf_append_str(command, transaction->sender);
    buf_append_char(command, '>');
    if (capabilities->size) {
        buf_append_str(command, STR(" SIZE="));
        buf_append_u64(command, transaction->body_bytes);
    }
    if (transaction->needs_8bitmime)
        buf_append_str(command, STR(" BODY=8BITMIME"));
    if (transaction->needs_smtputf8)
        buf_append_str(command, STR(" SMTPUTF8"));
    if (capabilities->dsn && (transaction->ret_full || transaction->ret_headers))
        buf_append_str(command, transaction->ret_full ? STR(" RET=FULL") : STR(" RET=HDRS"));
    if (capabilities->dsn && transaction->envid.length > 0) {
        buf_append_str(command, STR(" ENVID="));
        buf_append_str(command, transaction->envid);
    }
    buf_append_str(command, STR("\r\n"));
    write_command(client);
}

static void append_notify(struct buf *command, unsigned notify)
{
    static const struct {
        unsigned flag;
        struct str name;
    } names[] = {
        {DSN_NOTIFY_NEVER, STR_INIT("NEVER")},
        {DSN_NOTIFY_SUCCESS, STR_INIT("SUCCESS")},
        {DSN_NOTIFY_FAILURE, STR_INIT("FAILURE")},
        {DSN_NOTIFY_DELAY, STR_INIT("DELAY")},
    };
    char separator = '=';

    buf_append_str(command, STR(" NOTIFY"));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (notify & names[i].flag) {
            buf_append_char(command, separator);
            buf_append_str(command, names[i].name);
            separator = ',';
        }
    }
}

/* RFC 3461 5.2.1: a relay may add it, so that a report that comes from beyond an alias tells of the address that its reader knows. */
static void append_original(struct buf *command, const struct smtp_client_recipient *recipient)
{
    size_t before = command->length;

    buf_append_str(command, STR(" ORCPT="));
    if (recipient->orcpt.length > 0)
        buf_append_str(command, recipient->orcpt);
    else if (recipient->address.length > ADDED_ORCPT_OCTETS_MAX || !dsn_orcpt_encode(command, recipient->address))
        command->length = before;
}

void client_write_recipient(struct smtp_client *client, const struct smtp_client_recipient *recipient)
{
    const unsigned notify_all = DSN_NOTIFY_NEVER | DSN_NOTIFY_SUCCESS | DSN_NOTIFY_FAILURE | DSN_NOTIFY_DELAY;
    struct buf *command = &client->command;

    buf_clear(command);
    buf_append_str(command, STR("RCPT TO:<"));
    buf_append_str(command, recipient->address);
    buf_append_char(command, '>');
    if (client->capabilities.dsn) {
        if (recipient->notify & notify_all)
            append_notify(command, recipient->notify);
        if (recipient->orcpt.length > 0 || (recipient->notify & notify_all & ~DSN_NOTIFY_NEVER))
            append_original(command, recipient);
    }
    buf_append_str(command, STR("\r\n"));
    write_command(client);
}

static void end_out_of_step(struct smtp_client *client, const char *about)
{
    char text[END_TEXT_BYTES + REPLY_TEXT_OCTETS_MAX];
    struct str seen = reply_text(&client->parser.reply);

    snprintf(text, sizeof(text), "Reply out of step where %s was to be answered: %.*s", about, STR_ARG(seen));
    client_end_with(client, CLIENT_END_OUT_OF_STEP, "4.5.0", text);
}

static bool is_expected(enum client_expect expect, int code)
{
    switch (expect) {
    case CLIENT_EXPECT_FINAL:
    case CLIENT_EXPECT_EHLO:
        return code < 300 || code >= 400;
    case CLIENT_EXPECT_DATA:
        return code >= 300;
    case CLIENT_EXPECT_AUTH:
        return true;
    }
    return false;
}

const struct reply *client_read_reply(struct smtp_client *client, enum client_expect expect, const char *about,
                                      unsigned timeout_ms)
{
    const struct reply *reply = &client->parser.reply;
    const struct smtp_reply_wait wait = {
        .conn = client->conn, .parser = &client->parser, .deadline_ms = loop_now_ms() + timeout_ms};
    enum conn_status read;
    enum reply_status status;

    if (!client->conn)
        return NULL;
    reply_parser_init(&client->parser, expect == CLIENT_EXPECT_EHLO);
    read = smtp_reply_wait(&wait, &status);
    if (read != CONN_OK) {
        end_by_conn(client, read, "waiting for the reply to", about);
        return NULL;
    }
    if (status != REPLY_COMPLETE || !is_expected(expect, reply->code)) {
        end_out_of_step(client, about);
        return NULL;
    }
    if (reply->code == 421) { /* the server closes, whatever it was asked (RFC 5321 3.8) */
        client_end_with(client, CLIENT_END_CLOSING, "4.3.2", "");
        client_result_from_reply(&client->failure, reply);
        return NULL;
    }
    return reply;
}
