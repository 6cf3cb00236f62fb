/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection over TLS. Between it and the socket stand records: what has been read may be data already, a part of some, or none at all.
 * Whoever waits for an event while data lies ready hangs; whoever takes a cut connection for a finished one loses mail.
 */
#include "base/buf.h"
#include "tls_fixture.h"

static struct {
    struct identity root, ec;
    struct tls_tickets *tickets;
    struct tls_context *server, *client;
} shared;

static int make_shared(void **state)
{
    (void)state;
    identity_make(&shared.root, &(struct identity_wish){.name = "Test Root", .is_authority = true});
    identity_make(&shared.ec, &(struct identity_wish){.name = "mx.contoso.test", .issuer = &shared.root});
    shared.tickets = tls_tickets_create();
    shared.server = server_context(&shared.ec, shared.tickets);
    shared.client = client_context(&shared.root);
    return 0;
}

static int release_shared(void **state)
{
    (void)state;
    tls_context_release(&shared.server);
    tls_context_release(&shared.client);
    tls_tickets_destroy(&shared.tickets);
    identity_release(&shared.root);
    identity_release(&shared.ec);
    identity_remove_directory();
    return 0;
}

static unsigned char pattern(size_t position)
{
    return (unsigned char)(position * 31 + position / 251);
}

/* ---- large data ---- */

struct sending {
    struct conn *conn;
    size_t total, piece;
    struct harness_latch done;
};

static void sending_main(void *argument)
{
    struct sending *sending = argument;
    char *data = malloc(sending->piece);

    CHECK(data);
    for (size_t position = 0; position < sending->total;) {
        size_t count = sending->piece < sending->total - position ? sending->piece : sending->total - position;

        for (size_t i = 0; i < count; i++)
            data[i] = (char)pattern(position + i);
        CHECK(conn_write(sending->conn, str_make(data, count), harness_deadline()) == CONN_OK);
        position += count;
    }
    CHECK(conn_flush(sending->conn, harness_deadline()) == CONN_OK);
    free(data);
    harness_arrive(&sending->done);
}

static void check_sending(struct conn *from, struct conn *to, size_t total, size_t piece)
{
    struct sending sending = {.conn = from, .total = total, .piece = piece};
    size_t position = 0;

    CHECK(fiber_start(sending_main, &sending) == 0);
    while (position < total) {
        struct str data;

        CHECK(conn_read_some(to, harness_deadline(), &data) == CONN_OK);
        for (size_t i = 0; i < data.length; i++)
            CHECK((unsigned char)data.data[i] == pattern(position + i));
        position += data.length;
        conn_consume(to, data.length);
    }
    CHECK(position == total && conn_bytes_read(to) >= total);
    harness_wait(&sending.done, 1);
}

static void scenario_large(void *argument)
{
    struct tls_ends ends;

    (void)argument;
    tls_ends_open(&ends, shared.server, shared.client);
    check_sending(ends.client, ends.server, 1 << 20, 100000);
    check_sending(ends.server, ends.client, 1 << 20, 100000);
    check_sending(ends.client, ends.server, 1 << 20, 1000);
    check_sending(ends.server, ends.client, LOOP_BLOCK_BYTES, LOOP_BLOCK_BYTES);
    check_sending(ends.server, ends.client, LOOP_BLOCK_BYTES * 2 + 1, LOOP_BLOCK_BYTES - 1);
    check_sending(ends.client, ends.server, 1, 1);
    tls_ends_close(&ends);
}

static void test_large_data_both_ways(void **state)
{
    (void)state;
    harness_run(scenario_large, NULL);
}

/* ---- borders ---- */

/*
 * A peer whose records pass through us, so that they can be cut anywhere: its SSL writes into memory.
 */
struct cutter {
    struct tls_ends ends;
    struct peer peer;
    BIO *out;
};

static void cutter_open(struct cutter *cutter, int version)
{
    peer_connect(&cutter->peer, &cutter->ends, version, NULL);
    CHECK(peer_shake_hands(&cutter->peer, &cutter->ends, shared.server) == 1);
    CHECK(cutter->ends.server_status == CONN_OK);
    cutter->out = BIO_new(BIO_s_mem());
    SSL_set0_wbio(cutter->peer.ssl, cutter->out);
}

static void cutter_close(struct cutter *cutter)
{
    conn_close(&cutter->ends.server);
    peer_close(&cutter->peer);
}

static void cutter_write(struct cutter *cutter, struct str data)
{
    CHECK(SSL_write(cutter->peer.ssl, data.data, (int)data.length) == (int)data.length);
}

/* Sends what has been gathered, in pieces of `step` bytes, letting our end run after each. */
static void cutter_send(struct cutter *cutter, size_t step)
{
    char *data;
    size_t length = (size_t)BIO_get_mem_data(cutter->out, &data);

    for (size_t sent = 0; sent < length; fiber_yield()) {
        ssize_t count = send(cutter->peer.fd, data + sent, step < length - sent ? step : length - sent, MSG_NOSIGNAL);

        CHECK(count > 0 || errno == EAGAIN);
        if (count > 0)
            sent += (size_t)count;
    }
    CHECK(BIO_reset(cutter->out) == 1);
}

struct lines {
    struct conn *conn;
    struct buf seen;
    struct harness_latch done;
};

static void lines_main(void *argument)
{
    struct lines *lines = argument;
    struct conn_line line;
    enum conn_status status;

    while ((status = conn_read_line(lines->conn, 100, harness_deadline(), &line)) == CONN_OK) {
        buf_append_str(&lines->seen, line.text);
        buf_append_char(&lines->seen, '<');
    }
    buf_append_str(&lines->seen, str_from_cstr(conn_status_text(status)));
    harness_arrive(&lines->done);
}

static void check_cut(int version, size_t step, bool orderly)
{
    struct cutter cutter;
    struct lines lines = {0};

    cutter_open(&cutter, version);
    lines.conn = cutter.ends.server;
    buf_init(&lines.seen, 1000);
    CHECK(fiber_start(lines_main, &lines) == 0);
    /* Lines across records, several in one, an empty line, a record of one byte. */
    cutter_write(&cutter, STR("EHLO a\r\nNO"));
    cutter_write(&cutter, STR("OP"));
    cutter_write(&cutter, STR("\r"));
    cutter_write(&cutter, STR("\n\r\n"));
    cutter_write(&cutter, STR("QUIT\r\nha"));
    if (orderly)
        SSL_shutdown(cutter.peer.ssl);
    cutter_send(&cutter, step);
    shutdown(cutter.peer.fd, SHUT_WR);
    harness_wait(&lines.done, 1);
    CHECK(str_equal(buf_str(&lines.seen), STR("EHLO a<NOOP<<QUIT<connection closed")));
    buf_release(&lines.seen);
    cutter_close(&cutter);
}

static void scenario_borders(void *argument)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    static const size_t steps[] = {1, 2, 3, 5, 6, 21, 22, 23, 24, 29, 30, 31, 1000};

    (void)argument;
    for (size_t v = 0; v < 2; v++) {
        for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
            check_cut(versions[v], steps[i], true);
            check_cut(versions[v], steps[i], false);
        }
    }
}

/* However records and packets lie to each other, the lines are the same; what is cut short is never taken for a line. */
static void test_borders_of_records(void **state)
{
    (void)state;
    harness_run(scenario_borders, NULL);
}

static void scenario_buffered(void *argument)
{
    struct cutter cutter;
    struct conn *conn;
    struct conn_line line;
    struct str data;

    (void)argument;
    cutter_open(&cutter, TLS1_3_VERSION);
    conn = cutter.ends.server;
    CHECK(!conn_has_input(conn));
    /* Three records in one packet: the first read takes them all from the socket, and there is no event for the others. */
    cutter_write(&cutter, STR("one\r\n"));
    cutter_write(&cutter, STR("two\r\n"));
    cutter_write(&cutter, STR("three"));
    cutter_send(&cutter, SIZE_MAX);
    CHECK(conn_has_input(conn));
    CHECK(conn_read_line(conn, 100, harness_deadline(), &line) == CONN_OK && str_equal(line.text, STR("one")));
    CHECK(conn_buffered(conn).length == 0 && conn_has_input(conn));
    CHECK(conn_read_line(conn, 100, harness_deadline(), &line) == CONN_OK && str_equal(line.text, STR("two")));
    CHECK(conn_read_some(conn, harness_deadline(), &data) == CONN_OK && str_equal(data, STR("three")));
    conn_consume(conn, 5);
    CHECK(!conn_has_input(conn));
    CHECK(conn_read_some(conn, loop_now_ms() + 5, &data) == CONN_TIMEOUT);
    /* The last word. */
    CHECK(conn_write(conn, STR("421 bye\r\n"), harness_deadline()) == CONN_OK);
    CHECK(conn_flush(conn, harness_deadline()) == CONN_OK);
    cutter_close(&cutter);
}

/* What lies in OpenSSL's buffer makes no event on the socket: who waits for one would wait until the client gives up. */
static void test_records_that_wait_in_the_buffer(void **state)
{
    (void)state;
    harness_run(scenario_buffered, NULL);
}

/* ---- messages that are no data ---- */

static void scenario_tickets_are_no_input(void *argument)
{
    struct tls_ends ends;

    (void)argument;
    tls_ends_open(&ends, shared.server, shared.client);
    /* The server's ticket lies in the socket, and the server has said nothing. */
    CHECK(!conn_has_input(ends.client) && !conn_has_input(ends.client));
    CHECK(conn_write(ends.server, STR("x"), harness_deadline()) == CONN_OK);
    CHECK(conn_flush(ends.server, harness_deadline()) == CONN_OK);
    while (!conn_has_input(ends.client))
        fiber_yield();
    conn_close(&ends.server);
    CHECK(conn_has_input(ends.client));
    tls_ends_close(&ends);
}

/* An idle connection whose server has sent but a ticket can be used again; one that has been closed can't. */
static void test_tickets_are_no_input(void **state)
{
    (void)state;
    harness_run(scenario_tickets_are_no_input, NULL);
}

static void scenario_key_update(void *argument)
{
    struct lines lines = {0};
    struct cutter cutter;
    char room[64];

    (void)argument;
    cutter_open(&cutter, TLS1_3_VERSION);
    lines.conn = cutter.ends.server;
    buf_init(&lines.seen, 1000);
    CHECK(fiber_start(lines_main, &lines) == 0);
    for (unsigned i = 0; i < 3; i++) {
        cutter_write(&cutter, STR("before\r\n"));
        CHECK(SSL_key_update(cutter.peer.ssl, SSL_KEY_UPDATE_REQUESTED) == 1);
        cutter_write(&cutter, STR("after\r\n"));
        cutter_send(&cutter, i + 1);
    }
    shutdown(cutter.peer.fd, SHUT_WR);
    harness_wait(&lines.done, 1);
    CHECK(str_equal(buf_str(&lines.seen), STR("before<after<before<after<before<after<connection closed")));
    /* Our own keys have changed too, as asked. */
    CHECK(conn_write(cutter.ends.server, STR("new keys"), harness_deadline()) == CONN_OK);
    CHECK(conn_flush(cutter.ends.server, harness_deadline()) == CONN_CLOSED);
    CHECK(peer_read(&cutter.peer, room, sizeof(room)) == 0);
    buf_release(&lines.seen);
    cutter_close(&cutter);
}

static void scenario_key_update_answered(void *argument)
{
    struct tls_ends ends;
    struct peer peer;
    struct conn_line line;
    char room[64];

    (void)argument;
    peer_connect(&peer, &ends, TLS1_3_VERSION, NULL);
    CHECK(peer_shake_hands(&peer, &ends, shared.server) == 1);
    for (unsigned i = 0; i < 5; i++) {
        CHECK(SSL_key_update(peer.ssl, SSL_KEY_UPDATE_REQUESTED) == 1);
        peer_write(&peer, STR("hi\r\n"));
        CHECK(conn_read_line(ends.server, 100, harness_deadline(), &line) == CONN_OK &&
              str_equal(line.text, STR("hi")));
        CHECK(conn_write(ends.server, STR("ho\r\n"), harness_deadline()) == CONN_OK);
        CHECK(conn_flush(ends.server, harness_deadline()) == CONN_OK);
        CHECK(peer_read(&peer, room, sizeof(room)) == 4);
    }
    conn_close(&ends.server);
    peer_close(&peer);
}

/* A read that has to write, to somebody who does not read: the answer to a change of keys waits for room, and the data behind it for the answer. */
static void scenario_read_that_writes(void *argument)
{
    struct sending sending = {.total = 32 << 20, .piece = 100000};
    struct tls_ends ends;
    struct peer peer;
    struct str data;
    char room[16384];
    size_t received = 0;

    (void)argument;
    peer_connect(&peer, &ends, TLS1_3_VERSION, NULL);
    CHECK(peer_shake_hands(&peer, &ends, shared.server) == 1);
    sending.conn = ends.server;
    CHECK(fiber_start(sending_main, &sending) == 0);
    /* Until the system's buffers are full. */
    for (unsigned i = 0; i < 500; i++)
        fiber_yield();
    CHECK(sending.done.count == 0);
    /* Nothing of this is read before the writing is through. */
    CHECK(SSL_key_update(peer.ssl, SSL_KEY_UPDATE_REQUESTED) == 1);
    peer_write(&peer, STR("ping"));
    while (received < sending.total) {
        size_t count = peer_read(&peer, room, sizeof(room));

        CHECK(count > 0);
        received += count;
    }
    harness_wait(&sending.done, 1);
    CHECK(conn_read_some(ends.server, harness_deadline(), &data) == CONN_OK && str_equal(data, STR("ping")));
    conn_close(&ends.server);
    peer_close(&peer);
}

/* Either side may change keys at any time; the other answers, in the middle of whatever it does. */
static void test_changes_of_keys(void **state)
{
    (void)state;
    harness_run(scenario_key_update, NULL);
    harness_run(scenario_key_update_answered, NULL);
    harness_run(scenario_read_that_writes, NULL);
}

static void scenario_silent_flood(void *argument)
{
    struct cutter cutter;
    struct str data;
    enum conn_status status;

    (void)argument;
    cutter_open(&cutter, TLS1_3_VERSION);
    /* Ten bytes of data in front, so that the limit is seen to count from the last data on. */
    cutter_write(&cutter, STR("0123456789"));
    for (unsigned i = 0; i < 5000; i++) {
        CHECK(SSL_key_update(cutter.peer.ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1);
        CHECK(SSL_do_handshake(cutter.peer.ssl) == 1);
    }
    cutter_write(&cutter, STR("never seen"));
    cutter_send(&cutter, SIZE_MAX);
    CHECK(conn_read_some(cutter.ends.server, harness_deadline(), &data) == CONN_OK && data.length == 10);
    conn_consume(cutter.ends.server, 10);
    status = conn_read_some(cutter.ends.server, harness_deadline(), &data);
    CHECK(status == CONN_FAILED);
    CHECK(conn_read_some(cutter.ends.server, harness_deadline(), &data) != CONN_OK);
    cutter_close(&cutter);
}

/* Records without data cost us work and the peer next to none: who sends nothing else is not served for ever. */
static void test_a_flood_without_data(void **state)
{
    (void)state;
    harness_run(scenario_silent_flood, NULL);
}

/* ---- the end ---- */

static void scenario_close(void *argument)
{
    struct tls_ends ends;
    struct peer peer;
    struct str data;
    char room[64];

    (void)argument;
    /* We close: the peer is told so. */
    peer_connect(&peer, &ends, 0, NULL);
    CHECK(peer_shake_hands(&peer, &ends, shared.server) == 1);
    conn_close(&ends.server);
    CHECK(peer_read(&peer, room, sizeof(room)) == 0);
    CHECK(SSL_get_shutdown(peer.ssl) == SSL_RECEIVED_SHUTDOWN);
    peer_close(&peer);
    /* The peer says so, and closes. */
    peer_connect(&peer, &ends, 0, NULL);
    CHECK(peer_shake_hands(&peer, &ends, shared.server) == 1);
    CHECK(SSL_shutdown(peer.ssl) >= 0);
    CHECK(conn_read_some(ends.server, harness_deadline(), &data) == CONN_CLOSED);
    CHECK(conn_read_some(ends.server, harness_deadline(), &data) == CONN_CLOSED);
    conn_close(&ends.server);
    peer_close(&peer);
    /* Cut off, in the middle of a record and between them. */
    peer_connect(&peer, &ends, 0, NULL);
    CHECK(peer_shake_hands(&peer, &ends, shared.server) == 1);
    CHECK(send(peer.fd, "\x17\x03\x03\x00", 4, MSG_NOSIGNAL) == 4);
    shutdown(peer.fd, SHUT_WR);
    CHECK(conn_read_some(ends.server, harness_deadline(), &data) == CONN_CLOSED);
    CHECK(conn_write(ends.server, STR("x"), harness_deadline()) == CONN_OK);
    CHECK(conn_flush(ends.server, harness_deadline()) == CONN_CLOSED);
    conn_close(&ends.server);
    peer_close(&peer);
}

static void scenario_damage(void *argument)
{
    struct cutter cutter;
    struct str data;
    char *record;

    (void)argument;
    cutter_open(&cutter, TLS1_3_VERSION);
    cutter_write(&cutter, STR("good"));
    cutter_write(&cutter, STR("changed on the way"));
    record = NULL;
    CHECK(BIO_get_mem_data(cutter.out, &record) > 40);
    record[26 + 10] ^= 1;
    cutter_send(&cutter, SIZE_MAX);
    CHECK(conn_read_some(cutter.ends.server, harness_deadline(), &data) == CONN_OK && str_equal(data, STR("good")));
    conn_consume(cutter.ends.server, 4);
    CHECK(conn_read_some(cutter.ends.server, harness_deadline(), &data) == CONN_FAILED);
    CHECK(conn_read_some(cutter.ends.server, harness_deadline(), &data) != CONN_OK);
    cutter_close(&cutter);
}

static void scenario_reset(void *argument)
{
    const struct linger linger = {.l_onoff = 1};
    struct tls_ends ends;
    struct peer peer;
    struct str data;

    (void)argument;
    peer_connect(&peer, &ends, 0, NULL);
    CHECK(peer_shake_hands(&peer, &ends, shared.server) == 1);
    CHECK(setsockopt(peer.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0);
    close(peer.fd);
    CHECK(conn_write(ends.server, STR("x"), harness_deadline()) == CONN_OK);
    CHECK(conn_read_some(ends.server, harness_deadline(), &data) == CONN_CLOSED);
    CHECK(conn_errno(ends.server) == ECONNRESET || conn_errno(ends.server) == EPIPE);
    conn_linger(ends.server, loop_now_ms() + 20);
    conn_close(&ends.server);
    peer.fd = dup(0);
    peer_close(&peer);
}

struct rest {
    struct peer *peer;
    struct harness_latch done;
};

static void rest_main(void *argument)
{
    struct rest *rest = argument;
    char room[64];

    CHECK(peer_read(rest->peer, room, sizeof(room)) == 9);
    CHECK(peer_read(rest->peer, room, sizeof(room)) == 0);
    CHECK(SSL_get_shutdown(rest->peer->ssl) == SSL_RECEIVED_SHUTDOWN);
    shutdown(rest->peer->fd, SHUT_WR);
    harness_arrive(&rest->done);
}

static void scenario_linger(void *argument)
{
    struct tls_ends ends;
    struct peer peer;
    struct rest rest = {.peer = &peer};

    (void)argument;
    peer_connect(&peer, &ends, 0, NULL);
    CHECK(peer_shake_hands(&peer, &ends, shared.server) == 1);
    peer_write(&peer, STR("much that nobody wants to read\r\n"));
    CHECK(conn_write(ends.server, STR("421 bye\r\n"), harness_deadline()) == CONN_OK);
    CHECK(conn_flush(ends.server, harness_deadline()) == CONN_OK);
    CHECK(fiber_start(rest_main, &rest) == 0);
    conn_linger(ends.server, harness_deadline());
    harness_wait(&rest.done, 1);
    conn_close(&ends.server);
    peer_close(&peer);
}

/* An attacker on the way can cut and change, and must gain nothing by it; a reply that was sent must be readable. */
static void test_the_end(void **state)
{
    (void)state;
    harness_run(scenario_close, NULL);
    harness_run(scenario_damage, NULL);
    harness_run(scenario_reset, NULL);
    harness_run(scenario_linger, NULL);
}

static void scenario_no_reader(void *argument)
{
    static const char zeroes[LOOP_BLOCK_BYTES];
    struct tls_ends ends;
    enum conn_status status;

    (void)argument;
    tls_ends_open(&ends, shared.server, shared.client);
    do
        status = conn_write(ends.server, str_make(zeroes, sizeof(zeroes)), loop_now_ms() + 10);
    while (status == CONN_OK);
    CHECK(status == CONN_TIMEOUT);
    /* Half a record is out: anything behind it would be the record's other half. */
    CHECK(conn_write(ends.server, STR("421\r\n"), harness_deadline()) == CONN_OK);
    CHECK(conn_flush(ends.server, harness_deadline()) == CONN_CLOSED);
    tls_ends_close(&ends);
}

static void test_a_reader_that_never_reads(void **state)
{
    (void)state;
    harness_run(scenario_no_reader, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_data_both_ways),
        cmocka_unit_test(test_borders_of_records),
        cmocka_unit_test(test_records_that_wait_in_the_buffer),
        cmocka_unit_test(test_tickets_are_no_input),
        cmocka_unit_test(test_changes_of_keys),
        cmocka_unit_test(test_a_flood_without_data),
        cmocka_unit_test(test_the_end),
        cmocka_unit_test(test_a_reader_that_never_reads),
    };

    return cmocka_run_group_tests(tests, make_shared, release_shared);
}
