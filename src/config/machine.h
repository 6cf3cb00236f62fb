/* SPDX-License-Identifier: Apache-2.0 */
/* machine: what the system says of itself: its name and its addresses. Asks no network. Blocks (files). Any thread. */
#ifndef POSTERN_CONFIG_MACHINE_H
#define POSTERN_CONFIG_MACHINE_H

#include "mail/domain.h"
#include "os/vfs.h"
#include "policy/cidr.h"

/* The fully qualified name in normal form: the node name, or if that has no dot the name that /etc/hosts gives for it. Returns
 * the length; 0 if the system's name is no domain name. */
size_t machine_hostname(const struct vfs *vfs, char name[DOMAIN_TEXT_BYTES]);
/* The addresses of all interfaces, freed by the caller. */
size_t machine_addresses(struct cidr_address **addresses);

#endif
