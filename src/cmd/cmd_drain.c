/* SPDX-License-Identifier: Apache-2.0 */
/* postern drain: no new mail; what is queued is finished. */
#include "cmd/daemon_tool.h"

enum exit_code daemon_tool_drain(const struct daemon_options *options, char *const *arguments)
{
    json_t *done;
    enum exit_code code =
        daemon_ask(options, json_pack("{s:s, s:b}", "command", "drain", "wait", options->wait), NULL, NULL, &done);

    (void)arguments;
    if (code != EXIT_DONE)
        return code;
    if (options->json) {
        tool_print_json(done);
        return EXIT_DONE;
    }
    if (json_is_true(json_object_get(done, "drained")))
        fputs("drained: nothing is left", stdout);
    else
        printf("draining: %" JSON_INTEGER_FORMAT " messages and %" JSON_INTEGER_FORMAT " sessions are left",
               daemon_number(done, "messages"), daemon_number(done, "sessions"));
    if (daemon_number(done, "messages_held") > 0)
        printf(", %" JSON_INTEGER_FORMAT " on hold", daemon_number(done, "messages_held"));
    putchar('\n');
    json_decref(done);
    return EXIT_DONE;
}
