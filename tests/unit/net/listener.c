/* SPDX-License-Identifier: Apache-2.0 */
/* The only way in: sockets that are shared by mistake lose connections to a stranger, one that stops accepting is an outage. */
#include "net/listener.h"

#include "sockets.h"

#include <string.h>
#include <sys/resource.h>

static struct net_address loopback(const char *ip)
{
    struct net_address address;

    CHECK(net_address_parse_ip(str_from_cstr(ip), &address));
    return address;
}

static void close_all(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
}

/* Each loop has its own socket; all of them are one address, or a client would find only some loops. */
static void test_several_sockets_on_one_port(void **state)
{
    struct net_address address = loopback("127.0.0.1");
    int fds[4];

    (void)state;
    assert_int_equal(listener_open_sockets(&address, fds, 4, NULL), 0);
    assert_int_not_equal(address.port, 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(socket_address(fds[i]).port, address.port);
    close_all(fds, 4);
}

/* Another daemon has the port: half of the connections would go there. Nothing may be left open, so that the next try starts clean. */
static void test_an_address_in_use(void **state)
{
    int taken = socket_listen(1);
    struct net_address address = socket_address(taken);
    struct error error = {0};
    unsigned before = socket_count_open();
    int fds[4];

    (void)state;
    assert_int_equal(listener_open_sockets(&address, fds, 4, &error), -1);
    assert_int_equal(error.errno_value, EADDRINUSE);
    assert_non_null(strstr(error.text, "127.0.0.1:"));
    assert_int_equal(socket_count_open(), before);
    close(taken);
    assert_int_equal(listener_open_sockets(&address, fds, 2, &error), 0);
    /* ... and a second daemon of ours is no better. */
    assert_int_equal(listener_open_sockets(&address, fds + 2, 2, &error), -1);
    assert_int_equal(error.errno_value, EADDRINUSE);
    close_all(fds, 2);
}

static void test_an_address_of_somebody_else(void **state)
{
    struct net_address address = loopback("192.0.2.1");
    struct error error = {0};
    int fd;

    (void)state;
    assert_int_equal(listener_open_sockets(&address, &fd, 1, &error), -1);
    assert_int_equal(error.errno_value, EADDRNOTAVAIL);
}

/* ---- accepting ---- */

struct accepting {
    struct harness_latch latch;
    struct net_address peers[600];
    struct listener *listeners[3];
};

static void on_accepted(void *context, int fd, const struct net_address *peer)
{
    struct accepting *accepting = context;

    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    accepting->peers[accepting->latch.count] = *peer;
    close(fd);
    harness_arrive(&accepting->latch);
}

static bool was_accepted(const struct accepting *accepting, const struct net_address *peer)
{
    for (unsigned i = 0; i < accepting->latch.count; i++)
        if (memcmp(accepting->peers[i].ip, peer->ip, sizeof(peer->ip)) == 0 && accepting->peers[i].port == peer->port)
            return true;
    return false;
}

static void check_accepting(const char *ip, unsigned count)
{
    struct accepting accepting = {0};
    struct net_address address = loopback(ip);
    int fds[3], clients[200];

    CHECK(listener_open_sockets(&address, fds, 3, NULL) == 0);
    for (unsigned i = 0; i < 3; i++)
        accepting.listeners[i] = listener_create(fds[i], on_accepted, &accepting);
    for (unsigned i = 0; i < count; i++)
        clients[i] = socket_connect(&address);
    harness_wait(&accepting.latch, count);
    for (unsigned i = 0; i < count; i++) {
        struct net_address client = socket_address(clients[i]);

        CHECK(was_accepted(&accepting, &client));
        close(clients[i]);
    }
    for (unsigned i = 0; i < 3; i++) {
        listener_destroy(&accepting.listeners[i]);
        CHECK(accepting.listeners[i] == NULL);
        listener_destroy(&accepting.listeners[i]);
    }
}

static void scenario_accept(void *argument)
{
    (void)argument;
    check_accepting("127.0.0.1", 200);
    check_accepting("127.0.0.1", 1);
}

static void scenario_nothing(void *argument)
{
    (void)argument;
}

static void scenario_accept_ipv6(void *argument)
{
    (void)argument;
    check_accepting("::1", 20);
}

/* More connections at once than are taken in one turn of the loop; each with its true address, which decides about relaying. */
static void test_accepting(void **state)
{
    unsigned before;

    (void)state;
    harness_run(scenario_nothing, NULL); /* libuv opens a pipe with the first loop, for good */
    before = socket_count_open();
    harness_run(scenario_accept, NULL);
    assert_int_equal(socket_count_open(), before);
}

static void test_accepting_ipv6(void **state)
{
    struct net_address address = loopback("::1");
    int fd;

    (void)state;
    if (listener_open_sockets(&address, &fd, 1, NULL) != 0) {
        print_message("# this machine has no IPv6\n");
        return;
    }
    close(fd);
    harness_run(scenario_accept_ipv6, NULL);
}

/* ---- without descriptors ---- */

static void limit_descriptors(rlim_t count)
{
    struct rlimit limit;

    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = count;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

/* The lowest number that would be given out next. */
static rlim_t next_descriptor(void)
{
    int fd = dup(0);

    CHECK(fd >= 0);
    close(fd);
    return (rlim_t)fd;
}

static void scenario_no_descriptors(void *argument)
{
    struct accepting accepting = {0};
    struct net_address address = loopback("127.0.0.1");
    rlim_t usual = *(rlim_t *)argument;
    int fd, clients[3];

    CHECK(listener_open_sockets(&address, &fd, 1, NULL) == 0);
    accepting.listeners[0] = listener_create(fd, on_accepted, &accepting);
    for (unsigned i = 0; i < 3; i++)
        clients[i] = socket_connect(&address);
    limit_descriptors(next_descriptor());
    /* Long enough for the listener to try, rest, and try again. */
    CHECK(fiber_wait(loop_now_ms() + 120) == WAIT_TIMEOUT);
    CHECK(accepting.latch.count == 0);
    limit_descriptors(usual);
    harness_wait(&accepting.latch, 3);
    for (unsigned i = 0; i < 3; i++)
        close(clients[i]);
    /* Destroyed while it rests. */
    clients[0] = socket_connect(&address);
    limit_descriptors(next_descriptor());
    CHECK(fiber_wait(loop_now_ms() + 5) == WAIT_TIMEOUT);
    limit_descriptors(usual);
    listener_destroy(&accepting.listeners[0]);
    fiber_yield();
    close(clients[0]);
}

/* At the descriptor limit newcomers wait in the kernel's queue; accepting must not spin, and must come back. */
static void test_without_descriptors_it_rests(void **state)
{
    struct rlimit limit;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    harness_run(scenario_no_descriptors, &limit.rlim_cur);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_several_sockets_on_one_port),
        cmocka_unit_test(test_an_address_in_use),
        cmocka_unit_test(test_an_address_of_somebody_else),
        cmocka_unit_test(test_accepting),
        cmocka_unit_test(test_accepting_ipv6),
        cmocka_unit_test(test_without_descriptors_it_rests),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
