/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SCRAM-SHA-256 and -PLUS by GNU SASL. One library context serves the process: it is not changed once it is made, and sessions of it may be used by
 * different threads ("Thread safety" in the library's manual). The library's own copies of what we give it are cleared as far as they can be reached.
 */
#include "base/mem.h"
#include "smtp/base64.h"
#include "smtp/sasl_private.h"

#include <gsasl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

/* Of salts and keys. */
#define SCRAM_VALUE_BYTES_MAX 64

struct sasl_scram {
    Gsasl_session *session;
    struct sasl_server *server; /* NULL: the client's side */
    enum sasl_answer answer;    /* of the verifier */
    bool is_proved;
};

static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static Gsasl *library;
static int library_result;

static int on_property(Gsasl *context, Gsasl_session *session, Gsasl_property property);

static void library_init(void)
{
    library_result = gsasl_init(&library);
    if (library_result == GSASL_OK)
        gsasl_callback_set(library, on_property);
}

bool sasl_scram_can(struct error *error)
{
    pthread_once(&library_once, library_init);
    if (library_result != GSASL_OK)
        error_set(error, "GNU SASL: %s", gsasl_strerror(library_result));
    else if (!gsasl_server_support_p(library, "SCRAM-SHA-256-PLUS"))
        error_set(error, "GNU SASL is built without SCRAM-SHA-256");
    else
        return true;
    return false;
}

/* ---- properties ---- */

static bool set_base64(Gsasl_session *session, Gsasl_property property, struct str value)
{
    char text[BASE64_ENCODED_BYTES(SCRAM_VALUE_BYTES_MAX) + 1];
    bool result;

    if (value.length == 0 || value.length > SCRAM_VALUE_BYTES_MAX)
        return false;
    base64_encode(value, text);
    text[BASE64_ENCODED_BYTES(value.length)] = '\0';
    result = gsasl_property_set(session, property, text) == GSASL_OK;
    explicit_bzero(text, sizeof(text));
    return result;
}

static void set_binding(Gsasl_session *session, Gsasl_property property, const struct sasl_binding *binding)
{
    if (binding->length > 0)
        set_base64(session, property, str_make((const char *)binding->data, binding->length));
}

static void wipe_property(Gsasl_session *session, Gsasl_property property)
{
    const char *value = gsasl_property_fast(session, property);

    if (value)
        explicit_bzero((char *)(uintptr_t)value, strlen(value));
}

static bool set_keys(Gsasl_session *session, const struct sasl_scram_keys *keys)
{
    char iterations[16];

    if (keys->iterations == 0)
        return false;
    snprintf(iterations, sizeof(iterations), "%u", keys->iterations);
    return gsasl_property_set(session, GSASL_SCRAM_ITER, iterations) == GSASL_OK &&
           set_base64(session, GSASL_SCRAM_SALT, keys->salt) &&
           set_base64(session, GSASL_SCRAM_STOREDKEY, keys->stored_key) &&
           set_base64(session, GSASL_SCRAM_SERVERKEY, keys->server_key);
}

/* The library is going to want all of it: asks the verifier once. */
static enum sasl_answer fetch_keys(struct sasl_scram *scram)
{
    const struct sasl_server *server = scram->server;
    struct sasl_scram_keys keys = {0};
    enum sasl_answer answer =
        server->verifier->find_scram_keys(server->verifier->context, buf_str(&server->user), &keys);

    if (answer == SASL_YES && !set_keys(scram->session, &keys))
        return SASL_NO_ANSWER;
    return answer;
}

static int on_property(Gsasl *context, Gsasl_session *session, Gsasl_property property)
{
    struct sasl_scram *scram = gsasl_session_hook_get(session);

    (void)context;
    if (!scram || !scram->server || property != GSASL_SCRAM_ITER)
        return GSASL_NO_CALLBACK;
    scram->answer = fetch_keys(scram);
    return scram->answer == SASL_YES ? GSASL_OK : GSASL_AUTHENTICATION_ERROR;
}

/* ---- a step ---- */

/* Appends what the library says. Not on a text with a NUL, which it would not see. */
static int library_step(struct sasl_scram *scram, struct str input, struct buf *out)
{
    char *copy = mem_copy_str(input);
    char *output = NULL;
    size_t length = 0;
    int result = gsasl_step(scram->session, copy, input.length, &output, &length);

    free(copy);
    if ((result == GSASL_OK || result == GSASL_NEEDS_MORE) && length > 0 &&
        (length > SASL_MESSAGE_BYTES_MAX || !buf_append(out, output, length)))
        result = GSASL_MECHANISM_PARSE_ERROR;
    gsasl_free(output);
    return result;
}

static bool is_syntax_error(int result)
{
    return result == GSASL_MECHANISM_PARSE_ERROR || result == GSASL_BASE64_ERROR ||
           result == GSASL_MECHANISM_CALLED_TOO_MANY_TIMES;
}

/* ---- server ---- */

struct sasl_scram *sasl_scram_create_server(struct sasl_server *server, struct error *error)
{
    struct sasl_scram *scram;
    int result;

    if (!sasl_scram_can(error))
        return NULL;
    scram = mem_alloc(sizeof(*scram));
    scram->server = server;
    result = gsasl_server_start(library, sasl_mechanism_name(server->mechanism), &scram->session);
    if (result != GSASL_OK) {
        error_set(error, "GNU SASL: %s", gsasl_strerror(result));
        free(scram);
        return NULL;
    }
    gsasl_session_hook_set(scram->session, scram);
    set_binding(scram->session, GSASL_CB_TLS_UNIQUE, &server->bindings.unique);
    set_binding(scram->session, GSASL_CB_TLS_EXPORTER, &server->bindings.exporter);
    return scram;
}

/* GS2-HEADER is FLAG "," ["a=" AUTHORIZATION] ",", then comes "n=" USER "," ... The user is wanted before the library sees it: it gives names that are nobody's
 * no memory back. */
static enum sasl_status take_user(struct sasl_server *server, struct str message)
{
    char name[3 * SASL_USER_BYTES_MAX];
    size_t length = 0;
    struct str text;

    str_split(&message, ',');
    str_split(&message, ',');
    text = str_split(&message, ',');
    if (!str_starts_with(text, STR("n=")) || !message.data)
        return sasl_server_malformed(server);
    text = str_skip(text, strlen("n="));
    for (size_t i = 0; i < text.length && length < sizeof(name); i++, length++) {
        struct str rest = str_skip(text, i);
        bool is_comma = str_starts_with(rest, STR("=2C"));

        name[length] = text.data[i];
        if (is_comma || str_starts_with(rest, STR("=3D"))) {
            name[length] = is_comma ? ',' : '=';
            i += strlen("2C");
        }
    }
    if (!sasl_server_set_user(server, str_make(name, length)))
        return sasl_server_refuse(server, "credentials");
    return SASL_CONTINUE;
}

enum sasl_status sasl_scram_step_server(struct sasl_server *server, struct str input, struct buf *out)
{
    struct sasl_scram *scram = server->scram;
    enum sasl_status status;
    int result;

    /* SMTP has no room for data in its 235: the last word is a challenge, and its answer is empty (RFC 4954 4). */
    if (scram->is_proved)
        return input.length == 0 ? SASL_DONE : sasl_server_malformed(server);
    if (!input.data && server->step_count == 1)
        return SASL_CONTINUE;
    if (input.length == 0 || str_find(input, '\0') != STR_NONE)
        return sasl_server_malformed(server);
    if (server->user.length == 0) {
        status = take_user(server, input);
        if (status != SASL_CONTINUE)
            return status;
    }
    result = library_step(scram, input, out);
    if (scram->answer != SASL_YES)
        return sasl_server_conclude(server, scram->answer);
    if (result == GSASL_NEEDS_MORE)
        return SASL_CONTINUE;
    if (result != GSASL_OK)
        return is_syntax_error(result) ? sasl_server_malformed(server) : sasl_server_refuse(server, "credentials");
    if (!sasl_server_permits(server, str_from_cstr(gsasl_property_fast(scram->session, GSASL_AUTHZID))))
        return sasl_server_refuse(server, "not-permitted");
    scram->is_proved = true;
    return SASL_CONTINUE;
}

/* ---- client ---- */

struct sasl_scram *sasl_scram_create_client(bool is_plus, const char *user, const char *password,
                                            const struct sasl_bindings *bindings, struct error *error)
{
    struct sasl_scram *scram;
    int result;

    if (!sasl_scram_can(error))
        return NULL;
    scram = mem_alloc(sizeof(*scram));
    result = gsasl_client_start(library, is_plus ? "SCRAM-SHA-256-PLUS" : "SCRAM-SHA-256", &scram->session);
    if (result != GSASL_OK) {
        error_set(error, "GNU SASL: %s", gsasl_strerror(result));
        free(scram);
        return NULL;
    }
    gsasl_session_hook_set(scram->session, scram);
    gsasl_property_set(scram->session, GSASL_AUTHID, user);
    gsasl_property_set(scram->session, GSASL_PASSWORD, password);
    /* What is usual for the version of TLS: there is no tls-unique in 1.3, and before it few servers know tls-exporter (RFC 9266 3). Without PLUS none:
     * the library (2.2.0) has one, means to say that it could have used it, and fails. */
    if (is_plus && bindings->unique.length > 0)
        set_binding(scram->session, GSASL_CB_TLS_UNIQUE, &bindings->unique);
    else if (is_plus)
        set_binding(scram->session, GSASL_CB_TLS_EXPORTER, &bindings->exporter);
    return scram;
}

/* The i= of a server's first message: how much it makes us compute. 0 if there is none. */
static uint64_t iterations_of(struct str message)
{
    uint64_t count;

    while (message.data) {
        struct str attribute = str_split(&message, ',');

        if (str_starts_with(attribute, STR("i=")) && str_to_u64(str_skip(attribute, 2), &count))
            return count;
    }
    return 0;
}

enum sasl_status sasl_scram_step_client(struct sasl_scram *scram, struct str input, struct buf *out)
{
    uint64_t iterations;
    int result;

    if (str_find(input, '\0') != STR_NONE)
        return SASL_MALFORMED;
    if (str_starts_with(input, STR("e=")))
        return SASL_REFUSED;
    if (str_starts_with(input, STR("r="))) {
        iterations = iterations_of(input);
        if (iterations == 0)
            return SASL_MALFORMED;
        if (iterations < SASL_ITERATIONS_MIN || iterations > SASL_ITERATIONS_MAX)
            return SASL_REFUSED;
    }
    result = library_step(scram, input, out);
    if (result == GSASL_NEEDS_MORE)
        return SASL_CONTINUE;
    if (result == GSASL_OK)
        return SASL_DONE;
    return is_syntax_error(result) ? SASL_MALFORMED : SASL_REFUSED;
}

void sasl_scram_destroy(struct sasl_scram **pointer)
{
    static const Gsasl_property secrets[] = {GSASL_PASSWORD, GSASL_SCRAM_SALTED_PASSWORD, GSASL_SCRAM_STOREDKEY,
                                             GSASL_SCRAM_SERVERKEY};
    struct sasl_scram *scram = *pointer;

    *pointer = NULL;
    if (!scram)
        return;
    for (size_t i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++)
        wipe_property(scram->session, secrets[i]);
    gsasl_finish(scram->session);
    free(scram);
}
