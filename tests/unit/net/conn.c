/* SPDX-License-Identifier: Apache-2.0 */
/* All mail comes and goes through here: a line cut at the wrong place is a smuggled command, a reply not sent a hanging client. */
#include "net/conn.h"

#include "base/buf.h"
#include "sockets.h"

#include <pthread.h>
#include <string.h>
#include <sys/un.h>

/* Both ends: ours under test, theirs a plain socket. */
struct ends {
    struct conn *conn;
    int fd;
};

static void ends_open(struct ends *ends)
{
    int ours;

    socket_pair(&ours, &ends->fd);

    struct net_address peer = socket_address(ends->fd);

    ends->conn = conn_create(ours, &peer);
    CHECK(ends->conn);
}

static void ends_close(struct ends *ends)
{
    conn_close(&ends->conn);
    CHECK(ends->conn == NULL);
    conn_close(&ends->conn);
    if (ends->fd >= 0)
        close(ends->fd);
}

static void send_plain(int fd, struct str data)
{
    CHECK(send(fd, data.data, data.length, MSG_NOSIGNAL) == (ssize_t)data.length);
}

/* What has come to their end by now; "" if nothing has. */
static struct str receive_plain(int fd, char *room, size_t room_bytes)
{
    ssize_t count = recv(fd, room, room_bytes, 0);

    CHECK(count > 0 || (count < 0 && errno == EAGAIN));
    return str_make(room, count > 0 ? (size_t)count : 0);
}

/* ... once there is something. */
static struct str await_plain(int fd, char *room, size_t room_bytes)
{
    struct str received;

    while ((received = receive_plain(fd, room, room_bytes)).length == 0)
        fiber_yield();
    return received;
}

/* ---- lines ---- */

struct reading {
    struct ends ends;
    struct harness_latch done;
    size_t length_max;
    struct buf
        seen; /* each line: its text, then "<" for CRLF, "/" for LF, "!" for too long; at last the status that ended it */
};

static void reading_main(void *argument)
{
    struct reading *reading = argument;
    struct conn_line line;
    enum conn_status status;

    for (;;) {
        status = conn_read_line(reading->ends.conn, reading->length_max, harness_deadline(), &line);
        if (status == CONN_OK) {
            buf_append_str(&reading->seen, line.text);
            buf_append_char(&reading->seen, line.crlf ? '<' : '/');
        } else if (status == CONN_LINE_TOO_LONG) {
            buf_append_char(&reading->seen, '!');
        } else {
            break;
        }
    }
    buf_append_str(&reading->seen, str_from_cstr(conn_status_text(status)));
    harness_arrive(&reading->done);
}

/* Sends the input cut at `first` and then every `step` bytes; each piece only when the one before has been read. */
static void check_lines_cut(struct str input, size_t first, size_t step, size_t length_max, struct str expected)
{
    struct reading reading = {.length_max = length_max};
    size_t sent = 0;

    buf_init(&reading.seen, 1 << 20);
    ends_open(&reading.ends);
    CHECK(fiber_start(reading_main, &reading) == 0);
    while (sent < input.length) {
        struct str piece = str_take(str_skip(input, sent), sent == 0 && first > 0 ? first : step);

        send_plain(reading.ends.fd, piece);
        sent += piece.length;
        while (conn_bytes_read(reading.ends.conn) < sent)
            fiber_yield();
    }
    shutdown(reading.ends.fd, SHUT_WR);
    harness_wait(&reading.done, 1);
    if (!str_equal(buf_str(&reading.seen), expected))
        fprintf(stderr, "cut at %zu, then every %zu: %.*s\n", first, step, STR_ARG(buf_str(&reading.seen)));
    CHECK(str_equal(buf_str(&reading.seen), expected));
    buf_release(&reading.seen);
    ends_close(&reading.ends);
}

/* Whole, byte by byte, and cut in two at every place. */
static void check_lines(struct str input, size_t length_max, struct str expected)
{
    check_lines_cut(input, 0, input.length, length_max, expected);
    check_lines_cut(input, 0, 1, length_max, expected);
    for (size_t first = 1; first < input.length; first++)
        check_lines_cut(input, first, input.length, length_max, expected);
}

static void scenario_lines(void *argument)
{
    (void)argument;
    check_lines(STR("EHLO a\r\n\r\nlf\n\nc\rr\r\r\n\0nul\r\n"), 2048,
                STR("EHLO a<<lf//c\rr\r<\0nul<connection closed"));
    check_lines(STR("whole\r\nhalf"), 2048, STR("whole<connection closed"));
    check_lines(STR("half\r"), 2048, STR("connection closed"));
}

static void test_lines_at_all_borders(void **state)
{
    (void)state;
    harness_run(scenario_lines, NULL);
}

static void scenario_long_lines(void *argument)
{
    (void)argument;
    /* Eight bytes, the end included, may come. */
    check_lines(STR("123456\r\n1234567\r\nafter\r\n"), 8, STR("123456<!after<connection closed"));
    check_lines(STR("1234567\n12345678\nafter\n"), 8, STR("1234567/!after/connection closed"));
    check_lines(STR("12345678901234567890123\r\n\r\n1234567\r\r\n"), 8, STR("!<!connection closed"));
    check_lines(STR("12345678"), 8, STR("connection closed"));
}

/* The bound must be the same however the bytes arrive, and the rest of a long line must never be taken for a command. */
static void test_lines_that_are_too_long(void **state)
{
    (void)state;
    harness_run(scenario_long_lines, NULL);
}

static void check_longest(size_t length, bool fits)
{
    struct buf input, expected;

    buf_init(&input, 1 << 20);
    buf_init(&expected, 1 << 20);
    for (size_t i = 0; i < length - 2; i++)
        buf_append_char(&input, 'x');
    if (fits) {
        buf_append_str(&expected, buf_str(&input));
        buf_append_char(&expected, '<');
    } else {
        buf_append_char(&expected, '!');
    }
    buf_append_str(&input, STR("\r\nQUIT\r\n"));
    buf_append_str(&expected, STR("QUIT<connection closed"));
    check_lines_cut(buf_str(&input), 0, input.length, CONN_LINE_BYTES_MAX, buf_str(&expected));
    check_lines_cut(buf_str(&input), 5, 4096, CONN_LINE_BYTES_MAX, buf_str(&expected));
    check_lines_cut(buf_str(&input), length - 1, input.length, CONN_LINE_BYTES_MAX, buf_str(&expected));
    buf_release(&input);
    buf_release(&expected);
}

static void scenario_longest_lines(void *argument)
{
    (void)argument;
    check_longest(CONN_LINE_BYTES_MAX - 1, true);
    check_longest(CONN_LINE_BYTES_MAX, true);
    check_longest(CONN_LINE_BYTES_MAX + 1, false);
    check_longest(LOOP_BLOCK_BYTES, false);
    check_longest(LOOP_BLOCK_BYTES + 1, false);
    check_longest(100000, false);
}

/* The longest line that can be asked for is nearly a whole buffer: both sides of it, and lines over several buffers. */
static void test_the_longest_lines(void **state)
{
    (void)state;
    harness_run(scenario_longest_lines, NULL);
}

/* ---- chunks ---- */

static void scenario_chunks(void *argument)
{
    struct ends ends;
    struct conn_line line;
    struct str data;

    (void)argument;
    ends_open(&ends);
    CHECK(!conn_has_input(ends.conn));
    CHECK(conn_buffered(ends.conn).length == 0);
    send_plain(ends.fd, STR("BDAT 5\r\nabcdeNOOP\r\n"));
    CHECK(conn_read_line(ends.conn, 100, harness_deadline(), &line) == CONN_OK);
    CHECK(str_equal(line.text, STR("BDAT 5")) && line.crlf);
    CHECK(conn_has_input(ends.conn));
    CHECK(str_equal(conn_buffered(ends.conn), STR("abcdeNOOP\r\n")));
    CHECK(conn_read_some(ends.conn, 0, &data) == CONN_OK);
    CHECK(str_equal(data, STR("abcdeNOOP\r\n")));
    conn_consume(ends.conn, 5);
    CHECK(conn_read_line(ends.conn, 100, 0, &line) == CONN_OK);
    CHECK(str_equal(line.text, STR("NOOP")));
    /* A part of a line, taken as a chunk all the same. */
    send_plain(ends.fd, STR("part"));
    CHECK(conn_read_line(ends.conn, 100, loop_now_ms() + 5, &line) == CONN_TIMEOUT);
    CHECK(conn_read_some(ends.conn, 0, &data) == CONN_OK && str_equal(data, STR("part")));
    conn_consume(ends.conn, 2);
    send_plain(ends.fd, STR("ner\n"));
    CHECK(conn_read_line(ends.conn, 100, harness_deadline(), &line) == CONN_OK);
    CHECK(str_equal(line.text, STR("rtner")) && !line.crlf);
    ends_close(&ends);
}

/* BDAT: octets of the message and the next command stand in one packet. */
static void test_chunks_between_lines(void **state)
{
    (void)state;
    harness_run(scenario_chunks, NULL);
}

/* ---- deadlines and the end ---- */

struct trickle {
    struct ends *ends;
    struct harness_latch done;
    bool stop;
};

static void trickle_main(void *argument)
{
    struct trickle *trickle = argument;

    for (uint64_t sent = 0; !trickle->stop; fiber_yield()) {
        if (conn_bytes_read(trickle->ends->conn) == sent) {
            send_plain(trickle->ends->fd, STR("x"));
            sent++;
        }
    }
    harness_arrive(&trickle->done);
}

static void scenario_deadline(void *argument)
{
    struct ends ends;
    struct trickle trickle = {.ends = &ends};
    struct conn_line line;
    struct str data;
    char room[64];

    (void)argument;
    ends_open(&ends);
    CHECK(conn_read_some(ends.conn, loop_now_ms() + 5, &data) == CONN_TIMEOUT);
    CHECK(conn_read_line(ends.conn, 100, 0, &line) == CONN_TIMEOUT);
    CHECK(fiber_start(trickle_main, &trickle) == 0);
    /* The deadline is the line's, not each byte's. */
    CHECK(conn_read_line(ends.conn, 2048, loop_now_ms() + 20, &line) == CONN_TIMEOUT ||
          conn_read_line(ends.conn, 2048, loop_now_ms() + 20, &line) == CONN_TIMEOUT);
    trickle.stop = true;
    harness_wait(&trickle.done, 1);
    /* The last word. */
    CHECK(conn_write(ends.conn, STR("421 bye\r\n"), harness_deadline()) == CONN_OK);
    CHECK(conn_flush(ends.conn, harness_deadline()) == CONN_OK);
    CHECK(str_equal(await_plain(ends.fd, room, sizeof(room)), STR("421 bye\r\n")));
    ends_close(&ends);
}

/* A client that sends a byte now and then must not keep its connection for ever. */
static void test_deadlines(void **state)
{
    (void)state;
    harness_run(scenario_deadline, NULL);
}

struct cancel {
    struct ends ends;
    struct fiber *fiber;
    struct harness_latch waiting, done;
};

static void cancel_main(void *argument)
{
    struct cancel *cancel = argument;
    struct conn_line line;

    cancel->fiber = fiber_current();
    harness_arrive(&cancel->waiting);
    CHECK(conn_read_line(cancel->ends.conn, 100, harness_deadline(), &line) == CONN_CANCELLED);
    fiber_clear_cancel();
    CHECK(conn_write(cancel->ends.conn, STR("421\r\n"), harness_deadline()) == CONN_OK);
    CHECK(conn_flush(cancel->ends.conn, harness_deadline()) == CONN_OK);
    harness_arrive(&cancel->done);
}

static void scenario_cancel(void *argument)
{
    struct cancel cancel = {0};
    char room[64];

    (void)argument;
    ends_open(&cancel.ends);
    CHECK(fiber_start(cancel_main, &cancel) == 0);
    harness_wait(&cancel.waiting, 1);
    fiber_cancel(cancel.fiber);
    harness_wait(&cancel.done, 1);
    CHECK(str_equal(await_plain(cancel.ends.fd, room, sizeof(room)), STR("421\r\n")));
    ends_close(&cancel.ends);
}

/* At the end of the daemon, clients are told so instead of being cut off. */
static void test_a_cancelled_session_says_goodbye(void **state)
{
    (void)state;
    harness_run(scenario_cancel, NULL);
}

static void reset_plain(int fd)
{
    const struct linger linger = {.l_onoff = 1};

    CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0);
    close(fd);
}

static void scenario_reset(void *argument)
{
    struct ends ends;
    struct str data;

    (void)argument;
    ends_open(&ends);
    reset_plain(ends.fd);
    ends.fd = -1;
    CHECK(conn_read_some(ends.conn, harness_deadline(), &data) == CONN_CLOSED);
    CHECK(conn_errno(ends.conn) == ECONNRESET);
    CHECK(conn_write(ends.conn, STR("x"), harness_deadline()) == CONN_OK);
    CHECK(conn_flush(ends.conn, harness_deadline()) == CONN_CLOSED);
    ends_close(&ends);
    /* While we write. */
    ends_open(&ends);
    reset_plain(ends.fd);
    ends.fd = -1;
    for (unsigned i = 0; i < 100 && conn_write(ends.conn, STR("0123456789"), harness_deadline()) == CONN_OK; i++)
        if (conn_flush(ends.conn, harness_deadline()) == CONN_CLOSED)
            break;
    CHECK(conn_errno(ends.conn) == EPIPE || conn_errno(ends.conn) == ECONNRESET);
    ends_close(&ends);
}

/* Clients go away at any moment: a status, not a signal that ends the process. */
static void test_a_reset_by_the_peer(void **state)
{
    (void)state;
    harness_run(scenario_reset, NULL);
}

/* ---- output ---- */

static void scenario_flush_before_wait(void *argument)
{
    struct reading reading = {.length_max = 100};
    struct ends *ends = &reading.ends;
    struct conn_line line;
    char room[64];

    (void)argument;
    ends_open(ends);
    send_plain(ends->fd, STR("one\r\ntwo\r\n"));
    CHECK(conn_read_line(ends->conn, 100, harness_deadline(), &line) == CONN_OK);
    CHECK(conn_write(ends->conn, STR("250 one\r\n"), harness_deadline()) == CONN_OK);
    CHECK(conn_read_line(ends->conn, 100, harness_deadline(), &line) == CONN_OK);
    CHECK(conn_write(ends->conn, STR("250 two\r\n"), harness_deadline()) == CONN_OK);
    /* So far the client has sent more than it was answered, and nothing needs to go out. */
    CHECK(receive_plain(ends->fd, room, sizeof(room)).length == 0);
    buf_init(&reading.seen, 1000);
    CHECK(fiber_start(reading_main, &reading) == 0);
    CHECK(str_equal(await_plain(ends->fd, room, sizeof(room)), STR("250 one\r\n250 two\r\n")));
    shutdown(ends->fd, SHUT_WR);
    harness_wait(&reading.done, 1);
    buf_release(&reading.seen);
    ends_close(ends);
}

/* Replies to pipelined commands leave together; and whoever waits for the client has answered it first, or both wait for ever. */
static void test_output_goes_out_before_a_wait(void **state)
{
    (void)state;
    harness_run(scenario_flush_before_wait, NULL);
}

struct writing {
    struct ends ends;
    struct harness_latch done;
    size_t total, piece;
};

static unsigned char pattern(size_t position)
{
    return (unsigned char)(position * 31 + position / 251);
}

static void writing_main(void *argument)
{
    struct writing *writing = argument;
    char *data = malloc(writing->piece);

    CHECK(data);
    for (size_t position = 0; position < writing->total;) {
        size_t count = writing->piece < writing->total - position ? writing->piece : writing->total - position;

        for (size_t i = 0; i < count; i++)
            data[i] = (char)pattern(position + i);
        CHECK(conn_write(writing->ends.conn, str_make(data, count), harness_deadline()) == CONN_OK);
        position += count;
    }
    CHECK(conn_flush(writing->ends.conn, harness_deadline()) == CONN_OK);
    CHECK(conn_flush(writing->ends.conn, 0) == CONN_OK);
    free(data);
    harness_arrive(&writing->done);
}

static void check_slow_reader(size_t total, size_t piece)
{
    struct writing writing = {.total = total, .piece = piece};
    char room[8192];

    ends_open(&writing.ends);
    CHECK(fiber_start(writing_main, &writing) == 0);
    for (size_t position = 0; position < total;) {
        struct str received = await_plain(writing.ends.fd, room, sizeof(room));

        for (size_t i = 0; i < received.length; i++)
            CHECK((unsigned char)received.data[i] == pattern(position + i));
        position += received.length;
    }
    harness_wait(&writing.done, 1);
    CHECK(receive_plain(writing.ends.fd, room, sizeof(room)).length == 0);
    ends_close(&writing.ends);
}

static void scenario_slow_reader(void *argument)
{
    (void)argument;
    check_slow_reader(6 << 20, 100000);
    check_slow_reader(1 << 20, 1000);
    check_slow_reader(LOOP_BLOCK_BYTES, LOOP_BLOCK_BYTES);
    check_slow_reader(LOOP_BLOCK_BYTES * 2 + 1, LOOP_BLOCK_BYTES - 1);
    check_slow_reader(1, 1);
}

/* Messages are larger than any buffer; every byte must arrive, once, in order, however slowly the other side reads. */
static void test_large_writes_to_a_slow_reader(void **state)
{
    (void)state;
    harness_run(scenario_slow_reader, NULL);
}

static void scenario_no_reader(void *argument)
{
    struct ends ends;
    static const char zeroes[LOOP_BLOCK_BYTES];
    enum conn_status status;

    (void)argument;
    ends_open(&ends);
    do
        status = conn_write(ends.conn, str_make(zeroes, sizeof(zeroes)), loop_now_ms() + 10);
    while (status == CONN_OK);
    CHECK(status == CONN_TIMEOUT);
    ends_close(&ends);
}

/* A client that reads nothing costs no more than its deadline. */
static void test_a_reader_that_never_reads(void **state)
{
    (void)state;
    harness_run(scenario_no_reader, NULL);
}

/* ---- fairness ---- */

struct turns {
    struct harness_latch done;
    bool stop;
    size_t count;
};

static void turns_main(void *argument)
{
    struct turns *turns = argument;

    while (!turns->stop) {
        turns->count++;
        fiber_yield();
    }
    harness_arrive(&turns->done);
}

#define FLOOD_BYTES ((size_t)64 << 20)

/* A thread of its own, so that it never waits for the reader's loop. */
static void *flood_main(void *argument)
{
    static const char noise[65536];
    const struct ends *ends = argument;
    size_t sent = 0;

    CHECK(fcntl(ends->fd, F_SETFL, 0) == 0);
    while (sent < FLOOD_BYTES) {
        ssize_t count = send(ends->fd, noise, sizeof(noise), MSG_NOSIGNAL);

        CHECK(count > 0);
        sent += (size_t)count;
    }
    shutdown(ends->fd, SHUT_WR);
    return NULL;
}

static void scenario_flood(void *argument)
{
    struct turns turns = {0};
    struct ends ends;
    struct str data;
    pthread_t flooder;
    size_t turns_before = 0, at_a_stretch = 0, at_a_stretch_max = 0;
    enum conn_status status;

    (void)argument;
    ends_open(&ends);
    CHECK(pthread_create(&flooder, NULL, flood_main, &ends) == 0);
    CHECK(fiber_start(turns_main, &turns) == 0);
    while ((status = conn_read_some(ends.conn, harness_deadline(), &data)) == CONN_OK) {
        at_a_stretch = turns.count == turns_before ? at_a_stretch + data.length : data.length;
        turns_before = turns.count;
        if (at_a_stretch > at_a_stretch_max)
            at_a_stretch_max = at_a_stretch;
        conn_consume(ends.conn, data.length);
    }
    CHECK(status == CONN_CLOSED && conn_bytes_read(ends.conn) >= FLOOD_BYTES);
    /* Without the limit it is several MiB. */
    CHECK(at_a_stretch_max <= 32 * LOOP_BLOCK_BYTES);
    turns.stop = true;
    harness_wait(&turns.done, 1);
    pthread_join(flooder, NULL);
    ends_close(&ends);
}

/* A client that sends faster than it is served must not keep its loop from everybody else. */
static void test_a_flood_lets_others_run(void **state)
{
    (void)state;
    harness_run(scenario_flood, NULL);
}

/* ---- connecting ---- */

static struct net_address parsed(const char *ip, uint16_t port)
{
    struct net_address address;

    CHECK(net_address_parse_ip(str_from_cstr(ip), &address));
    address.port = port;
    return address;
}

static void scenario_connect(void *argument)
{
    int listening = socket_listen(8);
    struct net_address address = socket_address(listening);
    struct net_address source = parsed("127.0.0.2", 0);
    struct conn *conn = NULL;
    struct error error;
    char room[64];
    int theirs;

    (void)argument;
    CHECK(conn_connect(&address, NULL, harness_deadline(), &conn, &error) == 0);
    theirs = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    CHECK(conn_peer(conn)->port == address.port && conn_local(conn)->port != 0);
    CHECK(conn_write(conn, STR("EHLO x\r\n"), harness_deadline()) == CONN_OK);
    CHECK(conn_flush(conn, harness_deadline()) == CONN_OK);
    CHECK(str_equal(await_plain(theirs, room, sizeof(room)), STR("EHLO x\r\n")));
    conn_close(&conn);
    close(theirs);
    CHECK(conn_connect(&address, &source, harness_deadline(), &conn, &error) == 0);
    CHECK(memcmp(conn_local(conn)->ip, source.ip, sizeof(source.ip)) == 0);
    conn_close(&conn);
    close(listening);
    CHECK(conn_connect(&address, NULL, harness_deadline(), &conn, &error) == -1);
    CHECK(conn == NULL && error.errno_value == ECONNREFUSED && strstr(error.text, "127.0.0.1:"));
    source = parsed("192.0.2.1", 0);
    CHECK(conn_connect(&address, &source, harness_deadline(), &conn, &error) == -1);
    CHECK(conn == NULL && error.errno_value == EADDRNOTAVAIL && strstr(error.text, "source address"));
}

static void scenario_connect_unix(void *argument)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char directory[] = "/tmp/conn-XXXXXX", path[64], room[64], long_path[200];
    int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), theirs;
    struct conn *conn = NULL;
    struct error error;

    (void)argument;
    CHECK(mkdtemp(directory) != NULL);
    snprintf(path, sizeof(path), "%s/lmtp", directory);
    CHECK(conn_connect_unix(path, harness_deadline(), &conn, &error) == -1);
    CHECK(conn == NULL && error.errno_value == ENOENT && strstr(error.text, path));
    memcpy(address.sun_path, path, strlen(path));
    CHECK(bind(listening, (struct sockaddr *)&address, sizeof(address)) == 0);
    CHECK(conn_connect_unix(path, harness_deadline(), &conn, &error) == -1 && error.errno_value == ECONNREFUSED);
    CHECK(listen(listening, 8) == 0);
    CHECK(conn_connect_unix(path, harness_deadline(), &conn, &error) == 0);
    theirs = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    CHECK(conn_write(conn, STR("LHLO x\r\n"), harness_deadline()) == CONN_OK);
    CHECK(conn_flush(conn, harness_deadline()) == CONN_OK);
    CHECK(str_equal(await_plain(theirs, room, sizeof(room)), STR("LHLO x\r\n")));
    conn_close(&conn);
    close(theirs);
    close(listening);
    unlink(path);
    rmdir(directory);
    memset(long_path, 'x', sizeof(long_path) - 1);
    long_path[sizeof(long_path) - 1] = '\0';
    CHECK(conn_connect_unix(long_path, harness_deadline(), &conn, &error) == -1 && error.errno_value == ENAMETOOLONG);
}

static void scenario_nothing(void *argument)
{
    (void)argument;
}

static void test_connecting(void **state)
{
    unsigned before;

    (void)state;
    harness_run(scenario_nothing, NULL); /* libuv opens a pipe with the first loop, for good */
    before = socket_count_open();
    harness_run(scenario_connect, NULL);
    assert_int_equal(socket_count_open(), before);
}

/* To where the mailboxes are, on the same machine: what is wrong with the socket must be told, and nothing may leak. */
static void test_connecting_to_a_unix_socket(void **state)
{
    unsigned before = socket_count_open();

    (void)state;
    harness_run(scenario_connect_unix, NULL);
    assert_int_equal(socket_count_open(), before);
}

struct hanging {
    struct net_address address;
    struct fiber *fiber;
    struct harness_latch done;
};

static void hanging_main(void *argument)
{
    struct hanging *hanging = argument;
    struct conn *conn = NULL;
    struct error error;

    hanging->fiber = fiber_current();
    CHECK(conn_connect(&hanging->address, NULL, harness_deadline(), &conn, &error) == -1);
    CHECK(error.errno_value == ECANCELED && conn == NULL);
    harness_arrive(&hanging->done);
}

static void scenario_connect_hangs(void *argument)
{
    int listening = socket_listen(0);
    struct hanging hanging = {.address = socket_address(listening)};
    struct conn *conn = NULL;
    struct error error;
    int others[4];

    (void)argument;
    /* With the queue of connections full, the kernel answers no more. */
    for (unsigned i = 0; i < 4; i++)
        others[i] = socket_connect(&hanging.address);
    CHECK(conn_connect(&hanging.address, NULL, loop_now_ms() + 20, &conn, &error) == -1);
    CHECK(error.errno_value == ETIMEDOUT && conn == NULL);
    CHECK(fiber_start(hanging_main, &hanging) == 0);
    fiber_yield();
    fiber_cancel(hanging.fiber);
    harness_wait(&hanging.done, 1);
    for (unsigned i = 0; i < 4; i++)
        close(others[i]);
    close(listening);
}

/* A host that swallows packets must not hold a delivery longer than its time; nor may the end of the daemon wait for it. */
static void test_connecting_to_a_host_that_is_silent(void **state)
{
    unsigned before = socket_count_open();

    (void)state;
    harness_run(scenario_connect_hangs, NULL);
    assert_int_equal(socket_count_open(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_at_all_borders),
        cmocka_unit_test(test_lines_that_are_too_long),
        cmocka_unit_test(test_the_longest_lines),
        cmocka_unit_test(test_chunks_between_lines),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_a_cancelled_session_says_goodbye),
        cmocka_unit_test(test_a_reset_by_the_peer),
        cmocka_unit_test(test_output_goes_out_before_a_wait),
        cmocka_unit_test(test_large_writes_to_a_slow_reader),
        cmocka_unit_test(test_a_reader_that_never_reads),
        cmocka_unit_test(test_a_flood_lets_others_run),
        cmocka_unit_test(test_connecting),
        cmocka_unit_test(test_connecting_to_a_unix_socket),
        cmocka_unit_test(test_connecting_to_a_host_that_is_silent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
