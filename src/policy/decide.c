/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay-behaviour.md section 2, step by step and in its order. Answers are three-valued; an unknown answer matters only where
 * the other two would decide differently, and then the client is told to come back.
 */
#include "policy/decide.h"

#include "policy/model_private.h"

#include <assert.h>

/* What one decision works on. */
struct decider {
    const struct policy_model *model;
    const struct policy_facts *facts;
    struct policy_decision *decision;
    struct policy_trace *trace;
};

/* ---- replies ---- */

static void text_append(struct policy_decision *decision, struct str text)
{
    size_t room = POLICY_TEXT_BYTES - 1 - decision->text_length;

    text = str_take(text, room);
    if (text.length > 0)
        memcpy(decision->text + decision->text_length, text.data, text.length);
    decision->text_length += text.length;
    decision->text[decision->text_length] = '\0';
}

struct reply {
    enum policy_verdict verdict;
    int code;
    const char *enhanced;
    struct str before; /* the text around ADDR */
    bool has_address;
    struct str after;
};

static const struct reply reply_connected = {POLICY_ACCEPT, 220, "2.0.0", STR_INIT(""), false, STR_INIT("")};
static const struct reply reply_connect_unknown = {
    POLICY_DEFER, 421, "4.4.3", STR_INIT("Cannot verify permission to connect, try again later"), false, STR_INIT("")};
static const struct reply reply_connect_refused = {
    POLICY_REJECT, 554, "5.7.1", STR_INIT("Client not permitted to connect"), false, STR_INIT("")};
static const struct reply reply_sender_ok = {POLICY_ACCEPT, 250,  "2.1.0",
                                             STR_INIT(""),  true, STR_INIT("....Sender OK")};
static const struct reply reply_tls_first = {
    POLICY_REJECT, 530, "5.7.0", STR_INIT("Must issue a STARTTLS command first"), false, STR_INIT("")};
static const struct reply reply_authenticate_first = {
    POLICY_REJECT, 530, "5.7.0", STR_INIT("Authentication required"), false, STR_INIT("")};
static const struct reply reply_submit_refused = {
    POLICY_REJECT, 550,         "5.7.1", STR_INIT("Client does not have permission to submit mail to this server"),
    false,         STR_INIT("")};
static const struct reply reply_sender_not_permitted = {POLICY_REJECT,       550,  "5.7.1",
                                                        STR_INIT("Sender "), true, STR_INIT(" not permitted")};
static const struct reply reply_sender_needs_authentication = {
    POLICY_REJECT, 550, "5.7.1", STR_INIT("Sender "), true, STR_INIT(" requires authentication")};
static const struct reply reply_directory_unavailable = {
    POLICY_DEFER, 451, "4.3.0", STR_INIT("Directory unavailable, try again later"), false, STR_INIT("")};
static const struct reply reply_recipient_ok = {POLICY_ACCEPT, 250, "2.1.5", STR_INIT(""), true, STR_INIT("")};
static const struct reply reply_user_unknown = {POLICY_REJECT, 550,  "5.1.1",
                                                STR_INIT(""),  true, STR_INIT("... User unknown")};
static const struct reply reply_relay_refused = {POLICY_REJECT, 550,         "5.7.1", STR_INIT("Unable to relay for "),
                                                 true,          STR_INIT("")};
static const struct reply reply_relay_unknown = {
    POLICY_DEFER, 451, "4.4.3", STR_INIT("Cannot verify relay permission for "), true, STR_INIT("")};

static void conclude(struct decider *d, const struct reply *reply, const struct policy_rule *rule)
{
    struct policy_decision *decision = d->decision;
    const struct address *address = decision->stage == POLICY_STAGE_RCPT ? d->facts->recipient : d->facts->sender;

    decision->verdict = reply->verdict;
    decision->code = reply->code;
    decision->enhanced = reply->enhanced;
    decision->rule = rule;
    text_append(decision, reply->before);
    if (reply->has_address) {
        text_append(decision, address_text(address));
        text_append(decision, reply->after);
    }
    policy_trace_reply(d->trace, decision);
}

/* ---- step 1: connection ---- */

static void decide_connect(struct decider *d)
{
    const struct policy_server *server = d->facts->server;
    struct policy_facts facts = *d->facts;
    struct policy_match_result result;
    bool is_only = server->connect_mode == POLICY_LIST_ONLY;
    enum policy_match passing = is_only ? POLICY_MATCH_YES : POLICY_MATCH_NO;

    if (server->connect_mode == POLICY_LIST_NONE) {
        policy_trace_add(d->trace, &server->connect_rule, "everyone may connect: there is no list of who may");
        conclude(d, &reply_connected, &server->connect_rule);
        return;
    }
    /* Nobody has proved anything before TLS, whatever a list that relaying uses too may name. */
    facts.has_certificate = false;
    result = policy_client_list_match(server->connect, &facts);
    policy_trace_client_list(d->trace, server->connect, &server->connect_rule,
                             is_only ? "who may connect" : "who may not connect", &facts, &result);
    if (!result.rule)
        result.rule = &server->connect_rule;
    if (result.match == passing)
        conclude(d, &reply_connected, result.rule);
    else if (result.match == POLICY_MATCH_UNKNOWN)
        conclude(d, &reply_connect_unknown, result.rule);
    else
        conclude(d, &reply_connect_refused, result.rule);
}

/* ---- step 2: MAIL ---- */

/* How the relay list, of either mode, answers for the client. `granted` is NO, UNKNOWN or YES. */
struct relay_answer {
    enum policy_match granted;
    const struct policy_rule *rule;
};

static struct relay_answer ask_relay_list(const struct policy_facts *facts, struct decider *d)
{
    const struct policy_server *server = facts->server;
    struct policy_match_result result = policy_client_list_match(server->relay, facts);
    struct relay_answer answer = {result.match, result.rule ? result.rule : &server->relay_rule};

    if (server->relay_mode == POLICY_LIST_EXCEPT && result.match != POLICY_MATCH_UNKNOWN)
        answer.granted = result.match == POLICY_MATCH_YES ? POLICY_MATCH_NO : POLICY_MATCH_YES;
    if (d)
        policy_trace_client_list(d->trace, server->relay, &server->relay_rule,
                                 server->relay_mode == POLICY_LIST_EXCEPT ? "who may not relay" : "who may relay",
                                 facts, &result);
    return answer;
}

/* Whether a user is kept from submitting: denied, or an allow list stands that does not name it. */
struct policy_match_result policy_submit_refusal(const struct policy_facts *facts)
{
    const struct policy_server *server = facts->server;
    struct policy_match_result denied = policy_user_list_match(server->submit_deny, facts);
    struct policy_match_result allowed;

    if (denied.match == POLICY_MATCH_YES || policy_user_list_is_empty(server->submit_allow))
        return denied;
    allowed = policy_user_list_match(server->submit_allow, facts);
    if (allowed.match == POLICY_MATCH_NO)
        return (struct policy_match_result){.match = POLICY_MATCH_YES, .rule = &server->submit_allow->rule};
    if (denied.match == POLICY_MATCH_UNKNOWN)
        return denied;
    if (allowed.match == POLICY_MATCH_UNKNOWN)
        return allowed;
    allowed.match = POLICY_MATCH_NO;
    return allowed;
}

/* Without an entry to name, an allow list names somebody else, or there are no lists. */
static void trace_submit(struct decider *d, const struct policy_match_result *refusal)
{
    struct str user = d->facts->user;

    if (!d->trace)
        return;
    if (refusal->match == POLICY_MATCH_UNKNOWN)
        policy_trace_add(d->trace, refusal->rule,
                         "whether %.*s may send depends on groups that the directory does not tell", STR_ARG(user));
    else if (refusal->user)
        policy_trace_user(d->trace, refusal,
                          refusal->match == POLICY_MATCH_YES ? "the user is denied sending"
                                                             : "the user is allowed to send");
    else if (refusal->match == POLICY_MATCH_YES)
        policy_trace_add(d->trace, refusal->rule, "only listed users may send, and %.*s is not among them",
                         STR_ARG(user));
    else
        policy_trace_add(d->trace, &d->facts->server->rule, "every authenticated user may send");
}

/* c and d: true if it concluded. `*granted_by` is told the rule that lets the user submit. */
static bool decide_authenticated_sender(struct decider *d, const struct policy_rule **granted_by)
{
    const struct policy_facts *facts = d->facts;
    const struct policy_server *server = facts->server;
    struct policy_match_result refusal = policy_submit_refusal(facts);
    enum policy_answer is_own = facts->sender->is_null ? POLICY_ANSWER_NO : facts->sender_match;

    if (refusal.match != POLICY_MATCH_NO) {
        trace_submit(d, &refusal);
        conclude(d, refusal.match == POLICY_MATCH_YES ? &reply_submit_refused : &reply_directory_unavailable,
                 refusal.rule);
        return true;
    }
    *granted_by = refusal.rule ? refusal.rule : &server->rule;
    trace_submit(d, &refusal);
    if (server->sender_match == POLICY_SENDER_MATCH_OFF || is_own == POLICY_ANSWER_YES)
        return false;
    policy_trace_add(d->trace, &server->sender_match_rule,
                     is_own == POLICY_ANSWER_NO ? "the sender is none of the user's own addresses"
                                                : "the directory does not say whether the sender is one of the user's "
                                                  "own addresses");
    conclude(d, is_own == POLICY_ANSWER_NO ? &reply_sender_not_permitted : &reply_directory_unavailable,
             &server->sender_match_rule);
    return true;
}

/* e: a local sender whom nobody vouches for. True if it concluded. */
static bool decide_anonymous_sender(struct decider *d)
{
    const struct policy_facts *facts = d->facts;
    const struct policy_server *server = facts->server;

    if (server->anonymous_local_sender || facts->sender->is_null)
        return false;
    if (policy_classify_domain(d->model, server, facts->sender).recipient_class != POLICY_CLASS_LOCAL)
        return false;
    policy_trace_add(
        d->trace, &server->anonymous_local_sender_rule,
        "the sender is of a local domain: who has not authenticated may use it only with relay permission");
    if (ask_relay_list(facts, d).granted == POLICY_MATCH_YES)
        return false;
    conclude(d, &reply_sender_needs_authentication, &server->anonymous_local_sender_rule);
    return true;
}

/* a and b: true if it concluded. */
static bool decide_session(struct decider *d)
{
    const struct policy_facts *facts = d->facts;
    const struct policy_server *server = facts->server;

    policy_trace_add(d->trace, &server->tls_required_rule, "TLS is %s; the session has %s",
                     server->tls_required ? "required" : "not required", facts->has_tls ? "it" : "none");
    if (server->tls_required && !facts->has_tls) {
        conclude(d, &reply_tls_first, &server->tls_required_rule);
        return true;
    }
    if (facts->is_authenticated) {
        policy_trace_add(d->trace, NULL, "the client has authenticated as %.*s", STR_ARG(facts->user));
        return false;
    }
    policy_trace_add(d->trace, &server->anonymous_rule, "the client has not authenticated, which this server %s",
                     server->anonymous ? "allows" : "does not allow");
    if (!server->anonymous)
        conclude(d, &reply_authenticate_first, &server->anonymous_rule);
    return !server->anonymous;
}

static void decide_mail(struct decider *d)
{
    const struct policy_facts *facts = d->facts;
    const struct policy_rule *granted_by = &facts->server->anonymous_rule;

    if (decide_session(d))
        return;
    if (facts->is_authenticated ? decide_authenticated_sender(d, &granted_by) : decide_anonymous_sender(d))
        return;
    conclude(d, &reply_sender_ok, granted_by);
}

/* ---- step 3: RCPT ---- */

static void trace_own_domain(struct decider *d, const struct policy_domain_class *found)
{
    const struct address *recipient = d->facts->recipient;
    const struct policy_domain *entry = found->entry;
    struct str domain = address_domain(recipient);

    if (recipient->is_unqualified)
        policy_trace_add(d->trace, found->rule,
                         "the address has no domain: it belongs to the default one, %.*s, which is local",
                         STR_ARG(entry->name));
    else if (address_is_literal(recipient))
        policy_trace_add(d->trace, found->rule,
                         "%.*s is an address of this server itself: it stands for %.*s, which is local",
                         STR_ARG(domain), STR_ARG(entry->name));
    else if (entry->type == POLICY_DOMAIN_ALIAS)
        policy_trace_add(d->trace, found->rule, "%.*s is another name of %.*s, which is local", STR_ARG(domain),
                         STR_ARG(entry->alias_of->name));
    else
        policy_trace_add(d->trace, found->rule, "%.*s is %s%s", STR_ARG(domain),
                         entry->is_wildcard ? "below a wildcard of domains that are " : "",
                         found->recipient_class == POLICY_CLASS_LOCAL ? "local"
                                                                      : "allowed: taken from everyone and sent on");
}

/* What is looked up at RCPT, and what is answered. */
static enum policy_answer look_up(struct decider *d, const struct policy_domain *entry)
{
    static const char *const words[] = {[POLICY_ANSWER_NOT_ASKED] = "has not been asked",
                                        [POLICY_ANSWER_YES] = "knows it",
                                        [POLICY_ANSWER_NO] = "does not know it",
                                        [POLICY_ANSWER_UNAVAILABLE] = "does not answer"};
    const struct policy_facts *facts = d->facts;
    const struct policy_rule *rule = &policy_resolve_domain(entry)->recipients_rule;
    enum policy_known known;

    if (facts->server->lookup != POLICY_LOOKUP_AT_RCPT) {
        policy_trace_add(d->trace, &facts->server->lookup_rule,
                         "whether the recipient exists is not looked at now: if not, the sender gets a report");
        return POLICY_ANSWER_YES;
    }
    known = policy_recipient_known(entry, facts->recipient);
    if (known == POLICY_ASK_DIRECTORY) {
        policy_trace_add(d->trace, rule, "the recipient is looked up now: the directory %s",
                         words[facts->recipient_known]);
        return facts->recipient_known;
    }
    policy_trace_add(d->trace, rule, "the recipient is looked up now: it is %s",
                     known == POLICY_KNOWN ? "known" : "not known");
    return known == POLICY_KNOWN ? POLICY_ANSWER_YES : POLICY_ANSWER_NO;
}

/* LOCAL, and ALLOWED: taken; looked up first where the server looks up. */
static void decide_own_domain(struct decider *d, const struct policy_domain_class *found)
{
    enum policy_answer answer;

    if (!found->entry) {
        policy_trace_add(d->trace, NULL, "there is no local domain that the address could belong to");
        conclude(d, &reply_user_unknown, &d->facts->server->rule);
        return;
    }
    if (d->trace)
        trace_own_domain(d, found);
    answer = look_up(d, found->entry);
    if (answer == POLICY_ANSWER_YES)
        conclude(d, &reply_recipient_ok, found->rule);
    else
        conclude(d, answer == POLICY_ANSWER_NO ? &reply_user_unknown : &reply_directory_unavailable,
                 &policy_resolve_domain(found->entry)->recipients_rule);
}

/* CONNECTOR: true if one of those that decide for the domain overrides the relay restrictions. */
static bool decide_connector(struct decider *d)
{
    const struct policy_facts *facts = d->facts;
    const struct policy_space_list *spaces;

    /* A literal is EXTERNAL whatever a connector says. */
    if (facts->recipient->domain_kind != ADDRESS_DOMAIN_NAME)
        return false;
    spaces = policy_find_spaces(d->model, facts->server->name, facts->recipient);
    for (size_t i = 0; spaces && i < spaces->count; i++) {
        const struct policy_connector *connector = spaces->entries[i].connector;

        if (!policy_connector_in_scope(connector, facts->server->name))
            continue;
        policy_trace_add(d->trace, &spaces->entries[i].space->rule, "the connector %.*s is for this domain, and %s",
                         STR_ARG(connector->name),
                         connector->allow_relay ? "lets everyone relay to it"
                                                : "leaves it to the server who may relay");
        if (!connector->allow_relay)
            continue;
        d->decision->recipient_class = POLICY_CLASS_CONNECTOR;
        d->decision->connector = connector;
        policy_trace_add(d->trace, &connector->allow_relay_rule,
                         "this OVERRIDES every relay restriction of the server %.*s", STR_ARG(facts->server->name));
        conclude(d, &reply_recipient_ok, &connector->allow_relay_rule);
        return true;
    }
    return false;
}

/* What EXTERNAL steps 2 to 5 answer, deny left aside. `reply` is what is said. */
struct relay_verdict {
    const struct reply *reply;
    const struct policy_rule *rule;
};

/* Steps 2 and 3. A NULL reply: neither grants; `*allowed` may still be unknown. */
static struct relay_verdict user_grants(const struct policy_facts *facts, struct decider *d,
                                        struct policy_match_result *allowed)
{
    const struct policy_server *server = facts->server;
    struct policy_trace *trace = d ? d->trace : NULL;

    *allowed = policy_user_list_match(server->relay_allow, facts);
    if (allowed->match == POLICY_MATCH_YES) {
        policy_trace_user(trace, allowed, "the user is allowed to relay");
        return (struct relay_verdict){&reply_recipient_ok, allowed->rule};
    }
    policy_trace_add(trace, &server->relay_authenticated_rule, "who has authenticated may %srelay for that alone",
                     server->relay_authenticated ? "" : "not ");
    if (server->relay_authenticated)
        return (struct relay_verdict){&reply_recipient_ok, &server->relay_authenticated_rule};
    return (struct relay_verdict){0};
}

static struct relay_verdict relay_grants(const struct policy_facts *facts, struct decider *d)
{
    struct policy_match_result allowed = {0};
    struct relay_verdict by_user = {0};
    struct relay_answer answer;

    if (facts->is_authenticated)
        by_user = user_grants(facts, d, &allowed);
    if (by_user.reply)
        return by_user;
    answer = ask_relay_list(facts, d);
    if (answer.granted == POLICY_MATCH_YES)
        return (struct relay_verdict){&reply_recipient_ok, answer.rule};
    if (allowed.match == POLICY_MATCH_UNKNOWN)
        return (struct relay_verdict){&reply_directory_unavailable, allowed.rule};
    if (answer.granted == POLICY_MATCH_UNKNOWN)
        return (struct relay_verdict){&reply_relay_unknown, answer.rule};
    return (struct relay_verdict){&reply_relay_refused, answer.rule};
}

static struct relay_verdict relay_verdict(const struct policy_facts *facts, struct decider *d)
{
    struct policy_match_result denied = {0};
    struct relay_verdict verdict;

    if (facts->is_authenticated)
        denied = policy_user_list_match(facts->server->relay_deny, facts);
    if (denied.match == POLICY_MATCH_YES) {
        policy_trace_user(d ? d->trace : NULL, &denied, "the user is denied relaying, whatever else grants it");
        return (struct relay_verdict){&reply_relay_refused, denied.rule};
    }
    verdict = relay_grants(facts, d);
    if (denied.match == POLICY_MATCH_UNKNOWN && verdict.reply->verdict != POLICY_REJECT)
        return (struct relay_verdict){&reply_directory_unavailable, denied.rule};
    return verdict;
}

static void decide_recipient(struct decider *d)
{
    struct policy_domain_class found = policy_classify_domain(d->model, d->facts->server, d->facts->recipient);
    struct relay_verdict verdict;

    d->decision->recipient_class = found.recipient_class;
    d->decision->domain = found.entry;
    if (found.recipient_class != POLICY_CLASS_EXTERNAL) {
        decide_own_domain(d, &found);
        return;
    }
    if (decide_connector(d))
        return;
    policy_trace_add(d->trace, NULL, "%.*s is none of ours: this is relaying, which must be granted",
                     STR_ARG(address_domain(d->facts->recipient)));
    verdict = relay_verdict(d->facts, d);
    conclude(d, verdict.reply, verdict.rule);
}

void policy_decide(const struct policy_model *model, enum policy_stage stage, const struct policy_facts *facts,
                   struct policy_decision *decision, struct policy_trace *trace)
{
    struct decider d = {model, facts, decision, trace};

    assert(model->finished && facts->server);
    if (trace)
        trace->stage = stage;
    decision->stage = stage;
    decision->recipient_class = POLICY_CLASS_NONE;
    decision->connector = NULL;
    decision->domain = NULL;
    decision->text_length = 0;
    decision->text[0] = '\0';
    switch (stage) {
    case POLICY_STAGE_CONNECT:
        decide_connect(&d);
        break;
    case POLICY_STAGE_MAIL:
        assert(facts->sender);
        decide_mail(&d);
        break;
    case POLICY_STAGE_RCPT:
        assert(facts->recipient);
        decide_recipient(&d);
        break;
    }
}

bool policy_needs_directory(const struct policy_model *model, const struct policy_facts *facts)
{
    struct policy_domain_class found;

    if (facts->server->lookup != POLICY_LOOKUP_AT_RCPT)
        return false;
    found = policy_classify_domain(model, facts->server, facts->recipient);
    return found.entry && policy_recipient_known(found.entry, facts->recipient) == POLICY_ASK_DIRECTORY;
}

bool policy_grants_relay(const struct policy_facts *facts)
{
    if (facts->is_authenticated && policy_submit_refusal(facts).match != POLICY_MATCH_NO)
        return false;
    return relay_verdict(facts, NULL).reply->verdict == POLICY_ACCEPT;
}
