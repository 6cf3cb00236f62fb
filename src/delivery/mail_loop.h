/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delivery/mail_loop: whether a message has been in a mailbox already. Forwarding that leads back here is told at its first return by the Delivered-To
 * line that delivery to a mailbox puts on top (maildir.h; an LMTP server its own). Pure, any thread.
 */
#ifndef POSTERN_DELIVERY_MAIL_LOOP_H
#define POSTERN_DELIVERY_MAIL_LOOP_H

#include "config/config.h"

#define MAIL_LOOP_TEXT "Its Delivered-To line says that it has been in this mailbox before: it is in a loop"

/* `header`: the message from its beginning, as much of it as there is; what follows the header section is not looked at. `mailbox`: the Maildir's name
 * (route_mailbox), under which the names of an alias domain are one. */
bool mail_loop_found(const struct config *config, struct str header, const char *mailbox);

#endif
