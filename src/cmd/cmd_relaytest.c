/* SPDX-License-Identifier: Apache-2.0 */
/* postern relaytest: from the command line's words to a test, and to the exit code. */
#include "base/mem.h"
#include "cmd/relaytest_output.h"
#include "config/value.h"
#include "mail/address.h"
#include "os/vfs.h"

#include <netdb.h>
#include <stdlib.h>
#include <unistd.h>

#define PASSWORD_BYTES_MAX 1024
#define ANSWER_BYTES       16

struct request {
    const struct tool_options *options;
    struct relaytest_settings settings;
    struct str host;
    uint16_t port;
    struct address external;
    char server_address[RELAYTEST_NAME_BYTES]; /* completed */
    char *password;                            /* the file's content */
    size_t password_length;
};

/* ---- what was asked for ---- */

/* What goes into commands must not end them, nor be taken for two words. */
static bool is_word(const char *text)
{
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c <= ' ' || *c == 0x7f || *c == '<' || *c == '>')
            return false;
    return text[0] != '\0' && strlen(text) < RELAYTEST_NAME_BYTES;
}

static enum exit_code take_word(const char *name, const char *text, struct str *value)
{
    if (!text)
        return EXIT_DONE;
    if (!is_word(text))
        return tool_usage("--%s: \"%s\" is no name", name, text);
    *value = str_from_cstr(text);
    return EXIT_DONE;
}

static enum exit_code take_names(struct request *request)
{
    const struct tool_options *options = request->options;
    struct relaytest_settings *settings = &request->settings;
    enum exit_code code = take_word("local-domain", options->local_domain, &settings->local_domain);

    if (code == EXIT_DONE)
        code = take_word("server-name", options->server_name, &settings->server_name);
    if (code == EXIT_DONE)
        code = take_word("client-name", options->client_name, &settings->client_name);
    if (code == EXIT_DONE)
        code = take_word("user", options->user, &settings->user);
    return code;
}

static enum exit_code take_server_address(struct request *request)
{
    struct str text = str_from_cstr(request->options->server_address);
    struct net_address address;
    struct str ip = text;

    if (!request->options->server_address)
        return EXIT_DONE;
    if (str_starts_with_nocase(ip, STR("IPv6:")))
        ip = str_skip(ip, 5);
    if (!net_address_parse_ip(ip, &address))
        return tool_usage("--server-address: \"%s\" is no IP address", request->options->server_address);
    /* As it stands in a literal (RFC 5321 4.1.3). */
    snprintf(request->server_address, sizeof(request->server_address), "%s%.*s",
             net_address_is_ipv4(&address) ? "" : "IPv6:", STR_ARG(ip));
    request->settings.server_address = str_from_cstr(request->server_address);
    return EXIT_DONE;
}

static enum exit_code take_external(struct request *request)
{
    const char *text = request->options->external;

    if (!text)
        return EXIT_DONE;
    if (!is_word(text) || !address_parse(&request->external, str_from_cstr(text), STR("")) ||
        request->external.domain_kind == ADDRESS_DOMAIN_NONE || request->external.is_quoted)
        return tool_usage("--external: \"%s\" is no address like relaytest@example.org", text);
    request->settings.external_local = address_local_text(&request->external);
    request->settings.external_domain =
        str_skip(address_text(&request->external), (size_t)request->external.local_text_length + 1);
    return EXIT_DONE;
}

static enum exit_code take_catch(struct request *request)
{
    struct config_listen listen;
    struct error error;

    if (!request->options->catch)
        return EXIT_DONE;
    if (request->options->envelope_only)
        return tool_usage("--envelope-only sends nothing that --catch could catch");
    if (value_listen(str_from_cstr(request->options->catch), &listen, &error) != 0)
        return tool_usage("--catch: %s", error.text);
    request->settings.has_catch = true;
    memcpy(request->settings.catch_address.ip, listen.address.bytes, sizeof(listen.address.bytes));
    request->settings.catch_address.port = listen.port;
    return EXIT_DONE;
}

static enum exit_code take_duration(const char *name, const char *text, uint64_t *value_ms)
{
    struct error error;

    if (text && value_duration(str_from_cstr(text), value_ms, &error) != 0)
        return tool_usage("--%s: %s", name, error.text);
    if (text && (*value_ms == 0 || *value_ms > RELAYTEST_RUN_MS_MAX))
        return tool_usage("--%s: \"%s\" is not between 1ms and 2h", name, text);
    return EXIT_DONE;
}

static enum exit_code take_probes(struct request *request)
{
    const char *text = request->options->probe;

    for (unsigned i = 1; i <= PROBE_NUMBER_MAX; i++)
        request->settings.selected[i] = text == NULL;
    if (text && !probe_select(str_from_cstr(text), request->settings.selected))
        return tool_usage("--probe: \"%s\" is no list of numbers from 1 to %d, like 3,7-9", text, PROBE_NUMBER_MAX);
    return EXIT_DONE;
}

static enum exit_code take_target(struct request *request, const char *text)
{
    struct config_smart_host host;
    struct error error;

    if (value_smart_host(str_from_cstr(text), &host, &error) != 0)
        return tool_usage("%s: %s", text, error.text);
    request->host = host.host;
    request->port = host.port;
    return EXIT_DONE;
}

static enum exit_code take_user(struct request *request)
{
    if (!request->options->user != !request->options->password_file)
        return tool_usage("--user and --password-file belong together");
    return EXIT_DONE;
}

static enum exit_code take_options(struct request *request, const char *target)
{
    const struct tool_options *options = request->options;
    struct relaytest_settings *settings = &request->settings;
    enum exit_code code = take_target(request, target);

    settings->wait_ms = RELAYTEST_WAIT_MS_DEFAULT;
    settings->timeout_ms = RELAYTEST_TIMEOUT_MS_DEFAULT;
    settings->starttls = options->starttls;
    settings->envelope_only = options->envelope_only;
    if (code == EXIT_DONE)
        code = take_names(request);
    if (code == EXIT_DONE)
        code = take_server_address(request);
    if (code == EXIT_DONE)
        code = take_external(request);
    if (code == EXIT_DONE)
        code = take_catch(request);
    if (code == EXIT_DONE)
        code = take_probes(request);
    if (code == EXIT_DONE)
        code = take_duration("wait", options->wait, &settings->wait_ms);
    if (code == EXIT_DONE)
        code = take_duration("timeout", options->timeout, &settings->timeout_ms);
    if (code == EXIT_DONE)
        code = take_user(request);
    /* Without a catch somebody looks into the mailbox: it must be the one that was named. */
    settings->external_is_exact = options->external && !settings->has_catch;
    return code;
}

/* The first line: editors end a file with a newline. */
static enum exit_code read_password(struct request *request)
{
    const char *path = request->options->password_file;
    struct str line;
    int result;

    if (!path)
        return EXIT_DONE;
    result = vfs_read_file(vfs_system(), path, PASSWORD_BYTES_MAX, &request->password, &request->password_length);
    if (result < 0) {
        fprintf(stderr, "postern: %s: %s\n", path, strerrordesc_np(-result));
        return EXIT_COULD_NOT;
    }
    line = str_make(request->password, request->password_length);
    line = str_split(&line, '\n');
    if (line.length > 0 && line.data[line.length - 1] == '\r')
        line.length--;
    if (line.length == 0) {
        fprintf(stderr, "postern: %s: no password in the first line\n", path);
        return EXIT_COULD_NOT;
    }
    request->settings.password = line;
    return EXIT_DONE;
}

/* ---- whom it concerns ---- */

static enum exit_code find_addresses(struct request *request)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    struct relaytest_settings *settings = &request->settings;
    char *name = mem_copy_str(request->host);
    int result = getaddrinfo(name, NULL, &hints, &found);

    free(name);
    if (result != 0) {
        fprintf(stderr, "postern: could not test: %.*s: %s\n", STR_ARG(request->host), gai_strerror(result));
        return EXIT_COULD_NOT;
    }
    for (const struct addrinfo *a = found; a && settings->address_count < RELAYTEST_ADDRESSES_MAX; a = a->ai_next) {
        if (!net_address_from_sockaddr(a->ai_addr, &settings->addresses[settings->address_count]))
            continue;
        settings->addresses[settings->address_count++].port = request->port;
    }
    freeaddrinfo(found);
    settings->target_name = request->host;
    return EXIT_DONE;
}

/* Whoever runs a server may test it; who tests another's without being asked looks like an attacker, and may be one before the law. */
static enum exit_code ask_for_consent(const struct request *request, const char *target)
{
    char text[NET_ADDRESS_TEXT_BYTES], answer[ANSWER_BYTES];

    for (size_t i = 0; i < request->settings.address_count; i++) {
        if (relaytest_is_private(&request->settings.addresses[i]))
            continue;
        if (request->options->yes)
            return EXIT_DONE;
        net_address_format_ip(&request->settings.addresses[i], text);
        fprintf(stderr,
                "%s (%s) is neither this machine nor in a private network. Test only servers that are yours, or whose\n"
                "owner has agreed.%s",
                target, text,
                isatty(STDIN_FILENO) ? " Go on? [y/N] " : " There is no terminal to ask: --yes says so.\n");
        if (isatty(STDIN_FILENO) && fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y'))
            return EXIT_DONE;
        fprintf(stderr, "postern: not tested\n");
        return EXIT_COULD_NOT;
    }
    return EXIT_DONE;
}

/* ---- the test ---- */

static enum exit_code run_test(struct request *request, const char *target)
{
    const struct tool_options *options = request->options;
    const struct relaytest_subject subject = {
        .target = target, .user = options->user, .envelope_only = options->envelope_only};
    struct relaytest_result result;
    enum exit_code code;
    struct error error;

    if (isatty(STDERR_FILENO))
        request->settings.watch.progress = relaytest_show_progress;
    if (options->transcript)
        request->settings.watch.said = relaytest_show_said;
    relaytest_run(&request->settings, &result);
    relaytest_hide_progress();
    code = (enum exit_code)relaytest_exit(&result);
    if (options->json)
        relaytest_print_json(&subject, &result);
    else
        relaytest_print_text(&subject, &result);
    if (options->junit && relaytest_write_junit(options->junit, &subject, &result, &error) != 0) {
        fprintf(stderr, "postern: %s\n", error.text);
        code = EXIT_COULD_NOT;
    }
    relaytest_release(&result);
    return code;
}

enum exit_code tool_relaytest(const struct tool_options *options, char *const *arguments)
{
    struct request request = {.options = options};
    enum exit_code code = take_options(&request, arguments[0]);

    if (code == EXIT_DONE)
        code = read_password(&request);
    if (code == EXIT_DONE)
        code = find_addresses(&request);
    if (code == EXIT_DONE)
        code = ask_for_consent(&request, arguments[0]);
    if (code == EXIT_DONE)
        code = run_test(&request, arguments[0]);
    if (request.password)
        explicit_bzero(request.password, request.password_length);
    free(request.password);
    return code;
}
