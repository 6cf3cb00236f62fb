/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control server's deadlines, and its end. What breaks here: clients that say nothing, or read nothing, take all the places; or a daemon that is
 * told to stop waits for one of them.
 */
#include "control/client.h"
#include "control/control.h"
#include "control/protocol.h"

#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 20000
#define SHORT_MS    100
#define LONG_MS     600000

struct fixture {
    char directory[64];
    struct loop *loop;
    struct service *service;
    const struct config *config;
    struct control_socket socket;
    struct control *control;
};

static void on_wish(void *context, enum control_wish wish)
{
    (void)context;
    (void)wish;
}

static const struct config *load(const char *directory)
{
    const struct config_machine machine = {.hostname = "machine.test"};
    const struct config *config = NULL;
    struct config_errors errors;
    char text[512];

    snprintf(text, sizeof(text),
             "hostname: mail.contoso.test\nrun-dir: %s\ndata-dir: %s\ntracking: { enabled: false }\n"
             "servers: { main: { listen: [\"127.0.0.1:0\"] } }\n",
             directory, directory);
    config_errors_init(&errors);
    assert_int_equal(config_load_text(vfs_system(), "t.yaml", str_from_cstr(text), &machine, &config, &errors), 0);
    config_errors_release(&errors);
    return config;
}

static void open_fixture(struct fixture *f, unsigned idle_ms, unsigned write_ms)
{
    struct runtime *runtime;
    struct control_options options = {.ask = on_wish, .idle_timeout_ms = idle_ms, .write_timeout_ms = write_ms};

    *f = (struct fixture){.directory = "/tmp/postern-control-XXXXXX"};
    assert_non_null(mkdtemp(f->directory));
    f->config = load(f->directory);
    assert_int_equal(loop_create(&f->loop, "control", NULL), 0);
    f->service = service_create(&f->loop, 1);
    assert_int_equal(runtime_create(f->config, NULL, &runtime, NULL), 0);
    assert_int_equal(service_apply(f->service, runtime, NULL), 0);
    runtime_release(&runtime);
    assert_int_equal(control_open_socket(f->config, NULL, &f->socket, NULL), 0);
    options.socket = &f->socket;
    options.loop = f->loop;
    options.service = f->service;
    f->control = control_create(&options);
    assert_int_equal(loop_start(f->loop, NULL), 0);
    control_start(f->control);
}

static void close_fixture(struct fixture *f)
{
    control_stop(f->control);
    loop_stop(f->loop);
    loop_join(f->loop);
    loop_destroy(&f->loop);
    control_destroy(&f->control);
    control_close_socket(&f->socket);
    service_destroy(&f->service);
    config_release(&f->config);
    assert_int_equal(rmdir(f->directory), 0);
}

static int connect_to(const struct fixture *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", f->directory, CONTROL_SOCKET);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

/* All until the end; it must come. */
static size_t read_to_end(int fd, char *text, size_t room)
{
    size_t length = 0;

    for (;;) {
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        char piece[4096];
        ssize_t count;

        assert_int_equal(poll(&readable, 1, PATIENCE_MS), 1);
        count = recv(fd, piece, sizeof(piece), 0);
        if (count <= 0)
            break;
        if (length + (size_t)count < room)
            memcpy(text + length, piece, (size_t)count);
        length += (size_t)count;
    }
    text[length < room ? length : room - 1] = '\0';
    return length;
}

static void an_idle_client_is_told_and_closed(void **state)
{
    struct fixture f;
    char text[1024];
    int fd;

    (void)state;
    open_fixture(&f, SHORT_MS, LONG_MS);
    fd = connect_to(&f);
    read_to_end(fd, text, sizeof(text));
    assert_non_null(strstr(text, "\"protocol\":1"));
    assert_non_null(strstr(text, "{\"id\":null,\"error\":{\"code\":\"timeout\""));
    close(fd);
    close_fixture(&f);
}

/* Asks again and again, and reads nothing, until the socket takes no more. */
static void a_client_that_reads_nothing_is_closed(void **state)
{
    static const char request[] =
        "{\"id\":1,\"command\":\"no such command, to have a longer answer than the question\"}\n";
    struct fixture f;
    struct pollfd writable;
    ssize_t count;
    int fd;

    (void)state;
    open_fixture(&f, LONG_MS, SHORT_MS);
    fd = connect_to(&f);
    writable = (struct pollfd){.fd = fd, .events = POLLOUT};
    do {
        assert_int_equal(poll(&writable, 1, PATIENCE_MS), 1);
        count = send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (count >= 0 || errno == EAGAIN);
    assert_true(errno == EPIPE || errno == ECONNRESET);
    close(fd);
    close_fixture(&f);
}

static void a_stop_waits_for_nobody(void **state)
{
    struct fixture f;
    char text[1024];
    int idle, mute;

    (void)state;
    open_fixture(&f, LONG_MS, LONG_MS);
    idle = connect_to(&f);
    mute = connect_to(&f);
    assert_int_equal(recv(idle, text, 1, 0), 1); /* it has been greeted */
    close_fixture(&f);
    read_to_end(idle, text, sizeof(text));
    assert_non_null(strstr(text, "\"stopping\""));
    close(idle);
    close(mute);
}

static void the_library_asks_and_is_answered(void **state)
{
    struct control_client *client;
    struct fixture f;
    struct error error = {0};
    json_t *value;

    (void)state;
    open_fixture(&f, LONG_MS, LONG_MS);
    assert_int_equal(control_client_open(&client, f.directory, &error), 0);
    assert_string_equal(json_string_value(json_object_get(control_client_greeting(client), "hostname")),
                        "mail.contoso.test");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(control_client_send(client, json_pack("{s:s}", "command", "ping"), &error), 0);
        assert_int_equal(control_client_next(client, &value, &error), CONTROL_ANSWER_DONE);
        json_decref(value);
    }
    assert_int_equal(control_client_send(client, json_pack("{s:s}", "command", "nothing"), &error), 0);
    assert_int_equal(control_client_next(client, &value, &error), CONTROL_ANSWER_ERROR);
    assert_string_equal(json_string_value(json_object_get(value, "code")), "unknown-command");
    json_decref(value);
    close_fixture(&f);
    while (control_client_next(client, &value, &error) != CONTROL_ANSWER_BROKEN)
        json_decref(value);
    assert_string_equal(error.text, "the daemon has closed the connection");
    control_client_close(&client);
    assert_null(client);
    assert_int_equal(control_client_open(&client, f.directory, &error), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_idle_client_is_told_and_closed),
        cmocka_unit_test(a_client_that_reads_nothing_is_closed),
        cmocka_unit_test(a_stop_waits_for_nobody),
        cmocka_unit_test(the_library_asks_and_is_answered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
