/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of the control protocol, and the filters in them. */
#include "control/protocol.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    static const char *const keys[] = {"filter", "message", NULL};
    struct control_request request;
    struct control_filter filter;
    char fault[CONTROL_FAULT_BYTES];
    const char *culprit;

    if (size > CONTROL_REQUEST_BYTES_MAX || control_request_parse(str_make((const char *)data, size), &request))
        return 0;
    if (!control_request_has_only(request.body, keys, &culprit) && !culprit)
        abort();
    if (control_filter_parse(json_object_get(request.body, "filter"), 1800000000000, &filter, fault) &&
        (filter.filter.arrived_before_at_ms < 0 || filter.filter.states > QUEUE_STATES_ALL))
        abort();
    control_request_release(&request);
    return 0;
}
