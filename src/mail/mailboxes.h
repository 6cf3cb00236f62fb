/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mailboxes: the addresses of a header field that lists mailboxes (RFC 5322 3.4: From, Sender, Reply-To, To ...): with display names, comments, groups and the obsolete
 * forms. For asking whose they are, so that what can't be read is told, never passed over. Pure, any thread.
 *
 *     while (mailboxes_next(&rest, &mailbox)) ...
 */
#ifndef POSTERN_MAIL_MAILBOXES_H
#define POSTERN_MAIL_MAILBOXES_H

#include "base/str.h"
#include "mail/address.h"

struct mailbox {
    bool is_valid; /* else `address` holds nothing of use */
    struct address address;
    struct str text; /* the entry as it stands in the field, trimmed; a view of it */
};

/* Takes the next entry off the front of a field's value (folds may still be in it). false: there is none left. An empty group has none. */
bool mailboxes_next(struct str *rest, struct mailbox *mailbox);

#endif
