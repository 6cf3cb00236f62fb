/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One session's authentication, between a loop, the directory's threads and the brakes. What breaks here tells guessers who exists, blocks a loop for as long
 * as a directory is down, lets a locked-out guesser go on, or has a thread write into a session that is gone.
 *
 * The directory is made up: alice's password is "pencil"; a question about "later" gets no answer, one about "slow" waits until it is let go, "ghost" has
 * a password and is nobody.
 */
#include "session/auth.h"

#include "../net/sockets.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/clock.h"
#include "session/runtime.h"

#include <gsasl.h>
#include <semaphore.h>
#include <string.h>
#include <sys/mman.h>

#define PASSWORD   "pencil"
#define ITERATIONS 4096

/* ---- the directory ---- */

struct directory {
    struct worker_pool *pool;
    bool has_scram;
    atomic_uint questions;
    sem_t gate; /* what "slow" waits for */
    struct directory_scram_keys keys;
};

struct worker_pool *directory_pool(struct directory *directory)
{
    return directory->pool;
}

bool directory_has_scram(const struct directory *directory)
{
    return directory->has_scram;
}

static bool is_alice(struct str name)
{
    return str_equal_nocase(name, STR("alice")) || str_equal_nocase(name, STR("alice@contoso.test"));
}

static enum directory_status ask(struct directory *directory, struct str name)
{
    CHECK(!loop_current());
    atomic_fetch_add(&directory->questions, 1);
    if (str_equal(name, STR("slow")))
        sem_wait(&directory->gate);
    return str_equal(name, STR("later")) ? DIRECTORY_UNAVAILABLE : DIRECTORY_YES;
}

enum directory_status directory_find_user(struct directory *directory, struct str name, struct directory_user **user)
{
    static const struct str groups[] = {STR_INIT("staff")};

    if (ask(directory, name) != DIRECTORY_YES)
        return DIRECTORY_UNAVAILABLE;
    if (!is_alice(name))
        return DIRECTORY_NO;
    *user = mem_alloc(sizeof(**user));
    **user = (struct directory_user){.name = STR("alice"), .groups = groups, .group_count = 1};
    return DIRECTORY_YES;
}

enum directory_status directory_check_password(struct directory *directory, struct str name, struct str password)
{
    if (ask(directory, name) != DIRECTORY_YES)
        return DIRECTORY_UNAVAILABLE;
    if (!is_alice(name) && !str_equal(name, STR("ghost")) && !str_equal(name, STR("slow")))
        return DIRECTORY_NO;
    return str_equal(password, STR(PASSWORD)) ? DIRECTORY_YES : DIRECTORY_NO;
}

enum directory_status directory_find_scram_keys(struct directory *directory, struct str name,
                                                struct directory_scram_keys *keys)
{
    if (ask(directory, name) != DIRECTORY_YES)
        return DIRECTORY_UNAVAILABLE;
    *keys = directory->keys;
    return is_alice(name) ? DIRECTORY_YES : DIRECTORY_NO;
}

void directory_fake_scram_keys(struct directory *directory, struct str name, struct directory_scram_keys *keys)
{
    (void)name;
    *keys = directory->keys;
    memset(keys->stored_key, 1, sizeof(keys->stored_key));
}

enum directory_status directory_find_certificate(struct directory *directory, const unsigned char sha256[32],
                                                 struct directory_user **user)
{
    (void)directory;
    (void)sha256;
    (void)user;
    return DIRECTORY_NO;
}

void directory_user_free(struct directory_user **user)
{
    mem_free(user);
}

/* What the runtime and the sessions need for other things. */
struct directory *directory_create(const struct config *config, struct error *error)
{
    (void)config;
    error_set(error, "made up");
    return NULL;
}

bool directory_matches(const struct directory *directory, const struct config *config)
{
    return directory && config;
}

struct directory *directory_retain(struct directory *directory)
{
    return directory;
}

void directory_release(struct directory **directory)
{
    *directory = NULL;
}

static void directory_open(struct directory *directory)
{
    char salted[32], client[32];

    *directory = (struct directory){.has_scram = true, .keys = {.iterations = ITERATIONS, .salt_bytes = 16}};
    assert_int_equal(sem_init(&directory->gate, 0, 0), 0);
    assert_int_equal(worker_pool_create(&directory->pool, "directory", 2, NULL), 0);
    assert_int_equal(gsasl_scram_secrets_from_password(
                         GSASL_HASH_SHA256, PASSWORD, ITERATIONS, (const char *)directory->keys.salt, 16, salted,
                         client, (char *)directory->keys.server_key, (char *)directory->keys.stored_key),
                     GSASL_OK);
}

/* ---- a session ---- */

static const char configuration[] =
    "hostname: mx.contoso.test\n"
    "domains: { contoso.test: { type: local, default: true } }\n"
    "directory: { timeout: 200ms }\n"
    "auth-brakes: { failures-per-client: 3, failures-per-network: 100, failures-per-user: 4, window: 1h, lock: 1h }\n"
    "servers:\n"
    "  open: { listen: ['127.0.0.1:0'],\n"
    "          auth: { mechanisms: [PLAIN, LOGIN, SCRAM-SHA-256, SCRAM-SHA-256-PLUS, EXTERNAL], require-tls: false } "
    "}\n"
    "  safe: { listen: ['127.0.0.1:0'], auth: { mechanisms: [PLAIN, SCRAM-SHA-256] } }\n"
    "  keyless: { listen: ['127.0.0.1:0'],\n"
    "             auth: { mechanisms: [PLAIN, GSSAPI], require-tls: false, keytab: /nonexistent/keytab } }\n"
    "  none: { listen: ['127.0.0.1:0'] }\n";

struct fixture {
    struct directory directory;
    struct brakes *brakes;
    struct runtime runtime;
    int log_fd;
    /* the scenario's */
    struct conn *conn;
    int peer_fd;
    struct auth *auth;
    struct buf challenge;
    struct smtp_reply reply;
};

static void fixture_open(struct fixture *fixture)
{
    struct config_errors errors;

    *fixture = (struct fixture){0};
    fixture->log_fd = memfd_create("log", MFD_CLOEXEC);
    log_start(fixture->log_fd, LOG_FORMAT_TEXT, LOG_LEVEL_DEBUG);
    directory_open(&fixture->directory);
    fixture->brakes = brakes_create();
    config_errors_init(&errors);
    assert_int_equal(config_load_text(vfs_system(), "postern.yaml", str_from_cstr(configuration), NULL,
                                      &fixture->runtime.config, &errors),
                     0);
    config_errors_release(&errors);
    fixture->runtime.directory = &fixture->directory;
    fixture->runtime.auth = auth_setup_create(fixture->runtime.config);
    buf_init(&fixture->challenge, SASL_MESSAGE_BYTES_MAX);
}

/* As the daemon ends: the directory's threads, while the loops still hear of what they have done, and then what they may have looked at. */
static void directory_close(struct fixture *fixture)
{
    for (unsigned i = 0; i < 10; i++)
        sem_post(&fixture->directory.gate);
    worker_pool_destroy(&fixture->directory.pool);
}

static void fixture_close(struct fixture *fixture)
{
    worker_pool_destroy(&fixture->directory.pool);
    auth_setup_destroy(&fixture->runtime.auth);
    config_release(&fixture->runtime.config);
    brakes_destroy(&fixture->brakes);
    buf_release(&fixture->challenge);
    sem_destroy(&fixture->directory.gate);
    log_stop();
    close(fixture->log_fd);
}

static void session_open(struct fixture *fixture, const char *server)
{
    struct net_address peer;
    struct auth_options options = {.runtime = &fixture->runtime,
                                   .server = config_find_server(fixture->runtime.config, str_from_cstr(server)),
                                   .brakes = fixture->brakes};
    int ours;

    CHECK(options.server);
    socket_pair(&ours, &fixture->peer_fd);
    peer = socket_address(fixture->peer_fd);
    fixture->conn = conn_create(ours, &peer);
    options.conn = fixture->conn;
    fixture->auth = auth_create(&options);
}

static void session_close(struct fixture *fixture)
{
    auth_destroy(&fixture->auth);
    CHECK(!fixture->auth);
    conn_close(&fixture->conn);
    close(fixture->peer_fd);
}

static enum smtp_auth_status begin(struct fixture *fixture, const char *mechanism, struct str initial)
{
    fixture->reply = (struct smtp_reply){0};
    buf_clear(&fixture->challenge);
    return auth_begin(fixture->auth, str_from_cstr(mechanism), initial, &fixture->challenge, &fixture->reply);
}

static enum smtp_auth_status go_on(struct fixture *fixture, struct str response)
{
    buf_clear(&fixture->challenge);
    return auth_continue(fixture->auth, response, &fixture->challenge, &fixture->reply);
}

static bool reply_is(const struct fixture *fixture, int code, const char *enhanced, const char *text)
{
    const struct smtp_reply *reply = &fixture->reply;

    return reply->code == code && strcmp(reply->enhanced, enhanced) == 0 && strcmp(reply->text, text) == 0;
}

#define IS_FAILURE(fixture) reply_is(fixture, 535, "5.7.8", "Authentication failed")
#define IS_LATER(fixture)   reply_is(fixture, 454, "4.7.0", "Temporary authentication failure")
#define IS_LOCKED(fixture)                                                                                             \
    reply_is(fixture, 421, "4.7.0", "mx.contoso.test Too many failed authentications, try again later")

/* What has been logged; frees nothing, one call a test. */
static const char *log_text(struct fixture *fixture)
{
    static char text[65536];
    ssize_t count;

    log_stop();
    count = pread(fixture->log_fd, text, sizeof(text) - 1, 0);
    assert_true(count >= 0);
    text[count] = '\0';
    assert_null(strstr(text, PASSWORD));
    return text;
}

/* ---- scenarios ---- */

static void scenario_success(void *argument)
{
    struct fixture *fixture = argument;
    const struct auth_identity *identity;

    session_open(fixture, "open");
    CHECK(!auth_identity(fixture->auth));
    CHECK(begin(fixture, "PLAIN", STR("\0alice\0" PASSWORD)) == SMTP_AUTH_DONE);
    CHECK(reply_is(fixture, 235, "2.7.0", "Authentication successful"));
    identity = auth_identity(fixture->auth);
    CHECK(identity && str_equal(identity->user->name, STR("alice")) && identity->mechanism == SASL_PLAIN);
    CHECK(!identity->over_tls && identity->user->group_count == 1);
    auth_forget(fixture->auth);
    CHECK(!auth_identity(fixture->auth));

    CHECK(begin(fixture, "login", (struct str){0}) == SMTP_AUTH_CONTINUE);
    CHECK(str_equal(buf_str(&fixture->challenge), STR("Username:")));
    CHECK(go_on(fixture, STR("Alice@Contoso.Test")) == SMTP_AUTH_CONTINUE);
    CHECK(go_on(fixture, STR(PASSWORD)) == SMTP_AUTH_DONE);
    CHECK(str_equal(auth_identity(fixture->auth)->user->name, STR("alice")));
    session_close(fixture);
}

static void test_success(void **state)
{
    struct fixture fixture;
    const char *log;

    (void)state;
    fixture_open(&fixture);
    harness_run(scenario_success, &fixture);
    log = log_text(&fixture);
    assert_non_null(strstr(log, " info authenticated server=open client=127.0.0.1 mechanism=PLAIN user=alice tls="));
    assert_non_null(strstr(log, " info authenticated server=open client=127.0.0.1 mechanism=LOGIN user=alice tls="));
    fixture_close(&fixture);
}

/* Neither the reply nor the time tells them apart. */
static void scenario_failure(void *argument)
{
    static const struct str attempts[] = {STR_INIT("\0alice\0wrong"), STR_INIT("\0nobody\0wrong"),
                                          STR_INIT("\0ghost\0" PASSWORD)};
    struct fixture *fixture = argument;

    for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        uint64_t started_at_ms = loop_now_ms();

        /* Each from its own brakes: the delay grows with the failures of a client. */
        brakes_destroy(&fixture->brakes);
        fixture->brakes = brakes_create();
        session_open(fixture, "open");
        CHECK(begin(fixture, "PLAIN", attempts[i]) == SMTP_AUTH_FAILED);
        CHECK(IS_FAILURE(fixture) && !auth_identity(fixture->auth));
        CHECK(loop_now_ms() - started_at_ms >= BRAKES_DELAY_MS_MIN);
        CHECK(brakes_count(fixture->brakes) > 0);
        session_close(fixture);
    }
}

static void test_failure(void **state)
{
    struct fixture fixture;
    const char *log;

    (void)state;
    fixture_open(&fixture);
    harness_run(scenario_failure, &fixture);
    log = log_text(&fixture);
    assert_non_null(strstr(
        log, " warning auth-failed server=open client=127.0.0.1 mechanism=PLAIN user=alice reason=credentials\n"));
    assert_non_null(strstr(
        log, " warning auth-failed server=open client=127.0.0.1 mechanism=PLAIN user=nobody reason=credentials\n"));
    assert_non_null(strstr(
        log, " warning auth-failed server=open client=127.0.0.1 mechanism=PLAIN user=ghost reason=no-such-user\n"));
    fixture_close(&fixture);
}

/* People type their password where the name belongs. */
static void scenario_password_as_name(void *argument)
{
    struct fixture *fixture = argument;

    session_open(fixture, "open");
    CHECK(begin(fixture, "PLAIN", STR("\0My secret! no name\0x")) == SMTP_AUTH_FAILED);
    CHECK(begin(fixture, "PLAIN", STR("\0S3cret#\0x")) == SMTP_AUTH_FAILED);
    session_close(fixture);
}

static void test_password_as_name(void **state)
{
    struct fixture fixture;
    const char *log;

    (void)state;
    fixture_open(&fixture);
    harness_run(scenario_password_as_name, &fixture);
    log = log_text(&fixture);
    assert_null(strstr(log, "ecret"));
    assert_non_null(strstr(log, " mechanism=PLAIN user=\"\" reason=credentials\n"));
    fixture_close(&fixture);
}

static void scenario_unavailable(void *argument)
{
    struct fixture *fixture = argument;

    session_open(fixture, "open");
    CHECK(begin(fixture, "PLAIN", STR("\0later\0" PASSWORD)) == SMTP_AUTH_FAILED && IS_LATER(fixture));
    CHECK(begin(fixture, "SCRAM-SHA-256", STR("n,,n=later,r=nonce")) == SMTP_AUTH_FAILED && IS_LATER(fixture));
    /* No fault of the client's. */
    CHECK(brakes_count(fixture->brakes) == 0);
    CHECK(begin(fixture, "PLAIN", STR("\0alice\0" PASSWORD)) == SMTP_AUTH_DONE);
    session_close(fixture);
}

static void test_unavailable(void **state)
{
    struct fixture fixture;
    const char *log;

    (void)state;
    fixture_open(&fixture);
    harness_run(scenario_unavailable, &fixture);
    log = log_text(&fixture);
    assert_non_null(strstr(log, " warning auth-unavailable server=open client=127.0.0.1 mechanism=PLAIN "));
    assert_null(strstr(log, "auth-failed"));
    fixture_close(&fixture);
}

/* The deadline passes while a thread is still at it; the session ends, and then the thread has its answer. */
static void scenario_slow(void *argument)
{
    struct fixture *fixture = argument;
    uint64_t started_at_ms = loop_now_ms();

    session_open(fixture, "open");
    CHECK(begin(fixture, "PLAIN", STR("\0slow\0" PASSWORD)) == SMTP_AUTH_FAILED && IS_LATER(fixture));
    CHECK(loop_now_ms() - started_at_ms >= 200);
    /* Others are served meanwhile. */
    CHECK(begin(fixture, "PLAIN", STR("\0alice\0" PASSWORD)) == SMTP_AUTH_DONE);
    session_close(fixture);
    directory_close(fixture);
}

static void test_slow(void **state)
{
    struct fixture fixture;

    (void)state;
    fixture_open(&fixture);
    harness_run(scenario_slow, &fixture);
    fixture_close(&fixture);
}

/* With all threads busy, jobs wait, and those whose sessions have given up are not begun any more. */
static void scenario_busy(void *argument)
{
    struct fixture *fixture = argument;
    unsigned asked;

    session_open(fixture, "open");
    for (unsigned i = 0; i < 3; i++) {
        CHECK(begin(fixture, "PLAIN", STR("\0slow\0" PASSWORD)) == SMTP_AUTH_FAILED && IS_LATER(fixture));
    }
    asked = atomic_load(&fixture->directory.questions);
    CHECK(asked == 2);
    for (unsigned i = 0; i < 10; i++)
        sem_post(&fixture->directory.gate);
    CHECK(begin(fixture, "PLAIN", STR("\0alice\0" PASSWORD)) == SMTP_AUTH_DONE);
    session_close(fixture);
}

static void test_busy(void **state)
{
    struct fixture fixture;

    (void)state;
    fixture_open(&fixture);
    harness_run(scenario_busy, &fixture);
    fixture_close(&fixture);
}

struct cancelled {
    struct fixture *fixture;
    struct fiber *fiber;
    struct harness_latch ended;
};

static void cancelled_main(void *argument)
{
    struct cancelled *cancelled = argument;

    cancelled->fiber = fiber_current();
    session_open(cancelled->fixture, "open");
    CHECK(begin(cancelled->fixture, "PLAIN", STR("\0slow\0" PASSWORD)) == SMTP_AUTH_FAILED);
    session_close(cancelled->fixture);
    harness_arrive(&cancelled->ended);
}

/* The daemon ends in the middle of it. */
static void scenario_cancelled(void *argument)
{
    struct fixture *fixture = argument;
    struct cancelled cancelled = {.fixture = fixture};

    CHECK(fiber_start(cancelled_main, &cancelled) == 0);
    while (atomic_load(&fixture->directory.questions) == 0)
        fiber_yield();
    fiber_cancel(cancelled.fiber);
    harness_wait(&cancelled.ended, 1);
    directory_close(fixture);
}

static void test_cancelled(void **state)
{
    struct fixture fixture;

    (void)state;
    fixture_open(&fixture);
    harness_run(scenario_cancelled, &fixture);
    fixture_close(&fixture);
}

/* Three failures are let through; then nobody looks at passwords any more, not even at the right one. */
static void scenario_locked(void *argument)
{
    struct fixture *fixture = argument;
    unsigned asked;

    session_open(fixture, "open");
    for (unsigned i = 0; i < 3; i++)
        CHECK(begin(fixture, "PLAIN", STR("\0alice\0wrong")) == SMTP_AUTH_FAILED && IS_FAILURE(fixture));
    asked = atomic_load(&fixture->directory.questions);
    CHECK(begin(fixture, "PLAIN", STR("\0alice\0" PASSWORD)) == SMTP_AUTH_CLOSE && IS_LOCKED(fixture));
    CHECK(begin(fixture, "SCRAM-SHA-256", (struct str){0}) == SMTP_AUTH_CLOSE && IS_LOCKED(fixture));
    CHECK(atomic_load(&fixture->directory.questions) == asked);
    session_close(fixture);
}

static void test_locked(void **state)
{
    struct fixture fixture;
    const char *log, *first;

    (void)state;
    fixture_open(&fixture);
    harness_run(scenario_locked, &fixture);
    log = log_text(&fixture);
    first = strstr(log, " warning auth-locked server=open client=127.0.0.1 mechanism=PLAIN user=alice ");
    assert_non_null(first);
    assert_null(strstr(first + strlen(" warning auth-locked"), " auth-locked "));
    assert_non_null(strstr(log, "reason=locked\n"));
    fixture_close(&fixture);
}

/* A user's name is locked from wherever it was tried, with and without its domain, by every mechanism. */
static void scenario_locked_user(void *argument)
{
    static const char *const names[] = {"bob", "BOB", "bob@contoso.test", "Bob@Contoso.TEST"};
    struct fixture *fixture = argument;
    unsigned asked;

    for (unsigned i = 0; i < 4; i++) {
        struct net_address client;
        char text[20];
        bool locks;

        snprintf(text, sizeof(text), "192.0.2.%u", i);
        CHECK(net_address_parse_ip(str_from_cstr(text), &client));
        brakes_failed(fixture->brakes, &fixture->runtime.config->brakes, &client, STR("bob@contoso.test"),
                      clock_monotonic_ms(), &locks);
    }
    asked = atomic_load(&fixture->directory.questions);
    for (unsigned i = 0; i < 4; i++) {
        char message[100];
        int length;

        session_open(fixture, "open");
        length = snprintf(message, sizeof(message), "%c%s%c" PASSWORD, '\0', names[i], '\0');
        CHECK(begin(fixture, "PLAIN", str_make(message, (size_t)length)) == SMTP_AUTH_CLOSE && IS_LOCKED(fixture));
        length = snprintf(message, sizeof(message), "n,,n=%s,r=nonce", names[i]);
        CHECK(begin(fixture, "SCRAM-SHA-256", str_make(message, (size_t)length)) == SMTP_AUTH_CLOSE);
        session_close(fixture);
    }
    CHECK(atomic_load(&fixture->directory.questions) == asked);
}

static void test_locked_user(void **state)
{
    struct fixture fixture;

    (void)state;
    fixture_open(&fixture);
    harness_run(scenario_locked_user, &fixture);
    fixture_close(&fixture);
}

/* ---- what is offered ---- */

static void scenario_offered(void *argument)
{
    struct fixture *fixture = argument;

    /* Without TLS nothing can be bound to it, and no certificate shown in it. */
    session_open(fixture, "open");
    CHECK(strcmp(auth_mechanisms(fixture->auth), "SCRAM-SHA-256 PLAIN LOGIN") == 0);
    CHECK(begin(fixture, "GSSAPI", (struct str){0}) == SMTP_AUTH_FAILED);
    CHECK(reply_is(fixture, 504, "5.5.4", "Unrecognized authentication type"));
    CHECK(begin(fixture, "CRAM-MD5", (struct str){0}) == SMTP_AUTH_FAILED && fixture->reply.code == 504);
    CHECK(begin(fixture, "EXTERNAL", (struct str){0}) == SMTP_AUTH_FAILED && fixture->reply.code == 538);
    session_close(fixture);

    session_open(fixture, "safe");
    CHECK(strcmp(auth_mechanisms(fixture->auth), "") == 0);
    CHECK(begin(fixture, "PLAIN", STR("\0alice\0" PASSWORD)) == SMTP_AUTH_FAILED);
    CHECK(reply_is(fixture, 538, "5.7.11", "Encryption required for requested authentication mechanism"));
    CHECK(begin(fixture, "LOGIN", (struct str){0}) == SMTP_AUTH_FAILED && fixture->reply.code == 504);
    session_close(fixture);

    /* The keytab is not there. */
    session_open(fixture, "keyless");
    CHECK(strcmp(auth_mechanisms(fixture->auth), "PLAIN") == 0);
    session_close(fixture);

    session_open(fixture, "none");
    CHECK(!auth_mechanisms(fixture->auth));
    session_close(fixture);
    CHECK(atomic_load(&fixture->directory.questions) == 0);
}

static void test_offered(void **state)
{
    struct fixture fixture;

    (void)state;
    fixture_open(&fixture);
    harness_run(scenario_offered, &fixture);
    assert_non_null(strstr(log_text(&fixture), " warning auth-problem server=keyless mechanism=GSSAPI error=\"keytab "
                                               "/nonexistent/keytab: "));
    fixture_close(&fixture);
}

static void scenario_no_scram(void *argument)
{
    struct fixture *fixture = argument;

    session_open(fixture, "open");
    CHECK(strcmp(auth_mechanisms(fixture->auth), "PLAIN LOGIN") == 0);
    CHECK(begin(fixture, "SCRAM-SHA-256", (struct str){0}) == SMTP_AUTH_FAILED && fixture->reply.code == 504);
    session_close(fixture);
}

static void test_directory_without_scram(void **state)
{
    struct fixture fixture;

    (void)state;
    fixture_open(&fixture);
    fixture.directory.has_scram = false;
    harness_run(scenario_no_scram, &fixture);
    fixture_close(&fixture);
}

/* ---- SCRAM through it ---- */

static enum smtp_auth_status scram(struct fixture *fixture, const char *user, const char *password, bool *is_satisfied)
{
    const struct sasl_client_options options = {.user = str_from_cstr(user), .password = str_from_cstr(password)};
    struct sasl_client *client = sasl_client_create(SASL_SCRAM_SHA_256, &options, NULL);
    enum smtp_auth_status status = SMTP_AUTH_CONTINUE;
    struct buf message;

    CHECK(client);
    buf_init(&message, SASL_MESSAGE_BYTES_MAX);
    sasl_client_step(client, (struct str){0}, &message);
    status = begin(fixture, "SCRAM-SHA-256", buf_str(&message));
    while (status == SMTP_AUTH_CONTINUE) {
        sasl_client_step(client, buf_str(&fixture->challenge), &message);
        status = go_on(fixture, message.length > 0 ? buf_str(&message) : STR(""));
    }
    *is_satisfied = sasl_client_is_satisfied(client);
    sasl_client_destroy(&client);
    buf_release(&message);
    return status;
}

static void scenario_scram(void *argument)
{
    struct fixture *fixture = argument;
    bool is_satisfied;

    session_open(fixture, "open");
    CHECK(scram(fixture, "alice", "wrong", &is_satisfied) == SMTP_AUTH_FAILED && IS_FAILURE(fixture));
    CHECK(scram(fixture, "nobody", PASSWORD, &is_satisfied) == SMTP_AUTH_FAILED && IS_FAILURE(fixture));
    CHECK(!is_satisfied);
    CHECK(scram(fixture, "alice", PASSWORD, &is_satisfied) == SMTP_AUTH_DONE && is_satisfied);
    CHECK(auth_identity(fixture->auth)->mechanism == SASL_SCRAM_SHA_256);
    session_close(fixture);
}

static void test_scram(void **state)
{
    struct fixture fixture;

    (void)state;
    fixture_open(&fixture);
    harness_run(scenario_scram, &fixture);
    fixture_close(&fixture);
}

/* Left in the middle: by "*", and by the end of the session. */
static void scenario_abort(void *argument)
{
    struct fixture *fixture = argument;

    session_open(fixture, "open");
    CHECK(begin(fixture, "LOGIN", STR("alice")) == SMTP_AUTH_CONTINUE);
    auth_abort(fixture->auth);
    auth_abort(fixture->auth);
    CHECK(begin(fixture, "SCRAM-SHA-256", STR("n,,n=alice,r=nonce")) == SMTP_AUTH_CONTINUE);
    session_close(fixture);
    CHECK(brakes_count(fixture->brakes) == 0);
}

static void test_abort(void **state)
{
    struct fixture fixture;

    (void)state;
    fixture_open(&fixture);
    harness_run(scenario_abort, &fixture);
    fixture_close(&fixture);
}

static void scenario_malformed(void *argument)
{
    struct fixture *fixture = argument;

    session_open(fixture, "open");
    CHECK(begin(fixture, "PLAIN", STR("alice")) == SMTP_AUTH_FAILED);
    CHECK(reply_is(fixture, 501, "5.5.2", "Malformed authentication exchange"));
    session_close(fixture);
}

static void test_malformed(void **state)
{
    struct fixture fixture;

    (void)state;
    fixture_open(&fixture);
    harness_run(scenario_malformed, &fixture);
    assert_non_null(strstr(log_text(&fixture), " mechanism=PLAIN user=\"\" reason=malformed\n"));
    fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_success),
        cmocka_unit_test(test_failure),
        cmocka_unit_test(test_password_as_name),
        cmocka_unit_test(test_unavailable),
        cmocka_unit_test(test_slow),
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_locked),
        cmocka_unit_test(test_locked_user),
        cmocka_unit_test(test_offered),
        cmocka_unit_test(test_directory_without_scram),
        cmocka_unit_test(test_scram),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_malformed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
