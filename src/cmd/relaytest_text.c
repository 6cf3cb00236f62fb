/* SPDX-License-Identifier: Apache-2.0 */
/* The result of relaytest for people, and what it shows while it runs. */
#include "cmd/relaytest_output.h"

#include "mail/text.h"

#include <unistd.h>

/* Replies may be long; the table is to be read. --json has all of it. */
#define EXPLANATION_COLUMNS_MAX 100
#define TEXT_BYTES_MAX          4096
/* Of the letter between hyphens before a token. */
#define TAG_LENGTH 3
#define CLEAR_LINE "\r\033[K"

void relaytest_probe_id(const struct relaytest_row *row, char id[RELAYTEST_ID_BYTES])
{
    snprintf(id, RELAYTEST_ID_BYTES, row->probe->letter ? "%u%c" : "%u", row->probe->number % 1000, row->probe->letter);
}

/* ---- while it runs ---- */

static bool progress_is_shown;

void relaytest_show_progress(void *context, const struct relaytest_progress *progress)
{
    (void)context;
    fprintf(stderr, CLEAR_LINE "%u of %u probes done, waiting for %s", progress->done, progress->total,
            progress->doing);
    if (progress->waited_ms >= 1000)
        fprintf(stderr, " (%llu s)", (unsigned long long)(progress->waited_ms / 1000));
    progress_is_shown = true;
}

void relaytest_hide_progress(void)
{
    if (progress_is_shown)
        fputs(CLEAR_LINE, stderr);
    progress_is_shown = false;
}

void relaytest_show_said(void *context, char who, struct str line)
{
    (void)context;
    relaytest_hide_progress();
    fprintf(stderr, "%c %.*s\n", who, STR_ARG(line));
}

/* ---- afterwards ---- */

static const char *color_of(enum relaytest_verdict verdict)
{
    const struct tool_colors *colors = tool_colors();

    switch (verdict) {
    case RELAYTEST_REFUSED:
    case RELAYTEST_UNDELIVERABLE:
        return colors->good;
    case RELAYTEST_RELAYED:
        return colors->bad;
    case RELAYTEST_DEFERRED:
    case RELAYTEST_UNPROVEN:
    case RELAYTEST_SILENT:
    case RELAYTEST_PASSED_ON:
    case RELAYTEST_ATTEMPTED:
    case RELAYTEST_UNTESTED:
    case RELAYTEST_VERDICT_COUNT:
        break;
    }
    return colors->warning;
}

static void print_head(const struct relaytest_subject *subject, const struct relaytest_result *result)
{
    const struct tool_colors *colors = tool_colors();

    printf("%sTesting %s%s", colors->strong, subject->target, colors->end);
    if (result->address[0])
        printf(" at %s", result->address);
    if (result->tls[0])
        printf(", %s", result->tls);
    if (subject->user)
        printf(", as user %s", subject->user);
    printf("\n");
    if (!result->external[0])
        return;
    printf("  external domain %s, local domain %s, server %s [%s], client %s\n", result->external, result->local_domain,
           result->server_name, result->server_address, result->client_name);
    if (result->catch_address[0])
        printf("  catch at %s: stands for the outside and for external senders\n", result->catch_address);
    else
        printf("  no catch: what is accepted stays unproven\n");
    printf("\n");
}

/* Tokens are for machines: "relaytest-u-TOKEN" is shown as "u", as in the probe. */
static void append_without_tokens(struct buf *out, struct str text, const char *local_part)
{
    size_t length = strlen(local_part);

    while (text.length > 0) {
        struct str tag = str_skip(text, length);

        if (str_starts_with(text, str_from_cstr(local_part)) && tag.length >= TAG_LENGTH + RELAYTEST_TOKEN_BYTES - 1 &&
            tag.data[0] == '-' && tag.data[2] == '-' && (tag.data[1] == 's' || tag.data[1] == 'u')) {
            buf_append_char(out, tag.data[1]);
            text = str_skip(tag, TAG_LENGTH + RELAYTEST_TOKEN_BYTES - 1);
        } else {
            buf_append_char(out, text.data[0]);
            text = str_skip(text, 1);
        }
    }
}

static void print_row(const struct relaytest_row *row, int columns, const char *local_part)
{
    const struct tool_colors *colors = tool_colors();
    struct buf explanation, shown, clean;
    char id[RELAYTEST_ID_BYTES], exchange[2 * RELAYTEST_ADDRESS_BYTES + 8];

    if (!row->is_run)
        return;
    buf_init(&explanation, TEXT_BYTES_MAX);
    buf_init(&shown, TEXT_BYTES_MAX);
    buf_init(&clean, TEXT_BYTES_MAX);
    relaytest_explain(row, &explanation);
    append_without_tokens(&shown, buf_str(&explanation), local_part);
    text_append_clean(&clean, buf_str(&shown), EXPLANATION_COLUMNS_MAX, true);
    relaytest_probe_id(row, id);
    snprintf(exchange, sizeof(exchange), "%s -> %s", row->sender, row->recipient);
    printf("%4s  %-*s  %s%-37s%s  %s%.*s%s\n", id, columns, exchange, color_of(row->verdict),
           relaytest_verdict_text(row->verdict), colors->end, colors->faint, STR_ARG(buf_str(&clean)), colors->end);
    buf_release(&explanation);
    buf_release(&shown);
    buf_release(&clean);
}

static int exchange_columns(const struct relaytest_result *result)
{
    size_t widest = 20;

    for (size_t i = 0; i < result->row_count; i++) {
        size_t columns = strlen(result->rows[i].sender) + strlen(result->rows[i].recipient) + 4;

        if (columns > widest)
            widest = columns;
    }
    return (int)(widest < 80 ? widest : 80);
}

static void print_notes(const struct relaytest_result *result)
{
    if (result->strays > 0)
        printf("(%u other messages came to the catch.)\n", result->strays);
    if (strcmp(result->external, RELAYTEST_DOMAIN_NOWHERE) == 0 && result->catch_address[0])
        printf("(The external domain %s leads to the catch only where the server is told so: see --external.)\n",
               result->external);
}

void relaytest_print_text(const struct relaytest_subject *subject, const struct relaytest_result *result)
{
    const struct tool_colors *colors = tool_colors();
    int columns = exchange_columns(result);
    struct buf summary;

    print_head(subject, result);
    for (size_t i = 0; i < result->row_count; i++)
        print_row(&result->rows[i], columns, result->local_part);
    printf("\n");
    print_notes(result);
    buf_init(&summary, TEXT_BYTES_MAX);
    relaytest_summarise(result, &summary);
    printf("%s%.*s%s\n", relaytest_exit(result) == 1 ? colors->bad : colors->strong, STR_ARG(buf_str(&summary)),
           colors->end);
    buf_release(&summary);
    if (result->error.text[0]) {
        fflush(stdout);
        fprintf(stderr, "postern: could not test: %s\n", result->error.text);
    }
}
