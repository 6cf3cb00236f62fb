/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command: one line of the client's side of SMTP taken apart (RFC 5321 4.1; RFC 1870, 3030, 3461, 4954, 6152, 6531), as tolerant
 * of real clients as relay-behaviour.md section 3 says. Pure, any thread; results view the line and live as long as it does.
 *
 *     struct command command;
 *     command_parse(&command, line);                          line without its CRLF
 *     if (command.has_nul || command.has_bare_newline) ...
 *     if (command.verb == COMMAND_MAIL)
 *         status = command_parse_mail(&mail, &command, default_domain);
 */
#ifndef POSTERN_SMTP_COMMAND_H
#define POSTERN_SMTP_COMMAND_H

#include "base/str.h"
#include "mail/address.h"
#include "mail/dsn.h"

enum command_verb {
    COMMAND_UNKNOWN,
    COMMAND_EHLO,
    COMMAND_HELO,
    COMMAND_MAIL,
    COMMAND_RCPT,
    COMMAND_DATA,
    COMMAND_BDAT,
    COMMAND_RSET,
    COMMAND_NOOP,
    COMMAND_QUIT,
    COMMAND_VRFY,
    COMMAND_EXPN,
    COMMAND_HELP,
    COMMAND_ETRN,
    COMMAND_TURN,
    COMMAND_STARTTLS,
    COMMAND_AUTH,
    COMMAND_VERB_COUNT
};

struct command {
    enum command_verb verb;
    struct str verb_text; /* as written */
    struct str argument;  /* trimmed of spaces and tabs; empty if there is none */
    bool has_nul;
    bool has_bare_newline; /* a CR or LF within the line */
    bool has_control;      /* any control byte but a tab, the two above included */
};

void command_parse(struct command *command, struct str line);

/* What came of MAIL's and RCPT's argument, and the reply that it means. */
enum command_status {
    COMMAND_OK,
    COMMAND_SYNTAX,             /* no FROM: or TO: */
    COMMAND_INVALID_ADDRESS,    /* 501 5.5.4 Invalid Address */
    COMMAND_NEEDS_SMTPUTF8,     /* 553 5.6.7 Address requires SMTPUTF8 */
    COMMAND_UNSUPPORTED_OPTION, /* 555 5.5.4 Unsupported option: NAME */
    COMMAND_INVALID_OPTION,     /* 501 5.5.4 Invalid option: NAME, also for one given twice */
};

/* The longest NAME in these replies. */
#define COMMAND_OPTION_NAME_OCTETS_MAX 64

enum command_body { COMMAND_BODY_7BIT, COMMAND_BODY_8BITMIME };

/* AUTH= (RFC 4954 5) is taken and not looked at: nobody is trusted to say it. */
struct command_mail {
    struct address sender;
    bool has_size;
    uint64_t size; /* octets; UINT64_MAX for a number that is larger still */
    bool has_body;
    enum command_body body; /* 7BIT if not given */
    bool smtputf8;
    enum dsn_return dsn_return;
    struct str envid;  /* encoded; empty if not given */
    struct str option; /* NAME, for the last two statuses: printable ASCII, as written */
};

struct command_rcpt {
    struct address recipient;
    unsigned notify;  /* DSN_NOTIFY_*; 0 if not given */
    struct str orcpt; /* encoded; empty if not given */
    struct str option;
};

/*
 * `default_domain` as in address_parse. On any status but OK and those about options, only the status counts; with those, the address is
 * there too. An address that does not parse is told before anything about options.
 */
enum command_status command_parse_mail(struct command_mail *mail, const struct command *command,
                                       struct str default_domain);
/* `smtputf8`: as the MAIL before said. The null recipient is an invalid address. */
enum command_status command_parse_rcpt(struct command_rcpt *rcpt, const struct command *command,
                                       struct str default_domain, bool smtputf8);

/* BDAT's "SIZE [LAST]" (RFC 3030 2). false: malformed, or a size over UINT64_MAX. */
bool command_parse_bdat(struct str argument, uint64_t *size, bool *is_last);

#endif
