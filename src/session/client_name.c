/* SPDX-License-Identifier: Apache-2.0 */
#include "session/client_name.h"

#include "loop/fiber.h"

void client_name_begin(struct client_name *name, struct dns *dns, const struct config *config,
                       const struct config_server *server, const struct net_address *client, struct policy_facts *facts)
{
    const struct policy_client_list *connect = server->policy->connect;

    facts->client_name_state = POLICY_NAME_NONE;
    if (!config->dns.received_names && !policy_client_list_has_domain(server->policy->relay) &&
        !(connect && policy_client_list_has_domain(connect)))
        return;
    name->lookup = dns_lookup_start(dns, client, config->dns.timeout_ms);
    facts->client_name_state = POLICY_NAME_TEMPFAIL;
}

bool client_name_is_pending(const struct client_name *name)
{
    return name->lookup != NULL;
}

/* The DNS allows names that are none of a host. */
static void take_name(struct client_name *name, struct policy_facts *facts, const char *found)
{
    size_t length = domain_normalize(str_from_cstr(found), name->text);

    facts->client_name_state = length > 0 ? POLICY_NAME_VERIFIED : POLICY_NAME_UNVERIFIED;
    facts->client_name = str_make(name->text, length);
}

static void take_result(struct client_name *name, struct policy_facts *facts, const struct dns_name *found)
{
    switch (found->state) {
    case DNS_NAME_VERIFIED:
        take_name(name, facts, found->text);
        break;
    case DNS_NAME_NONE:
        facts->client_name_state = POLICY_NAME_NONE;
        break;
    case DNS_NAME_UNVERIFIED:
        facts->client_name_state = POLICY_NAME_UNVERIFIED;
        break;
    case DNS_NAME_TEMPFAIL:
        facts->client_name_state = POLICY_NAME_TEMPFAIL;
        break;
    }
}

void client_name_settle(struct client_name *name, struct policy_facts *facts, uint64_t deadline_ms)
{
    const struct dns_name *found;

    if (!name->lookup)
        return;
    found = dns_lookup_wait(name->lookup, deadline_ms);
    if (found)
        take_result(name, facts, found);
    if (found || deadline_ms == DEADLINE_NEVER)
        client_name_end(name);
}

void client_name_end(struct client_name *name)
{
    dns_lookup_release(&name->lookup);
}
