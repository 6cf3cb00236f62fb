/* SPDX-License-Identifier: Apache-2.0 */
#include "session/events.h"

static const char *const names[MAIL_EVENT_COUNT] = {
    [MAIL_EVENT_RECEIVED] = "received", [MAIL_EVENT_REFUSED] = "refused", [MAIL_EVENT_DELIVERED] = "delivered",
    [MAIL_EVENT_DEFERRED] = "deferred", [MAIL_EVENT_FAILED] = "failed",   [MAIL_EVENT_EXPIRED] = "expired",
    [MAIL_EVENT_DELETED] = "deleted",   [MAIL_EVENT_HELD] = "held",       [MAIL_EVENT_RELEASED] = "released",
    [MAIL_EVENT_NDR] = "ndr",           [MAIL_EVENT_BADMAIL] = "badmail", [MAIL_EVENT_EXPANDED] = "expanded",
};

const char *mail_event_name(enum mail_event_kind kind)
{
    return names[kind];
}

bool mail_event_parse(struct str name, enum mail_event_kind *kind)
{
    for (int i = 0; i < MAIL_EVENT_COUNT; i++) {
        if (!str_equal_nocase(name, str_from_cstr(names[i])))
            continue;
        *kind = (enum mail_event_kind)i;
        return true;
    }
    return false;
}
