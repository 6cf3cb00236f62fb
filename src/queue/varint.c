/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/varint.h"

#define VARINT_BYTES_MAX 10

void varint_put(struct buf *out, uint64_t value)
{
    while (value >= 0x80) {
        buf_append_char(out, (char)(0x80 | (value & 0x7f)));
        value >>= 7;
    }
    buf_append_char(out, (char)value);
}

void varint_put_text(struct buf *out, struct str text)
{
    varint_put(out, text.length);
    buf_append_str(out, text);
}

bool varint_get(struct str *rest, uint64_t *value)
{
    *value = 0;
    for (size_t i = 0; i < rest->length && i < VARINT_BYTES_MAX; i++) {
        uint64_t byte = (unsigned char)rest->data[i];

        /* The tenth byte holds the 64th bit; a zero byte at the end would be a second form of the same number. */
        if (i == VARINT_BYTES_MAX - 1 && byte > 1)
            return false;
        *value |= (byte & 0x7f) << (7 * i);
        if (!(byte & 0x80)) {
            *rest = str_skip(*rest, i + 1);
            return byte != 0 || i == 0;
        }
    }
    return false;
}

bool varint_get_u32(struct str *rest, unsigned *value)
{
    uint64_t wide;

    if (!varint_get(rest, &wide) || wide > UINT32_MAX)
        return false;
    *value = (unsigned)wide;
    return true;
}

bool varint_get_bytes(struct str *rest, uint64_t length, struct str *text)
{
    if (length > rest->length)
        return false;
    *text = str_take(*rest, (size_t)length);
    *rest = str_skip(*rest, (size_t)length);
    return true;
}

bool varint_get_text(struct str *rest, struct str *text)
{
    uint64_t length;

    return varint_get(rest, &length) && varint_get_bytes(rest, length, text);
}
