/* SPDX-License-Identifier: Apache-2.0 */
/* lookup_name: the configuration's word on the DNS, for the daemon and for `explain`; and what the DNS says of a client, for the latter. */
#ifndef POSTERN_CMD_LOOKUP_NAME_H
#define POSTERN_CMD_LOOKUP_NAME_H

#include "config/config.h"
#include "mail/domain.h"
#include "net/dns.h"

/* As long as the configuration. */
struct dns_settings lookup_name_settings(const struct config *config);

/*
 * The state, and in `name` the verified name in normal form (empty otherwise), NUL-terminated. Blocks, up to dns.timeout; one thread. As in the daemon,
 * nobody is asked where no server has a use for names, and one that cannot be asked is POLICY_NAME_TEMPFAIL.
 */
enum policy_name_state explain_lookup_name(const struct config *config, const struct cidr_address *client,
                                           char name[DOMAIN_TEXT_BYTES]);

#endif
