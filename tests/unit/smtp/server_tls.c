/* SPDX-License-Identifier: Apache-2.0 */
/*
 * STARTTLS (RFC 3207) and TLS from the first byte on. The moment between plaintext and TLS is where attackers on the way put commands of their
 * own, and where a session could remember what an attacker said before.
 */
#include "../net/tls_fixture.h"
#include "server_fixture.h"

#define HELLO_KEYWORDS                                                                                                 \
    "250-mx.contoso.test Hello [127.0.0.1]\n250-PIPELINING\n250-SIZE 1000\n250-8BITMIME\n250-SMTPUTF8\n"               \
    "250-ENHANCEDSTATUSCODES\n250-DSN\n"
#define HELLO_OFFERED HELLO_KEYWORDS "250-CHUNKING\n250 STARTTLS\n"
#define HELLO_PLAIN   HELLO_KEYWORDS "250 CHUNKING\n"
#define READY         "220 2.0.0 Ready to start TLS\n"

static struct {
    struct identity identity;
    struct tls_tickets *tickets;
    struct tls_context *tls;
} shared;

static int make_shared(void **state)
{
    (void)state;
    identity_make(&shared.identity, &(struct identity_wish){.name = "mx.contoso.test"});
    shared.tickets = tls_tickets_create();
    shared.tls = server_context(&shared.identity, shared.tickets);
    return 0;
}

static int release_shared(void **state)
{
    (void)state;
    tls_context_release(&shared.tls);
    tls_tickets_destroy(&shared.tickets);
    identity_release(&shared.identity);
    identity_remove_directory();
    return 0;
}

/* ---- a client that can do TLS ---- */

static void on_secured(void *context)
{
    struct session *session = context;

    CHECK(conn_tls(session->conn) && !session->in_transaction);
    buf_append_str(&session->events, STR("secured\n"));
}

static void on_tls_failed(void *context, const struct error *error)
{
    struct session *session = context;

    CHECK(!conn_tls(session->conn));
    buf_printf(&session->events, "failed: %s\n", error->text);
}

static struct smtp_server_hooks hooks;

static void client_init(struct session *session)
{
    hooks = session_hooks;
    hooks.secured = on_secured;
    hooks.tls_failed = on_tls_failed;
    session_init(session);
    session->hooks = &hooks;
    session->settings.tls = shared.tls;
}

static void client_begin(struct session *session)
{
    session_connect(session);
    session_begin(session);
}

static void client_say(struct session *session, struct str text)
{
    CHECK(send(session->fd, text.data, text.length, MSG_NOSIGNAL) == (ssize_t)text.length);
}

/* Up to the reply to STARTTLS; then the client has nothing of the output any more. */
static void client_ask(struct session *session, struct str input, unsigned lines)
{
    session_await_lines(session, 1);
    client_say(session, input);
    session_await_lines(session, 1 + lines);
}

static void peer_attach(struct peer *peer, struct session *session)
{
    peer->fd = session->fd;
    peer->ssl_context = SSL_CTX_new(TLS_client_method());
    peer->ssl = SSL_new(peer->ssl_context);
    CHECK(SSL_set_fd(peer->ssl, peer->fd) == 1);
    SSL_set_connect_state(peer->ssl);
}

static void peer_detach(struct peer *peer)
{
    SSL_set_shutdown(peer->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(peer->ssl);
    SSL_CTX_free(peer->ssl_context);
}

static void peer_start(struct peer *peer, struct session *session)
{
    int result;

    peer_attach(peer, session);
    ERR_clear_error();
    while ((result = SSL_do_handshake(peer->ssl)) != 1) {
        CHECK(peer_is_blocked(peer, result));
        fiber_yield();
        ERR_clear_error();
    }
}

/* Reads until `lines` lines have come, or the end. They stand in `output`, their CRLF as LF. */
static void peer_read_lines(struct peer *peer, struct buf *output, unsigned lines)
{
    while (lines > 0) {
        char byte;

        if (peer_read(peer, &byte, 1) == 0)
            return;
        if (byte != '\r')
            buf_append_char(output, byte);
        lines -= byte == '\n';
    }
}

static void check_seen(struct str seen, const char *expected)
{
    if (!str_equal(seen, str_from_cstr(expected)))
        fprintf(stderr, "seen:\n%.*s\ninstead of:\n%s\n", STR_ARG(seen), expected);
    CHECK(str_equal(seen, str_from_cstr(expected)));
}

static void client_end(struct session *session)
{
    shutdown(session->fd, SHUT_WR);
    while (!session_has_ended(session))
        fiber_yield();
    close(session->fd);
}

/* ---- STARTTLS ---- */

static void scenario_starttls(void *argument)
{
    struct session session;
    struct peer peer;
    struct buf seen;

    (void)argument;
    buf_init(&seen, 10000);
    client_init(&session);
    client_begin(&session);
    client_ask(&session, STR("EHLO before\r\nSTARTTLS\r\n"), 10);
    check_seen(session_replies(&session), HELLO_OFFERED READY);
    peer_start(&peer, &session);
    peer_write(&peer, STR("MAIL FROM:<a@example.org>\r\nEHLO after\r\nHELP\r\nSTARTTLS\r\n"
                          "MAIL FROM:<a@example.org>\r\nSTARTTLS\r\nQUIT\r\n"));
    peer_read_lines(&peer, &seen, UINT32_MAX);
    check_seen(buf_str(&seen),
               "503 5.5.1 Send hello first\n" HELLO_PLAIN "214-2.0.0 This server supports the following commands:\n"
               "214 2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\n"
               "503 5.5.1 TLS already active\n250 2.1.0 a@example.org....Sender OK\n503 5.5.1 TLS already active\n"
               "221 2.0.0 mx.contoso.test Service closing transmission channel\n");
    CHECK(SSL_get_shutdown(peer.ssl) & SSL_RECEIVED_SHUTDOWN);
    check_seen(buf_str(&session.events), "ehlo 'before'\nsecured\nehlo 'after'\nmail a@example.org\nreset\n");
    client_end(&session);
    peer_detach(&peer);
    session_release(&session);
    buf_release(&seen);
}

/* After it nothing counts that was said before, and it is not offered again. */
static void test_starttls(void **state)
{
    (void)state;
    harness_run(scenario_starttls, NULL);
}

/* Plays it in plaintext. `whole`: only with all commands sent at once. */
static void check_plain(struct str input, bool whole, const char *replies, const char *events)
{
    static const size_t steps[] = {SIZE_MAX, 1, 7};
    struct session session;

    client_init(&session);
    for (size_t i = 0; i < (whole ? 1 : sizeof(steps) / sizeof(steps[0])); i++) {
        session_play(&session, input, steps[i]);
        check_seen(session_replies(&session), replies);
        check_seen(buf_str(&session.events), events);
    }
    session_release(&session);
}

static void scenario_sequence(void *argument)
{
    (void)argument;
    check_plain(STR("EHLO c\r\nSTARTTLS now\r\nNOOP\r\n"), false,
                HELLO_OFFERED "501 5.5.4 STARTTLS takes no arguments\n250 2.0.0 OK\n", "ehlo 'c'\n");
    check_plain(
        STR("EHLO c\r\nMAIL FROM:<a@example.org>\r\nSTARTTLS\r\nRCPT TO:<b@contoso.test>\r\nSTARTTLS\r\nRSET\r\n"),
        false,
        HELLO_OFFERED "250 2.1.0 a@example.org....Sender OK\n503 5.5.1 Not within a mail transaction\n"
                      "250 2.1.5 b@contoso.test\n503 5.5.1 Not within a mail transaction\n250 2.0.0 Resetting\n",
        "ehlo 'c'\nmail a@example.org\nrcpt b@contoso.test\nreset\n");
    check_plain(STR("HELP\r\n"), false,
                "214-2.0.0 This server supports the following commands:\n"
                "214 2.0.0 EHLO HELO STARTTLS MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\n",
                "");
}

static void test_sequence(void **state)
{
    (void)state;
    harness_run(scenario_sequence, NULL);
}

static void scenario_injection(void *argument)
{
    (void)argument;
    check_plain(STR("EHLO c\r\nSTARTTLS\r\nMAIL FROM:<evil@example.org>\r\n"), true,
                HELLO_OFFERED "501 5.5.1 Nothing may follow STARTTLS\n", "ehlo 'c'\n");
    check_plain(STR("STARTTLS\r\n\r\n"), true, "501 5.5.1 Nothing may follow STARTTLS\n", "");
}

/* CVE-2011-0411 and its kin: a command in plaintext behind STARTTLS, carried out as if it had come under TLS. */
static void test_commands_behind_starttls(void **state)
{
    (void)state;
    harness_run(scenario_injection, NULL);
}

/* Says `text` in plaintext, in a packet of its own, once the server waits for a handshake. Nothing of it may be answered in plaintext, but for an alert. */
static void check_no_handshake(struct str text, bool closes, const char *event)
{
    struct session session;
    size_t before;

    client_init(&session);
    client_begin(&session);
    client_ask(&session, STR("STARTTLS\r\n"), 1);
    before = session.output.length;
    client_say(&session, text);
    if (closes)
        shutdown(session.fd, SHUT_WR);
    while (!session_has_ended(&session))
        session_turn(&session);
    session_receive(&session);
    if (session.output.length > before)
        CHECK(session.output.data[before] == 0x15);
    check_seen(buf_str(&session.events), event);
    close(session.fd);
    session_release(&session);
}

static void scenario_no_handshake(void *argument)
{
    (void)argument;
    check_no_handshake(STR("EHLO client.example\r\nMAIL FROM:<a@b>\r\n"), false,
                       "failed: TLS: the peer does not speak TLS\n");
    check_no_handshake(STR(""), true, "failed: TLS: the peer closed the connection\n");
    check_no_handshake(STR("\x16\x03\x01\x02"), true, "failed: TLS: the peer closed the connection\n");
    check_no_handshake(STR("\x16\x03\x01\x00\x05\xff\xff\xff\xff\xff"), false, "failed: TLS: unexpected message\n");
}

static void scenario_slow_handshake(void *argument)
{
    struct session session;

    (void)argument;
    client_init(&session);
    session.settings.idle_timeout_ms = 200;
    client_begin(&session);
    client_ask(&session, STR("STARTTLS\r\n"), 1);
    while (!session_has_ended(&session))
        session_turn(&session);
    check_seen(buf_str(&session.events), "failed: TLS: timed out\n");
    close(session.fd);
    session_release(&session);
}

static void scenario_stopped_handshake(void *argument)
{
    struct session session;

    (void)argument;
    client_init(&session);
    client_begin(&session);
    client_ask(&session, STR("STARTTLS\r\n"), 1);
    smtp_server_stop(session.server);
    while (!session_has_ended(&session))
        session_turn(&session);
    check_seen(buf_str(&session.events), "failed: TLS: cancelled\n");
    close(session.fd);
    session_release(&session);
}

/* The session ends, the log says why, and nothing is said in plaintext that the client would not expect. */
static void test_handshakes_that_fail(void **state)
{
    (void)state;
    harness_run(scenario_no_handshake, NULL);
    harness_run(scenario_slow_handshake, NULL);
    harness_run(scenario_stopped_handshake, NULL);
}

/* ---- messages ---- */

static void scenario_message(void *argument)
{
    struct session session;
    struct peer peer;
    struct buf seen;

    (void)argument;
    buf_init(&seen, 10000);
    client_init(&session);
    client_begin(&session);
    client_ask(&session, STR("STARTTLS\r\n"), 1);
    peer_start(&peer, &session);
    peer_write(&peer, STR("HELO h\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@contoso.test>\r\nDATA\r\n"));
    peer_read_lines(&peer, &seen, 4);
    peer_write(&peer, STR("hi\r\n"));
    peer_write(&peer, STR("..dot\r\n."));
    peer_write(&peer, STR("\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@contoso.test>\r\nBDAT 4\r\nab"));
    peer_write(&peer, STR("\r\nBDAT 3 LAST\r\nc\r\nQUIT\r\n"));
    peer_read_lines(&peer, &seen, UINT32_MAX);
    check_seen(buf_str(&session.events), "secured\nhelo 'h'\nmail a@example.org\nrcpt b@contoso.test\n"
                                         "message \"hi\r\n.dot\r\n\"\nreset\nmail a@example.org\nrcpt b@contoso.test\n"
                                         "message \"ab\r\nc\r\n\"\nreset\n");
    client_end(&session);
    peer_detach(&peer);
    session_release(&session);
    buf_release(&seen);
}

/* Cut off in the middle of a chunk, after `text`, with or without close_notify. */
static void check_cut_off(struct str text, bool orderly)
{
    struct session session;
    struct peer peer;
    struct buf seen;

    buf_init(&seen, 10000);
    client_init(&session);
    client_begin(&session);
    client_ask(&session, STR("STARTTLS\r\n"), 1);
    peer_start(&peer, &session);
    peer_write(&peer, STR("HELO h\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@contoso.test>\r\n"));
    peer_read_lines(&peer, &seen, 3);
    peer_write(&peer, text);
    if (orderly)
        SSL_shutdown(peer.ssl);
    client_end(&session);
    check_seen(buf_str(&session.events), "secured\nhelo 'h'\nmail a@example.org\nrcpt b@contoso.test\nreset\n");
    CHECK(session.messages == 0);
    peer_detach(&peer);
    session_release(&session);
    buf_release(&seen);
}

static void scenario_cut_off(void *argument)
{
    static const char *const texts[] = {"BDAT 10 LAST\r\n", "BDAT 10 LAST\r\nab\r\n",
                                        "BDAT 4\r\nab\r\n", "BDAT 4\r\nab\r\nBDAT 0 LAST\r",
                                        "DATA\r\nhi\r\n",   "DATA\r\nhi\r\n.\r"};

    (void)argument;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        check_cut_off(str_from_cstr(texts[i]), false);
        check_cut_off(str_from_cstr(texts[i]), true);
    }
}

/* Whoever can cut the connection must not be able to shorten a message by it. */
static void test_messages(void **state)
{
    (void)state;
    harness_run(scenario_message, NULL);
    harness_run(scenario_cut_off, NULL);
}

/* ---- implicit TLS ---- */

static void scenario_implicit(void *argument)
{
    struct session session;
    struct peer peer;
    struct buf seen;

    (void)argument;
    buf_init(&seen, 10000);
    client_init(&session);
    session.settings.tls_is_implicit = true;
    client_begin(&session);
    peer_start(&peer, &session);
    peer_read_lines(&peer, &seen, 1);
    CHECK(str_starts_with(buf_str(&seen), STR("220 mx.contoso.test Postern ESMTP ready at ")));
    buf_clear(&seen);
    peer_write(&peer, STR("EHLO c\r\nSTARTTLS\r\nQUIT\r\n"));
    peer_read_lines(&peer, &seen, UINT32_MAX);
    check_seen(buf_str(&seen), HELLO_PLAIN "503 5.5.1 TLS already active\n"
                                           "221 2.0.0 mx.contoso.test Service closing transmission channel\n");
    check_seen(buf_str(&session.events), "secured\nehlo 'c'\n");
    client_end(&session);
    peer_detach(&peer);
    /* Refused: told so under TLS. */
    buf_clear(&seen);
    session.connect_code = 554;
    client_begin(&session);
    peer_start(&peer, &session);
    peer_read_lines(&peer, &seen, UINT32_MAX);
    check_seen(buf_str(&seen), "554 5.7.1 Client may not connect\n");
    client_end(&session);
    peer_detach(&peer);
    session_release(&session);
    buf_release(&seen);
}

static void check_implicit_fails(struct str text, const char *event)
{
    struct session session;

    client_init(&session);
    session.settings.tls_is_implicit = true;
    session.settings.idle_timeout_ms = text.length > 0 ? HARNESS_PATIENCE_MS : 30;
    client_begin(&session);
    client_say(&session, text);
    while (!session_has_ended(&session))
        session_turn(&session);
    session_receive(&session);
    CHECK(session.output.length == 0 || session.output.data[0] == 0x15);
    check_seen(buf_str(&session.events), event);
    close(session.fd);
    session_release(&session);
}

static void scenario_implicit_fails(void *argument)
{
    (void)argument;
    check_implicit_fails(STR("EHLO client.example\r\n"), "failed: TLS: the peer does not speak TLS\n");
    check_implicit_fails(STR("GET / HTTP/1.0\r\n\r\n"), "failed: TLS: the peer does not speak TLS\n");
    check_implicit_fails(STR(""), "failed: TLS: timed out\n");
}

static void scenario_early_talker(void *argument)
{
    struct session session;
    struct peer peer;
    BIO *held;
    char *data, byte;
    size_t length;

    (void)argument;
    client_init(&session);
    session.settings.tls_is_implicit = true;
    client_begin(&session);
    /* The command goes out together with the client's Finished. */
    peer_attach(&peer, &session);
    SSL_set_min_proto_version(peer.ssl, TLS1_3_VERSION);
    ERR_clear_error();
    CHECK(SSL_do_handshake(peer.ssl) < 0);
    held = BIO_new(BIO_s_mem());
    SSL_set0_wbio(peer.ssl, held);
    while (SSL_do_handshake(peer.ssl) != 1) {
        fiber_yield();
        ERR_clear_error();
    }
    CHECK(SSL_write(peer.ssl, "EHLO c\r\n", 8) == 8);
    length = (size_t)BIO_get_mem_data(held, &data);
    CHECK(send(peer.fd, data, length, MSG_NOSIGNAL) == (ssize_t)length);
    CHECK(peer_read(&peer, &byte, 1) == 0);
    client_end(&session);
    check_seen(buf_str(&session.events), "secured\n");
    peer_detach(&peer);
    session_release(&session);
}

/* smtps, RFC 8314: the same rules before the banner as without TLS. */
static void test_implicit_tls(void **state)
{
    (void)state;
    harness_run(scenario_implicit, NULL);
    harness_run(scenario_implicit_fails, NULL);
    harness_run(scenario_early_talker, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starttls),
        cmocka_unit_test(test_sequence),
        cmocka_unit_test(test_commands_behind_starttls),
        cmocka_unit_test(test_handshakes_that_fail),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_implicit_tls),
    };

    return cmocka_run_group_tests(tests, make_shared, release_shared);
}
