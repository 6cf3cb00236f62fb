/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/daemon_tool.h"

#include "mail/text.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TAKES(option) (1u << (option))
#define TAKES_FILTER                                                                                                   \
    (TAKES(DAEMON_DOMAIN) | TAKES(DAEMON_SENDER) | TAKES(DAEMON_RECIPIENT) | TAKES(DAEMON_OLDER_THAN) |                \
     TAKES(DAEMON_STATE))
#define TAKES_SELECTION (TAKES_FILTER | TAKES(DAEMON_ALL))
#define TAKES_TRACK                                                                                                    \
    (TAKES(DAEMON_SENDER) | TAKES(DAEMON_RECIPIENT) | TAKES(DAEMON_ID) | TAKES(DAEMON_EVENT) | TAKES(DAEMON_SINCE) |   \
     TAKES(DAEMON_UNTIL) | TAKES(DAEMON_LIMIT))

struct daemon_command {
    const char *words[2];
    const char *parameters;
    int parameters_min, parameters_max;
    unsigned takes;
    const char *about;
    enum exit_code (*run)(const struct daemon_options *options, char *const *arguments);
};

static const struct daemon_command commands[] = {
    {{"status", NULL}, "", 0, 0, 0, "what the running daemon does", daemon_tool_status},
    {{"reload", NULL}, "", 0, 0, 0, "have the daemon read its configuration again", daemon_tool_reload},
    {{"drain", NULL}, "", 0, 0, TAKES(DAEMON_WAIT), "take no new mail, and finish what is queued", daemon_tool_drain},
    {{"queue", "list"}, "", 0, 0, TAKES_FILTER | TAKES(DAEMON_LIMIT), "messages under way", daemon_tool_queue_list},
    {{"queue", "show"}, "ID", 1, 1, 0, "one message and its recipients", daemon_tool_queue_show},
    {{"queue", "hold"}, "[ID]", 0, 1, TAKES_SELECTION, "keep back", daemon_tool_queue_hold},
    {{"queue", "release"}, "[ID]", 0, 1, TAKES_SELECTION, "send on what is kept back", daemon_tool_queue_release},
    {{"queue", "retry"}, "[ID]", 0, 1, TAKES_SELECTION, "try again now", daemon_tool_queue_retry},
    {{"queue", "delete"}, "[ID]", 0, 1, TAKES_SELECTION, "drop, without a report", daemon_tool_queue_delete},
    {{"queue", "bounce"},
     "[ID]",
     0,
     1,
     TAKES_SELECTION | TAKES(DAEMON_TEXT),
     "return to the sender, with a report",
     daemon_tool_queue_bounce},
    {{"why", NULL}, "ID", 1, 1, 0, "what let a message in, and what became of it", daemon_tool_why},
    {{"track", NULL}, "", 0, 0, TAKES_TRACK, "search the record of all messages", daemon_tool_track},
};
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

enum { OPTION_JSON = 256, OPTION_FIRST_OF_COMMANDS };
#define OF_COMMAND(option) (OPTION_FIRST_OF_COMMANDS + (option))

static const struct option option_names[] = {
    {"json", no_argument, NULL, OPTION_JSON},
    {"help", no_argument, NULL, 'h'},
    {"all", no_argument, NULL, OF_COMMAND(DAEMON_ALL)},
    {"wait", no_argument, NULL, OF_COMMAND(DAEMON_WAIT)},
    {"domain", required_argument, NULL, OF_COMMAND(DAEMON_DOMAIN)},
    {"sender", required_argument, NULL, OF_COMMAND(DAEMON_SENDER)},
    {"recipient", required_argument, NULL, OF_COMMAND(DAEMON_RECIPIENT)},
    {"older-than", required_argument, NULL, OF_COMMAND(DAEMON_OLDER_THAN)},
    {"state", required_argument, NULL, OF_COMMAND(DAEMON_STATE)},
    {"text", required_argument, NULL, OF_COMMAND(DAEMON_TEXT)},
    {"id", required_argument, NULL, OF_COMMAND(DAEMON_ID)},
    {"event", required_argument, NULL, OF_COMMAND(DAEMON_EVENT)},
    {"since", required_argument, NULL, OF_COMMAND(DAEMON_SINCE)},
    {"until", required_argument, NULL, OF_COMMAND(DAEMON_UNTIL)},
    {"limit", required_argument, NULL, OF_COMMAND(DAEMON_LIMIT)},
    {0},
};

void daemon_tool_print_help(FILE *out)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        char words[64];

        snprintf(words, sizeof(words), "%s%s%s%s%s", commands[i].words[0], commands[i].words[1] ? " " : "",
                 commands[i].words[1] ? commands[i].words[1] : "", commands[i].parameters[0] ? " " : "",
                 commands[i].parameters);
        fprintf(out, "  %-24s %s\n", words, commands[i].about);
    }
}

/* ---- which command, which options ---- */

/* Options that may stand before any command; the first word that is none of them is the command's. */
bool daemon_tool_is_asked(int argc, char *const *argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-c") == 0) {
            i++;
            continue;
        }
        if (argv[i][0] == '-')
            continue;
        for (size_t j = 0; j < COMMAND_COUNT; j++)
            if (strcmp(argv[i], commands[j].words[0]) == 0)
                return true;
        return false;
    }
    return false;
}

static void set_option(struct daemon_options *options, enum daemon_option option, const char *value)
{
    const char **texts[DAEMON_OPTION_COUNT] = {
        [DAEMON_DOMAIN] = &options->domain,
        [DAEMON_SENDER] = &options->sender,
        [DAEMON_RECIPIENT] = &options->recipient,
        [DAEMON_OLDER_THAN] = &options->older_than,
        [DAEMON_STATE] = &options->state,
        [DAEMON_TEXT] = &options->text,
        [DAEMON_ID] = &options->id,
        [DAEMON_EVENT] = &options->event,
        [DAEMON_SINCE] = &options->since,
        [DAEMON_UNTIL] = &options->until,
        [DAEMON_LIMIT] = &options->limit,
    };

    options->seen |= TAKES(option);
    if (option == DAEMON_ALL)
        options->all = true;
    else if (option == DAEMON_WAIT)
        options->wait = true;
    else
        *texts[option] = value;
}

static bool read_options(int argc, char **argv, struct daemon_options *options)
{
    int option;

    while ((option = getopt_long(argc, argv, "c:h", option_names, NULL)) != -1) {
        if (option == 'c')
            options->config_path = optarg;
        else if (option == OPTION_JSON)
            options->json = true;
        else if (option == 'h')
            options->help = true;
        else if (option < OPTION_FIRST_OF_COMMANDS)
            return false; /* getopt_long has said what is wrong */
        else
            set_option(options, (enum daemon_option)(option - OPTION_FIRST_OF_COMMANDS), optarg);
    }
    return true;
}

static const char *option_name(int option)
{
    for (size_t i = 0; option_names[i].name; i++)
        if (option_names[i].val == OF_COMMAND(option))
            return option_names[i].name;
    return "";
}

static const struct daemon_command *find_command(int count, char *const *arguments)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (count > 0 && strcmp(arguments[0], commands[i].words[0]) == 0 &&
            (!commands[i].words[1] || (count > 1 && strcmp(arguments[1], commands[i].words[1]) == 0)))
            return &commands[i];
    return NULL;
}

static enum exit_code run_command(const struct daemon_options *options, int count, char *const *arguments)
{
    const struct daemon_command *command = find_command(count, arguments);
    int words;
    unsigned foreign;

    if (!command)
        return tool_usage("unknown command \"%s%s%s\"", arguments[0], count > 1 ? " " : "",
                          count > 1 ? arguments[1] : "");
    words = command->words[1] ? 2 : 1;
    foreign = options->seen & ~command->takes;
    if (foreign)
        return tool_usage("\"%s%s%s\" takes no --%s", command->words[0], command->words[1] ? " " : "",
                          command->words[1] ? command->words[1] : "", option_name(__builtin_ctz(foreign)));
    if (count - words < command->parameters_min || count - words > command->parameters_max)
        return tool_usage("\"%s%s%s\" takes %s", command->words[0], command->words[1] ? " " : "",
                          command->words[1] ? command->words[1] : "",
                          command->parameters[0] ? command->parameters : "no arguments");
    return command->run(options, arguments + words);
}

enum exit_code daemon_tool_main(int argc, char **argv)
{
    struct daemon_options options = {.config_path = CONFIG_PATH_DEFAULT};

    if (!read_options(argc, argv, &options))
        return EXIT_USAGE;
    if (options.help) {
        daemon_tool_print_help(stdout);
        puts("\nSee postern(1).");
        return EXIT_DONE;
    }
    /* The arguments end with NULL. */
    return run_command(&options, argc - optind, argv + optind);
}

/* ---- asking ---- */

static enum exit_code code_of(const json_t *fault)
{
    const char *code = daemon_text(fault, "code");

    fputs("postern: ", stderr);
    fprintf(stderr, "%s\n", daemon_text(fault, "text"));
    if (strcmp(code, "refused") == 0 || strcmp(code, "not-found") == 0)
        return EXIT_NO;
    return strcmp(code, "bad-argument") == 0 ? EXIT_USAGE : EXIT_COULD_NOT;
}

static enum exit_code read_answers(struct control_client *client, daemon_item_fn *item, void *context, json_t **done,
                                   struct error *error)
{
    for (;;) {
        json_t *value;
        enum control_answer answer = control_client_next(client, &value, error);
        enum exit_code code = EXIT_DONE;
        bool goes_on = true;

        switch (answer) {
        case CONTROL_ANSWER_ITEM:
        case CONTROL_ANSWER_PROGRESS:
            goes_on = answer == CONTROL_ANSWER_PROGRESS || !item || item(context, value);
            break;
        case CONTROL_ANSWER_DONE:
            goes_on = false;
            if (done)
                *done = json_incref(value);
            break;
        case CONTROL_ANSWER_ERROR:
            code = code_of(value);
            goes_on = false;
            break;
        case CONTROL_ANSWER_BROKEN:
            fprintf(stderr, "postern: %s\n", error->text);
            code = EXIT_COULD_NOT;
            goes_on = false;
            break;
        }
        json_decref(value);
        if (!goes_on)
            return code;
    }
}

bool daemon_places(const struct daemon_options *options, struct config_places *places)
{
    struct config_errors errors;
    struct buf line;
    bool result;

    config_errors_init(&errors);
    buf_init(&line, CONFIG_MESSAGE_BYTES_MAX * 8);
    result = config_load_places(vfs_system(), options->config_path, places, &errors) == 0;
    for (size_t i = 0; !result && i < errors.count; i++) {
        buf_clear(&line);
        config_message_format(&errors.messages[i], &line);
        fprintf(stderr, "%.*s\n", STR_ARG(buf_str(&line)));
    }
    buf_release(&line);
    config_errors_release(&errors);
    return result;
}

enum exit_code daemon_try(const struct daemon_options *options, json_t *request, daemon_item_fn *item, void *context,
                          json_t **done, bool *is_absent)
{
    const bool is_quiet = *is_absent;
    struct config_places places = {0};
    struct control_client *client = NULL;
    enum exit_code code = EXIT_COULD_NOT;
    struct error error = {0};

    if (done)
        *done = NULL;
    *is_absent = false;
    if (!daemon_places(options, &places)) {
        json_decref(request);
    } else if (control_client_open(&client, places.run_dir, &error) != 0) {
        json_decref(request);
        *is_absent = true;
        if (!is_quiet)
            fprintf(stderr, "postern: %s\n", error.text);
    } else if (control_client_send(client, request, &error) != 0) {
        fprintf(stderr, "postern: %s\n", error.text);
    } else {
        code = read_answers(client, item, context, done, &error);
    }
    control_client_close(&client);
    config_places_release(&places);
    return code;
}

enum exit_code daemon_ask(const struct daemon_options *options, json_t *request, daemon_item_fn *item, void *context,
                          json_t **done)
{
    bool is_absent = false;

    return daemon_try(options, request, item, context, done, &is_absent);
}

/* ---- showing ---- */

const char *daemon_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

json_int_t daemon_number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

void daemon_print_text(const char *text)
{
    struct buf clean;

    buf_init(&clean, SIZE_MAX);
    text_append_clean(&clean, str_from_cstr(text), strlen(text), false);
    fwrite(clean.data ? clean.data : "", 1, clean.length, stdout);
    buf_release(&clean);
}

int64_t daemon_parse_time(const char *text)
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    unsigned ms = 0;

    if (!rest)
        return -1;
    if (*rest == '.')
        for (int i = 0, scale = 100; i < 3 && ascii_is_digit(rest[1 + i]); i++, scale /= 10)
            ms += (unsigned)(rest[1 + i] - '0') * (unsigned)scale;
    return (int64_t)timegm(&tm) * 1000 + ms;
}

const char *daemon_format_age(int64_t age_ms, char text[DAEMON_AGE_BYTES])
{
    const long long seconds = age_ms > 0 ? age_ms / 1000 : 0;

    if (seconds >= 2 * 86400)
        snprintf(text, DAEMON_AGE_BYTES, "%lldd", seconds / 86400);
    else if (seconds >= 2 * 3600)
        snprintf(text, DAEMON_AGE_BYTES, "%lldh", seconds / 3600);
    else if (seconds >= 120)
        snprintf(text, DAEMON_AGE_BYTES, "%lldm", seconds / 60);
    else
        snprintf(text, DAEMON_AGE_BYTES, "%llds", seconds);
    return text;
}

json_t *daemon_split(const char *text)
{
    json_t *list = json_array();
    struct str rest = str_from_cstr(text);

    while (rest.data) {
        struct str part = str_trim(str_split(&rest, ','));

        json_array_append_new(list, tool_json_text(part));
    }
    return list;
}
