/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/mem.h"
#include "loop/worker.h"
#include "os/clock.h"
#include "session/auth_private.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

/* USER@DOMAIN */
#define ADDRESS_BYTES_MAX (SASL_USER_BYTES_MAX + 256)

struct auth_exchange {
    unsigned references; /* the loop's */
    atomic_bool is_given_up;
    const struct config *config;
    const struct config_server *server;
    struct directory *directory;
    struct brakes *brakes;
    enum sasl_mechanism mechanism;
    struct net_address client;
    unsigned char certificate_sha256[32];
    unsigned char binding_unique[TLS_BINDING_BYTES_MAX], binding_exporter[TLS_BINDING_BYTES_MAX];
    size_t binding_unique_bytes, binding_exporter_bytes;

    /* the step's */
    struct sasl_verifier verifier;
    struct sasl_server *sasl; /* made by the first one: that may read files */
    struct directory_scram_keys keys;
    struct directory_user *user;
    struct buf address;
    bool is_locked;
    bool is_no_user; /* what was proved is nobody's */
};

/* ---- what sasl asks: on the directory's threads ---- */

static enum sasl_answer answer_of(enum directory_status status)
{
    switch (status) {
    case DIRECTORY_YES:
        return SASL_YES;
    case DIRECTORY_NO:
        return SASL_NO;
    case DIRECTORY_UNAVAILABLE:
        break;
    }
    return SASL_NO_ANSWER;
}

/* USER and USER@default-domain are one: for the brakes as for the directory. */
static void complete(const struct auth_exchange *exchange, struct str user, struct buf *out)
{
    const struct policy_domain *domain = policy_default_domain(exchange->config->policy);

    buf_clear(out);
    buf_append_str(out, user);
    if (user.length > 0 && domain && str_find(user, '@') == STR_NONE) {
        buf_append_char(out, '@');
        buf_append_str(out, domain->name);
    }
}

/* Before anything is found out about a name: whoever is locked out learns nothing from an answer or its time. */
static bool may_try(struct auth_exchange *exchange, struct str user)
{
    complete(exchange, user, &exchange->address);
    exchange->is_locked = brakes_check(exchange->brakes, &exchange->config->brakes, &exchange->client,
                                       buf_str(&exchange->address), clock_monotonic_ms()) != BRAKES_FREE;
    return !exchange->is_locked;
}

static enum sasl_answer check_password(void *context, struct str user, struct str password)
{
    struct auth_exchange *exchange = context;

    if (!may_try(exchange, user))
        return SASL_NO;
    return answer_of(directory_check_password(exchange->directory, user, password));
}

static enum sasl_answer find_scram_keys(void *context, struct str user, struct sasl_scram_keys *keys)
{
    struct auth_exchange *exchange = context;
    struct directory_scram_keys *found = &exchange->keys;
    enum directory_status status;

    if (!may_try(exchange, user))
        return SASL_NO;
    status = directory_find_scram_keys(exchange->directory, user, found);
    if (status == DIRECTORY_UNAVAILABLE)
        return SASL_NO_ANSWER;
    if (status == DIRECTORY_NO)
        directory_fake_scram_keys(exchange->directory, user, found);
    keys->iterations = found->iterations;
    keys->salt = str_make((const char *)found->salt, found->salt_bytes);
    keys->stored_key = str_make((const char *)found->stored_key, sizeof(found->stored_key));
    keys->server_key = str_make((const char *)found->server_key, sizeof(found->server_key));
    return SASL_YES;
}

/* Services have principals too ("host/mx.contoso.test"), and are nobody here; nor is a name with an escaped character. */
static bool is_default_domain(const struct auth_exchange *exchange, struct str realm)
{
    const struct policy_domain *domain = policy_default_domain(exchange->config->policy);

    return domain && str_equal_nocase(domain->name, realm);
}

static enum sasl_answer map_principal(void *context, struct str principal, struct buf *user)
{
    struct auth_exchange *exchange = context;
    struct str realm = exchange->server->auth.realm;
    size_t at = str_find_last(principal, '@');

    if (at == STR_NONE || str_find(principal, '/') != STR_NONE || str_find(principal, '\\') != STR_NONE)
        return SASL_NO;
    if (realm.length > 0 && str_equal(str_skip(principal, at + 1), realm))
        principal = str_take(principal, at);
    else if (realm.length > 0 && is_default_domain(exchange, str_skip(principal, at + 1)))
        return SASL_NO; /* a stranger of another realm would be taken for USER@default-domain */
    buf_clear(user);
    if (!sasl_prepare(principal, SASL_USER_BYTES_MAX, user) || !may_try(exchange, buf_str(user)))
        return SASL_NO;
    return SASL_YES;
}

static bool is_same_user(void *context, struct str authorization, struct str user)
{
    struct auth_exchange *exchange = context;
    struct buf a, b;
    bool result;

    buf_init(&a, ADDRESS_BYTES_MAX);
    buf_init(&b, ADDRESS_BYTES_MAX);
    complete(exchange, authorization, &a);
    complete(exchange, user, &b);
    result = !a.overflowed && !b.overflowed && str_equal_nocase(buf_str(&a), buf_str(&b));
    buf_release(&a);
    buf_release(&b);
    return result;
}

static enum sasl_answer find_certificate(void *context, struct str user, struct buf *name)
{
    struct auth_exchange *exchange = context;
    enum directory_status status;

    if (!may_try(exchange, user))
        return SASL_NO;
    status = directory_find_certificate(exchange->directory, exchange->certificate_sha256, &exchange->user);
    if (status != DIRECTORY_YES)
        return answer_of(status);
    if (user.length > 0 && !is_same_user(exchange, user, exchange->user->name))
        return SASL_NO;
    if (user.length == 0 && !may_try(exchange, exchange->user->name))
        return SASL_NO;
    return buf_append_str(name, exchange->user->name) ? SASL_YES : SASL_NO_ANSWER;
}

/* ---- a step, on the directory's threads ---- */

struct step_job {
    struct worker_job job;
    struct auth_exchange *exchange;
    bool has_input;
    struct buf input, challenge;
    enum auth_outcome outcome;
};

/* What was proved is a name; the session needs to know whose. */
static enum auth_outcome find_user(struct auth_exchange *exchange)
{
    if (exchange->user)
        return AUTH_DONE;
    if (atomic_load(&exchange->is_given_up))
        return AUTH_GIVEN_UP;
    switch (directory_find_user(exchange->directory, sasl_server_user(exchange->sasl), &exchange->user)) {
    case DIRECTORY_YES:
        /* Such a user's passwords, keys and certificates the directory refuses itself; of a ticket it knows nothing. */
        return exchange->user->is_disabled ? AUTH_REFUSED : AUTH_DONE;
    case DIRECTORY_NO:
        exchange->is_no_user = true;
        return AUTH_REFUSED;
    case DIRECTORY_UNAVAILABLE:
        break;
    }
    return AUTH_UNAVAILABLE;
}

static enum auth_outcome outcome_of(struct auth_exchange *exchange, enum sasl_status status)
{
    if (exchange->is_locked)
        return AUTH_LOCKED;
    switch (status) {
    case SASL_CONTINUE:
        return AUTH_CONTINUE;
    case SASL_DONE:
        return find_user(exchange);
    case SASL_REFUSED:
        return AUTH_REFUSED;
    case SASL_MALFORMED:
        return AUTH_MALFORMED;
    case SASL_UNAVAILABLE:
        break;
    }
    return AUTH_UNAVAILABLE;
}

static bool begin(struct auth_exchange *exchange)
{
    const struct sasl_server_options options = {
        .keytab = exchange->server->auth.keytab,
        .verifier = &exchange->verifier,
        .channel = {.binding_unique = str_make((const char *)exchange->binding_unique, exchange->binding_unique_bytes),
                    .binding_exporter =
                        str_make((const char *)exchange->binding_exporter, exchange->binding_exporter_bytes)},
    };
    struct error error;

    exchange->sasl = sasl_server_create(exchange->mechanism, &options, &error);
    if (!exchange->sasl)
        LOG_WARNING("auth-problem", log_str("server", exchange->server->name),
                    log_cstr("mechanism", sasl_mechanism_name(exchange->mechanism)), log_error(&error));
    return exchange->sasl != NULL;
}

/*
 * Hashes take whole cores. The threads that make them stand behind all others, so that a crowd that authenticates delays itself and not the mail of those who are
 * served. For the thread alone; where it is not allowed nothing is lost but that.
 */
static void step_aside(void)
{
    static _Thread_local bool is_aside;
    const struct sched_attr_nice {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes = {.size = sizeof(attributes), .policy = SCHED_OTHER, .nice = 15};

    if (is_aside)
        return;
    is_aside = true;
    syscall(SYS_sched_setattr, 0, &attributes, 0);
}

static void step_run(struct worker_job *job)
{
    struct step_job *step = LIST_ENTRY(job, struct step_job, job);
    struct auth_exchange *exchange = step->exchange;
    struct str input = step->has_input ? buf_str(&step->input) : (struct str){0};

    /* It has waited in the queue for longer than anybody wants to know: what comes behind it should not wait too. */
    if (atomic_load(&exchange->is_given_up))
        return;
    step_aside();
    if (exchange->sasl || begin(exchange))
        step->outcome = outcome_of(exchange, sasl_server_step(exchange->sasl, input, &step->challenge));
    else
        step->outcome = AUTH_UNAVAILABLE;
}

static void release_secret(struct buf *b)
{
    sasl_clear(b);
    buf_release(b);
}

static void step_destroy(struct worker_job *job)
{
    struct step_job *step = LIST_ENTRY(job, struct step_job, job);

    auth_exchange_release(&step->exchange);
    release_secret(&step->input);
    release_secret(&step->challenge);
    free(step);
}

/* ---- in the fiber ---- */

static struct step_job *make_step(struct auth_exchange *exchange, struct str input)
{
    struct step_job *step = mem_alloc(sizeof(*step));

    worker_job_init(&step->job, step_run, step_destroy);
    exchange->references++;
    step->exchange = exchange;
    step->has_input = input.data != NULL;
    buf_init(&step->input, SASL_MESSAGE_BYTES_MAX);
    buf_init(&step->challenge, SASL_MESSAGE_BYTES_MAX);
    buf_reserve(&step->input, input.length); /* an empty input has data too */
    buf_append_str(&step->input, input);
    return step;
}

enum auth_outcome auth_exchange_step(struct auth_exchange *exchange, struct str input, struct buf *challenge)
{
    struct step_job *step = make_step(exchange, input);
    uint64_t deadline_ms = loop_now_ms() + exchange->config->directory.timeout_ms;
    enum auth_outcome outcome = AUTH_GIVEN_UP;

    if (worker_run(directory_pool(exchange->directory), &step->job, deadline_ms) == WAIT_READY) {
        outcome = step->outcome;
        buf_append_str(challenge, buf_str(&step->challenge));
    } else {
        atomic_store(&exchange->is_given_up, true);
    }
    worker_job_release(&step->job);
    return outcome;
}

static void keep_channel(struct auth_exchange *exchange, const struct auth_exchange_options *options)
{
    const struct tls_facts *tls = conn_tls(options->conn);
    bool is_scram = exchange->mechanism == SASL_SCRAM_SHA_256 || exchange->mechanism == SASL_SCRAM_SHA_256_PLUS;

    if (!tls)
        return;
    memcpy(exchange->certificate_sha256, tls->certificate_sha256, sizeof(exchange->certificate_sha256));
    /* A client that could bind and was not offered it says so, and with a binding at hand that would be taken for a downgrade. */
    if (!is_scram || !options->plus_is_offered)
        return;
    exchange->binding_unique_bytes = conn_tls_binding(options->conn, TLS_BINDING_UNIQUE, exchange->binding_unique);
    exchange->binding_exporter_bytes =
        conn_tls_binding(options->conn, TLS_BINDING_EXPORTER, exchange->binding_exporter);
}

struct auth_exchange *auth_exchange_create(const struct auth_exchange_options *options)
{
    struct auth_exchange *exchange = mem_alloc(sizeof(*exchange));

    exchange->references = 1;
    exchange->config = config_retain(options->config);
    exchange->server = options->server;
    exchange->directory = options->directory;
    exchange->brakes = options->brakes;
    exchange->mechanism = options->mechanism;
    exchange->client = *conn_peer(options->conn);
    exchange->verifier = (struct sasl_verifier){.context = exchange,
                                                .check_password = check_password,
                                                .find_scram_keys = find_scram_keys,
                                                .map_principal = map_principal,
                                                .find_certificate = find_certificate,
                                                .is_same_user = is_same_user};
    buf_init(&exchange->address, ADDRESS_BYTES_MAX);
    keep_channel(exchange, options);
    return exchange;
}

void auth_exchange_release(struct auth_exchange **pointer)
{
    struct auth_exchange *exchange = *pointer;

    *pointer = NULL;
    if (!exchange || --exchange->references > 0)
        return;
    sasl_server_destroy(&exchange->sasl);
    directory_user_free(&exchange->user);
    buf_release(&exchange->address);
    config_release(&exchange->config);
    explicit_bzero(&exchange->keys, sizeof(exchange->keys));
    free(exchange);
}

struct str auth_exchange_user(const struct auth_exchange *exchange)
{
    return exchange->sasl ? sasl_server_user(exchange->sasl) : STR("");
}

struct str auth_exchange_address(const struct auth_exchange *exchange)
{
    return buf_str(&exchange->address);
}

const char *auth_exchange_reason(const struct auth_exchange *exchange)
{
    if (exchange->is_locked)
        return "locked";
    if (exchange->is_no_user)
        return "no-such-user";
    return exchange->sasl ? sasl_server_reason(exchange->sasl) : "";
}

struct directory_user *auth_exchange_take_user(struct auth_exchange *exchange)
{
    struct directory_user *user = exchange->user;

    exchange->user = NULL;
    return user;
}
