/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "control/control_private.h"
#include "mail/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TEXT_BYTES_MAX 65536
#define ERROR_TEXT_MAX 1024

static uint64_t write_deadline(const struct control_peer *peer)
{
    return loop_now_ms() + peer->control->options.write_timeout_ms;
}

static bool write_text(struct control_peer *peer, struct str text)
{
    if (!peer->is_broken && conn_write(peer->conn, text, write_deadline(peer)) != CONN_OK)
        peer->is_broken = true;
    return !peer->is_broken;
}

bool control_answer_line(struct control_peer *peer, json_t *line)
{
    char *text = json_dumps(line, JSON_COMPACT | JSON_PRESERVE_ORDER);

    json_decref(line);
    if (!text)
        abort(); /* out of memory: all text in it was checked */
    write_text(peer, str_from_cstr(text));
    free(text);
    return write_text(peer, STR("\n"));
}

static bool answer(struct control_peer *peer, const char *key, json_t *value)
{
    json_t *line = json_object();

    json_object_set_new(line, "id", json_integer(peer->request_id));
    json_object_set_new(line, key, value);
    return control_answer_line(peer, line);
}

bool control_answer_item(struct control_peer *peer, json_t *item)
{
    return answer(peer, "item", item);
}

bool control_answer_done(struct control_peer *peer, json_t *done)
{
    return answer(peer, "done", done);
}

bool control_flush(struct control_peer *peer)
{
    if (!peer->is_broken && conn_flush(peer->conn, write_deadline(peer)) != CONN_OK)
        peer->is_broken = true;
    return !peer->is_broken;
}

bool control_answer_progress(struct control_peer *peer, json_t *progress)
{
    return answer(peer, "progress", progress) && control_flush(peer);
}

bool control_answer_item_text(struct control_peer *peer, struct str text)
{
    char head[64];
    int length = snprintf(head, sizeof(head), "{\"id\":%" JSON_INTEGER_FORMAT ",\"item\":", peer->request_id);

    return write_text(peer, str_make(head, (size_t)length)) && write_text(peer, text) && write_text(peer, STR("}\n"));
}

bool control_answer_error(struct control_peer *peer, enum control_code code, const char *format, ...)
{
    char text[ERROR_TEXT_MAX];
    json_t *error = json_object();
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    json_object_set_new(error, "code", json_string(control_code_name(code)));
    json_object_set_new(error, "text", control_json_text(str_from_cstr(text)));
    return answer(peer, "error", error);
}

json_t *control_json_text(struct str text)
{
    json_t *value = json_stringn(text.data ? text.data : "", text.length);
    struct buf clean;

    if (value)
        return value;
    buf_init(&clean, TEXT_BYTES_MAX);
    text_append_clean(&clean, text, TEXT_BYTES_MAX, false);
    value = json_stringn(clean.data, clean.length);
    buf_release(&clean);
    return value;
}

json_t *control_json_time(int64_t at_ms)
{
    const time_t seconds = (time_t)(at_ms / 1000);
    char head[32], text[40];
    struct tm tm;

    if (at_ms <= 0 || !gmtime_r(&seconds, &tm) || strftime(head, sizeof(head), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        return json_null();
    snprintf(text, sizeof(text), "%s.%03dZ", head, (int)(at_ms % 1000));
    return json_string(text);
}
