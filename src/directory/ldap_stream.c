/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/ldap_stream.h"

#include "directory/ldap_place.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

/* Whether the socket is ready before the deadline; errno is set otherwise. */
static bool wait_ready(const struct ldap_stream *stream, short events)
{
    struct pollfd pollfd = {.fd = stream->fd, .events = events};
    int result;

    do {
        const uint64_t left_ms = ldap_time_left_ms(stream->deadline_ms);

        result = poll(&pollfd, 1, (int)(left_ms < INT_MAX ? left_ms : INT_MAX));
    } while (result < 0 && errno == EINTR);
    if (result == 0)
        errno = ETIMEDOUT;
    return result > 0;
}

/* Whether it is worth another try after a wait. Never EAGAIN for libldap: it would try again at once, and for ever. */
static bool may_go_on(const struct ldap_stream *stream, short events)
{
    if (errno == EINTR)
        return true;
    return (errno == EAGAIN || errno == EWOULDBLOCK) && wait_ready(stream, events);
}

static int stream_setup(Sockbuf_IO_Desc *description, void *argument)
{
    description->sbiod_pvt = argument;
    return 0;
}

static int stream_remove(Sockbuf_IO_Desc *description)
{
    (void)description;
    return 0;
}

static int stream_control(Sockbuf_IO_Desc *description, int option, void *argument)
{
    (void)description;
    (void)option;
    (void)argument;
    return 0; /* knows none: the end of the line */
}

static ber_slen_t stream_read(Sockbuf_IO_Desc *description, void *data, ber_len_t length)
{
    const struct ldap_stream *stream = description->sbiod_pvt;
    ssize_t count;

    do
        count = recv(stream->fd, data, length, MSG_DONTWAIT);
    while (count < 0 && may_go_on(stream, POLLIN));
    return count;
}

static ber_slen_t stream_write(Sockbuf_IO_Desc *description, void *data, ber_len_t length)
{
    const struct ldap_stream *stream = description->sbiod_pvt;
    ssize_t count;

    do
        count = send(stream->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (count < 0 && may_go_on(stream, POLLOUT));
    return count;
}

static int stream_close(Sockbuf_IO_Desc *description)
{
    struct ldap_stream *stream = description->sbiod_pvt;

    close(stream->fd);
    stream->fd = -1;
    return 0;
}

int ldap_stream_attach(Sockbuf *buffer, struct ldap_stream *stream)
{
    static Sockbuf_IO operations = {stream_setup, stream_remove, stream_control,
                                    stream_read,  stream_write,  stream_close};

    return ber_sockbuf_add_io(buffer, &operations, LBER_SBIOD_LEVEL_PROVIDER, stream);
}
