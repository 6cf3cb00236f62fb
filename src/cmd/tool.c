/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/tool.h"

#include "mail/text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

enum exit_code tool_usage(const char *format, ...)
{
    va_list arguments;

    fputs("postern: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs("; try postern --help\n", stderr);
    return EXIT_USAGE;
}

const struct config *tool_load_config(const char *path)
{
    const struct config *config = NULL;
    struct config_errors errors;
    struct buf line;

    config_errors_init(&errors);
    buf_init(&line, CONFIG_MESSAGE_BYTES_MAX * 8);
    if (config_load(vfs_system(), path, NULL, &config, &errors) != 0)
        for (size_t i = 0; i < errors.count; i++) {
            if (errors.messages[i].is_warning)
                continue;
            buf_clear(&line);
            config_message_format(&errors.messages[i], &line);
            fprintf(stderr, "%.*s\n", STR_ARG(buf_str(&line)));
        }
    buf_release(&line);
    config_errors_release(&errors);
    return config;
}

void tool_print_json(json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_PRESERVE_ORDER);

    json_decref(value);
    if (!text)
        abort(); /* out of memory, or text that is not UTF-8, which was checked on the way in */
    puts(text);
    free(text);
}

json_t *tool_json_text(struct str text)
{
    json_t *value = json_stringn(text.data ? text.data : "", text.length);
    struct buf clean;

    if (value)
        return value;
    buf_init(&clean, text.length);
    text_append_clean(&clean, text, text.length, true);
    value = json_stringn(clean.data, clean.length);
    buf_release(&clean);
    return value;
}

json_t *tool_json_place(const struct policy_rule *rule)
{
    struct buf place;
    json_t *value;

    if (!rule || !rule->file)
        return json_null();
    buf_init(&place, CONFIG_MESSAGE_BYTES_MAX * 8);
    buf_printf(&place, "%s:%u", rule->file, rule->line);
    value = tool_json_text(buf_str(&place));
    buf_release(&place);
    return value;
}

const struct tool_colors *tool_colors(void)
{
    static const struct tool_colors none = {"", "", "", "", "", ""};
    static const struct tool_colors ansi = {"\033[32m", "\033[31m", "\033[33m", "\033[1m", "\033[2m", "\033[0m"};
    const char *no_color = getenv("NO_COLOR");
    const char *terminal = getenv("TERM");

    if ((no_color && no_color[0]) || (terminal && strcmp(terminal, "dumb") == 0) || !isatty(STDOUT_FILENO))
        return &none;
    return &ansi;
}
