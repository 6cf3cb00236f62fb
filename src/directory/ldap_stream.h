/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ldap_stream: a connection's bytes for libldap, with a deadline. libldap has one for connecting and one for waiting for an answer to begin, but
 * in the midst of a TLS handshake or of an answer it waits for as long as a server likes to stall (and spins while it does, in 2.5 with GnuTLS).
 * Under this every read and write fails at the deadline. One thread at a time.
 */
#ifndef POSTERN_DIRECTORY_LDAP_STREAM_H
#define POSTERN_DIRECTORY_LDAP_STREAM_H

#include <lber.h>
#include <stdint.h>

struct ldap_stream {
    int fd;
    uint64_t deadline_ms; /* the owner sets it before each thing it asks */
};

/* Below all that libldap puts on it. The stream outlives `buffer`, which closes the socket. 0, or -1. */
int ldap_stream_attach(Sockbuf *buffer, struct ldap_stream *stream);

#endif
