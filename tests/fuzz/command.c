/* SPDX-License-Identifier: Apache-2.0 */
/* One command line, any bytes: what comes out lies within the line, and what a reply would show is printable. */
#include "smtp/command.h"

#include <stdint.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            __builtin_trap();                                                                                          \
    } while (0)

static bool is_within(struct str part, struct str whole)
{
    return part.length == 0 || (part.data >= whole.data && part.data + part.length <= whole.data + whole.length);
}

static void check_option(enum command_status status, struct str option)
{
    const bool is_named = status == COMMAND_UNSUPPORTED_OPTION || status == COMMAND_INVALID_OPTION;

    CHECK(is_named == (option.length > 0) || status == COMMAND_INVALID_ADDRESS || status == COMMAND_SYNTAX);
    CHECK(option.length <= COMMAND_OPTION_NAME_OCTETS_MAX);
    for (size_t i = 0; i < option.length; i++)
        CHECK(option.data[i] > ' ' && option.data[i] < 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct str line = {(const char *)data, size};
    struct command command;
    struct command_mail mail;
    struct command_rcpt rcpt;
    enum command_status status;
    uint64_t chunk_bytes;
    bool is_last;

    command_parse(&command, line);
    CHECK(command.verb < COMMAND_VERB_COUNT);
    CHECK(is_within(command.verb_text, line) && is_within(command.argument, line));
    CHECK(command.has_control || (!command.has_nul && !command.has_bare_newline));

    status = command_parse_mail(&mail, &command, STR("contoso.test"));
    check_option(status, mail.option);
    CHECK(is_within(mail.envid, line));
    if (status == COMMAND_OK)
        CHECK(address_text(&mail.sender).length > 0 && (mail.smtputf8 || !mail.sender.needs_smtputf8));

    status = command_parse_rcpt(&rcpt, &command, STR("contoso.test"), size % 2 == 0);
    check_option(status, rcpt.option);
    CHECK(is_within(rcpt.orcpt, line));
    if (status == COMMAND_OK)
        CHECK(!rcpt.recipient.is_null && (rcpt.orcpt.length == 0 || dsn_is_orcpt(rcpt.orcpt)));

    command_parse_bdat(command.argument, &chunk_bytes, &is_last);
    return 0;
}
