/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets from systemd are the way to port 25 without root: one taken for another would serve the wrong clients. */
#include "net/activation.h"

#include "sockets.h"

#define FIRST_FD 3

static void hand_over(const char *count, bool to_us)
{
    char pid[16];

    snprintf(pid, sizeof(pid), "%ld", to_us ? (long)getpid() : (long)getppid());
    assert_int_equal(setenv("LISTEN_PID", pid, 1), 0);
    assert_int_equal(setenv("LISTEN_FDS", count, 1), 0);
}

/* Out of the way of the descriptors that are handed over. */
static int listen_high(void)
{
    int low = socket_listen(4);
    int high = fcntl(low, F_DUPFD_CLOEXEC, 32);

    assert_true(high >= 32);
    close(low);
    return high;
}

static void test_sockets_are_found_by_their_address(void **state)
{
    int first = listen_high(), second = listen_high();
    struct net_address address = socket_address(second), other = address;
    int fds[3];

    (void)state;
    assert_int_equal(dup2(first, FIRST_FD), FIRST_FD);
    assert_int_equal(dup2(second, FIRST_FD + 1), FIRST_FD + 1);
    close(first);
    close(second);

    hand_over("2", true);
    assert_true(activation_take(&address, fds, 3));
    for (int i = 0; i < 3; i++) {
        struct net_address taken = socket_address(fds[i]);

        assert_int_equal(taken.port, address.port);
        assert_true(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
        close(fds[i]);
    }
    assert_true(activation_take(&address, fds, 1)); /* again, for a reload */
    close(fds[0]);
    other.ip[15] = 9;
    assert_false(activation_take(&other, fds, 3));

    hand_over("1", true); /* not that one */
    assert_false(activation_take(&address, fds, 3));
    hand_over("2", false); /* not to us */
    assert_false(activation_take(&address, fds, 3));
    hand_over("two", true);
    assert_false(activation_take(&address, fds, 3));
    hand_over("99999999", true);
    assert_false(activation_take(&address, fds, 3));
    unsetenv("LISTEN_FDS");
    assert_false(activation_take(&address, fds, 3));
    close(FIRST_FD);
    close(FIRST_FD + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sockets_are_found_by_their_address)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
