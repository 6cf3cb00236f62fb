/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/lookup_name.h"

#include <stdio.h>

struct dns_settings lookup_name_settings(const struct config *config)
{
    static const enum dns_validation validations[] = {
        [CONFIG_DNSSEC_AUTO] = DNS_VALIDATION_AUTO,
        [CONFIG_DNSSEC_ON] = DNS_VALIDATION_ON,
        [CONFIG_DNSSEC_OFF] = DNS_VALIDATION_OFF,
    };

    return (struct dns_settings){
        .resolver = config->dns.resolver,
        .validation = validations[config->dns.dnssec],
        .trust_anchor = config->dns.trust_anchor.length > 0 ? config->dns.trust_anchor.data : NULL,
    };
}

/* A name that the DNS has and that is none of a host counts as none that leads back. */
static enum policy_name_state take_result(const struct dns_name *result, char name[DOMAIN_TEXT_BYTES])
{
    switch (result->state) {
    case DNS_NAME_VERIFIED:
        return domain_normalize(str_from_cstr(result->text), name) > 0 ? POLICY_NAME_VERIFIED : POLICY_NAME_UNVERIFIED;
    case DNS_NAME_NONE:
        return POLICY_NAME_NONE;
    case DNS_NAME_UNVERIFIED:
        return POLICY_NAME_UNVERIFIED;
    case DNS_NAME_TEMPFAIL:
        break;
    }
    return POLICY_NAME_TEMPFAIL;
}

enum policy_name_state explain_lookup_name(const struct config *config, const struct cidr_address *client,
                                           char name[DOMAIN_TEXT_BYTES])
{
    struct dns_settings settings = lookup_name_settings(config);
    struct net_address address = {0};
    struct dns_name result = {.state = DNS_NAME_TEMPFAIL};
    struct error error;

    name[0] = '\0';
    if (!config->dns.is_needed)
        return POLICY_NAME_NONE;
    memcpy(address.ip, client->bytes, sizeof(address.ip));
    if (dns_look_up_now(&settings, &address, config->dns.timeout_ms, &result, &error) != 0)
        fprintf(stderr, "postern: %s\n", error.text);
    return take_result(&result, name);
}
