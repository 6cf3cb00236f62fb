/* SPDX-License-Identifier: Apache-2.0 */
/* Plain sockets on the loopback, for the far end of what is tested. */
#ifndef POSTERN_TESTS_NET_SOCKETS_H
#define POSTERN_TESTS_NET_SOCKETS_H

#include "../loop/harness.h"
#include "net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

static inline struct net_address socket_address(int fd)
{
    struct sockaddr_storage storage;
    socklen_t bytes = sizeof(storage);
    struct net_address address = {0};

    CHECK(getsockname(fd, (struct sockaddr *)&storage, &bytes) == 0);
    CHECK(net_address_from_sockaddr((struct sockaddr *)&storage, &address));
    return address;
}

/* Listens on 127.0.0.1, any port. */
static inline int socket_listen(int backlog)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&in, sizeof(in)) == 0 && listen(fd, backlog) == 0);
    return fd;
}

/* Non-blocking; connected, or about to be. */
static inline int socket_connect(const struct net_address *address)
{
    struct sockaddr_storage storage;
    socklen_t bytes = net_address_to_sockaddr(address, &storage);
    int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    int on = 1;

    CHECK(fd >= 0 && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0);
    CHECK(connect(fd, (struct sockaddr *)&storage, bytes) == 0 || errno == EINPROGRESS);
    return fd;
}

/* Both ends of a TCP connection, non-blocking. */
static inline void socket_pair(int *ours, int *theirs)
{
    int listening = socket_listen(8);
    struct net_address address = socket_address(listening);

    *theirs = socket_connect(&address);
    *ours = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    CHECK(*ours >= 0);
    close(listening);
}

/* How many descriptors the process has: what a failure leaves open shows here. */
static inline unsigned socket_count_open(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

#endif
