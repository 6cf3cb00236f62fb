/* SPDX-License-Identifier: Apache-2.0 */
#include "net/activation.h"

#include <fcntl.h>
#include <unistd.h>

#define ACTIVATION_FIRST_FD 3
#define ACTIVATION_FDS_MAX  256

/* How many descriptors from ACTIVATION_FIRST_FD on are for this process. */
static int handed_over(void)
{
    const char *pid = getenv("LISTEN_PID");
    const char *count = getenv("LISTEN_FDS");
    uint64_t pid_value, count_value;

    if (!pid || !count || !str_to_u64(str_from_cstr(pid), &pid_value) ||
        !str_to_u64(str_from_cstr(count), &count_value))
        return 0;
    if (pid_value != (uint64_t)getpid() || count_value > ACTIVATION_FDS_MAX)
        return 0;
    return (int)count_value;
}

static bool listens_on(int fd, const struct net_address *address)
{
    struct sockaddr_storage storage;
    socklen_t bytes = sizeof(storage);
    struct net_address local;
    int listening = 0;
    socklen_t listening_bytes = sizeof(listening);

    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &listening_bytes) == 0 && listening &&
           getsockname(fd, (struct sockaddr *)&storage, &bytes) == 0 &&
           net_address_from_sockaddr((struct sockaddr *)&storage, &local) && local.port == address->port &&
           memcmp(local.ip, address->ip, sizeof(local.ip)) == 0;
}

static bool duplicate(int fd, int *fds, size_t count)
{
    /* The flag belongs to the socket: all duplicates have it. */
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0)
        return false;
    for (size_t i = 0; i < count; i++) {
        fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, ACTIVATION_FIRST_FD);
        if (fds[i] < 0) {
            while (i > 0)
                close(fds[--i]);
            return false;
        }
    }
    return true;
}

bool activation_take(const struct net_address *address, int *fds, size_t count)
{
    int handed = handed_over();

    for (int fd = ACTIVATION_FIRST_FD; fd < ACTIVATION_FIRST_FD + handed; fd++)
        if (listens_on(fd, address))
            return duplicate(fd, fds, count);
    return false;
}
