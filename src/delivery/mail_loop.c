/* SPDX-License-Identifier: Apache-2.0 */
#include "delivery/mail_loop.h"

#include "delivery/route.h"
#include "mail/header.h"

#include <string.h>

/* The Maildir of an address as it stands in the line, with or without angle brackets. */
static bool find_mailbox(const struct config *config, struct str address, char mailbox[ROUTE_MAILBOX_BYTES])
{
    struct envelope_recipient recipient = {.address = address};
    const struct envelope envelope = {.recipients = &recipient, .recipient_count = 1};

    if (str_starts_with(address, STR("<")) && address.data[address.length - 1] == '>')
        recipient.address = str_make(address.data + 1, address.length - 2);
    /* Without a domain it is another system's user. */
    return str_find(address, '@') != STR_NONE && route_mailbox(config, &envelope, 0, mailbox);
}

bool mail_loop_found(const struct config *config, struct str header, const char *mailbox)
{
    char found[ROUTE_MAILBOX_BYTES];
    struct str value;

    while (header_find(header, STR("Delivered-To"), &value)) {
        if (find_mailbox(config, value, found) && strcmp(found, mailbox) == 0)
            return true;
        header = str_skip(header, (size_t)(value.data + value.length - header.data));
        str_split(&header, '\n');
    }
    return false;
}
