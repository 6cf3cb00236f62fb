/* SPDX-License-Identifier: Apache-2.0 */
/* The catch is the project's own SMTP server with hooks that say yes. */
#include "relaytest/catch.h"

#include "base/buf.h"
#include "base/list.h"
#include "base/mem.h"
#include "loop/fiber.h"
#include "net/conn.h"
#include "net/listener.h"
#include "smtp/server.h"

#include <stdlib.h>
#include <unistd.h>

#define CATCH_IDLE_TIMEOUT_MS 60000
#define CATCH_ERRORS_MAX      20

struct catch
{
    struct catch_settings settings;
    struct smtp_server_settings server;
    struct listener *listener;
    struct list_link sessions;
    size_t session_count;
};

struct catch_session {
    struct list_link link;
    struct catch *catch; /* NULL once the catch is gone */
    struct conn *conn;
    struct fiber *fiber; /* while it runs */
    struct smtp_server *server;
    struct address sender;
    struct buf recipients; /* each as a length, in one byte pair, and its text */
    size_t recipient_count;
    struct buf content;
};

/* ---- recipients ---- */

/* The lengths go between, since the buffer moves while it grows. */
static void add_recipient(struct catch_session *session, struct str address)
{
    uint16_t length = (uint16_t)address.length;

    buf_append(&session->recipients, &length, sizeof(length));
    buf_append_str(&session->recipients, address);
    session->recipient_count++;
}

static size_t list_recipients(const struct catch_session *session, struct str *out)
{
    struct str rest = buf_str(&session->recipients);

    for (size_t i = 0; i < session->recipient_count; i++) {
        uint16_t length;

        memcpy(&length, rest.data, sizeof(length));
        rest = str_skip(rest, sizeof(length));
        out[i] = str_take(rest, length);
        rest = str_skip(rest, length);
    }
    return session->recipient_count;
}

/* ---- hooks ---- */

static void on_connected(void *context, struct smtp_reply *reply)
{
    const struct catch_session *session = context;

    if (!session->catch || session->catch->session_count > CATCH_SESSIONS_MAX)
        smtp_reply_set(reply, 421, "4.3.2", "Too many connections");
    else
        smtp_reply_set(reply, 220, NULL, "%s", "");
}

static void on_hello(void *context, struct str name, bool is_esmtp)
{
    (void)context;
    (void)name;
    (void)is_esmtp;
}

static const char *on_auth_mechanisms(void *context)
{
    (void)context;
    return NULL;
}

static void on_mail(void *context, const struct command_mail *mail, struct smtp_reply *reply)
{
    struct catch_session *session = context;

    session->sender = mail->sender;
    smtp_reply_set(reply, 250, "2.1.0", "Sender OK");
}

static void on_rcpt(void *context, const struct command_rcpt *rcpt, struct smtp_reply *reply)
{
    add_recipient(context, address_text(&rcpt->recipient));
    smtp_reply_set(reply, 250, "2.1.5", "Recipient OK");
}

/* What our parser takes for no address may still be what a server made of a probe: to refuse it would hide a relay. */
static void on_odd_rcpt(void *context, struct str argument, struct smtp_reply *reply)
{
    struct str path = argument;

    str_split(&path, ':');
    path = str_trim(path);
    if (str_starts_with(path, STR("<")))
        path = str_skip(path, 1);
    if (str_find_last(path, '>') != STR_NONE)
        path = str_take(path, str_find_last(path, '>'));
    add_recipient(context, str_take(path, ADDRESS_TEXT_OCTETS_MAX));
    smtp_reply_set(reply, 250, "2.1.5", "Recipient OK");
}

static void on_verify(void *context, const struct address *address, struct smtp_reply *reply)
{
    (void)context;
    (void)address;
    smtp_reply_set(reply, 252, "2.1.5", "Cannot VRFY user, but will take message");
}

static void on_message_begin(void *context, struct smtp_reply *reply)
{
    struct catch_session *session = context;

    buf_clear(&session->content);
    smtp_reply_set(reply, 354, NULL, "Go ahead");
}

static void on_message_data(void *context, struct str piece)
{
    struct catch_session *session = context;

    buf_append_str(&session->content, str_take(piece, CATCH_KEPT_BYTES_MAX - session->content.length));
}

static void on_message_end(void *context, struct smtp_reply *reply)
{
    struct catch_session *session = context;
    struct str *recipients = mem_alloc_array(CATCH_RECIPIENTS_MAX, sizeof(*recipients));
    struct catch_message message = {
        .sender = session->sender.is_null ? STR("") : address_text(&session->sender),
        .recipients = recipients,
        .recipient_count = list_recipients(session, recipients),
        .content = buf_str(&session->content),
        .peer = conn_peer(session->conn),
    };

    if (session->catch)
        session->catch->settings.arrived(session->catch->settings.context, &message);
    free(recipients);
    smtp_reply_set(reply, 250, "2.6.0", "Taken");
}

static void on_reset(void *context)
{
    struct catch_session *session = context;

    session->recipient_count = 0;
    buf_clear(&session->recipients);
    buf_release(&session->content);
}

/* Nobody is made to wait. */
static bool on_is_trusted(void *context)
{
    (void)context;
    return true;
}

static const struct smtp_server_hooks hooks = {
    .connected = on_connected,
    .hello = on_hello,
    .auth_mechanisms = on_auth_mechanisms,
    .mail = on_mail,
    .rcpt = on_rcpt,
    .odd_rcpt = on_odd_rcpt,
    .verify = on_verify,
    .message_begin = on_message_begin,
    .message_data = on_message_data,
    .message_end = on_message_end,
    .reset = on_reset,
    .is_trusted = on_is_trusted,
};

/* ---- sessions ---- */

static void end_session(struct catch_session *session)
{
    if (session->catch) {
        list_remove(&session->link);
        session->catch->session_count--;
    }
    conn_close(&session->conn);
    buf_release(&session->recipients);
    buf_release(&session->content);
    free(session);
}

static void run_session(void *argument)
{
    struct catch_session *session = argument;
    struct smtp_server_settings settings; /* a copy: the session may outlive the catch */

    session->fiber = fiber_current();
    if (session->catch) {
        settings = session->catch->server;
        smtp_server_run(&session->server,
                        &(struct smtp_server_options){
                            .conn = session->conn, .settings = &settings, .hooks = &hooks, .context = session});
    }
    end_session(session);
}

static void on_accepted(void *context, int fd, const struct net_address *peer)
{
    struct catch *catch = context;
    struct catch_session *session;

    /* One more than the limit gets to hear of it; a flood beyond that is cut without a word. */
    if (catch->session_count > CATCH_SESSIONS_MAX) {
        close(fd);
        return;
    }
    session = mem_alloc(sizeof(*session));
    session->catch = catch;
    session->conn = conn_create(fd, peer);
    buf_init(&session->recipients, CATCH_RECIPIENTS_MAX * (sizeof(uint16_t) + ADDRESS_TEXT_OCTETS_MAX));
    buf_init(&session->content, CATCH_KEPT_BYTES_MAX);
    list_append(&catch->sessions, &session->link);
    catch->session_count++;
    if (fiber_start(run_session, session) != 0)
        end_session(session);
}

/* ---- life ---- */

int catch_open(struct net_address *address, int *fd, struct error *error)
{
    return listener_open_sockets(address, fd, 1, error);
}

struct catch *catch_create(int fd, const struct catch_settings *settings)
{
    struct catch *catch = mem_alloc(sizeof(*catch));

    catch->settings = *settings;
    catch->server = (struct smtp_server_settings){
        .hostname = settings->host_name,
        .banner = STR("relaytest"),
        .normalize_newlines = true, /* reports come from servers of every kind */
        .message_bytes_max = CATCH_MESSAGE_BYTES_MAX,
        .recipients_max = CATCH_RECIPIENTS_MAX,
        .idle_timeout_ms = CATCH_IDLE_TIMEOUT_MS,
        .errors_max = CATCH_ERRORS_MAX,
    };
    list_init(&catch->sessions);
    catch->listener = listener_create(fd, on_accepted, catch);
    return catch;
}

void catch_stop(struct catch *catch)
{
    struct list_link *link;

    listener_destroy(&catch->listener);
    for (link = catch->sessions.next; link != &catch->sessions; link = link->next) {
        struct catch_session *session = LIST_ENTRY(link, struct catch_session, link);

        if (session->server)
            smtp_server_stop(session->server);
        if (session->fiber)
            fiber_cancel(session->fiber); /* in the middle of a message too */
    }
}

size_t catch_session_count(const struct catch *catch)
{
    return catch->session_count;
}

void catch_destroy(struct catch **pointer)
{
    struct catch *catch = *pointer;
    struct list_link *link;

    if (!catch)
        return;
    *pointer = NULL;
    listener_destroy(&catch->listener);
    while ((link = list_take_first(&catch->sessions)) != NULL)
        LIST_ENTRY(link, struct catch_session, link)->catch = NULL;
    free(catch);
}
