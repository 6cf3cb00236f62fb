/* SPDX-License-Identifier: Apache-2.0 */
/* What a filter means. Pure. */
#include "queue/control_private.h"

static const struct {
    enum queue_state state;
    const char *name;
} state_names[] = {
    {QUEUE_STATE_WAITING, "waiting"},   {QUEUE_STATE_READY, "ready"},     {QUEUE_STATE_TAKEN, "taken"},
    {QUEUE_STATE_HELD, "held"},         {QUEUE_STATE_FAILED, "failed"},   {QUEUE_STATE_DELIVERED, "delivered"},
    {QUEUE_STATE_REPORTED, "reported"}, {QUEUE_STATE_DELETED, "deleted"},
};
#define STATE_NAMES (sizeof(state_names) / sizeof(state_names[0]))

const char *queue_state_name(enum queue_state state)
{
    for (size_t i = 0; i < STATE_NAMES; i++) {
        if (state_names[i].state == state)
            return state_names[i].name;
    }
    return "?";
}

bool queue_state_parse(struct str name, enum queue_state *state)
{
    for (size_t i = 0; i < STATE_NAMES; i++) {
        if (!str_equal_nocase(name, str_from_cstr(state_names[i].name)))
            continue;
        *state = state_names[i].state;
        return true;
    }
    return false;
}

/* ---- patterns ---- */

/* Each `*` is tried at the first place that fits: what stands between two of them fits later whenever it fits at all. Linear but for the
 * search of each part. */
bool queue_pattern_matches(struct str pattern, struct str text)
{
    size_t p = 0, t = 0, star = STR_NONE, resume = 0;

    while (t < text.length) {
        if (p < pattern.length && pattern.data[p] == '*') {
            star = p++;
            resume = t;
        } else if (p < pattern.length && ascii_lower(pattern.data[p]) == ascii_lower(text.data[t])) {
            p++;
            t++;
        } else if (star != STR_NONE) {
            p = star + 1;
            t = ++resume;
        } else {
            return false;
        }
    }
    while (p < pattern.length && pattern.data[p] == '*')
        p++;
    return p == pattern.length;
}

static bool has_star(struct str text)
{
    return str_find(text, '*') != STR_NONE;
}

/* "*.DOMAIN" without another star. */
static bool is_below(struct str condition)
{
    return str_starts_with(condition, STR("*.")) && !has_star(str_skip(condition, 2));
}

bool queue_domain_matches(struct str condition, struct str domain)
{
    struct str base = str_skip(condition, 1);

    if (!str_starts_with(condition, STR("@")))
        return queue_pattern_matches(condition, domain);
    if (str_equal_nocase(base, domain))
        return true;
    return domain.length > base.length && domain.data[domain.length - base.length - 1] == '.' &&
           str_equal_nocase(base, str_skip(domain, domain.length - base.length));
}

/* ---- what the table can tell of it ---- */

/* Of a domain that has none above it in the table, nothing is known of what is below it. */
static uint64_t bits_of_domain(struct str condition)
{
    struct str base = condition;

    if (str_starts_with(condition, STR("@")))
        base = str_skip(condition, 1);
    else if (is_below(condition))
        base = str_skip(condition, 2);
    if (has_star(base) || (base.length < condition.length && str_find(base, '.') == STR_NONE))
        return 0;
    return table_domain_bits(base);
}

/* Only where the domain as written is certainly its own normal form. */
static uint64_t bits_of_recipient(struct str recipient)
{
    size_t at = str_find_last(recipient, '@');
    struct str domain = str_skip(recipient, at == STR_NONE ? recipient.length : at + 1);

    if (domain.length == 0 || has_star(recipient) || domain.data[0] == '[')
        return 0;
    for (size_t i = 0; i < domain.length; i++) {
        if ((unsigned char)domain.data[i] >= 0x80)
            return 0;
    }
    return table_domain_bits(domain);
}

static struct str plain_sender(struct str sender)
{
    return str_equal(sender, STR("<>")) ? STR("") : sender;
}

void filter_for_table(const struct queue_filter *filter, struct table_filter *table)
{
    *table = (struct table_filter){0};
    if (filter->domain.length > 0)
        table->domains |= bits_of_domain(filter->domain);
    if (filter->recipient.length > 0)
        table->domains |= bits_of_recipient(filter->recipient);
    if (filter->sender.length > 0 && !has_star(filter->sender)) {
        table->sender = table_sender_hash(plain_sender(filter->sender));
        table->has_sender = true;
    }
}

bool filter_has_texts(const struct queue_filter *filter)
{
    return filter->domain.length + filter->sender.length + filter->recipient.length > 0;
}

bool filter_matches_sender(const struct queue_filter *filter, const struct envelope *envelope)
{
    return filter->sender.length == 0 || queue_pattern_matches(plain_sender(filter->sender), envelope->sender);
}

bool filter_matches_recipient(const struct queue_filter *filter, const struct envelope_recipient *recipient)
{
    return (filter->domain.length == 0 || queue_domain_matches(filter->domain, recipient->domain)) &&
           (filter->recipient.length == 0 || queue_pattern_matches(filter->recipient, recipient->address));
}
