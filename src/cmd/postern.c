/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postern: the command line. What talks to a running daemon is in daemon_tool.c, with options of its own; nothing here needs one.
 *
 * Exit: 0 done or yes, 1 no, 2 usage, 3 could not.
 */
#include "cmd/daemon_tool.h"
#include "cmd/tool.h"

#include <getopt.h>

#define TAKES(option) (UINT64_C(1) << (option))
#define TAKES_CASE                                                                                                     \
    (TAKES(TOOL_BATCH) | TAKES(TOOL_SERVER) | TAKES(TOOL_CLIENT) | TAKES(TOOL_CLIENT_NAME) |                           \
     TAKES(TOOL_CLIENT_NAME_STATE) | TAKES(TOOL_CERT) | TAKES(TOOL_TLS) | TAKES(TOOL_USER) | TAKES(TOOL_GROUP) |       \
     TAKES(TOOL_FROM) | TAKES(TOOL_TO))
#define TAKES_RELAYTEST                                                                                                \
    (TAKES(TOOL_EXTERNAL) | TAKES(TOOL_LOCAL_DOMAIN) | TAKES(TOOL_SERVER_NAME) | TAKES(TOOL_SERVER_ADDRESS) |          \
     TAKES(TOOL_CLIENT_NAME) | TAKES(TOOL_PROBE) | TAKES(TOOL_STARTTLS) | TAKES(TOOL_USER) |                           \
     TAKES(TOOL_PASSWORD_FILE) | TAKES(TOOL_ENVELOPE_ONLY) | TAKES(TOOL_CATCH) | TAKES(TOOL_WAIT) |                    \
     TAKES(TOOL_TIMEOUT) | TAKES(TOOL_TRANSCRIPT) | TAKES(TOOL_JUNIT) | TAKES(TOOL_YES))

#define TAKES_CHANGES (TAKES(TOOL_ADD) | TAKES(TOOL_REMOVE))

struct command {
    const char *words[2];
    const char *parameters;
    int parameter_count;
    uint64_t takes;
    const char *about;
    enum exit_code (*run)(const struct tool_options *options, char *const *arguments);
};

static const struct command commands[] = {
    {{"check", NULL},
     "",
     0,
     TAKES(TOOL_AGAINST),
     "validate the configuration, and state who may relay to where",
     tool_check},
    {{"explain", NULL}, "", 0, TAKES_CASE, "decide one case, or many, and say why", tool_explain},
    {{"relaytest", NULL},
     "HOST[:PORT]",
     1,
     TAKES_RELAYTEST,
     "prove what a mail server relays for strangers",
     tool_relaytest},
    {{"schema", NULL}, "", 0, 0, "print the JSON Schema of the configuration, for editors", tool_schema},
    {{"spool", "check"}, "DIR", 1, 0, "verify the spool in DIR, offline; changes nothing", tool_spool_check},
    {{"user", "add"}, "NAME", 1, TAKES(TOOL_GROUP) | TAKES(TOOL_NO_PASSWORD), "add a user", tool_user_add},
    {{"user", "passwd"}, "NAME", 1, TAKES(TOOL_NO_PASSWORD), "give a user another password", tool_user_passwd},
    {{"user", "delete"}, "NAME", 1, 0, "delete a user", tool_user_delete},
    {{"user", "disable"}, "NAME", 1, 0, "let a user sign in no more", tool_user_disable},
    {{"user", "enable"}, "NAME", 1, 0, "let a user sign in again", tool_user_enable},
    {{"user", "list"}, "", 0, 0, "list the users", tool_user_list},
    {{"user", "groups"}, "NAME", 1, TAKES_CHANGES, "show or change a user's groups", tool_user_groups},
    {{"user", "addresses"}, "NAME", 1, TAKES_CHANGES, "... the addresses it may send from too", tool_user_addresses},
    {{"user", "certificates"},
     "NAME",
     1,
     TAKES_CHANGES,
     "... the TLS certificates that prove it",
     tool_user_certificates},
    {{"user", "hash"}, "NAME", 1, 0, "print a user's line for a directory of the kind file", tool_user_hash},
    {{"recipient", "add"},
     "ADDRESS",
     1,
     TAKES(TOOL_TO) | TAKES(TOOL_LIST_OWNER) | TAKES(TOOL_REPLACE),
     "make an address known: a mailbox, alias, list or pattern",
     tool_recipient_add},
    {{"recipient", "delete"}, "ADDRESS", 1, 0, "make an address unknown", tool_recipient_delete},
    {{"recipient", "list"}, "", 0, 0, "list the recipients", tool_recipient_list},
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
        fprintf(out, "  %-24s %s\n", words, commands[i].about);
    }
    daemon_tool_print_help(out);
    fprintf(out,
            "\n  -c FILE            the configuration (default %s)\n"
            "  --json             output for programs\n"
            "  --help, --version\n"
            "\ncheck:\n"
            "  --against OLD      who gains and who loses relay, compared with the configuration OLD\n"
            "\nexplain:\n"
            "  --server NAME --client IP --from ADDRESS --to ADDRESS\n"
            "  --client-name NAME --client-name-state verified|none|unverified|tempfail\n"
            "  --tls --cert SHA256 --user NAME --group NAME...\n"
            "  --batch            questions as JSON lines on the standard input, answers as JSON lines\n"
            "\nrelaytest:\n"
            "  --catch ADDR:PORT --external ADDRESS --local-domain NAME --server-name NAME --server-address IP\n"
            "  --client-name NAME --probe N,M-K --starttls --user NAME --password-file FILE --envelope-only\n"
            "  --wait 30s --timeout 5m --transcript --junit FILE --yes\n"
            "\nuser: the embedded directory's; a password is asked for, or the first line of the standard input\n"
            "  --group GROUP...   add: the groups that it is in\n"
            "  --no-password      add, passwd: it can't sign in with one\n"
            "  --add VALUE... --remove VALUE...   groups, addresses, certificates\n"
            "\nrecipient add:\n"
            "  --to ADDRESS,...   what an alias or a list stands for\n"
            "  --list-owner ADDRESS   who gets the reports about what the list sends on\n"
            "  --replace          instead of what is known\n"
            "\nExit: 0 done or yes, 1 no, 2 usage, 3 could not. See postern(1).\n",
            CONFIG_PATH_DEFAULT);
}

/* ---- options ---- */

enum { OPTION_JSON = 256, OPTION_VERSION, OPTION_FIRST_OF_COMMANDS };

#define OF_COMMAND(option) (OPTION_FIRST_OF_COMMANDS + (option))

static const struct option option_names[] = {
    {"json", no_argument, NULL, OPTION_JSON},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"against", required_argument, NULL, OF_COMMAND(TOOL_AGAINST)},
    {"batch", no_argument, NULL, OF_COMMAND(TOOL_BATCH)},
    {"server", required_argument, NULL, OF_COMMAND(TOOL_SERVER)},
    {"client", required_argument, NULL, OF_COMMAND(TOOL_CLIENT)},
    {"client-name", required_argument, NULL, OF_COMMAND(TOOL_CLIENT_NAME)},
    {"client-name-state", required_argument, NULL, OF_COMMAND(TOOL_CLIENT_NAME_STATE)},
    {"cert", required_argument, NULL, OF_COMMAND(TOOL_CERT)},
    {"tls", no_argument, NULL, OF_COMMAND(TOOL_TLS)},
    {"user", required_argument, NULL, OF_COMMAND(TOOL_USER)},
    {"group", required_argument, NULL, OF_COMMAND(TOOL_GROUP)},
    {"from", required_argument, NULL, OF_COMMAND(TOOL_FROM)},
    {"to", required_argument, NULL, OF_COMMAND(TOOL_TO)},
    {"external", required_argument, NULL, OF_COMMAND(TOOL_EXTERNAL)},
    {"local-domain", required_argument, NULL, OF_COMMAND(TOOL_LOCAL_DOMAIN)},
    {"server-name", required_argument, NULL, OF_COMMAND(TOOL_SERVER_NAME)},
    {"server-address", required_argument, NULL, OF_COMMAND(TOOL_SERVER_ADDRESS)},
    {"probe", required_argument, NULL, OF_COMMAND(TOOL_PROBE)},
    {"starttls", no_argument, NULL, OF_COMMAND(TOOL_STARTTLS)},
    {"password-file", required_argument, NULL, OF_COMMAND(TOOL_PASSWORD_FILE)},
    {"envelope-only", no_argument, NULL, OF_COMMAND(TOOL_ENVELOPE_ONLY)},
    {"catch", required_argument, NULL, OF_COMMAND(TOOL_CATCH)},
    {"wait", required_argument, NULL, OF_COMMAND(TOOL_WAIT)},
    {"timeout", required_argument, NULL, OF_COMMAND(TOOL_TIMEOUT)},
    {"transcript", no_argument, NULL, OF_COMMAND(TOOL_TRANSCRIPT)},
    {"junit", required_argument, NULL, OF_COMMAND(TOOL_JUNIT)},
    {"yes", no_argument, NULL, OF_COMMAND(TOOL_YES)},
    {"add", required_argument, NULL, OF_COMMAND(TOOL_ADD)},
    {"remove", required_argument, NULL, OF_COMMAND(TOOL_REMOVE)},
    {"list-owner", required_argument, NULL, OF_COMMAND(TOOL_LIST_OWNER)},
    {"replace", no_argument, NULL, OF_COMMAND(TOOL_REPLACE)},
    {"no-password", no_argument, NULL, OF_COMMAND(TOOL_NO_PASSWORD)},
    {0},
};

static bool add_group(struct tool_options *options, const char *name)
{
    if (options->group_count == TOOL_GROUPS_MAX) {
        tool_usage("--group: there are more than %d", TOOL_GROUPS_MAX);
        return false;
    }
    options->groups[options->group_count++] = str_from_cstr(name);
    return true;
}

static bool add_value(struct tool_values *values, enum tool_option option, const char *value)
{
    if (values->count == TOOL_VALUES_MAX) {
        tool_usage("--%s: there are more than %d", option == TOOL_ADD ? "add" : "remove", TOOL_VALUES_MAX);
        return false;
    }
    values->items[values->count++] = str_from_cstr(value);
    return true;
}

/* Of those that not every command takes. */
static bool set_option(struct tool_options *options, enum tool_option option, const char *value)
{
    const char **texts[TOOL_OPTION_COUNT] = {
        [TOOL_AGAINST] = &options->against,
        [TOOL_SERVER] = &options->server,
        [TOOL_CLIENT] = &options->client,
        [TOOL_CLIENT_NAME] = &options->client_name,
        [TOOL_CLIENT_NAME_STATE] = &options->client_name_state,
        [TOOL_CERT] = &options->certificate,
        [TOOL_USER] = &options->user,
        [TOOL_FROM] = &options->from,
        [TOOL_TO] = &options->to,
        [TOOL_EXTERNAL] = &options->external,
        [TOOL_LOCAL_DOMAIN] = &options->local_domain,
        [TOOL_SERVER_NAME] = &options->server_name,
        [TOOL_SERVER_ADDRESS] = &options->server_address,
        [TOOL_PROBE] = &options->probe,
        [TOOL_PASSWORD_FILE] = &options->password_file,
        [TOOL_CATCH] = &options->catch,
        [TOOL_WAIT] = &options->wait,
        [TOOL_TIMEOUT] = &options->timeout,
        [TOOL_JUNIT] = &options->junit,
        [TOOL_LIST_OWNER] = &options->list_owner,
    };
    bool *flags[TOOL_OPTION_COUNT] = {
        [TOOL_BATCH] = &options->batch,           [TOOL_TLS] = &options->tls,
        [TOOL_STARTTLS] = &options->starttls,     [TOOL_ENVELOPE_ONLY] = &options->envelope_only,
        [TOOL_TRANSCRIPT] = &options->transcript, [TOOL_YES] = &options->yes,
        [TOOL_REPLACE] = &options->replace,       [TOOL_NO_PASSWORD] = &options->no_password,
    };

    options->seen |= TAKES(option);
    if (texts[option])
        *texts[option] = value;
    else if (flags[option])
        *flags[option] = true;
    else if (option == TOOL_GROUP)
        return add_group(options, value);
    else
        return add_value(option == TOOL_ADD ? &options->added : &options->removed, option, value);
    return true;
}

/* Options may stand before and after the command. */
static bool read_options(int argc, char **argv, struct tool_options *options)
{
    int option;

    while ((option = getopt_long(argc, argv, "c:h", option_names, NULL)) != -1) {
        if (option == 'c')
            options->config_path = optarg;
        else if (option == OPTION_JSON)
            options->json = true;
        else if (option == 'h')
            options->help = true;
        else if (option == OPTION_VERSION)
            options->version = true;
        else if (option < OPTION_FIRST_OF_COMMANDS)
            return false; /* getopt_long has said what is wrong */
        else if (!set_option(options, (enum tool_option)(option - OPTION_FIRST_OF_COMMANDS), optarg))
            return false;
    }
    return true;
}

/* ---- dispatch ---- */

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

static const char *option_name(int option)
{
    for (size_t i = 0; option_names[i].name; i++)
        if (option_names[i].val == OF_COMMAND(option))
            return option_names[i].name;
    return "";
}

static enum exit_code run_command(const struct command *command, const struct tool_options *options, int argument_count,
                                  char *const *arguments)
{
    uint64_t foreign = options->seen & ~command->takes;

    if (foreign)
        return tool_usage("\"%s%s%s\" takes no --%s", command->words[0], command->words[1] ? " " : "",
                          command->words[1] ? command->words[1] : "", option_name(__builtin_ctzll(foreign)));
    if (argument_count != command->parameter_count)
        return tool_usage("\"%s\" takes %d arguments, not %d", command->words[0], command->parameter_count,
                          argument_count);
    return command->run(options, arguments);
}

static enum exit_code dispatch(const struct tool_options *options, int argument_count, char *const *arguments)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        int words = match_words(&commands[i], argument_count, arguments);

        if (words > 0)
            return run_command(&commands[i], options, argument_count - words, arguments + words);
    }
    if (argument_count > 0)
        return tool_usage("unknown command \"%s\"", arguments[0]);
    print_help(stderr);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    static struct tool_options options = {.config_path = CONFIG_PATH_DEFAULT};
    enum exit_code code;

    if (daemon_tool_is_asked(argc, argv)) {
        code = daemon_tool_main(argc, argv);
    } else if (!read_options(argc, argv, &options)) {
        code = EXIT_USAGE;
    } else if (options.help) {
        print_help(stdout);
        code = EXIT_DONE;
    } else if (options.version) {
        printf("postern %s\n", POSTERN_VERSION);
        code = EXIT_DONE;
    } else {
        code = dispatch(&options, argc - optind, argv + optind);
    }
    /* Output that was not written is not done: a full disk, a closed pipe. */
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "postern: cannot write the output\n");
        return EXIT_COULD_NOT;
    }
    return (int)code;
}
