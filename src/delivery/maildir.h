/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delivery/maildir: writes messages into Maildirs below drop/ (interfaces.md section 6), durably: file written and
 * synced in tmp/, renamed into new/, new/ synced; only then is it delivered. Several messages at a time share the
 * syncs of a directory.
 *
 * Once: a file's name is made of the message (arrival, id, recipient), so that a delivery repeated after a crash has
 * the same name. In new/ it replaces its like; in cur/, where a mail reader may have moved it, it is looked for when
 * `may_exist`.
 *
 * The file is the message byte by byte as it was received, behind a Return-Path and a Delivered-To line. Its lines end
 * in CRLF as they did on the wire: Maildir readers take either ending, and a copy that differs from what was sent
 * breaks signatures.
 *
 * All calls but maildir_name block: worker threads only. Thread-safe.
 */
#ifndef POSTERN_DELIVERY_MAILDIR_H
#define POSTERN_DELIVERY_MAILDIR_H

#include "base/str.h"
#include "delivery/route.h"
#include "os/vfs.h"
#include "spool/spool.h"

/* Seconds, microseconds, id, recipient, a host name; NUL included. */
#define MAILDIR_NAME_BYTES 240
/* Mailboxes whose directories are known to be made and synced; beyond it all are looked at again. */
#define MAILDIR_SET_COUNT_MAX 65536

struct maildir_set;

struct maildir_set *maildir_set_create(const struct vfs *vfs, const char *drop_directory);
void maildir_set_destroy(struct maildir_set **set);

/* "1763712000.M123000I1A2BR0.mail.contoso.test"; bytes of the host that may not stand in a name are left out. */
void maildir_name(int64_t arrived_at_ms, spool_id id, size_t recipient, struct str host, char name[MAILDIR_NAME_BYTES]);

/* One message for one mailbox. */
struct maildir_message {
    char mailbox[ROUTE_MAILBOX_BYTES];
    char name[MAILDIR_NAME_BYTES];
    struct str sender; /* empty: null */
    struct str recipient;
    bool may_exist; /* it may have been delivered before */
    void *body_context;
    /* The body in order from its start: count, 0 at the end, negative errno. */
    ssize_t (*read_body)(void *body_context, void *data, size_t length, uint64_t offset);
    /* Whether the header section, of which this is the beginning, says that it has been in this mailbox already. NULL: don't ask. */
    bool (*is_loop)(void *body_context, struct str header);
    int error; /* out: 0 delivered, or a negative errno, and then it is not there; -ELOOP: is_loop said so */
};

void maildir_deliver(struct maildir_set *set, struct maildir_message *messages, size_t count);

#endif
