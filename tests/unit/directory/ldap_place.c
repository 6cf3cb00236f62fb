/* SPDX-License-Identifier: Apache-2.0 */
/* Where LDAP servers are. If this breaks, passwords go to the wrong place, or without TLS. */
#include "directory/ldap_place.h"

#include "os/clock.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void check_right(const char *url, bool start_tls, const char *host, const char *port, bool is_tls,
                        bool is_start_tls)
{
    struct ldap_place place;
    struct error error = {0};

    if (ldap_place_parse(&place, str_from_cstr(url), start_tls, &error) != 0)
        fail_msg("%s", error.text);
    assert_string_equal(place.host, host);
    assert_string_equal(place.port, port);
    assert_null(place.path);
    assert_true(place.is_tls == is_tls && place.is_start_tls == is_start_tls);
    ldap_place_release(&place);
}

static void test_right_urls(void **state)
{
    struct ldap_place place;
    struct error error = {0};

    (void)state;
    check_right("ldaps://dc1.contoso.test", true, "dc1.contoso.test", "636", true, false);
    check_right("ldap://dc1.contoso.test", true, "dc1.contoso.test", "389", false, true);
    check_right("ldap://dc1.contoso.test/", false, "dc1.contoso.test", "389", false, false);
    check_right("ldaps://[2001:db8::1]:3269", true, "2001:db8::1", "3269", true, false);
    assert_int_equal(ldap_place_parse(&place, STR("ldapi://%2Frun%2Fslapd%2Fldapi"), true, &error), 0);
    assert_string_equal(place.path, "/run/slapd/ldapi");
    assert_false(place.is_tls || place.is_start_tls);
    ldap_place_release(&place);
}

static void test_wrong_urls(void **state)
{
    static const char *const wrong[] = {"",
                                        "http://x",
                                        "ldaps://",
                                        "ldap://h/dc=x",
                                        "ldap://h/??sub",
                                        "ldap://h:0x",
                                        "ldap://h:99999",
                                        "ldapi://",
                                        "ldapi://relative",
                                        "ldap://h/dc=x??sub?(uid=*)"};
    struct ldap_place place;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct error error = {0};

        if (ldap_place_parse(&place, str_from_cstr(wrong[i]), true, &error) == 0)
            fail_msg("taken: %s", wrong[i]);
        assert_true(error.text[0] != '\0');
        assert_null(place.host);
    }
}

/* A listener that never accepts, its queue full: connections neither succeed nor fail. */
static int open_full_listener(int *filler, struct sockaddr_in *address)
{
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t length = sizeof(*address);

    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(listener, (struct sockaddr *)address, length), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)address, &length), 0);
    assert_int_equal(listen(listener, 0), 0);
    *filler = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(*filler, (struct sockaddr *)address, length), 0);
    return listener;
}

static void test_deadline(void **state)
{
    struct error error = {0};
    struct sockaddr_in address;
    struct ldap_place place;
    char url[64];
    uint64_t start_ms;
    int filler, listener = open_full_listener(&filler, &address);

    (void)state;
    snprintf(url, sizeof(url), "ldap://127.0.0.1:%u", ntohs(address.sin_port));
    assert_int_equal(ldap_place_parse(&place, str_from_cstr(url), true, &error), 0);
    start_ms = clock_monotonic_ms();
    assert_int_equal(ldap_place_connect(&place, start_ms + 50, &error), -1);
    assert_true(clock_monotonic_ms() - start_ms >= 50);
    assert_non_null(strstr(error.text, "timed out"));
    close(listener);
    assert_int_equal(ldap_place_connect(&place, clock_monotonic_ms() + 10000, &error), -1);
    assert_non_null(strstr(error.text, "refused"));
    close(filler);
    ldap_place_release(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_right_urls), cmocka_unit_test(test_wrong_urls),
                                       cmocka_unit_test(test_deadline)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
