/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probes: what open-relay testers and spammers try, as data (relay-behaviour.md section 7). Pure, any thread.
 *
 * A pattern is what stands in MAIL FROM or RCPT TO, with names in braces: {s} sends and {u} receives (local parts of ours, each with the token),
 * {X} is the external domain, {L} the target's local domain, {H} its host name, {A} its address, {C} the client's host name. {A} is a literal as
 * it stands in brackets (with "IPv6:" where due), {a} the same without that tag.
 */
#ifndef POSTERN_RELAYTEST_PROBES_H
#define POSTERN_RELAYTEST_PROBES_H

#include "base/buf.h"
#include "base/str.h"

/* Numbers are 1 to this. */
#define PROBE_NUMBER_MAX 26

struct probe {
    unsigned number;
    char letter; /* of a number's variants: 'a', 'b'; '\0' where there is one only */
    const char *name;
    const char *sender;    /* with its angle brackets, if it has them */
    const char *recipient; /* same */
    const char *why;       /* why it once worked: a sentence */
};

extern const struct probe probes[];
extern const size_t probe_count;
/* Of the table above: for arrays. */
#define PROBE_ROWS_MAX 40

/* The sender of every repetition: external. */
#define PROBE_EXTERNAL_SENDER "<{s}@{X}>"

/* What the braces stand for. {a} is derived from `server_address`. */
struct probe_names {
    struct str sender_local;    /* {s} */
    struct str recipient_local; /* {u} */
    struct str external;        /* {X} */
    struct str local_domain;    /* {L} */
    struct str server_name;     /* {H} */
    struct str server_address;  /* {A} */
    struct str client_name;     /* {C} */
};

/* Appends the pattern, filled in. */
void probe_expand(struct buf *out, const char *pattern, const struct probe_names *names);

/* The sender is s@X, so that reports about it come to the catch. */
bool probe_has_external_sender(const struct probe *probe);

/* The recipient is u@X as it stands: then only the sender makes the difference from the standard probe. */
bool probe_has_plain_recipient(const struct probe *probe);

/* A list as "3,7-9": sets selected[number]. false: not a list, or a number that is none. `selected` has PROBE_NUMBER_MAX + 1 elements. */
bool probe_select(struct str list, bool selected[PROBE_NUMBER_MAX + 1]);

#endif
