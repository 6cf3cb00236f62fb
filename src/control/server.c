/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/mem.h"
#include "control/control_private.h"
#include "os/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* More groups than this of a client are not looked at. */
#define GROUPS_MAX 1024
/* For the last words to a client that is sent away. */
#define GOODBYE_MS 1000
#define STOP_MS    10000

static const struct {
    const char *name;
    control_command_fn *run;
} commands[] = {
    {"ping", control_ping},
    {"status", control_status},
    {"reload", control_reload},
    {"drain", control_drain},
    {"queue.list", control_queue_list},
    {"queue.show", control_queue_show},
    {"queue.hold", control_queue_hold},
    {"queue.release", control_queue_release},
    {"queue.retry", control_queue_retry},
    {"queue.delete", control_queue_delete},
    {"queue.bounce", control_queue_bounce},
    {"queue.destinations", control_queue_destinations},
    {"track", control_track},
    {"why", control_why},
};

/* ---- who it is ---- */

static bool is_in_group(int fd, const struct ucred *peer, int64_t gid)
{
    gid_t groups[GROUPS_MAX];
    socklen_t bytes = sizeof(groups);

    if (gid < 0)
        return false;
    if ((int64_t)peer->gid == gid)
        return true;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes) != 0)
        return false;
    for (size_t i = 0; i < bytes / sizeof(groups[0]); i++)
        if ((int64_t)groups[i] == gid)
            return true;
    return false;
}

static bool is_permitted(struct control_peer *peer)
{
    struct ucred credentials;
    socklen_t bytes = sizeof(credentials);
    bool permitted;

    if (getsockopt(peer->fd, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) != 0)
        return false;
    if (credentials.uid == 0)
        snprintf(peer->who, sizeof(peer->who), "root");
    else
        snprintf(peer->who, sizeof(peer->who), "uid %u", credentials.uid);
    permitted = credentials.uid == 0 || credentials.uid == geteuid() ||
                is_in_group(peer->fd, &credentials, peer->control->options.socket->gid);
    if (!permitted)
        LOG_WARNING("control-refused", log_u64("uid", credentials.uid), log_i64("pid", credentials.pid));
    return permitted;
}

/* ---- one client ---- */

static bool greet(struct control_peer *peer)
{
    const struct config *config = service_config(peer->control->options.service);
    json_t *line = json_object();

    json_object_set_new(line, "name", json_string("postern"));
    json_object_set_new(line, "version", json_string(POSTERN_VERSION));
    json_object_set_new(line, "protocol", json_integer(CONTROL_PROTOCOL_VERSION));
    json_object_set_new(line, "hostname", control_json_text(config->hostname));
    config_release(&config);
    return control_answer_line(peer, line);
}

/* An error that answers no request. */
static void turn_away(struct control_peer *peer, enum control_code code, const char *text)
{
    json_t *line = json_object(), *error = json_object();

    json_object_set_new(error, "code", json_string(control_code_name(code)));
    json_object_set_new(error, "text", json_string(text));
    json_object_set_new(line, "id", json_null());
    json_object_set_new(line, "error", error);
    fiber_clear_cancel();
    control_answer_line(peer, line);
    conn_flush(peer->conn, loop_now_ms() + GOODBYE_MS);
}

static void dispatch(struct control_peer *peer, const struct control_request *request)
{
    peer->request_id = request->id;
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(request->command, commands[i].name) != 0)
            continue;
        commands[i].run(peer, request);
        return;
    }
    control_answer_error(peer, CONTROL_UNKNOWN_COMMAND, "there is no command \"%.80s\"", request->command);
}

/* false: the client is at its end. */
static bool take_line(struct control_peer *peer, struct str line)
{
    struct control_request request;
    const char *fault = control_request_parse(line, &request);

    if (fault) {
        turn_away(peer, CONTROL_BAD_REQUEST, fault);
        return false;
    }
    dispatch(peer, &request);
    control_request_release(&request);
    return !peer->is_broken;
}

/* The bytes up to the next newline, in peer->line. false: the client is at its end. */
static bool read_line(struct control_peer *peer)
{
    const uint64_t deadline_ms = loop_now_ms() + peer->control->options.idle_timeout_ms;
    struct str piece;

    buf_clear(&peer->line);
    for (;;) {
        enum conn_status status = conn_read_some(peer->conn, deadline_ms, &piece);
        size_t end;

        if (status != CONN_OK) {
            if (status == CONN_TIMEOUT)
                turn_away(peer, CONTROL_TIMEOUT, "nothing was asked for too long");
            return false;
        }
        end = str_find(piece, '\n');
        if (!buf_append_str(&peer->line, str_take(piece, end))) {
            turn_away(peer, CONTROL_BAD_REQUEST, "the line is too long");
            return false;
        }
        conn_consume(peer->conn, end == STR_NONE ? piece.length : end + 1);
        if (end != STR_NONE)
            return true;
    }
}

static void serve(struct control_peer *peer)
{
    if (!is_permitted(peer)) {
        turn_away(peer, CONTROL_NOT_PERMITTED,
                  "this socket is for root, the daemon's user, and members of control.socket-group");
        return;
    }
    if (!greet(peer) || !control_flush(peer))
        return;
    while (read_line(peer) && take_line(peer, buf_str(&peer->line)) && control_flush(peer)) {
    }
    if (peer->control->is_stopping && !peer->is_broken)
        turn_away(peer, CONTROL_STOPPING, "the daemon is stopping");
}

/* Unread input would make the close take our last words with it. */
static void part(struct control_peer *peer)
{
    if (conn_has_input(peer->conn))
        conn_linger(peer->conn, loop_now_ms() + GOODBYE_MS);
    conn_close(&peer->conn);
}

static void peer_ended(struct control *control)
{
    pthread_mutex_lock(&control->mutex);
    if (--control->peer_count == 0)
        pthread_cond_broadcast(&control->ended);
    pthread_mutex_unlock(&control->mutex);
}

static void peer_main(void *argument)
{
    struct control_peer *peer = argument;
    struct control *control = peer->control;
    const struct net_address nowhere = {.port = 0};

    peer->fiber = fiber_current();
    buf_init(&peer->line, CONTROL_REQUEST_BYTES_MAX);
    peer->conn = conn_create(peer->fd, &nowhere);
    if (peer->conn && !control->is_stopping)
        serve(peer);
    if (peer->conn)
        part(peer);
    buf_release(&peer->line);
    list_remove(&peer->link);
    free(peer);
    peer_ended(control);
}

/* Nobody waits for room: whoever comes too many is told so. */
static void refuse_busy(int fd)
{
    static const char text[] = "{\"id\":null,\"error\":{\"code\":\"busy\",\"text\":\"too many clients\"}}\n";

    if (send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        /* It is gone already. */
    }
    close(fd);
}

static void on_accepted(void *context, int fd, const struct net_address *unused)
{
    struct control *control = context;
    struct control_peer *peer;
    bool has_room;

    (void)unused;
    pthread_mutex_lock(&control->mutex);
    has_room = control->peer_count < CONTROL_CLIENTS_MAX;
    if (has_room)
        control->peer_count++;
    pthread_mutex_unlock(&control->mutex);
    if (!has_room) {
        refuse_busy(fd);
        return;
    }
    peer = mem_alloc(sizeof(*peer));
    peer->control = control;
    peer->fd = fd;
    list_append(&control->peers, &peer->link);
    if (fiber_start(peer_main, peer) != 0) {
        list_remove(&peer->link);
        free(peer);
        refuse_busy(fd);
        peer_ended(control);
    }
}

/* ---- life ---- */

static void on_start(struct loop_task *task)
{
    struct control *control = LIST_ENTRY(task, struct control, start_task);

    control->listener = listener_create(control->options.socket->fd, on_accepted, control);
    control->options.socket->fd = -1;
}

static void on_stop(struct loop_task *task)
{
    struct control *control = LIST_ENTRY(task, struct control, stop_task);

    control->is_stopping = true;
    listener_destroy(&control->listener);
    for (struct list_link *link = control->peers.next; link != &control->peers; link = link->next) {
        struct control_peer *peer = LIST_ENTRY(link, struct control_peer, link);

        if (peer->fiber)
            fiber_cancel(peer->fiber);
    }
    peer_ended(control); /* the listener's place */
}

/* Whoever waits for a reload or a drain looks again. */
static void on_wake(struct loop_task *task)
{
    struct control *control = LIST_ENTRY(task, struct control, wake_task);

    pthread_mutex_lock(&control->mutex);
    control->is_wake_posted = false;
    pthread_mutex_unlock(&control->mutex);
    for (struct list_link *link = control->peers.next; link != &control->peers; link = link->next)
        if (LIST_ENTRY(link, struct control_peer, link)->fiber)
            fiber_wake(LIST_ENTRY(link, struct control_peer, link)->fiber);
}

struct control *control_create(const struct control_options *options)
{
    struct control *control = mem_alloc(sizeof(*control));
    pthread_condattr_t attributes;

    control->options = *options;
    if (control->options.idle_timeout_ms == 0)
        control->options.idle_timeout_ms = CONTROL_IDLE_TIMEOUT_MS;
    if (control->options.write_timeout_ms == 0)
        control->options.write_timeout_ms = CONTROL_WRITE_TIMEOUT_MS;
    control->started_at_ms = clock_real_ms();
    list_init(&control->peers);
    control->start_task.run = on_start;
    control->stop_task.run = on_stop;
    control->wake_task.run = on_wake;
    pthread_mutex_init(&control->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&control->ended, &attributes);
    pthread_condattr_destroy(&attributes);
    return control;
}

void control_start(struct control *control)
{
    control->is_started = true;
    control->peer_count = 1; /* the listener's place, until control_stop has been heard */
    loop_post(control->options.loop, &control->start_task);
}

void control_stop(struct control *control)
{
    struct timespec until;

    if (!control->is_started)
        return;
    loop_post(control->options.loop, &control->stop_task);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += STOP_MS / 1000;
    pthread_mutex_lock(&control->mutex);
    while (control->peer_count > 0 && pthread_cond_timedwait(&control->ended, &control->mutex, &until) == 0) {
    }
    pthread_mutex_unlock(&control->mutex);
}

void control_destroy(struct control **pointer)
{
    struct control *control = *pointer;

    *pointer = NULL;
    if (!control)
        return;
    pthread_cond_destroy(&control->ended);
    pthread_mutex_destroy(&control->mutex);
    free(control->report.reason);
    json_decref(control->report.messages);
    free(control->addresses);
    free(control);
}

/* ---- what the main thread tells ---- */

uint64_t control_reload_begins(struct control *control)
{
    return atomic_load(&control->reload_tickets);
}

static json_t *describe(const struct config_message *message)
{
    json_t *object = json_object();
    struct buf text;

    buf_init(&text, CONFIG_MESSAGE_BYTES_MAX * 8);
    config_message_format(message, &text);
    json_object_set_new(object, "severity", json_string(message->is_warning ? "warning" : "error"));
    if (message->is_warning)
        json_object_set_new(object, "code", json_string(message->code));
    json_object_set_new(object, "text", control_json_text(buf_str(&text)));
    buf_release(&text);
    return object;
}

/* With the mutex held. */
static void post_wake(struct control *control)
{
    if (control->is_wake_posted)
        return;
    control->is_wake_posted = true;
    loop_post(control->options.loop, &control->wake_task);
}

void control_reloaded(struct control *control, uint64_t ticket, const char *reason,
                      const struct config_errors *messages)
{
    json_t *list = json_array();

    for (size_t i = 0; messages && i < messages->count; i++)
        json_array_append_new(list, describe(&messages->messages[i]));
    pthread_mutex_lock(&control->mutex);
    free(control->report.reason);
    json_decref(control->report.messages);
    control->report = (struct control_report){.ticket = ticket,
                                              .at_ms = clock_real_ms(),
                                              .is_done = reason == NULL,
                                              .reason = reason ? mem_copy_str(str_from_cstr(reason)) : NULL,
                                              .messages = list};
    post_wake(control);
    pthread_mutex_unlock(&control->mutex);
}

void control_draining(struct control *control)
{
    atomic_store(&control->is_draining, true);
    pthread_mutex_lock(&control->mutex);
    post_wake(control);
    pthread_mutex_unlock(&control->mutex);
}

void control_listening(struct control *control, struct str addresses)
{
    char *copy = mem_copy_str(addresses);

    pthread_mutex_lock(&control->mutex);
    free(control->addresses);
    control->addresses = copy;
    pthread_mutex_unlock(&control->mutex);
}
