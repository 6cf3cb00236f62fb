/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How sure to be of a host, by the connector's `tls` and by what the DNS says (DANE, RFC 7672):
 *
 *   `tls`       TLSA records, validated     without any
 *   none        not asked for               plaintext
 *   may         must match (*)              TLS to whomever, if it can be had
 *   required    must match (*)              TLS to whomever
 *   verify      not asked for               TLS, a chain to a trusted root, and the name
 *   dane        must match                  the host is not used
 *
 * (*) If none of them is usable: TLS to whomever, but not without. TLSA records count only where the MX records, the host's addresses and the TLSA
 * records themselves are validated (2.2.1, 2.2.2); if asking for them fails, the host is not used, since that may be whom they protect from.
 */
#include "base/mem.h"
#include "delivery/connect_private.h"
#include "delivery/delivery_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES 512

static struct dns_records_lookup *start_lookup(struct attempt *attempt, const char *name, enum dns_record_type type)
{
    const struct dns_question question = {.name = name, .type = type};

    return dns_records_start(attempt->delivery->options.dns, &question, attempt->config->dns.timeout_ms);
}

/* ---- DANE ---- */

/* Why it does not apply to a host; NULL: it may. */
static const char *dane_obstacle(const struct connect_host *host)
{
    if (host->is_literal)
        return "DANE: an address has no TLSA records";
    if (!host->is_found_securely)
        return "DANE: the MX records are not validated by DNSSEC";
    return NULL;
}

/* Whether the name itself is signed although what it is an alias of is not: then it is the one that TLSA records stand under (2.2.2). */
static bool is_signed_alias(struct attempt *attempt, const struct connect_host *host)
{
    struct dns_records_lookup *lookup;
    const struct dns_records *records;
    bool result;

    if (strcmp(host->name, host->canonical) == 0)
        return false;
    lookup = start_lookup(attempt, host->name, DNS_RECORD_CNAME);
    records = dns_records_wait(lookup);
    result = records->state == DNS_RECORDS_FOUND && records->is_secure;
    dns_records_release(&lookup);
    return result;
}

/* Keeps the answer for `base` if it has validated records. -1: there is no answer. */
static int ask_base(struct connect_tls *tls, struct attempt *attempt, const struct connect_host *host, const char *base)
{
    char name[DNS_NAME_BYTES + 32], text[TEXT_BYTES];
    const struct dns_records *records;
    bool has_failed;

    snprintf(name, sizeof(name), "_%u._tcp.%s", host->port, base);
    tls->lookup = start_lookup(attempt, name, DNS_RECORD_TLSA);
    records = dns_records_wait(tls->lookup);
    if (records->state == DNS_RECORDS_FOUND && records->is_secure) {
        snprintf(tls->name, sizeof(tls->name), "%s", base);
        return 0;
    }
    has_failed = records->state == DNS_RECORDS_FAILED;
    if (has_failed) {
        snprintf(text, sizeof(text), "DANE: looking up its TLSA records: %s", records->error);
        connect_fail(attempt, CONNECT_FAILURE_TEMPORARY, "4.7.5", host->name, text);
    }
    dns_records_release(&tls->lookup);
    return has_failed ? -1 : 0;
}

/* `tls->lookup` has validated records, or is NULL and `*obstacle` says why there are none. */
static int find_records(struct connect_tls *tls, struct attempt *attempt, const struct connect_host *host,
                        const char **obstacle)
{
    *obstacle = dane_obstacle(host);
    if (*obstacle)
        return 0;
    if (!host->is_secure && !is_signed_alias(attempt, host)) {
        *obstacle = "DANE: its addresses are not validated by DNSSEC";
        return 0;
    }
    *obstacle = "DANE: it has no validated TLSA records";
    if (host->is_secure && strcmp(host->name, host->canonical) != 0 &&
        ask_base(tls, attempt, host, host->canonical) != 0)
        return -1;
    return tls->lookup ? 0 : ask_base(tls, attempt, host, host->name);
}

/* How many of the records are usable. */
static size_t take_records(struct connect_tls *tls)
{
    const struct dns_records *records = dns_records_wait(tls->lookup); /* it is there already */
    size_t usable = 0;

    tls->records = mem_alloc_array(records->count, sizeof(*tls->records));
    for (size_t i = 0; i < records->count; i++) {
        const struct dns_tlsa *tlsa = &records->tlsa[i];

        tls->records[i] = (struct tls_dane_record){
            .usage = tlsa->usage, .selector = tlsa->selector, .matching_type = tlsa->matching_type, .data = tlsa->data};
        usable += tls_dane_is_usable(&tls->records[i]);
    }
    tls->options.records = tls->records;
    tls->options.record_count = records->count;
    return usable;
}

static int add_dane(struct connect_tls *tls, struct attempt *attempt, const struct connect_host *host)
{
    bool is_strict = attempt->connector->tls == CONFIG_CONNECTOR_TLS_DANE;
    const char *obstacle;

    if (find_records(tls, attempt, host, &obstacle) != 0)
        return -1;
    if (tls->lookup && take_records(tls) > 0) {
        tls->is_required = true;
        tls->policy = "dane";
        tls->options.verification = TLS_VERIFY_DANE;
        tls->options.server_name = str_from_cstr(tls->name);
        tls->options.dane_base = str_from_cstr(host->next_hop);
        return 0;
    }
    if (tls->lookup) {
        obstacle = "DANE: none of its TLSA records is usable";
        tls->is_required = true;
        tls->policy = "dane-unusable";
        tls->options.records = NULL;
        tls->options.record_count = 0;
    }
    if (!is_strict)
        return 0;
    connect_fail(attempt, CONNECT_FAILURE_TEMPORARY, "4.7.5", host->name, obstacle);
    return -1;
}

/* ---- policy ---- */

static const char *policy_name(enum config_connector_tls tls)
{
    switch (tls) {
    case CONFIG_CONNECTOR_TLS_NONE:
        return "none";
    case CONFIG_CONNECTOR_TLS_MAY:
        return "may";
    case CONFIG_CONNECTOR_TLS_REQUIRED:
        return "required";
    case CONFIG_CONNECTOR_TLS_VERIFY:
        return "verify";
    case CONFIG_CONNECTOR_TLS_DANE:
        return "dane";
    }
    return "?";
}

/* An address is in brackets, which a certificate has not. */
static void set_name(struct connect_tls *tls, const struct connect_host *host)
{
    size_t length = strlen(host->name);
    struct str name = str_make(host->name, length);

    if (host->is_literal && length > 2)
        name = str_make(host->name + 1, length - 2);
    snprintf(tls->name, sizeof(tls->name), "%.*s", STR_ARG(name));
    tls->options.server_name = str_from_cstr(tls->name);
}

int connect_tls_init(struct connect_tls *tls, struct attempt *attempt, const struct connect_host *host)
{
    const struct config_connector *connector = attempt->connector;

    *tls = (struct connect_tls){.policy = policy_name(connector->tls)};
    if (connector->tls == CONFIG_CONNECTOR_TLS_NONE)
        return 0;
    tls->is_wanted = true;
    /* A port that begins with TLS has nothing else, and a password is not sent without. */
    tls->is_required = connector->tls != CONFIG_CONNECTOR_TLS_MAY || connector->implicit_tls ||
                       (connector->auth.user.length > 0 && !connector->auth.without_tls);
    tls->options.context = runtime_connector_tls(attempt->runtime, connector);
    snprintf(tls->session_key, sizeof(tls->session_key), "%.*s|%s|%u", STR_ARG(connector->name), host->name,
             host->port);
    tls->options.session_key = str_from_cstr(tls->session_key);
    set_name(tls, host);
    if (connector->tls == CONFIG_CONNECTOR_TLS_VERIFY) {
        tls->options.verification = TLS_VERIFY_NAME;
        return 0;
    }
    return add_dane(tls, attempt, host);
}

void connect_tls_release(struct connect_tls *tls)
{
    dns_records_release(&tls->lookup);
    mem_free(&tls->records);
}
