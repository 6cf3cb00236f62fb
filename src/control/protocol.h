/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protocol: the requests of the control protocol (docs/control-protocol.md): one line of JSON taken apart and checked. What a request means is for
 * the commands. Pure, any thread; also on a fiber's small stack, since nesting is bounded before the line is parsed.
 */
#ifndef POSTERN_CONTROL_PROTOCOL_H
#define POSTERN_CONTROL_PROTOCOL_H

#include "base/str.h"
#include "queue/control.h"

#include <jansson.h>

#define CONTROL_PROTOCOL_VERSION  1
#define CONTROL_REQUEST_BYTES_MAX 65536
#define CONTROL_DEPTH_MAX         8
#define CONTROL_SOCKET            "control.sock"

/* What an error's `code` may be. */
enum control_code {
    CONTROL_BAD_REQUEST, /* not a request: the connection ends */
    CONTROL_UNKNOWN_COMMAND,
    CONTROL_BAD_ARGUMENT,
    CONTROL_NOT_PERMITTED, /* this user may not: the connection ends */
    CONTROL_NOT_FOUND,
    CONTROL_REFUSED, /* the daemon won't: a bad configuration, a reload while it drains */
    CONTROL_BUSY,    /* too many at a time */
    CONTROL_TIMEOUT,
    CONTROL_FAILED, /* it could not be done */
    CONTROL_STOPPING,
};
/* "bad-request", ... */
const char *control_code_name(enum control_code code);

struct control_request {
    json_int_t id;
    const char *command; /* of `body` */
    json_t *body;
};

/* NULL and a request, to be released; or what is wrong, a static text. */
const char *control_request_parse(struct str line, struct control_request *request);
void control_request_release(struct control_request *request);

/* Whether the body has no other keys than "id", "command" and these, which end with NULL: what is not known is not passed over, since a filter that is not
 * understood would let too much through. Otherwise `*culprit` is one that is not among them. */
bool control_request_has_only(const json_t *object, const char *const *keys, const char **culprit);

#define CONTROL_FAULT_BYTES 200

/* "filter": { domain, sender, recipient, older_than_ms, states: [...] }. The texts live as long as the JSON; `domain` holds the domain's normal form. */
struct control_filter {
    struct queue_filter filter;
    char domain[260];
};
/* `json` may be NULL: no conditions. false: `fault` says what is wrong. */
bool control_filter_parse(const json_t *json, int64_t now_ms, struct control_filter *filter,
                          char fault[CONTROL_FAULT_BYTES]);

#endif
