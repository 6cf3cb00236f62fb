/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of control share. server.c: clients, their lines, dispatch. answer.c: what goes back. commands_*.c: what each command does.
 */
#ifndef POSTERN_CONTROL_CONTROL_PRIVATE_H
#define POSTERN_CONTROL_CONTROL_PRIVATE_H

#include "base/list.h"
#include "control/control.h"
#include "control/protocol.h"
#include "loop/fiber.h"
#include "loop/loop.h"
#include "net/conn.h"
#include "net/listener.h"

#include <pthread.h>
#include <stdatomic.h>

#define CONTROL_WHO_BYTES 64

/* A reload's result, as clients are told it. */
struct control_report {
    uint64_t ticket;
    int64_t at_ms; /* 0: there was none yet */
    bool is_done;
    char *reason;
    json_t *messages;
};

struct control {
    struct control_options options;
    int64_t started_at_ms;
    bool is_started; /* the main thread's */
    struct listener *listener;
    struct list_link peers; /* the loop's */
    bool is_stopping;       /* the loop's */
    unsigned search_count;  /* the loop's */
    struct loop_task start_task, stop_task, wake_task;
    atomic_uint_fast64_t reload_tickets; /* given out */
    atomic_bool is_draining;

    pthread_mutex_t mutex; /* what follows */
    pthread_cond_t ended;
    size_t peer_count;
    bool is_wake_posted;
    struct control_report report;
    char *addresses;
};

/* One client. */
struct control_peer {
    struct list_link link;
    struct control *control;
    struct fiber *fiber;
    struct conn *conn;
    int fd;
    char who[CONTROL_WHO_BYTES]; /* "root", "uid 1000" */
    struct buf line;
    json_int_t request_id;
    bool is_broken; /* nothing more can be said */
};

/* ---- answer.c; all wait; false: the client is gone, or too slow ---- */

/* Each takes over the value. */
bool control_answer_item(struct control_peer *peer, json_t *item);
bool control_answer_done(struct control_peer *peer, json_t *done);
/* For long work without items: the client learns that it goes on. */
bool control_answer_progress(struct control_peer *peer, json_t *progress);
/* An item that is JSON text already, without a newline. */
bool control_answer_item_text(struct control_peer *peer, struct str text);
bool control_answer_error(struct control_peer *peer, enum control_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A line that answers no request. */
bool control_answer_line(struct control_peer *peer, json_t *line);
bool control_flush(struct control_peer *peer);

/* What is not UTF-8 is shown as "?". */
json_t *control_json_text(struct str text);
/* "2026-11-21T10:00:00.123Z"; null for 0. */
json_t *control_json_time(int64_t at_ms);

/* ---- commands ---- */

typedef void control_command_fn(struct control_peer *peer, const struct control_request *request);

control_command_fn control_ping, control_status, control_reload, control_drain;
control_command_fn control_queue_list, control_queue_show, control_queue_hold, control_queue_release,
    control_queue_retry, control_queue_delete, control_queue_bounce, control_queue_destinations;
control_command_fn control_track, control_why;

/* A number in the body, in this range; `fallback` if it is absent. false: an error was answered. */
bool control_read_number(struct control_peer *peer, const json_t *body, const char *key, int64_t fallback,
                         int64_t *number);
/* false: absent. */
bool control_read_flag(const json_t *body, const char *key);
/* The message id of "message". false: an error was answered. */
bool control_read_message(struct control_peer *peer, const json_t *body, spool_id *id);
/* Complains of keys that the command does not know. */
bool control_check_keys(struct control_peer *peer, const json_t *body, const char *const *keys);
/* How a wait that did not become ready is told. */
void control_answer_wait(struct control_peer *peer, enum wait_result result);

/* The message as an item. */
json_t *control_json_message(const struct queue_shown *shown, bool is_full);

#endif
