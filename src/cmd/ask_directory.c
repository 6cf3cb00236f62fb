/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/ask_directory.h"

#include "mail/address.h"

#include <stdio.h>

struct asking {
    struct ask_directory *asked;
    const struct config *config;
    struct policy_facts *facts;
    bool has_failed; /* there is no directory to ask */
};

static struct directory *open_directory(struct asking *asking)
{
    struct error error;

    if (!asking->asked->directory && !asking->has_failed) {
        asking->asked->directory = directory_create(asking->config, &error);
        asking->has_failed = !asking->asked->directory;
        if (asking->has_failed)
            fprintf(stderr, "postern: %s\n", error.text);
    }
    return asking->asked->directory;
}

static enum policy_answer answer_of(enum directory_status status)
{
    switch (status) {
    case DIRECTORY_YES:
        return POLICY_ANSWER_YES;
    case DIRECTORY_NO:
        return POLICY_ANSWER_NO;
    case DIRECTORY_UNAVAILABLE:
        break;
    }
    return POLICY_ANSWER_UNAVAILABLE;
}

static void ask_user(struct asking *asking)
{
    struct ask_directory *asked = asking->asked;

    asked->has_asked_user = true;
    asked->user_status = DIRECTORY_UNAVAILABLE;
    if (open_directory(asking))
        asked->user_status = directory_find_user(asked->directory, asking->facts->user, &asked->user);
}

static void take_groups(struct asking *asking)
{
    const struct ask_directory *asked = asking->asked;
    struct policy_facts *facts = asking->facts;

    facts->groups_unknown = asked->user_status == DIRECTORY_UNAVAILABLE;
    if (!asked->user)
        return;
    facts->user = asked->user->name;
    facts->groups = asked->user->groups;
    facts->group_count = asked->user->group_count;
    facts->groups_unknown = asked->user->groups_unknown;
}

static enum policy_answer match_sender(const struct asking *asking, const struct address *sender)
{
    const struct directory_user *user = asking->asked->user;

    if (!user)
        return asking->asked->user_status == DIRECTORY_NO ? POLICY_ANSWER_NO : POLICY_ANSWER_UNAVAILABLE;
    for (size_t i = 0; i < user->address_count; i++) {
        struct address own;

        if (address_parse_stored(&own, user->addresses[i]) &&
            policy_same_mailbox(asking->config->policy, asking->facts->server->name, &own, sender))
            return POLICY_ANSWER_YES;
    }
    return POLICY_ANSWER_NO;
}

static void ask_recipient(struct asking *asking, const struct address *recipient)
{
    struct directory_recipient *found = NULL;
    struct policy_facts facts = *asking->facts;
    char text[ADDRESS_TEXT_OCTETS_MAX];
    struct policy_route route;

    facts.recipient = recipient;
    if (!policy_needs_directory(asking->config->policy, &facts))
        return;
    asking->facts->recipient_known = POLICY_ANSWER_UNAVAILABLE;
    if (!open_directory(asking))
        return;
    policy_route(asking->config->policy, facts.server->name, recipient, &route);
    asking->facts->recipient_known = answer_of(directory_find_recipient(
        asking->asked->directory, str_make(text, policy_mailbox_text(&route, recipient, text)), &found));
    directory_recipient_free(&found);
}

void ask_directory(struct ask_directory *asked, const struct config *config, struct policy_question *question)
{
    const struct policy_domain *local = policy_default_domain(config->policy);
    struct asking asking = {.asked = asked, .config = config, .facts = &question->facts};
    struct str domain = local ? local->name : STR("");
    bool needs_match = question->facts.server->sender_match != POLICY_SENDER_MATCH_OFF;
    bool needs_groups = question->facts.group_count == 0;
    struct address address;

    if (question->facts.is_authenticated && (needs_groups || needs_match))
        ask_user(&asking);
    if (question->facts.is_authenticated && needs_groups)
        take_groups(&asking);
    if (question->facts.is_authenticated && needs_match && address_parse(&address, question->from, domain) &&
        !address.is_null)
        question->facts.sender_match = match_sender(&asking, &address);
    if (address_parse(&address, question->to, domain) && !address.is_null)
        ask_recipient(&asking, &address);
}

void ask_directory_end(struct ask_directory *asked)
{
    directory_user_free(&asked->user);
    directory_release(&asked->directory);
}

const char *ask_directory_user_words(const struct ask_directory *asked)
{
    if (!asked->has_asked_user)
        return "as given";
    switch (asked->user_status) {
    case DIRECTORY_YES:
        return asked->user->is_disabled ? "asked of the directory now, which lets it sign in no more"
                                        : "asked of the directory now";
    case DIRECTORY_NO:
        return "whom the directory does not know: nobody can sign in so";
    case DIRECTORY_UNAVAILABLE:
        break;
    }
    return "the directory does not answer";
}
