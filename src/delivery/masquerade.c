/* SPDX-License-Identifier: Apache-2.0 */
#include "delivery/masquerade.h"

#include "base/mem.h"
#include "mail/address.h"
#include "mail/domain.h"
#include "mail/header.h"

#include <stdlib.h>
#include <string.h>

/* Room for domains that are longer than those they replace. */
#define GROWN_BYTES_MAX (4u * MASQUERADE_HEADER_BYTES_MAX)
#define READ_BYTES      (16u << 10)

/* ---- domains ---- */

static bool is_local_entry(const struct policy_domain *entry)
{
    return entry && entry->type != POLICY_DOMAIN_ALLOWED;
}

/* `domain` in normal form. */
static bool is_local(const struct policy_model *model, struct str domain)
{
    if (is_local_entry(policy_find_domain(model, domain)))
        return true;
    while (domain.length > 0) {
        const struct policy_domain *entry;

        str_split(&domain, '.');
        entry = domain.length > 0 ? policy_find_domain(model, domain) : NULL;
        if (is_local_entry(entry) && !entry->is_wildcard)
            return true;
    }
    return false;
}

static bool is_local_text(const struct policy_model *model, struct str text)
{
    char normal[DOMAIN_TEXT_BYTES];
    size_t length = domain_normalize(text, normal);

    return length > 0 && is_local(model, str_make(normal, length));
}

void masquerade_address(const struct masquerade *masquerade, struct str text, struct buf *out)
{
    struct address address;

    if (!address_parse_stored(&address, text) || address.is_null || address.domain_kind != ADDRESS_DOMAIN_NAME ||
        !is_local(masquerade->model, address_domain(&address))) {
        buf_append_str(out, text);
        return;
    }
    buf_append_str(out, address_local_text(&address));
    buf_append_char(out, '@');
    buf_append_str(out, masquerade->domain);
}

/* ---- header fields ---- */

static bool is_domain_byte(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c) || c == '-' || c == '_' || c == '.' || (unsigned char)c >= 0x80;
}

static size_t skip_space(struct str value, size_t i)
{
    while (i < value.length &&
           (value.data[i] == ' ' || value.data[i] == '\t' || value.data[i] == '\r' || value.data[i] == '\n'))
        i++;
    return i;
}

/* What stands behind an "@" at `i`: appends it, changed if it is local. Returns where to go on. */
static size_t put_domain(const struct masquerade *masquerade, struct str value, size_t i, struct buf *out)
{
    size_t start = skip_space(value, i), end = start;
    struct str domain;

    while (end < value.length && is_domain_byte(value.data[end]))
        end++;
    domain = str_make(value.data + start, end - start);
    buf_append(out, value.data + i, start - i);
    buf_append_str(out, is_local_text(masquerade->model, domain) ? masquerade->domain : domain);
    return end;
}

static void put_addresses(const struct masquerade *masquerade, struct str value, struct buf *out)
{
    unsigned comments = 0;
    bool is_quoted = false;

    for (size_t i = 0; i < value.length;) {
        char c = value.data[i++];

        buf_append_char(out, c);
        if (c == '\\' && (is_quoted || comments > 0)) {
            if (i < value.length)
                buf_append_char(out, value.data[i++]);
        } else if (c == '"' && comments == 0) {
            is_quoted = !is_quoted;
        } else if (c == '(' && !is_quoted) {
            comments++;
        } else if (c == ')' && comments > 0) {
            comments--;
        } else if (c == '@' && !is_quoted && comments == 0) {
            i = put_domain(masquerade, value, i, out);
        }
    }
}

/* The length of a field with its continuation lines; 0 if its end has not come. */
static size_t field_length(struct str header)
{
    size_t end = 0;

    do {
        size_t line = str_find(str_skip(header, end), '\n');

        if (line == STR_NONE)
            return 0;
        end += line + 1;
    } while (end < header.length && (header.data[end] == ' ' || header.data[end] == '\t'));
    /* Whether it goes on stands behind it. */
    return end < header.length ? end : 0;
}

static bool is_sender_field(struct str field, size_t *name_length)
{
    static const struct str names[] = {STR_INIT("From"), STR_INIT("Sender"), STR_INIT("Reply-To")};
    size_t colon = str_find(field, ':');
    struct str name;

    if (colon == STR_NONE)
        return false;
    name = str_trim(str_take(field, colon));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (str_equal_nocase(name, names[i])) {
            *name_length = colon + 1;
            return true;
        }
    }
    return false;
}

void masquerade_header(const struct masquerade *masquerade, struct str header, struct buf *out)
{
    size_t length;

    while (header.length > 0 && header.data[0] != '\r' && header.data[0] != '\n' &&
           (length = field_length(header)) > 0) {
        struct str field = str_take(header, length);
        size_t name_length;

        if (is_sender_field(field, &name_length)) {
            buf_append_str(out, str_take(field, name_length));
            put_addresses(masquerade, str_skip(field, name_length), out);
        } else {
            buf_append_str(out, field);
        }
        header = str_skip(header, length);
    }
    buf_append_str(out, header);
}

/* ---- a message on its way ---- */

/* The header section, as far as there is room, and what came with it. False: it can't be read. */
static bool read_head(struct masqueraded_body *body, struct buf *head, unsigned *received_count)
{
    struct header_scan scan;

    header_scan_init(&scan);
    while (!scan.is_complete && head->length + READ_BYTES <= head->length_max) {
        char *room = buf_reserve(head, READ_BYTES);
        ssize_t count = delivery_body_read(&body->body, room, READ_BYTES);

        if (count < 0)
            return false;
        if (count == 0)
            break;
        head->length += (size_t)count;
        header_scan_feed(&scan, str_make(room, (size_t)count));
    }
    *received_count = scan.received_count;
    return true;
}

/* An unreadable body is read again when it is sent, which then fails as any other. */
static void start_again(struct masqueraded_body *body)
{
    struct delivery_body old = body->body;

    delivery_body_release(&body->body);
    delivery_body_init(&body->body, old.spool, old.pool, old.id);
}

void masqueraded_body_open(struct masqueraded_body *body, const struct masquerade *masquerade, struct buf *sender,
                           uint64_t *body_bytes)
{
    struct buf head, changed;
    unsigned received_count;

    buf_init(&head, MASQUERADE_HEADER_BYTES_MAX);
    buf_init(&body->head, GROWN_BYTES_MAX);
    body->head_sent = 0;
    if (!read_head(body, &head, &received_count)) {
        start_again(body);
        goto done;
    }
    buf_append_str(&body->head, buf_str(&head));
    if (received_count > 1)
        goto done;
    buf_init(&changed, GROWN_BYTES_MAX);
    masquerade_header(masquerade, buf_str(&head), &changed);
    if (changed.overflowed) {
        buf_release(&changed);
        goto done;
    }
    *body_bytes = *body_bytes - head.length + changed.length;
    buf_release(&body->head);
    body->head = changed;
    if (sender->length > 0) {
        struct buf address;

        buf_init(&address, ADDRESS_TEXT_OCTETS_MAX + DOMAIN_TEXT_BYTES);
        masquerade_address(masquerade, buf_str(sender), &address);
        buf_release(sender);
        *sender = address;
    }
done:
    buf_release(&head);
}

ssize_t masqueraded_body_read(struct masqueraded_body *body, void *data, size_t length)
{
    size_t left = body->head.length - body->head_sent;

    if (left == 0)
        return delivery_body_read(&body->body, data, length);
    if (length > left)
        length = left;
    memcpy(data, body->head.data + body->head_sent, length);
    body->head_sent += length;
    return (ssize_t)length;
}

void masqueraded_body_release(struct masqueraded_body *body)
{
    delivery_body_release(&body->body);
    buf_release(&body->head);
}
