/* SPDX-License-Identifier: Apache-2.0 */
/* One host: its addresses in turn, until one of them takes a connection and greets. */
#include "base/log.h"
#include "delivery/connect_private.h"
#include "delivery/delivery_private.h"
#include "loop/fiber.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TEXT_BYTES 512

static bool was_tried(const struct attempt *attempt, const struct net_address *address)
{
    for (size_t i = 0; i < attempt->tried_count; i++)
        if (memcmp(&attempt->tried[i], address, sizeof(*address)) == 0)
            return true;
    return false;
}

static const struct net_address *source_of(const struct attempt *attempt)
{
    return attempt->connector->has_source_address ? &attempt->source : NULL;
}

/* Whether it is this address's turn: in the first round unless it could not be reached lately, in the second if it was passed over. */
static bool is_due(struct attempt *attempt, const struct net_address *address)
{
    const struct config_timeouts *timeouts = &attempt->connector->timeouts;

    if (was_tried(attempt, address))
        return false;
    if (attempt->round > 0 || reach_may_try(attempt->delivery->reach, address, source_of(attempt), loop_now_ms(),
                                            timeouts->connect_ms + timeouts->command_ms))
        return true;
    attempt->has_skipped = true;
    return false;
}

static void tell(const struct attempt *attempt, const char *host, const struct net_address *address,
                 const char *failure)
{
    char text[NET_ADDRESS_TEXT_BYTES];

    LOG_DEBUG("route", log_str("connector", attempt->connector->name), log_cstr("host", host),
              log_str("address", net_address_format(address, text)), log_cstr("failure", failure));
}

/* What is wrong here, and not with the host or the way there. */
static bool is_own_trouble(int errno_value)
{
    switch (errno_value) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EADDRNOTAVAIL:
    case ECANCELED:
        return true;
    default:
        return false;
    }
}

static void note_unreachable(struct attempt *attempt, const struct net_address *address)
{
    if (!fiber_is_cancelled(fiber_current()))
        reach_failed(attempt->delivery->reach, address, source_of(attempt),
                     loop_now_ms() + attempt->connector->timeouts.unreachable_ms);
}

/* Of a kind that another host, or another time, may not have. */
static void fail_greeting(struct attempt *attempt, const char *host, const struct net_address *address,
                          const struct smtp_client_result *result)
{
    bool is_lost = result->code == 0 && str_starts_with(str_from_cstr(result->status), STR("4.4."));

    if (is_lost)
        note_unreachable(attempt, address);
    else
        reach_succeeded(attempt->delivery->reach, address, source_of(attempt));
    /* A greeting refuses us, not the recipients: it may be mended before they expire, so that even a 5xx is tried again. */
    connect_fail(attempt, result->code != 0 ? CONNECT_FAILURE_REPLY : CONNECT_FAILURE_TEMPORARY,
                 result->permanent ? "4.3.2" : result->status, host, result->text);
    tell(attempt, host, address, result->text);
}

static void tell_plaintext(const struct attempt *attempt, const char *host, const struct connect_tls *tls,
                           const char *reason)
{
    LOG_INFO("tls-fallback", log_str("connector", attempt->connector->name), log_cstr("host", host),
             log_cstr("policy", tls->policy), log_cstr("reason", reason));
}

static void tell_connected(const struct attempt *attempt, const char *host, const struct net_address *address,
                           const struct connect_tls *tls)
{
    const struct tls_facts *facts = smtp_client_tls(attempt->connection->client);
    const char *plaintext_reason = smtp_client_plaintext_reason(attempt->connection->client);
    char text[NET_ADDRESS_TEXT_BYTES];

    if (plaintext_reason[0] != '\0')
        tell_plaintext(attempt, host, tls, plaintext_reason);
    LOG_DEBUG("route", log_str("connector", attempt->connector->name), log_cstr("host", host),
              log_str("address", net_address_format(address, text)), log_cstr("tls_policy", tls->policy),
              log_cstr("tls", facts ? facts->protocol : ""), log_cstr("cipher", facts ? facts->cipher : ""),
              log_bool("verified", facts && facts->is_verified));
}

enum smtp_client_opened connect_open_client(struct attempt *attempt, struct conn *conn, const struct connect_tls *tls,
                                            struct smtp_client_result *result)
{
    const struct config_connector *connector = attempt->connector;
    const struct smtp_client_auth auth = {.user = connector->auth.user,
                                          .password = connector->auth.password,
                                          .mechanisms = connector->auth.mechanisms,
                                          .without_tls = connector->auth.without_tls,
                                          .pool = attempt->delivery->options.disk_pool};
    const struct smtp_client_options options = {.helo_name = connector->helo_name,
                                                .command_timeout_ms = (unsigned)connector->timeouts.command_ms,
                                                .data_timeout_ms = (unsigned)connector->timeouts.data_ms,
                                                .tls = tls && tls->is_wanted ? &tls->options : NULL,
                                                .tls_is_required = tls && tls->is_required,
                                                .tls_at_once = connector->implicit_tls,
                                                .auth = auth.user.length > 0 ? &auth : NULL,
                                                .is_lmtp = attempt->connection->is_lmtp};

    return smtp_client_open(&attempt->connection->client, conn, &options, result);
}

/* A connection to the address; NULL: there is none, and it has been told why. */
static struct conn *reach(struct attempt *attempt, const char *host, const struct net_address *address)
{
    struct error error = {0};
    struct conn *conn = NULL;

    if (conn_connect(address, source_of(attempt), loop_now_ms() + attempt->connector->timeouts.connect_ms, &conn,
                     &error) == 0)
        return conn;
    if (!is_own_trouble(error.errno_value))
        note_unreachable(attempt, address);
    connect_fail(attempt, CONNECT_FAILURE_TEMPORARY, "4.4.1", host[0] == '[' ? "" : host, error.text);
    tell(attempt, host, address, error.text);
    return NULL;
}

static int connect_address(struct attempt *attempt, const char *host, const struct net_address *address,
                           const struct connect_tls *tls)
{
    const struct net_address *source = source_of(attempt);
    struct smtp_client_result result;
    enum smtp_client_opened opened;
    struct conn *conn;

    attempt->tried[attempt->tried_count++] = *address;
    if (source && net_address_is_ipv4(source) != net_address_is_ipv4(address)) {
        connect_fail(attempt, CONNECT_FAILURE_TEMPORARY, "4.4.1", host,
                     "it has an address that the connector's source-address can't reach");
        return -1;
    }
    conn = reach(attempt, host, address);
    if (!conn)
        return -1;
    opened = connect_open_client(attempt, conn, tls, &result);
    if (opened == SMTP_CLIENT_TLS_FAILED && !tls->is_required) {
        tell_plaintext(attempt, host, tls, result.text);
        conn = reach(attempt, host, address);
        if (!conn)
            return -1;
        opened = connect_open_client(attempt, conn, NULL, &result);
    }
    if (opened != SMTP_CLIENT_OPENED) {
        fail_greeting(attempt, host, address, &result);
        return -1;
    }
    reach_succeeded(attempt->delivery->reach, address, source);
    tell_connected(attempt, host, address, tls);
    return 0;
}

/* The first address whose turn it is; the count of them if there is none. */
static size_t first_due(struct attempt *attempt, const struct connect_host *host, size_t i)
{
    while (i < host->address_count && (connect_is_over(attempt) || !is_due(attempt, &host->addresses[i])))
        i++;
    return i;
}

int connect_host(struct attempt *attempt, struct connect_host *host)
{
    size_t i = first_due(attempt, host, 0);
    struct connect_tls tls;
    int result = -1;

    /* Nothing is asked about a host that is not tried. */
    if (i == host->address_count)
        return -1;
    if (connect_tls_init(&tls, attempt, host) == 0)
        for (; i < host->address_count && result != 0; i = first_due(attempt, host, i + 1))
            result = connect_address(attempt, host->name, &host->addresses[i], &tls);
    connect_tls_release(&tls);
    if (result == 0)
        snprintf(attempt->connection->remote, sizeof(attempt->connection->remote), "%.*s", CONNECT_REMOTE_BYTES - 1,
                 host->name);
    return result;
}

int connect_literal(struct attempt *attempt, const struct net_address *address, bool is_own_word)
{
    struct connect_host host = {
        .port = address->port, .is_own_word = is_own_word, .is_literal = true, .address_count = 1};
    char ip[NET_ADDRESS_TEXT_BYTES];
    enum mx_place place = is_own_word ? MX_PLACE_GOOD : mx_judge_address(attempt->config, attempt->connector, address);

    host.addresses[0] = *address;
    net_address_format_ip(address, ip);
    snprintf(host.name, sizeof(host.name), "[%s]", ip);
    if (place == MX_PLACE_GOOD)
        return connect_host(attempt, &host);
    if (attempt->round == 0)
        connect_fail(attempt, CONNECT_FAILURE_PERMANENT, place == MX_PLACE_UNUSABLE ? "5.4.4" : "5.4.6", host.name,
                     place == MX_PLACE_UNUSABLE ? "it is not an address that mail goes to"
                                                : "it is this machine's: mail would loop back");
    return -1;
}
