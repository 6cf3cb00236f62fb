/* SPDX-License-Identifier: Apache-2.0 */
/* The PROXY header: bounded, the same however it is cut, and complete exactly once. */
#include "net/proxy.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_make((const char *)data, size);
    struct proxy_header whole = {0}, part = {0};
    enum proxy_status status = proxy_parse(input, &whole);
    enum proxy_status seen = PROXY_INCOMPLETE;

    if (status == PROXY_INCOMPLETE && size >= PROXY_HEADER_BYTES_MAX)
        abort();
    if (status == PROXY_DONE && (whole.length == 0 || whole.length > size || whole.length > PROXY_HEADER_BYTES_MAX))
        abort();
    for (size_t length = 0; length <= size && length <= PROXY_HEADER_BYTES_MAX && seen == PROXY_INCOMPLETE; length++)
        seen = proxy_parse(str_take(input, length), &part);
    if (seen != status)
        abort();
    if (status == PROXY_DONE &&
        (part.length != whole.length || part.has_client != whole.has_client ||
         (whole.has_client && (memcmp(part.client.ip, whole.client.ip, sizeof(whole.client.ip)) != 0 ||
                               part.client.port != whole.client.port))))
        abort();
    return 0;
}
