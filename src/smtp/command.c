/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/command.h"

#include "mail/text.h"

#define SIZE_DIGITS_MAX 20 /* RFC 1870 3 */

/* The ones of every message first. */
static const struct {
    struct str text;
    enum command_verb verb;
} verbs[] = {
    {STR_INIT("MAIL"), COMMAND_MAIL},         {STR_INIT("RCPT"), COMMAND_RCPT}, {STR_INIT("DATA"), COMMAND_DATA},
    {STR_INIT("BDAT"), COMMAND_BDAT},         {STR_INIT("RSET"), COMMAND_RSET}, {STR_INIT("QUIT"), COMMAND_QUIT},
    {STR_INIT("EHLO"), COMMAND_EHLO},         {STR_INIT("HELO"), COMMAND_HELO}, {STR_INIT("NOOP"), COMMAND_NOOP},
    {STR_INIT("STARTTLS"), COMMAND_STARTTLS}, {STR_INIT("AUTH"), COMMAND_AUTH}, {STR_INIT("VRFY"), COMMAND_VRFY},
    {STR_INIT("EXPN"), COMMAND_EXPN},         {STR_INIT("HELP"), COMMAND_HELP}, {STR_INIT("ETRN"), COMMAND_ETRN},
    {STR_INIT("TURN"), COMMAND_TURN},
};

static void note_controls(struct command *command, struct str line)
{
    for (size_t i = 0; i < line.length; i++) {
        const char c = line.data[i];

        if ((c >= 0 && c < ' ' && c != '\t') || c == 0x7f) {
            command->has_control = true;
            command->has_nul |= c == '\0';
            command->has_bare_newline |= c == '\r' || c == '\n';
        }
    }
}

/* Takes what stands before the first blank off the front. */
static struct str take_word(struct str *rest)
{
    size_t length = 0;

    while (length < rest->length && rest->data[length] != ' ' && rest->data[length] != '\t')
        length++;
    const struct str word = str_take(*rest, length);

    *rest = text_trim_blanks(str_skip(*rest, length));
    return word;
}

void command_parse(struct command *command, struct str line)
{
    *command = (struct command){.verb = COMMAND_UNKNOWN};
    note_controls(command, line);
    command->verb_text = take_word(&line);
    command->argument = line;
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (str_equal_nocase(command->verb_text, verbs[i].text)) {
            command->verb = verbs[i].verb;
            return;
        }
    }
}

/* FROM or TO, and the colon, which a blank may come before. */
static bool take_keyword(struct str *argument, struct str keyword)
{
    if (!str_starts_with_nocase(*argument, keyword))
        return false;
    const struct str rest = text_trim_blanks(str_skip(*argument, keyword.length));

    if (rest.length == 0 || rest.data[0] != ':')
        return false;
    *argument = str_skip(rest, 1);
    return true;
}

/* ---- ESMTP parameters (RFC 5321 4.1.2) ---- */

struct option {
    struct str name;
    struct str value;
    bool has_value;
};

static struct option take_option(struct str *rest)
{
    struct str value = take_word(rest);
    const struct str name = str_split(&value, '=');

    return (struct option){name, value, value.data != NULL};
}

/* What a reply may show of a name. */
static struct str printable_name(struct str name)
{
    size_t length = 0;

    while (length < name.length && length < COMMAND_OPTION_NAME_OCTETS_MAX && name.data[length] > ' ' &&
           name.data[length] < 0x7f)
        length++;
    return length > 0 ? str_take(name, length) : STR("?");
}

static bool apply_size(void *context, const struct option *option)
{
    struct command_mail *mail = context;

    if (option->value.length == 0 || option->value.length > SIZE_DIGITS_MAX)
        return false;
    for (size_t i = 0; i < option->value.length; i++)
        if (!ascii_is_digit(option->value.data[i]))
            return false;
    mail->has_size = true;
    if (!str_to_u64(option->value, &mail->size))
        mail->size = UINT64_MAX; /* too big is the answer to it, not malformed */
    return true;
}

static bool apply_body(void *context, const struct option *option)
{
    struct command_mail *mail = context;

    mail->has_body = true;
    if (str_equal_nocase(option->value, STR("8BITMIME")))
        mail->body = COMMAND_BODY_8BITMIME;
    else if (!str_equal_nocase(option->value, STR("7BIT")))
        return false;
    return true;
}

static bool apply_smtputf8(void *context, const struct option *option)
{
    struct command_mail *mail = context;

    mail->smtputf8 = true;
    return !option->has_value;
}

static bool apply_return(void *context, const struct option *option)
{
    struct command_mail *mail = context;

    return dsn_parse_return(option->value, &mail->dsn_return);
}

static bool apply_envid(void *context, const struct option *option)
{
    struct command_mail *mail = context;

    mail->envid = option->value;
    return dsn_is_envid(option->value);
}

static bool apply_auth(void *context, const struct option *option)
{
    (void)context;
    return option->value.length > 0;
}

static bool apply_notify(void *context, const struct option *option)
{
    struct command_rcpt *rcpt = context;

    return dsn_parse_notify(option->value, &rcpt->notify);
}

static bool apply_orcpt(void *context, const struct option *option)
{
    struct command_rcpt *rcpt = context;

    rcpt->orcpt = option->value;
    return dsn_is_orcpt(option->value);
}

struct option_rule {
    struct str name;
    bool (*apply)(void *context, const struct option *option); /* false: a bad value */
};

static const struct option_rule mail_rules[] = {
    {STR_INIT("SIZE"), apply_size},  {STR_INIT("BODY"), apply_body},   {STR_INIT("SMTPUTF8"), apply_smtputf8},
    {STR_INIT("RET"), apply_return}, {STR_INIT("ENVID"), apply_envid}, {STR_INIT("AUTH"), apply_auth},
};

static const struct option_rule rcpt_rules[] = {
    {STR_INIT("NOTIFY"), apply_notify},
    {STR_INIT("ORCPT"), apply_orcpt},
};

/* `*name` is set when an option is at fault. */
static enum command_status apply_options(struct str rest, const struct option_rule *rules, size_t rule_count,
                                         void *context, struct str *name)
{
    unsigned seen = 0;

    while (rest.length > 0) {
        const struct option option = take_option(&rest);
        size_t i = 0;

        while (i < rule_count && !str_equal_nocase(option.name, rules[i].name))
            i++;
        *name = printable_name(option.name);
        if (i == rule_count)
            return COMMAND_UNSUPPORTED_OPTION;
        if ((seen & 1u << i) != 0 || !rules[i].apply(context, &option))
            return COMMAND_INVALID_OPTION;
        seen |= 1u << i;
    }
    *name = (struct str){0};
    return COMMAND_OK;
}

enum command_status command_parse_mail(struct command_mail *mail, const struct command *command,
                                       struct str default_domain)
{
    struct str rest = command->argument;
    enum command_status status;

    memset((char *)mail + sizeof(mail->sender), 0, sizeof(*mail) - sizeof(mail->sender));
    if (!take_keyword(&rest, STR("FROM")))
        return COMMAND_SYNTAX;
    if (!address_parse_path(&mail->sender, rest, default_domain, &rest))
        return COMMAND_INVALID_ADDRESS;
    status = apply_options(rest, mail_rules, sizeof(mail_rules) / sizeof(mail_rules[0]), mail, &mail->option);
    if (status == COMMAND_OK && mail->sender.needs_smtputf8 && !mail->smtputf8)
        return COMMAND_NEEDS_SMTPUTF8;
    return status;
}

enum command_status command_parse_rcpt(struct command_rcpt *rcpt, const struct command *command,
                                       struct str default_domain, bool smtputf8)
{
    struct str rest = command->argument;
    enum command_status status;

    rcpt->notify = 0;
    rcpt->orcpt = (struct str){0};
    rcpt->option = (struct str){0};
    if (!take_keyword(&rest, STR("TO")))
        return COMMAND_SYNTAX;
    if (!address_parse_path(&rcpt->recipient, rest, default_domain, &rest) || rcpt->recipient.is_null)
        return COMMAND_INVALID_ADDRESS;
    status = apply_options(rest, rcpt_rules, sizeof(rcpt_rules) / sizeof(rcpt_rules[0]), rcpt, &rcpt->option);
    if (status == COMMAND_OK && rcpt->recipient.needs_smtputf8 && !smtputf8)
        return COMMAND_NEEDS_SMTPUTF8;
    return status;
}

bool command_parse_bdat(struct str argument, uint64_t *size, bool *is_last)
{
    const struct str number = take_word(&argument);

    *is_last = str_equal_nocase(argument, STR("LAST"));
    return str_to_u64(number, size) && (*is_last || str_is_empty(argument));
}
