/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of relaytest share: run.c leads, wire.c speaks with the target, attempt.c makes one transaction, arrivals.c is told of what
 * comes to the catch. All on one loop's thread, all in one fiber but the arrivals. */
#ifndef POSTERN_RELAYTEST_PRIVATE_H
#define POSTERN_RELAYTEST_PRIVATE_H

#include "base/list.h"
#include "loop/fiber.h"
#include "loop/loop.h"
#include "net/conn.h"
#include "relaytest/catch.h"
#include "relaytest/relaytest.h"
#include "smtp/reply.h"

/* Servers get slow with, or hang up on, clients that make many mistakes, and some leave what comes late in a long session to their next
 * queue run (Exim from the eleventh message on): a new connection before they do. */
#define RUN_TRANSACTIONS_PER_SESSION_MAX 8
/* Connections that fail one after the other, and all connections. */
#define RUN_FAILURES_IN_A_ROW_MAX 5
#define RUN_SESSIONS_MAX          400
/* A transaction that loses its connection is begun again so often. */
#define RUN_TRIES_MAX              3
#define RUN_CONNECT_TIMEOUT_MS_MAX 30000

enum wire_end {
    WIRE_END_NONE,
    WIRE_END_LOST,    /* closed, reset */
    WIRE_END_CLOSING, /* 421 */
    WIRE_END_TIMEOUT,
    WIRE_END_GARBAGE, /* no SMTP */
    WIRE_END_OVER,    /* the run's own time is up */
};

struct run {
    const struct relaytest_settings *settings;
    struct relaytest_result *result;
    struct loop *loop;
    struct fiber *fiber;
    uint64_t deadline_ms; /* of the whole run */
    bool is_over;         /* result->error says why */

    struct tls_context *tls;  /* NULL: none is wanted */
    struct worker_pool *pool; /* for SASL, which computes; NULL: nobody logs in */

    /* the dialogue */
    struct conn *conn;
    struct reply_parser parser;
    struct reply_capabilities capabilities;
    struct buf command;
    struct buf seen; /* of the reply's bytes, what is no whole line yet */
    enum wire_end end;
    char end_text[RELAYTEST_REPLY_BYTES];
    unsigned transactions; /* of this session */
    unsigned failures_in_a_row;
    unsigned sessions;
    bool is_reset_owed;
    bool has_names;
    size_t address_used; /* of settings->addresses */

    /* the catch */
    int catch_fd;
    struct catch *catch;
    bool is_woken; /* something has arrived since the last look */

    /* what is shown */
    struct loop_timer timer;
    const char *doing;
    uint64_t doing_since_ms;
    unsigned done;
};

/* ---- run.c ---- */

void run_progress(struct run *run, const char *doing);
void run_fail(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Lets time pass, or until something arrives. false: the run is over. */
bool run_pause(struct run *run, uint64_t until_ms, bool ends_on_arrival);
/* Copies as much as fits, NUL-terminated. */
void run_copy_text(char *out, size_t size, struct str text);

/* ---- wire.c ---- */

void wire_tell(struct run *run, char who, struct str line);
/* Sends what stands in run->command (without CRLF; `shown` instead of it in the transcript, if not NULL) and reads the reply. NULL: the
 * connection is closed, and run->end and end_text say why. */
const struct reply *wire_ask(struct run *run, const char *about, const char *shown);
/* The next reply without a command. */
const struct reply *wire_read(struct run *run, const char *about, bool is_ehlo);
bool wire_write(struct run *run, struct str data);
void wire_close(struct run *run, enum wire_end end, const char *format, ...) __attribute__((format(printf, 3, 4)));
uint64_t wire_deadline(const struct run *run);
/* "EHLO": fills the capabilities. */
const struct reply *wire_hello(struct run *run);
/* Connects and greets, with TLS and AUTH where wanted, unless a connection stands. false: run->end says why, or the run is over. */
bool wire_open(struct run *run);
/* QUIT, without waiting long. */
void wire_quit(struct run *run);

/* ---- names.c ---- */

/* What was not given, from the banner, EHLO's reply and the addresses. */
void names_find(struct run *run, const char *hello);
void names_fill(const struct run *run, const char *token, struct probe_names *names, struct buf *local_parts);
/* The names as people read them, without tokens. */
void names_fill_shown(const struct run *run, struct probe_names *names);

/* ---- attempt.c ---- */

/* Fills outcome->verdict (REFUSED, DEFERRED, UNTESTED, or SILENT for one that was accepted). */
void attempt_run(struct run *run, struct relaytest_row *row, struct relaytest_outcome *outcome, const char *sender);
/* How long a server wants to be left alone, by its words; 0: it doesn't say. */
uint64_t attempt_hinted_ms(struct str reply);

/* ---- arrivals.c ---- */

void arrivals_take(void *context, const struct catch_message *message);
/* Whether it is known what became of the row's message. */
bool arrivals_explain(const struct relaytest_row *row);

/* ---- verdict.c ---- */

void verdict_settle(struct relaytest_result *result, const struct relaytest_settings *settings);

#endif
