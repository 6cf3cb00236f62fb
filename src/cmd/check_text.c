/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/check_text.h"

#include "base/mem.h"
#include "cmd/tool.h"

#include <stdarg.h>
#include <stdlib.h>

/* More rows, or names in a row, than this help nobody. */
#define NETWORKS_SHOWN  16
#define NAMES_SHOWN     8
#define CELL_BYTES_MAX  65536
#define WHO_COLUMNS_MAX 48

/* ---- the table ---- */

struct row {
    char *who;
    char *where;
};

struct table {
    struct row *rows;
    size_t count;
    size_t capacity;
};

/* Takes over both texts. */
static void add_row(struct table *table, char *who, char *where)
{
    if (table->count == table->capacity) {
        table->capacity = table->capacity ? table->capacity * 2 : 16;
        table->rows = mem_resize_array(table->rows, table->capacity, sizeof(table->rows[0]));
    }
    table->rows[table->count++] = (struct row){who, where};
}

static void print_table(const struct table *table)
{
    size_t width = 0;

    for (size_t i = 0; i < table->count; i++) {
        size_t length = strlen(table->rows[i].who);

        if (length > width && length <= WHO_COLUMNS_MAX)
            width = length;
    }
    for (size_t i = 0; i < table->count; i++)
        printf("  %-*s \xe2\x86\x92 %s\n", (int)width, table->rows[i].who, table->rows[i].where);
}

static void release_table(struct table *table)
{
    for (size_t i = 0; i < table->count; i++) {
        free(table->rows[i].who);
        free(table->rows[i].where);
    }
    free(table->rows);
}

/* ---- texts ---- */

/* What has been appended to `buf`, as a string of its own. */
static char *take_text(struct buf *buf)
{
    char *text = mem_copy_str(buf_str(buf));

    buf_release(buf);
    return text;
}

static void append_separator(struct buf *out, size_t index)
{
    if (index > 0)
        buf_append_str(out, STR(", "));
}

static void append_more(struct buf *out, size_t count, size_t shown, const char *what)
{
    if (count > shown)
        buf_printf(out, " and %zu more%s", count - shown, what);
}

static void append_size(struct buf *out, __uint128_t size)
{
    char number[SPACE_NUMBER_BYTES];

    space_format_number(size, ',', number);
    buf_printf(out, " (%s address%s)", number, size == 1 ? "" : "es");
}

static void append_network(struct buf *out, const struct space_network *network)
{
    char text[CIDR_TEXT_BYTES];

    space_format_network(network, text);
    buf_append_str(out, str_from_cstr(text));
}

/* "10.0.0.0/8, 192.0.2.7 and 3 more networks" */
static void append_networks(struct buf *out, const struct space *set)
{
    struct space_network *networks;
    size_t count = space_networks(set, &networks);

    for (size_t i = 0; i < count && i < NAMES_SHOWN; i++) {
        append_separator(out, i);
        append_network(out, &networks[i]);
    }
    append_more(out, count, NAMES_SHOWN, " networks");
    free(networks);
}

static bool is_all(const struct space *set)
{
    struct space rest;
    bool all;

    space_complement(set, &rest);
    all = space_is_empty(&rest);
    space_release(&rest);
    return all;
}

/* All addresses but some, where those are fewer networks than what is left. */
static bool is_all_but_few(const struct space *set, struct space *rest)
{
    struct space_counts counts;

    space_complement(set, rest);
    space_count(set, &counts);
    return counts.ipv4_public > POLICY_OPEN_IPV4 && counts.ipv6_public > POLICY_OPEN_IPV6;
}

/* Who these addresses are, in few words. */
static char *describe_addresses(const struct space *set)
{
    struct space rest;
    struct buf out;

    buf_init(&out, CELL_BYTES_MAX);
    if (is_all(set)) {
        buf_append_str(&out, STR("anyone on the Internet"));
        return take_text(&out);
    }
    if (is_all_but_few(set, &rest)) {
        buf_append_str(&out, STR("anyone on the Internet except "));
        append_networks(&out, &rest);
    } else if (space_is_empty(set)) {
        buf_append_str(&out, STR("nobody by address"));
    } else {
        append_networks(&out, set);
    }
    space_release(&rest);
    return take_text(&out);
}

/* The domains whose mail is taken. */
static char *describe_domains(const struct policy_model *model)
{
    const struct policy_domain *domain = NULL;
    char pattern[POLICY_PATTERN_BYTES];
    struct buf out;
    size_t count = 0;

    buf_init(&out, CELL_BYTES_MAX);
    while ((domain = policy_next_domain(model, domain))) {
        if (count < NAMES_SHOWN) {
            append_separator(&out, count);
            policy_pattern(domain->name, domain->is_wildcard, pattern);
            buf_append_str(&out, str_from_cstr(pattern));
        }
        count++;
    }
    append_more(&out, count, NAMES_SHOWN, " domains");
    if (count == 0)
        buf_append_str(&out, STR("nowhere: there are no domains"));
    return take_text(&out);
}

static char *describe_override(const struct policy_connector *connector)
{
    char pattern[POLICY_PATTERN_BYTES];
    struct buf out;

    buf_init(&out, CELL_BYTES_MAX);
    for (size_t i = 0; i < connector->space_count && i < NAMES_SHOWN; i++) {
        append_separator(&out, i);
        policy_pattern(connector->spaces[i].domain, connector->spaces[i].is_wildcard, pattern);
        buf_append_str(&out, str_from_cstr(pattern));
    }
    append_more(&out, connector->space_count, NAMES_SHOWN, "");
    buf_printf(&out, "   (the connector %.*s OVERRIDES the server's relay restrictions)", STR_ARG(connector->name));
    return take_text(&out);
}

/* ---- users ---- */

/* Appends those entries; returns how many there are. */
static size_t append_users(struct buf *out, const struct policy_user_list *list, size_t before)
{
    size_t position = 0;
    struct policy_user_view view;
    size_t count = before;

    while (policy_user_list_next(list, &position, &view)) {
        if (count < NAMES_SHOWN) {
            append_separator(out, count);
            buf_printf(out, "%s%.*s", view.is_group ? "group:" : "", STR_ARG(view.name));
        }
        count++;
    }
    return count;
}

static void append_excepted_users(struct buf *out, const struct policy_server *server)
{
    size_t position = 0;
    struct policy_user_view view;
    size_t count;

    if (!policy_user_list_next(server->relay_deny, &position, &view) &&
        !policy_user_list_next(server->submit_deny, &position, &view))
        return;
    buf_append_str(out, STR(" except "));
    count = append_users(out, server->submit_deny, append_users(out, server->relay_deny, 0));
    append_more(out, count, NAMES_SHOWN, "");
}

static char *describe_users(const struct policy_server_proof *proof)
{
    const struct policy_server *server = proof->server;
    const struct policy_user_list *listed = server->relay_authenticated ? server->submit_allow : server->relay_allow;
    struct buf out;

    buf_init(&out, CELL_BYTES_MAX);
    buf_append_str(&out, STR("authenticated "));
    if (proof->authenticated == POLICY_AUTHENTICATED_LISTED)
        append_more(&out, append_users(&out, listed, 0), NAMES_SHOWN, "");
    else
        buf_append_str(&out, STR("users"));
    append_excepted_users(&out, server);
    return take_text(&out);
}

/* ---- one server ---- */

static void add_networks(struct table *table, const struct space *set)
{
    struct space_network *networks;
    size_t count = space_networks(set, &networks);
    size_t shown = count > NETWORKS_SHOWN ? NETWORKS_SHOWN - 1 : count;
    __uint128_t rest = 0;
    struct buf out;

    for (size_t i = 0; i < shown; i++) {
        buf_init(&out, CELL_BYTES_MAX);
        append_network(&out, &networks[i]);
        append_size(&out, networks[i].size);
        add_row(table, take_text(&out), mem_copy_str(STR("anywhere")));
    }
    for (size_t i = shown; i < count; i++)
        rest += networks[i].size;
    if (count > shown) {
        buf_init(&out, CELL_BYTES_MAX);
        buf_printf(&out, "%zu more networks", count - shown);
        append_size(&out, rest);
        add_row(table, take_text(&out), mem_copy_str(STR("anywhere")));
    }
    free(networks);
}

static void add_relay_rows(struct table *table, const struct policy_server_proof *proof)
{
    struct space rest;
    bool vast = is_all_but_few(&proof->relay, &rest);

    space_release(&rest);
    if (vast)
        add_row(table, describe_addresses(&proof->relay), mem_copy_str(STR("anywhere")));
    else
        add_networks(table, &proof->relay);
    for (size_t i = 0; i < proof->domains.count; i++)
        add_row(table, mem_printf("hosts at or below %.*s", STR_ARG(proof->domains.items[i].name)),
                mem_copy_str(STR("anywhere   (by their verified host name)")));
    for (size_t i = 0; i < proof->certificates.count; i++)
        add_row(table, mem_printf("certificate %.*s...", STR_ARG(str_take(proof->certificates.items[i].name, 16))),
                mem_copy_str(STR("anywhere   (who holds its key)")));
}

static void add_rows(struct table *table, const struct policy_model *model, const struct policy_server_proof *proof)
{
    bool by_name = proof->server->anonymous && proof->server->connect_mode == POLICY_LIST_ONLY &&
                   policy_client_list_has_domain(proof->server->connect);

    if (!space_is_empty(&proof->submit) || by_name) {
        char *who = describe_addresses(&proof->submit);

        if (by_name)
            add_row(table, mem_copy_str(STR("hosts whose verified name may connect")), describe_domains(model));
        if (!space_is_empty(&proof->submit))
            add_row(table, mem_copy_str(str_from_cstr(who)), describe_domains(model));
        for (size_t i = 0; i < proof->override_count; i++)
            add_row(table, mem_copy_str(str_from_cstr(who)), describe_override(proof->overrides[i]));
        free(who);
    }
    add_relay_rows(table, proof);
    add_row(table, describe_users(proof),
            proof->authenticated == POLICY_AUTHENTICATED_NOBODY ? describe_domains(model)
                                                                : mem_copy_str(STR("anywhere")));
}

static const char *exposure_color(enum policy_exposure exposure)
{
    const struct tool_colors *colors = tool_colors();

    return exposure == POLICY_OPEN ? colors->bad : exposure == POLICY_RESTRICTED ? colors->warning : colors->good;
}

static void print_server(const struct config *config, size_t index)
{
    const struct policy_server_proof *proof = &config->proof->servers[index];
    const struct config_server *server = &config->servers[index];
    const struct tool_colors *colors = tool_colors();
    struct table table = {0};

    printf("%s%.*s%s (", colors->strong, STR_ARG(server->name), colors->end);
    for (size_t i = 0; i < server->listen_count; i++)
        printf("%s%.*s", i > 0 ? ", " : "", STR_ARG(server->listen[i].text));
    printf("): %s%s%s\n", exposure_color(proof->exposure), policy_exposure_name(proof->exposure), colors->end);
    if (proof->exposure == POLICY_OPEN) {
        printf("  %sOPEN RELAY%s: %s\n", colors->bad, colors->end, proof->reason.text);
        printf("    %s (%s:%u)\n", proof->reason.rule->path,
               proof->reason.rule->file ? proof->reason.rule->file : "default", proof->reason.rule->line);
        if (server->allow_open_relay.length > 0)
            printf("    allow-open-relay: %.*s\n", STR_ARG(server->allow_open_relay));
        else
            printf("    posternd will not start with it, unless allow-open-relay says why\n");
    }
    add_rows(&table, config->policy, proof);
    print_table(&table);
    release_table(&table);
    printf("\n");
}

void check_text_print_proof(const struct config *config)
{
    for (size_t i = 0; i < config->proof->server_count; i++)
        print_server(config, i);
}

/* ---- what has changed ---- */

static void print_names(const char *sign, const char *prefix, const struct policy_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        printf("  %s %s%.*s\n", sign, prefix, STR_ARG(names->items[i]));
}

static void print_change(const char *sign, const struct policy_change *change)
{
    struct space_network *networks;
    size_t count = space_networks(&change->addresses, &networks);

    for (size_t i = 0; i < count; i++) {
        struct buf line;

        buf_init(&line, CELL_BYTES_MAX);
        append_network(&line, &networks[i]);
        append_size(&line, networks[i].size);
        printf("  %s %.*s\n", sign, STR_ARG(buf_str(&line)));
        buf_release(&line);
    }
    free(networks);
    print_names(sign, "domain:", &change->domains);
    print_names(sign, "cert:", &change->certificates);
    print_names(sign, "", &change->users);
    print_names(sign, "everyone, by the connector ", &change->overrides);
}

void check_text_print_comparison(const struct policy_comparison *comparison, const char *old_path)
{
    const struct tool_colors *colors = tool_colors();
    bool any = false;

    for (size_t i = 0; i < comparison->server_count; i++) {
        const struct policy_server_change *server = &comparison->servers[i];

        if (policy_change_is_empty(&server->gains) && policy_change_is_empty(&server->loses))
            continue;
        any = true;
        printf("%s%.*s%s, against %s:\n", colors->strong, STR_ARG(server->server), colors->end, old_path);
        print_change("gains", &server->gains);
        print_change("loses", &server->loses);
        printf("\n");
    }
    if (!any)
        printf("against %s: nobody gains and nobody loses relay\n\n", old_path);
}
