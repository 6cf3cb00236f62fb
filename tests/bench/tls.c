/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The load for tls.py: clients of a server that begins with TLS, on 127.0.0.1, each thread with one connection at a time. Prints the seconds that
 * it took.
 *
 *   tls handshakes PORT COUNT THREADS          connects, shakes hands in full, reads the banner, closes
 *   tls resumed    PORT COUNT THREADS          the same, resuming its last session
 *   tls messages   PORT COUNT THREADS OCTETS   sends messages, a connection for each thread
 *   tls idle       PORT COUNT                  opens connections, prints how many, holds them until its input ends
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 1000
#define REPLY_BYTES 4096

struct load {
    pthread_t thread;
    SSL_CTX *ssl_context;
    uint16_t port;
    unsigned count;
    unsigned octets;
    bool resumes;
};

struct client {
    SSL *ssl;
    int fd;
};

static _Noreturn void give_up(const char *what)
{
    fprintf(stderr, "tls: %s\n", what);
    exit(1);
}

static unsigned number_from(const char *text)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);

    if (*text == '\0' || *end != '\0' || number == 0 || number > 100000000)
        give_up("not a number");
    return (unsigned)number;
}

/* ---- one connection ---- */

static void client_open(struct client *client, const struct load *load, SSL_SESSION *session)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(load->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;

    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || connect(client->fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
        give_up("can't connect");
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    client->ssl = SSL_new(load->ssl_context);
    SSL_set_fd(client->ssl, client->fd);
    if (session)
        SSL_set_session(client->ssl, session);
    if (SSL_connect(client->ssl) != 1)
        give_up("no handshake");
}

static void client_close(struct client *client)
{
    SSL_shutdown(client->ssl);
    SSL_free(client->ssl);
    close(client->fd);
}

/* Reads `lines` replies of one line each; all begin with `digit`. */
static void client_expect(struct client *client, char digit, unsigned lines)
{
    char reply[REPLY_BYTES];
    bool at_start = true;

    while (lines > 0) {
        int count = SSL_read(client->ssl, reply, sizeof(reply));

        if (count <= 0)
            give_up("the server has closed");
        for (int i = 0; i < count; i++) {
            if (at_start && reply[i] != digit)
                give_up("an unexpected reply");
            at_start = reply[i] == '\n';
            lines -= at_start;
        }
    }
}

static void client_say(struct client *client, const char *text, size_t length)
{
    if (SSL_write(client->ssl, text, (int)length) != (int)length)
        give_up("can't write");
}

/* ---- the loads ---- */

static void *handshakes_main(void *argument)
{
    const struct load *load = argument;
    SSL_SESSION *session = NULL;

    for (unsigned i = 0; i < load->count; i++) {
        struct client client;

        client_open(&client, load, session);
        client_expect(&client, '2', 1);
        if (session && !SSL_session_reused(client.ssl))
            give_up("the session was not resumed");
        SSL_SESSION_free(session);
        session = load->resumes ? SSL_get1_session(client.ssl) : NULL;
        client_close(&client);
    }
    SSL_SESSION_free(session);
    return NULL;
}

static void *messages_main(void *argument)
{
    static const char envelope[] = "MAIL FROM:<sender@client.test>\r\n";
    static const char recipient[] = "RCPT TO:<recipient@example.net>\r\n";
    const struct load *load = argument;
    char *message = malloc(load->octets + 100);
    struct client client;
    size_t length = 0;

    if (!message)
        give_up("no memory");
    length += (size_t)snprintf(message, 100, "Subject: load\r\n\r\n");
    while (length < load->octets) {
        memset(message + length, 'x', 64);
        memcpy(message + length + 64, "\r\n", 2);
        length += 66;
    }
    memcpy(message + length, ".\r\n", 3);
    length += 3;
    client_open(&client, load, NULL);
    client_expect(&client, '2', 1);
    client_say(&client, "HELO client.test\r\n", 18);
    client_expect(&client, '2', 1);
    for (unsigned i = 0; i < load->count; i++) {
        client_say(&client, envelope, sizeof(envelope) - 1);
        client_expect(&client, '2', 1);
        client_say(&client, recipient, sizeof(recipient) - 1);
        client_expect(&client, '2', 1);
        client_say(&client, "DATA\r\n", 6);
        client_expect(&client, '3', 1);
        client_say(&client, message, length);
        client_expect(&client, '2', 1);
    }
    client_close(&client);
    free(message);
    return NULL;
}

static void run_threads(void *(*run)(void *), const struct load *load, unsigned threads)
{
    static struct load loads[THREADS_MAX];
    struct timespec begun, ended;

    if (threads > THREADS_MAX)
        give_up("too many threads");
    clock_gettime(CLOCK_MONOTONIC, &begun);
    for (unsigned i = 0; i < threads; i++) {
        loads[i] = *load;
        loads[i].count = load->count / threads + (i < load->count % threads);
        if (pthread_create(&loads[i].thread, NULL, run, &loads[i]) != 0)
            give_up("no thread");
    }
    for (unsigned i = 0; i < threads; i++)
        pthread_join(loads[i].thread, NULL);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("%.6f\n", (double)(ended.tv_sec - begun.tv_sec) + (double)(ended.tv_nsec - begun.tv_nsec) / 1e9);
}

static void hold_idle(const struct load *load)
{
    struct client *clients = malloc(load->count * sizeof(*clients));
    struct rlimit limit;
    char byte;

    if (!clients || getrlimit(RLIMIT_NOFILE, &limit) != 0)
        give_up("no memory");
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (unsigned i = 0; i < load->count; i++) {
        client_open(&clients[i], load, NULL);
        client_expect(&clients[i], '2', 1);
    }
    printf("%u\n", load->count);
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    for (unsigned i = 0; i < load->count; i++)
        client_close(&clients[i]);
    free(clients);
}

int main(int count, char **words)
{
    struct load load = {.ssl_context = SSL_CTX_new(TLS_client_method())};
    const char *mode = count > 1 ? words[1] : "";

    signal(SIGPIPE, SIG_IGN);
    SSL_CTX_set_mode(load.ssl_context, SSL_MODE_AUTO_RETRY | SSL_MODE_RELEASE_BUFFERS);
    if (count > 3) {
        load.port = (uint16_t)number_from(words[2]);
        load.count = number_from(words[3]);
    }
    load.resumes = strcmp(mode, "resumed") == 0;
    if (count == 5 && (load.resumes || strcmp(mode, "handshakes") == 0)) {
        run_threads(handshakes_main, &load, number_from(words[4]));
    } else if (count == 6 && strcmp(mode, "messages") == 0) {
        load.octets = number_from(words[5]);
        run_threads(messages_main, &load, number_from(words[4]));
    } else if (count == 4 && strcmp(mode, "idle") == 0) {
        hold_idle(&load);
    } else {
        give_up("usage: tls handshakes|resumed|messages|idle PORT COUNT [THREADS [OCTETS]]; tls.py runs it");
    }
    SSL_CTX_free(load.ssl_context);
    return 0;
}
