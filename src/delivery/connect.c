/* SPDX-License-Identifier: Apache-2.0 */
#include "delivery/connect.h"

#include "base/mem.h"
#include "delivery/delivery_private.h"
#include "delivery/route.h"
#include "mail/domain.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One attempt to reach a destination. */
struct attempt {
    const struct config_timeouts *timeouts;
    struct str helo_name;
    bool has_source;
    struct net_address source;
    struct worker_pool *lookup_pool;
    struct smtp_client **client;
    char *remote;
    struct queue_outcome *outcome;
};

/* ---- names ---- */

struct lookup_job {
    struct worker_job job;
    char host[DOMAIN_TEXT_BYTES];
    int result; /* getaddrinfo's */
    struct net_address addresses[CONNECT_ADDRESSES_MAX];
    size_t count;
};

static void lookup_run(struct worker_job *job)
{
    struct lookup_job *lookup = LIST_ENTRY(job, struct lookup_job, job);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;

    lookup->result = getaddrinfo(lookup->host, NULL, &hints, &found);
    if (lookup->result != 0)
        return;
    for (const struct addrinfo *a = found; a && lookup->count < CONNECT_ADDRESSES_MAX; a = a->ai_next) {
        if (net_address_from_sockaddr(a->ai_addr, &lookup->addresses[lookup->count]))
            lookup->count++;
    }
    freeaddrinfo(found);
}

static void lookup_destroy(struct worker_job *job)
{
    free(LIST_ENTRY(job, struct lookup_job, job));
}

static void set_failure(struct attempt *attempt, const char *status, const char *text)
{
    delivery_outcome_set(attempt->outcome, QUEUE_DEFERRED, status, text);
}

/* The name's addresses; how many. 0 and an outcome if there is none. */
static size_t look_up(struct attempt *attempt, struct str host, uint16_t port,
                      struct net_address addresses[CONNECT_ADDRESSES_MAX])
{
    struct lookup_job *lookup = mem_alloc(sizeof(*lookup));
    char text[QUEUE_REPLY_BYTES_MAX];
    size_t count = 0;

    worker_job_init(&lookup->job, lookup_run, lookup_destroy);
    if ((size_t)snprintf(lookup->host, sizeof(lookup->host), "%.*s", STR_ARG(host)) >= sizeof(lookup->host)) {
        set_failure(attempt, "4.4.3", "The host's name is too long"); /* cut, it would be another host's */
    } else if (worker_run(attempt->lookup_pool, &lookup->job, loop_now_ms() + attempt->timeouts->connect_ms) !=
               WAIT_READY) {
        snprintf(text, sizeof(text), "Looking up %.*s took too long", STR_ARG(host));
        set_failure(attempt, "4.4.3", text);
    } else if (lookup->result != 0) {
        snprintf(text, sizeof(text), "Looking up %.*s: %s", STR_ARG(host), gai_strerror(lookup->result));
        set_failure(attempt, "4.4.3", text);
    } else {
        count = lookup->count;
        memcpy(addresses, lookup->addresses, count * sizeof(*addresses));
    }
    worker_job_release(&lookup->job);
    for (size_t i = 0; i < count; i++)
        addresses[i].port = port;
    return count;
}

/* ---- connections ---- */

static int connect_address(struct attempt *attempt, const struct net_address *address)
{
    struct smtp_client_options options = {.helo_name = attempt->helo_name,
                                          .command_timeout_ms = (unsigned)attempt->timeouts->command_ms,
                                          .data_timeout_ms = (unsigned)attempt->timeouts->data_ms};
    struct smtp_client_result result;
    struct error error = {0};
    struct conn *conn = NULL;
    char text[QUEUE_REPLY_BYTES_MAX + CONNECT_REMOTE_BYTES];

    if (attempt->has_source && net_address_is_ipv4(&attempt->source) != net_address_is_ipv4(address)) {
        snprintf(text, sizeof(text), "%s has an address that the connector's source-address can't reach",
                 attempt->remote);
        set_failure(attempt, "4.4.1", text);
        return -1;
    }
    if (conn_connect(address, attempt->has_source ? &attempt->source : NULL,
                     loop_now_ms() + attempt->timeouts->connect_ms, &conn, &error) != 0) {
        set_failure(attempt, "4.4.1", error.text);
        return -1;
    }
    if (smtp_client_open(attempt->client, conn, &options, &result) != 0) {
        if (result.code != 0)
            snprintf(text, sizeof(text), "%s", result.text);
        else
            snprintf(text, sizeof(text), "%s: %s", attempt->remote, result.text);
        /* A greeting refuses us, not the recipients: it may be mended before they expire, so that even a 5xx is tried again. */
        set_failure(attempt, result.permanent ? "4.3.2" : result.status, text);
        if (result.code != 0)
            snprintf(attempt->outcome->remote, sizeof(attempt->outcome->remote), "%s", attempt->remote);
        return -1;
    }
    return 0;
}

static int connect_host(struct attempt *attempt, struct str host, uint16_t port)
{
    struct net_address addresses[CONNECT_ADDRESSES_MAX];
    size_t count = 1;

    if (net_address_parse_ip(host, &addresses[0])) {
        addresses[0].port = port;
        snprintf(attempt->remote, CONNECT_REMOTE_BYTES, "[%.*s]", STR_ARG(host));
    } else {
        snprintf(attempt->remote, CONNECT_REMOTE_BYTES, "%.*s", STR_ARG(host));
        count = look_up(attempt, host, port, addresses);
    }
    for (size_t i = 0; i < count; i++) {
        if (connect_address(attempt, &addresses[i]) == 0)
            return 0;
    }
    return -1;
}

static const struct config_connector *find_connector(const struct config *config, struct str name)
{
    for (size_t i = 0; i < config->connector_count; i++) {
        if (str_equal(config->connectors[i].name, name))
            return &config->connectors[i];
    }
    return NULL;
}

static int connect_connector(struct attempt *attempt, const struct config_connector *connector)
{
    attempt->timeouts = &connector->timeouts;
    attempt->helo_name = connector->helo_name;
    attempt->has_source = connector->has_source_address;
    memcpy(attempt->source.ip, connector->source_address.bytes, sizeof(attempt->source.ip));
    for (size_t i = 0; i < connector->smart_host_count; i++) {
        const struct config_smart_host *host = &connector->smart_hosts[i];

        if (connect_host(attempt, host->host, host->port) == 0)
            return 0;
    }
    return -1;
}

enum connect_result connect_destination(const struct config *config, struct worker_pool *lookup_pool,
                                        const char *destination, struct smtp_client **client,
                                        char remote[CONNECT_REMOTE_BYTES], struct queue_outcome *outcome)
{
    struct attempt attempt = {.timeouts = &config->timeouts,
                              .helo_name = config->hostname,
                              .lookup_pool = lookup_pool,
                              .client = client,
                              .remote = remote,
                              .outcome = outcome};
    const struct config_connector *connector = NULL;
    struct route_destination parsed;
    int result;

    remote[0] = '\0';
    set_failure(&attempt, "4.3.5", "The configuration has changed, and this route is no longer there");
    if (!route_parse_destination(destination, &parsed))
        return CONNECT_NO_ROUTE;
    if (parsed.kind == ROUTE_DESTINATION_HOST) {
        result = connect_host(&attempt, parsed.name, parsed.port);
    } else {
        connector = find_connector(config, parsed.name);
        if (!connector)
            return CONNECT_NO_ROUTE;
        result = connect_connector(&attempt, connector);
    }
    return result == 0 ? CONNECT_OK : CONNECT_FAILED;
}
