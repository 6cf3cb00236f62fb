/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/track_text.h"

#include "cmd/daemon_tool.h"

#include <stdio.h>
#include <string.h>

static void print_part(const char *before, const char *text)
{
    if (!text[0])
        return;
    fputs(before, stdout);
    daemon_print_text(text);
}

/* The remote's words, or ours. */
static void print_reply(const json_t *event)
{
    print_part("  ", daemon_text(event, "status"));
    print_part(" ", daemon_text(event, "reply"));
    print_part(" (", daemon_text(event, "remote"));
    if (daemon_text(event, "remote")[0])
        putchar(')');
}

void track_text_print_event(const json_t *event)
{
    printf("%s %-9s %-10s ", daemon_text(event, "time"), daemon_text(event, "event"), daemon_text(event, "id"));
    daemon_print_text(daemon_text(event, "sender"));
    print_part(" -> ", daemon_text(event, "recipient"));
    print_reply(event);
    print_part("  as ", daemon_text(event, "other"));
    print_part("  client ", daemon_text(event, "client"));
    print_part("  rule ", daemon_text(event, "rule"));
    print_part("  by ", daemon_text(event, "by"));
    putchar('\n');
}

/* ---- the story of a message ---- */

static bool is_event(const json_t *event, const char *name)
{
    return strcmp(daemon_text(event, "event"), name) == 0;
}

static void print_fact(const char *title, const char *text)
{
    if (!text[0])
        return;
    printf("  %-12s", title);
    daemon_print_text(text);
    putchar('\n');
}

/* Of "received", or of the message in the queue: their keys are the same. */
static void print_origin(const json_t *from)
{
    const char *sender = daemon_text(from, "sender");

    print_fact("Sender", sender[0] ? sender : "<>");
    print_fact("Client", daemon_text(from, "client"));
    print_fact("Name", daemon_text(from, "client_name"));
    print_fact("Hello", daemon_text(from, "helo"));
    print_fact("User", daemon_text(from, "user"));
    print_fact("Server", daemon_text(from, "server"));
    print_fact("Message-ID", daemon_text(from, "message_id"));
}

static void print_rule(const json_t *from, const char *recipient)
{
    fputs("  Let in", stdout);
    print_part(" for ", recipient);
    print_part(" by ", daemon_text(from, "rule"));
    print_part(" at ", daemon_text(from, "rule_at"));
    if (!daemon_text(from, "rule")[0])
        fputs(" by no rule: it was made here", stdout);
    putchar('\n');
}

static const json_t *first_event(const json_t *events, const char *name)
{
    for (size_t i = 0; i < json_array_size(events); i++)
        if (is_event(json_array_get(events, i), name))
            return json_array_get(events, i);
    return NULL;
}

static void print_beginning(const char *id, const json_t *queued, const json_t *events)
{
    const json_t *received = first_event(events, "received");
    const json_t *refused = first_event(events, "refused");

    if (received) {
        printf("Message %s, received %s\n", daemon_text(received, "id"), daemon_text(received, "time"));
        print_origin(received);
        for (size_t i = 0; i < json_array_size(events); i++)
            if (is_event(json_array_get(events, i), "received"))
                print_rule(json_array_get(events, i), daemon_text(json_array_get(events, i), "recipient"));
    } else if (queued) {
        printf("Message %s, arrived %s\n", daemon_text(queued, "message"), daemon_text(queued, "arrived"));
        print_origin(queued);
        print_rule(queued, "");
    } else if (refused) {
        printf("Message %s, refused %s\n", daemon_text(refused, "id"), daemon_text(refused, "time"));
        print_origin(refused);
    } else {
        printf("Message %s; its beginning is not in the tracking log any more\n", id);
    }
}

static void print_step(const json_t *event)
{
    printf("  %s %-9s", daemon_text(event, "time"), daemon_text(event, "event"));
    print_part(" ", daemon_text(event, "recipient"));
    print_reply(event);
    print_part("  as ", daemon_text(event, "other"));
    print_part("  by ", daemon_text(event, "by"));
    print_part("  next attempt ", daemon_text(event, "next_attempt"));
    putchar('\n');
}

static void print_queued(const json_t *queued)
{
    const json_t *recipients = json_object_get(queued, "recipients");

    puts("In the queue now:");
    if (json_object_get(queued, "held")) {
        fputs("  on hold: ", stdout);
        daemon_print_text(daemon_text(queued, "held"));
        putchar('\n');
    }
    for (size_t i = 0; i < json_array_size(recipients); i++) {
        const json_t *recipient = json_array_get(recipients, i);

        fputs("  ", stdout);
        daemon_print_text(daemon_text(recipient, "address"));
        printf("  %s", daemon_text(recipient, "state"));
        print_part(", next attempt ", daemon_text(recipient, "next_attempt"));
        print_part(": ", daemon_text(recipient, "reason"));
        putchar('\n');
    }
}

void track_text_print_story(const char *id, const json_t *queued, const json_t *events)
{
    bool has_title = false;

    print_beginning(id, queued, events);
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *event = json_array_get(events, i);

        if (is_event(event, "received"))
            continue;
        if (!has_title)
            puts("What became of it:");
        has_title = true;
        print_step(event);
    }
    if (queued)
        print_queued(queued);
}
