/* SPDX-License-Identifier: Apache-2.0 */
#include "relaytest/probes.h"

#include <assert.h>

/* clang-format off */
const struct probe probes[] = {
    {1, 0, "standard", "<{s}@{X}>", "<{u}@{X}>",
     "Servers once carried mail for everybody; that is how the net worked."},
    {2, 0, "bare sender", "<{s}>", "<{u}@{X}>",
     "A sender without a domain was completed with the server's own, and then taken for a local user."},
    {3, 0, "null sender", "<>", "<{u}@{X}>",
     "Reports must get through, so the null sender was exempt from the checks."},
    {4, 0, "local sender", "<{s}@{L}>", "<{u}@{X}>",
     "A sender in the server's own domain was taken for a user of it; anybody can write one."},
    {5, 0, "server's name as sender", "<{s}@{H}>", "<{u}@{X}>",
     "Mail from the server itself was trusted, by the name that the sender claims."},
    {6, 'a', "server's address as sender", "<{s}@[{A}]>", "<{u}@{X}>",
     "Mail from the server itself was trusted, by the address literal that the sender claims."},
    {6, 'b', "server's address as sender, bare", "<{s}@{a}>", "<{u}@{X}>",
     "The same without brackets, for servers that look for the address in the text."},
    {7, 'a', "localhost as sender", "<{s}@localhost>", "<{u}@{X}>",
     "localhost was among the names that relay, and was looked for in the sender."},
    {7, 'b', "127.0.0.1 as sender", "<{s}@[127.0.0.1]>", "<{u}@{X}>",
     "The loopback address was among those that relay, and was looked for in the sender."},
    {8, 0, "client's name as sender", "<{s}@{C}>", "<{u}@{X}>",
     "A sender whose domain fits the client's host name was believed."},
    {9, 0, "percent hack, bare", "<{s}>", "<{u}%{X}>",
     "The last % was taken for an @ once a local name had been stripped off (the percent hack)."},
    {10, 0, "quoted address", "<{s}@{L}>", "<\"{u}@{X}\">",
     "Quotes were stripped, and what was inside was read as an address again."},
    {11, 0, "quoted percent", "<{s}@{L}>", "<\"{u}%{X}\">",
     "Quotes were stripped, and the % inside became an @."},
    {12, 'a', "percent hack at the server's name", "<{s}@{L}>", "<{u}%{X}@{H}>",
     "The recipient is local, and its local part was then routed on as an address (RFC 1123 5.2.16)."},
    {12, 'b', "percent hack at the local domain", "<{s}@{L}>", "<{u}%{X}@{L}>",
     "The recipient is local, and its local part was then routed on as an address (RFC 1123 5.2.16)."},
    {13, 0, "percent hack at the server's address", "<{s}@{L}>", "<{u}%{X}@[{A}]>",
     "The same by way of an address literal, which some checks did not know as local."},
    {14, 'a', "two @, server's name", "<{s}@{L}>", "<{u}@{X}@{H}>",
     "The check looked at the last @, the delivery at the first."},
    {14, 'b', "two @, local domain", "<{s}@{L}>", "<{u}@{X}@{L}>",
     "The check looked at the last @, the delivery at the first."},
    {15, 0, "two @, server's address", "<{s}@{L}>", "<{u}@{X}@[{A}]>",
     "The check looked at the last @, the delivery at the first."},
    {16, 'a', "quoted address at the server's name", "<{s}@{L}>", "<\"{u}@{X}\"@{H}>",
     "The recipient is local, and its quoted local part was then read as an address."},
    {16, 'b', "quoted address at the local domain", "<{s}@{L}>", "<\"{u}@{X}\"@{L}>",
     "The recipient is local, and its quoted local part was then read as an address."},
    {17, 0, "quoted address at the server's address", "<{s}@{L}>", "<\"{u}@{X}\"@[{A}]>",
     "The same by way of an address literal."},
    {18, 'a', "source route by the server's name", "<{s}@{L}>", "<@{H}:{u}@{X}>",
     "Source routes were obeyed, and only their first hop was checked (RFC 821 3.6)."},
    {18, 'b', "source route by the local domain", "<{s}@{L}>", "<@{L}:{u}@{X}>",
     "Source routes were obeyed, and only their first hop was checked (RFC 821 3.6)."},
    {19, 0, "source route by the server's address", "<{s}@{L}>", "<@[{A}]:{u}@{X}>",
     "The same by way of an address literal."},
    {20, 0, "UUCP bang path", "<{s}@{L}>", "<{X}!{u}>",
     "A bang path was rewritten into an address, after it had been taken for a local name."},
    {21, 'a', "bang path at the server's name", "<{s}@{L}>", "<{X}!{u}@{H}>",
     "The recipient is local, and its local part was then routed on as a bang path."},
    {21, 'b', "bang path at the local domain", "<{s}@{L}>", "<{X}!{u}@{L}>",
     "The recipient is local, and its local part was then routed on as a bang path."},
    {22, 0, "bang path at the server's address", "<{s}@{L}>", "<{X}!{u}@[{A}]>",
     "The same by way of an address literal."},
    {23, 0, "empty domain behind the address", "<{s}@{L}>", "<{u}@{X}@>",
     "The empty domain passed for none, thus local, and was then cut off."},
    {24, 0, "without brackets", "{s}@{X}", "{u}@{X}",
     "Addresses without angle brackets took another way through the parser, past the check."},
    {25, 0, "bang path as sender", "<{H}!nobody>", "<{u}@{X}>",
     "A bang path that begins with the server's name passed for a local sender."},
    {26, 0, "local recipient at the server's address", "<{s}@[{A}]>", "<{u}@[{A}]>",
     "Not a relay: who takes it takes local mail. Testers that call it an open relay are wrong."},
};
/* clang-format on */

const size_t probe_count = sizeof(probes) / sizeof(probes[0]);

_Static_assert(sizeof(probes) / sizeof(probes[0]) <= PROBE_ROWS_MAX, "arrays of rows are too short");

static struct str name_of(char letter, const struct probe_names *names)
{
    switch (letter) {
    case 's':
        return names->sender_local;
    case 'u':
        return names->recipient_local;
    case 'X':
        return names->external;
    case 'L':
        return names->local_domain;
    case 'H':
        return names->server_name;
    case 'A':
        return names->server_address;
    case 'C':
        return names->client_name;
    case 'a':
        return str_starts_with_nocase(names->server_address, STR("IPv6:")) ? str_skip(names->server_address, 5)
                                                                           : names->server_address;
    default:
        assert(false); /* the table has no other letter */
        return STR("");
    }
}

void probe_expand(struct buf *out, const char *pattern, const struct probe_names *names)
{
    while (*pattern) {
        if (pattern[0] == '{' && pattern[1] && pattern[2] == '}') {
            buf_append_str(out, name_of(pattern[1], names));
            pattern += 3;
        } else {
            buf_append_char(out, *pattern++);
        }
    }
}

bool probe_has_external_sender(const struct probe *probe)
{
    return strstr(probe->sender, "{s}@{X}") != NULL;
}

bool probe_has_plain_recipient(const struct probe *probe)
{
    return strcmp(probe->recipient, "<{u}@{X}>") == 0;
}

/* ---- selection ---- */

static bool parse_number(struct str text, unsigned *number)
{
    uint64_t value;

    if (!str_to_u64(text, &value) || value < 1 || value > PROBE_NUMBER_MAX)
        return false;
    *number = (unsigned)value;
    return true;
}

bool probe_select(struct str list, bool selected[PROBE_NUMBER_MAX + 1])
{
    if (str_is_empty(list))
        return false;
    do {
        struct str last = str_split(&list, ',');
        struct str first = str_split(&last, '-');
        unsigned from, to;

        if (!parse_number(first, &from))
            return false;
        to = from;
        if (last.data && !parse_number(last, &to))
            return false;
        if (to < from)
            return false;
        for (unsigned number = from; number <= to; number++)
            selected[number] = true;
    } while (list.data);
    return true;
}
