/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/received.h"

#include "mail/date.h"
#include "mail/text.h"

/* Names and ids are short, so this bounds what only a fault elsewhere could make long. */
#define NAME_OCTETS_MAX 255

static bool is_name_byte(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c) || c == '.' || c == '-' || c == '_' || c == ':' || c == '[' ||
           c == ']';
}

/* HELO's argument and DNS names: whatever could end a comment or a field becomes "?". */
static void append_name(struct buf *out, struct str name, struct str otherwise)
{
    if (str_is_empty(name)) {
        buf_append_str(out, otherwise);
        return;
    }
    name = str_take(name, NAME_OCTETS_MAX);
    while (name.length > 0) {
        size_t clean = 0;

        while (clean < name.length && is_name_byte(name.data[clean]))
            clean++;
        buf_append(out, name.data, clean);
        if (clean < name.length)
            buf_append_char(out, '?');
        name = str_skip(name, clean + 1);
    }
}

static void append_protocol(struct buf *out, const struct received_facts *facts)
{
    if (facts->is_utf8)
        buf_append_str(out, STR("UTF8SMTP"));
    else
        buf_append_str(out, facts->is_esmtp ? STR("ESMTP") : STR("SMTP"));
    /* RFC 3848 has suffixes for ESMTP alone; TLS and AUTH don't come without EHLO. */
    if (facts->has_tls && (facts->is_esmtp || facts->is_utf8))
        buf_append_char(out, 'S');
    if (facts->is_authenticated && (facts->is_esmtp || facts->is_utf8))
        buf_append_char(out, 'A');
}

void received_compose(struct buf *out, const struct received_facts *facts)
{
    char date[DATE_RFC5322_BYTES];

    buf_append_str(out, STR("Received: from "));
    append_name(out, str_take(facts->helo, RECEIVED_HELO_OCTETS_MAX), STR("unknown"));
    buf_append_str(out, STR(" ("));
    append_name(out, facts->client_name, STR("unknown"));
    buf_append_str(out, str_find(facts->client_ip, ':') == STR_NONE ? STR(" [") : STR(" [IPv6:"));
    append_name(out, facts->client_ip, STR("unknown"));
    buf_append_str(out, STR("])\r\n\tby "));
    append_name(out, facts->host, STR("unknown"));
    buf_append_str(out, STR(" (Postern) with "));
    append_protocol(out, facts);
    buf_append_str(out, STR(" id "));
    append_name(out, facts->id, STR("unknown"));
    if (!str_is_empty(facts->recipient)) {
        buf_append_str(out, STR("\r\n\tfor <"));
        text_append_clean(out, facts->recipient, facts->recipient.length, !facts->is_utf8);
        buf_append_str(out, STR(">; "));
    } else {
        buf_append_str(out, STR(";\r\n\t"));
    }
    buf_append_str(out, date_format_rfc5322(facts->received_at_ms, date));
    buf_append_str(out, STR("\r\n"));
}

void received_append_message_id(struct buf *out, struct str id, int64_t at_ms, struct str host)
{
    append_name(out, id, STR("0"));
    buf_append_char(out, '.');
    buf_append_u64(out, at_ms < 0 ? 0 : (uint64_t)at_ms);
    buf_append_char(out, '@');
    append_name(out, host, STR("localhost"));
}
