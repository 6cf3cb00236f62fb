/* SPDX-License-Identifier: Apache-2.0 */
/* postern schema: the JSON Schema of the configuration. */
#include "cmd/tool.h"
#include "config/schema.h"

#define SCHEMA_BYTES_MAX (1u << 20)

enum exit_code tool_schema(const struct tool_options *options, char *const *arguments)
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
