/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relaytest: proves what a server relays. A server that says 250 to a recipient has not relayed yet: only a message that arrives outside was
 * relayed, and a report that it could not be delivered proves the opposite.
 *
 * Each probe (probes.h) is tried in a transaction of its own, with a token in the envelope and in the message. A listener (catch.h) stands for the
 * outside and for the mailbox of external senders. Where a probe whose sender is not external is taken, it is repeated from an external
 * sender, so that the report about it comes to the catch. Nothing is sent to anybody but the target.
 *
 *     relaytest_run(&settings, &result)          one thread, until all is settled
 *     relaytest_explain(...), relaytest_exit(...)
 *     relaytest_release(&result)
 *
 * The target may be hostile: every reply is bounded in bytes and time, the connections are bounded in number, and so is the whole run.
 */
#ifndef POSTERN_RELAYTEST_RELAYTEST_H
#define POSTERN_RELAYTEST_RELAYTEST_H

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"
#include "net/address.h"
#include "relaytest/ndr.h"
#include "relaytest/probes.h"

#include <stdbool.h>
#include <stdint.h>

/* ---- what to test ---- */

#define RELAYTEST_ADDRESSES_MAX      8
#define RELAYTEST_WAIT_MS_DEFAULT    30000u
#define RELAYTEST_TIMEOUT_MS_DEFAULT (5u * 60 * 1000) /* RFC 5321 4.5.3.2 */
/* A run that takes longer ends, and what was not tested by then is not tested. */
#define RELAYTEST_RUN_MS_MAX (2u * 60 * 60 * 1000)
/* Where a domain is needed that leads nowhere (RFC 2606). */
#define RELAYTEST_DOMAIN_NOWHERE "relaytest.invalid"
#define RELAYTEST_LOCAL_PART     "relaytest"

struct relaytest_progress {
    const char *doing;    /* what is being waited for, a few words */
    unsigned done, total; /* probes, with their variants */
    uint64_t waited_ms;
};

/* On the run's own thread, while relaytest_run runs. Either may be NULL. */
struct relaytest_watch {
    void *context;
    void (*progress)(void *context, const struct relaytest_progress *progress);
    /* One line of the dialogue, clean text: '>' what we say, '<' what the target says, '*' what happens. */
    void (*said)(void *context, char who, struct str line);
};

/* All views outlive the run. Texts that go into commands have no control bytes and no spaces: the caller has checked. */
struct relaytest_settings {
    struct net_address addresses[RELAYTEST_ADDRESSES_MAX]; /* of the target, with its port: the first that answers */
    size_t address_count;
    struct str target_name;                     /* as it was asked for, without a port; a host name or a literal */
    struct str external_local, external_domain; /* empty: by default */
    bool external_is_exact;                     /* the local part gets no token: a mailbox that somebody looks into */
    struct str local_domain, server_name, server_address; /* empty: found out */
    struct str client_name;                               /* empty: this machine's */
    bool selected[PROBE_NUMBER_MAX + 1];
    bool starttls;
    struct str user, password; /* user empty: none */
    bool envelope_only;
    bool has_catch;
    struct net_address catch_address;
    uint64_t wait_ms;
    uint64_t timeout_ms; /* for each reply */
    struct relaytest_watch watch;
};

/* ---- what came of it ---- */

/* From harmless to worst: the worst of a probe's variants is the probe's. */
enum relaytest_verdict {
    RELAYTEST_REFUSED,
    RELAYTEST_UNDELIVERABLE, /* accepted, then reported undeliverable */
    RELAYTEST_DEFERRED,      /* and again after the wait */
    RELAYTEST_UNPROVEN,      /* accepted; without a catch, or without a message, nobody knows more */
    RELAYTEST_SILENT,        /* accepted, and nothing came within the wait */
    RELAYTEST_PASSED_ON, /* accepted, and sent to another server as mail for a local domain: what that one does decides */
    RELAYTEST_ATTEMPTED, /* accepted, and the report says that the way outside did not work */
    RELAYTEST_UNTESTED,  /* no answer to go by */
    RELAYTEST_RELAYED,
    RELAYTEST_VERDICT_COUNT
};

enum relaytest_stage {
    RELAYTEST_STAGE_NONE,
    RELAYTEST_STAGE_MAIL,
    RELAYTEST_STAGE_RCPT,
    RELAYTEST_STAGE_DATA,
    RELAYTEST_STAGE_MESSAGE, /* the reply to the final dot */
};

#define RELAYTEST_TOKEN_BYTES   17
#define RELAYTEST_ADDRESS_BYTES 640
#define RELAYTEST_REPLY_BYTES   512

/* One transaction, and what followed it. */
struct relaytest_outcome {
    char token[RELAYTEST_TOKEN_BYTES];
    char sender[RELAYTEST_ADDRESS_BYTES]; /* as in the command, brackets included */
    char recipient[RELAYTEST_ADDRESS_BYTES];
    enum relaytest_verdict verdict;    /* of this transaction alone */
    enum relaytest_stage stage;        /* of the reply */
    int code;                          /* of the reply; 0: there was none */
    char reply[RELAYTEST_REPLY_BYTES]; /* clean; or what happened instead of a reply */
    bool is_accepted;                  /* whether the target took the message, or may have taken it */
    bool is_retried;
    uint64_t accepted_at_ms; /* monotonic */

    bool has_arrived; /* outside: relayed */
    char arrived_recipient[RELAYTEST_ADDRESS_BYTES];
    uint64_t arrived_after_ms;
    bool is_passed_on; /* came to the catch as mail for another domain than the external one */
    char passed_on_recipient[RELAYTEST_ADDRESS_BYTES];
    bool has_report;
    struct ndr report; /* FAILED */
    uint64_t report_after_ms;
    bool has_delay_notice;
};

struct relaytest_row {
    const struct probe *probe;
    char sender[RELAYTEST_ADDRESS_BYTES]; /* to be read by people: s and u without tokens */
    char recipient[RELAYTEST_ADDRESS_BYTES];
    bool is_run;
    bool has_repeat;
    struct relaytest_outcome first;
    struct relaytest_outcome repeat; /* from an external sender */
    enum relaytest_verdict verdict;
};

#define RELAYTEST_NAME_BYTES 256

struct relaytest_result {
    struct relaytest_row *rows;
    size_t row_count;
    unsigned probe_count;                     /* numbers, not rows */
    unsigned counts[RELAYTEST_VERDICT_COUNT]; /* of numbers */
    char address[NET_ADDRESS_TEXT_BYTES];     /* of the target; empty: never reached */
    char banner[RELAYTEST_REPLY_BYTES];
    char external[RELAYTEST_NAME_BYTES];
    char local_domain[RELAYTEST_NAME_BYTES];
    char server_name[RELAYTEST_NAME_BYTES];
    char server_address[RELAYTEST_NAME_BYTES];
    char client_name[RELAYTEST_NAME_BYTES];
    char local_part[RELAYTEST_NAME_BYTES];      /* of the external addresses, without tag and token */
    char catch_address[NET_ADDRESS_TEXT_BYTES]; /* empty: none */
    char tls[64];                               /* protocol and cipher; empty: none */
    bool offers_starttls, offers_auth;
    bool demands_tls, demands_auth; /* refused something for the lack of it */
    bool refuses_external; /* the external sender itself, so that less was tested: its domain does not exist, perhaps */
    unsigned strays;       /* messages at the catch that were none of ours */
    int64_t started_at_ms;
    uint64_t duration_ms;
    uint64_t wait_ms;
    bool is_incomplete; /* the run ended early */
    struct error error; /* why */
};

/* Blocks. Fills `result` whatever happens; relaytest_release frees it. */
void relaytest_run(const struct relaytest_settings *settings, struct relaytest_result *result);
void relaytest_release(struct relaytest_result *result);

/* 0 nothing relayed and every acceptance explained, 1 relayed, 2 not proven, 3 could not test. */
int relaytest_exit(const struct relaytest_result *result);

/* "accepted, then reported undeliverable"; static. */
const char *relaytest_verdict_text(enum relaytest_verdict verdict);
/* "undeliverable": for programs; static. */
const char *relaytest_verdict_name(enum relaytest_verdict verdict);
const char *relaytest_stage_name(enum relaytest_stage stage); /* "rcpt"; NULL for none */
/* What the verdict rests on, in a clean line: a reply, a report, an arrival. */
void relaytest_explain(const struct relaytest_row *row, struct buf *out);
/* The last sentence, or two: "26 probes: 15 refused, 11 accepted and reported undeliverable. Nothing was relayed." */
void relaytest_summarise(const struct relaytest_result *result, struct buf *out);

/* Loopback, private or link-local: an address of which nobody outside can be annoyed by a test. */
bool relaytest_is_private(const struct net_address *address);

#endif
