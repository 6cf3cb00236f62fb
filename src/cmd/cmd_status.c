/* SPDX-License-Identifier: Apache-2.0 */
/* postern status, reload, drain: the running daemon as a whole. */
#include "cmd/daemon_tool.h"

#include <inttypes.h>
#include <string.h>

/* ---- status ---- */

struct line {
    const char *key;
    const char *about;
};

/* One line: the numbers of an object, in words. */
static void print_numbers(const char *title, const json_t *object, const struct line *lines, size_t count)
{
    printf("%-13s", title);
    for (size_t i = 0; i < count; i++)
        printf("%s%" JSON_INTEGER_FORMAT " %s", i > 0 ? ", " : "", daemon_number(object, lines[i].key), lines[i].about);
    putchar('\n');
}
#define PRINT_NUMBERS(title, object, lines) print_numbers(title, object, lines, sizeof(lines) / sizeof((lines)[0]))

static void print_destinations(const json_t *list)
{
    const struct tool_colors *colors = tool_colors();

    if (json_array_size(list) > 0)
        printf("\n%sDestinations that are down%s\n", colors->warning, colors->end);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *destination = json_array_get(list, i);

        fputs("  ", stdout);
        daemon_print_text(daemon_text(destination, "destination"));
        printf(": %" JSON_INTEGER_FORMAT " waiting, next attempt %s\n    ",
               daemon_number(destination, "ready") + daemon_number(destination, "waiting"),
               daemon_text(destination, "down_until"));
        daemon_print_text(daemon_text(destination, "reason"));
        putchar('\n');
    }
}

static void print_reload(const json_t *report)
{
    if (!json_is_object(report))
        return;
    printf("%-13s%s %s", "Last reload", daemon_text(report, "at"),
           json_is_true(json_object_get(report, "done")) ? "done" : "refused: ");
    daemon_print_text(daemon_text(report, "reason"));
    putchar('\n');
}

static void print_status(const json_t *status)
{
    static const struct line sessions[] = {
        {"now", "now"}, {"accepted", "since the start"}, {"turned_away", "turned away"}};
    static const struct line queue[] = {{"messages", "messages"},
                                        {"messages_held", "of them held"},
                                        {"recipients_waiting", "recipients waiting"},
                                        {"recipients_ready", "ready"},
                                        {"recipients_taken", "being delivered"}};
    static const struct line delivery[] = {{"delivered", "delivered"},
                                           {"deferred", "deferred"},
                                           {"failed", "failed"},
                                           {"expired", "expired"},
                                           {"deleted", "deleted"}};
    static const struct line reports[] = {{"reports", "sent"},
                                          {"reports_waiting", "waiting for their turn"},
                                          {"reports_suppressed", "suppressed"},
                                          {"badmail", "in badmail"}};
    static const struct line spool[] = {{"live_messages", "messages"},
                                        {"segments", "segments"},
                                        {"bytes_on_disk", "bytes"},
                                        {"write_errors", "write errors"}};
    static const struct line directory[] = {
        {"lookups", "lookups"}, {"cache_hits", "from the cache"}, {"unavailable", "without an answer"}};
    static const struct line tracking[] = {{"written", "lines"}, {"lost", "lost"}};
    char age[DAEMON_AGE_BYTES];

    printf("%-13sPostern %s on %s, pid %" JSON_INTEGER_FORMAT "%s\n", "Daemon", daemon_text(status, "version"),
           daemon_text(status, "hostname"), daemon_number(status, "pid"),
           json_is_true(json_object_get(status, "draining")) ? ", draining: takes no new mail" : "");
    printf("%-13s%s, since %s\n", "Up", daemon_format_age(daemon_number(status, "uptime_s") * 1000, age),
           daemon_text(status, "started"));
    printf("%-13s%s\n", "Listening", daemon_text(status, "listening"));
    PRINT_NUMBERS("Sessions", json_object_get(status, "sessions"), sessions);
    PRINT_NUMBERS("Queue", json_object_get(status, "queue"), queue);
    PRINT_NUMBERS("Recipients", json_object_get(status, "delivery"), delivery);
    PRINT_NUMBERS("Reports", json_object_get(status, "delivery"), reports);
    PRINT_NUMBERS("Spool", json_object_get(status, "spool"), spool);
    if (json_is_true(json_object_get(json_object_get(status, "spool"), "full")))
        printf("%-13sthe disk is full: new mail is refused\n", "");
    if (json_is_object(json_object_get(status, "directory")))
        PRINT_NUMBERS("Directory", json_object_get(status, "directory"), directory);
    PRINT_NUMBERS("Tracking", json_object_get(status, "tracking"), tracking);
    print_reload(json_object_get(status, "last_reload"));
    print_destinations(json_object_get(status, "destinations_down"));
}

enum exit_code daemon_tool_status(const struct daemon_options *options, char *const *arguments)
{
    json_t *status;
    enum exit_code code = daemon_ask(options, json_pack("{s:s}", "command", "status"), NULL, NULL, &status);

    (void)arguments;
    if (code != EXIT_DONE)
        return code;
    if (options->json) {
        tool_print_json(status);
        return EXIT_DONE;
    }
    print_status(status);
    json_decref(status);
    return EXIT_DONE;
}
