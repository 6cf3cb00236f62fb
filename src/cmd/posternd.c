/* SPDX-License-Identifier: Apache-2.0 */
/*
 * posternd: the daemon. Puts the parts together, waits for signals, and takes them apart in the order that loses nothing:
 *
 *     listeners close ─> sessions finish ─> deliveries in flight finish ─> results are in the spool ─> loops end ─> spool closes
 *
 * DIAGNOSTICS: 78 for a bad configuration, 1 for what else keeps it from starting, 0 after SIGTERM or SIGINT.
 */
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/confine.h"
#include "cmd/lookup_name.h"
#include "cmd/verdict.h"
#include "config/config.h"
#include "control/control.h"
#include "control/session_log.h"
#include "control/tracking.h"
#include "delivery/delivery.h"
#include "os/notify.h"
#include "os/privileges.h"
#include "os/random.h"
#include "queue/queue.h"
#include "session/service.h"
#include "spool/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define EXIT_CONFIGURATION 78 /* EX_CONFIG */

/* How long SIGTERM waits for transactions and deliveries under way. */
#define STOP_GRACE_MS 20000

#define LOOPS_MAX 64

struct daemon {
    const char *config_path;
    struct confinement *confinement;
    int log_fd;
    struct loop *loops[LOOPS_MAX];
    size_t loop_count;
    struct loop *queue_loop;
    struct loop *control_loop;
    struct worker_pool *disk_pool;
    struct spool *spool;
    struct queue *queue;
    struct delivery *delivery;
    struct dns *dns;
    struct tls_tickets *tickets;
    struct service *service;
    struct runtime *first_runtime; /* until the service opens */
    struct draft_store store;
    char *spool_directory;
    char *badmail_directory;
    struct tracking *tracking;
    struct session_log *session_log;
    struct control_socket control_socket;
    struct control *control;
    pthread_t main_thread;
    atomic_uint wishes; /* enum control_wish bits, of clients of the control socket */
    bool is_draining;

    pthread_mutex_t mutex; /* queue_stopped */
    pthread_cond_t changed;
    bool queue_stopped;
    bool is_misconfigured; /* a certificate or key is of no use, which only shows when it is */
};

/* ---- configuration ---- */

static void log_messages(const struct config_errors *errors, bool to_stderr)
{
    for (size_t i = 0; i < errors->count; i++) {
        const struct config_message *message = &errors->messages[i];
        struct buf text;

        buf_init(&text, CONFIG_MESSAGE_BYTES_MAX * 2);
        config_message_format(message, &text);
        if (to_stderr)
            fprintf(stderr, "%.*s\n", STR_ARG(buf_str(&text)));
        else if (message->is_warning)
            LOG_WARNING("configuration-warning", log_str("text", buf_str(&text)));
        else
            LOG_ERROR("configuration-error", log_str("text", buf_str(&text)));
        buf_release(&text);
    }
}

/* The messages are the caller's to release. */
static const struct config *load_config(struct daemon *daemon, bool starting, struct config_errors *errors)
{
    const struct config *config = NULL;

    config_errors_init(errors);
    if (config_load(confinement_vfs(daemon->confinement), daemon->config_path, NULL, &config, errors) != 0)
        config = NULL;
    log_messages(errors, starting);
    return config;
}

static void queue_settings_from(const struct config *config, struct queue_settings *settings)
{
    memset(settings, 0, sizeof(*settings));
    for (size_t i = 0; i < config->delivery.retry_count && i < QUEUE_RETRY_STEPS_MAX; i++) {
        uint64_t retry_ms = config->delivery.retry_ms[i];

        settings->retry_ms[settings->retry_count++] = retry_ms < UINT32_MAX ? (unsigned)retry_ms : UINT32_MAX;
    }
    settings->expire_ms = config->delivery.expire_ms;
    settings->report_gather_ms = 5000;
    settings->delay_notice_ms = config->delivery.delay_notice_ms;
    settings->memory_messages = config->queue.memory_messages;
}

/* After a rotation the old name has a new file: the descriptor that the logger writes to is pointed to it. */
static void reopen_log(struct daemon *daemon, const struct config *config)
{
    int fd;

    log_configure(config->log.format, config->log.level);
    if (daemon->log_fd == STDERR_FILENO || str_equal(config->log.to, STR("stderr")))
        return;
    fd = open(config->log.to.data, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0 || dup3(fd, daemon->log_fd, O_CLOEXEC) < 0)
        LOG_ERROR("log-reopen-failed", log_str("file", config->log.to), log_cstr("reason", strerrordesc_np(errno)));
    if (fd >= 0)
        close(fd);
}

/* NULL without an error where nothing is looked up. */
static int make_resolver(const struct config *config, struct dns_resolver **resolver, struct error *error)
{
    const struct dns_settings settings = lookup_name_settings(config);

    *resolver = NULL;
    if (!config->dns.is_needed && !config->dns.is_needed_for_routes)
        return 0;
    *resolver = dns_resolver_create(&settings, error);
    return *resolver ? 0 : -1;
}

/* The resolver may be NULL: what was used before stays, for sessions that began with it. */
static int use_resolver(struct daemon *daemon, const struct config *config, struct dns_resolver *resolver,
                        struct error *error)
{
    if (!resolver)
        return 0;
    LOG_INFO("names", log_cstr("resolver", config->dns.resolver.length > 0 ? config->dns.resolver.data : "system"),
             log_bool("dnssec", dns_resolver_validates(resolver)));
    return dns_use(daemon->dns, &resolver, error);
}

/* What the configuration asks for, with the directory of before if it is the same. */
static int make_runtime(struct daemon *daemon, const struct config *config, struct runtime **runtime,
                        struct error *error)
{
    struct runtime *before = service_runtime(daemon->service);
    int result = runtime_create(config, daemon->tickets, runtime, error);

    if (result == 0 && runtime_open_directory(*runtime, before, daemon->disk_pool, error) != 0) {
        runtime_release(runtime);
        result = -1;
    }
    runtime_release(&before);
    return result;
}

/* The records that the daemon keeps. */
static int configure_records(struct daemon *daemon, const struct config *config, struct error *error)
{
    return tracking_configure(daemon->tracking, &config->tracking, error) == 0
               ? session_log_configure(daemon->session_log, &config->session_log, error)
               : -1;
}

static void tell_addresses(struct daemon *daemon)
{
    struct buf addresses;

    buf_init(&addresses, LOG_LINE_BYTES_MAX);
    service_append_addresses(daemon->service, &addresses);
    control_listening(daemon->control, buf_str(&addresses));
    buf_release(&addresses);
}

/* All or nothing. */
static int apply(struct daemon *daemon, const struct config *config, struct error *error)
{
    struct dns_resolver *resolver = NULL;
    struct runtime *runtime = NULL;
    struct queue_settings settings;
    int result = -1;

    if (confinement_reaches(daemon->confinement, config, error) != 0 ||
        make_runtime(daemon, config, &runtime, error) != 0 || make_resolver(config, &resolver, error) != 0 ||
        service_apply(daemon->service, runtime, error) != 0)
        goto done;
    result = 0;
    /* Without the thread names are unknown, which grants nothing and delivers nothing. */
    if (use_resolver(daemon, config, resolver, error) != 0)
        LOG_ERROR("names-failed", log_error(error));
    resolver = NULL; /* the dns has it */
    if (configure_records(daemon, config, error) != 0)
        LOG_ERROR("records-failed", log_error(error));
    queue_settings_from(config, &settings);
    queue_set_settings(daemon->queue, &settings);
    reopen_log(daemon, config);
    tell_addresses(daemon);
done:
    dns_resolver_destroy(&resolver);
    runtime_release(&runtime);
    return result;
}

/* NULL: done. Or why not; `error` holds the words. */
static const char *try_reload(struct daemon *daemon, const struct config *config, struct error *error)
{
    if (!config)
        return "the configuration has errors; the running one is kept";
    if (!verdict_permits(config, false))
        return "it would be an open relay; the running configuration is kept";
    return apply(daemon, config, error) == 0 ? NULL : error->text;
}

/* The group stands at the socket, which an ordinary user can't give away. */
static void warn_of_group(struct daemon *daemon, const struct config *config)
{
    const struct config *before = service_config(daemon->service);

    if (!str_equal(before->control.socket_group, config->control.socket_group))
        LOG_WARNING("reload-incomplete",
                    log_cstr("reason", "control.socket-group is read at start: restart posternd for it"));
    config_release(&before);
}

static void reload(struct daemon *daemon)
{
    const uint64_t ticket = control_reload_begins(daemon->control);
    const struct config *config;
    struct config_errors messages;
    struct error error;
    const char *reason;

    notify_reloading();
    config = load_config(daemon, false, &messages);
    if (config)
        warn_of_group(daemon, config);
    /* It would open the listeners again. */
    reason = daemon->is_draining ? "the daemon is draining; restart it" : try_reload(daemon, config, &error);
    if (reason) {
        LOG_ERROR("reload-failed", log_cstr("file", daemon->config_path), log_cstr("reason", reason));
    } else {
        verdict_log(config);
        LOG_INFO("reloaded", log_cstr("file", daemon->config_path));
    }
    control_reloaded(daemon->control, ticket, reason, &messages);
    config_errors_release(&messages);
    if (config)
        config_release(&config);
    notify_state("READY=1");
}

static const struct config *current_config(void *context)
{
    return service_config(((struct daemon *)context)->service);
}

static struct runtime *current_runtime(void *context)
{
    return service_runtime(((struct daemon *)context)->service);
}

static struct directory *current_directory(void *context)
{
    struct runtime *runtime = service_runtime(((struct daemon *)context)->service);
    struct directory *directory = directory_retain(runtime->directory);

    runtime_release(&runtime);
    return directory;
}

/* ---- recovery ---- */

static void on_message(void *context, spool_id id, struct str envelope, uint64_t body_bytes)
{
    queue_recover_message(((struct daemon *)context)->queue, id, envelope, body_bytes);
}

static void on_result(void *context, spool_id id, struct str payload)
{
    queue_recover_result(((struct daemon *)context)->queue, id, payload);
}

static void on_damage(void *context, const char *where, const char *what)
{
    (void)context;
    LOG_ERROR("spool-damage", log_cstr("where", where), log_cstr("what", what));
}

/* On a commit thread: sessions of this batch can go on. */
static void on_batch_done(void *context)
{
    struct daemon *daemon = context;

    for (size_t i = 0; i < daemon->loop_count; i++)
        loop_notify(daemon->loops[i]);
}

static int open_spool(struct daemon *daemon, struct error *error)
{
    const struct spool_recovery recovery = {
        .context = daemon, .message = on_message, .result = on_result, .damage = on_damage};
    struct spool_statistics statistics;

    if (spool_open(daemon->spool, &recovery, error) != 0)
        return -1;
    spool_get_statistics(daemon->spool, &statistics);
    LOG_INFO("spool-open", log_cstr("directory", daemon->spool_directory),
             log_u64("messages", statistics.live_messages), log_u64("segments", statistics.segments));
    queue_recovery_done(daemon->queue);
    return 0;
}

/* ---- start ---- */

static int create_loops(struct daemon *daemon, const struct config *config, struct error *error)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t count = config->loops ? config->loops : (uint64_t)(cores > 0 ? cores : 1);
    char name[16];

    if (count > LOOPS_MAX)
        count = LOOPS_MAX;
    for (; daemon->loop_count < count; daemon->loop_count++) {
        snprintf(name, sizeof(name), "loop-%zu", daemon->loop_count);
        if (loop_create(&daemon->loops[daemon->loop_count], name, error) != 0)
            return -1;
    }
    if (loop_create(&daemon->control_loop, "control", error) != 0)
        return -1;
    return loop_create(&daemon->queue_loop, "queue", error);
}

/*
 * Sockets and keys first, since they may need root; then the user, whose files everything else is; then the sandbox, which all threads inherit, and none may
 * be there before it: Landlock and capabilities are a thread's own, and a thread outside, in the same memory, would be the way out. So the log's, too, starts here.
 */
static int bind_and_drop(struct daemon *daemon, const struct config *config, struct error *error)
{
    const char *user = privileges_are_root() ? config->user.data : NULL;

    daemon->tickets = tls_tickets_create();
    daemon->service = service_create(daemon->loops, daemon->loop_count);
    if (runtime_create(config, daemon->tickets, &daemon->first_runtime, error) != 0) {
        daemon->is_misconfigured = true;
        return -1;
    }
    if (service_apply(daemon->service, daemon->first_runtime, error) != 0)
        return -1;
    if (privileges_make_directory(config->data_dir.data, user, error) != 0 ||
        privileges_make_directory(config->run_dir.data, user, error) != 0)
        return -1;
    if (config->session_log.format != CONFIG_SESSION_LOG_NONE &&
        privileges_make_directory(config->session_log.directory.data, user, error) != 0)
        return -1;
    if (control_open_socket(config, user, &daemon->control_socket, error) != 0)
        return -1;
    if ((user && privileges_become(user, error) != 0) || confinement_apply(daemon->confinement, config, error) != 0)
        return -1;
    log_start(daemon->log_fd, config->log.format, config->log.level);
    return 0;
}

static int open_log(struct daemon *daemon, const struct config *config, struct error *error)
{
    daemon->log_fd = STDERR_FILENO;
    if (!str_equal(config->log.to, STR("stderr"))) {
        daemon->log_fd = open(config->log.to.data, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
        if (daemon->log_fd < 0)
            return error_set_errno(error, errno, "log file %s", config->log.to.data);
    }
    log_use(daemon->log_fd, config->log.format, config->log.level);
    return 0;
}

/* On the control's loop. */
static void on_wish(void *context, enum control_wish wish)
{
    struct daemon *daemon = context;

    atomic_fetch_or(&daemon->wishes, wish);
    pthread_kill(daemon->main_thread, SIGUSR1);
}

static void create_control(struct daemon *daemon, const struct config *config)
{
    const struct control_options options = {.socket = &daemon->control_socket,
                                            .loop = daemon->control_loop,
                                            .queue = daemon->queue,
                                            .spool = daemon->spool,
                                            .delivery = daemon->delivery,
                                            .service = daemon->service,
                                            .tracking = daemon->tracking,
                                            .pool = daemon->disk_pool,
                                            .data_directory = config->data_dir.data,
                                            .config_path = daemon->config_path,
                                            .ask = on_wish,
                                            .context = daemon};

    daemon->main_thread = pthread_self();
    daemon->control = control_create(&options);
}

static int create_parts(struct daemon *daemon, const struct config *config, struct error *error)
{
    struct spool_options spool_options = {
        .vfs = vfs_system(),
        .shard_count = (unsigned)config->spool.shards,
        .segment_bytes = config->spool.segment_bytes,
        .reserve_bytes = config->spool.reserve_bytes,
        .batch_done = on_batch_done,
        .context = daemon,
    };
    struct delivery_options delivery_options = {
        .loops = daemon->loops,
        .loop_count = daemon->loop_count,
        .owner = daemon->queue_loop,
        .vfs = vfs_system(),
        .config = current_config,
        .runtime = current_runtime,
        .directory = current_directory,
        .config_context = daemon,
        .data_directory = config->data_dir.data,
    };
    struct queue_settings settings;
    char *in_hand_path;

    if (worker_pool_create(&daemon->disk_pool, "disk", (unsigned)config->delivery.workers, error) != 0 ||
        runtime_open_directory(daemon->first_runtime, NULL, daemon->disk_pool, error) != 0)
        return -1;
    daemon->dns = dns_create();
    daemon->tracking = tracking_create(vfs_system(), config->data_dir.data);
    daemon->session_log = session_log_create(vfs_system());
    if (configure_records(daemon, config, error) != 0)
        return -1;
    delivery_options.events = tracking_sink(daemon->tracking);
    daemon->spool_directory = mem_printf("%s/spool", config->data_dir.data);
    daemon->badmail_directory = mem_printf("%s/badmail", config->data_dir.data);
    spool_options.directory = daemon->spool_directory;
    spool_options.badmail_directory = daemon->badmail_directory;
    daemon->spool = spool_create(&spool_options);
    delivery_options.spool = daemon->spool;
    delivery_options.disk_pool = daemon->disk_pool;
    delivery_options.dns = daemon->dns;
    if (delivery_create(&daemon->delivery, &delivery_options, error) != 0)
        return -1;
    queue_settings_from(config, &settings);
    if (queue_create(&daemon->queue, daemon->queue_loop, daemon->spool, &settings, delivery_hooks(daemon->delivery)) !=
        0)
        return error_set(error, "could not make the queue");
    in_hand_path = mem_printf("%.*s/in-hand", STR_ARG(config->data_dir));
    queue_set_resources(daemon->queue, daemon->disk_pool, in_hand_path);
    free(in_hand_path);
    queue_catch_crashes();
    delivery_set_queue(daemon->delivery, daemon->queue);
    daemon->store = (struct draft_store){.spool = daemon->spool,
                                         .queue = daemon->queue,
                                         .disk_pool = daemon->disk_pool,
                                         .events = tracking_sink(daemon->tracking),
                                         .command_log = session_log_sink(daemon->session_log)};
    create_control(daemon, config);
    return 0;
}

static int start_names(struct daemon *daemon, const struct config *config, struct error *error)
{
    struct dns_resolver *resolver;

    return make_resolver(config, &resolver, error) != 0 ? -1 : use_resolver(daemon, config, resolver, error);
}

static int start_loops(struct daemon *daemon, struct error *error)
{
    for (size_t i = 0; i < daemon->loop_count; i++)
        if (loop_start(daemon->loops[i], error) != 0)
            return -1;
    if (loop_start(daemon->control_loop, error) != 0)
        return -1;
    return loop_start(daemon->queue_loop, error);
}

static int start(struct daemon *daemon, const struct config *config, struct error *error)
{
    struct buf addresses;

    if (create_loops(daemon, config, error) != 0 || open_log(daemon, config, error) != 0 ||
        bind_and_drop(daemon, config, error) != 0 || create_parts(daemon, config, error) != 0 ||
        open_spool(daemon, error) != 0 || start_names(daemon, config, error) != 0 || start_loops(daemon, error) != 0)
        return -1;
    verdict_log(config);
    service_open(daemon->service, &daemon->store, daemon->dns);
    runtime_release(&daemon->first_runtime);
    tell_addresses(daemon);
    control_start(daemon->control);
    buf_init(&addresses, LOG_LINE_BYTES_MAX);
    service_append_addresses(daemon->service, &addresses);
    LOG_INFO("ready", log_cstr("version", POSTERN_VERSION), log_str("addresses", buf_str(&addresses)),
             log_str("hostname", config->hostname), log_u64("loops", daemon->loop_count),
             log_u64("fibers_max", fiber_count_max()));
    buf_release(&addresses);
    notify_state("READY=1");
    return 0;
}

/* ---- stop ---- */

static void on_queue_stopped(void *context)
{
    struct daemon *daemon = context;

    pthread_mutex_lock(&daemon->mutex);
    daemon->queue_stopped = true;
    pthread_cond_broadcast(&daemon->changed);
    pthread_mutex_unlock(&daemon->mutex);
}

/* false: deliveries take too long, and are abandoned. What they have not finished stays in the spool. */
static bool wait_for_queue(struct daemon *daemon)
{
    bool stopped;
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += STOP_GRACE_MS / 1000;
    pthread_mutex_lock(&daemon->mutex);
    while (!daemon->queue_stopped && pthread_cond_timedwait(&daemon->changed, &daemon->mutex, &until) == 0) {
    }
    stopped = daemon->queue_stopped;
    pthread_mutex_unlock(&daemon->mutex);
    return stopped;
}

static void drain(struct daemon *daemon)
{
    if (!daemon->is_draining) {
        LOG_INFO("draining", log_cstr("reason", "postern drain"));
        daemon->is_draining = true;
        service_stop(daemon->service);
    }
    control_draining(daemon->control);
}

static bool stop(struct daemon *daemon)
{
    LOG_INFO("stopping", log_u64("fibers", fiber_count()));
    notify_state("STOPPING=1");
    control_stop(daemon->control);
    if (!daemon->is_draining)
        service_stop(daemon->service);
    service_wait(daemon->service, STOP_GRACE_MS);
    delivery_stop(daemon->delivery);
    queue_stop(daemon->queue, on_queue_stopped, daemon);
    return wait_for_queue(daemon);
}

static void end_loops(struct daemon *daemon)
{
    dns_destroy(&daemon->dns); /* lookups of sessions that have ended go home to their loops */
    for (size_t i = 0; i < daemon->loop_count; i++) {
        loop_stop(daemon->loops[i]);
        loop_join(daemon->loops[i]);
    }
    if (daemon->control_loop) {
        loop_stop(daemon->control_loop);
        loop_join(daemon->control_loop);
    }
    if (daemon->queue_loop) {
        loop_stop(daemon->queue_loop);
        loop_join(daemon->queue_loop);
    }
}

/* Nothing runs after it but the main thread. Loops end last, so that what spool and workers still have to say is heard; but abandoned
 * fibers may use those, and have to end first. */
static void end_threads(struct daemon *daemon, bool in_order)
{
    if (!in_order)
        end_loops(daemon);
    spool_close(&daemon->spool);
    if (daemon->service)
        service_forget(daemon->service);
    runtime_release(&daemon->first_runtime);
    worker_pool_destroy(&daemon->disk_pool);
    if (in_order)
        end_loops(daemon);
}

/* Also after a start that failed half way. */
static void tear_down(struct daemon *daemon)
{
    for (size_t i = 0; i < daemon->loop_count; i++)
        loop_destroy(&daemon->loops[i]);
    loop_destroy(&daemon->queue_loop);
    loop_destroy(&daemon->control_loop);
    control_destroy(&daemon->control);
    queue_destroy(&daemon->queue);
    delivery_destroy(&daemon->delivery);
    service_destroy(&daemon->service);
    tls_tickets_destroy(&daemon->tickets);
    free(daemon->spool_directory);
    free(daemon->badmail_directory);
}

static void fulfil(struct daemon *daemon, unsigned wishes)
{
    if (wishes & CONTROL_WISH_RELOAD)
        reload(daemon);
    if (wishes & CONTROL_WISH_DRAIN)
        drain(daemon);
}

static void run_until_stopped(struct daemon *daemon, const sigset_t *signals)
{
    for (;;) {
        int signal_number = sigwaitinfo(signals, NULL);

        if (signal_number == SIGHUP)
            reload(daemon);
        else if (signal_number == SIGUSR1)
            fulfil(daemon, atomic_exchange(&daemon->wishes, 0));
        else if (signal_number == SIGTERM || signal_number == SIGINT)
            return;
    }
}

static void block_signals(sigset_t *signals)
{
    sigemptyset(signals);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGINT);
    sigaddset(signals, SIGHUP);
    sigaddset(signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void prepare_process(struct daemon *daemon)
{
    unsigned char key[16];
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&daemon->changed, &attributes);
    pthread_condattr_destroy(&attributes);

    /* Before anything is put into a table: the configuration has some. */
    random_bytes(key, sizeof(key));
    hash_set_key(key);
    privileges_raise_descriptor_limit();
    /* libuv takes io_uring where it finds it, for which the sandbox has no place: refused afterwards, it would end the process. */
    setenv("UV_USE_IO_URING", "0", 1);
    /* Arenas that grow in larger steps cost fewer system calls. */
    mallopt(M_TOP_PAD, 1 << 20);
}

static int run(struct daemon *daemon)
{
    const struct config *config;
    struct config_errors messages;
    struct error error = {0};
    sigset_t signals;
    bool in_order = true;
    int result = 1;

    prepare_process(daemon);
    daemon->confinement = confinement_create();
    config = load_config(daemon, true, &messages);
    config_errors_release(&messages);
    if (config && !verdict_permits(config, true))
        config_release(&config);
    if (!config) {
        fprintf(stderr, "posternd: %s: not started\n", daemon->config_path);
        confinement_destroy(&daemon->confinement);
        return EXIT_CONFIGURATION;
    }
    block_signals(&signals);
    if (start(daemon, config, &error) == 0) {
        run_until_stopped(daemon, &signals);
        in_order = stop(daemon);
        result = 0;
    } else {
        LOG_ERROR("start-failed", log_error(&error));
        result = daemon->is_misconfigured ? EXIT_CONFIGURATION : 1;
    }
    end_threads(daemon, in_order);
    /* Nobody tells them anything any more. */
    tracking_destroy(&daemon->tracking);
    session_log_destroy(&daemon->session_log);
    control_close_socket(&daemon->control_socket);
    if (in_order)
        tear_down(daemon);
    config_release(&config);
    confinement_destroy(&daemon->confinement);
    if (result == 0)
        LOG_INFO("stopped", log_bool("in_order", in_order));
    log_stop();
    if (daemon->log_fd > STDERR_FILENO)
        close(daemon->log_fd);
    if (!in_order)
        _exit(result); /* abandoned fibers still hold what tear_down would free */
    return result;
}

int main(int argc, char **argv)
{
    static struct daemon daemon = {.config_path = CONFIG_PATH_DEFAULT,
                                   .mutex = PTHREAD_MUTEX_INITIALIZER,
                                   .control_socket = {.fd = -1, .lock_fd = -1}};
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'V'},
                                            {0}};
    int option;

    while ((option = getopt_long(argc, argv, "c:hV", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            daemon.config_path = optarg;
            break;
        case 'h':
            puts("usage: posternd [-c FILE]\n\nThe mail relay daemon, in the foreground. SIGHUP reloads, SIGTERM "
                 "stops; see posternd(8).");
            return 0;
        case 'V':
            puts("posternd " POSTERN_VERSION);
            return 0;
        default:
            return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "posternd: unexpected argument: %s\n", argv[optind]);
        return 2;
    }
    return run(&daemon);
}
