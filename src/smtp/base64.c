/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/base64.h"

#define BASE64_INVALID 255u

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct str data, char *text)
{
    const unsigned char *bytes = (const unsigned char *)data.data;

    for (size_t i = 0; i < data.length; i += 3) {
        size_t count = data.length - i < 3 ? data.length - i : 3;
        unsigned group = (unsigned)bytes[i] << 16;

        if (count > 1)
            group |= (unsigned)bytes[i + 1] << 8;
        if (count > 2)
            group |= bytes[i + 2];
        *text++ = alphabet[group >> 18];
        *text++ = alphabet[group >> 12 & 63];
        *text++ = count > 1 ? alphabet[group >> 6 & 63] : '=';
        *text++ = count > 2 ? alphabet[group & 63] : '=';
    }
}

bool base64_append(struct buf *out, struct str data)
{
    size_t length = BASE64_ENCODED_BYTES(data.length);
    char *text = buf_reserve(out, length);

    if (!text)
        return false;
    base64_encode(data, text);
    out->length += length;
    return true;
}

static unsigned value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (unsigned)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (unsigned)(c - 'a') + 26;
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0') + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : BASE64_INVALID;
}

/* Four characters, of which the last `padding` are "=", to 3 - padding bytes. */
static bool decode_group(const char *text, size_t padding, unsigned char *bytes)
{
    unsigned group = 0;

    for (size_t i = 0; i < 4; i++) {
        unsigned value = i < 4 - padding ? value_of(text[i]) : 0;

        if (value == BASE64_INVALID)
            return false;
        group = group << 6 | value;
    }
    if ((group & ((1u << 8 * padding) - 1)) != 0)
        return false;
    bytes[0] = (unsigned char)(group >> 16);
    if (padding < 2)
        bytes[1] = (unsigned char)(group >> 8);
    if (padding < 1)
        bytes[2] = (unsigned char)group;
    return true;
}

bool base64_decode(struct str text, struct buf *out)
{
    size_t padding = 0;
    size_t length = text.length / 4 * 3;
    unsigned char *bytes;

    if (text.length % 4 != 0)
        return false;
    while (padding < 2 && padding < text.length && text.data[text.length - 1 - padding] == '=')
        padding++;
    length -= padding;
    bytes = (unsigned char *)buf_reserve(out, length);
    if (!bytes)
        return false;
    for (size_t i = 0; i < text.length; i += 4) {
        if (!decode_group(text.data + i, i + 4 == text.length ? padding : 0, bytes))
            return false;
        bytes += 3;
    }
    out->length += length;
    return true;
}
