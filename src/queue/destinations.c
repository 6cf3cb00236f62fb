/* SPDX-License-Identifier: Apache-2.0 */
/* All destinations: by name for routing, by place for those who list them slice by slice. */
#include "base/mem.h"
#include "os/clock.h"
#include "queue/queue_private.h"

#include <stdio.h>

static void take_place(struct queue *queue, struct destination *destination)
{
    size_t place = queue->free_place;

    if (place < queue->place_count) {
        queue->free_place = queue->places[place].next_free;
    } else {
        if (queue->place_count == queue->place_capacity) {
            queue->place_capacity = queue->place_capacity ? queue->place_capacity * 2 : 64;
            queue->places = mem_resize_array(queue->places, queue->place_capacity, sizeof(*queue->places));
        }
        queue->free_place = ++queue->place_count;
    }
    queue->places[place].destination = destination;
    destination->place = place;
}

struct destination *destinations_find(struct queue *queue, struct str name)
{
    struct destination *destination = hash_table_get(&queue->destinations, name);

    if (destination)
        return destination;
    destination = destination_create(name);
    hash_table_put(&queue->destinations, str_make(destination->name, destination->name_length), destination);
    take_place(queue, destination);
    counter_add(&queue->counters.destinations, 1);
    return destination;
}

void destinations_forget(struct queue *queue, struct destination *destination)
{
    schedule_remove(&queue->looks, &destination->entry);
    list_remove(&destination->dirty_link);
    hash_table_remove(&queue->destinations, str_make(destination->name, destination->name_length));
    queue->places[destination->place] = (struct destination_place){.next_free = queue->free_place};
    queue->free_place = destination->place;
    counter_subtract(&queue->counters.destinations, 1);
    destination_free(destination, &queue->reasons);
}

void destinations_show(const struct destination *destination, struct queue_shown_destination *shown)
{
    *shown = (struct queue_shown_destination){
        .ready = destination->ready_count,
        .waiting = destination->held_count,
        .taken = destination->taken_count,
        .workers = destination->workers - destination->leaving,
        .idle = destination->idle_count,
        .connected = destination->connected,
        .limit = destination->limit < destination->limit_max ? destination->limit : destination->limit_max,
        .limit_max = destination->limit_max,
        .failures = destination->failures,
    };
    if (destination->state == DESTINATION_BACKING_OFF)
        shown->backed_off_until_at_ms = clock_real_ms() + (int64_t)destination->rest_until_ms - (int64_t)loop_now_ms();
    shown->last.kind = QUEUE_DEFERRED;
    reason_to_outcome(destination->reason, &shown->last);
    snprintf(shown->name, sizeof(shown->name), "%s", destination->name);
}
