/* SPDX-License-Identifier: Apache-2.0 */
/* The dialogue with the target: commands out, replies in, sessions begun and ended. */
#include "mail/text.h"
#include "relaytest/relaytest_private.h"
#include "relaytest/secure.h"
#include "smtp/reply_wait.h"

#include <stdarg.h>
#include <stdio.h>

#define WIRE_QUIT_TIMEOUT_MS 1000
/* What is kept of a line that a transcript waits for the end of. */
#define WIRE_SEEN_BYTES_MAX 4096

/* ---- transcript ---- */

void wire_tell(struct run *run, char who, struct str line)
{
    const struct relaytest_watch *watch = &run->settings->watch;
    struct buf clean;

    if (!watch->said)
        return;
    buf_init(&clean, WIRE_SEEN_BYTES_MAX);
    text_append_clean(&clean, line, WIRE_SEEN_BYTES_MAX, true);
    watch->said(watch->context, who, buf_str(&clean));
    buf_release(&clean);
}

static void tell_lines(void *context, struct str bytes)
{
    struct run *run = context;

    while (bytes.length > 0) {
        size_t newline = str_find(bytes, '\n');
        struct str piece = str_take(bytes, newline);

        bytes = newline == STR_NONE ? STR("") : str_skip(bytes, newline + 1);
        buf_append_str(&run->seen, str_take(piece, WIRE_SEEN_BYTES_MAX - run->seen.length));
        if (newline != STR_NONE) {
            wire_tell(run, '<', str_trim(buf_str(&run->seen)));
            buf_clear(&run->seen);
        }
    }
}

/* ---- commands and replies ---- */

uint64_t wire_deadline(const struct run *run)
{
    uint64_t at_ms = loop_now_ms() + run->settings->timeout_ms;

    return at_ms < run->deadline_ms ? at_ms : run->deadline_ms;
}

void wire_close(struct run *run, enum wire_end end, const char *format, ...)
{
    va_list arguments;

    if (run->conn)
        conn_close(&run->conn);
    run->end = end;
    va_start(arguments, format);
    vsnprintf(run->end_text, sizeof(run->end_text), format, arguments);
    va_end(arguments);
    wire_tell(run, '*', str_from_cstr(run->end_text));
}

static void close_by_conn(struct run *run, enum conn_status status, const char *about)
{
    if (status != CONN_TIMEOUT && status != CONN_CANCELLED) {
        wire_close(run, WIRE_END_LOST, "the server closed the connection at %s", about);
    } else if (loop_now_ms() >= run->deadline_ms || status == CONN_CANCELLED) {
        wire_close(run, WIRE_END_OVER, "the test took too long");
    } else {
        wire_close(run, WIRE_END_TIMEOUT, "the server did not answer %s within %llu s", about,
                   (unsigned long long)(run->settings->timeout_ms / 1000));
    }
}

bool wire_write(struct run *run, struct str data)
{
    enum conn_status status;

    if (!run->conn)
        return false;
    status = conn_write(run->conn, data, wire_deadline(run));
    if (status != CONN_OK)
        close_by_conn(run, status, "what was sent");
    return status == CONN_OK;
}

const struct reply *wire_read(struct run *run, const char *about, bool is_ehlo)
{
    const struct reply *reply = &run->parser.reply;
    const struct smtp_reply_wait wait = {
        .conn = run->conn,
        .parser = &run->parser,
        .deadline_ms = wire_deadline(run),
        .seen = run->settings->watch.said ? tell_lines : NULL,
        .context = run,
    };
    enum reply_status status;
    enum conn_status read;

    if (!run->conn)
        return NULL;
    run_progress(run, about);
    reply_parser_init(&run->parser, is_ehlo);
    buf_clear(&run->seen);
    read = smtp_reply_wait(&wait, &status);
    if (read != CONN_OK) {
        close_by_conn(run, read, about);
        return NULL;
    }
    if (status == REPLY_TOO_LONG) {
        wire_close(run, WIRE_END_GARBAGE, "the server's reply to %s has no end", about);
        return NULL;
    }
    if (status != REPLY_COMPLETE) {
        wire_close(run, WIRE_END_GARBAGE, "the server's reply to %s is not SMTP: %.*s", about,
                   STR_ARG(str_take(reply_text(reply), 200)));
        return NULL;
    }
    if (reply->code == 421) { /* whatever it was asked (RFC 5321 3.8) */
        wire_close(run, WIRE_END_CLOSING, "%.*s", STR_ARG(reply_text(reply)));
        return NULL;
    }
    return reply;
}

const struct reply *wire_ask(struct run *run, const char *about, const char *shown)
{
    wire_tell(run, '>', shown ? str_from_cstr(shown) : buf_str(&run->command));
    if (!wire_write(run, buf_str(&run->command)) || !wire_write(run, STR("\r\n")))
        return NULL;
    return wire_read(run, about, false);
}

/* ---- greeting ---- */

static void set_helo_name(struct run *run, const char *verb)
{
    struct str name = str_from_cstr(run->result->client_name);
    char ip[NET_ADDRESS_TEXT_BYTES];

    buf_clear(&run->command);
    if (str_find(name, '.') != STR_NONE) {
        buf_printf(&run->command, "%s %.*s", verb, STR_ARG(name));
        return;
    }
    /* A host without a full name says its address instead (RFC 5321 4.1.4). */
    net_address_format_ip(conn_local(run->conn), ip);
    buf_printf(&run->command, "%s [%s%s]", verb, net_address_is_ipv4(conn_local(run->conn)) ? "" : "IPv6:", ip);
}

const struct reply *wire_hello(struct run *run)
{
    const struct reply *reply;

    set_helo_name(run, "EHLO");
    wire_tell(run, '>', buf_str(&run->command));
    buf_append_str(&run->command, STR("\r\n"));
    if (!wire_write(run, buf_str(&run->command)))
        return NULL;
    reply = wire_read(run, "EHLO", true);
    if (reply && reply->code / 100 == 2) {
        run->capabilities = reply->capabilities;
        return reply;
    }
    memset(&run->capabilities, 0, sizeof(run->capabilities));
    if (!reply || reply->code < 500)
        return reply;
    set_helo_name(run, "HELO"); /* a server that knows no EHLO says so with some 5xx */
    return wire_ask(run, "HELO", NULL);
}

/* A reply that ends the session before it began. */
static void refuse_session(struct run *run, const struct reply *reply)
{
    if (reply->code >= 500)
        run_fail(run, "the server does not want to speak with this client: %.*s", STR_ARG(reply_text(reply)));
    wire_close(run, WIRE_END_CLOSING, "%.*s", STR_ARG(reply_text(reply)));
}

static bool greet(struct run *run)
{
    const struct reply *reply = wire_read(run, "the connection", false);

    if (!reply)
        return false;
    if (reply->code / 100 != 2) {
        refuse_session(run, reply);
        return false;
    }
    if (!run->has_names)
        run_copy_text(run->result->banner, sizeof(run->result->banner), reply_text(reply));
    reply = wire_hello(run);
    if (!reply)
        return false;
    if (reply->code / 100 != 2) {
        refuse_session(run, reply);
        return false;
    }
    if (!run->has_names) {
        char hello[RELAYTEST_REPLY_BYTES];

        run_copy_text(hello, sizeof(hello), reply_text(reply));
        names_find(run, hello);
    }
    run->result->offers_starttls |= run->capabilities.starttls;
    run->result->offers_auth |= run->capabilities.auth;
    return secure_start_tls(run) && secure_log_in(run);
}

/* ---- sessions ---- */

static bool connect_to(struct run *run, const struct net_address *address, struct error *error)
{
    uint64_t timeout_ms =
        run->settings->timeout_ms < RUN_CONNECT_TIMEOUT_MS_MAX ? run->settings->timeout_ms : RUN_CONNECT_TIMEOUT_MS_MAX;
    char text[NET_ADDRESS_TEXT_BYTES];

    run_progress(run, "the connection");
    net_address_format(address, text);
    if (conn_connect(address, NULL, loop_now_ms() + timeout_ms, &run->conn, error) != 0)
        return false;
    run_copy_text(run->result->address, sizeof(run->result->address), str_from_cstr(text));
    return true;
}

/* The first time any of the addresses will do; then it is the same one for all probes. */
static bool connect_target(struct run *run)
{
    struct error error = {0};

    if (run->result->address[0]) {
        if (connect_to(run, &run->settings->addresses[run->address_used], &error))
            return true;
        wire_close(run, WIRE_END_LOST, "cannot connect: %s", error.text);
        return false;
    }
    for (size_t i = 0; i < run->settings->address_count; i++) {
        run->address_used = i;
        if (connect_to(run, &run->settings->addresses[i], &error))
            return true;
    }
    run_fail(run, "cannot connect: %s", error.text);
    return false;
}

/* What failed may be a limit on connections: each time a longer pause. */
static bool rest(struct run *run)
{
    static const uint64_t pauses_ms[RUN_FAILURES_IN_A_ROW_MAX] = {0, 1000, 2000, 5000, 10000};

    if (run->failures_in_a_row >= RUN_FAILURES_IN_A_ROW_MAX || run->sessions >= RUN_SESSIONS_MAX) {
        run_fail(run, "the connection fails again and again: %s", run->end_text);
        return false;
    }
    if (pauses_ms[run->failures_in_a_row] == 0)
        return true;
    run_progress(run, "a pause");
    return run_pause(run, loop_now_ms() + pauses_ms[run->failures_in_a_row], false);
}

bool wire_open(struct run *run)
{
    if (run->is_over)
        return false;
    if (run->conn && run->transactions >= RUN_TRANSACTIONS_PER_SESSION_MAX)
        wire_quit(run);
    if (run->conn)
        return true;
    if (!rest(run))
        return false;
    run->sessions++;
    run->transactions = 0;
    run->is_reset_owed = false;
    run->end = WIRE_END_NONE;
    return connect_target(run) && greet(run);
}

void wire_quit(struct run *run)
{
    if (!run->conn)
        return;
    wire_tell(run, '>', STR("QUIT"));
    if (conn_write(run->conn, STR("QUIT\r\n"), loop_now_ms() + WIRE_QUIT_TIMEOUT_MS) == CONN_OK &&
        conn_flush(run->conn, loop_now_ms() + WIRE_QUIT_TIMEOUT_MS) == CONN_OK)
        conn_linger(run->conn, loop_now_ms() + WIRE_QUIT_TIMEOUT_MS);
    conn_close(&run->conn);
}
