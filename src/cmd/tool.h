/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool: what the commands of `postern` share. Each command is one function that returns the process's exit code; main parses all
 * options, and the table of commands says which of them each one takes. One thread.
 */
#ifndef POSTERN_CMD_TOOL_H
#define POSTERN_CMD_TOOL_H

#include "config/config.h"

#include <jansson.h>
#include <stdio.h>

enum exit_code { EXIT_DONE = 0, EXIT_NO = 1, EXIT_USAGE = 2, EXIT_COULD_NOT = 3 };

#define TOOL_GROUPS_MAX 100
/* Of an option that may be given several times. */
#define TOOL_VALUES_MAX 100

struct tool_values {
    struct str items[TOOL_VALUES_MAX];
    size_t count;
};

/* NULL: not given. */
struct tool_options {
    const char *config_path;
    bool json;
    bool help;
    bool version;
    const char *against;
    bool batch;
    const char *server;
    const char *client;
    const char *client_name;
    const char *client_name_state;
    const char *certificate;
    bool tls;
    const char *user;
    struct str groups[TOOL_GROUPS_MAX];
    size_t group_count;
    const char *from;
    const char *to;
    struct tool_values added, removed;
    const char *list_owner;
    bool replace;
    bool no_password;
    /* relaytest's */
    const char *external;
    const char *local_domain;
    const char *server_name;
    const char *server_address;
    const char *probe;
    const char *password_file;
    const char *catch;
    const char *wait;
    const char *timeout;
    const char *junit;
    bool starttls;
    bool envelope_only;
    bool transcript;
    bool yes;
    uint64_t seen; /* which were given, as bits of enum tool_option */
};

/* Those that not every command takes. */
enum tool_option {
    TOOL_AGAINST,
    TOOL_BATCH,
    TOOL_SERVER,
    TOOL_CLIENT,
    TOOL_CLIENT_NAME,
    TOOL_CLIENT_NAME_STATE,
    TOOL_CERT,
    TOOL_TLS,
    TOOL_USER,
    TOOL_GROUP,
    TOOL_FROM,
    TOOL_TO,
    TOOL_EXTERNAL,
    TOOL_LOCAL_DOMAIN,
    TOOL_SERVER_NAME,
    TOOL_SERVER_ADDRESS,
    TOOL_PROBE,
    TOOL_STARTTLS,
    TOOL_PASSWORD_FILE,
    TOOL_ENVELOPE_ONLY,
    TOOL_CATCH,
    TOOL_WAIT,
    TOOL_TIMEOUT,
    TOOL_TRANSCRIPT,
    TOOL_JUNIT,
    TOOL_YES,
    TOOL_ADD,
    TOOL_REMOVE,
    TOOL_LIST_OWNER,
    TOOL_REPLACE,
    TOOL_NO_PASSWORD,
    TOOL_OPTION_COUNT,
};

/* The commands. `arguments` are those after the command's words, as many as its entry in the table says. */
enum exit_code tool_check(const struct tool_options *options, char *const *arguments);
enum exit_code tool_explain(const struct tool_options *options, char *const *arguments);
enum exit_code tool_explain_batch(const struct tool_options *options);
enum exit_code tool_schema(const struct tool_options *options, char *const *arguments);
enum exit_code tool_spool_check(const struct tool_options *options, char *const *arguments);
enum exit_code tool_relaytest(const struct tool_options *options, char *const *arguments);
enum exit_code tool_user_add(const struct tool_options *options, char *const *arguments);
enum exit_code tool_user_passwd(const struct tool_options *options, char *const *arguments);
enum exit_code tool_user_delete(const struct tool_options *options, char *const *arguments);
enum exit_code tool_user_disable(const struct tool_options *options, char *const *arguments);
enum exit_code tool_user_enable(const struct tool_options *options, char *const *arguments);
enum exit_code tool_user_list(const struct tool_options *options, char *const *arguments);
enum exit_code tool_user_groups(const struct tool_options *options, char *const *arguments);
enum exit_code tool_user_addresses(const struct tool_options *options, char *const *arguments);
enum exit_code tool_user_certificates(const struct tool_options *options, char *const *arguments);
enum exit_code tool_user_hash(const struct tool_options *options, char *const *arguments);
enum exit_code tool_recipient_add(const struct tool_options *options, char *const *arguments);
enum exit_code tool_recipient_delete(const struct tool_options *options, char *const *arguments);
enum exit_code tool_recipient_list(const struct tool_options *options, char *const *arguments);

/* "postern: ..." to the standard error; returns EXIT_USAGE. */
enum exit_code tool_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Loads the configuration without its warnings. NULL: its errors went to the standard error. */
const struct config *tool_load_config(const char *path);

/* Prints on one line and drops the reference. */
void tool_print_json(json_t *value);
/* File names are bytes; JSON is not. */
json_t *tool_json_text(struct str text);
/* "FILE:LINE"; null for a default, and for NULL. */
json_t *tool_json_place(const struct policy_rule *rule);

/* Terminal sequences, empty where colours are not wanted: not a terminal, or NO_COLOR is set (no-color.org). */
struct tool_colors {
    const char *good;
    const char *bad;
    const char *warning;
    const char *strong;
    const char *faint;
    const char *end;
};
const struct tool_colors *tool_colors(void);

#endif
