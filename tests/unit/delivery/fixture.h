/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A relay without its receiving side: real spool, queue, loops and worker pools in a directory of the test's own, and
 * a next server that remembers what it took. What the server does about a recipient is written in its local part:
 * fail... 550, defer... 451 the first time, anything else is taken.
 */
#ifndef POSTERN_TESTS_DELIVERY_FIXTURE_H
#define POSTERN_TESTS_DELIVERY_FIXTURE_H

#include "base/mem.h"
#include "delivery/delivery.h"
#include "os/clock.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define FIXTURE_WAIT_S       60
#define FIXTURE_MESSAGES_MAX 4096
#define FIXTURE_LINE_BYTES   2048

/* ---- the next server ---- */

struct taken_message {
    char *recipients; /* "a@b c@d " */
    unsigned recipient_count;
    char *body; /* as on the wire, dots still doubled */
};

struct next_server {
    int listener;
    uint16_t port;
    pthread_t thread;
    bool no_pipelining;
    unsigned messages_per_connection; /* then 421; 0: no limit */
    unsigned drop_after;              /* closes without a word after so many messages; 0: never */
    bool drop_in_data;                /* while `drops_left`, the connection is closed at DATA */
    atomic_uint drops_left;
    const char *_Atomic banner;

    pthread_mutex_t lock;
    struct taken_message messages[FIXTURE_MESSAGES_MAX];
    unsigned message_count, connection_count, deferred_count;
    pthread_t connections[FIXTURE_MESSAGES_MAX];
};

struct connection {
    struct next_server *server;
    FILE *in, *out;
    char *recipients;
    size_t recipients_bytes;
    FILE *recipients_stream;
    unsigned recipient_count, message_count;
};

static void connection_reset(struct connection *c)
{
    if (c->recipients_stream)
        fclose(c->recipients_stream);
    free(c->recipients);
    c->recipients = NULL;
    c->recipients_stream = open_memstream(&c->recipients, &c->recipients_bytes);
    c->recipient_count = 0;
}

static const char *answer_recipient(struct connection *c, const char *address)
{
    const char *reply = "250 2.1.5 ok\r\n";

    if (strncmp(address, "fail", 4) == 0)
        return "550 5.1.1 no such mailbox\r\n";
    pthread_mutex_lock(&c->server->lock);
    if (strncmp(address, "defer", 5) == 0 && c->server->deferred_count++ == 0)
        reply = "451 4.2.1 not now\r\n";
    pthread_mutex_unlock(&c->server->lock);
    if (reply[0] == '2') {
        fprintf(c->recipients_stream, "%s ", address);
        c->recipient_count++;
    }
    return reply;
}

static bool take_data(struct connection *c)
{
    struct next_server *server = c->server;
    char line[FIXTURE_LINE_BYTES];
    char *body = NULL;
    size_t body_bytes;
    FILE *stream = open_memstream(&body, &body_bytes);
    bool ended = false;

    while (!ended && fgets(line, sizeof(line), c->in)) {
        ended = strcmp(line, ".\r\n") == 0;
        if (!ended)
            fputs(line, stream);
    }
    fclose(stream);
    fclose(c->recipients_stream);
    c->recipients_stream = NULL;
    if (ended && c->recipient_count > 0) {
        pthread_mutex_lock(&server->lock);
        assert(server->message_count < FIXTURE_MESSAGES_MAX);
        server->messages[server->message_count++] =
            (struct taken_message){.recipients = c->recipients, .recipient_count = c->recipient_count, .body = body};
        pthread_mutex_unlock(&server->lock);
        c->recipients = NULL;
        body = NULL;
    }
    free(body);
    connection_reset(c);
    c->message_count++;
    fputs(ended ? "250 2.6.0 taken\r\n" : "", c->out);
    return ended;
}

/* False: the connection ends. */
static bool answer_line(struct connection *c, char *line)
{
    struct next_server *server = c->server;
    char *end = strchr(line, '>');

    if (strncmp(line, "EHLO", 4) == 0) {
        fputs(server->no_pipelining ? "250-next\r\n250-8BITMIME\r\n250 SIZE\r\n"
                                    : "250-next\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 10000000\r\n",
              c->out);
    } else if (strncmp(line, "MAIL FROM:<", 11) == 0) {
        if (server->messages_per_connection && c->message_count == server->messages_per_connection) {
            fputs("421 4.7.0 enough\r\n", c->out);
            return false;
        }
        fputs("250 2.1.0 ok\r\n", c->out);
    } else if (strncmp(line, "RCPT TO:<", 9) == 0 && end) {
        *end = '\0';
        fputs(answer_recipient(c, line + 9), c->out);
    } else if (strncmp(line, "DATA", 4) == 0) {
        if (server->drop_in_data && atomic_load(&server->drops_left) > 0) {
            atomic_fetch_sub(&server->drops_left, 1);
            return false;
        }
        if (c->recipient_count == 0) {
            fputs("554 5.5.1 no recipients\r\n", c->out);
            return true;
        }
        fputs("354 go\r\n", c->out);
        fflush(c->out);
        if (!take_data(c))
            return false;
        return !(server->drop_after && c->message_count == server->drop_after);
    } else if (strncmp(line, "RSET", 4) == 0) {
        connection_reset(c);
        fputs("250 2.0.0 ok\r\n", c->out);
    } else {
        fputs("221 bye\r\n", c->out);
        return false;
    }
    return true;
}

static void *run_connection(void *argument)
{
    struct connection *c = argument;
    char line[FIXTURE_LINE_BYTES];
    const char *banner;
    bool goes_on = true;

    connection_reset(c);
    banner = atomic_load(&c->server->banner);
    fputs(banner ? banner : "220 next ESMTP\r\n", c->out);
    fflush(c->out);
    while (goes_on && fgets(line, sizeof(line), c->in)) {
        goes_on = answer_line(c, line);
        fflush(c->out);
    }
    fclose(c->in);
    fclose(c->out);
    if (c->recipients_stream)
        fclose(c->recipients_stream);
    free(c->recipients);
    free(c);
    return NULL;
}

static void *run_next_server(void *argument)
{
    struct next_server *server = argument;
    int fd;

    while ((fd = accept(server->listener, NULL, NULL)) >= 0) {
        struct connection *c = mem_alloc(sizeof(*c));

        c->server = server;
        c->in = fdopen(fd, "r");
        c->out = fdopen(dup(fd), "w");
        pthread_mutex_lock(&server->lock);
        assert(server->connection_count < FIXTURE_MESSAGES_MAX);
        pthread_create(&server->connections[server->connection_count++], NULL, run_connection, c);
        pthread_mutex_unlock(&server->lock);
    }
    return NULL;
}

static void next_server_open(struct next_server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);

    pthread_mutex_init(&server->lock, NULL);
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, length), 0);
    assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &length), 0);
    server->port = ntohs(address.sin_port);
}

static void next_server_start(struct next_server *server)
{
    assert_int_equal(listen(server->listener, 128), 0);
    assert_int_equal(pthread_create(&server->thread, NULL, run_next_server, server), 0);
}

static unsigned next_server_count(struct next_server *server)
{
    unsigned count;

    pthread_mutex_lock(&server->lock);
    count = server->message_count;
    pthread_mutex_unlock(&server->lock);
    return count;
}

static void next_server_stop(struct next_server *server)
{
    shutdown(server->listener, SHUT_RDWR);
    if (server->thread)
        pthread_join(server->thread, NULL);
    close(server->listener);
    for (unsigned i = 0; i < server->connection_count; i++)
        pthread_join(server->connections[i], NULL);
    for (unsigned i = 0; i < server->message_count; i++) {
        free(server->messages[i].recipients);
        free(server->messages[i].body);
    }
    pthread_mutex_destroy(&server->lock);
}

/* ---- the relay ---- */

struct relay {
    char root[64];
    pthread_mutex_t config_lock;
    const struct config *config;
    const struct config *reloaded; /* what delivery fibers see instead, if set: then they run on the other loop alone */
    struct loop *loops[2];
    struct runtime *runtimes[4]; /* of all configurations that were loaded */
    size_t runtime_count;
    struct worker_pool *disk_pool;
    struct dns *dns; /* whose resolver answers for localhost alone */
    struct spool *spool;
    struct queue *queue;
    struct delivery *delivery;
    struct next_server next;
    unsigned dead_port; /* nobody listens there */
    int dead_socket;
    struct vfs vfs; /* the system's; with reads_block, nothing is ever read without waiting */
    bool reads_block;
    atomic_bool is_stopped;
};

static struct relay relay;

static ssize_t read_never(struct vfs_file *file, void *data, size_t length, uint64_t offset)
{
    (void)file;
    (void)data;
    (void)length;
    (void)offset;
    return -EAGAIN;
}

static int open_with_own_table(const struct vfs *vfs, const char *path, int flags, struct vfs_file **file)
{
    int result = vfs_system()->open(vfs_system(), path, flags, file);

    if (result == 0)
        (*file)->vfs = vfs;
    return result;
}

static const struct config *relay_config(void *context)
{
    const struct config *config;

    (void)context;
    pthread_mutex_lock(&relay.config_lock);
    config = relay.reloaded && loop_current() != relay.loops[0] ? relay.reloaded : relay.config;
    config = config_retain(config);
    pthread_mutex_unlock(&relay.config_lock);
    return config;
}

static struct runtime *relay_runtime(void *context)
{
    const struct config *config = relay_config(context);
    struct runtime *runtime = NULL;

    for (size_t i = 0; i < relay.runtime_count; i++)
        if (relay.runtimes[i]->config == config)
            runtime = runtime_retain(relay.runtimes[i]);
    config_release(&config);
    return runtime;
}

static const struct config *relay_parse_config(const char *delivery_lines)
{
    const struct config *config = NULL;
    struct error error;
    const struct config_machine machine = {.hostname = "mail.contoso.test"};
    struct config_errors errors;
    char *text =
        mem_printf("hostname: mail.contoso.test\n"
                   "data-dir: %s\n"
                   "domains:\n"
                   "  contoso.test: { type: local, default: true, recipients: [alice, bob] }\n"
                   "servers:\n"
                   "  internet: { listen: [\"127.0.0.1:0\"] }\n"
                   "connectors:\n"
                   "  next: { address-spaces: [next.test], smart-hosts: [\"127.0.0.1:%u\"] }\n"
                   "  named: { address-spaces: [named.test], smart-hosts: [\"localhost:%u\"] }\n"
                   "  over: { address-spaces: [over.test], smart-hosts: [\"127.0.0.1:%u\", \"127.0.0.1:%u\"] }\n"
                   "  dead: { address-spaces: [dead.test], smart-hosts: [\"127.0.0.1:%u\"] }\n"
                   "%s",
                   relay.root, relay.next.port, relay.next.port, relay.dead_port, relay.next.port, relay.dead_port,
                   delivery_lines);

    config_errors_init(&errors);
    if (config_load_text(vfs_system(), "test.yaml", str_from_cstr(text), &machine, &config, &errors) != 0)
        fail_msg("%s", errors.count ? errors.messages[0].text : "no configuration");
    config_errors_release(&errors);
    free(text);
    assert_true(relay.runtime_count < sizeof(relay.runtimes) / sizeof(relay.runtimes[0]));
    assert_int_equal(runtime_create(config, NULL, &relay.runtimes[relay.runtime_count], &error), 0);
    relay.runtime_count++;
    return config;
}

/* Nobody is known. */
static struct directory *relay_directory(void *context)
{
    (void)context;
    return NULL;
}

static void relay_load_config(const char *delivery_lines)
{
    relay.config = relay_parse_config(delivery_lines);
}

static void on_message(void *context, spool_id id, struct str envelope, uint64_t body_bytes)
{
    (void)context;
    queue_recover_message(relay.queue, id, envelope, body_bytes);
}

static void on_result(void *context, spool_id id, struct str payload)
{
    (void)context;
    queue_recover_result(relay.queue, id, payload);
}

static void on_damage(void *context, const char *where, const char *what)
{
    (void)context;
    fprintf(stderr, "damage: %s: %s\n", where, what);
}

/* The configuration stands, and the next server has its port. */
static void relay_start(void)
{
    struct error error = {0};
    char *spool_directory = mem_printf("%s/spool", relay.root);
    char *badmail_directory = mem_printf("%s/badmail", relay.root);
    const struct spool_options spool_options = {.vfs = &relay.vfs,
                                                .directory = spool_directory,
                                                .badmail_directory = badmail_directory,
                                                .shard_count = 1,
                                                .segment_bytes = 4u << 20,
                                                .reserve_bytes = 1u << 20};
    const struct spool_recovery recovery = {.message = on_message, .result = on_result, .damage = on_damage};
    const struct queue_settings settings = {
        .retry_ms = {300}, .retry_count = 1, .expire_ms = 60000, .report_gather_ms = 50};
    struct delivery_options options = {.loops = relay.reloaded ? relay.loops + 1 : relay.loops,
                                       .loop_count = relay.reloaded ? 1 : 2,
                                       .vfs = vfs_system(),
                                       .config = relay_config,
                                       .runtime = relay_runtime,
                                       .directory = relay_directory,
                                       .data_directory = relay.root};

    const struct dns_settings dns_settings = {.resolver = STR("127.0.0.1@9")};
    struct dns_resolver *resolver;

    relay.vfs = *vfs_system();
    relay.vfs.open = open_with_own_table;
    if (relay.reads_block)
        relay.vfs.read_at_nowait = read_never;
    atomic_store(&relay.is_stopped, false);
    assert_int_equal(loop_create(&relay.loops[0], "owner", &error), 0);
    assert_int_equal(loop_create(&relay.loops[1], "other", &error), 0);
    assert_int_equal(worker_pool_create(&relay.disk_pool, "disk", 2, &error), 0);
    relay.dns = dns_create();
    resolver = dns_resolver_create(&dns_settings, &error);
    assert_non_null(resolver);
    assert_int_equal(dns_use(relay.dns, &resolver, &error), 0);
    relay.spool = spool_create(&spool_options);
    options.owner = relay.loops[0];
    options.spool = relay.spool;
    options.disk_pool = relay.disk_pool;
    options.dns = relay.dns;
    assert_int_equal(delivery_create(&relay.delivery, &options, &error), 0);
    assert_int_equal(queue_create(&relay.queue, relay.loops[0], relay.spool, &settings, delivery_hooks(relay.delivery)),
                     0);
    delivery_set_queue(relay.delivery, relay.queue);
    if (spool_open(relay.spool, &recovery, &error) != 0)
        fail_msg("%s", error.text);
    queue_recovery_done(relay.queue);
    assert_int_equal(loop_start(relay.loops[0], &error), 0);
    assert_int_equal(loop_start(relay.loops[1], &error), 0);
    free(spool_directory);
    free(badmail_directory);
}

static bool fixture_wait(bool (*is_so)(void))
{
    struct timespec now;
    time_t until;

    clock_gettime(CLOCK_MONOTONIC, &now);
    until = now.tv_sec + FIXTURE_WAIT_S;
    while (!is_so() && now.tv_sec < until) {
        poll(NULL, 0, 1);
        clock_gettime(CLOCK_MONOTONIC, &now);
    }
    return is_so();
}

static void on_stopped(void *context)
{
    atomic_store((atomic_bool *)context, true);
}

static bool is_stopped(void)
{
    return atomic_load(&relay.is_stopped);
}

static void relay_stop(void)
{
    delivery_stop(relay.delivery);
    queue_stop(relay.queue, on_stopped, &relay.is_stopped);
    assert_true(fixture_wait(is_stopped));
    dns_destroy(&relay.dns);
    for (size_t i = 0; i < 2; i++) {
        loop_stop(relay.loops[i]);
        loop_join(relay.loops[i]);
    }
    worker_pool_destroy(&relay.disk_pool);
    for (size_t i = 0; i < 2; i++)
        loop_destroy(&relay.loops[i]);
    queue_destroy(&relay.queue);
    delivery_destroy(&relay.delivery);
    spool_close(&relay.spool);
}

static int relay_set_up(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);

    (void)state;
    memset(&relay, 0, sizeof(relay));
    snprintf(relay.root, sizeof(relay.root), "/tmp/postern-delivery-XXXXXX");
    assert_non_null(mkdtemp(relay.root));
    pthread_mutex_init(&relay.config_lock, NULL);
    next_server_open(&relay.next);
    /* Bound and never listened on: connections are refused. */
    relay.dead_socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(relay.dead_socket, (struct sockaddr *)&address, length), 0);
    assert_int_equal(getsockname(relay.dead_socket, (struct sockaddr *)&address, &length), 0);
    relay.dead_port = ntohs(address.sin_port);
    return 0;
}

static int relay_tear_down(void **state)
{
    char *command = mem_printf("rm -rf '%s'", relay.root);

    (void)state;
    if (relay.queue)
        relay_stop();
    next_server_stop(&relay.next);
    close(relay.dead_socket);
    for (size_t i = 0; i < relay.runtime_count; i++)
        runtime_release(&relay.runtimes[i]);
    config_release(&relay.config);
    config_release(&relay.reloaded);
    pthread_mutex_destroy(&relay.config_lock);
    assert_int_equal(system(command), 0);
    free(command);
    return 0;
}

/* ---- messages ---- */

struct waiting_write {
    struct spool_write write;
    atomic_bool done;
};

static void on_written(struct spool_write *write)
{
    atomic_store(&((struct waiting_write *)write)->done, true);
}

static spool_id relay_submit_envelope(const struct envelope *envelope, const char *body)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)body, .iov_len = strlen(body)};
    struct waiting_write waiting = {.write = {.type = SPOOL_WRITE_MESSAGE, .done = on_written}};
    struct buf encoded;

    buf_init(&encoded, SPOOL_ENVELOPE_BYTES_MAX);
    assert_true(envelope_encode(envelope, &encoded));
    waiting.write.envelope = buf_str(&encoded);
    if (part.iov_len <= SPOOL_INLINE_BODY_BYTES) {
        waiting.write.body = &part;
        waiting.write.body_part_count = 1;
    } else {
        assert_int_equal(spool_body_file_create(relay.spool, &waiting.write.body_file), 0);
        assert_int_equal(spool_body_file_append(waiting.write.body_file, body, part.iov_len), 0);
        assert_int_equal(spool_body_file_finish(waiting.write.body_file), 0);
    }
    waiting.write.id = spool_reserve_id(relay.spool, 0);
    spool_submit(relay.spool, &waiting.write);
    while (!atomic_load(&waiting.done))
        poll(NULL, 0, 1);
    assert_int_equal(waiting.write.status, SPOOL_DONE);
    queue_add(relay.queue, waiting.write.id, buf_str(&encoded), part.iov_len);
    buf_release(&encoded);
    return waiting.write.id;
}

/* Recipients separated by a space. */
static spool_id relay_submit(const char *sender, const char *recipients, unsigned flags, unsigned notify,
                             const char *body)
{
    struct envelope_recipient list[1024];
    struct envelope envelope = {.arrived_at_ms = clock_real_ms(),
                                .flags = flags,
                                .sender = str_from_cstr(sender),
                                .server = STR("internet"),
                                .recipients = list};
    size_t at = str_find_last(envelope.sender, '@');
    struct str rest = str_from_cstr(recipients);

    if (at != STR_NONE)
        envelope.sender_domain = str_skip(envelope.sender, at + 1);
    while (rest.length > 0) {
        struct str address = str_split(&rest, ' ');

        list[envelope.recipient_count++] = (struct envelope_recipient){
            .address = address, .domain = str_skip(address, str_find_last(address, '@') + 1), .notify = notify};
    }
    return relay_submit_envelope(&envelope, body);
}

/* Everything is settled, and the spool knows it. */
static bool is_spool_empty(void)
{
    struct spool_statistics spool;
    struct queue_statistics queue;

    queue_get_statistics(relay.queue, &queue);
    spool_get_statistics(relay.spool, &spool);
    return queue.messages == 0 && spool.live_messages == 0;
}

static void relay_wait_empty(void)
{
    assert_true(fixture_wait(is_spool_empty));
    /* What the server has taken may be looked at after this. */
    pthread_mutex_lock(&relay.next.lock);
    pthread_mutex_unlock(&relay.next.lock);
}

struct found_file {
    unsigned count;
    char name[256];
};

static int remember_name(void *context, const char *name)
{
    struct found_file *found = context;

    found->count++;
    snprintf(found->name, sizeof(found->name), "%s", name);
    return 0;
}

static unsigned count_files(const char *directory)
{
    char *path = mem_printf("%s/%s", relay.root, directory);
    struct found_file found = {0};

    vfs_system()->list(vfs_system(), path, remember_name, &found);
    free(path);
    return found.count;
}

/* The content of a file below the root, NULL if it is not there; freed by the caller. */
static char *read_file(const char *name)
{
    char *path = mem_printf("%s/%s", relay.root, name);
    char *data = NULL;
    size_t length;

    if (vfs_read_file(vfs_system(), path, 64u << 20, &data, &length) != 0)
        data = NULL;
    free(path);
    return data;
}

/* Of the one file in a mailbox. */
static char *read_mail(const char *mailbox)
{
    char *directory = mem_printf("%s/drop/%s/new", relay.root, mailbox);
    struct found_file found = {0};
    char *path, *data;

    vfs_system()->list(vfs_system(), directory, remember_name, &found);
    assert_int_equal(found.count, 1);
    path = mem_printf("drop/%s/new/%s", mailbox, found.name);
    data = read_file(path);
    assert_non_null(data);
    free(path);
    free(directory);
    return data;
}

#endif
