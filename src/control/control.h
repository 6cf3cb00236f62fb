/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control: the daemon's side of the control socket (docs/control-protocol.md): run-dir/control.sock, one fiber for each client, on a loop of its own, so
 * that a long listing takes nothing from mail.
 *
 * Who may: root, the daemon's own user, and members of control.socket-group, as the kernel says (SO_PEERCRED, SO_PEERGROUPS); the socket's mode says the
 * same. Others are told so and closed.
 *
 * Everything is bounded: clients (CONTROL_CLIENTS_MAX), a request's length and nesting, how long a client may be idle, and how long it may leave what
 * it asked for unread. Nothing is gathered for a slow reader: the queue's cursor and the search go on only as fast as it reads.
 *
 * What the daemon itself has to do, a reload or a drain, is asked for with options.ask, from the control's loop, and done on the main thread, which says
 * what came of it.
 *
 * Calling sequence, main thread: control_open_socket (as root, before it becomes somebody); control_create; the loops start; control_start; control_reloaded and
 * control_draining as it happens; control_stop, before the queue and the loops end; control_destroy.
 */
#ifndef POSTERN_CONTROL_CONTROL_H
#define POSTERN_CONTROL_CONTROL_H

#include "control/tracking.h"
#include "delivery/delivery.h"
#include "queue/queue.h"
#include "session/service.h"
#include "spool/spool.h"

struct control;

#define CONTROL_CLIENTS_MAX     64
#define CONTROL_SEARCHES_MAX    4 /* of the tracking log, at a time */
#define CONTROL_IDLE_TIMEOUT_MS (10 * 60 * 1000)
/* How long a client may leave unread what it asked for: people page through lists. */
#define CONTROL_WRITE_TIMEOUT_MS (30 * 60 * 1000)

/* What the kernel binds the socket to, and who may use it. */
struct control_socket {
    int fd; /* -1: none, or it is a listener's */
    bool is_bound;
    int lock_fd; /* held while the daemon lives: another one would take the socket away */
    char *path;
    int64_t gid; /* of control.socket-group; -1: none */
};

/* run-dir must exist. `user`: who the daemon will become, NULL: nobody else. -1 also if another daemon has this run-dir. */
int control_open_socket(const struct config *config, const char *user, struct control_socket *socket,
                        struct error *error);
/* Removes it. */
void control_close_socket(struct control_socket *socket);

enum control_wish { CONTROL_WISH_RELOAD = 1, CONTROL_WISH_DRAIN = 2 };

struct control_options {
    struct control_socket *socket;
    struct loop *loop;
    struct queue *queue;
    struct spool *spool;
    struct delivery *delivery;
    struct service *service;
    struct tracking *tracking;
    struct worker_pool *pool; /* searches */
    const char *data_directory;
    const char *config_path;
    /* Any thread: has the main thread do it, soon. */
    void (*ask)(void *context, enum control_wish wish);
    void *context;
    unsigned idle_timeout_ms, write_timeout_ms; /* 0: as above; for tests */
};

/* All that the options point to outlives it. */
struct control *control_create(const struct control_options *options);
/* Begins to accept. The loop runs. */
void control_start(struct control *control);
/* Ends the clients and waits until they are gone, which is at once, nearly. */
void control_stop(struct control *control);
/* After the loop's end. Sets the pointer to NULL, which it may be. */
void control_destroy(struct control **control);

/* ---- the main thread tells ---- */

/* What a reload that begins now will answer: for control_reloaded. */
uint64_t control_reload_begins(struct control *control);
/* `reason`: why it was refused; NULL: it was done. `messages`: errors and warnings of the configuration. Copies. */
void control_reloaded(struct control *control, uint64_t ticket, const char *reason,
                      const struct config_errors *messages);
/* The daemon takes no new mail any more. */
void control_draining(struct control *control);
/* The addresses that it listens on, of now. Copies. */
void control_listening(struct control *control, struct str addresses);

#endif
