/* SPDX-License-Identifier: Apache-2.0 */
#include "config/value.h"

#include "mail/domain.h"

#include <inttypes.h>

#define SMTP_PORT 25

struct unit {
    struct str name;
    uint64_t factor;
};

static const struct unit duration_units[] = {{STR_INIT("d"), 86400000},
                                             {STR_INIT("h"), 3600000},
                                             {STR_INIT("m"), 60000},
                                             {STR_INIT("s"), 1000},
                                             {STR_INIT("ms"), 1}};
static const struct unit size_units[] = {
    {STR_INIT("GiB"), 1u << 30}, {STR_INIT("MiB"), 1u << 20}, {STR_INIT("KiB"), 1u << 10}, {STR_INIT(""), 1}};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Long values are cut in messages. */
#define SHOWN_BYTES_MAX 80
#define SHOWN(text)     STR_ARG(str_take((text), SHOWN_BYTES_MAX))

int value_bool(struct str text, bool *value, struct error *error)
{
    *value = str_equal(text, STR("true"));
    if (*value || str_equal(text, STR("false")))
        return 0;
    return error_set(error, "wants true or false, not \"%.*s\"", SHOWN(text));
}

int value_integer(struct str text, uint64_t *value, struct error *error)
{
    if (str_to_u64(text, value))
        return 0;
    return error_set(error, "wants a whole number, not \"%.*s\"", SHOWN(text));
}

/* Digits, then exactly one of the units; false on anything else or overflow. */
static bool parse_with_unit(struct str text, const struct unit *units, size_t unit_count, uint64_t *value)
{
    size_t digits = 0;
    struct str unit;

    while (digits < text.length && ascii_is_digit(text.data[digits]))
        digits++;
    unit = str_skip(text, digits);
    if (!str_to_u64(str_take(text, digits), value))
        return false;
    for (size_t i = 0; i < unit_count; i++)
        if (str_equal(unit, units[i].name))
            return !__builtin_mul_overflow(*value, units[i].factor, value);
    return false;
}

int value_duration(struct str text, uint64_t *value_ms, struct error *error)
{
    if (parse_with_unit(text, duration_units, COUNT(duration_units), value_ms))
        return 0;
    return error_set(error, "wants a duration like 90s, 15m, 4h or 2d, not \"%.*s\"", SHOWN(text));
}

int value_size(struct str text, uint64_t *bytes, struct error *error)
{
    if (parse_with_unit(text, size_units, COUNT(size_units), bytes))
        return 0;
    return error_set(error, "wants a size like 64KiB, 36MiB or 1GiB, not \"%.*s\"", SHOWN(text));
}

int value_rate(struct str text, struct config_rate *rate, struct error *error)
{
    struct str unit = text;
    struct str count = str_split(&unit, '/');

    if (str_to_u64(count, &rate->count) && rate->count > 0)
        for (size_t i = 0; i < COUNT(duration_units) - 1; i++)
            if (str_equal(unit, duration_units[i].name)) {
                rate->period_ms = duration_units[i].factor;
                return 0;
            }
    return error_set(error, "wants a rate like 60/m or 1000/h, not \"%.*s\"", SHOWN(text));
}

static int parse_port(struct str text, uint16_t lowest, uint16_t *port, struct error *error)
{
    uint64_t value;

    if (!str_to_u64(text, &value) || value < lowest || value > UINT16_MAX)
        return error_set(error, "wants a port from %u to 65535 after the colon, not \"%.*s\"", lowest, SHOWN(text));
    *port = (uint16_t)value;
    return 0;
}

/* "[HOST]REST" or "HOST:REST" with the last colon; REST is empty, or begins with the colon. */
static int split_host(struct str text, struct str *host, struct str *rest, bool *bracketed)
{
    size_t at;

    *bracketed = text.length > 0 && text.data[0] == '[';
    if (*bracketed) {
        at = str_find(text, ']');
        if (at == STR_NONE)
            return -1;
        *host = str_make(text.data + 1, at - 1);
        *rest = str_skip(text, at + 1);
        return rest->length == 0 || rest->data[0] == ':' ? 0 : -1;
    }
    at = str_find_last(text, ':');
    if (at == STR_NONE || str_find(text, ':') != at)
        at = text.length; /* several colons without brackets: a bare IPv6 address */
    *host = str_take(text, at);
    *rest = str_skip(text, at);
    return 0;
}

int value_listen(struct str text, struct config_listen *listen, struct error *error)
{
    struct str host;
    struct str rest;
    bool bracketed;

    *listen = (struct config_listen){.text = text};
    if (split_host(text, &host, &rest, &bracketed) != 0 || rest.length == 0 ||
        !cidr_parse_address(host, &listen->address) || bracketed != (str_find(host, ':') != STR_NONE))
        return error_set(error, "wants a numeric address and a port, like 0.0.0.0:25 or [::]:25, not \"%.*s\"",
                         SHOWN(text));
    listen->is_ipv4 = cidr_is_ipv4(&listen->address);
    return parse_port(str_skip(rest, 1), 0, &listen->port, error);
}

int value_smart_host(struct str text, struct config_smart_host *host, struct error *error)
{
    struct str rest;
    bool bracketed;
    char normal[DOMAIN_TEXT_BYTES];

    *host = (struct config_smart_host){.text = text, .port = SMTP_PORT};
    if (split_host(text, &host->host, &rest, &bracketed) != 0)
        return error_set(error, "wants NAME, NAME:PORT, ADDRESS:PORT or [ADDRESS]:PORT, not \"%.*s\"", SHOWN(text));
    if (bracketed && str_starts_with_nocase(host->host, STR("IPv6:")))
        host->host = str_skip(host->host, 5);
    host->is_address = cidr_parse_address(host->host, &host->address);
    host->skip_mx = host->is_address || bracketed;
    if (!host->is_address && domain_normalize(host->host, normal) == 0)
        return error_set(error, "wants a host name or a numeric address, not \"%.*s\"", SHOWN(host->host));
    return rest.length > 0 ? parse_port(str_skip(rest, 1), 1, &host->port, error) : 0;
}

int value_text(struct str text, size_t length_max, struct error *error)
{
    for (size_t i = 0; i < text.length; i++)
        if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7f)
            return error_set(error, "wants one line of text without control characters");
    if (text.length > length_max)
        return error_set(error, "wants at most %zu octets, not %zu", length_max, text.length);
    return 0;
}

static void format_with_unit(uint64_t value, const struct unit *units, size_t unit_count, char text[32])
{
    size_t i = 0;

    while (i + 1 < unit_count && (value == 0 || value % units[i].factor != 0))
        i++;
    snprintf(text, 32, "%" PRIu64 "%.*s", value / units[i].factor, STR_ARG(units[i].name));
}

void value_format_duration(uint64_t value_ms, char text[32])
{
    if (value_ms == 0)
        snprintf(text, 32, "0s");
    else
        format_with_unit(value_ms, duration_units, COUNT(duration_units), text);
}

void value_format_size(uint64_t bytes, char text[32])
{
    format_with_unit(bytes, size_units, COUNT(size_units), text);
}
