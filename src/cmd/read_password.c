/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/read_password.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <termios.h>
#include <unistd.h>

/* Whatever ends the program, or puts it aside, must first give the terminal its echo back. */
static const int ending_signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
#define ENDING_SIGNAL_COUNT (sizeof(ending_signals) / sizeof(ending_signals[0]))

static volatile sig_atomic_t caught_signal;

static void catch_signal(int number)
{
    caught_signal = number;
}

/* The next byte, as read(2). With `unblocked`, signals come only while it waits, so that none falls between two looks at caught_signal. */
static ssize_t read_byte(const sigset_t *unblocked, char *c)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

    while (unblocked && !caught_signal && ppoll(&input, 1, NULL, unblocked) < 0)
        if (errno != EINTR)
            return -1;
    return caught_signal ? -1 : read(STDIN_FILENO, c, 1);
}

/* Up to the end of the line, which is left out. The length; -1 at the end of input, at a signal, or if it is too long. */
static int read_line(const sigset_t *unblocked, char *line, size_t size)
{
    size_t length = 0;
    char c;

    for (;;) {
        ssize_t got = read_byte(unblocked, &c);

        if (got < 0 || (got == 0 && length == 0))
            return -1;
        if (got == 0 || c == '\n')
            break;
        if (length + 1 == size) {
            fprintf(stderr, "postern: a password has at most %d octets\n", PASSWORD_BYTES_MAX);
            return -1;
        }
        line[length++] = c;
    }
    if (length > 0 && line[length - 1] == '\r')
        length--;
    line[length] = '\0';
    return (int)length;
}

static int ask(const sigset_t *unblocked, const char *prompt, const char *user, char line[PASSWORD_BYTES_MAX + 1])
{
    int length;

    fprintf(stderr, "%s %s: ", prompt, user);
    length = read_line(unblocked, line, PASSWORD_BYTES_MAX + 1);
    fputc('\n', stderr);
    return length;
}

static int ask_twice(const sigset_t *unblocked, const char *user, char password[PASSWORD_BYTES_MAX + 1])
{
    char again[PASSWORD_BYTES_MAX + 1];
    int length = ask(unblocked, "New password for", user, password);
    int again_length = length < 0 ? -1 : ask(unblocked, "Once more for", user, again);
    bool is_same = length >= 0 && length == again_length && memcmp(password, again, (size_t)length) == 0;

    explicit_bzero(again, sizeof(again));
    if (is_same)
        return length;
    if (again_length >= 0)
        fprintf(stderr, "postern: the two are not the same; nothing was changed\n");
    return -1;
}

static int ask_terminal(const struct termios *before, const char *user, char password[PASSWORD_BYTES_MAX + 1])
{
    struct sigaction old[ENDING_SIGNAL_COUNT], catching = {.sa_handler = catch_signal};
    struct termios silent = *before;
    sigset_t ending, unblocked;
    int length;

    sigemptyset(&ending);
    sigemptyset(&catching.sa_mask);
    for (size_t i = 0; i < ENDING_SIGNAL_COUNT; i++) {
        sigaddset(&ending, ending_signals[i]);
        sigaction(ending_signals[i], &catching, &old[i]);
    }
    sigprocmask(SIG_BLOCK, &ending, &unblocked);
    silent.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    length = ask_twice(&unblocked, user, password);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, before);
    for (size_t i = 0; i < ENDING_SIGNAL_COUNT; i++)
        sigaction(ending_signals[i], &old[i], NULL);
    sigprocmask(SIG_SETMASK, &unblocked, NULL);
    if (caught_signal)
        raise(caught_signal);
    return length;
}

static int judge(const char *password, int length)
{
    if (length < 0)
        return -1;
    if (length < READ_PASSWORD_BYTES_MIN || memchr(password, '\0', (size_t)length)) {
        fprintf(stderr, "postern: a password has at least %d octets, none of them NUL; nothing was changed\n",
                READ_PASSWORD_BYTES_MIN);
        return -1;
    }
    if (length < READ_PASSWORD_BYTES_ADVISED)
        fprintf(stderr, "postern: warning: a password of less than %d octets is weak\n", READ_PASSWORD_BYTES_ADVISED);
    return length;
}

int read_new_password(const char *user, char password[PASSWORD_BYTES_MAX + 1])
{
    struct termios before;
    int length;

    if (tcgetattr(STDIN_FILENO, &before) == 0)
        length = ask_terminal(&before, user, password);
    else
        length = read_line(NULL, password, PASSWORD_BYTES_MAX + 1);
    if (length < 0)
        fprintf(stderr, "postern: no password was read\n");
    length = judge(password, length);
    if (length < 0)
        explicit_bzero(password, PASSWORD_BYTES_MAX + 1);
    return length;
}
