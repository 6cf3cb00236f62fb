/* SPDX-License-Identifier: Apache-2.0 */
/* What strangers put into their zones, and administrators into /etc/hosts: the first byte says what the rest is. */
#include "net/dns_private.h"

#include <ctype.h>
#include <stdlib.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            __builtin_trap();                                                                                          \
    } while (0)

static void check_name(const char *name, bool may_be_empty)
{
    size_t length = strlen(name);

    CHECK(length < DNS_NAME_BYTES && (length > 0 || may_be_empty));
    for (size_t i = 0; i < length; i++)
        CHECK(isalnum((unsigned char)name[i]) || strchr("-_.", name[i]));
}

static void check_rdata(struct str rdata)
{
    struct net_address address;
    struct dns_tlsa tlsa;
    struct dns_mx mx;

    if (dns_parse_mx(rdata, &mx))
        check_name(mx.host, true);
    if (dns_parse_tlsa(rdata, &tlsa))
        CHECK(tlsa.data.length > 0 && tlsa.data.length <= DNS_TLSA_BYTES_MAX);
    CHECK(dns_parse_address(rdata, DNS_RECORD_A, &address) == (rdata.length == 4));
    CHECK(dns_parse_address(rdata, DNS_RECORD_AAAA, &address) == (rdata.length == 16));
}

static void check_text(struct str input)
{
    char *text = malloc(input.length + 1);
    char name[DNS_NAME_BYTES], again[DNS_NAME_BYTES];

    memcpy(text, input.data, input.length);
    text[input.length] = '\0';
    if (dns_parse_text_name(text, name)) {
        check_name(name, false);
        CHECK(dns_parse_text_name(name, again) && strcmp(name, again) == 0);
    }
    free(text);
}

static void check_hosts(struct str input)
{
    struct dns_hosts *hosts = dns_hosts_parse(input);
    const struct net_address *addresses;

    CHECK(dns_hosts_find(hosts, "localhost", &addresses) <= DNS_HOSTS_ADDRESSES_MAX);
    dns_hosts_destroy(&hosts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest;

    if (size == 0)
        return 0;
    rest = str_make((const char *)data + 1, size - 1);
    if (data[0] % 3 == 0)
        check_rdata(rest);
    else if (data[0] % 3 == 1)
        check_text(rest);
    else
        check_hosts(rest);
    return 0;
}
