/* SPDX-License-Identifier: Apache-2.0 */
#include "delivery/connect.h"

#include "delivery/connect_private.h"
#include "delivery/delivery_private.h"
#include "delivery/route.h"
#include "loop/fiber.h"

#include <stdio.h>
#include <string.h>

/* ---- failures ---- */

/* Kept free for "; and N more". */
#define UNTOLD_BYTES 32

bool connect_is_over(const struct attempt *attempt)
{
    return attempt->tried_count == CONNECT_TRIES_MAX || fiber_is_cancelled(fiber_current());
}

static void add_text(struct attempt *attempt, const char *who, const char *says, const char *text)
{
    char *out = attempt->outcome->text;
    size_t room = sizeof(attempt->outcome->text) - UNTOLD_BYTES;
    size_t length = strlen(out);
    int added =
        snprintf(out + length, length < room ? room - length : 0, "%s%s%s%s", length > 0 ? "; " : "", who, says, text);

    if (added < 0 || length + (size_t)added < room)
        return;
    if (length > 0) {
        out[length] = '\0';
        attempt->untold_count++;
    }
}

void connect_fail(struct attempt *attempt, enum connect_failure kind, const char *status, const char *host,
                  const char *text)
{
    struct queue_outcome *outcome = attempt->outcome;
    bool is_first = attempt->temporary_count + attempt->permanent_count == 0;
    bool is_permanent = kind == CONNECT_FAILURE_PERMANENT;

    if (is_first)
        outcome->text[0] = '\0';
    /* What was the server's word alone becomes a part of our account. */
    if (!is_first && outcome->remote[0] != '\0') {
        char said[sizeof(outcome->text)];

        memcpy(said, outcome->text, sizeof(said));
        outcome->text[0] = '\0';
        add_text(attempt, outcome->remote, " said: ", said);
        outcome->remote[0] = '\0';
    }
    /* A status that says "try again" goes before one that says "never". */
    if (!is_permanent || attempt->temporary_count == 0)
        snprintf(outcome->status, sizeof(outcome->status), "%s", status);
    if (is_first && kind == CONNECT_FAILURE_REPLY) {
        snprintf(outcome->remote, sizeof(outcome->remote), "%s", host);
        add_text(attempt, "", "", text);
    } else {
        add_text(attempt, host, kind == CONNECT_FAILURE_REPLY ? " said: " : host[0] ? ": " : "", text);
    }
    *(is_permanent ? &attempt->permanent_count : &attempt->temporary_count) += 1;
}

static void tell_rest(struct attempt *attempt)
{
    struct queue_outcome *outcome = attempt->outcome;
    size_t length = strlen(outcome->text);

    if (attempt->untold_count > 0)
        snprintf(outcome->text + length, sizeof(outcome->text) - length, "; and %u more", attempt->untold_count);
}

/* ---- connectors ---- */

static int connect_smart_host(struct attempt *attempt, const struct config_smart_host *host)
{
    struct net_address address = {.port = host->port};

    if (host->is_address) {
        memcpy(address.ip, host->address.bytes, sizeof(address.ip));
        return connect_literal(attempt, &address, true);
    }
    return host->skip_mx ? connect_name(attempt, host->host, host->port)
                         : connect_domain(attempt, host->host, host->port, true);
}

static int connect_connector(struct attempt *attempt, const struct config_connector *connector, struct str domain)
{
    attempt->connector = connector;
    attempt->connection->connector = connector;
    memcpy(attempt->source.ip, connector->source_address.bytes, sizeof(attempt->source.ip));
    if (connector->smart_host_count == 0 && domain.length > 0)
        return connect_domain(attempt, domain, connector->port, false);
    for (size_t i = 0; i < connector->smart_host_count && !connect_is_over(attempt); i++)
        if (connect_smart_host(attempt, &connector->smart_hosts[i]) == 0)
            return 0;
    return -1;
}

static const struct config_connector *find_connector(const struct config *config, struct str name)
{
    for (size_t i = 0; i < config->connector_count; i++)
        if (str_equal(config->connectors[i].name, name))
            return &config->connectors[i];
    return NULL;
}

/* A later connector is for when an earlier one does not work: not for what it says to be undeliverable. */
static bool is_final(const struct attempt *attempt)
{
    return attempt->permanent_count > 0 && attempt->temporary_count == 0 && !attempt->has_skipped;
}

/* The connectors in their order: 0, or -1; `*is_known`: the configuration has at least one of them. */
static int connect_connectors(struct attempt *attempt, const struct route_destination *destination, bool *is_known)
{
    struct str rest = destination->connectors;

    if (rest.length == 0) {
        *is_known = true;
        return connect_connector(attempt, &attempt->config->default_connector, destination->domain);
    }
    while (rest.data && !is_final(attempt) && !connect_is_over(attempt)) {
        const struct config_connector *connector = find_connector(attempt->config, str_split(&rest, ','));

        /* A reload may have turned it into one that needs a domain. */
        if (!connector || (connector->smart_host_count == 0 && destination->domain.length == 0))
            continue;
        *is_known = true;
        if (connect_connector(attempt, connector, destination->domain) == 0)
            return 0;
    }
    return -1;
}

static int connect_fixed_host(struct attempt *attempt, const struct route_destination *destination)
{
    struct net_address address;

    attempt->connector = attempt->connection->connector = &attempt->config->default_connector;
    attempt->connection->is_lmtp = destination->kind == ROUTE_DESTINATION_LMTP;
    if (destination->socket_path)
        return attempt->round == 0 ? connect_socket(attempt, destination->socket_path) : -1;
    if (!net_address_parse_ip(destination->host, &address))
        return connect_name(attempt, destination->host, destination->port);
    address.port = destination->port;
    return connect_literal(attempt, &address, true);
}

enum connect_result connect_destination(struct delivery *delivery, const struct runtime *runtime,
                                        const char *destination, struct connection *connection,
                                        struct queue_outcome *outcome)
{
    struct attempt attempt = {.delivery = delivery,
                              .runtime = runtime,
                              .config = runtime->config,
                              .connection = connection,
                              .outcome = outcome};
    struct route_destination parsed;
    bool is_known = false;
    int result = -1;

    *connection = (struct connection){0};
    delivery_outcome_set(outcome, QUEUE_DEFERRED, "4.3.5",
                         "The configuration has changed, and this route is no longer there");
    if (!route_parse_destination(destination, &parsed) || parsed.kind == ROUTE_DESTINATION_MAILDIR)
        return CONNECT_NO_ROUTE;
    for (attempt.round = 0; attempt.round == 0 || (attempt.round == 1 && attempt.has_skipped); attempt.round++) {
        if (parsed.kind == ROUTE_DESTINATION_CONNECTORS)
            result = connect_connectors(&attempt, &parsed, &is_known);
        else
            result = connect_fixed_host(&attempt, &parsed);
        if (result == 0)
            return CONNECT_OK;
    }
    if (parsed.kind == ROUTE_DESTINATION_CONNECTORS && !is_known)
        return CONNECT_NO_ROUTE;
    tell_rest(&attempt);
    if (attempt.temporary_count > 0 || attempt.permanent_count == 0)
        return CONNECT_FAILED;
    outcome->kind = QUEUE_FAILED;
    return CONNECT_REFUSED;
}
