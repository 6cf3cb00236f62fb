/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/ldap_link.h"

#include "base/mem.h"
#include "directory/ldap_link_private.h"
#include "os/clock.h"

#include <openldap.h>
#include <poll.h>
#include <sys/time.h>
#include <unistd.h>

/* Where Linux distributions keep the authorities that the system trusts; GnuTLS's libldap trusts nobody by itself. */
static const char *const system_authorities[] = {
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
};

struct timeval ldap_timeval(uint64_t ms)
{
    return (struct timeval){.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
}

int ldap_link_fail(LDAP *handle, int code, const char *what, struct error *error)
{
    char *diagnostic = NULL;

    ldap_get_option(handle, LDAP_OPT_DIAGNOSTIC_MESSAGE, &diagnostic);
    if (diagnostic && *diagnostic)
        error_set(error, "%s: %s (%.200s)", what, ldap_err2string(code), diagnostic);
    else
        error_set(error, "%s: %s", what, ldap_err2string(code));
    ldap_memfree(diagnostic);
    return -1;
}

int ldap_link_wait(struct ldap_link *link, int id, uint64_t deadline_ms, LDAPMessage **message)
{
    struct timeval time = ldap_timeval(ldap_time_left_ms(deadline_ms));
    int type, code = LDAP_SERVER_DOWN;

    *message = NULL;
    link->stream.deadline_ms = deadline_ms;
    type = ldap_result(link->handle, id, LDAP_MSG_ONE, &time, message);
    if (type > 0)
        return LDAP_SUCCESS;
    if (type == 0)
        return LDAP_TIMEOUT;
    ldap_get_option(link->handle, LDAP_OPT_RESULT_CODE, &code);
    if (ldap_time_left_ms(deadline_ms) == 0)
        return LDAP_TIMEOUT; /* in the midst of an answer, which libldap takes for a broken connection */
    return code == LDAP_SUCCESS ? LDAP_SERVER_DOWN : code;
}

/* ---- options ---- */

static const char *authorities_file(const struct config_ldap *config)
{
    if (config->ca_file.length > 0)
        return config->ca_file.data;
    for (size_t i = 0; i < sizeof(system_authorities) / sizeof(system_authorities[0]); i++)
        if (access(system_authorities[i], R_OK) == 0)
            return system_authorities[i];
    return NULL;
}

/* All of it on this handle alone, and whatever ldap.conf(5) says: there REQCERT may be never. */
static int set_tls_options(struct ldap_link *link, struct error *error)
{
    const int demand = LDAP_OPT_X_TLS_DEMAND, is_server = 0;
    const char *file = authorities_file(link->config);

    if (ldap_set_option(link->handle, LDAP_OPT_X_TLS_REQUIRE_CERT, &demand) != LDAP_OPT_SUCCESS ||
        (file && ldap_set_option(link->handle, LDAP_OPT_X_TLS_CACERTFILE, file) != LDAP_OPT_SUCCESS))
        return error_set(error, "libldap does not know how to demand TLS");
    /* From here on the options above count; a file that can't be read fails here. */
    if (ldap_set_option(link->handle, LDAP_OPT_X_TLS_NEWCTX, &is_server) != LDAP_OPT_SUCCESS)
        return error_set(error, "TLS can't be set up; is %s a file of certificates that may be read?",
                         file ? file : "the authorities' file");
    return 0;
}

static int set_options(struct ldap_link *link, struct error *error)
{
    const int version = LDAP_VERSION3, never = LDAP_DEREF_NEVER;
    ber_len_t answer_bytes_max = LDAP_ANSWER_BYTES_MAX;
    Sockbuf *buffer = NULL;

    if (ldap_set_option(link->handle, LDAP_OPT_PROTOCOL_VERSION, &version) != LDAP_OPT_SUCCESS ||
        ldap_set_option(link->handle, LDAP_OPT_REFERRALS, LDAP_OPT_OFF) != LDAP_OPT_SUCCESS ||
        ldap_set_option(link->handle, LDAP_OPT_RESTART, LDAP_OPT_ON) != LDAP_OPT_SUCCESS ||
        ldap_set_option(link->handle, LDAP_OPT_DEREF, &never) != LDAP_OPT_SUCCESS ||
        ldap_get_option(link->handle, LDAP_OPT_SOCKBUF, &buffer) != LDAP_OPT_SUCCESS ||
        ber_sockbuf_ctrl(buffer, LBER_SB_OPT_SET_MAX_INCOMING, &answer_bytes_max) <= 0 ||
        ldap_stream_attach(buffer, &link->stream) != 0)
        return error_set(error, "libldap refuses its options");
    return 0;
}

/* ---- opening ---- */

static int ask_for_tls(struct ldap_link *link, uint64_t deadline_ms, struct error *error)
{
    LDAPMessage *message = NULL;
    int id, code, result = LDAP_OTHER;

    code = ldap_start_tls(link->handle, NULL, NULL, &id);
    if (code == LDAP_SUCCESS)
        code = ldap_link_wait(link, id, deadline_ms, &message);
    if (code == LDAP_SUCCESS) {
        code = ldap_parse_result(link->handle, message, &result, NULL, NULL, NULL, NULL, 1);
        if (code == LDAP_SUCCESS)
            code = result;
    }
    return code == LDAP_SUCCESS ? 0 : ldap_link_fail(link->handle, code, "StartTLS", error);
}

/* Before anything secret is said. libldap can't be told a lowest version that holds with GnuTLS too (its cipher suites would do, but leak with
 * each connection). */
static int check_version(struct ldap_link *link, struct error *error)
{
    static const char *const too_old[] = {"SSL3.0", "TLS1.0", "TLS1.1", "SSLv3", "TLSv1", "TLSv1.1"};
    char *version = NULL;
    int result = 0;

    if (ldap_get_option(link->handle, LDAP_OPT_X_TLS_VERSION, &version) != LDAP_OPT_SUCCESS || !version)
        return error_set(error, "TLS: no version");
    for (size_t i = 0; i < sizeof(too_old) / sizeof(too_old[0]); i++)
        if (strcmp(version, too_old[i]) == 0)
            result = error_set(error, "TLS: the server speaks %s, and TLS 1.2 is the least", version);
    ldap_memfree(version);
    return result;
}

static int start_tls(struct ldap_link *link, uint64_t deadline_ms, struct error *error)
{
    int code;

    if (set_tls_options(link, error) != 0)
        return -1;
    if (link->place->is_start_tls && ask_for_tls(link, deadline_ms, error) != 0)
        return -1;
    link->stream.deadline_ms = deadline_ms;
    code = ldap_install_tls(link->handle);
    if (code != LDAP_SUCCESS && ldap_time_left_ms(deadline_ms) == 0)
        return error_set(error, "TLS: %s", ldap_err2string(LDAP_TIMEOUT));
    /* With GnuTLS, libldap has no words for a certificate that is not trusted. */
    if (code != LDAP_SUCCESS)
        return ldap_link_fail(link->handle, code,
                              "TLS (is the certificate for this host, and from an authority of ca-file?)", error);
    return check_version(link, error);
}

/* Searches are made as the service account, or as nobody. */
static int bind_service(struct ldap_link *link, uint64_t deadline_ms, struct error *error)
{
    const struct config_ldap *config = link->config;
    struct ldap_bound bound;
    struct error why = {0};

    if (config->bind_dn.length == 0)
        return 0;
    switch (ldap_link_bind(link, config->bind_dn, config->bind_password, deadline_ms, &bound, &why)) {
    case LDAP_VERDICT_YES:
        return 0;
    case LDAP_VERDICT_NO:
        return error_set(error, "bind-dn may not bind: %s", bound.reason ? bound.reason : "wrong name or password");
    case LDAP_VERDICT_QUESTION_FAILED:
    case LDAP_VERDICT_SERVER_FAILED:
        break;
    }
    return error_set(error, "bind-dn: %.400s", why.text);
}

static int attach(struct ldap_link *link, uint64_t deadline_ms, struct error *error)
{
    int fd, code;

    fd = ldap_place_connect(link->place, deadline_ms, error);
    if (fd < 0)
        return -1;
    link->stream = (struct ldap_stream){fd, deadline_ms};
    code = ldap_init_fd(fd, LDAP_PROTO_EXT, link->place->url, &link->handle);
    if (code != LDAP_SUCCESS) {
        close(fd);
        return error_set(error, "libldap: %s", ldap_err2string(code));
    }
    return set_options(link, error);
}

struct ldap_link *ldap_link_open(const struct ldap_place *place, const struct config_ldap *config, enum ldap_use use,
                                 uint64_t deadline_ms, struct error *error)
{
    struct ldap_link *link = mem_alloc(sizeof(*link));
    int result;

    *link = (struct ldap_link){.place = place, .config = config};
    result = attach(link, deadline_ms, error);
    if (result == 0 && (place->is_tls || place->is_start_tls))
        result = start_tls(link, deadline_ms, error);
    if (result == 0 && use == LDAP_USE_SEARCH)
        result = bind_service(link, deadline_ms, error);
    if (result != 0)
        ldap_link_close(&link);
    return link;
}

void ldap_link_close(struct ldap_link **pointer)
{
    struct ldap_link *link = *pointer;

    if (!link)
        return;
    *pointer = NULL;
    link->stream.deadline_ms = 0; /* what can't be sent at once is not worth a wait */
    if (link->handle)
        ldap_unbind_ext(link->handle, NULL, NULL);
    free(link);
}

/* Reads ldap.conf(5), which several threads must not do at once. */
void ldap_link_prepare(void)
{
    LDAP *handle = NULL;

    if (ldap_initialize(&handle, NULL) == LDAP_SUCCESS)
        ldap_unbind_ext(handle, NULL, NULL);
}

/* ---- resting ---- */

uint64_t ldap_link_idle_since_ms(const struct ldap_link *link)
{
    return link->idle_since_ms;
}

void ldap_link_rest(struct ldap_link *link)
{
    link->idle_since_ms = clock_monotonic_ms();
}

bool ldap_link_is_quiet(const struct ldap_link *link)
{
    struct pollfd pollfd = {.fd = link->stream.fd, .events = POLLIN};

    return poll(&pollfd, 1, 0) == 0;
}
