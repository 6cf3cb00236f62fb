/* SPDX-License-Identifier: Apache-2.0 */
/* postern reload: has the daemon read its configuration again, and says what came of it. */
#include "cmd/daemon_tool.h"

static bool take_message(void *context, json_t *item)
{
    json_array_append(context, item);
    return true;
}

enum exit_code daemon_tool_reload(const struct daemon_options *options, char *const *arguments)
{
    json_t *messages = json_array();
    enum exit_code code = daemon_ask(options, json_pack("{s:s}", "command", "reload"), take_message, messages, NULL);

    (void)arguments;
    for (size_t i = 0; !options->json && i < json_array_size(messages); i++)
        fprintf(stderr, "%s\n", daemon_text(json_array_get(messages, i), "text"));
    if (options->json && (code == EXIT_DONE || code == EXIT_NO))
        tool_print_json(json_pack("{s:b, s:O}", "done", code == EXIT_DONE, "messages", messages));
    else if (code == EXIT_DONE)
        puts("reloaded");
    json_decref(messages);
    return code;
}
