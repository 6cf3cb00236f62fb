/* SPDX-License-Identifier: Apache-2.0 */
#include "relaytest/ndr.h"

#include "base/buf.h"
#include "mail/address.h"
#include "mail/header.h"
#include "mail/text.h"

/* ---- searching ---- */

/* Position of `needle`, ASCII without case; STR_NONE if it is not there. */
static size_t find_nocase(struct str text, struct str needle)
{
    if (needle.length == 0 || needle.length > text.length)
        return STR_NONE;
    for (size_t i = 0; i <= text.length - needle.length; i++) {
        size_t n = 0;

        while (n < needle.length && ascii_lower(text.data[i + n]) == ascii_lower(needle.data[n]))
            n++;
        if (n == needle.length)
            return i;
    }
    return STR_NONE;
}

static bool has_nocase(struct str text, struct str needle)
{
    return find_nocase(text, needle) != STR_NONE;
}

/* The next line, without its CRLF. */
static struct str take_line(struct str *rest)
{
    struct str line = str_split(rest, '\n');

    if (line.length > 0 && line.data[line.length - 1] == '\r')
        line.length--;
    return line;
}

/* What follows the header section. */
static struct str body_of(struct str message)
{
    while (message.length > 0)
        if (take_line(&message).length == 0)
            break;
    return message;
}

/* Soft line breaks of quoted-printable may cut a token or a phrase in two. */
static void append_joined(struct buf *out, struct str text)
{
    size_t kept = 0;

    for (size_t i = 0; i + 2 < text.length; i++) {
        if (text.data[i] == '=' && text.data[i + 1] == '\r' && text.data[i + 2] == '\n') {
            buf_append_str(out, str_take(str_skip(text, kept), i - kept));
            kept = i + 3;
            i += 2;
        }
    }
    buf_append_str(out, str_skip(text, kept));
}

static void set_text(char *out, size_t size, struct str text)
{
    struct buf clean;
    size_t length;

    buf_init(&clean, size);
    text_append_clean(&clean, str_trim(text), size - 1, true);
    length = clean.length < size ? clean.length : size - 1;
    if (length > 0)
        memcpy(out, clean.data, length);
    out[length] = '\0';
    buf_release(&clean);
}

bool ndr_is_own_copy(struct str message, struct str token)
{
    struct str value;

    return header_find(message, STR(NDR_TOKEN_FIELD), &value) && str_equal_nocase(str_trim(value), token);
}

/* ---- who writes reports ---- */

static bool is_daemon(struct str address)
{
    static const struct str names[] = {STR_INIT("mailer-daemon"), STR_INIT("postmaster"), STR_INIT("mailerdaemon"),
                                       STR_INIT("mail-daemon"), STR_INIT("microsoftexchange")};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (str_starts_with_nocase(address, names[i]))
            return true;
    return false;
}

/* The null sender (RFC 5321 4.5.5), or a daemon's name in the envelope or in From. */
static bool is_from_daemon(struct str sender, struct str message)
{
    struct str from;
    size_t bracket;

    if (sender.length == 0 || is_daemon(sender))
        return true;
    if (!header_find(message, STR("From"), &from))
        return false;
    bracket = str_find(from, '<');
    return is_daemon(str_trim(from)) || (bracket != STR_NONE && is_daemon(str_skip(from, bracket + 1)));
}

/* ---- statuses ---- */

/* "5.1.1" at the start of `text`: its length, 0 if there is none (RFC 3463 2). */
static size_t status_length(struct str text)
{
    size_t at = 0;

    if (text.length < 5 || (text.data[0] != '2' && text.data[0] != '4' && text.data[0] != '5'))
        return 0;
    for (unsigned part = 0; part < 3; part++) {
        size_t digits = 0;

        while (at < text.length && digits < 4 && ascii_is_digit(text.data[at])) {
            at++;
            digits++;
        }
        if (digits == 0 || digits > 3)
            return 0;
        if (part < 2) {
            if (at == text.length || text.data[at] != '.')
                return 0;
            at++;
        }
    }
    return at < text.length && text.data[at] == '.' ? 0 : at;
}

/* Wherever it stands in a line, but not inside of another number (an IP address). */
static struct str find_status(struct str line)
{
    for (size_t i = 0; i < line.length; i++) {
        char before = i > 0 ? line.data[i - 1] : ' ';
        size_t length = ascii_is_digit(before) || before == '.' ? 0 : status_length(str_skip(line, i));

        if (length > 0)
            return str_take(str_skip(line, i), length);
    }
    return STR("");
}

/* ---- did it try? ---- */

/* What a server says that wanted to send a message on and found no way. */
static const struct str no_way_phrases[] = {
    STR_INIT("host not found"),
    STR_INIT("domain not found"),
    STR_INIT("domain name not found"),
    STR_INIT("host unknown"),
    STR_INIT("name service error"),
    STR_INIT("name or service not known"),
    STR_INIT("connection refused"),
    STR_INIT("connection timed out"),
    STR_INIT("no route to host"),
    STR_INIT("network is unreachable"),
    STR_INIT("couldn't find any host"),
    STR_INIT("couldn't find a host"),
    STR_INIT("wasn't able to establish an smtp connection"),
};

static bool tells_of_no_way(struct str status, struct str text)
{
    /* Bad destination system; and all of "network and routing" but a policy's 5.4.1 (RFC 3463 3.2, 3.5). */
    if (str_equal(str_skip(status, 1), STR(".1.2")) ||
        (str_equal(str_take(str_skip(status, 1), 3), STR(".4.")) && !str_equal(status, STR("5.4.1"))))
        return true;
    for (size_t i = 0; i < sizeof(no_way_phrases) / sizeof(no_way_phrases[0]); i++)
        if (has_nocase(text, no_way_phrases[i]))
            return true;
    return false;
}

/* Whether `text` has u@X as an address of its own, not as a quoted local part. */
static bool names_external_recipient(struct str text, const struct ndr_question *question)
{
    size_t at;

    while ((at = find_nocase(text, question->recipient_local)) != STR_NONE) {
        struct str after = str_skip(text, at + question->recipient_local.length);
        struct str end;

        text = after;
        if (after.length == 0 || after.data[0] != '@' ||
            !str_starts_with_nocase(str_skip(after, 1), question->external))
            continue;
        end = str_skip(after, 1 + question->external.length);
        if (end.length == 0 || (end.data[0] != '"' && end.data[0] != '-' && end.data[0] != '@' &&
                                !ascii_is_alpha(end.data[0]) && !ascii_is_digit(end.data[0])))
            return true;
    }
    return false;
}

/* All of these, and the part of a standard report that people read, name the recipient in one line and say what was wrong in the next that is not empty. */
static struct str find_reason(struct str body, struct str token)
{
    bool follows = false;

    while (body.length > 0) {
        struct str line = str_trim(take_line(&body));

        if (follows && line.length > 0)
            return line;
        if (has_nocase(line, token) && !has_nocase(line, STR(NDR_TOKEN_FIELD)))
            follows = true;
    }
    return STR("");
}

/* ---- RFC 3464 ---- */

/* The blocks of fields in the part that machines read; empty if there is none. */
static struct str find_status_part(struct str message)
{
    struct str rest = message;

    while (rest.length > 0) {
        struct str line = take_line(&rest);

        if (str_starts_with_nocase(line, STR("Content-Type:")) &&
            (has_nocase(line, STR("message/delivery-status")) ||
             has_nocase(line, STR("message/global-delivery-status"))))
            return body_of(rest);
    }
    return STR("");
}

/* Cuts off the fields up to the next empty line; false at the end of the part. */
static bool take_fields(struct str *rest, struct str *fields)
{
    struct str start;

    while (rest->length > 0 && (rest->data[0] == '\r' || rest->data[0] == '\n'))
        *rest = str_skip(*rest, 1);
    if (rest->length == 0 || str_starts_with(*rest, STR("--")))
        return false;
    start = *rest;
    while (rest->length > 0 && !str_starts_with(*rest, STR("--")))
        if (take_line(rest).length == 0)
            break;
    *fields = str_take(start, start.length - rest->length);
    return true;
}

static struct str field_of(struct str fields, struct str name)
{
    struct str value;

    return header_find(fields, name, &value) ? str_trim(value) : STR("");
}

/* What follows "rfc822;" and its like. */
static struct str without_type(struct str value)
{
    size_t semicolon = str_find(value, ';');

    return semicolon == STR_NONE ? value : str_trim(str_skip(value, semicolon + 1));
}

static enum ndr_kind kind_of_action(struct str action)
{
    if (str_starts_with_nocase(action, STR("failed")))
        return NDR_FAILED;
    if (str_starts_with_nocase(action, STR("delayed")))
        return NDR_DELAYED;
    return NDR_OTHER;
}

static bool is_external(struct str recipient, const struct ndr_question *question)
{
    struct address address;
    size_t at;

    if (!address_parse(&address, recipient, STR("")))
        return false;
    at = str_find_last(address_text(&address), '@');
    return !address.is_null && at != STR_NONE && at >= address.local_text_length &&
           str_equal_nocase(str_skip(address_text(&address), at + 1), question->external);
}

static void take_recipient(struct ndr *ndr, struct str fields, const struct ndr_question *question)
{
    struct str status = field_of(fields, STR("Status"));
    struct str diagnostic = without_type(field_of(fields, STR("Diagnostic-Code")));

    ndr->kind = kind_of_action(field_of(fields, STR("Action")));
    ndr->format = "RFC 3464";
    status = str_take(status, status_length(status));
    set_text(ndr->status, sizeof(ndr->status), status);
    set_text(ndr->diagnostic, sizeof(ndr->diagnostic), diagnostic);
    ndr->tried_outside = is_external(without_type(field_of(fields, STR("Final-Recipient"))), question) &&
                         (field_of(fields, STR("Remote-MTA")).length > 0 || tells_of_no_way(status, diagnostic));
}

/* The recipient whose fields have our token; where addresses are hidden, the first one. */
static bool recognise_standard(struct ndr *ndr, struct str message, const struct ndr_question *question)
{
    struct str rest = find_status_part(message);
    struct str fields;
    bool found = false;

    while (take_fields(&rest, &fields)) {
        bool is_ours = has_nocase(field_of(fields, STR("Final-Recipient")), question->token) ||
                       has_nocase(field_of(fields, STR("Original-Recipient")), question->token);

        if (field_of(fields, STR("Action")).length == 0 || (found && !is_ours))
            continue;
        take_recipient(ndr, fields, question);
        found = true;
        if (is_ours)
            break;
    }
    if (found && !ndr->diagnostic[0])
        set_text(ndr->diagnostic, sizeof(ndr->diagnostic), find_reason(body_of(message), question->token));
    return found;
}

/* ---- everybody else ---- */

struct form {
    const char *format;
    bool in_subject; /* at its start; else anywhere in the body */
    enum ndr_kind kind;
    struct str text;
};

/* Delays first: some servers write both with the same words around them. */
static const struct form forms[] = {
    {"Postfix", false, NDR_DELAYED, STR_INIT("THIS IS A WARNING ONLY")},
    {"sendmail", false, NDR_DELAYED, STR_INIT("had transient non-fatal errors")},
    {"sendmail", true, NDR_DELAYED, STR_INIT("Warning: could not send message")},
    {"Exim", true, NDR_DELAYED, STR_INIT("Warning: message ")},
    {"Exim", false, NDR_DELAYED, STR_INIT("has not yet been delivered to")},
    {"Exchange", false, NDR_DELAYED, STR_INIT("Delivery is delayed to these recipients")},
    {"Exchange", true, NDR_DELAYED, STR_INIT("Delivery delayed:")},
    {"other", true, NDR_DELAYED, STR_INIT("Delivery Status Notification (Delay)")},
    {"other", true, NDR_DELAYED, STR_INIT("Delayed Mail")},
    {"qmail", false, NDR_FAILED, STR_INIT("This is the qmail-send program")},
    {"qmail", false, NDR_FAILED, STR_INIT("I'm afraid I wasn't able to deliver your message")},
    {"Exim", false, NDR_FAILED, STR_INIT("A message that you sent could not be delivered to one or more of its")},
    {"Exim", true, NDR_FAILED, STR_INIT("Mail delivery failed")},
    {"Postfix", false, NDR_FAILED, STR_INIT("I'm sorry to have to inform you that your message could not")},
    {"Postfix", true, NDR_FAILED, STR_INIT("Undelivered Mail Returned to Sender")},
    {"sendmail", false, NDR_FAILED, STR_INIT("had permanent fatal errors")},
    {"sendmail", true, NDR_FAILED, STR_INIT("Returned mail")},
    {"Exchange", false, NDR_FAILED, STR_INIT("did not reach the following recipient(s)")},
    {"Exchange", false, NDR_FAILED, STR_INIT("did not reach some or all of the intended recipients")},
    {"Exchange", false, NDR_FAILED, STR_INIT("Delivery has failed to these recipients")},
    {"Exchange", true, NDR_FAILED, STR_INIT("Undeliverable:")},
    {"Exchange", true, NDR_FAILED, STR_INIT("NDN:")},
    {"other", true, NDR_FAILED, STR_INIT("failure notice")},
    {"other", true, NDR_FAILED, STR_INIT("Delivery Status Notification (Failure)")},
    {"other", true, NDR_FAILED, STR_INIT("Undeliverable mail")},
    {"other", true, NDR_FAILED, STR_INIT("Undeliverable message")},
    {"other", true, NDR_FAILED, STR_INIT("Undelivered mail")},
    {"other", true, NDR_FAILED, STR_INIT("Delivery failure")},
    {"other", true, NDR_FAILED, STR_INIT("Mail delivery failure")},
    {"other", true, NDR_FAILED, STR_INIT("Mail System Error - Returned Mail")},
    {"other", true, NDR_FAILED, STR_INIT("Message could not be delivered")},
};

static const struct form *find_form(struct str message)
{
    struct str subject = STR("");
    struct str body = body_of(message);

    if (header_find(message, STR("Subject"), &subject))
        subject = str_trim(subject);
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
        if (forms[i].in_subject ? str_starts_with_nocase(subject, forms[i].text) : has_nocase(body, forms[i].text))
            return &forms[i];
    return NULL;
}

static void recognise_form(struct ndr *ndr, struct str message, const struct ndr_question *question)
{
    const struct form *form = find_form(message);
    struct str body = body_of(message);
    struct str reason, status;

    if (!form || !has_nocase(body, question->token))
        return;
    reason = find_reason(body, question->token);
    status = find_status(reason);
    ndr->kind = form->kind;
    ndr->format = form->format;
    set_text(ndr->status, sizeof(ndr->status), status);
    set_text(ndr->diagnostic, sizeof(ndr->diagnostic), reason);
    ndr->tried_outside = names_external_recipient(body, question) && tells_of_no_way(status, reason);
}

void ndr_recognise(struct ndr *ndr, struct str sender, struct str message, const struct ndr_question *question)
{
    struct buf joined;
    struct str text;

    memset(ndr, 0, sizeof(*ndr));
    ndr->format = "";
    if (ndr_is_own_copy(message, question->token) || !is_from_daemon(sender, message))
        return;
    buf_init(&joined, message.length);
    append_joined(&joined, message);
    text = buf_str(&joined);
    if (has_nocase(text, question->token) && !recognise_standard(ndr, text, question))
        recognise_form(ndr, text, question);
    buf_release(&joined);
}
