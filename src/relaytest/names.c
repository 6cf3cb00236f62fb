/* SPDX-License-Identifier: Apache-2.0 */
/* What the probes call the target and the outside: as it was given, or as the target itself shows. */
#include "mail/domain.h"
#include "relaytest/relaytest_private.h"

#include <stdio.h>
#include <unistd.h>

#define SENDER_TAG    "-s-"
#define RECIPIENT_TAG "-u-"

static void set_name(char out[RELAYTEST_NAME_BYTES], struct str text)
{
    run_copy_text(out, RELAYTEST_NAME_BYTES, text);
}

/* The word behind the code, if it is the name of a host: the target may say anything here. */
static bool take_host_name(const char *reply, char name[DOMAIN_TEXT_BYTES])
{
    struct str rest = str_from_cstr(reply);
    struct str word;

    str_split(&rest, ' ');
    word = str_split(&rest, ' ');
    return domain_normalize(word, name) > 0 && strchr(name, '.') != NULL;
}

static void find_server_name(struct run *run, const char *hello)
{
    const struct relaytest_settings *settings = run->settings;
    char name[DOMAIN_TEXT_BYTES];

    if (settings->server_name.length > 0)
        set_name(run->result->server_name, settings->server_name);
    else if (take_host_name(hello, name) || take_host_name(run->result->banner, name) ||
             domain_normalize(settings->target_name, name) > 0)
        set_name(run->result->server_name, str_from_cstr(name));
    else
        set_name(run->result->server_name, STR("localhost"));
}

/* mail.contoso.test serves contoso.test, as a guess; a name of two labels is a domain itself. */
static void find_local_domain(struct run *run)
{
    struct str name = str_from_cstr(run->result->server_name);
    struct str parent = name;

    if (run->settings->local_domain.length > 0) {
        set_name(run->result->local_domain, run->settings->local_domain);
        return;
    }
    str_split(&parent, '.');
    set_name(run->result->local_domain, str_find(parent, '.') != STR_NONE ? parent : name);
}

static void format_literal(char out[RELAYTEST_NAME_BYTES], const struct net_address *address)
{
    char ip[NET_ADDRESS_TEXT_BYTES];

    net_address_format_ip(address, ip);
    snprintf(out, RELAYTEST_NAME_BYTES, "%s%s", net_address_is_ipv4(address) ? "" : "IPv6:", ip);
}

static bool is_loopback(const struct net_address *address)
{
    static const unsigned char loopback[16] = {[15] = 1};

    return net_address_is_ipv4(address) ? address->ip[12] == 127 : memcmp(address->ip, loopback, 16) == 0;
}

/* A literal leads to the catch only on SMTP's own port, and only where the target's way there is not to itself. */
static void find_external(struct run *run)
{
    const struct net_address *listening = &run->settings->catch_address;
    const struct net_address *reached = net_address_is_any(listening) ? conn_local(run->conn) : listening;
    char literal[RELAYTEST_NAME_BYTES - 2];

    if (run->settings->external_domain.length > 0) {
        set_name(run->result->external, run->settings->external_domain);
    } else if (run->settings->has_catch && listening->port == 25 && !is_loopback(reached)) {
        format_literal(run->result->external, reached);
        run_copy_text(literal, sizeof(literal), str_from_cstr(run->result->external));
        snprintf(run->result->external, sizeof(run->result->external), "[%s]", literal);
    } else {
        set_name(run->result->external, STR(RELAYTEST_DOMAIN_NOWHERE));
    }
}

void names_find(struct run *run, const char *hello)
{
    run->has_names = true;
    find_server_name(run, hello);
    find_local_domain(run);
    if (run->settings->server_address.length > 0)
        set_name(run->result->server_address, run->settings->server_address);
    else
        format_literal(run->result->server_address, conn_peer(run->conn));
    find_external(run);
    set_name(run->result->local_part,
             run->settings->external_local.length > 0 ? run->settings->external_local : STR(RELAYTEST_LOCAL_PART));
}

static void fill(const struct run *run, struct probe_names *names)
{
    const struct relaytest_result *result = run->result;

    names->external = str_from_cstr(result->external);
    names->local_domain = str_from_cstr(result->local_domain);
    names->server_name = str_from_cstr(result->server_name);
    names->server_address = str_from_cstr(result->server_address);
    names->client_name = str_from_cstr(result->client_name);
}

void names_fill(const struct run *run, const char *token, struct probe_names *names, struct buf *local_parts)
{
    struct str local = str_from_cstr(run->result->local_part);
    size_t length = local.length + sizeof(SENDER_TAG) - 1 + strlen(token);

    fill(run, names);
    if (run->settings->external_is_exact) {
        names->sender_local = names->recipient_local = local;
        return;
    }
    buf_printf(local_parts, "%.*s" SENDER_TAG "%s%.*s" RECIPIENT_TAG "%s", STR_ARG(local), token, STR_ARG(local),
               token);
    names->sender_local = str_take(buf_str(local_parts), length);
    names->recipient_local = str_skip(buf_str(local_parts), length);
}

void names_fill_shown(const struct run *run, struct probe_names *names)
{
    fill(run, names);
    names->sender_local = STR("s");
    names->recipient_local = STR("u");
}
