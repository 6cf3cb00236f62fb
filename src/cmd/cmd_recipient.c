/* SPDX-License-Identifier: Apache-2.0 */
/* postern recipient: the addresses of the embedded directory: mailboxes, aliases, lists, patterns. */
#include "base/mem.h"
#include "cmd/edit.h"

#include <stdlib.h>

/* What --to names, separated by commas. */
static enum exit_code take_targets(const char *list, struct str **items, size_t *count)
{
    struct str rest = str_from_cstr(list);
    struct error error;

    *items = NULL;
    *count = 0;
    while (rest.data) {
        struct str target = str_split(&rest, ',');

        if (store_check_address(target, &error) != 0)
            return tool_usage("--to: %s", error.text);
        if (*count == DIRECTORY_TARGETS_MAX)
            return tool_usage("--to: a list has at most %d addresses", DIRECTORY_TARGETS_MAX);
        if ((*count & (*count - 1)) == 0)
            *items = mem_resize_array(*items, *count == 0 ? 1 : *count * 2, sizeof(**items));
        (*items)[(*count)++] = target;
    }
    return EXIT_DONE;
}

static enum exit_code check_options(const struct tool_options *options)
{
    struct error error;

    if (!options->list_owner)
        return EXIT_DONE;
    if (!options->to)
        return tool_usage("--list-owner wants --to: who is on the list");
    return store_check_address(str_from_cstr(options->list_owner), &error) == 0
               ? EXIT_DONE
               : tool_usage("--list-owner: %s", error.text);
}

static enum exit_code check_address(const char *given)
{
    struct error error;

    if (strchr(given, '@') && store_check_recipient(str_from_cstr(given), &error) != 0)
        return tool_usage("%s", error.text);
    return EXIT_DONE;
}

enum exit_code tool_recipient_add(const struct tool_options *options, char *const *arguments)
{
    char address[ADDRESS_TEXT_OCTETS_MAX + 1];
    struct store_recipient recipient = {.owner = str_from_cstr(options->list_owner)};
    struct str *targets = NULL;
    struct error error = {0};
    struct edit edit;
    enum exit_code code = edit_begin(&edit, options);

    if (code == EXIT_DONE)
        code = check_options(options);
    if (code == EXIT_DONE)
        code = check_address(arguments[0]);
    if (code == EXIT_DONE)
        code = take_targets(options->to, &targets, &recipient.targets.count);
    if (code == EXIT_DONE && edit_take_address(&edit, str_from_cstr(arguments[0]), true, address) != 0)
        code = EXIT_USAGE;
    if (code == EXIT_DONE)
        code = edit_open(&edit);
    if (code == EXIT_DONE) {
        recipient.address = str_from_cstr(address);
        recipient.targets.items = targets;
        code = edit_report(&edit, store_add_recipient(edit.store, &recipient, options->replace, &error), &error,
                           "known now", recipient.address);
    }
    free(targets);
    edit_end(&edit);
    return code;
}

enum exit_code tool_recipient_delete(const struct tool_options *options, char *const *arguments)
{
    char address[ADDRESS_TEXT_OCTETS_MAX + 1];
    struct error error = {0};
    struct edit edit;
    enum exit_code code = edit_begin(&edit, options);

    if (code == EXIT_DONE && edit_take_address(&edit, str_from_cstr(arguments[0]), false, address) != 0)
        code = EXIT_USAGE;
    if (code == EXIT_DONE)
        code = edit_open(&edit);
    if (code == EXIT_DONE)
        code = edit_report(&edit, store_delete_recipient(edit.store, str_from_cstr(address), &error), &error, "deleted",
                           str_from_cstr(address));
    edit_end(&edit);
    return code;
}

/* ---- listing ---- */

static void add_to_json(void *context, const struct store_recipient *recipient)
{
    json_t *targets = json_array();

    for (size_t i = 0; i < recipient->targets.count; i++)
        json_array_append_new(targets, tool_json_text(recipient->targets.items[i]));
    json_array_append_new(
        context, json_pack("{s:o, s:o, s:o}", "address", tool_json_text(recipient->address), "to", targets,
                           "list_owner", recipient->owner.length > 0 ? tool_json_text(recipient->owner) : json_null()));
}

static void print_recipient(void *context, const struct store_recipient *recipient)
{
    (void)context;
    printf("%.*s", STR_ARG(recipient->address));
    for (size_t i = 0; i < recipient->targets.count; i++)
        printf("%s%.*s", i == 0 ? " -> " : ",", STR_ARG(recipient->targets.items[i]));
    if (recipient->owner.length > 0)
        printf(" (list of %.*s)", STR_ARG(recipient->owner));
    printf("\n");
}

enum exit_code tool_recipient_list(const struct tool_options *options, char *const *arguments)
{
    json_t *recipients = json_array();
    struct error error = {0};
    struct edit edit;
    enum exit_code code = edit_begin(&edit, options);

    (void)arguments;
    if (code == EXIT_DONE)
        code = edit_open_to_read(&edit);
    if (code == EXIT_DONE && edit.store &&
        store_list_recipients(edit.store, options->json ? add_to_json : print_recipient, recipients, &error) !=
            STORE_DONE) {
        fprintf(stderr, "postern: %s\n", error.text);
        code = EXIT_COULD_NOT;
    }
    if (code == EXIT_DONE && options->json)
        tool_print_json(json_pack("{s:O}", "recipients", recipients));
    json_decref(recipients);
    edit_end(&edit);
    return code;
}
