/* SPDX-License-Identifier: Apache-2.0 */
/* A DNS server on the loopback, on a thread of its own, that says what a table tells it to. UDP only. */
#ifndef POSTERN_TESTS_NET_DNS_SERVER_H
#define POSTERN_TESTS_NET_DNS_SERVER_H

#include "net/address.h"
#include "sockets.h"

#include <pthread.h>
#include <stdatomic.h>

/* Several records of one name are one answer. What is not in the table does not exist (NXDOMAIN). */
struct dns_record {
    const char *name; /* lower case, no dot at the end */
    enum { RECORD_A = 1, RECORD_CNAME = 5, RECORD_PTR = 12, RECORD_MX = 15, RECORD_AAAA = 28, RECORD_TLSA = 52 } type;
    const char *value; /* an address; a name; of MX "10 NAME", of TLSA its bytes; or one of those below */
};

#define RECORD_SILENCE  "silence"
#define RECORD_SERVFAIL "servfail"
#define RECORD_NOTHING  "nothing" /* the name exists, but has no such record */

struct dns_server {
    int fd;
    pthread_t thread;
    const struct dns_record *records;
    size_t record_count;
    atomic_uint query_count;
    char resolver[32]; /* ADDRESS@PORT */
};

static inline size_t dns_server_put_name(unsigned char *out, const char *name)
{
    size_t length = 0;

    while (*name) {
        size_t label = strcspn(name, ".");

        out[length++] = (unsigned char)label;
        memcpy(out + length, name, label);
        length += label;
        name += label + (name[label] == '.');
    }
    out[length++] = 0;
    return length;
}

/* RDATA and its length in front. */
static inline size_t dns_server_put_value(unsigned char *out, const struct dns_record *record)
{
    size_t length = 0;

    if (record->type == RECORD_PTR || record->type == RECORD_CNAME)
        length = dns_server_put_name(out + 2, record->value);
    else if (record->type == RECORD_MX) {
        unsigned long preference = strtoul(record->value, NULL, 10);

        out[2] = (unsigned char)(preference >> 8);
        out[3] = (unsigned char)preference;
        length = 2 + dns_server_put_name(out + 4, strchr(record->value, ' ') + 1);
    } else if (record->type == RECORD_TLSA) {
        length = strlen(record->value);
        memcpy(out + 2, record->value, length);
    } else if (inet_pton(record->type == RECORD_A ? AF_INET : AF_INET6, record->value, out + 2) == 1)
        length = record->type == RECORD_A ? 4 : 16;
    out[0] = (unsigned char)(length >> 8);
    out[1] = (unsigned char)length;
    return length + 2;
}

/* The question's name as text, in lower case; returns where its type stands. */
static inline size_t dns_server_read_name(const unsigned char *query, size_t length, char name[256])
{
    size_t position = 12, end = 0;

    while (position < length && query[position] != 0 && end + query[position] + 1 < 256) {
        for (size_t i = 1; i <= query[position] && position + i < length; i++)
            name[end++] = ascii_lower((char)query[position + i]);
        name[end++] = '.';
        position += query[position] + 1u;
    }
    name[end > 0 ? end - 1 : 0] = '\0';
    return position + 1;
}

/* 0: no answer. */
static inline size_t dns_server_answer(const struct dns_server *server, unsigned char *message, size_t length)
{
    char name[256];
    size_t end = dns_server_read_name(message, length, name) + 4;
    unsigned count = 0, rcode = 3, type = message[end - 3];

    for (size_t i = 0; i < server->record_count; i++) {
        const struct dns_record *record = &server->records[i];

        if (strcmp(record->name, name) != 0)
            continue;
        rcode = rcode == 3 ? 0 : rcode;
        /* An alias is the answer to whatever is asked. */
        if (type != record->type && record->type != RECORD_CNAME)
            continue;
        if (strcmp(record->value, RECORD_SILENCE) == 0)
            return 0;
        if (strcmp(record->value, RECORD_SERVFAIL) == 0)
            rcode = 2;
        if (strcmp(record->value, RECORD_SERVFAIL) == 0 || strcmp(record->value, RECORD_NOTHING) == 0)
            continue;
        /* The question's name, its type and class, and a time to live of 60 seconds. */
        memcpy(message + end, (const unsigned char[]){0xc0, 12, 0, record->type, 0, 1, 0, 0, 0, 60}, 10);
        end += 10 + dns_server_put_value(message + end + 10, record);
        count++;
    }
    message[2] = 0x81;
    message[3] = (unsigned char)(0x80 | rcode);
    memcpy(message + 6, (const unsigned char[]){0, (unsigned char)count, 0, 0, 0, 0}, 6);
    return end;
}

static inline void *dns_server_main(void *argument)
{
    struct dns_server *server = argument;
    unsigned char message[65536];
    struct sockaddr_in peer;

    for (;;) {
        socklen_t peer_bytes = sizeof(peer);
        ssize_t length = recvfrom(server->fd, message, 4096, 0, (struct sockaddr *)&peer, &peer_bytes);
        size_t answer;

        if (length < 17) /* also when the socket is shut */
            return NULL;
        atomic_fetch_add(&server->query_count, 1);
        answer = dns_server_answer(server, message, (size_t)length);
        if (answer > 0)
            sendto(server->fd, message, answer, 0, (struct sockaddr *)&peer, peer_bytes);
    }
}

static inline void dns_server_start(struct dns_server *server, const struct dns_record *records, size_t record_count)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    server->records = records;
    server->record_count = record_count;
    atomic_init(&server->query_count, 0);
    server->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(server->fd >= 0 && bind(server->fd, (struct sockaddr *)&in, sizeof(in)) == 0);
    snprintf(server->resolver, sizeof(server->resolver), "127.0.0.1@%u", (unsigned)socket_address(server->fd).port);
    CHECK(pthread_create(&server->thread, NULL, dns_server_main, server) == 0);
}

static inline void dns_server_stop(struct dns_server *server)
{
    shutdown(server->fd, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->fd);
}

#endif
