/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/cidr.h"

#include <arpa/inet.h>

/* ::ffff:0:0/96, where IPv4 lives. */
static const unsigned char mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

struct cidr_address cidr_from_ipv4(const unsigned char bytes[4])
{
    struct cidr_address address;

    memcpy(address.bytes, mapped_prefix, sizeof(mapped_prefix));
    memcpy(address.bytes + 12, bytes, 4);
    return address;
}

bool cidr_is_ipv4(const struct cidr_address *address)
{
    return memcmp(address->bytes, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

bool cidr_is_unspecified(const struct cidr_address *address)
{
    static const unsigned char zero[16];

    return memcmp(address->bytes, zero, 16) == 0 ||
           (cidr_is_ipv4(address) && memcmp(address->bytes + 12, zero, 4) == 0);
}

bool cidr_equal(const struct cidr_address *a, const struct cidr_address *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

int cidr_compare(const struct cidr_address *a, const struct cidr_address *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

static bool parse_ipv4(struct str text, unsigned char bytes[4])
{
    char buffer[INET_ADDRSTRLEN];

    if (text.length >= sizeof(buffer) || str_find(text, '\0') != STR_NONE)
        return false;
    memcpy(buffer, text.data ? text.data : "", text.length);
    buffer[text.length] = '\0';
    return inet_pton(AF_INET, buffer, bytes) == 1;
}

bool cidr_parse_address(struct str text, struct cidr_address *address)
{
    unsigned char ipv4[4];
    char buffer[INET6_ADDRSTRLEN];

    if (parse_ipv4(text, ipv4)) {
        *address = cidr_from_ipv4(ipv4);
        return true;
    }
    if (text.length >= sizeof(buffer) || str_find(text, '\0') != STR_NONE)
        return false;
    memcpy(buffer, text.data ? text.data : "", text.length);
    buffer[text.length] = '\0';
    return inet_pton(AF_INET6, buffer, address->bytes) == 1;
}

size_t cidr_format_address(const struct cidr_address *address, char text[CIDR_TEXT_BYTES])
{
    if (cidr_is_ipv4(address))
        inet_ntop(AF_INET, address->bytes + 12, text, CIDR_TEXT_BYTES);
    else
        inet_ntop(AF_INET6, address->bytes, text, CIDR_TEXT_BYTES);
    return strlen(text);
}

/* The lowest and the highest address that share the first `bits` of the 128 with `address`. */
static struct cidr_range range_of(const struct cidr_address *address, unsigned bits)
{
    struct cidr_range range;

    for (unsigned i = 0; i < 16; i++) {
        unsigned kept = bits > i * 8 ? bits - i * 8 : 0;
        unsigned mask = kept >= 8 ? 0xffu : (0xffu << (8 - kept)) & 0xffu;

        range.first.bytes[i] = (unsigned char)(address->bytes[i] & mask);
        range.last.bytes[i] = (unsigned char)(address->bytes[i] | (~mask & 0xffu));
    }
    return range;
}

/* How many leading bits a dotted mask sets; -1 if ones follow a zero. */
static int mask_bits(const unsigned char mask[4])
{
    uint32_t value = (uint32_t)mask[0] << 24 | (uint32_t)mask[1] << 16 | (uint32_t)mask[2] << 8 | mask[3];
    int bits = 0;

    while (bits < 32 && (value & 0x80000000u)) {
        value <<= 1;
        bits++;
    }
    return value == 0 ? bits : -1;
}

/* What follows the slash, as a number of bits of the address as it is written. */
static int parse_bits(struct str text, bool dotted, unsigned *bits, struct error *error)
{
    unsigned char mask[4];
    uint64_t value;
    unsigned bits_max = dotted ? 32 : 128;

    if (dotted && parse_ipv4(text, mask)) {
        int count = mask_bits(mask);

        if (count < 0)
            return error_set(error, "the mask %.*s has a one after a zero; write the number of leading ones, as in /24",
                             STR_ARG(text));
        *bits = (unsigned)count;
        return 0;
    }
    if (text.length > 3 || !str_to_u64(text, &value) || value > bits_max)
        return error_set(error, "what follows the slash must be a number from 0 to %u%s", bits_max,
                         dotted ? ", or a mask like 255.255.0.0" : "");
    *bits = (unsigned)value;
    return 0;
}

int cidr_parse_network(struct str text, struct cidr_range *range, struct error *error)
{
    struct str bits_text = text;
    struct str address_text = str_split(&bits_text, '/');
    struct cidr_address address;
    bool dotted = str_find(address_text, ':') == STR_NONE;
    unsigned bits = dotted ? 32 : 128;
    char right[CIDR_TEXT_BYTES];

    if (text.length >= CIDR_TEXT_BYTES || !cidr_parse_address(address_text, &address))
        return error_set(error, "is not an address or network; write one like 192.0.2.7, 10.1.0.0/16 or 2001:db8::/32");
    if (bits_text.data && parse_bits(bits_text, dotted, &bits, error) != 0)
        return -1;
    *range = range_of(&address, dotted ? bits + 96 : bits);
    if (cidr_equal(&range->first, &address))
        return 0;
    cidr_format_address(&range->first, right);
    return error_set(error, "has host bits set; write %s/%u for the network, or %.*s for the one address", right, bits,
                     STR_ARG(address_text));
}
