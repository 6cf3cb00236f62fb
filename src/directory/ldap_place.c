/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/ldap_place.h"

#include "base/mem.h"
#include "os/clock.h"

#include <errno.h>
#include <ldap.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

uint64_t ldap_time_left_ms(uint64_t deadline_ms)
{
    const uint64_t now_ms = clock_monotonic_ms();

    return deadline_ms > now_ms ? deadline_ms - now_ms : 0;
}

/* ---- URLs ---- */

static int read_host(struct ldap_place *place, const LDAPURLDesc *url, struct error *error)
{
    if (!url->lud_host || !*url->lud_host)
        return error_set(error, "wants a host, as in ldaps://dc1.contoso.test");
    if (url->lud_port < 1 || url->lud_port > 65535)
        return error_set(error, "wants a port from 1 to 65535");
    place->host = mem_copy_str(str_from_cstr(url->lud_host));
    snprintf(place->port, sizeof(place->port), "%d", url->lud_port);
    place->url =
        mem_printf(strchr(place->host, ':') ? "%s://[%s]:%s" : "%s://%s:%s", url->lud_scheme, place->host, place->port);
    return 0;
}

static int read_path(struct ldap_place *place, const LDAPURLDesc *url, struct str text, struct error *error)
{
    if (!url->lud_host || url->lud_host[0] != '/')
        return error_set(error,
                         "wants the socket's path, its slashes as %%2F, as in ldapi://%%2Frun%%2Fslapd%%2Fldapi");
    if (strlen(url->lud_host) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
        return error_set(error, "the socket's path is too long");
    place->path = mem_copy_str(str_from_cstr(url->lud_host));
    place->url = mem_copy_str(text);
    return 0;
}

int ldap_place_parse(struct ldap_place *place, struct str url, bool start_tls, struct error *error)
{
    char *text = mem_copy_str(url);
    LDAPURLDesc *parsed = NULL;
    int result = -1;

    *place = (struct ldap_place){0};
    if (str_find(url, '\0') != STR_NONE || ldap_url_parse(text, &parsed) != LDAP_URL_SUCCESS) {
        error_set(error, "is no LDAP URL");
        goto done;
    }
    if ((parsed->lud_dn && *parsed->lud_dn) || parsed->lud_attrs || parsed->lud_filter || parsed->lud_exts ||
        (parsed->lud_scope != LDAP_SCOPE_DEFAULT && parsed->lud_scope != LDAP_SCOPE_BASE)) {
        error_set(error, "wants only a host and a port; the search base has a key of its own");
        goto done;
    }
    if (strcmp(parsed->lud_scheme, "ldapi") == 0) {
        result = read_path(place, parsed, url, error);
    } else {
        place->is_tls = strcmp(parsed->lud_scheme, "ldaps") == 0;
        place->is_start_tls = !place->is_tls && start_tls;
        result = read_host(place, parsed, error);
    }
done:
    if (result != 0) {
        error_add_context(error, "%.*s", STR_ARG(str_take(url, 200)));
        ldap_place_release(place);
    }
    if (parsed)
        ldap_free_urldesc(parsed);
    free(text);
    return result;
}

void ldap_place_release(struct ldap_place *place)
{
    mem_free(&place->url);
    mem_free(&place->host);
    mem_free(&place->path);
}

/* ---- connecting ---- */

/* 0, or an errno. */
static int wait_connected(int fd, uint64_t deadline_ms)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLOUT};
    int result, status = 0;
    socklen_t size = sizeof(status);

    do {
        const uint64_t left_ms = ldap_time_left_ms(deadline_ms);

        result = poll(&pollfd, 1, (int)(left_ms < INT_MAX ? left_ms : INT_MAX));
    } while (result < 0 && errno == EINTR);
    if (result < 0)
        return errno;
    if (result == 0)
        return ETIMEDOUT;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &status, &size) == 0 ? status : errno;
}

/* A socket, or a negative errno. */
static int connect_address(const struct sockaddr *address, socklen_t length, uint64_t deadline_ms)
{
    const int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int on = 1;
    int status = 0;

    if (fd < 0)
        return -errno;
    if (connect(fd, address, length) != 0)
        status = errno == EINPROGRESS ? wait_connected(fd, deadline_ms) : errno;
    if (status == 0 && address->sa_family != AF_UNIX) {
        /* Without these a connection that a firewall forgot is noticed only by the deadline. */
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
    if (status == 0)
        return fd;
    close(fd);
    return -status;
}

static int connect_path(const struct ldap_place *place, uint64_t deadline_ms)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    memcpy(address.sun_path, place->path, strlen(place->path) + 1); /* its length was checked */
    return connect_address((const struct sockaddr *)&address, sizeof(address), deadline_ms);
}

int ldap_place_connect(const struct ldap_place *place, uint64_t deadline_ms, struct error *error)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *addresses = NULL;
    int fd = -ETIMEDOUT, result;
    size_t count = 0;

    if (place->path) {
        fd = connect_path(place, deadline_ms);
        return fd < 0 ? error_set_errno(error, -fd, "connecting") : fd;
    }
    result = getaddrinfo(place->host, place->port, &hints, &addresses);
    if (result != 0)
        return error_set(error, "looking up its name: %s", gai_strerror(result));
    for (const struct addrinfo *a = addresses; a; a = a->ai_next)
        count++;
    /* Each address has its share of the time that the ones before it left. */
    for (const struct addrinfo *a = addresses; a && fd < 0; a = a->ai_next)
        fd =
            connect_address(a->ai_addr, a->ai_addrlen, clock_monotonic_ms() + ldap_time_left_ms(deadline_ms) / count--);
    freeaddrinfo(addresses);
    return fd < 0 ? error_set_errno(error, -fd, "connecting") : fd;
}
