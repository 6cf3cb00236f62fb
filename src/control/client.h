/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control/client: the other side of the control socket (docs/control-protocol.md), for the command line and the console. Blocks, with a deadline for each
 * answer. One thread at a time.
 *
 *     if (control_client_open(&client, run_dir, &error) != 0) ...
 *     control_client_send(client, json_pack("{s:s}", "command", "status"), &error);
 *     while ((answer = control_client_next(client, &value, &error)) == CONTROL_ANSWER_ITEM) { use(value); json_decref(value); }
 */
#ifndef POSTERN_CONTROL_CLIENT_H
#define POSTERN_CONTROL_CLIENT_H

#include "base/error.h"

#include <jansson.h>

struct control_client;

/* A daemon that says nothing for so long is taken for dead; whatever takes longer says that it goes on. */
#define CONTROL_CLIENT_TIMEOUT_MS 150000
/* A longer line is no answer. */
#define CONTROL_ANSWER_BYTES_MAX (64u << 20)

enum control_answer {
    CONTROL_ANSWER_ITEM,     /* one of several; more follows */
    CONTROL_ANSWER_PROGRESS, /* it goes on; more follows */
    CONTROL_ANSWER_DONE,     /* the last one */
    CONTROL_ANSWER_ERROR,    /* the last one: "code" and "text" */
    CONTROL_ANSWER_BROKEN,   /* the connection: `error` says why; nothing more comes */
};

/* Connects and reads the greeting. -1: `error` says who is not there, or who may not (errno_value EACCES). */
int control_client_open(struct control_client **client, const char *run_directory, struct error *error);
/* Sets the pointer to NULL, which it may be. */
void control_client_close(struct control_client **client);
/* The daemon's first line: name, version, protocol, hostname. The client's. */
const json_t *control_client_greeting(const struct control_client *client);

/* Takes over the request, an object with "command"; adds its id. One at a time: its answers are read to the last before the next. */
int control_client_send(struct control_client *client, json_t *request, struct error *error);
/* Waits. The value is the caller's; NULL when BROKEN. */
enum control_answer control_client_next(struct control_client *client, json_t **value, struct error *error);

#endif
