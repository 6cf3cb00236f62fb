/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libunbound resolves in a thread of its own, and says through a pipe that it has answers; they are taken, and all questions asked, on the
 * module's thread. It always forwards, to the resolver that is named or to those of the system, so that the names of an
 * organisation's own zones are what its resolver says.
 *
 * Its defaults serve a desktop program; what differs here, and why, stands in `options`.
 */
#include "base/log.h"
#include "base/mem.h"
#include "net/dns_private.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <unbound.h>
#include <unistd.h>
#include <uv.h>

#define CLASS_IN         1
#define RESOLV_CONF_PATH "/etc/resolv.conf"
#define HOSTS_PATH       "/etc/hosts"

struct dns_resolver {
    struct list_link link; /* dns->retired */
    struct ub_ctx *context;
    uv_poll_t *poll;
    struct dns *dns;
    struct list_link queries; /* asked, not answered */
    unsigned holders;
    bool is_retired;
    bool validates;
    struct dns_hosts *hosts;
};

struct option {
    const char *name;
    const char *value;
};

static const struct option options[] = {
    /* A resolver on this machine is the usual case, and what tests have. */
    {"do-not-query-localhost:", "no"},
    /* libunbound answers for these zones itself otherwise, and says that they are empty. */
    {"unblock-lan-zones:", "yes"},
    {"insecure-lan-zones:", "yes"},
    /* By default there are 16 sockets: as many questions without an answer would hold up all others. */
    {"outgoing-range:", "1024"},
    {"outgoing-num-tcp:", "64"},
    {"num-queries-per-thread:", "2048"},
    /* How a server behaves is remembered for 15 minutes otherwise, and with a forwarder one dead zone behind it speaks against all others. */
    {"infra-host-ttl:", "1"},
    /* Of several PTR names the first decides: the same ones in the same order each time. */
    {"rrset-roundrobin:", "no"},
    /* A name that is withdrawn is a grant that is withdrawn. */
    {"cache-max-ttl:", "3600"},
    {"cache-max-negative-ttl:", "300"},
};

/* Zones that libunbound knows to be empty, and which a private resolver may fill. */
static const char *const ordinary_zones[] = {
    "127.in-addr.arpa.",
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.",
    "home.arpa.",
    "test.",
};

/* Below these nothing can be signed: the root says that they don't exist (RFC 6761, RFC 6762, RFC 8375). */
static const char *const private_zones[] = {"test.", "local.", "internal.", "home.arpa.", "127.in-addr.arpa."};

/* ---- life ---- */

/* libunbound has locks and a log of its own for the whole process, which contexts set up and take down without regard to each other. */
static pthread_mutex_t contexts = PTHREAD_MUTEX_INITIALIZER;

static int check(int code, struct error *error, const char *what)
{
    return code == UB_NOERROR ? 0 : error_set(error, "DNS: %s: %s", what, ub_strerror(code));
}

static int set_forwarder(struct dns_resolver *resolver, struct str text, struct error *error)
{
    struct net_address address;
    char ip[NET_ADDRESS_TEXT_BYTES];
    char forwarder[NET_ADDRESS_TEXT_BYTES + 8];

    /* Without the file the resolver is this machine (resolv.conf(5)). */
    if (text.length == 0 && access(RESOLV_CONF_PATH, F_OK) != 0)
        return check(ub_ctx_set_fwd(resolver->context, "127.0.0.1"), error, "127.0.0.1");
    if (text.length == 0)
        return check(ub_ctx_resolvconf(resolver->context, RESOLV_CONF_PATH), error, RESOLV_CONF_PATH);
    if (!dns_parse_resolver(text, &address))
        return error_set(error, "DNS: resolver: wants ADDRESS or ADDRESS@PORT, not %.*s", STR_ARG(str_take(text, 80)));
    net_address_format_ip(&address, ip);
    snprintf(forwarder, sizeof(forwarder), "%s@%u", ip, (unsigned)address.port);
    return check(ub_ctx_set_fwd(resolver->context, forwarder), error, forwarder);
}

static int set_validation(struct dns_resolver *resolver, const struct dns_settings *settings, struct error *error)
{
    const char *anchor = settings->trust_anchor ? settings->trust_anchor : DNS_TRUST_ANCHOR_PATH;
    bool has_anchor = access(anchor, R_OK) == 0;

    if (settings->validation == DNS_VALIDATION_ON && !has_anchor)
        return error_set(error, "DNS: cannot read the trust anchor %s (package dns-root-data)", anchor);
    resolver->validates = settings->validation == DNS_VALIDATION_ON ||
                          (settings->validation == DNS_VALIDATION_AUTO && has_anchor && settings->resolver.length == 0);
    if (!resolver->validates)
        return check(ub_ctx_set_option(resolver->context, "module-config:", "iterator"), error, "module-config");
    for (size_t i = 0; i < sizeof(private_zones) / sizeof(private_zones[0]); i++)
        if (check(ub_ctx_set_option(resolver->context, "domain-insecure:", private_zones[i]), error,
                  private_zones[i]) != 0)
            return -1;
    return check(ub_ctx_add_ta_file(resolver->context, anchor), error, anchor);
}

static int set_up(struct dns_resolver *resolver, const struct dns_settings *settings, struct error *error)
{
    resolver->context = ub_ctx_create();
    if (!resolver->context)
        return error_set(error, "DNS: cannot make a resolver");
    /* It would write to the standard error stream, in between our lines. */
    ub_ctx_debugout(resolver->context, NULL);
    if (check(ub_ctx_async(resolver->context, 1), error, "thread") != 0)
        return -1;
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        if (check(ub_ctx_set_option(resolver->context, options[i].name, options[i].value), error, options[i].name) != 0)
            return -1;
    if (set_forwarder(resolver, settings->resolver, error) != 0 || set_validation(resolver, settings, error) != 0)
        return -1;
    /* The first of these ends the setting of options. */
    for (size_t i = 0; i < sizeof(ordinary_zones) / sizeof(ordinary_zones[0]); i++)
        if (check(ub_ctx_zone_remove(resolver->context, ordinary_zones[i]), error, ordinary_zones[i]) != 0)
            return -1;
    return 0;
}

struct dns_resolver *dns_resolver_create(const struct dns_settings *settings, struct error *error)
{
    struct dns_resolver *resolver = mem_alloc(sizeof(*resolver));
    int result;

    list_init(&resolver->link);
    list_init(&resolver->queries);
    pthread_mutex_lock(&contexts);
    result = set_up(resolver, settings, error);
    pthread_mutex_unlock(&contexts);
    if (result == 0)
        resolver->hosts = dns_hosts_read(settings->hosts ? settings->hosts : HOSTS_PATH);
    else
        dns_resolver_destroy(&resolver);
    return resolver;
}

void dns_resolver_destroy(struct dns_resolver **pointer)
{
    struct dns_resolver *resolver = *pointer;

    if (!resolver)
        return;
    *pointer = NULL;
    assert(!resolver->poll && list_is_empty(&resolver->queries));
    pthread_mutex_lock(&contexts);
    ub_ctx_delete(resolver->context); /* NULL is fine */
    pthread_mutex_unlock(&contexts);
    dns_hosts_destroy(&resolver->hosts);
    free(resolver);
}

bool dns_resolver_validates(const struct dns_resolver *resolver)
{
    return resolver->validates;
}

const struct dns_hosts *dns_resolver_hosts(const struct dns_resolver *resolver)
{
    return resolver->hosts;
}

/* ---- on the thread ---- */

static void on_closed(uv_handle_t *handle)
{
    free(handle);
}

static void stop_watching(struct dns_resolver *resolver)
{
    if (!resolver->poll)
        return;
    uv_close((uv_handle_t *)resolver->poll, on_closed);
    resolver->poll = NULL;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct dns_resolver *resolver = poll->data;
    int code;

    (void)status;
    (void)events;
    dns_resolver_hold(resolver); /* its answers may end the last job, and it must not go while it calls us */
    code = ub_process(resolver->context);
    if (code != UB_NOERROR) {
        /* Its thread is gone. What is asked from now on times out. */
        LOG_ERROR("dns-failed", log_cstr("error", ub_strerror(code)));
        stop_watching(resolver);
    }
    dns_resolver_drop(resolver);
}

void dns_resolver_open(struct dns_resolver *resolver, struct dns *dns)
{
    resolver->dns = dns;
    resolver->poll = mem_alloc(sizeof(*resolver->poll));
    uv_poll_init(loop_uv(loop_current()), resolver->poll, ub_fd(resolver->context));
    resolver->poll->data = resolver;
    uv_poll_start(resolver->poll, UV_READABLE, on_readable);
}

static void query_over(struct dns_query *query, const struct dns_answer *answer)
{
    list_remove(&query->link);
    query->resolver->dns->query_count--;
    query->answered(query, answer);
}

static void read_result(const struct ub_result *result, struct dns_answer *answer)
{
    answer->code = result->rcode;
    answer->canonical = result->canonname;
    answer->is_secure = result->secure;
    if (result->bogus)
        answer->bogus_reason = result->why_bogus ? result->why_bogus : "no reason given";
    else if (result->rcode == 0 && result->havedata) {
        answer->state = DNS_ANSWER_DATA;
        answer->data = result->data;
        answer->lengths = result->len;
    } else if (result->nxdomain || result->rcode == 0) {
        answer->state = DNS_ANSWER_EMPTY;
        answer->is_no_name = result->nxdomain;
    }
}

static void on_result(void *argument, int code, struct ub_result *result)
{
    struct dns_answer answer = {.state = DNS_ANSWER_FAILED, .code = code};

    if (code == UB_NOERROR)
        read_result(result, &answer);
    query_over(argument, &answer);
    if (code == UB_NOERROR)
        ub_resolve_free(result);
}

bool dns_resolver_ask(struct dns_resolver *resolver, const char *name, int type, struct dns_query *query)
{
    int id;

    if (resolver->dns->query_count >= DNS_QUERIES_MAX ||
        ub_resolve_async(resolver->context, name, type, CLASS_IN, query, on_result, &id) != UB_NOERROR)
        return false;
    query->resolver = resolver;
    list_append(&resolver->queries, &query->link);
    resolver->dns->query_count++;
    return true;
}

void dns_resolver_hold(struct dns_resolver *resolver)
{
    resolver->holders++;
}

void dns_resolver_drop(struct dns_resolver *resolver)
{
    assert(resolver->holders > 0);
    if (--resolver->holders == 0 && resolver->is_retired)
        dns_resolver_close(resolver);
}

void dns_resolver_retire(struct dns_resolver *resolver)
{
    dns_resolver_hold(resolver);
    resolver->is_retired = true;
    list_append(&resolver->dns->retired, &resolver->link);
    dns_resolver_drop(resolver);
}

void dns_resolver_close(struct dns_resolver *resolver)
{
    struct list_link *link;

    stop_watching(resolver);
    list_remove(&resolver->link);
    while ((link = resolver->queries.next) != &resolver->queries)
        query_over(LIST_ENTRY(link, struct dns_query, link), NULL);
    dns_resolver_destroy(&resolver);
}

void dns_resolvers_close_retired(struct dns *dns)
{
    while (!list_is_empty(&dns->retired))
        dns_resolver_close(LIST_ENTRY(dns->retired.next, struct dns_resolver, link));
}
