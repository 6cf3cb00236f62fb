/* SPDX-License-Identifier: Apache-2.0 */
#include "control/session_log.h"

#include "base/log.h"
#include "base/mem.h"
#include "control/daily.h"
#include "os/clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/* Of one field; a line has four that a client may fill. */
#define FIELD_BYTES_MAX 2048
#define LINE_BYTES_MAX  DAILY_LINE_BYTES_MAX

static const char fields[] =
    "#Fields: date time c-ip cs-username s-sitename s-computername s-ip s-port cs-method cs-uri-stem cs-uri-query "
    "sc-status "
    "sc-win32-status sc-bytes cs-bytes time-taken cs-version cs-host cs(User-Agent) cs(Cookie) cs(Referer)\n";

struct session_log {
    const struct vfs *vfs;
    struct command_log_sink sink;
    pthread_rwlock_t lock; /* daily: written by the main thread alone */
    struct daily *daily;   /* NULL: off */
    char *directory;
};

/* ---- lines ---- */

static void append_time(struct buf *out, int64_t at_ms)
{
    const time_t seconds = (time_t)(at_ms / 1000);
    char text[24];
    struct tm tm;

    gmtime_r(&seconds, &tm);
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
    buf_append_str(out, str_from_cstr(text));
}

static void append_head(struct buf *out, int64_t at_ms)
{
    buf_append_str(out, STR("#Software: Postern " POSTERN_VERSION "\n#Version: 1.0\n#Date: "));
    append_time(out, at_ms);
    buf_append_char(out, '\n');
    buf_append_str(out, str_from_cstr(fields));
}

/* A field is one word: a space becomes "+", as the IIS services write it, and what would break a line "?". Nothing: "-". */
static void append_words(struct buf *out, struct str text)
{
    text = str_take(text, FIELD_BYTES_MAX);
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];

        buf_append_char(out, c == ' ' || c == '\t' ? '+' : c < 0x20 || c == 0x7f ? '?' : (char)c);
    }
}

static void append_field(struct buf *out, struct str text)
{
    buf_append_char(out, ' ');
    if (text.length == 0)
        buf_append_char(out, '-');
    else
        append_words(out, text);
}

static void append_number(struct buf *out, uint64_t number)
{
    buf_append_char(out, ' ');
    buf_append_u64(out, number);
}

void session_log_format(struct buf *out, const struct command_log_entry *entry, int64_t at_ms)
{
    const struct smtp_command_log *command = entry->command;
    char ip[NET_ADDRESS_TEXT_BYTES];

    append_time(out, at_ms);
    append_field(out, entry->client);
    append_field(out, entry->user.length > 0 ? entry->user : entry->helo);
    append_field(out, entry->server);
    append_field(out, entry->hostname);
    append_field(out, net_address_format_ip(entry->local, ip));
    append_number(out, entry->local->port);
    append_field(out, command->method);
    append_field(out, STR(""));
    if (command->argument.length > 0) {
        buf_append_str(out, STR(" +"));
        append_words(out, command->argument);
    } else {
        append_field(out, STR(""));
    }
    append_number(out, (uint64_t)command->code);
    append_number(out, 0); /* no error of Windows' */
    append_number(out, command->bytes_sent);
    append_number(out, command->bytes_received);
    append_number(out, command->taken_ms);
    buf_append_str(out, STR(" SMTP - - - -\n"));
}

static void tell(void *context, const struct command_log_entry *entry)
{
    struct session_log *log = context;
    const int64_t now_ms = clock_real_ms();
    struct buf line;

    pthread_rwlock_rdlock(&log->lock);
    if (log->daily) {
        buf_init(&line, LINE_BYTES_MAX);
        session_log_format(&line, entry, now_ms);
        daily_write(log->daily, buf_str(&line), now_ms);
        buf_release(&line);
    }
    pthread_rwlock_unlock(&log->lock);
}

/* ---- life ---- */

struct session_log *session_log_create(const struct vfs *vfs)
{
    struct session_log *log = mem_alloc(sizeof(*log));

    log->vfs = vfs;
    log->sink = (struct command_log_sink){.context = log, .tell = tell};
    pthread_rwlock_init(&log->lock, NULL);
    return log;
}

/* Ends what there is; the thread's last writes are waited for without the lock. */
static void replace(struct session_log *log, struct daily *daily, struct str directory)
{
    struct daily *before;

    pthread_rwlock_wrlock(&log->lock);
    before = log->daily;
    log->daily = daily;
    pthread_rwlock_unlock(&log->lock);
    daily_destroy(&before);
    free(log->directory);
    log->directory = daily ? mem_copy_str(directory) : NULL;
}

int session_log_configure(struct session_log *log, const struct config_session_log *config, struct error *error)
{
    const struct daily_settings settings = {.keep_ms = config->keep_ms, .bytes_max = config->bytes_max};
    const struct daily_options options = {.vfs = log->vfs,
                                          .directory = config->directory.data,
                                          .what = "session-log",
                                          .names = DAILY_NAMES_W3C,
                                          .head = append_head};
    struct daily *daily;

    if (config->format == CONFIG_SESSION_LOG_NONE) {
        replace(log, NULL, STR(""));
        return 0;
    }
    if (log->daily && str_equal(str_from_cstr(log->directory), config->directory))
        return daily_enable(log->daily, &settings, error);
    daily = daily_create(&options);
    if (daily_enable(daily, &settings, error) != 0) {
        daily_destroy(&daily);
        return -1;
    }
    replace(log, daily, config->directory);
    return 0;
}

void session_log_destroy(struct session_log **pointer)
{
    struct session_log *log = *pointer;

    *pointer = NULL;
    if (!log)
        return;
    replace(log, NULL, STR(""));
    pthread_rwlock_destroy(&log->lock);
    free(log);
}

const struct command_log_sink *session_log_sink(struct session_log *log)
{
    return &log->sink;
}
