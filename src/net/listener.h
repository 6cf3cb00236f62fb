/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener: a listening socket on one loop. Each loop opens its own on the same address (SO_REUSEPORT), so the kernel spreads the
 * connections, and a connection stays on its loop.
 */
#ifndef POSTERN_NET_LISTENER_H
#define POSTERN_NET_LISTENER_H

#include "base/error.h"
#include "net/address.h"

struct listener;

/*
 * Opens, binds and listens, `count` times on one address; any thread. A port of 0 is replaced in `address` by the one that the system
 * chose. 0, or -1 with nothing left open; also when another process listens there, though the system would let it be shared.
 */
int listener_open_sockets(struct net_address *address, int *fds, size_t count, struct error *error);

/* `accepted` is called on the loop thread for each connection, and owns the non-blocking descriptor. Takes over `fd`. A UNIX socket's
 * peers have no address: a zeroed one. */
typedef void listener_accept_fn(void *context, int fd, const struct net_address *peer);
struct listener *listener_create(int fd, listener_accept_fn *accepted, void *context);
/* Closes the socket. */
void listener_destroy(struct listener **listener);

#endif
