/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/reply.h"

#include "mail/text.h"

void reply_parser_init(struct reply_parser *parser, bool is_ehlo)
{
    struct reply *reply = &parser->reply;

    /* Not the two big arrays: this runs for each reply. */
    memset(reply, 0, offsetof(struct reply, text));
    memset(&reply->capabilities, 0, offsetof(struct reply_capabilities, auth_mechanisms));
    parser->is_ehlo = is_ehlo;
    parser->bytes = 0;
    parser->line_length = 0;
}

/* ---- the text that is kept ---- */

/* There must be room. */
static void put(struct reply *reply, struct str text)
{
    memcpy(reply->text + reply->text_length, text.data, text.length);
    reply->text_length = (uint16_t)(reply->text_length + text.length);
}

/* How many printable ASCII bytes `s` starts with. */
static size_t plain_length(struct str s)
{
    size_t length = 0;

    while (length < s.length && s.data[length] >= ' ' && s.data[length] < 0x7f)
        length++;
    return length;
}

/* Text that does not fit is cut between characters. */
static void put_clean(struct reply *reply, struct str s)
{
    static const char digits[] = "0123456789abcdef";

    while (s.length > 0 && !reply->text_is_cut) {
        const size_t room = sizeof(reply->text) - reply->text_length;
        const struct str plain = str_take(s, plain_length(s));
        const size_t length = text_utf8_length(s);
        const unsigned char c = (unsigned char)s.data[0];
        const char escape[4] = {'\\', 'x', digits[c >> 4], digits[c & 15]};

        if (plain.length > 0) {
            put(reply, str_take(plain, room));
            s = str_skip(s, plain.length);
            reply->text_is_cut = plain.length > room;
        } else if ((length > 1 ? length : sizeof(escape)) > room) {
            reply->text_is_cut = true;
        } else if (length > 1) {
            put(reply, str_take(s, length));
            s = str_skip(s, length);
        } else {
            put(reply, str_make(escape, sizeof(escape)));
            s = str_skip(s, 1);
        }
    }
}

static void put_line(struct reply *reply, struct str text)
{
    if (str_is_empty(text) || reply->text_is_cut)
        return;
    if (reply->text_length > 0)
        put_clean(reply, STR(" "));
    put_clean(reply, text);
}

/* ---- codes ---- */

static bool parse_code(struct str line, int *code)
{
    if (line.length < 3 || line.data[0] < '2' || line.data[0] > '5' || !ascii_is_digit(line.data[1]) ||
        !ascii_is_digit(line.data[2]))
        return false;
    *code = (line.data[0] - '0') * 100 + (line.data[1] - '0') * 10 + (line.data[2] - '0');
    return line.length == 3 || line.data[3] == ' ' || line.data[3] == '-';
}

/* One number of a status code, of at most three digits: how many it has, 0 if there is none. */
static size_t parse_status_number(struct str s, uint16_t *number)
{
    unsigned value = 0;
    size_t i = 0;

    while (i < s.length && ascii_is_digit(s.data[i])) {
        if (i == 3)
            return 0;
        value = value * 10 + (unsigned)(s.data[i++] - '0');
    }
    *number = (uint16_t)value;
    return i;
}

/* "5.1.1 ..." (RFC 2034 4): the length of the code without the space after it, 0 if there is none. */
static size_t parse_enhanced(struct str text, uint16_t enhanced[3])
{
    size_t at = 0;

    for (size_t i = 0; i < 3; i++) {
        const size_t length = parse_status_number(str_skip(text, at), &enhanced[i]);
        const char wanted = i < 2 ? '.' : ' ';

        if (length == 0)
            return 0;
        at += length;
        if (i == 2 && at == text.length)
            return at;
        if (at >= text.length || text.data[at] != wanted)
            return 0;
        at++;
    }
    return at - 1;
}

/* Notes the status code of the first line; of later lines returns what follows, if they repeat it. */
static struct str take_enhanced(struct reply *reply, struct str text)
{
    uint16_t enhanced[3];
    const size_t length = parse_enhanced(text, enhanced);

    if (length == 0)
        return text;
    if (reply->line_count == 1) {
        reply->has_enhanced = enhanced[0] == reply->code / 100;
        if (reply->has_enhanced)
            memcpy(reply->enhanced, enhanced, sizeof(enhanced));
    } else if (reply->has_enhanced && memcmp(reply->enhanced, enhanced, sizeof(enhanced)) == 0) {
        return str_skip(text, length + 1);
    }
    return text;
}

/* ---- EHLO (RFC 5321 4.1.1.1) ---- */

bool reply_has_auth_mechanism(const struct reply_capabilities *capabilities, struct str mechanism)
{
    struct str rest = str_make(capabilities->auth_mechanisms, capabilities->auth_length);

    while (rest.length > 0)
        if (str_equal_nocase(str_split(&rest, ' '), mechanism))
            return true;
    return false;
}

static bool is_mechanism(struct str s)
{
    for (size_t i = 0; i < s.length; i++)
        if (!ascii_is_alpha(s.data[i]) && !ascii_is_digit(s.data[i]) && s.data[i] != '-' && s.data[i] != '_')
            return false;
    return s.length > 0;
}

static void add_auth_mechanisms(struct reply_capabilities *capabilities, struct str list)
{
    capabilities->auth = true;
    while (list.length > 0) {
        const struct str mechanism = str_split(&list, ' ');
        const size_t separator = capabilities->auth_length > 0 ? 1 : 0;

        char *const end = capabilities->auth_mechanisms + capabilities->auth_length;

        if (!is_mechanism(mechanism) || reply_has_auth_mechanism(capabilities, mechanism) ||
            mechanism.length + separator > sizeof(capabilities->auth_mechanisms) - capabilities->auth_length)
            continue;
        memcpy(end, " ", separator);
        memcpy(end + separator, mechanism.data, mechanism.length);
        capabilities->auth_length = (uint16_t)(capabilities->auth_length + separator + mechanism.length);
    }
}

static void note_capability(struct reply_capabilities *capabilities, struct str text)
{
    struct str parameters = text;
    const struct str keyword = str_split(&parameters, ' ');

    if (str_equal_nocase(keyword, STR("PIPELINING"))) {
        capabilities->pipelining = true;
    } else if (str_equal_nocase(keyword, STR("8BITMIME"))) {
        capabilities->eightbitmime = true;
    } else if (str_equal_nocase(keyword, STR("SMTPUTF8"))) {
        capabilities->smtputf8 = true;
    } else if (str_equal_nocase(keyword, STR("CHUNKING"))) {
        capabilities->chunking = true;
    } else if (str_equal_nocase(keyword, STR("DSN"))) {
        capabilities->dsn = true;
    } else if (str_equal_nocase(keyword, STR("STARTTLS"))) {
        capabilities->starttls = true;
    } else if (str_equal_nocase(keyword, STR("ENHANCEDSTATUSCODES"))) {
        capabilities->enhanced_status_codes = true;
    } else if (str_equal_nocase(keyword, STR("SIZE"))) {
        capabilities->size = true;
        if (!str_to_u64(text_trim_blanks(parameters), &capabilities->size_max))
            capabilities->size_max = 0;
    } else if (str_equal_nocase(keyword, STR("AUTH"))) {
        add_auth_mechanisms(capabilities, parameters);
    } else if (str_starts_with_nocase(keyword, STR("AUTH="))) { /* from before RFC 2554 */
        add_auth_mechanisms(capabilities, str_skip(text, 5));
    }
}

/* ---- lines ---- */

static enum reply_status take_line(struct reply_parser *parser, struct str line)
{
    struct reply *reply = &parser->reply;
    int code = 0;

    if (line.length > 0 && line.data[line.length - 1] == '\r')
        line.length--;
    if (line.length > REPLY_LINE_OCTETS_MAX || reply->line_count == REPLY_LINES_MAX)
        return REPLY_TOO_LONG;
    if (!parse_code(line, &code) || (reply->line_count > 0 && code != reply->code)) {
        put_line(reply, line);
        return REPLY_MALFORMED;
    }
    if (reply->line_count++ == 0)
        put(reply, str_take(line, 3));
    reply->code = code;

    const struct str text = text_trim_blanks(str_skip(line, 4));

    put_line(reply, take_enhanced(reply, text));
    if (parser->is_ehlo && code == 250 && reply->line_count > 1)
        note_capability(&reply->capabilities, text);
    return line.length > 3 && line.data[3] == '-' ? REPLY_MORE : REPLY_COMPLETE;
}

/* Keeps a piece of a line that is not whole yet. */
static bool keep(struct reply_parser *parser, struct str piece)
{
    if (piece.length > sizeof(parser->line) - parser->line_length)
        return false;
    if (piece.length > 0)
        memcpy(parser->line + parser->line_length, piece.data, piece.length);
    parser->line_length = (uint16_t)(parser->line_length + piece.length);
    return true;
}

size_t reply_parser_feed(struct reply_parser *parser, struct str input, enum reply_status *status)
{
    struct str rest = input;

    *status = REPLY_MORE;
    while (*status == REPLY_MORE && rest.length > 0) {
        const size_t newline = str_find(rest, '\n');
        const size_t used = newline == STR_NONE ? rest.length : newline + 1;
        struct str line = str_take(rest, newline == STR_NONE ? rest.length : newline);

        rest = str_skip(rest, used);
        if (used > REPLY_BYTES_MAX - parser->bytes) {
            *status = REPLY_TOO_LONG;
            break;
        }
        parser->bytes += (uint32_t)used;
        if (newline == STR_NONE || parser->line_length > 0) {
            if (!keep(parser, line)) {
                *status = REPLY_TOO_LONG;
                break;
            }
            line = str_make(parser->line, parser->line_length);
        }
        if (newline != STR_NONE) {
            parser->line_length = 0;
            *status = take_line(parser, line);
        }
    }
    return input.length - rest.length;
}
