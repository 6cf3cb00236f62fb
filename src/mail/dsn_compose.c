/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The report is plain ASCII, so that it can go anywhere, unless an address in it is not, or the original was internationalised: then its texts are UTF-8
 * and its machine part and what it returns of the original are RFC 6533's types. Everything from outside goes through text_append_clean.
 */
#include "mail/date.h"
#include "mail/dsn.h"
#include "mail/header.h"
#include "mail/text.h"

#define COLUMN_MAX           76
#define SUBJECT_OCTETS_MAX   160
#define NAME_OCTETS_MAX      255
#define ADDRESS_OCTETS_SHOWN 254 /* in the human part; the machine part has all of it */
#define LINE_OCTETS_MAX      900 /* RFC 5322 2.1.1 has 998 */
#define SCRATCH_BYTES_MAX    DSN_HEADER_BYTES_MAX

/* How much is told of each recipient; a report that would grow too long is composed again with less. */
struct detail {
    size_t reply_octets_max;
    size_t reason_octets_max;
    bool has_optional_fields;
};

struct composer {
    struct buf *out;
    struct buf scratch;
    const struct dsn_report *report;
    const struct detail *detail;
    bool is_utf8;
};

struct action_text {
    struct str keyword;
    struct str status; /* where none is known */
    struct str subject;
    struct str one; /* the paragraph before one recipient, or several */
    struct str many;
    struct str advice;
};

static const struct action_text action_texts[] = {
    [DSN_ACTION_FAILED] =
        {
            STR_INIT("failed"),
            STR_INIT("5.0.0"),
            STR_INIT("Undeliverable"),
            STR_INIT("Your message could not be delivered to this recipient, and will not be tried again:"),
            STR_INIT("Your message could not be delivered to these recipients, and will not be tried again:"),
            STR_INIT("What you can do: look for mistakes in the address and send the message again. "
                     "If the address is right, tell the recipient or the recipient's mail administrator "
                     "in another way, and pass on this report."),
        },
    [DSN_ACTION_DELAYED] =
        {
            STR_INIT("delayed"),
            STR_INIT("4.0.0"),
            STR_INIT("Delayed"),
            STR_INIT("Your message has not been delivered to this recipient yet. It has not failed: this is only "
                     "to let you know that it takes longer than usual."),
            STR_INIT("Your message has not been delivered to these recipients yet. It has not failed: this is only "
                     "to let you know that it takes longer than usual."),
            STR_INIT(
                "You need not do anything, and need not send the message again. It is tried again from time to time. "
                "Should it have to be given up in the end, you will get another report that says so."),
        },
    [DSN_ACTION_DELIVERED] =
        {
            STR_INIT("delivered"),
            STR_INIT("2.0.0"),
            STR_INIT("Delivered"),
            STR_INIT("Your message was delivered to this recipient:"),
            STR_INIT("Your message was delivered to these recipients:"),
            STR_INIT("You asked to be told. There is nothing that you have to do."),
        },
    [DSN_ACTION_RELAYED] =
        {
            STR_INIT("relayed"),
            STR_INIT("2.0.0"),
            STR_INIT("Relayed"),
            STR_INIT("Your message was passed on to a server that does not report deliveries, for this recipient:"),
            STR_INIT("Your message was passed on to a server that does not report deliveries, for these recipients:"),
            STR_INIT("You asked to be told of the delivery. You may get no further report about it."),
        },
    [DSN_ACTION_EXPANDED] =
        {
            STR_INIT("expanded"),
            STR_INIT("2.0.0"),
            STR_INIT("Expanded"),
            STR_INIT("Your message was passed on to the members of this recipient list:"),
            STR_INIT("Your message was passed on to the members of these recipient lists:"),
            STR_INIT("You asked to be told. You may get no further report about single members."),
        },
};

#define ACTION_COUNT (sizeof(action_texts) / sizeof(action_texts[0]))

/* ---- text ---- */

static void put(struct composer *c, struct str text)
{
    buf_append_str(c->out, text);
}

static void put_clean(struct composer *c, struct str text, size_t octets_max)
{
    text_append_clean(c->out, text, octets_max, !c->is_utf8);
}

static void put_date(struct composer *c, int64_t at_ms)
{
    char date[DATE_RFC5322_BYTES];

    put(c, date_format_rfc5322(at_ms, date));
}

/* Words, broken into lines that begin with `indent`, after `column` columns of the first; and the end of the last line. */
static void put_wrapped(struct composer *c, struct str words, size_t column, struct str indent)
{
    bool is_line_start = true;

    while (words.data != NULL) {
        const struct str word = str_split(&words, ' ');

        if (str_is_empty(word))
            continue;
        if (!is_line_start && column + 1 + word.length > COLUMN_MAX) {
            put(c, STR("\r\n"));
            put(c, indent);
            column = indent.length;
        } else if (!is_line_start) {
            put(c, STR(" "));
            column++;
        }
        put(c, word);
        column += word.length;
        is_line_start = false;
    }
    put(c, STR("\r\n"));
}

static void put_paragraph(struct composer *c, struct str text)
{
    put_wrapped(c, text, 0, (struct str){0});
    put(c, STR("\r\n"));
}

/* A paragraph line of `before` and text from outside. */
static void put_quoted(struct composer *c, struct str before, struct str text, size_t octets_max)
{
    buf_clear(&c->scratch);
    buf_append_str(&c->scratch, before);
    text_append_clean(&c->scratch, text, octets_max, !c->is_utf8);
    put(c, STR("    "));
    put_wrapped(c, buf_str(&c->scratch), 4, STR("    "));
}

/* ---- the report's own header ---- */

static struct str main_subject(const struct dsn_report *report)
{
    /* The worst of what is told: the actions stand in that order. */
    for (size_t action = 0; action < ACTION_COUNT; action++)
        for (size_t i = 0; i < report->recipient_count; i++)
            if (report->recipients[i].action == (enum dsn_action)action)
                return action_texts[action].subject;
    return action_texts[DSN_ACTION_FAILED].subject;
}

static void put_subject(struct composer *c)
{
    struct str subject;

    put(c, STR("Subject: "));
    put(c, main_subject(c->report));
    if (header_find(c->report->header, STR("Subject"), &subject) && !str_is_empty(subject)) {
        put(c, STR(": "));
        buf_clear(&c->scratch);
        header_append_unfolded(&c->scratch, subject, SUBJECT_OCTETS_MAX);
        /* In its own header section UTF-8 would ask for SMTPUTF8, which the way back may lack. */
        text_append_clean(c->out, buf_str(&c->scratch), SUBJECT_OCTETS_MAX, text_is_ascii(c->report->sender));
    } else {
        put(c, STR(" mail"));
    }
    put(c, STR("\r\n"));
}

static void put_encoding(struct composer *c, bool is_8bit)
{
    put(c, is_8bit ? STR("Content-Transfer-Encoding: 8bit\r\n") : STR("Content-Transfer-Encoding: 7bit\r\n"));
}

static bool returns_8bit(const struct dsn_report *report)
{
    return report->returns_message && report->original_is_8bit;
}

/* RFC 6522 3: the report's type is the subtype of its machine part. */
static struct str status_type(const struct composer *c)
{
    return c->is_utf8 ? STR("global-delivery-status") : STR("delivery-status");
}

static void put_header(struct composer *c)
{
    const struct dsn_report *report = c->report;

    put(c, STR("From: Mail Delivery System <postmaster@"));
    put_clean(c, report->host, NAME_OCTETS_MAX);
    put(c, STR(">\r\nTo: <"));
    put_clean(c, report->sender, report->sender.length);
    put(c, STR(">\r\n"));
    put_subject(c);
    put(c, STR("Date: "));
    put_date(c, report->reported_at_ms);
    put(c, STR("\r\nMessage-ID: <"));
    put_clean(c, report->message_id, 2 * NAME_OCTETS_MAX);
    put(c, STR(">\r\nAuto-Submitted: auto-replied\r\n"
               "MIME-Version: 1.0\r\n"
               "Content-Type: multipart/report; report-type="));
    put(c, status_type(c));
    put(c, STR(";\r\n\tboundary=\""));
    put(c, report->boundary);
    put(c, STR("\"\r\n"));
    put_encoding(c, c->is_utf8 || returns_8bit(report));
    put(c, STR("\r\nThis is a delivery report in MIME format.\r\n"));
}

static void put_part(struct composer *c, struct str type, struct str subtype, bool is_8bit)
{
    put(c, STR("\r\n--"));
    put(c, c->report->boundary);
    put(c, STR("\r\nContent-Type: "));
    put(c, type);
    put(c, subtype);
    put(c, STR("\r\n"));
    put_encoding(c, is_8bit);
    put(c, STR("\r\n"));
}

/* ---- the human part ---- */

static void put_human_recipient(struct composer *c, const struct dsn_recipient *recipient)
{
    put(c, STR("  <"));
    put_clean(c, recipient->recipient, ADDRESS_OCTETS_SHOWN);
    put(c, recipient->recipient.length > ADDRESS_OCTETS_SHOWN ? STR("...>\r\n") : STR(">\r\n"));
    if (recipient->is_expired)
        put(c, STR("    It was tried again and again, and the time for that is over.\r\n"));
    if (!str_is_empty(recipient->reason))
        put_quoted(c, recipient->is_expired ? STR("The last time: ") : (struct str){0}, recipient->reason,
                   c->detail->reason_octets_max);
    if (!str_is_empty(recipient->reply) && c->detail->reply_octets_max > 0) {
        put(c, STR("    The other server"));
        if (!str_is_empty(recipient->remote_mta)) {
            put(c, STR(", "));
            put_clean(c, recipient->remote_mta, NAME_OCTETS_MAX);
            put(c, STR(","));
        }
        put(c, STR(" said:\r\n"));
        put_quoted(c, (struct str){0}, recipient->reply, c->detail->reply_octets_max);
    }
    if (recipient->retry_until_ms != 0) {
        put(c, STR("    It will be tried again until "));
        put_date(c, recipient->retry_until_ms);
        put(c, STR(",\r\n    and is given up if it could not be delivered by then.\r\n"));
    }
    put(c, STR("\r\n"));
}

static void put_human_section(struct composer *c, enum dsn_action action)
{
    const struct dsn_report *report = c->report;
    size_t count = 0;

    for (size_t i = 0; i < report->recipient_count; i++)
        count += report->recipients[i].action == action;
    if (count == 0)
        return;
    put_paragraph(c, count == 1 ? action_texts[action].one : action_texts[action].many);
    for (size_t i = 0; i < report->recipient_count; i++)
        if (report->recipients[i].action == action)
            put_human_recipient(c, &report->recipients[i]);
    put_paragraph(c, action_texts[action].advice);
}

static void put_human_part(struct composer *c)
{
    put_part(c, STR("text/plain; charset="), c->is_utf8 ? STR("utf-8") : STR("us-ascii"), c->is_utf8);
    put(c, STR("This is the mail system at "));
    put_clean(c, c->report->host, NAME_OCTETS_MAX);
    put(c, STR(".\r\n\r\n"));
    for (size_t action = 0; action < ACTION_COUNT; action++)
        put_human_section(c, (enum dsn_action)action);
    put(c, STR("The message came in on "));
    put_date(c, c->report->arrived_at_ms);
    put(c, STR(".\r\nQuestions about this server go to postmaster@"));
    put_clean(c, c->report->host, NAME_OCTETS_MAX);
    put(c, STR(".\r\n"));
    if (c->report->returns_message)
        put(c, STR("What follows is for mail programs and administrators, and then your message.\r\n"));
    else
        put(c, STR("What follows is for mail programs and administrators.\r\n"));
}

/* ---- the machine part (RFC 3464 2) ---- */

static void put_text_field(struct composer *c, struct str name_and_type, struct str text, size_t octets_max)
{
    buf_clear(&c->scratch);
    text_append_clean(&c->scratch, text, octets_max, !c->is_utf8);
    put(c, name_and_type);
    put_wrapped(c, buf_str(&c->scratch), name_and_type.length, STR("    "));
}

/* An address is never wrapped: white space in a quoted local part counts. */
static void put_address_field(struct composer *c, struct str name, struct str type, struct str address)
{
    put(c, name);
    put_clean(c, type, NAME_OCTETS_MAX);
    put(c, STR("; "));
    put_clean(c, address, address.length);
    put(c, STR("\r\n"));
}

static void put_date_field(struct composer *c, struct str name, int64_t at_ms)
{
    if (at_ms == 0)
        return;
    put(c, name);
    put_date(c, at_ms);
    put(c, STR("\r\n"));
}

static void put_original_recipient(struct composer *c, struct str orcpt)
{
    struct str type;

    buf_clear(&c->scratch);
    if (!dsn_orcpt_decode(&c->scratch, orcpt, &type))
        return;
    /* Without UTF-8 an internationalised address stays in the form that RFC 6533 3 has for 7 bits, as it came. */
    if (!c->is_utf8 && !text_is_ascii(buf_str(&c->scratch)))
        put_address_field(c, STR("Original-Recipient: "), type, str_skip(orcpt, type.length + 1));
    else
        put_address_field(c, STR("Original-Recipient: "), type, buf_str(&c->scratch));
}

static size_t digits_length(struct str s)
{
    size_t i = 0;

    while (i < s.length && i < 3 && ascii_is_digit(s.data[i]))
        i++;
    return i;
}

/* RFC 3463 2: class "." subject "." detail */
static bool is_status(struct str s)
{
    if (s.length < 5 || (s.data[0] != '2' && s.data[0] != '4' && s.data[0] != '5') || s.data[1] != '.')
        return false;
    const struct str after_class = str_skip(s, 2);
    const size_t subject = digits_length(after_class);
    const struct str detail = str_skip(after_class, subject + 1);

    return subject > 0 && subject < after_class.length && after_class.data[subject] == '.' && detail.length > 0 &&
           digits_length(detail) == detail.length;
}

static void put_machine_recipient(struct composer *c, const struct dsn_recipient *recipient)
{
    const struct action_text *action = &action_texts[recipient->action];

    put(c, STR("\r\n"));
    if (c->detail->has_optional_fields && !str_is_empty(recipient->orcpt))
        put_original_recipient(c, recipient->orcpt);
    put_address_field(c, STR("Final-Recipient: "), text_is_ascii(recipient->recipient) ? STR("rfc822") : STR("utf-8"),
                      recipient->recipient);
    put(c, STR("Action: "));
    put(c, action->keyword);
    put(c, STR("\r\nStatus: "));
    put(c, is_status(recipient->status) ? recipient->status : action->status);
    put(c, STR("\r\n"));
    if (!c->detail->has_optional_fields)
        return;
    if (!str_is_empty(recipient->remote_mta))
        put_text_field(c, STR("Remote-MTA: dns; "), recipient->remote_mta, NAME_OCTETS_MAX);
    if (!str_is_empty(recipient->reply))
        put_text_field(c, STR("Diagnostic-Code: smtp; "), recipient->reply, c->detail->reply_octets_max);
    else if (!str_is_empty(recipient->reason))
        put_text_field(c, STR("Diagnostic-Code: x-postern; "), recipient->reason, c->detail->reason_octets_max);
    put_date_field(c, STR("Last-Attempt-Date: "), recipient->last_attempt_at_ms);
    put_date_field(c, STR("Will-Retry-Until: "), recipient->retry_until_ms);
}

static void put_machine_part(struct composer *c)
{
    const struct dsn_report *report = c->report;

    put_part(c, STR("message/"), status_type(c), c->is_utf8);
    buf_clear(&c->scratch);
    if (!str_is_empty(report->envid) && dsn_is_envid(report->envid) && dsn_xtext_decode(&c->scratch, report->envid)) {
        put(c, STR("Original-Envelope-Id: "));
        put_clean(c, buf_str(&c->scratch), DSN_ENVID_OCTETS_MAX);
        put(c, STR("\r\n"));
    }
    put(c, STR("Reporting-MTA: dns; "));
    put_clean(c, report->host, NAME_OCTETS_MAX);
    put(c, STR("\r\n"));
    put_date_field(c, STR("Arrival-Date: "), report->arrived_at_ms);
    for (size_t i = 0; i < report->recipient_count; i++)
        put_machine_recipient(c, &report->recipients[i]);
}

/* ---- the original's header ---- */

/* Takes a line off the front, without its newline. */
static struct str take_line(struct str *rest)
{
    struct str line = str_split(rest, '\n');

    if (line.length > 0 && line.data[line.length - 1] == '\r')
        line.length--;
    return line;
}

/* One line, in pieces if it is too long; a piece goes on as a folded line. false: it did not fit, and nothing of it was put. */
static bool put_header_line(struct composer *c, struct str line, size_t *left)
{
    buf_clear(&c->scratch);
    do {
        struct str piece = str_take(line, LINE_OCTETS_MAX);

        /* No piece ends within a character. */
        while (piece.length < line.length && piece.length > LINE_OCTETS_MAX - 4 &&
               ((unsigned char)line.data[piece.length] & 0xc0) == 0x80)
            piece.length--;
        /* No header field needs to begin with "--"; a MIME delimiter does. */
        if (c->scratch.length > 0 || str_starts_with(piece, STR("--")))
            buf_append_char(&c->scratch, ' ');
        text_append_clean(&c->scratch, piece, LINE_OCTETS_MAX, !c->is_utf8);
        buf_append_str(&c->scratch, STR("\r\n"));
        line = str_skip(line, piece.length);
    } while (line.length > 0 && !c->scratch.overflowed);
    if (c->scratch.overflowed || c->scratch.length > *left)
        return false;
    put(c, buf_str(&c->scratch));
    *left -= c->scratch.length;
    return true;
}

static void put_original_header(struct composer *c)
{
    struct str rest = c->report->header;
    size_t left = DSN_HEADER_BYTES_MAX;

    if (str_is_empty(rest))
        return;
    if (c->is_utf8)
        put_part(c, STR("message/"), STR("global-headers"), true);
    else
        put_part(c, STR("text/"), STR("rfc822-headers"), false);
    while (rest.length > 0) {
        const struct str line = take_line(&rest);

        if (str_is_empty(line) || !put_header_line(c, line, &left))
            break;
    }
}

/* ---- all of it ---- */

static bool is_internationalised(const struct dsn_report *report)
{
    if (report->is_smtputf8 || !text_is_ascii(report->sender))
        return true;
    for (size_t i = 0; i < report->recipient_count; i++)
        if (!text_is_ascii(report->recipients[i].recipient))
            return true;
    return false;
}

static void compose(struct composer *c)
{
    buf_clear(c->out);
    put_header(c);
    put_human_part(c);
    put_machine_part(c);
    if (c->report->returns_message) {
        put_part(c, STR("message/"), c->is_utf8 ? STR("global") : STR("rfc822"), returns_8bit(c->report));
        return;
    }
    put_original_header(c);
    dsn_compose_end(c->out, c->report);
}

void dsn_compose_end(struct buf *out, const struct dsn_report *report)
{
    buf_append_str(out, STR("\r\n--"));
    buf_append_str(out, report->boundary);
    buf_append_str(out, STR("--\r\n"));
}

bool dsn_compose(struct buf *out, const struct dsn_report *report, struct dsn_properties *properties)
{
    static const struct detail details[] = {{DSN_REPLY_OCTETS_MAX, 200, true}, {120, 100, true}, {0, 80, false}};
    const size_t bytes_max = DSN_REPORT_BYTES_MAX(report->recipient_count);
    struct composer c = {.out = out, .report = report, .is_utf8 = is_internationalised(report)};
    bool done = false;

    buf_init(&c.scratch, SCRATCH_BYTES_MAX);
    for (size_t i = 0; i < sizeof(details) / sizeof(details[0]) && !done; i++) {
        c.detail = &details[i];
        compose(&c);
        done = !out->overflowed && out->length <= bytes_max;
    }
    buf_release(&c.scratch);
    properties->is_8bit = returns_8bit(report) || !text_is_ascii(buf_str(out));
    properties->needs_smtputf8 = !text_is_ascii(report->sender);
    return done;
}
