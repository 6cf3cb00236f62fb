/* SPDX-License-Identifier: Apache-2.0 */
/*
 * activation: listening sockets that systemd opened and handed over (sd_listen_fds(3)), so that low ports need no root. Main thread.
 */
#ifndef POSTERN_NET_ACTIVATION_H
#define POSTERN_NET_ACTIVATION_H

#include "net/address.h"

/*
 * If a socket for this very address was handed over: fills `fds` with `count` descriptors of it, the caller's, non-blocking, and returns true. The
 * loops then share one queue of connections. The handed-over socket itself stays, for a later reload.
 */
bool activation_take(const struct net_address *address, int *fds, size_t count);

#endif
