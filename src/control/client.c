/* SPDX-License-Identifier: Apache-2.0 */
#include "control/client.h"

#include "base/buf.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_NAME    "control.sock"
#define READ_BYTES     65536
#define PROTOCOL_KNOWN 1

struct control_client {
    int fd;
    struct buf input;
    size_t taken;    /* of input: lines that were read */
    size_t searched; /* of input: no newline behind those up to here */
    json_t *greeting;
    json_int_t request_id;
};

/* ---- the socket ---- */

static int broken(struct error *error, const char *what)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return error_set(error, "the daemon does not answer");
    return error_set_errno(error, errno, "%s", what);
}

/* Through the directory's descriptor: the path may be longer than a socket's. */
static int connect_to(int fd, const char *run_directory, struct error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int directory_fd = open(run_directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int result = -1;

    if (directory_fd < 0)
        return error_set_errno(error, errno, "%s/%s", run_directory, SOCKET_NAME);
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", directory_fd, SOCKET_NAME);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        result = 0;
    else if (errno == ENOENT || errno == ECONNREFUSED)
        error_set_errno(error, errno, "no daemon answers at %s/%s", run_directory, SOCKET_NAME);
    else
        error_set_errno(error, errno, "%s/%s", run_directory, SOCKET_NAME);
    close(directory_fd);
    return result;
}

static int open_socket(const char *run_directory, struct error *error)
{
    const struct timeval timeout = {.tv_sec = CONTROL_CLIENT_TIMEOUT_MS / 1000};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return error_set_errno(error, errno, "socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    if (connect_to(fd, run_directory, error) == 0)
        return fd;
    close(fd);
    return -1;
}

/* ---- lines ---- */

static int read_more(struct control_client *client, struct error *error)
{
    char *room;
    ssize_t count;

    buf_consume(&client->input, client->taken);
    client->searched -= client->taken;
    client->taken = 0;
    room = buf_reserve(&client->input, READ_BYTES);
    if (!room)
        return error_set(error, "an answer of the daemon is too long");
    do
        count = recv(client->fd, room, READ_BYTES, 0);
    while (count < 0 && errno == EINTR);
    if (count < 0)
        return broken(error, "reading from the daemon");
    if (count == 0)
        return error_set(error, "the daemon has closed the connection");
    client->input.length += (size_t)count;
    return 0;
}

/* The next line as JSON; NULL: there is none, or it is something else. */
static json_t *read_line(struct control_client *client, struct error *error)
{
    json_error_t fault;
    json_t *value;
    size_t end;

    while ((end = str_find(str_skip(buf_str(&client->input), client->searched), '\n')) == STR_NONE) {
        client->searched = client->input.length;
        if (read_more(client, error) != 0)
            return NULL;
    }
    end += client->searched;
    value = json_loadb(client->input.data + client->taken, end - client->taken, 0, &fault);
    client->taken = client->searched = end + 1;
    if (!json_is_object(value)) {
        error_set(error, "what the daemon says is not JSON: %s", fault.text);
        json_decref(value);
        return NULL;
    }
    return value;
}

/* ---- life ---- */

/* An error where the greeting should stand: whoever may not, or too many. */
static int check_greeting(const json_t *greeting, struct error *error)
{
    const json_t *refusal = json_object_get(greeting, "error");
    const char *code = json_string_value(json_object_get(refusal, "code"));
    const char *text = json_string_value(json_object_get(refusal, "text"));
    json_int_t protocol = json_integer_value(json_object_get(greeting, "protocol"));

    if (refusal) {
        error_set(error, "the daemon says: %s", text ? text : "no");
        if (code && strcmp(code, "not-permitted") == 0)
            error->errno_value = EACCES;
        return -1;
    }
    if (protocol != PROTOCOL_KNOWN)
        return error_set(error, "the daemon speaks version %" JSON_INTEGER_FORMAT " of the control protocol, not %d",
                         protocol, PROTOCOL_KNOWN);
    return 0;
}

int control_client_open(struct control_client **out, const char *run_directory, struct error *error)
{
    struct control_client *client;
    int fd = open_socket(run_directory, error);

    *out = NULL;
    if (fd < 0)
        return -1;
    client = mem_alloc(sizeof(*client));
    client->fd = fd;
    buf_init(&client->input, CONTROL_ANSWER_BYTES_MAX);
    client->greeting = read_line(client, error);
    if (!client->greeting || check_greeting(client->greeting, error) != 0) {
        control_client_close(&client);
        return -1;
    }
    *out = client;
    return 0;
}

void control_client_close(struct control_client **pointer)
{
    struct control_client *client = *pointer;

    *pointer = NULL;
    if (!client)
        return;
    close(client->fd);
    buf_release(&client->input);
    json_decref(client->greeting);
    free(client);
}

const json_t *control_client_greeting(const struct control_client *client)
{
    return client->greeting;
}

/* ---- questions and answers ---- */

int control_client_send(struct control_client *client, json_t *request, struct error *error)
{
    char *text;
    size_t length, sent = 0;
    int result = 0;

    json_object_set_new(request, "id", json_integer(++client->request_id));
    text = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    if (!text)
        return error_set(error, "the request can't be written as JSON");
    length = strlen(text);
    text[length++] = '\n'; /* in place of the NUL */
    while (sent < length && result == 0) {
        ssize_t count = send(client->fd, text + sent, length - sent, MSG_NOSIGNAL);

        if (count >= 0)
            sent += (size_t)count;
        else if (errno != EINTR)
            result = broken(error, "writing to the daemon");
    }
    free(text);
    return result;
}

enum control_answer control_client_next(struct control_client *client, json_t **value, struct error *error)
{
    static const struct {
        const char *key;
        enum control_answer answer;
    } kinds[] = {{"item", CONTROL_ANSWER_ITEM},
                 {"progress", CONTROL_ANSWER_PROGRESS},
                 {"done", CONTROL_ANSWER_DONE},
                 {"error", CONTROL_ANSWER_ERROR}};
    json_t *line = read_line(client, error);

    *value = NULL;
    if (!line)
        return CONTROL_ANSWER_BROKEN;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        json_t *found = json_object_get(line, kinds[i].key);

        if (!found)
            continue;
        *value = json_incref(found);
        json_decref(line);
        return kinds[i].answer;
    }
    json_decref(line);
    error_set(error, "the daemon gives an answer of an unknown kind");
    return CONTROL_ANSWER_BROKEN;
}
