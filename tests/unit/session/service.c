/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listeners, sessions and reloads together, on real loops: a reload must drop nobody, and a stop must tell everybody. No message is sent,
 * so there is no spool. Ports are the system's choice, and read from the log.
 */
#include "session/service.h"

#include "../net/sockets.h"
#include "base/log.h"

#include <string.h>

#define LOOPS 2

struct fixture {
    struct loop *loops[LOOPS];
    struct service *service;
    struct draft_store store;
    FILE *log;
    int log_fd; /* its other end */
    struct worker_pool *reaper;
    bool serves; /* opened, and not stopped */
};

static void fixture_open(struct fixture *fixture)
{
    int fds[2];

    *fixture = (struct fixture){0};
    assert_int_equal(pipe(fds), 0);
    fixture->log = fdopen(fds[0], "r");
    fixture->log_fd = fds[1];
    log_start(fixture->log_fd, LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
    for (unsigned i = 0; i < LOOPS; i++)
        assert_int_equal(loop_create(&fixture->loops[i], "test", NULL), 0);
    assert_int_equal(worker_pool_create(&fixture->reaper, "reaper", 1, NULL), 0);
    fixture->service = service_create(fixture->loops, LOOPS);
}

static void fixture_run(struct fixture *fixture)
{
    for (unsigned i = 0; i < LOOPS; i++)
        assert_int_equal(loop_start(fixture->loops[i], NULL), 0);
    fixture->serves = true;
    service_open(fixture->service, &fixture->store, NULL);
}

static void fixture_stop(struct fixture *fixture, unsigned grace_ms)
{
    fixture->serves = false;
    service_stop(fixture->service);
    service_wait(fixture->service, grace_ms);
}

static void fixture_close(struct fixture *fixture)
{
    if (fixture->serves)
        fixture_stop(fixture, HARNESS_PATIENCE_MS);
    service_forget(fixture->service);
    worker_pool_destroy(&fixture->reaper);
    for (unsigned i = 0; i < LOOPS; i++) {
        loop_stop(fixture->loops[i]);
        loop_join(fixture->loops[i]);
        loop_destroy(&fixture->loops[i]);
    }
    service_destroy(&fixture->service);
    assert_null(fixture->service);
    log_stop();
    log_start(STDERR_FILENO, LOG_FORMAT_TEXT, LOG_LEVEL_INFO); /* for whatever comes between two tests */
    log_stop();
    close(fixture->log_fd);
    fclose(fixture->log);
}

/* The port of the listener that is logged next. */
static uint16_t next_port(struct fixture *fixture)
{
    char line[512];
    const char *place;

    do
        assert_non_null(fgets(line, sizeof(line), fixture->log));
    while (!strstr(line, " listening "));
    place = strstr(line, "127.0.0.1:");
    assert_non_null(place);
    return (uint16_t)strtoul(place + 10, NULL, 10);
}

static int apply(struct fixture *fixture, const char *hostname, const char *servers, struct error *error)
{
    const struct config_machine machine = {.hostname = "machine.test"};
    const struct config *config = NULL;
    struct runtime *runtime;
    struct config_errors errors;
    char text[2048];
    int result;

    snprintf(
        text, sizeof(text),
        "hostname: %s\ndomains: { contoso.test: { type: local, default: true, recipients: any } }\nservers: {%s}\n",
        hostname, servers);
    config_errors_init(&errors);
    if (config_load_text(vfs_system(), "t.yaml", str_from_cstr(text), &machine, &config, &errors) != 0)
        fail_msg("%s", errors.messages[0].text);
    config_errors_release(&errors);
    assert_int_equal(runtime_create(config, NULL, &runtime, error), 0);
    assert_int_equal(runtime_open_directory(runtime, NULL, fixture->reaper, error), 0);
    result = service_apply(fixture->service, runtime, error);
    runtime_release(&runtime);
    config_release(&config);
    return result;
}

/* ---- a client ---- */

static int client_open(uint16_t port)
{
    const struct timeval patience = {.tv_sec = HARNESS_PATIENCE_MS / 1000};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    if (connect(fd, (struct sockaddr *)&in, sizeof(in)) == 0)
        return fd;
    close(fd);
    return -1;
}

/* One line; empty at the end. */
static const char *client_line(int fd)
{
    static char line[512];
    size_t length = 0;

    while (length + 1 < sizeof(line) && recv(fd, line + length, 1, 0) == 1 && line[length++] != '\n') {
    }
    line[length] = '\0';
    return line;
}

static void client_say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void assert_starts(const char *line, const char *start)
{
    if (strncmp(line, start, strlen(start)) != 0)
        fail_msg("\"%s\" does not begin with \"%s\"", line, start);
}

/* ---- tests ---- */

/* The second address is taken: the first must be given up again, at the start and at a reload. */
static void test_an_address_that_is_taken(void **state)
{
    struct fixture fixture;
    struct error error = {0};
    int taken = socket_listen(1), client;
    char servers[256];
    unsigned before;
    uint16_t port;

    (void)state;
    snprintf(servers, sizeof(servers), "one: { listen: ['127.0.0.1:0'] }, two: { listen: ['127.0.0.1:%u'] }",
             socket_address(taken).port);
    fixture_open(&fixture);
    before = socket_count_open();
    assert_int_equal(apply(&fixture, "a.test", servers, &error), -1);
    assert_int_equal(error.errno_value, EADDRINUSE);
    assert_starts(error.text, "server two: ");
    assert_int_equal(socket_count_open(), before);
    next_port(&fixture); /* of what was opened in vain */

    assert_int_equal(apply(&fixture, "a.test", "zero: { listen: ['127.0.0.1:0'] }", &error), 0);
    port = next_port(&fixture);
    fixture_run(&fixture);
    assert_int_equal(apply(&fixture, "b.test", servers, &error), -1);
    client = client_open(port);
    assert_starts(client_line(client), "220 a.test ");
    close(client);
    fixture_close(&fixture);
    close(taken);
}

/* A start that fails later than the sockets. */
static void test_a_service_that_was_never_opened(void **state)
{
    struct fixture fixture;
    unsigned before;

    (void)state;
    fixture_open(&fixture);
    before = socket_count_open();
    assert_int_equal(apply(&fixture, "a.test", "one: { listen: ['127.0.0.1:0', '127.0.0.2:0'] }", NULL), 0);
    assert_int_equal(socket_count_open(), before + 2 * LOOPS);
    fixture_close(&fixture);
}

/* Changing the configuration in the middle of the day: those who are connected notice nothing. */
static void test_a_reload(void **state)
{
    struct fixture fixture;
    uint16_t first, second, third;
    int on_first, on_second, later;

    (void)state;
    fixture_open(&fixture);
    assert_int_equal(
        apply(&fixture, "a.test", "one: { listen: ['127.0.0.1:0'] }, two: { listen: ['127.0.0.1:0'] }", NULL), 0);
    first = next_port(&fixture);
    second = next_port(&fixture);
    fixture_run(&fixture);
    on_first = client_open(first);
    on_second = client_open(second);
    assert_starts(client_line(on_first), "220 a.test Postern ESMTP ");
    assert_starts(client_line(on_second), "220 a.test ");

    assert_int_equal(apply(&fixture, "b.test",
                           "one: { listen: ['127.0.0.1:0'], banner: Hi }, three: { listen: ['127.0.0.1:0'] }", NULL),
                     0);
    third = next_port(&fixture);
    client_say(on_first, "HELO c\r\n");
    assert_starts(client_line(on_first), "250 a.test ");
    client_say(on_second, "HELO c\r\n");
    assert_starts(client_line(on_second), "250 a.test ");
    later = client_open(first);
    assert_starts(client_line(later), "220 b.test Hi ");
    close(later);
    later = client_open(third);
    assert_starts(client_line(later), "220 b.test ");
    close(later);
    /* Server two is gone, but for those who are with it: each loop closes its socket when it gets to it. */
    while ((later = client_open(second)) >= 0)
        close(later);
    client_say(on_second, "QUIT\r\n");
    assert_starts(client_line(on_second), "221 2.0.0 a.test ");
    assert_string_equal(client_line(on_second), "");
    close(on_first);
    close(on_second);
    fixture_close(&fixture);
}

/* One client too many is told so, in words that its software understands. */
static void test_too_many_connections(void **state)
{
    struct fixture fixture;
    uint16_t port;
    int one, two, three;

    (void)state;
    fixture_open(&fixture);
    assert_int_equal(
        apply(&fixture, "a.test", "one: { listen: ['127.0.0.1:0'], limits: { connections-per-client: 2 } }", NULL), 0);
    port = next_port(&fixture);
    fixture_run(&fixture);
    one = client_open(port);
    two = client_open(port);
    assert_starts(client_line(one), "220 ");
    assert_starts(client_line(two), "220 ");
    three = client_open(port);
    assert_string_equal(client_line(three), "421 4.3.2 a.test Service not available, too many connections\r\n");
    assert_string_equal(client_line(three), "");
    close(three);
    client_say(one, "QUIT\r\n");
    assert_starts(client_line(one), "221 ");
    assert_string_equal(client_line(one), "");
    close(one);
    /* The place is free a moment after the close was seen. */
    for (;;) {
        three = client_open(port);
        if (strncmp(client_line(three), "220 ", 4) == 0)
            break;
        close(three);
    }
    close(three);
    close(two);
    fixture_close(&fixture);
}

/* SIGTERM: idle clients are told, whoever has not been greeted yet too, and nobody is left. */
static void test_a_stop(void **state)
{
    struct fixture fixture;
    uint16_t port;
    int clients[20];

    (void)state;
    fixture_open(&fixture);
    assert_int_equal(apply(&fixture, "a.test", "one: { listen: ['127.0.0.1:0'] }", NULL), 0);
    port = next_port(&fixture);
    fixture_run(&fixture);
    for (unsigned i = 0; i < 20; i++) {
        clients[i] = client_open(port);
        assert_starts(client_line(clients[i]), "220 ");
    }
    fixture_stop(&fixture, HARNESS_PATIENCE_MS);
    for (unsigned i = 0; i < 20; i++) {
        assert_string_equal(client_line(clients[i]), "421 4.3.2 a.test Service shutting down\r\n");
        assert_string_equal(client_line(clients[i]), "");
        close(clients[i]);
    }
    fixture_close(&fixture);
}

/* A client in the middle of a message, who says nothing more, can't hold up the end for ever. */
static void test_a_stop_that_is_not_waited_for(void **state)
{
    struct fixture fixture;
    uint16_t port;
    int client;

    (void)state;
    fixture_open(&fixture);
    assert_int_equal(apply(&fixture, "a.test", "one: { listen: ['127.0.0.1:0'] }", NULL), 0);
    port = next_port(&fixture);
    fixture_run(&fixture);
    client = client_open(port);
    client_line(client);
    client_say(client, "HELO c\r\n");
    client_line(client);
    client_say(client, "MAIL FROM:<a@example.org>\r\n");
    assert_starts(client_line(client), "250 ");
    fixture_stop(&fixture, 20);
    assert_starts(client_line(client), "421 4.3.2 ");
    assert_string_equal(client_line(client), "");
    close(client);
    fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_address_that_is_taken),
        cmocka_unit_test(test_a_service_that_was_never_opened),
        cmocka_unit_test(test_a_reload),
        cmocka_unit_test(test_too_many_connections),
        cmocka_unit_test(test_a_stop),
        cmocka_unit_test(test_a_stop_that_is_not_waited_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
