/* SPDX-License-Identifier: Apache-2.0 */
/* What a protocol log is told of a command. */
#include "base/mem.h"
#include "loop/loop.h"
#include "smtp/server_private.h"

#include <stdlib.h>

/* RFC 4422 3.1 */
#define MECHANISM_OCTETS_MAX 20

static const struct str methods[COMMAND_VERB_COUNT] = {
    [COMMAND_UNKNOWN] = STR_INIT("UNKNOWN"),   [COMMAND_EHLO] = STR_INIT("EHLO"), [COMMAND_HELO] = STR_INIT("HELO"),
    [COMMAND_MAIL] = STR_INIT("MAIL"),         [COMMAND_RCPT] = STR_INIT("RCPT"), [COMMAND_DATA] = STR_INIT("DATA"),
    [COMMAND_BDAT] = STR_INIT("BDAT"),         [COMMAND_RSET] = STR_INIT("RSET"), [COMMAND_NOOP] = STR_INIT("NOOP"),
    [COMMAND_QUIT] = STR_INIT("QUIT"),         [COMMAND_VRFY] = STR_INIT("VRFY"), [COMMAND_EXPN] = STR_INIT("EXPN"),
    [COMMAND_HELP] = STR_INIT("HELP"),         [COMMAND_ETRN] = STR_INIT("ETRN"), [COMMAND_TURN] = STR_INIT("TURN"),
    [COMMAND_STARTTLS] = STR_INIT("STARTTLS"), [COMMAND_AUTH] = STR_INIT("AUTH"),
};

/* The mechanism's name, and nothing that could be a password: names have no lower case. */
static struct str mechanism_of(struct str argument)
{
    struct str name = str_split(&argument, ' ');

    for (size_t i = 0; i < name.length; i++) {
        char c = name.data[i];

        if (!(c >= 'A' && c <= 'Z') && !ascii_is_digit(c) && c != '-' && c != '_')
            return STR("");
    }
    return name.length <= MECHANISM_OCTETS_MAX ? name : STR("");
}

static struct str shown_argument(const struct command *command)
{
    if (command->verb == COMMAND_AUTH)
        return mechanism_of(command->argument);
    return command->verb == COMMAND_UNKNOWN ? STR("") : str_take(command->argument, SMTP_COMMAND_BYTES_MAX);
}

void smtp_server_watch(struct smtp_server *server, const struct conn_line *line, struct command_watch *watch)
{
    struct command command;
    struct str argument;

    command_parse(&command, line->text);
    argument = shown_argument(&command);
    watch->argument = mem_copy_str(argument); /* the line is gone with the next read */
    watch->entry = (struct smtp_command_log){.method = methods[command.verb],
                                             .argument = str_make(watch->argument, argument.length),
                                             .bytes_received = line->text.length + (line->crlf ? 2 : 1),
                                             .bytes_sent = server->reply_bytes};
    watch->started_at_ms = loop_now_ms();
    server->data_bytes = 0;
    server->reply_code = 0;
}

void smtp_server_tell(struct smtp_server *server, struct command_watch *watch)
{
    watch->entry.code = server->reply_code;
    watch->entry.bytes_received += server->data_bytes;
    watch->entry.bytes_sent = server->reply_bytes - watch->entry.bytes_sent;
    watch->entry.taken_ms = loop_now_ms() - watch->started_at_ms;
    server->hooks->log_command(server->context, &watch->entry);
    free(watch->argument);
}
