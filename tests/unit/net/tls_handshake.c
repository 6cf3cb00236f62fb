/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whoever connects gets a handshake from us before we know who it is: it must cost no more than its time, a few buffers, and the stack that
 * a fiber has. And nothing that was said before it may be taken for protected.
 */
#include "base/buf.h"
#include "loop/context.h"
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

/* ---- handshakes that come to nothing ---- */

struct waiting {
    struct conn *conn;
    struct fiber *fiber;
    enum conn_status status;
    struct error error;
    uint64_t deadline_ms;
    struct harness_latch started, done;
};

static void waiting_main(void *argument)
{
    struct waiting *waiting = argument;

    waiting->fiber = fiber_current();
    harness_arrive(&waiting->started);
    waiting->status = conn_accept_tls(waiting->conn, shared.server, waiting->deadline_ms, &waiting->error);
    harness_arrive(&waiting->done);
}

static void waiting_open(struct waiting *waiting, int *theirs)
{
    struct net_address address;
    int ours;

    *waiting = (struct waiting){.deadline_ms = harness_deadline()};
    socket_pair(&ours, theirs);
    address = socket_address(*theirs);
    waiting->conn = conn_create(ours, &address);
}

static void scenario_handshake_that_never_ends(void *argument)
{
    struct waiting waiting;
    int theirs;

    (void)argument;
    waiting_open(&waiting, &theirs);
    waiting.deadline_ms = loop_now_ms() + 20;
    CHECK(fiber_start(waiting_main, &waiting) == 0);
    CHECK(send(theirs, "\x16\x03\x01", 3, MSG_NOSIGNAL) == 3);
    harness_wait(&waiting.done, 1);
    CHECK(waiting.status == CONN_TIMEOUT && strcmp(waiting.error.text, "TLS: timed out") == 0);
    CHECK(!conn_tls(waiting.conn));
    conn_close(&waiting.conn);
    close(theirs);
    /* The daemon ends. */
    waiting_open(&waiting, &theirs);
    CHECK(fiber_start(waiting_main, &waiting) == 0);
    harness_wait(&waiting.started, 1);
    fiber_cancel(waiting.fiber);
    harness_wait(&waiting.done, 1);
    CHECK(waiting.status == CONN_CANCELLED);
    conn_close(&waiting.conn);
    close(theirs);
}

/* Empty or nonsensical records of a kind that OpenSSL might skip, for ever. */
static void check_endless(struct str record)
{
    struct waiting waiting;
    size_t sent = 0;
    int theirs;

    waiting_open(&waiting, &theirs);
    CHECK(fiber_start(waiting_main, &waiting) == 0);
    while (waiting.done.count == 0) {
        if (send(theirs, record.data, record.length, MSG_NOSIGNAL) == (ssize_t)record.length)
            sent += record.length;
        fiber_yield();
        CHECK(sent < 4 * CONN_TLS_HANDSHAKE_BYTES_MAX);
    }
    CHECK(waiting.status == CONN_FAILED);
    conn_close(&waiting.conn);
    close(theirs);
}

static void scenario_endless(void *argument)
{
    static char hello[16384 + 5];

    (void)argument;
    check_endless(STR("\x15\x03\x01\x00\x02\x01\x5a")); /* warnings */
    check_endless(STR("\x16\x03\x01\x00\x00"));         /* handshake records without anything */
    check_endless(STR("\x14\x03\x01\x00\x01\x01"));     /* change of cipher */
    check_endless(STR("\x17\x03\x01\x00\x01x"));        /* data */
    check_endless(STR("EHLO client\r\n"));
    check_endless(STR("\0\0\0\0\0\0\0\0"));
    /* A ClientHello that says that it is 16 MiB long. */
    memcpy(hello, "\x16\x03\x01\x40\x00\x01\xff\xff\xff\x03\x03", 11);
    check_endless(str_make(hello, sizeof(hello)));
}

static void scenario_cancel_and_close(void *argument)
{
    struct waiting waiting;
    int theirs;

    (void)argument;
    waiting_open(&waiting, &theirs);
    CHECK(fiber_start(waiting_main, &waiting) == 0);
    close(theirs);
    harness_wait(&waiting.done, 1);
    CHECK(waiting.status == CONN_CLOSED && strcmp(waiting.error.text, "TLS: the peer closed the connection") == 0);
    conn_close(&waiting.conn);
}

static void test_handshakes_that_come_to_nothing(void **state)
{
    (void)state;
    harness_run(scenario_handshake_that_never_ends, NULL);
    harness_run(scenario_endless, NULL);
    harness_run(scenario_cancel_and_close, NULL);
}

static void scenario_early(void *argument)
{
    struct tls_ends ends;
    struct peer peer;
    struct str data;
    struct buf stream;
    size_t length;

    (void)argument;
    for (size_t first = 0; first < 40; first += 13) {
        BIO *out = BIO_new(BIO_s_mem());
        char *hello;

        peer_connect(&peer, &ends, 0, NULL);
        SSL_set0_wbio(peer.ssl, out);
        CHECK(SSL_do_handshake(peer.ssl) < 0);
        length = (size_t)BIO_get_mem_data(out, &hello);
        CHECK(length > 40);
        /* A header in front and the beginning of the handshake behind it, in one packet. */
        buf_init(&stream, 10000);
        buf_append_str(&stream, STR("PROXY x\r\n"));
        buf_append(&stream, hello, length);
        CHECK(send(peer.fd, stream.data, 9 + first, MSG_NOSIGNAL) == (ssize_t)(9 + first));
        while (conn_buffered(ends.server).length < 9 + first)
            CHECK(conn_read_some(ends.server, harness_deadline(), &data) == CONN_OK);
        conn_consume(ends.server, 9);
        CHECK(send(peer.fd, stream.data + 9 + first, length - first, MSG_NOSIGNAL) == (ssize_t)(length - first));
        SSL_set_fd(peer.ssl, peer.fd);
        CHECK(peer_shake_hands(&peer, &ends, shared.server) == 1);
        CHECK(ends.server_status == CONN_OK && conn_buffered(ends.server).length == 0);
        peer_write(&peer, STR("EHLO"));
        CHECK(conn_read_some(ends.server, harness_deadline(), &data) == CONN_OK && str_equal(data, STR("EHLO")));
        buf_release(&stream);
        conn_close(&ends.server);
        peer_close(&peer);
    }
}

static void scenario_misuse(void *argument)
{
    const struct tls_client_options options = {.context = shared.client};
    struct tls_ends ends;
    struct error error;
    struct str data;

    (void)argument;
    tls_ends_open(&ends, shared.server, shared.client);
    CHECK(conn_accept_tls(ends.server, shared.server, harness_deadline(), &error) == CONN_FAILED);
    CHECK(conn_connect_tls(ends.client, &options, harness_deadline(), &error) == CONN_FAILED);
    tls_ends_close(&ends);
    /* A server that sends more behind its 220: it may be anybody's. */
    tls_ends_connect(&ends);
    CHECK(conn_write(ends.server, STR("220 ready\r\n250 and more\r\n"), harness_deadline()) == CONN_OK);
    CHECK(conn_flush(ends.server, harness_deadline()) == CONN_OK);
    CHECK(conn_read_some(ends.client, harness_deadline(), &data) == CONN_OK);
    conn_consume(ends.client, 11);
    CHECK(conn_connect_tls(ends.client, &options, harness_deadline(), &error) == CONN_FAILED);
    CHECK(strstr(error.text, "plaintext behind its reply"));
    tls_ends_close(&ends);
}

/* Nothing that came before is taken for protected, and nothing of a handshake is lost behind a PROXY header. */
static void test_what_came_before(void **state)
{
    (void)state;
    harness_run(scenario_early, NULL);
    harness_run(scenario_misuse, NULL);
}

/* ---- the cost ---- */

#if !defined(CONTEXT_ASAN) && !defined(CONTEXT_TSAN)

#define STACK_PAINTED_BYTES (52u << 10)
/* Of 64 KiB: what the session and a signal need has its place too. */
#define STACK_USED_BYTES_MAX (32u << 10)

/* Both work on the same place below their caller's frame. */
static __attribute__((noinline)) void paint_stack(void)
{
    volatile unsigned char paint[STACK_PAINTED_BYTES];

    for (size_t i = 0; i < sizeof(paint); i++)
        paint[i] = 0xa5;
}

static __attribute__((noinline)) size_t measure_stack(void)
{
    volatile unsigned char paint[STACK_PAINTED_BYTES];
    size_t untouched = 0;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
    /* Zero: given back to the system by a fiber that had to wait for long. */
    while (untouched < sizeof(paint) && (paint[untouched] == 0xa5 || paint[untouched] == 0))
        untouched++;
#pragma GCC diagnostic pop
    return sizeof(paint) - untouched;
}

struct measured {
    struct tls_ends *ends;
    size_t stack_bytes;
    struct harness_latch done;
};

static void measured_main(void *argument)
{
    struct measured *measured = argument;
    struct tls_ends *ends = measured->ends;

    paint_stack();
    ends->server_status = conn_accept_tls(ends->server, ends->server_context, harness_deadline(), &ends->server_error);
    measured->stack_bytes = measure_stack();
    harness_arrive(&measured->done);
}

static void check_stack(const char *what, const struct identity *identity)
{
    struct tls_context *server = server_context(identity, shared.tickets);
    struct tls_client_options options = {
        .context = shared.client, .server_name = STR("mx.contoso.test"), .verification = TLS_VERIFY_NAME};
    struct tls_ends ends;
    struct measured measured = {.ends = &ends};
    size_t client_bytes;

    tls_ends_connect(&ends);
    ends.server_context = server;
    CHECK(fiber_start(measured_main, &measured) == 0);
    paint_stack();
    ends.client_status = conn_connect_tls(ends.client, &options, harness_deadline(), &ends.client_error);
    client_bytes = measure_stack();
    harness_wait(&measured.done, 1);
    CHECK(ends.server_status == CONN_OK && ends.client_status == CONN_OK);
    print_message("# stack of a handshake, %s: %zu as server, %zu as client\n", what, measured.stack_bytes,
                  client_bytes);
    CHECK(measured.stack_bytes <= STACK_USED_BYTES_MAX && client_bytes <= STACK_USED_BYTES_MAX);
    tls_ends_close(&ends);
    tls_context_release(&server);
}

struct stack_case {
    const char *what;
    struct identity identity;
};

static void scenario_stack(void *argument)
{
    const struct stack_case *stack_case = argument;

    check_stack(stack_case->what, &stack_case->identity);
}

/* A handshake runs on a fiber's stack, of 64 KiB: a library that takes more would end the process. */
static void test_the_stack_of_a_handshake(void **state)
{
    static const enum key_kind kinds[] = {KEY_EC, KEY_RSA_2048, KEY_RSA_4096};
    static const char *const names[] = {"ECDSA P-256", "RSA 2048", "RSA 4096"};

    (void)state;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct stack_case stack_case = {.what = names[i]};

        identity_make(&stack_case.identity,
                      &(struct identity_wish){.name = "mx.contoso.test", .issuer = &shared.root, .key = kinds[i]});
        harness_run(scenario_stack, &stack_case);
        identity_release(&stack_case.identity);
    }
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshakes_that_come_to_nothing),
        cmocka_unit_test(test_what_came_before),
#if !defined(CONTEXT_ASAN) && !defined(CONTEXT_TSAN)
        cmocka_unit_test(test_the_stack_of_a_handshake),
#endif
    };

    return cmocka_run_group_tests(tests, make_shared, release_shared);
}
