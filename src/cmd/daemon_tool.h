/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon_tool: the commands of `postern` that talk to the running daemon, status, reload, drain, queue, why and track: their options, and what they share. They
 * know nothing but the control protocol (control/client.h), and the tracking log's files where no daemon answers. One thread.
 */
#ifndef POSTERN_CMD_DAEMON_TOOL_H
#define POSTERN_CMD_DAEMON_TOOL_H

#include "cmd/tool.h"
#include "control/client.h"

/* NULL, or 0: not given. */
struct daemon_options {
    const char *config_path;
    bool json;
    bool help;
    bool all;
    bool wait;
    const char *domain;
    const char *sender;
    const char *recipient;
    const char *older_than;
    const char *state; /* several, separated by commas */
    const char *text;
    const char *id;
    const char *event; /* several, separated by commas */
    const char *since;
    const char *until;
    const char *limit;
    unsigned seen; /* which were given, as bits of enum daemon_option */
};

enum daemon_option {
    DAEMON_ALL,
    DAEMON_WAIT,
    DAEMON_DOMAIN,
    DAEMON_SENDER,
    DAEMON_RECIPIENT,
    DAEMON_OLDER_THAN,
    DAEMON_STATE,
    DAEMON_TEXT,
    DAEMON_ID,
    DAEMON_EVENT,
    DAEMON_SINCE,
    DAEMON_UNTIL,
    DAEMON_LIMIT,
    DAEMON_OPTION_COUNT,
};

/* Whether these arguments of the process name one of the commands. */
bool daemon_tool_is_asked(int argc, char *const *argv);
enum exit_code daemon_tool_main(int argc, char **argv);
/* The commands' part of the help. */
void daemon_tool_print_help(FILE *out);

/* ---- for the commands ---- */

enum exit_code daemon_tool_status(const struct daemon_options *options, char *const *arguments);
enum exit_code daemon_tool_reload(const struct daemon_options *options, char *const *arguments);
enum exit_code daemon_tool_drain(const struct daemon_options *options, char *const *arguments);
enum exit_code daemon_tool_queue_list(const struct daemon_options *options, char *const *arguments);
enum exit_code daemon_tool_queue_show(const struct daemon_options *options, char *const *arguments);
enum exit_code daemon_tool_queue_hold(const struct daemon_options *options, char *const *arguments);
enum exit_code daemon_tool_queue_release(const struct daemon_options *options, char *const *arguments);
enum exit_code daemon_tool_queue_retry(const struct daemon_options *options, char *const *arguments);
enum exit_code daemon_tool_queue_delete(const struct daemon_options *options, char *const *arguments);
enum exit_code daemon_tool_queue_bounce(const struct daemon_options *options, char *const *arguments);
enum exit_code daemon_tool_why(const struct daemon_options *options, char *const *arguments);
enum exit_code daemon_tool_track(const struct daemon_options *options, char *const *arguments);

/* Called for each item, whose reference stays the caller's; false: no more are wanted. */
typedef bool daemon_item_fn(void *context, json_t *item);

/*
 * One command: takes over the request. `*done` (NULL: not wanted) is the caller's. EXIT_DONE; EXIT_NO for "refused" and "not-found", EXIT_USAGE for
 * "bad-argument", else EXIT_COULD_NOT: with a word on the standard error.
 */
enum exit_code daemon_ask(const struct daemon_options *options, json_t *request, daemon_item_fn *item, void *context,
                          json_t **done);
/* Where daemon and files are; to be released. false: the errors went to the standard error. */
bool daemon_places(const struct daemon_options *options, struct config_places *places);
/* The same; `*is_absent` true at the call: without a word about a daemon that is not there, or may not be asked. After it: whether that is so. */
enum exit_code daemon_try(const struct daemon_options *options, json_t *request, daemon_item_fn *item, void *context,
                          json_t **done, bool *is_absent);

/* The text of a key, "" if it is none. */
const char *daemon_text(const json_t *object, const char *key);
json_int_t daemon_number(const json_t *object, const char *key);
/* To the standard output, without what would move a terminal's cursor. */
void daemon_print_text(const char *text);
/* "2026-11-21T10:00:00.123Z" to milliseconds; -1: none. */
int64_t daemon_parse_time(const char *text);
/* "3d", "5h", "12m", "3s". */
#define DAEMON_AGE_BYTES 24
const char *daemon_format_age(int64_t age_ms, char text[DAEMON_AGE_BYTES]);
/* Splits at commas into a JSON array of texts. */
json_t *daemon_split(const char *text);

#endif
