/* SPDX-License-Identifier: Apache-2.0 */
#include "config/errors.h"

#include "base/mem.h"

#include <stdarg.h>

void config_errors_init(struct config_errors *errors)
{
    *errors = (struct config_errors){0};
}

void config_errors_release(struct config_errors *errors)
{
    for (size_t i = 0; i < errors->count; i++) {
        free(errors->messages[i].file);
        free(errors->messages[i].text);
    }
    free(errors->messages);
    *errors = (struct config_errors){0};
}

/* What a file says is shown on terminals: nothing in it may move the cursor. */
static void replace_controls(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

static void __attribute__((format(printf, 4, 0))) add(struct config_errors *errors, const struct config_place *place,
                                                      const char *code, const char *format, va_list arguments)
{
    char text[CONFIG_MESSAGE_BYTES_MAX];
    struct config_message *message;

    if (code)
        errors->warning_count++;
    else
        errors->error_count++;
    if (errors->count == CONFIG_MESSAGES_MAX)
        return;
    if (errors->count == errors->capacity) {
        errors->capacity = errors->capacity ? errors->capacity * 2 : 8;
        errors->messages = mem_resize_array(errors->messages, errors->capacity, sizeof(errors->messages[0]));
    }
    vsnprintf(text, sizeof(text), format, arguments);
    replace_controls(text);
    message = &errors->messages[errors->count++];
    *message = (struct config_message){
        .is_warning = code != NULL,
        .code = code ? code : "",
        .file = mem_copy_str(str_from_cstr(place->file ? place->file : "")),
        .line = place->line,
        .column = place->column,
        .text = mem_copy_str(str_from_cstr(text)),
    };
    replace_controls(message->file);
}

int config_errors_add(struct config_errors *errors, const struct config_place *place, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    add(errors, place, NULL, format, arguments);
    va_end(arguments);
    return -1;
}

void config_errors_warn(struct config_errors *errors, const struct config_place *place, const char *code,
                        const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    add(errors, place, code, format, arguments);
    va_end(arguments);
}

/* The position of the first message about the same file: the order in which files are told. */
static size_t file_rank(const struct config_errors *errors, const char *file)
{
    size_t i = 0;

    while (strcmp(errors->messages[i].file, file) != 0)
        i++;
    return i;
}

void config_errors_sort(struct config_errors *errors)
{
    struct keyed {
        size_t rank;
        size_t found;
        struct config_message message;
    } *keyed = mem_alloc_array(errors->count, sizeof(*keyed));

    for (size_t i = 0; i < errors->count; i++)
        keyed[i] = (struct keyed){file_rank(errors, errors->messages[i].file), i, errors->messages[i]};
    /* Insertion: at most CONFIG_MESSAGES_MAX of them, nearly in order already, and it keeps the finding order. */
    for (size_t i = 1; i < errors->count; i++) {
        struct keyed item = keyed[i];
        size_t at = i;

        while (at > 0 && (keyed[at - 1].rank > item.rank || (keyed[at - 1].rank == item.rank &&
                                                             (keyed[at - 1].message.line > item.message.line ||
                                                              (keyed[at - 1].message.line == item.message.line &&
                                                               keyed[at - 1].message.column > item.message.column))))) {
            keyed[at] = keyed[at - 1];
            at--;
        }
        keyed[at] = item;
    }
    for (size_t i = 0; i < errors->count; i++)
        errors->messages[i] = keyed[i].message;
    free(keyed);
}

void config_message_format(const struct config_message *message, struct buf *out)
{
    if (message->file[0])
        buf_printf(out, "%s:", message->file);
    if (message->line)
        buf_printf(out, "%u:", message->line);
    if (message->line && message->column)
        buf_printf(out, "%u:", message->column);
    if (out->length > 0)
        buf_append_char(out, ' ');
    if (message->is_warning)
        buf_append_str(out, STR("warning: "));
    buf_append_str(out, str_from_cstr(message->text));
}
