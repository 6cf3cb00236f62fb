/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns_private.h"

#define DNS_LABEL_OCTETS_MAX 63

static void lower(char *name)
{
    for (; *name; name++)
        *name = ascii_lower(*name);
}

bool dns_parse_mx(struct str rdata, struct dns_mx *mx)
{
    const unsigned char *bytes = (const unsigned char *)rdata.data;

    if (rdata.length < 3)
        return false;
    mx->preference = (uint16_t)(bytes[0] << 8 | bytes[1]);
    rdata = str_skip(rdata, 2);
    if (rdata.length == 1 && rdata.data[0] == '\0') {
        mx->host[0] = '\0';
        return true;
    }
    if (!dns_parse_name(rdata, mx->host))
        return false;
    lower(mx->host);
    return true;
}

bool dns_parse_address(struct str rdata, enum dns_record_type type, struct net_address *address)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};

    *address = (struct net_address){0};
    if (type == DNS_RECORD_A && rdata.length == 4) {
        memcpy(address->ip, mapped, sizeof(mapped));
        memcpy(address->ip + 12, rdata.data, 4);
        return true;
    }
    if (type != DNS_RECORD_AAAA || rdata.length != 16)
        return false;
    memcpy(address->ip, rdata.data, 16);
    return true;
}

bool dns_parse_tlsa(struct str rdata, struct dns_tlsa *tlsa)
{
    const unsigned char *bytes = (const unsigned char *)rdata.data;

    if (rdata.length < 4 || rdata.length - 3 > DNS_TLSA_BYTES_MAX)
        return false;
    *tlsa = (struct dns_tlsa){
        .usage = bytes[0], .selector = bytes[1], .matching_type = bytes[2], .data = str_skip(rdata, 3)};
    return true;
}

static bool is_host_byte(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c) || c == '-' || c == '_';
}

bool dns_parse_text_name(const char *text, char name[DNS_NAME_BYTES])
{
    size_t length = strnlen(text, DNS_NAME_BYTES + 1);
    size_t label = 0;

    if (length > 0 && text[length - 1] == '.')
        length--;
    if (length == 0 || length >= DNS_NAME_BYTES)
        return false;
    for (size_t i = 0; i <= length; i++) {
        if (i == length || text[i] == '.') {
            if (label == 0 || label > DNS_LABEL_OCTETS_MAX)
                return false;
            label = 0;
        } else if (is_host_byte(text[i])) {
            label++;
        } else {
            return false;
        }
        name[i] = i < length ? ascii_lower(text[i]) : '\0';
    }
    return true;
}
