/* SPDX-License-Identifier: Apache-2.0 */
/* One client, or one customer's network, must not take all the connections that a server has for everybody. */
#include "session/connections.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct net_address parsed(const char *ip)
{
    struct net_address address;

    assert_true(net_address_parse_ip(str_from_cstr(ip), &address));
    return address;
}

static bool add(struct connections *connections, const char *ip, uint64_t total_max, uint64_t per_client_max)
{
    struct net_address address = parsed(ip);

    return connections_add(connections, &address, total_max, per_client_max);
}

static void drop(struct connections *connections, const char *ip)
{
    struct net_address address = parsed(ip);

    connections_remove(connections, &address);
}

static void test_both_limits(void **state)
{
    struct connections *connections = connections_create();

    (void)state;
    assert_true(add(connections, "192.0.2.1", 4, 2));
    assert_true(add(connections, "192.0.2.1", 4, 2));
    assert_false(add(connections, "192.0.2.1", 4, 2));
    assert_true(add(connections, "192.0.2.2", 4, 2));
    assert_true(add(connections, "192.0.2.3", 4, 2));
    assert_false(add(connections, "192.0.2.4", 4, 2));
    assert_int_equal(connections_count(connections), 4);
    /* What was refused was not counted. */
    drop(connections, "192.0.2.1");
    assert_false(add(connections, "192.0.2.2", 3, 2));
    assert_true(add(connections, "192.0.2.4", 4, 2));
    drop(connections, "192.0.2.1");
    drop(connections, "192.0.2.2");
    drop(connections, "192.0.2.3");
    drop(connections, "192.0.2.4");
    assert_int_equal(connections_count(connections), 0);
    assert_true(add(connections, "192.0.2.1", 1, 1));
    connections_destroy(&connections);
    assert_null(connections);
}

/* A limit of 0, and one lowered by a reload under what there is. */
static void test_limits_that_are_exceeded_already(void **state)
{
    struct connections *connections = connections_create();

    (void)state;
    assert_false(add(connections, "192.0.2.1", 0, 1));
    assert_false(add(connections, "192.0.2.1", 1, 0));
    for (int i = 0; i < 5; i++)
        assert_true(add(connections, "192.0.2.1", 10, 10));
    assert_false(add(connections, "192.0.2.1", 10, 3));
    assert_false(add(connections, "192.0.2.2", 3, 3));
    connections_destroy(&connections);
}

/* Whoever has one address of an IPv6 /64 has them all. */
static void test_an_ipv6_network_is_one_client(void **state)
{
    struct connections *connections = connections_create();

    (void)state;
    assert_true(add(connections, "2001:db8:1:2::1", 100, 2));
    assert_true(add(connections, "2001:db8:1:2:ffff:ffff:ffff:ffff", 100, 2));
    assert_false(add(connections, "2001:db8:1:2::3", 100, 2));
    assert_true(add(connections, "2001:db8:1:3::1", 100, 2));
    drop(connections, "2001:db8:1:2::9");
    assert_true(add(connections, "2001:db8:1:2::3", 100, 2));
    connections_destroy(&connections);
}

/* ... but an IPv4 address is one by itself, however it was written, though all of them share their first 64 bits. */
static void test_ipv4_addresses_are_clients_of_their_own(void **state)
{
    struct connections *connections = connections_create();

    (void)state;
    assert_true(add(connections, "192.0.2.1", 100, 1));
    assert_true(add(connections, "192.0.2.2", 100, 1));
    assert_true(add(connections, "::1", 100, 1));
    assert_false(add(connections, "::ffff:192.0.2.1", 100, 1));
    connections_destroy(&connections);
}

/* Behind a proxy it is the client that is limited: its connections may not be taken for another's, nor all for the proxy's. */
static void test_clients_behind_a_proxy(void **state)
{
    struct connections *connections = connections_create();
    struct net_address client = parsed("192.0.2.1");

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_true(connections_add_nameless(connections, 4));
    assert_false(connections_add_nameless(connections, 4));
    assert_false(add(connections, "192.0.2.2", 4, 1));
    assert_true(connections_name(connections, &client, 2));
    assert_true(connections_name(connections, &client, 2));
    assert_false(connections_name(connections, &client, 2));
    assert_int_equal(connections_count(connections), 4);
    connections_remove_nameless(connections);
    connections_remove_nameless(connections);
    assert_false(add(connections, "192.0.2.1", 4, 2));
    drop(connections, "192.0.2.1");
    assert_true(add(connections, "192.0.2.1", 4, 2));
    drop(connections, "192.0.2.1");
    drop(connections, "192.0.2.1");
    assert_int_equal(connections_count(connections), 0);
    connections_destroy(&connections);
}

struct worker {
    struct connections *connections;
    unsigned number, added;
};

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    struct net_address own = parsed("10.0.0.0"), shared = parsed("192.0.2.1");

    own.ip[15] = (unsigned char)worker->number;
    for (unsigned i = 0; i < 5000; i++) {
        struct net_address *address = i % 2 ? &own : &shared;

        if (connections_add(worker->connections, address, 3, 2)) {
            worker->added++;
            connections_remove(worker->connections, address);
        }
    }
    return NULL;
}

/* All loops count in one place: an end that is counted twice, or not at all, opens or closes the server for good. */
static void test_many_threads(void **state)
{
    struct connections *connections = connections_create();
    struct worker workers[4];
    pthread_t threads[4];
    unsigned added = 0;

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        workers[i] = (struct worker){.connections = connections, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, worker_main, &workers[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        added += workers[i].added; /* of one worker it may be none: the others may sit on all places whenever it asks */
    }
    assert_true(added > 0);
    assert_int_equal(connections_count(connections), 0);
    connections_destroy(&connections);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_limits),
        cmocka_unit_test(test_limits_that_are_exceeded_already),
        cmocka_unit_test(test_an_ipv6_network_is_one_client),
        cmocka_unit_test(test_ipv4_addresses_are_clients_of_their_own),
        cmocka_unit_test(test_clients_behind_a_proxy),
        cmocka_unit_test(test_many_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
