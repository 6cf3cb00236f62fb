/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decide: the one function that says who may do what (relay-behaviour.md section 2). The live server, `postern explain` and
 * `postern check` all call it, so that they cannot disagree. Pure: no I/O, no clock, no allocation; any thread. What it needs
 * to know the caller fetched before; a fact that is missing denies or defers, it never grants.
 */
#ifndef POSTERN_POLICY_DECIDE_H
#define POSTERN_POLICY_DECIDE_H

#include "policy/model.h"

enum policy_stage { POLICY_STAGE_CONNECT, POLICY_STAGE_MAIL, POLICY_STAGE_RCPT };

/* Of the client's PTR name. NONE also when nobody looked: `domain:` entries then answer no. */
enum policy_name_state { POLICY_NAME_NONE, POLICY_NAME_VERIFIED, POLICY_NAME_UNVERIFIED, POLICY_NAME_TEMPFAIL };

/* What the directory said to a question. NOT_ASKED where the answer matters counts as UNAVAILABLE. */
enum policy_answer { POLICY_ANSWER_NOT_ASKED, POLICY_ANSWER_YES, POLICY_ANSWER_NO, POLICY_ANSWER_UNAVAILABLE };

/*
 * Everything that a decision depends on. Zero means nothing known, nothing granted; `server` and `client` are always set,
 * `sender` from MAIL on, `recipient` at RCPT. The caller owns all of it, and it must only live through the call.
 */
struct policy_facts {
    const struct policy_server *server;
    struct cidr_address client;
    enum policy_name_state client_name_state;
    struct str client_name; /* normal form; read only when VERIFIED */
    bool has_tls;
    bool has_certificate; /* a client certificate whose key the client proved */
    unsigned char certificate_sha256[32];

    bool is_authenticated;
    struct str user;
    const struct str *groups;
    size_t group_count;
    bool groups_unknown; /* the directory could not say; `groups` may still name some */

    const struct address *sender;    /* parsed, the null sender included */
    enum policy_answer sender_match; /* whether the sender is one of the user's addresses */
    const struct address *recipient;
    enum policy_answer recipient_known; /* only asked for where policy_needs_directory says so */
};

enum policy_verdict { POLICY_ACCEPT, POLICY_REJECT, POLICY_DEFER };
enum policy_class {
    POLICY_CLASS_NONE, /* decided before RCPT */
    POLICY_CLASS_LOCAL,
    POLICY_CLASS_ALLOWED,
    POLICY_CLASS_CONNECTOR,
    POLICY_CLASS_EXTERNAL
};

/* Two addresses' worth of octets and the longest text around them. */
#define POLICY_TEXT_BYTES 1024

/*
 * The verdict and the reply: "CODE ENHANCED TEXT". At connection an acceptance has no reply of its own (the banner is it).
 * The strings and rules live as long as the model.
 */
struct policy_decision {
    enum policy_verdict verdict;
    enum policy_stage stage;
    enum policy_class recipient_class;
    int code;
    const char *enhanced;
    size_t text_length;
    char text[POLICY_TEXT_BYTES];             /* NUL-terminated, ADDR filled in */
    const struct policy_rule *rule;           /* what decided */
    const struct policy_connector *connector; /* CLASS_CONNECTOR: the one that overrides */
    const struct policy_domain
        *domain; /* RCPT: the entry of `domains` that matched; the default one for own literals */
};

/*
 * Every step on the way to a decision, for `explain`: what was found, and the rule that it was found in. The last step of each
 * stage is the reply, "CODE ENHANCED TEXT". Steps beyond the maximum are not kept; texts beyond theirs are cut.
 */
#define POLICY_TRACE_STEPS_MAX  64
#define POLICY_TRACE_TEXT_BYTES 1024
struct policy_trace_step {
    enum policy_stage stage;
    bool is_reply;
    const struct policy_rule *rule;  /* may be NULL */
    const struct policy_rule *inner; /* the entry of a named list that `rule` stands for, or NULL */
    char text[POLICY_TRACE_TEXT_BYTES];
};
struct policy_trace {
    enum policy_stage stage; /* of the steps that are added now */
    size_t count;
    struct policy_trace_step steps[POLICY_TRACE_STEPS_MAX];
};

/* `trace` may be NULL; else its steps are added to. At RCPT whatever MAIL would have refused is the caller's to have asked first. */
void policy_decide(const struct policy_model *model, enum policy_stage stage, const struct policy_facts *facts,
                   struct policy_decision *decision, struct policy_trace *trace);

/* Whether the decision at RCPT waits for `recipient_known`: the server looks up at RCPT and only the directory can tell. */
bool policy_needs_directory(const struct policy_model *model, const struct policy_facts *facts);
/* Whether this client is granted relay without regard to a recipient: authenticated and permitted, or by the relay list
 * (tarpit, reports with full content). Unknown counts as no. */
bool policy_grants_relay(const struct policy_facts *facts);

const char *policy_verdict_name(enum policy_verdict verdict); /* accept, reject, defer */
const char *policy_stage_name(enum policy_stage stage);       /* connect, mail, rcpt */
const char *
policy_class_name(enum policy_class recipient_class); /* local, allowed, connector, external; NULL for NONE */

#endif
