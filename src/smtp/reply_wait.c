/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/reply_wait.h"

enum conn_status smtp_reply_wait(const struct smtp_reply_wait *wait, enum reply_status *status)
{
    *status = REPLY_MORE;
    while (*status == REPLY_MORE) {
        struct str data;
        enum conn_status read = conn_read_some(wait->conn, wait->deadline_ms, &data);
        size_t used;

        if (read != CONN_OK)
            return read;
        used = reply_parser_feed(wait->parser, data, status);
        if (wait->seen)
            wait->seen(wait->context, str_take(data, used));
        conn_consume(wait->conn, used);
    }
    return CONN_OK;
}
