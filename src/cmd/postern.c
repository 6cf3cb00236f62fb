/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postern: the command line. Nothing here needs a running daemon.
 *
 * Exit: 0 done or yes, 1 no, 2 usage, 3 could not.
 */
#include "config/config.h"
#include "config/schema.h"
#include "spool/spool.h"

#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>

enum exit_code { EXIT_DONE = 0, EXIT_NO = 1, EXIT_USAGE = 2, EXIT_COULD_NOT = 3 };

struct options {
    const char *config_path;
    bool json;
    bool help;
    bool version;
};

/* ---- output ---- */

static void print_json(json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_PRESERVE_ORDER);

    json_decref(value);
    if (!text)
        abort(); /* out of memory, or text that is not UTF-8, which was checked on the way in */
    puts(text);
    free(text);
}

/* File names are bytes; JSON is not. */
static json_t *json_text(struct str text)
{
    json_t *value = json_stringn(text.data ? text.data : "", text.length);
    struct buf clean;

    if (value)
        return value;
    buf_init(&clean, text.length);
    for (size_t i = 0; i < text.length; i++)
        buf_append_char(&clean, (unsigned char)text.data[i] < 0x80 ? text.data[i] : '?');
    value = json_stringn(clean.data, clean.length);
    buf_release(&clean);
    return value;
}

/* FILE:LINE, of an error with :COLUMN; null if it stands nowhere. */
static json_t *place_of(const struct config_message *message)
{
    struct buf place;
    json_t *value;

    if (!message->file[0])
        return json_null();
    buf_init(&place, CONFIG_MESSAGE_BYTES_MAX * 4);
    buf_append_str(&place, str_from_cstr(message->file));
    if (message->line)
        buf_printf(&place, ":%u", message->line);
    if (message->line && message->column && !message->is_warning)
        buf_printf(&place, ":%u", message->column);
    value = json_text(buf_str(&place));
    buf_release(&place);
    return value;
}

/* ---- check ---- */

static void print_check_json(const struct options *options, const struct config_errors *errors)
{
    json_t *lists[2] = {json_array(), json_array()};

    for (size_t i = 0; i < errors->count; i++) {
        const struct config_message *message = &errors->messages[i];
        json_t *item = json_object();

        if (message->is_warning)
            json_object_set_new(item, "code", json_string(message->code));
        json_object_set_new(item, "at", place_of(message));
        json_object_set_new(item, "text", json_text(str_from_cstr(message->text)));
        json_array_append_new(lists[message->is_warning], item);
    }
    print_json(json_pack("{s:o, s:b, s:o, s:o}", "file", json_text(str_from_cstr(options->config_path)), "valid",
                         errors->error_count == 0, "errors", lists[0], "warnings", lists[1]));
}

static void print_check_text(const struct options *options, const struct config_errors *errors)
{
    struct buf line;

    buf_init(&line, CONFIG_MESSAGE_BYTES_MAX * 8);
    for (size_t i = 0; i < errors->count; i++) {
        const struct config_message *message = &errors->messages[i];

        buf_clear(&line);
        config_message_format(message, &line);
        fprintf(message->is_warning ? stdout : stderr, "%.*s\n", STR_ARG(buf_str(&line)));
    }
    buf_release(&line);
    if (errors->error_count + errors->warning_count > errors->count)
        fprintf(stderr, "... and %zu more\n", errors->error_count + errors->warning_count - errors->count);
    if (errors->error_count == 0)
        printf("%s: ok\n", options->config_path);
}

static enum exit_code command_check(const struct options *options, char *const *arguments)
{
    struct config_errors errors;
    const struct config *config = NULL;
    int result;

    (void)arguments;
    config_errors_init(&errors);
    result = config_load(vfs_system(), options->config_path, NULL, &config, &errors);
    if (options->json)
        print_check_json(options, &errors);
    else
        print_check_text(options, &errors);
    config_release(&config);
    config_errors_release(&errors);
    return result == 0 ? EXIT_DONE : EXIT_COULD_NOT;
}

/* ---- schema ---- */

#define SCHEMA_BYTES_MAX (1u << 20)

static enum exit_code command_schema(const struct options *options, char *const *arguments)
{
    struct buf out;

    (void)options;
    (void)arguments;
    buf_init(&out, SCHEMA_BYTES_MAX);
    schema_write_json(&out);
    fwrite(out.data, 1, out.length, stdout);
    buf_release(&out);
    return EXIT_DONE;
}

/* ---- spool check ---- */

struct spool_output {
    bool json;
    json_t *findings;
};

static void print_finding(void *context, const char *text)
{
    struct spool_output *output = context;

    if (output->json)
        json_array_append_new(output->findings, json_text(str_from_cstr(text)));
    else
        printf("%s\n", text);
}

static void print_spool_report(const struct spool_output *output, const struct spool_check_report *report)
{
    if (output->json) {
        print_json(json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O}", "segments", (json_int_t)report->segments,
                             "frames", (json_int_t)report->frames, "live_messages", (json_int_t)report->live_messages,
                             "dead_messages", (json_int_t)report->dead_messages, "torn_tails",
                             (json_int_t)report->torn_tails, "damaged_frames", (json_int_t)report->damaged_frames,
                             "damaged_bodies", (json_int_t)report->damaged_bodies, "findings", output->findings));
        return;
    }
    printf("%" PRIu64 " segments, %" PRIu64 " frames, %" PRIu64 " live messages, %" PRIu64 " dead messages\n",
           report->segments, report->frames, report->live_messages, report->dead_messages);
    printf("%" PRIu64 " torn tails, %" PRIu64 " damaged frames, %" PRIu64 " damaged bodies\n", report->torn_tails,
           report->damaged_frames, report->damaged_bodies);
}

static enum exit_code command_spool_check(const struct options *options, char *const *arguments)
{
    struct spool_output output = {.json = options->json, .findings = json_array()};
    struct spool_check_report report = {0};
    struct error error = {0};
    enum exit_code code = EXIT_COULD_NOT;
    int64_t damaged = spool_check(vfs_system(), arguments[0], &report, print_finding, &output, &error);

    if (damaged < 0) {
        fprintf(stderr, "postern: %s\n", error.text);
    } else {
        print_spool_report(&output, &report);
        code = damaged == 0 && report.damaged_bodies == 0 ? EXIT_DONE : EXIT_NO;
    }
    json_decref(output.findings);
    return code;
}

/* ---- dispatch ---- */

struct command {
    const char *words[2];
    const char *parameters;
    int parameter_count;
    const char *about;
    enum exit_code (*run)(const struct options *options, char *const *arguments);
};

static const struct command commands[] = {
    {{"check", NULL}, "", 0, "validate the configuration, and warn of what may surprise", command_check},
    {{"schema", NULL}, "", 0, "print the JSON Schema of the configuration, for editors", command_schema},
    {{"spool", "check"}, "DIR", 1, "verify the spool in DIR, offline; changes nothing", command_spool_check},
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static void print_help(FILE *out)
{
    fprintf(out, "usage: postern [-c FILE] [--json] COMMAND\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        char words[64];

        snprintf(words, sizeof(words), "%s%s%s%s%s", commands[i].words[0], commands[i].words[1] ? " " : "",
                 commands[i].words[1] ? commands[i].words[1] : "", commands[i].parameters[0] ? " " : "",
                 commands[i].parameters);
        fprintf(out, "  %-18s %s\n", words, commands[i].about);
    }
    fprintf(out,
            "\n  -c FILE            the configuration (default %s)\n"
            "  --json             output for programs\n"
            "  --help, --version\n"
            "\nExit: 0 done or yes, 1 no, 2 usage, 3 could not. See postern(1).\n",
            CONFIG_PATH_DEFAULT);
}

/* How many of the arguments are the command's words; 0 if they are another's. */
static int match_words(const struct command *command, int argument_count, char *const *arguments)
{
    int count = command->words[1] ? 2 : 1;

    if (argument_count < count)
        return 0;
    for (int i = 0; i < count; i++)
        if (strcmp(arguments[i], command->words[i]) != 0)
            return 0;
    return count;
}

static enum exit_code dispatch(const struct options *options, int argument_count, char *const *arguments)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        int words = match_words(&commands[i], argument_count, arguments);

        if (words == 0)
            continue;
        if (argument_count - words != commands[i].parameter_count) {
            fprintf(stderr, "postern: \"%s\" takes %d arguments, not %d; try postern --help\n", commands[i].words[0],
                    commands[i].parameter_count, argument_count - words);
            return EXIT_USAGE;
        }
        return commands[i].run(options, arguments + words);
    }
    if (argument_count > 0)
        fprintf(stderr, "postern: unknown command \"%s\"; try postern --help\n", arguments[0]);
    else
        print_help(stderr);
    return EXIT_USAGE;
}

/* Options may stand before and after the command. */
static bool read_options(int argc, char **argv, struct options *options)
{
    static const struct option names[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'v'}, {0}};
    int option;

    while ((option = getopt_long(argc, argv, "c:h", names, NULL)) != -1) {
        if (option == 'c')
            options->config_path = optarg;
        else if (option == 'j')
            options->json = true;
        else if (option == 'h')
            options->help = true;
        else if (option == 'v')
            options->version = true;
        else
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct options options = {.config_path = CONFIG_PATH_DEFAULT};
    enum exit_code code;

    if (!read_options(argc, argv, &options))
        return EXIT_USAGE;
    if (options.help) {
        print_help(stdout);
        return EXIT_DONE;
    }
    if (options.version) {
        printf("postern %s\n", POSTERN_VERSION);
        return EXIT_DONE;
    }
    code = dispatch(&options, argc - optind, argv + optind);
    /* Output that was not written is not done: a full disk, a closed pipe. */
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "postern: cannot write the output\n");
        return EXIT_COULD_NOT;
    }
    return (int)code;
}
