/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GSSAPI (RFC 4752), the server's side, for Kerberos. Not by GNU SASL, whose GSSAPI takes its keys from one keytab for the whole process, by way of a
 * mechanism switch with files of its own: here each exchange names its keytab.
 *
 * Three parts: tokens until the context stands; we offer "no security layer"; the client chooses it, and says who it wants to be. A ticket for any
 * service "smtp" that the keytab has a key for will do, whatever the host in it, since a server has many names; one for another service of this machine will not.
 */
#include "base/mem.h"
#include "smtp/sasl_private.h"

#include <gssapi/gssapi.h>
#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>
#include <krb5.h>

#define GSSAPI_SERVICE STR("smtp")
/* The first octet of an offer and of a choice: no security layer; then the length of messages in a layer, which is none. */
#define GSSAPI_NO_LAYER         1
#define GSSAPI_CHOICE_BYTES_MIN 4

enum gssapi_phase { GSSAPI_CONTEXT, GSSAPI_OFFER, GSSAPI_CHOICE };

struct sasl_gssapi {
    enum gssapi_phase phase;
    gss_cred_id_t credentials;
    gss_ctx_id_t context;
    gss_name_t client;
};

/* ---- the keytab ---- */

static bool is_service_key(krb5_const_principal principal)
{
    return principal->length == 2 &&
           str_equal(str_make(principal->data[0].data, principal->data[0].length), GSSAPI_SERVICE);
}

static bool has_service_key(krb5_context context, krb5_keytab keytab, krb5_error_code *result)
{
    krb5_kt_cursor cursor;
    krb5_keytab_entry entry;
    bool found = false;

    *result = krb5_kt_start_seq_get(context, keytab, &cursor);
    if (*result != 0)
        return false;
    while (!found && krb5_kt_next_entry(context, keytab, &entry, &cursor) == 0) {
        found = is_service_key(entry.principal);
        krb5_free_keytab_entry_contents(context, &entry);
    }
    krb5_kt_end_seq_get(context, keytab, &cursor);
    return found;
}

static void set_krb5_error(struct error *error, krb5_context context, krb5_error_code code, const char *path)
{
    const char *text = krb5_get_error_message(context, code);

    error_set(error, "keytab %s: %s", path[0] ? path : "of the system", text);
    krb5_free_error_message(context, text);
}

bool sasl_gssapi_can(const char *path, struct error *error)
{
    krb5_context context;
    krb5_keytab keytab = NULL;
    krb5_error_code result = krb5_init_context(&context);
    bool found = false;

    if (result != 0) {
        error_set(error, "Kerberos can't be initialised: error %ld", (long)result);
        return false;
    }
    result = path[0] ? krb5_kt_resolve(context, path, &keytab) : krb5_kt_default(context, &keytab);
    if (result == 0)
        found = has_service_key(context, keytab, &result);
    if (result != 0)
        set_krb5_error(error, context, result, path);
    else if (!found)
        error_set(error, "keytab %s: it has no key for a service smtp/HOST", path[0] ? path : "of the system");
    if (keytab)
        krb5_kt_close(context, keytab);
    krb5_free_context(context);
    return found;
}

/* ---- life ---- */

struct sasl_gssapi *sasl_gssapi_create(const char *keytab, struct error *error)
{
    struct sasl_gssapi *gssapi = mem_alloc(sizeof(*gssapi));
    /* No cache of what has been seen: a recorded exchange is of no use to one who can't wrap the choice with its session key. */
    gss_key_value_element_desc elements[] = {{"rcache", "none:"}, {"keytab", keytab}};
    gss_key_value_set_desc store = {keytab[0] ? 2 : 1, elements};
    gss_OID_set_desc kerberos = {1, (gss_OID)(uintptr_t)gss_mech_krb5};
    OM_uint32 minor;
    OM_uint32 major = gss_acquire_cred_from(&minor, GSS_C_NO_NAME, GSS_C_INDEFINITE, &kerberos, GSS_C_ACCEPT, &store,
                                            &gssapi->credentials, NULL, NULL);

    if (!GSS_ERROR(major))
        return gssapi;
    error_set(error, "keytab %s gives no credentials: GSSAPI error %x, %x", keytab[0] ? keytab : "of the system", major,
              minor);
    sasl_gssapi_destroy(&gssapi);
    return NULL;
}

void sasl_gssapi_destroy(struct sasl_gssapi **pointer)
{
    struct sasl_gssapi *gssapi = *pointer;
    OM_uint32 minor;

    *pointer = NULL;
    if (!gssapi)
        return;
    if (gssapi->context)
        gss_delete_sec_context(&minor, &gssapi->context, GSS_C_NO_BUFFER);
    if (gssapi->client)
        gss_release_name(&minor, &gssapi->client);
    if (gssapi->credentials)
        gss_release_cred(&minor, &gssapi->credentials);
    free(gssapi);
}

/* ---- the exchange ---- */

/* Appends a name as text: "alice@CONTOSO.TEST". */
static bool append_name(gss_name_t name, struct buf *out)
{
    gss_buffer_desc text = GSS_C_EMPTY_BUFFER;
    OM_uint32 minor;
    bool result = false;

    if (name && !GSS_ERROR(gss_display_name(&minor, name, &text, NULL)))
        result = buf_append(out, text.value, text.length);
    gss_release_buffer(&minor, &text);
    return result;
}

/* Whether the ticket is for SMTP. */
static bool is_for_us(struct sasl_gssapi *gssapi)
{
    gss_name_t target = GSS_C_NO_NAME;
    struct buf text;
    OM_uint32 minor;
    bool result = false;

    buf_init(&text, SASL_MESSAGE_BYTES_MAX);
    if (!GSS_ERROR(gss_inquire_context(&minor, gssapi->context, NULL, &target, NULL, NULL, NULL, NULL, NULL)) &&
        append_name(target, &text)) {
        struct str rest = buf_str(&text);

        result = str_equal(str_split(&rest, '/'), GSSAPI_SERVICE) && rest.data;
    }
    if (target)
        gss_release_name(&minor, &target);
    buf_release(&text);
    return result;
}

static enum sasl_status offer(struct sasl_server *server, struct buf *out)
{
    unsigned char layers[GSSAPI_CHOICE_BYTES_MIN] = {GSSAPI_NO_LAYER, 0, 0, 0};
    gss_buffer_desc plain = {sizeof(layers), layers};
    gss_buffer_desc wrapped = GSS_C_EMPTY_BUFFER;
    struct sasl_gssapi *gssapi = server->gssapi;
    OM_uint32 minor;
    bool sent;

    gssapi->phase = GSSAPI_CHOICE;
    sent = !GSS_ERROR(gss_wrap(&minor, gssapi->context, 0, GSS_C_QOP_DEFAULT, &plain, NULL, &wrapped)) &&
           buf_append(out, wrapped.value, wrapped.length);
    gss_release_buffer(&minor, &wrapped);
    return sent ? SASL_CONTINUE : sasl_server_refuse(server, "credentials");
}

static enum sasl_status accept_token(struct sasl_server *server, struct str input, struct buf *out)
{
    struct sasl_gssapi *gssapi = server->gssapi;
    gss_buffer_desc token = {input.length, (char *)(uintptr_t)input.data};
    gss_buffer_desc answer = GSS_C_EMPTY_BUFFER;
    OM_uint32 minor, released;
    OM_uint32 major =
        gss_accept_sec_context(&minor, &gssapi->context, gssapi->credentials, &token, GSS_C_NO_CHANNEL_BINDINGS,
                               &gssapi->client, NULL, &answer, NULL, NULL, NULL);
    bool fits = buf_append(out, answer.value, answer.length);

    gss_release_buffer(&released, &answer);
    if (GSS_ERROR(major) || !fits)
        return sasl_server_refuse(server, "credentials");
    if (major & GSS_S_CONTINUE_NEEDED)
        return SASL_CONTINUE;
    if (!is_for_us(gssapi))
        return sasl_server_refuse(server, "credentials");
    gssapi->phase = GSSAPI_OFFER;
    return out->length > 0 ? SASL_CONTINUE : offer(server, out);
}

/* The context stands, and nobody but its client could have chosen. */
static enum sasl_status conclude(struct sasl_server *server, struct str authorization)
{
    const struct sasl_verifier *verifier = server->verifier;
    struct buf principal;
    enum sasl_status status;

    buf_init(&principal, SASL_USER_BYTES_MAX);
    if (append_name(server->gssapi->client, &principal))
        status = sasl_server_conclude(server,
                                      verifier->map_principal(verifier->context, buf_str(&principal), &server->user));
    else
        status = sasl_server_refuse(server, "credentials");
    if (status == SASL_DONE && !str_equal(authorization, buf_str(&principal)) &&
        !sasl_server_permits(server, authorization))
        status = sasl_server_refuse(server, "not-permitted");
    buf_release(&principal);
    return status;
}

static enum sasl_status take_choice(struct sasl_server *server, struct str input)
{
    gss_buffer_desc wrapped = {input.length, (char *)(uintptr_t)input.data};
    gss_buffer_desc plain = GSS_C_EMPTY_BUFFER;
    enum sasl_status status;
    struct str choice;
    OM_uint32 minor;

    if (GSS_ERROR(gss_unwrap(&minor, server->gssapi->context, &wrapped, &plain, NULL, NULL)))
        return sasl_server_refuse(server, "credentials");
    choice = str_make(plain.value, plain.length);
    if (choice.length < GSSAPI_CHOICE_BYTES_MIN || choice.data[0] != GSSAPI_NO_LAYER)
        status = sasl_server_malformed(server);
    else
        status = conclude(server, str_skip(choice, GSSAPI_CHOICE_BYTES_MIN));
    gss_release_buffer(&minor, &plain);
    return status;
}

enum sasl_status sasl_gssapi_step(struct sasl_server *server, struct str input, struct buf *out)
{
    switch (server->gssapi->phase) {
    case GSSAPI_CONTEXT:
        if (!input.data && server->step_count == 1)
            return SASL_CONTINUE;
        return input.length > 0 ? accept_token(server, input, out) : sasl_server_malformed(server);
    case GSSAPI_OFFER:
        return input.length == 0 ? offer(server, out) : sasl_server_malformed(server);
    case GSSAPI_CHOICE:
        return take_choice(server, input);
    }
    return sasl_server_malformed(server);
}
