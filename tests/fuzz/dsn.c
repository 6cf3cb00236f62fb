/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A report whose every text a stranger chose: addresses, the parameters that came with them, the remote server's name and words, the original's header.
 * It stays a well-formed message of three parts within its bound, and nothing of them ends a line, a field or a part. The input: a byte of flags,
 * a byte of actions, then the texts, with a NUL between them.
 */
#include "mail/dsn.h"
#include "mail/text.h"

#include <stdint.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            __builtin_trap();                                                                                          \
    } while (0)

#define BOUNDARY "b0undaryb0undary"
/* Addresses and parameters were checked when they came: they are no longer than this. */
#define TEXT_OCTETS_MAX 254

static struct str take(struct str *rest)
{
    return str_take(str_split(rest, '\0'), TEXT_OCTETS_MAX);
}

static void check_orcpt(struct str address)
{
    struct buf encoded, decoded;
    struct str type;
    bool is_utf8 = true;

    for (size_t i = 0; i < address.length && is_utf8;) {
        size_t length = text_utf8_length(str_skip(address, i));

        is_utf8 = length > 0;
        i += length;
    }
    buf_init(&encoded, DSN_ORCPT_OCTETS_MAX);
    buf_init(&decoded, DSN_ORCPT_OCTETS_MAX);
    if (address.length > 0 && dsn_orcpt_encode(&encoded, address)) {
        CHECK(text_is_ascii(buf_str(&encoded)) && dsn_is_orcpt(buf_str(&encoded)));
        CHECK(dsn_orcpt_decode(&decoded, buf_str(&encoded), &type));
        CHECK(!is_utf8 || str_equal(buf_str(&decoded), address));
    }
    buf_release(&encoded);
    buf_release(&decoded);
}

static void check_lines(struct str text)
{
    size_t delimiters = 0;

    while (text.length > 0) {
        struct str line = str_split(&text, '\n');

        CHECK(line.length > 0 && line.data[line.length - 1] == '\r' && line.length <= 999);
        line.length--;
        for (size_t i = 0; i < line.length; i++)
            CHECK(((unsigned char)line.data[i] >= ' ' && line.data[i] != 0x7f) || line.data[i] == '\t');
        delimiters += str_starts_with(line, STR("--" BOUNDARY));
    }
    CHECK(delimiters <= 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = str_make((const char *)data, size);
    struct dsn_recipient recipients[2] = {{.recipient = STR("bob@example.org")}, {.status = STR("4.2.2")}};
    struct dsn_report report = {.host = STR("mail.contoso.test"),
                                .message_id = STR("1@mail.contoso.test"),
                                .boundary = STR(BOUNDARY),
                                .recipients = recipients,
                                .recipient_count = 2};
    struct dsn_properties properties;
    struct buf out;

    if (size < 2)
        return 0;
    report.is_smtputf8 = (data[0] & 1) != 0;
    report.returns_message = (data[0] & 2) != 0;
    report.original_is_8bit = (data[0] & 4) != 0;
    recipients[0].is_expired = (data[0] & 8) != 0;
    recipients[1].retry_until_ms = data[0] & 16 ? 1795428000000 : 0;
    recipients[0].action = (enum dsn_action)(data[1] % 5);
    recipients[1].action = (enum dsn_action)(data[1] / 5 % 5);
    rest = str_skip(rest, 2);
    recipients[0].status = take(&rest);
    recipients[0].reply = take(&rest);
    recipients[0].reason = take(&rest);
    recipients[0].remote_mta = take(&rest);
    recipients[1].recipient = take(&rest);
    recipients[1].orcpt = take(&rest);
    report.sender = take(&rest);
    report.envid = take(&rest);
    report.header = rest;
    buf_init(&out, DSN_REPORT_BYTES_MAX(2));
    CHECK(dsn_compose(&out, &report, &properties));
    CHECK(properties.is_8bit || text_is_ascii(buf_str(&out)));
    if (report.returns_message)
        dsn_compose_end(&out, &report);
    check_lines(buf_str(&out));
    buf_release(&out);
    check_orcpt(recipients[1].recipient);
    return 0;
}
