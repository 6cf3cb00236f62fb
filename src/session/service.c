/* SPDX-License-Identifier: Apache-2.0 */
#include "session/service.h"

#include "base/log.h"
#include "base/mem.h"
#include "net/activation.h"
#include "net/listener.h"
#include "session/brakes.h"
#include "session/connections.h"
#include "session/proxied.h"
#include "session/session.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* After the grace period, sessions are cancelled, and have this long to run to their end. */
#define SERVICE_ABORT_MS 5000

/* What a virtual server's name keeps across reloads. */
struct server_state {
    struct list_link link;
    char *name;
    struct connections *connections;
};

/* One loop's part of the service. */
struct service_loop {
    struct service *service;
    struct loop *loop;
    struct list_link visits;
    struct loop_task stop_task, abort_task;
    bool stopping; /* on the loop */
};

/* One loop's socket of an address. */
struct slot {
    struct service_listener *owner;
    struct service_loop *home;
    int fd;
    struct listener *listener;
    struct loop_task open_task, close_task;
};

/* One address of one server. */
struct service_listener {
    struct list_link link;
    struct service *service;
    struct server_state *state;      /* whose connections it takes; under the service's mutex, with the configuration */
    struct server_state *next_state; /* in the configuration that is being applied; NULL: not in it */
    char *text;                      /* as configured: tells at a reload whether it is the same */
    struct net_address address;      /* as bound */
    bool is_open;
    atomic_uint references; /* slots that may still call back */
    size_t slot_count;
    struct slot slots[];
};

/* One connection, from accept to close. */
struct visit {
    struct list_link link;
    struct service_loop *home;
    struct connections *connections;
    int fd;
    bool is_nameless; /* from a proxy that has not said for whom: it is counted as nobody's */
    struct session_options options;
    struct fiber *fiber; /* its own */
    struct session *session;
};

struct service {
    pthread_mutex_t mutex; /* runtime, and all counts of visits */
    pthread_cond_t empty;
    struct runtime *runtime;
    struct brakes *brakes;
    size_t visit_count;
    uint64_t accepted_count, turned_away_count;
    const struct draft_store *store;
    struct dns *dns;
    bool is_open;
    struct list_link listeners;
    struct list_link states;
    size_t loop_count;
    struct service_loop loops[];
};

/* ---- connections ---- */

static void visit_over(struct visit *visit)
{
    struct service *service = visit->home->service;

    list_remove(&visit->link);
    if (visit->is_nameless)
        connections_remove_nameless(visit->connections);
    else
        connections_remove(visit->connections, &visit->options.client);
    free(visit);
    pthread_mutex_lock(&service->mutex);
    if (--service->visit_count == 0)
        pthread_cond_broadcast(&service->empty);
    pthread_mutex_unlock(&service->mutex);
}

/* Without a session: whoever gets this costs nothing more. */
static void turn_away(int fd, const struct config *config, const struct config_server *server,
                      const struct net_address *client)
{
    char text[512], ip[NET_ADDRESS_TEXT_BYTES];
    int length = snprintf(text, sizeof(text), "421 4.3.2 %.*s Service not available, too many connections\r\n",
                          STR_ARG(config->hostname));

    LOG_WARNING("turned-away", log_str("server", server->name), log_str("client", net_address_format_ip(client, ip)),
                log_cstr("reason", "too many connections"));
    if (length > 0 && send(fd, text, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        /* It is gone already. */
    }
}

/* Reads the PROXY header. false: the connection is not served. */
static bool learn_client(struct visit *visit)
{
    struct session_options *options = &visit->options;
    const struct config_server *server = options->server;
    struct proxy_header header;
    char text[NET_ADDRESS_TEXT_BYTES];
    const char *problem;

    if (visit->home->stopping)
        return false;
    problem = proxied_receive(options->conn, &header);
    if (problem) {
        LOG_INFO("proxy-refused", log_str("server", server->name),
                 log_str("proxy", net_address_format_ip(&options->client, text)), log_cstr("reason", problem));
        return false;
    }
    if (!header.has_client)
        return true;
    if (!connections_name(visit->connections, &header.client, server->limits.connections_per_client_max)) {
        turn_away(visit->fd, options->runtime->config, server, &header.client);
        return false;
    }
    visit->is_nameless = false;
    options->client = header.client;
    conn_set_peer(options->conn, &header.client);
    return true;
}

static void visit_main(void *argument)
{
    struct visit *visit = argument;
    struct session_options *options = &visit->options;

    visit->fiber = fiber_current();
    options->conn = conn_create(visit->fd, &options->client);
    if (options->conn && (!visit->is_nameless || learn_client(visit))) {
        visit->session = session_create(options);
        if (visit->home->stopping)
            session_stop(visit->session);
        session_run(visit->session);
    } else {
        conn_close(&options->conn);
        runtime_release(&options->runtime);
    }
    visit_over(visit);
}

/* A connection that has just been accepted, and what it meets. */
struct arrival {
    struct slot *slot;
    int fd;
    struct net_address peer;
    struct server_state *state;
    struct runtime *runtime;
    const struct config_server *server;
};

static bool visit_start(const struct arrival *arrival)
{
    struct service *service = arrival->slot->owner->service;
    struct connections *connections = arrival->state->connections;
    const struct config_limits *limits = &arrival->server->limits;
    bool is_nameless = proxied_is_proxy(arrival->runtime->config, arrival->server, &arrival->peer);
    struct visit *visit;

    if (is_nameless ? !connections_add_nameless(connections, limits->connections_max)
                    : !connections_add(connections, &arrival->peer, limits->connections_max,
                                       limits->connections_per_client_max))
        return false;
    visit = mem_alloc(sizeof(*visit));
    visit->home = arrival->slot->home;
    visit->connections = connections;
    visit->fd = arrival->fd;
    visit->is_nameless = is_nameless;
    visit->options = (struct session_options){.store = service->store,
                                              .dns = service->dns,
                                              .brakes = service->brakes,
                                              .runtime = arrival->runtime,
                                              .server = arrival->server,
                                              .client = arrival->peer};
    if (fiber_start(visit_main, visit) != 0) {
        if (is_nameless)
            connections_remove_nameless(connections);
        else
            connections_remove(connections, &arrival->peer);
        free(visit);
        return false;
    }
    list_append(&visit->home->visits, &visit->link);
    pthread_mutex_lock(&service->mutex);
    service->visit_count++;
    service->accepted_count++;
    pthread_mutex_unlock(&service->mutex);
    return true;
}

static void on_accepted(void *context, int fd, const struct net_address *peer)
{
    struct slot *slot = context;
    struct service *service = slot->owner->service;
    struct arrival arrival = {.slot = slot, .fd = fd, .peer = *peer};

    pthread_mutex_lock(&service->mutex);
    arrival.runtime = runtime_retain(service->runtime);
    arrival.state = slot->owner->state;
    pthread_mutex_unlock(&service->mutex);
    arrival.server = config_find_server(arrival.runtime->config, str_from_cstr(arrival.state->name));
    if (arrival.server && visit_start(&arrival))
        return; /* the session has the descriptor and the reference */
    pthread_mutex_lock(&service->mutex);
    service->turned_away_count++;
    pthread_mutex_unlock(&service->mutex);
    if (arrival.server) /* else a reload has just removed it */
        turn_away(fd, arrival.runtime->config, arrival.server, peer);
    close(fd);
    runtime_release(&arrival.runtime);
}

/* ---- listeners ---- */

static void listener_unreference(struct service_listener *listener)
{
    if (atomic_fetch_sub(&listener->references, 1) > 1)
        return;
    free(listener->text);
    free(listener);
}

static void on_open_task(struct loop_task *task)
{
    struct slot *slot = LIST_ENTRY(task, struct slot, open_task);

    slot->listener = listener_create(slot->fd, on_accepted, slot);
}

static void on_close_task(struct loop_task *task)
{
    struct slot *slot = LIST_ENTRY(task, struct slot, close_task);

    listener_destroy(&slot->listener);
    listener_unreference(slot->owner);
}

static void service_listener_open(struct service_listener *listener)
{
    listener->is_open = true;
    for (size_t i = 0; i < listener->slot_count; i++)
        loop_post(listener->slots[i].home->loop, &listener->slots[i].open_task);
}

static void service_listener_close(struct service_listener *listener)
{
    /* The last slot's reference may be the last of all: nothing of the listener is read after it. */
    const size_t slot_count = listener->slot_count;
    const bool is_open = listener->is_open;

    list_remove(&listener->link);
    for (size_t i = 0; i < slot_count; i++) {
        if (is_open) {
            loop_post(listener->slots[i].home->loop, &listener->slots[i].close_task);
        } else {
            close(listener->slots[i].fd);
            listener_unreference(listener);
        }
    }
}

/* The open address that goes on as this one: the server's own, or one that has moved to it from another server. */
static struct service_listener *find_listener(struct service *service, const struct server_state *state,
                                              const struct config_listen *listen)
{
    struct service_listener *moved = NULL;

    for (struct list_link *link = service->listeners.next; link != &service->listeners; link = link->next) {
        struct service_listener *listener = LIST_ENTRY(link, struct service_listener, link);

        if (listener->next_state || !str_equal(str_from_cstr(listener->text), listen->text))
            continue;
        if (listener->state == state)
            return listener;
        if (listen->port != 0)
            moved = listener;
    }
    return moved;
}

static struct server_state *find_state(struct service *service, struct str name)
{
    struct server_state *state;

    for (struct list_link *link = service->states.next; link != &service->states; link = link->next) {
        state = LIST_ENTRY(link, struct server_state, link);
        if (str_equal(str_from_cstr(state->name), name))
            return state;
    }
    state = mem_alloc(sizeof(*state));
    state->name = mem_copy_str(name);
    state->connections = connections_create();
    list_append(&service->states, &state->link);
    return state;
}

static void log_listening(const struct service_listener *listener)
{
    char text[NET_ADDRESS_TEXT_BYTES];

    LOG_INFO("listening", log_cstr("server", listener->state->name),
             log_str("address", net_address_format(&listener->address, text)));
}

static int open_new(struct service *service, struct server_state *state, const struct config_listen *listen,
                    struct error *error)
{
    struct service_listener *listener = mem_alloc(sizeof(*listener) + service->loop_count * sizeof(listener->slots[0]));
    struct net_address address = {.port = listen->port};
    int *fds = mem_alloc_array(service->loop_count, sizeof(*fds));
    int result;

    memcpy(address.ip, listen->address.bytes, sizeof(address.ip));
    result = activation_take(&address, fds, service->loop_count)
                 ? 0
                 : listener_open_sockets(&address, fds, service->loop_count, error);
    if (result != 0) {
        free(listener);
        goto done;
    }
    listener->service = service;
    listener->state = state;
    listener->next_state = state;
    listener->text = mem_copy_str(listen->text);
    listener->address = address;
    listener->slot_count = service->loop_count;
    atomic_init(&listener->references, (unsigned)service->loop_count);
    for (size_t i = 0; i < service->loop_count; i++)
        listener->slots[i] = (struct slot){.owner = listener,
                                           .home = &service->loops[i],
                                           .fd = fds[i],
                                           .open_task = {.run = on_open_task},
                                           .close_task = {.run = on_close_task}};
    list_append(&service->listeners, &listener->link);
    log_listening(listener);
done:
    free(fds);
    return result;
}

void service_append_addresses(const struct service *service, struct buf *out)
{
    for (const struct list_link *link = service->listeners.next; link != &service->listeners; link = link->next) {
        const struct service_listener *listener = LIST_ENTRY(link, struct service_listener, link);
        char text[NET_ADDRESS_TEXT_BYTES];

        if (out->length > 0)
            buf_append_char(out, ' ');
        buf_append_str(out, net_address_format(&listener->address, text));
    }
}

/* ---- configuration ---- */

struct runtime *service_runtime(struct service *service)
{
    struct runtime *runtime;

    pthread_mutex_lock(&service->mutex);
    runtime = runtime_retain(service->runtime);
    pthread_mutex_unlock(&service->mutex);
    return runtime;
}

const struct config *service_config(struct service *service)
{
    const struct config *config;

    pthread_mutex_lock(&service->mutex);
    config = config_retain(service->runtime->config);
    pthread_mutex_unlock(&service->mutex);
    return config;
}

void service_get_statistics(struct service *service, struct service_statistics *statistics)
{
    pthread_mutex_lock(&service->mutex);
    *statistics = (struct service_statistics){.sessions = service->visit_count,
                                              .accepted = service->accepted_count,
                                              .turned_away = service->turned_away_count};
    pthread_mutex_unlock(&service->mutex);
}

/* The runtime, and with it whose connections each address takes. */
static void take_runtime(struct service *service, struct runtime *runtime)
{
    struct runtime *before;

    pthread_mutex_lock(&service->mutex);
    before = service->runtime;
    service->runtime = runtime_retain(runtime);
    for (struct list_link *link = service->listeners.next; link != &service->listeners; link = link->next) {
        struct service_listener *listener = LIST_ENTRY(link, struct service_listener, link);

        if (listener->next_state)
            listener->state = listener->next_state;
    }
    pthread_mutex_unlock(&service->mutex);
    runtime_release(&before);
}

static bool is_any(const struct service_listener *listener)
{
    (void)listener;
    return true;
}

static bool is_gone(const struct service_listener *listener)
{
    return !listener->next_state;
}

static bool is_unopened(const struct service_listener *listener)
{
    return !listener->is_open;
}

static void close_listeners(struct service *service, bool (*is_to_close)(const struct service_listener *listener))
{
    struct list_link *link = service->listeners.next;

    while (link != &service->listeners) {
        struct service_listener *listener = LIST_ENTRY(link, struct service_listener, link);

        link = link->next;
        if (is_to_close(listener))
            service_listener_close(listener);
    }
}

static void open_listeners_to_clients(struct service *service)
{
    for (struct list_link *link = service->listeners.next; link != &service->listeners; link = link->next) {
        struct service_listener *listener = LIST_ENTRY(link, struct service_listener, link);

        if (!listener->is_open)
            service_listener_open(listener);
    }
}

static int open_listeners(struct service *service, const struct config *config, struct error *error)
{
    for (size_t s = 0; s < config->server_count; s++) {
        const struct config_server *server = &config->servers[s];
        struct server_state *state = find_state(service, server->name);

        for (size_t i = 0; i < server->listen_count; i++) {
            struct service_listener *listener = find_listener(service, state, &server->listen[i]);

            if (listener)
                listener->next_state = state;
            else if (open_new(service, state, &server->listen[i], error) != 0)
                return error_add_context(error, "server %.*s", STR_ARG(server->name));
        }
    }
    return 0;
}

int service_apply(struct service *service, struct runtime *runtime, struct error *error)
{
    for (struct list_link *link = service->listeners.next; link != &service->listeners; link = link->next)
        LIST_ENTRY(link, struct service_listener, link)->next_state = NULL;
    if (open_listeners(service, runtime->config, error) != 0) {
        close_listeners(service, is_unopened);
        return -1;
    }
    take_runtime(service, runtime);
    close_listeners(service, is_gone);
    if (service->is_open)
        open_listeners_to_clients(service);
    return 0;
}

void service_open(struct service *service, const struct draft_store *store, struct dns *dns)
{
    service->store = store;
    service->dns = dns;
    service->is_open = true;
    open_listeners_to_clients(service);
}

/* ---- end ---- */

static void on_stop_task(struct loop_task *task)
{
    struct service_loop *home = LIST_ENTRY(task, struct service_loop, stop_task);

    home->stopping = true;
    for (struct list_link *link = home->visits.next; link != &home->visits; link = link->next) {
        struct visit *visit = LIST_ENTRY(link, struct visit, link);

        if (visit->session)
            session_stop(visit->session);
        else if (visit->fiber)
            fiber_cancel(visit->fiber);
    }
}

static void on_abort_task(struct loop_task *task)
{
    struct service_loop *home = LIST_ENTRY(task, struct service_loop, abort_task);

    for (struct list_link *link = home->visits.next; link != &home->visits; link = link->next) {
        struct visit *visit = LIST_ENTRY(link, struct visit, link);

        if (visit->session)
            session_abort(visit->session);
    }
}

void service_stop(struct service *service)
{
    close_listeners(service, is_any);
    for (size_t i = 0; i < service->loop_count; i++)
        loop_post(service->loops[i].loop, &service->loops[i].stop_task);
}

static bool wait_until_empty(struct service *service, unsigned timeout_ms)
{
    struct timespec until;
    bool empty;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&service->mutex);
    while (service->visit_count > 0 && pthread_cond_timedwait(&service->empty, &service->mutex, &until) == 0) {
    }
    empty = service->visit_count == 0;
    pthread_mutex_unlock(&service->mutex);
    return empty;
}

void service_wait(struct service *service, unsigned grace_ms)
{
    if (wait_until_empty(service, grace_ms))
        return;
    LOG_WARNING("sessions-cancelled", log_cstr("reason", "they took too long; what was not acknowledged is dropped"));
    for (size_t i = 0; i < service->loop_count; i++)
        loop_post(service->loops[i].loop, &service->loops[i].abort_task);
    wait_until_empty(service, SERVICE_ABORT_MS);
}

void service_forget(struct service *service)
{
    runtime_release(&service->runtime);
}

struct service *service_create(struct loop *const *loops, size_t loop_count)
{
    struct service *service = mem_alloc(sizeof(*service) + loop_count * sizeof(service->loops[0]));
    pthread_condattr_t attributes;

    pthread_mutex_init(&service->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&service->empty, &attributes);
    pthread_condattr_destroy(&attributes);
    list_init(&service->listeners);
    list_init(&service->states);
    service->brakes = brakes_create();
    service->loop_count = loop_count;
    for (size_t i = 0; i < loop_count; i++) {
        struct service_loop *home = &service->loops[i];

        home->service = service;
        home->loop = loops[i];
        home->stop_task.run = on_stop_task;
        home->abort_task.run = on_abort_task;
        list_init(&home->visits);
    }
    return service;
}

void service_destroy(struct service **pointer)
{
    struct service *service = *pointer;
    struct list_link *link;

    *pointer = NULL;
    if (!service)
        return;
    /* Only where the start failed before service_open: those that were opened end with service_stop. */
    close_listeners(service, is_any);
    while ((link = list_take_first(&service->states))) {
        struct server_state *state = LIST_ENTRY(link, struct server_state, link);

        connections_destroy(&state->connections);
        free(state->name);
        free(state);
    }
    service_forget(service);
    brakes_destroy(&service->brakes);
    pthread_cond_destroy(&service->empty);
    pthread_mutex_destroy(&service->mutex);
    free(service);
}
