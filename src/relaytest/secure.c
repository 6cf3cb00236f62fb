/* SPDX-License-Identifier: Apache-2.0 */
#include "relaytest/secure.h"

#include "base/mem.h"
#include "loop/worker.h"
#include "mail/domain.h"
#include "net/tls.h"
#include "smtp/base64.h"
#include "smtp/sasl.h"

#include <stdio.h>
#include <stdlib.h>

/* More stands on a line of its own, as the answer to an empty challenge (RFC 4954 4). */
#define INITIAL_BYTES_MAX 400

#define CLEAR_MECHANISMS  (unsigned)(SASL_PLAIN | SASL_LOGIN)
#define HIDING_MECHANISMS (unsigned)(SASL_SCRAM_SHA_256 | SASL_SCRAM_SHA_256_PLUS)

/* ---- TLS ---- */

int secure_prepare(struct run *run, struct error *error)
{
    const struct tls_client_settings settings = {.protocol_min = TLS_PROTOCOL_1_0};

    if (run->settings->user.length > 0 && worker_pool_create(&run->pool, "relaytest-sasl", 1, error) != 0)
        return -1;
    if (!run->settings->starttls)
        return 0;
    run->tls = tls_client_create(&settings, error);
    return run->tls ? 0 : -1;
}

void secure_release(struct run *run)
{
    tls_context_release(&run->tls);
    if (run->pool)
        worker_pool_destroy(&run->pool);
}

/* STARTTLS up to its 220. What follows it in plaintext is nobody's business any more. */
static bool ask_for_tls(struct run *run)
{
    const struct reply *reply;

    if (!run->capabilities.starttls) {
        run_fail(run, "the server offers no STARTTLS");
        return false;
    }
    buf_clear(&run->command);
    buf_append_str(&run->command, STR("STARTTLS"));
    reply = wire_ask(run, "STARTTLS", NULL);
    if (!reply)
        return false;
    if (reply->code != 220) {
        run_fail(run, "the server refuses STARTTLS: %.*s", STR_ARG(reply_text(reply)));
        return false;
    }
    if (conn_buffered(run->conn).length > 0) {
        run_fail(run, "the server sends more behind its reply to STARTTLS, in plaintext");
        return false;
    }
    return true;
}

bool secure_start_tls(struct run *run)
{
    char name[DOMAIN_TEXT_BYTES];
    struct tls_client_options options = {.context = run->tls, .verification = TLS_VERIFY_NONE};
    const struct reply *reply;
    struct error error = {0};

    if (!run->settings->starttls)
        return true;
    if (!ask_for_tls(run))
        return false;
    if (domain_normalize(run->settings->target_name, name) > 0)
        options.server_name = str_from_cstr(name);
    run_progress(run, "the TLS handshake");
    if (conn_connect_tls(run->conn, &options, wire_deadline(run), &error) != CONN_OK) {
        run_fail(run, "TLS with the server failed: %s", error.text);
        return false;
    }
    snprintf(run->result->tls, sizeof(run->result->tls), "%s %s", conn_tls(run->conn)->protocol,
             conn_tls(run->conn)->cipher);
    wire_tell(run, '*', str_from_cstr(run->result->tls));
    reply = wire_hello(run); /* all that was said before is forgotten (RFC 3207 4.2) */
    if (reply && reply->code / 100 != 2)
        wire_close(run, WIRE_END_LOST, "%.*s", STR_ARG(reply_text(reply)));
    return run->conn != NULL;
}

/* ---- AUTH ---- */

struct login {
    struct run *run;
    struct sasl_client_options options;
    enum sasl_mechanism mechanism;
    struct sasl_client *client;
    struct error error;
    bool has_input;
    struct buf in, out;
    enum sasl_status status;
};

/* SASL computes for a while and takes more stack than a fiber has: on a worker thread. */
struct login_job {
    struct worker_job job;
    struct login *login;
    void (*work)(struct login *login);
};

static void login_job_run(struct worker_job *job)
{
    struct login_job *login_job = LIST_ENTRY(job, struct login_job, job);

    login_job->work(login_job->login);
}

static void login_job_destroy(struct worker_job *job)
{
    free(LIST_ENTRY(job, struct login_job, job));
}

/* Waits to the end, since the login is the caller's. Nobody cancels the run's fiber. */
static void on_worker(struct login *login, void (*work)(struct login *login))
{
    struct login_job *login_job = mem_alloc(sizeof(*login_job));

    login_job->login = login;
    login_job->work = work;
    worker_job_init(&login_job->job, login_job_run, login_job_destroy);
    worker_run(login->run->pool, &login_job->job, DEADLINE_NEVER);
    worker_job_release(&login_job->job);
}

static void create_client(struct login *login)
{
    login->client = sasl_client_create(login->mechanism, &login->options, &login->error);
}

static void step_client(struct login *login)
{
    struct str input = {NULL, 0};

    if (login->has_input)
        input = str_make(login->in.data ? login->in.data : "", login->in.length);
    login->status = sasl_client_step(login->client, input, &login->out);
}

static void step(struct login *login, bool has_input)
{
    login->has_input = has_input;
    login->status = SASL_MALFORMED;
    on_worker(login, step_client);
}

static void take_channel(struct run *run, struct sasl_channel *channel, unsigned char unique[TLS_BINDING_BYTES_MAX],
                         unsigned char exporter[TLS_BINDING_BYTES_MAX])
{
    *channel = (struct sasl_channel){0};
    if (!conn_tls(run->conn))
        return;
    channel->binding_unique = str_make((const char *)unique, conn_tls_binding(run->conn, TLS_BINDING_UNIQUE, unique));
    channel->binding_exporter =
        str_make((const char *)exporter, conn_tls_binding(run->conn, TLS_BINDING_EXPORTER, exporter));
}

static bool is_this_machine(const struct run *run)
{
    return memcmp(conn_peer(run->conn)->ip, conn_local(run->conn)->ip, sizeof(conn_local(run->conn)->ip)) == 0;
}

static bool choose(struct login *login, const struct sasl_channel *channel)
{
    struct run *run = login->run;
    unsigned offered =
        sasl_mechanisms_parse(str_make(run->capabilities.auth_mechanisms, run->capabilities.auth_length));
    bool may_be_clear = conn_tls(run->conn) || is_this_machine(run);
    unsigned allowed = HIDING_MECHANISMS | (may_be_clear ? CLEAR_MECHANISMS : 0);

    login->mechanism = sasl_client_choose(offered, allowed, channel);
    if (login->mechanism)
        return true;
    if (!run->capabilities.auth)
        run_fail(run, "the server offers no AUTH%s", run->capabilities.starttls ? " before STARTTLS" : "");
    else if (offered & CLEAR_MECHANISMS)
        run_fail(run, "the password would go over the line in the clear: use --starttls");
    else
        run_fail(run, "the server offers no way to authenticate with a password: %.*s", run->capabilities.auth_length,
                 run->capabilities.auth_mechanisms);
    return false;
}

/* The next step's answer, in base64; a client that gives up says "*" (RFC 4954 4). */
static bool answer(struct login *login, const struct reply *challenge)
{
    struct run *run = login->run;
    struct str text = str_trim(str_skip(reply_text(challenge), 4));

    buf_clear(&login->in);
    if (challenge->text_is_cut || !base64_decode(text, &login->in)) {
        run_fail(run, "the server's challenge is no base64");
        return false;
    }
    step(login, true);
    if (login->status != SASL_CONTINUE && login->status != SASL_DONE) {
        run_fail(run, "the server's part of the authentication is wrong, or does not prove that it knows the password");
        return false;
    }
    buf_clear(&run->command);
    base64_append(&run->command, buf_str(&login->out));
    return true;
}

/* "AUTH MECHANISM", with the initial response where there is a short one. */
static bool begin(struct login *login, bool *is_answer_due)
{
    struct run *run = login->run;

    *is_answer_due = false;
    buf_clear(&run->command);
    buf_printf(&run->command, "AUTH %s", sasl_mechanism_name(login->mechanism));
    if (!sasl_client_has_initial(login->client))
        return true;
    step(login, false);
    if (login->status != SASL_CONTINUE && login->status != SASL_DONE) {
        run_fail(run, "the user or the password can't be sent");
        return false;
    }
    if (BASE64_ENCODED_BYTES(login->out.length) > INITIAL_BYTES_MAX) {
        *is_answer_due = true;
        return true;
    }
    buf_append_char(&run->command, ' ');
    if (login->out.length == 0)
        buf_append_char(&run->command, '=');
    else
        base64_append(&run->command, buf_str(&login->out));
    return true;
}

static bool exchange(struct login *login)
{
    struct run *run = login->run;
    char shown[64];
    bool is_answer_due;
    const struct reply *reply;

    if (!begin(login, &is_answer_due))
        return false;
    snprintf(shown, sizeof(shown), "AUTH %s (the rest is not shown)", sasl_mechanism_name(login->mechanism));
    reply = wire_ask(run, "AUTH", shown);
    for (unsigned count = 0; reply && reply->code == 334 && count < SASL_STEPS_MAX; count++) {
        if (is_answer_due) {
            buf_clear(&run->command);
            base64_append(&run->command, buf_str(&login->out));
            is_answer_due = false;
        } else if (!answer(login, reply)) {
            return false;
        }
        reply = wire_ask(run, "AUTH", "(not shown)");
    }
    if (!reply)
        return false;
    if (reply->code != 235)
        run_fail(run, "the server does not let the user in: %.*s", STR_ARG(reply_text(reply)));
    else if (!sasl_client_is_satisfied(login->client))
        run_fail(run, "the server claims success without proof");
    return !run->is_over;
}

bool secure_log_in(struct run *run)
{
    unsigned char unique[TLS_BINDING_BYTES_MAX], exporter[TLS_BINDING_BYTES_MAX];
    struct login *login;
    bool is_in = false;

    if (run->settings->user.length == 0)
        return true;
    login = mem_alloc(sizeof(*login));
    login->run = run;
    login->options = (struct sasl_client_options){.user = run->settings->user, .password = run->settings->password};
    buf_init(&login->in, SASL_MESSAGE_BYTES_MAX);
    buf_init(&login->out, SASL_MESSAGE_BYTES_MAX);
    take_channel(run, &login->options.channel, unique, exporter);
    if (!choose(login, &login->options.channel))
        goto done;
    on_worker(login, create_client);
    if (login->client)
        is_in = exchange(login);
    else
        run_fail(run, "%s", login->error.text);
done:
    sasl_client_destroy(&login->client);
    sasl_clear(&login->in);
    sasl_clear(&login->out);
    sasl_clear(&run->command);
    buf_release(&login->in);
    buf_release(&login->out);
    free(login);
    return is_in;
}
