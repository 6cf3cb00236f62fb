/* SPDX-License-Identifier: Apache-2.0 */
#include "net/proxy.h"

/* Version 1: a line, its CRLF included. */
#define LINE_BYTES_MAX 107

/* Version 2: a signature, version and command, family and transport, the length of what follows. */
#define SIGNATURE        STR("\r\n\r\n\0\r\nQUIT\n")
#define FIXED_BYTES      16
#define VERSION          0x2
#define COMMAND_LOCAL    0x0
#define COMMAND_PROXY    0x1
#define FAMILY_UNSPEC    0x0
#define FAMILY_IPV4      0x1
#define FAMILY_IPV6      0x2
#define FAMILY_UNIX      0x3
#define TRANSPORT_UNSPEC 0x0
#define TRANSPORT_STREAM 0x1
#define IPV4_BYTES       12 /* two addresses, two ports */
#define IPV6_BYTES       36
#define UNIX_BYTES       216

/* ---- version 1 ---- */

static bool parse_port(struct str text, uint16_t *port)
{
    uint64_t value;

    if (text.length > 5 || (text.length > 1 && text.data[0] == '0') || !str_to_u64(text, &value) || value > UINT16_MAX)
        return false;
    *port = (uint16_t)value;
    return true;
}

/* TCP4 has dotted addresses, TCP6 the others, be they mapped. */
static bool parse_address(struct str text, bool is_tcp6, struct net_address *address)
{
    return (str_find(text, ':') != STR_NONE) == is_tcp6 && net_address_parse_ip(text, address);
}

/* "TCP4 SOURCE DESTINATION PORT PORT", or "UNKNOWN" and anything. */
static bool parse_words(struct str words, struct proxy_header *header)
{
    struct str protocol = str_split(&words, ' ');
    struct str source = str_split(&words, ' ');
    struct str destination = str_split(&words, ' ');
    struct str source_port = str_split(&words, ' ');
    bool is_tcp6 = str_equal(protocol, STR("TCP6"));
    struct net_address other;

    header->has_client = false;
    if (str_equal(protocol, STR("UNKNOWN")))
        return true;
    if (!is_tcp6 && !str_equal(protocol, STR("TCP4")))
        return false;
    header->has_client = true;
    return parse_address(source, is_tcp6, &header->client) && parse_address(destination, is_tcp6, &other) &&
           parse_port(source_port, &header->client.port) && parse_port(words, &other.port);
}

static enum proxy_status parse_line(struct str input, struct proxy_header *header)
{
    struct str line = str_take(input, LINE_BYTES_MAX);
    size_t end = str_find(line, '\n');

    if (end == STR_NONE)
        return line.length == LINE_BYTES_MAX ? PROXY_MALFORMED : PROXY_INCOMPLETE;
    header->length = end + 1;
    if (line.data[end - 1] != '\r') /* behind "PROXY " at least */
        return PROXY_MALFORMED;
    line = str_skip(str_take(line, end - 1), STR("PROXY ").length);
    return parse_words(line, header) ? PROXY_DONE : PROXY_MALFORMED;
}

/* ---- version 2 ---- */

static unsigned read_u16(const char *bytes)
{
    return (unsigned)(unsigned char)bytes[0] << 8 | (unsigned char)bytes[1];
}

static bool take_ipv4(struct str block, struct net_address *client)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};

    if (block.length < IPV4_BYTES)
        return false;
    memcpy(client->ip, mapped, sizeof(mapped));
    memcpy(client->ip + sizeof(mapped), block.data, 4);
    client->port = (uint16_t)read_u16(block.data + 8);
    return true;
}

static bool take_ipv6(struct str block, struct net_address *client)
{
    if (block.length < IPV6_BYTES)
        return false;
    memcpy(client->ip, block.data, 16);
    client->port = (uint16_t)read_u16(block.data + 32);
    return true;
}

/* `family` holds family and transport; the block what they promise, and extensions, which say nothing that we need. */
static bool parse_block(unsigned family, struct str block, struct proxy_header *header)
{
    header->has_client = false;
    switch (family) {
    case FAMILY_UNSPEC << 4 | TRANSPORT_UNSPEC:
        return true;
    case FAMILY_IPV4 << 4 | TRANSPORT_STREAM:
        header->has_client = true;
        return take_ipv4(block, &header->client);
    case FAMILY_IPV6 << 4 | TRANSPORT_STREAM:
        header->has_client = true;
        return take_ipv6(block, &header->client);
    case FAMILY_UNIX << 4 | TRANSPORT_STREAM:
        return block.length >= UNIX_BYTES;
    default:
        return false;
    }
}

static enum proxy_status parse_binary(struct str input, struct proxy_header *header)
{
    unsigned version, command;

    if (input.length < FIXED_BYTES)
        return PROXY_INCOMPLETE;
    version = (unsigned char)input.data[12] >> 4;
    command = (unsigned char)input.data[12] & 15;
    header->length = FIXED_BYTES + read_u16(input.data + 14);
    if (version != VERSION || command > COMMAND_PROXY || header->length > PROXY_HEADER_BYTES_MAX)
        return PROXY_MALFORMED;
    if (input.length < header->length)
        return PROXY_INCOMPLETE;
    if (command == COMMAND_LOCAL) {
        /* A health check: whatever else it says is to be ignored. */
        header->has_client = false;
        return PROXY_DONE;
    }
    return parse_block((unsigned char)input.data[13], str_skip(str_take(input, header->length), FIXED_BYTES), header)
               ? PROXY_DONE
               : PROXY_MALFORMED;
}

/* ---- either ---- */

/* Whether all of the input that there is agrees with `prefix`. */
static bool may_begin_with(struct str input, struct str prefix)
{
    return str_starts_with(prefix, str_take(input, prefix.length));
}

enum proxy_status proxy_parse(struct str input, struct proxy_header *header)
{
    if (may_begin_with(input, STR("PROXY ")))
        return input.length < STR("PROXY ").length ? PROXY_INCOMPLETE : parse_line(input, header);
    if (may_begin_with(input, SIGNATURE))
        return parse_binary(input, header);
    return PROXY_MALFORMED;
}
