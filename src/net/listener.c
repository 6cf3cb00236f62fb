/* SPDX-License-Identifier: Apache-2.0 */
#include "net/listener.h"

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/loop.h"

#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>
#include <uv.h>

#define LISTENER_BACKLOG 4096
/* Connections taken in one turn of the loop, so that a flood of them leaves time for the others. */
#define LISTENER_ACCEPT_MAX 32
/* Without descriptors left, accepting rests this long; the kernel's queue holds the newcomers. */
#define LISTENER_PAUSE_MS 50

struct listener {
    uv_poll_t poll;
    struct loop_timer pause;
    int fd;
    listener_accept_fn *accepted;
    void *context;
};

/* Bound, not yet listening. */
static int open_bound(struct net_address *address, bool shared, struct error *error)
{
    struct sockaddr_storage storage;
    socklen_t bytes = net_address_to_sockaddr(address, &storage);
    int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    char text[NET_ADDRESS_TEXT_BYTES];

    net_address_format(address, text);
    if (fd < 0)
        return error_set_errno(error, errno, "listening on %s", text);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (shared)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    /* Each family has its own socket, so that an IPv4 client is never shown as mapped, and "[::]" and "0.0.0.0" can stand side by side. */
    if (storage.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&storage, bytes) != 0 ||
        getsockname(fd, (struct sockaddr *)&storage, &bytes) != 0) {
        error_set_errno(error, errno, "listening on %s", text);
        close(fd);
        return -1;
    }
    net_address_from_sockaddr((struct sockaddr *)&storage, address);
    return fd;
}

int listener_open_sockets(struct net_address *address, int *fds, size_t count, struct error *error)
{
    struct net_address probed = *address;
    size_t opened = 0;
    int probe;

    /* A shared port would quietly divide the connections with whoever listens there already. */
    probe = open_bound(&probed, false, error);
    if (probe < 0)
        return -1;
    close(probe);
    for (; opened < count; opened++) {
        fds[opened] = open_bound(address, true, error);
        if (fds[opened] < 0)
            break;
        if (listen(fds[opened], LISTENER_BACKLOG) != 0) {
            error_set_errno(error, errno, "listen");
            close(fds[opened]);
            break;
        }
    }
    if (opened == count)
        return 0;
    while (opened > 0)
        close(fds[--opened]);
    return -1;
}

static void on_connection(uv_poll_t *poll, int status, int events);

static void on_pause_over(struct loop_timer *timer)
{
    struct listener *listener = LIST_ENTRY(timer, struct listener, pause);

    uv_poll_start(&listener->poll, UV_READABLE, on_connection);
}

static void rest(struct listener *listener, int errno_value)
{
    struct error error;

    error_set_errno(&error, errno_value, "accept");
    LOG_ERROR("accept-failed", log_error(&error));
    uv_poll_stop(&listener->poll);
    listener->pause.run = on_pause_over;
    loop_timer_start(&listener->pause, loop_now_ms() + LISTENER_PAUSE_MS);
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
    struct listener *listener = poll->data;

    (void)status;
    (void)events;
    for (int i = 0; i < LISTENER_ACCEPT_MAX; i++) {
        struct sockaddr_storage storage = {.ss_family = AF_UNSPEC};
        socklen_t bytes = sizeof(storage);
        struct net_address peer = {.port = 0};
        int fd = accept4(listener->fd, (struct sockaddr *)&storage, &bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                rest(listener, errno);
            break;
        }
        if (storage.ss_family == AF_UNIX || net_address_from_sockaddr((struct sockaddr *)&storage, &peer))
            listener->accepted(listener->context, fd, &peer);
        else
            close(fd);
    }
    loop_run_ready(loop_current());
}

struct listener *listener_create(int fd, listener_accept_fn *accepted, void *context)
{
    struct listener *listener = mem_alloc(sizeof(*listener));

    listener->fd = fd;
    listener->accepted = accepted;
    listener->context = context;
    uv_poll_init(loop_uv(loop_current()), &listener->poll, fd);
    listener->poll.data = listener;
    uv_poll_start(&listener->poll, UV_READABLE, on_connection);
    return listener;
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void listener_destroy(struct listener **pointer)
{
    struct listener *listener = *pointer;

    if (!listener)
        return;
    *pointer = NULL;
    loop_timer_stop(&listener->pause);
    uv_close((uv_handle_t *)&listener->poll, on_closed);
    close(listener->fd);
}
