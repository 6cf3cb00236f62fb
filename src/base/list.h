/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list: an intrusive doubly linked list. The head is a link that points to itself when the list is empty. O(1)
 * everywhere. One thread at a time.
 */
#ifndef POSTERN_BASE_LIST_H
#define POSTERN_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list_link {
    struct list_link *next;
    struct list_link *previous;
};

/* The structure of `type` whose member `member` is `link`. */
/* clang-format off */
#define LIST_ENTRY(link, type, member) ((type *)(void *)((char *)(link) - offsetof(type, member)))
/* clang-format on */

static inline void list_init(struct list_link *head)
{
    head->next = head;
    head->previous = head;
}

static inline bool list_is_empty(const struct list_link *head)
{
    return head->next == head;
}

/* Whether an element (initialised with list_init or removed with list_remove) is in a list. */
static inline bool list_is_linked(const struct list_link *link)
{
    return link->next != link;
}

static inline void list_append(struct list_link *head, struct list_link *link)
{
    link->previous = head->previous;
    link->next = head;
    head->previous->next = link;
    head->previous = link;
}

static inline void list_prepend(struct list_link *head, struct list_link *link)
{
    list_append(head->next, link);
}

/* Safe on an element that is in no list but was initialised. */
static inline void list_remove(struct list_link *link)
{
    link->previous->next = link->next;
    link->next->previous = link->previous;
    list_init(link);
}

/* The first element, removed; NULL if the list is empty. */
static inline struct list_link *list_take_first(struct list_link *head)
{
    struct list_link *link = head->next;

    if (link == head)
        return NULL;
    list_remove(link);
    return link;
}

#endif
