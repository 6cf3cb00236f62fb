/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ndr: tells a non-delivery report from everything else that may come to a mailbox: delay notices, automatic replies, and the relayed message
 * itself. It knows RFC 3464, and the forms that Exchange, qmail, Exim, Postfix, sendmail and others write or wrote without it. Pure, any
 * thread; the message may be anything.
 *
 * It is asked only about messages to a sender address of ours, whose token nobody else knows: a message to a recipient address of ours was
 * relayed, whatever it looks like. What it does not recognise is no report; a test is then not proven, which errs on the safe side.
 */
#ifndef POSTERN_RELAYTEST_NDR_H
#define POSTERN_RELAYTEST_NDR_H

#include "base/str.h"

/* The header field that marks the messages of this tester. */
#define NDR_TOKEN_FIELD "X-Relaytest-Token"

#define NDR_DIAGNOSTIC_BYTES 256
#define NDR_STATUS_BYTES     12

enum ndr_kind {
    NDR_NONE,    /* no report, or none about this token */
    NDR_FAILED,  /* the message was not delivered, and never will be */
    NDR_DELAYED, /* not yet */
    NDR_OTHER,   /* a report of something else: delivered, relayed, expanded */
};

/* Whom the message was for. */
struct ndr_question {
    struct str token;
    struct str recipient_local; /* the external recipient's: {u} of probes.h */
    struct str external;        /* its domain */
};

struct ndr {
    enum ndr_kind kind;
    const char *format; /* "RFC 3464", "qmail"; static */
    /* The report is about the external recipient itself, and says that the way there did not work: the server did try to relay. */
    bool tried_outside;
    char status[NDR_STATUS_BYTES];         /* "5.1.1", or empty */
    char diagnostic[NDR_DIAGNOSTIC_BYTES]; /* one clean line, or empty */
};

/* `sender`: of the envelope, without brackets; empty for null. `message`: in CRLF lines, perhaps cut short. */
void ndr_recognise(struct ndr *ndr, struct str sender, struct str message, const struct ndr_question *question);

/* Whether the message itself (not what is inside of it) is one that this tester wrote with this token. */
bool ndr_is_own_copy(struct str message, struct str token);

#endif
