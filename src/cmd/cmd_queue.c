/* SPDX-License-Identifier: Apache-2.0 */
/* postern queue: the messages under way, and the postmaster's hands on them. */
#include "cmd/daemon_tool.h"

#include "config/value.h"
#include "os/clock.h"

#include <stdlib.h>
#include <string.h>

#define REASON_BYTES_MAX 100

/* ---- what is asked ---- */

static void set_text(json_t *object, const char *key, const char *text)
{
    if (text)
        json_object_set_new(object, key, tool_json_text(str_from_cstr(text)));
}

/* NULL: an option can't be understood, and it was said. */
static json_t *make_filter(const struct daemon_options *options)
{
    json_t *filter = json_object();
    struct error error;
    uint64_t older_ms;

    set_text(filter, "domain", options->domain);
    set_text(filter, "sender", options->sender);
    set_text(filter, "recipient", options->recipient);
    if (options->state)
        json_object_set_new(filter, "states", daemon_split(options->state));
    if (!options->older_than)
        return filter;
    if (value_duration(str_from_cstr(options->older_than), &older_ms, &error) != 0) {
        tool_usage("--older-than: wants a duration like 90s, 15m, 4h or 2d, not \"%s\"", options->older_than);
        json_decref(filter);
        return NULL;
    }
    json_object_set_new(filter, "older_than_ms", json_integer((json_int_t)older_ms));
    return filter;
}

static bool set_limit(json_t *request, const char *limit)
{
    uint64_t number;

    if (!limit)
        return true;
    if (!str_to_u64(str_from_cstr(limit), &number) || number == 0 || number > INT64_MAX) {
        tool_usage("--limit: wants a number, not \"%s\"", limit);
        return false;
    }
    json_object_set_new(request, "limit", json_integer((json_int_t)number));
    return true;
}

/* ---- list ---- */

struct listing {
    bool json;
    bool has_head;
};

static void print_recipient(const json_t *recipient)
{
    fputs("                     ", stdout);
    daemon_print_text(daemon_text(recipient, "address"));
    printf("  %s", daemon_text(recipient, "state"));
    if (daemon_text(recipient, "next_attempt")[0])
        printf(", next attempt %s", daemon_text(recipient, "next_attempt"));
    putchar('\n');
    if (daemon_text(recipient, "reason")[0]) {
        fputs("                       ", stdout);
        daemon_print_text(daemon_text(recipient, "reason"));
        putchar('\n');
    }
}

static void print_message(const json_t *message)
{
    const json_t *recipients = json_object_get(message, "recipients");
    const char *sender = daemon_text(message, "sender");
    char age[DAEMON_AGE_BYTES];
    int64_t arrived_at_ms = daemon_parse_time(daemon_text(message, "arrived"));

    printf("%-10s %5s %10" JSON_INTEGER_FORMAT "  ", daemon_text(message, "message"),
           daemon_format_age(clock_real_ms() - arrived_at_ms, age), daemon_number(message, "size"));
    daemon_print_text(sender[0] ? sender : "<>");
    if (json_is_true(json_object_get(message, "quarantined")))
        fputs("  quarantined: ", stdout);
    else if (json_object_get(message, "held"))
        fputs("  held: ", stdout);
    daemon_print_text(daemon_text(message, "held"));
    putchar('\n');
    for (size_t i = 0; i < json_array_size(recipients); i++)
        print_recipient(json_array_get(recipients, i));
}

static bool take_message(void *context, json_t *item)
{
    struct listing *listing = context;

    if (listing->json) {
        tool_print_json(json_incref(item));
    } else {
        if (!listing->has_head)
            printf("%-10s %5s %10s  %s\n", "ID", "AGE", "SIZE", "SENDER, AND EACH RECIPIENT WITH ITS STATE");
        listing->has_head = true;
        print_message(item);
    }
    /* A reader that has gone away has seen enough. */
    return fflush(stdout) == 0;
}

enum exit_code daemon_tool_queue_list(const struct daemon_options *options, char *const *arguments)
{
    struct listing listing = {.json = options->json};
    json_t *filter = make_filter(options);
    json_t *request, *done;
    enum exit_code code;

    (void)arguments;
    if (!filter)
        return EXIT_USAGE;
    request = json_pack("{s:s, s:o}", "command", "queue.list", "filter", filter);
    if (!set_limit(request, options->limit)) {
        json_decref(request);
        return EXIT_USAGE;
    }
    code = daemon_ask(options, request, take_message, &listing, &done);
    if (code == EXIT_DONE && done && !options->json)
        printf("%s%" JSON_INTEGER_FORMAT " messages\n", listing.has_head ? "\n" : "", daemon_number(done, "count"));
    json_decref(done);
    return code;
}

/* ---- show ---- */

static void print_fact(const char *title, const json_t *message, const char *key)
{
    if (!daemon_text(message, key)[0])
        return;
    printf("%-12s", title);
    daemon_print_text(daemon_text(message, key));
    putchar('\n');
}

enum exit_code daemon_tool_queue_show(const struct daemon_options *options, char *const *arguments)
{
    json_t *request = json_object(), *message;
    enum exit_code code;

    json_object_set_new(request, "command", json_string("queue.show"));
    set_text(request, "message", arguments[0]);
    code = daemon_ask(options, request, NULL, NULL, &message);
    if (code != EXIT_DONE)
        return code;
    if (options->json) {
        tool_print_json(message);
        return EXIT_DONE;
    }
    print_message(message);
    putchar('\n');
    print_fact("Arrived", message, "arrived");
    print_fact("Message-ID", message, "message_id");
    print_fact("Server", message, "server");
    print_fact("Client", message, "client");
    print_fact("Hello", message, "helo");
    print_fact("User", message, "user");
    print_fact("Rule", message, "rule");
    print_fact("  at", message, "rule_at");
    json_decref(message);
    return EXIT_DONE;
}

/* ---- actions ---- */

static enum exit_code act(const struct daemon_options *options, const char *id, const char *command, const char *past)
{
    json_t *filter = make_filter(options);
    json_t *request, *done;
    enum exit_code code;

    if (!filter)
        return EXIT_USAGE;
    if ((id != NULL) + (json_object_size(filter) > 0) + options->all != 1) {
        json_decref(filter);
        return tool_usage("say on which messages: an ID, or conditions like --domain, or --all");
    }
    request = json_object();
    json_object_set_new(request, "command", json_string(command));
    set_text(request, "message", id);
    set_text(request, "text", options->text);
    if (json_object_size(filter) > 0)
        json_object_set(request, "filter", filter);
    if (options->all)
        json_object_set_new(request, "all", json_true());
    json_decref(filter);
    code = daemon_ask(options, request, NULL, NULL, &done);
    if (code != EXIT_DONE)
        return code;
    if (!options->json)
        printf("%s %" JSON_INTEGER_FORMAT " messages, %" JSON_INTEGER_FORMAT " recipients\n", past,
               daemon_number(done, "messages"), daemon_number(done, "recipients"));
    if (!options->json && daemon_number(done, "unwritten") > 0)
        fprintf(stderr, "postern: the disk refuses: a crash now would forget %" JSON_INTEGER_FORMAT " of them\n",
                daemon_number(done, "unwritten"));
    if (options->json)
        tool_print_json(json_incref(done));
    json_decref(done);
    return EXIT_DONE;
}

enum exit_code daemon_tool_queue_hold(const struct daemon_options *options, char *const *arguments)
{
    return act(options, arguments[0], "queue.hold", "held");
}

enum exit_code daemon_tool_queue_release(const struct daemon_options *options, char *const *arguments)
{
    return act(options, arguments[0], "queue.release", "released");
}

enum exit_code daemon_tool_queue_retry(const struct daemon_options *options, char *const *arguments)
{
    return act(options, arguments[0], "queue.retry", "trying");
}

enum exit_code daemon_tool_queue_delete(const struct daemon_options *options, char *const *arguments)
{
    return act(options, arguments[0], "queue.delete", "deleted");
}

enum exit_code daemon_tool_queue_bounce(const struct daemon_options *options, char *const *arguments)
{
    return act(options, arguments[0], "queue.bounce", "returned");
}
