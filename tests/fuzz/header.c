/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A message's first bytes: scanned whole and in pieces (the first byte says how long), searched, and put into a report, which must stay
 * a well-formed message within its bound, whatever the header and the remote server's words are.
 */
#include "mail/header.h"
#include "mail/dsn.h"
#include "mail/mailboxes.h"
#include "mail/received.h"

#include <stdint.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            __builtin_trap();                                                                                          \
    } while (0)

/* Small, so that it overflows. */
#define FROM_BYTES_MAX 512

static void scan(struct header_scan *s, struct str input, size_t piece_bytes, struct buf *from)
{
    header_scan_init(s);
    buf_init(from, FROM_BYTES_MAX);
    s->from = from;
    for (; input.length > 0; input = str_skip(input, piece_bytes))
        header_scan_feed(s, str_take(input, piece_bytes));
}

/* Each entry is a part of the field, behind the one before; what is told as valid is an address. */
static void check_mailboxes(struct str field)
{
    const char *end = field.data;
    struct mailbox mailbox;

    while (mailboxes_next(&field, &mailbox)) {
        CHECK(mailbox.text.data >= end);
        end = mailbox.text.data + mailbox.text.length;
        CHECK(!mailbox.is_valid || address_domain(&mailbox.address).length > 0);
    }
    CHECK(field.length == 0);
}

static void check_scan(struct str input, size_t piece_bytes)
{
    struct header_scan whole;
    struct header_scan pieces;

    struct buf whole_from;
    struct buf pieces_from;

    scan(&whole, input, SIZE_MAX, &whole_from);
    scan(&pieces, input, piece_bytes, &pieces_from);
    CHECK(str_equal(buf_str(&whole_from), buf_str(&pieces_from)) && whole.from_overflows == pieces.from_overflows);
    check_mailboxes(buf_str(&whole_from));
    buf_release(&whole_from);
    buf_release(&pieces_from);
    CHECK(whole.is_complete == pieces.is_complete && whole.header_bytes == pieces.header_bytes);
    CHECK(whole.received_count == pieces.received_count && whole.has_date == pieces.has_date);
    CHECK(whole.has_from == pieces.has_from && whole.has_message_id == pieces.has_message_id);
    CHECK(whole.header_bytes <= input.length);

    const struct str id = header_scan_message_id(&whole);

    CHECK(str_equal(id, header_scan_message_id(&pieces)) && id.length <= HEADER_MESSAGE_ID_OCTETS_MAX);
    for (size_t i = 0; i < id.length; i++)
        CHECK(id.data[i] >= ' ' && id.data[i] < 0x7f);
}

static void check_lines(struct str text, bool is_8bit)
{
    size_t line = 0;

    for (size_t i = 0; i < text.length; i++) {
        const unsigned char c = (unsigned char)text.data[i];

        line++;
        CHECK(is_8bit || c < 0x80);
        CHECK(c != '\r' || (i + 1 < text.length && text.data[i + 1] == '\n'));
        CHECK(c != '\n' || (i > 0 && text.data[i - 1] == '\r'));
        CHECK(c >= ' ' || c == '\r' || c == '\n' || c == '\t');
        if (c == '\n') {
            CHECK(line <= 1000);
            line = 0;
        }
    }
    CHECK(line == 0);
}

static size_t count_delimiters(struct str text, struct str delimiter)
{
    size_t found = 0;

    while (text.length > 0) {
        const char *at = memmem(text.data, text.length, delimiter.data, delimiter.length);

        if (!at)
            break;
        found++;
        text = str_skip(text, (size_t)(at - text.data) + delimiter.length);
    }
    return found;
}

/* The machine part, up to the part after it, tells of one recipient however many its texts would like it to. */
static void check_machine_part(struct str text)
{
    static const char type[] = "\r\nContent-Type: message/";
    const char *start = memmem(text.data, text.length, type, sizeof(type) - 1);
    struct str part;

    CHECK(start);
    part = str_skip(text, (size_t)(start - text.data));

    const char *end = memmem(part.data, part.length, "\r\n--boundary", 12);

    CHECK(end);
    part = str_take(part, (size_t)(end - part.data));
    CHECK(count_delimiters(part, STR("\r\nAction: ")) == 1);
    CHECK(count_delimiters(part, STR("\r\nReporting-MTA: ")) == 1);
    CHECK(count_delimiters(part, STR("\r\nFinal-Recipient: ")) == 1);
}

static void check_report(struct str input, bool is_utf8)
{
    const struct dsn_recipient recipient = {
        .recipient = is_utf8 ? STR("\xc3\xbc@example.org") : STR("u@example.org"),
        .orcpt = str_take(input, 200),
        .action = is_utf8 ? DSN_ACTION_DELAYED : DSN_ACTION_FAILED,
        .status = str_take(input, 7),
        .reply = input,
        .reason = input,
        .remote_mta = input,
        .last_attempt_at_ms = 1,
    };
    const struct dsn_report report = {
        .host = STR("mail.contoso.test"),
        .message_id = STR("1@mail.contoso.test"),
        .boundary = STR("boundary"),
        .sender = STR("s@contoso.test"),
        .envid = str_take(input, 50),
        .recipients = &recipient,
        .recipient_count = 1,
        .header = input,
    };
    struct dsn_properties properties;
    struct buf out;

    buf_init(&out, DSN_REPORT_BYTES_MAX(1));
    CHECK(dsn_compose(&out, &report, &properties));
    check_lines(buf_str(&out), properties.is_8bit);
    CHECK(count_delimiters(buf_str(&out), STR("\r\n--boundary\r\n")) == (input.length > 0 ? 3 : 2));
    CHECK(count_delimiters(buf_str(&out), STR("\r\n--boundary--\r\n")) == 1);
    check_machine_part(buf_str(&out));
    buf_release(&out);
}

static void check_received(struct str input)
{
    const struct received_facts facts = {
        .helo = input, .client_name = input, .client_ip = input, .host = input, .id = input};
    struct buf out;

    buf_init(&out, RECEIVED_BYTES_MAX);
    received_compose(&out, &facts);
    CHECK(!out.overflowed);
    check_lines(buf_str(&out), false);
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str value;
    struct buf line;

    if (size == 0)
        return 0;
    const struct str input = {(const char *)data + 1, size - 1};

    check_scan(input, 1 + (size_t)data[0]);
    if (header_find(input, STR("Subject"), &value)) {
        buf_init(&line, 100);
        header_append_unfolded(&line, value, 100);
        CHECK(!line.overflowed);
        buf_release(&line);
    }
    check_report(input, data[0] % 2 == 0);
    check_received(input);
    return 0;
}
