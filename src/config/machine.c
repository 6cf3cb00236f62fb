/* SPDX-License-Identifier: Apache-2.0 */
#include "config/machine.h"

#include "base/mem.h"

#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/utsname.h>

#define HOSTS_FILE      "/etc/hosts"
#define HOSTS_BYTES_MAX (1u << 20)

/* The next word of a line; empty at its end. */
static struct str next_word(struct str *line)
{
    size_t start = 0;
    size_t end;
    struct str word;

    while (start < line->length && (line->data[start] == ' ' || line->data[start] == '\t'))
        start++;
    end = start;
    while (end < line->length && line->data[end] != ' ' && line->data[end] != '\t')
        end++;
    word = str_make(line->data ? line->data + start : NULL, end - start);
    *line = str_skip(*line, end);
    return word;
}

/* The name with a dot on a line of hosts(5) that also has `node`; empty if there is none. */
static struct str qualified_on_line(struct str line, struct str node)
{
    struct str qualified = {0};
    struct str word;
    bool has_node = false;

    line = str_take(line, str_find(line, '#') == STR_NONE ? line.length : str_find(line, '#'));
    next_word(&line); /* the address */
    while ((word = next_word(&line)).length > 0) {
        has_node = has_node || str_equal_nocase(word, node);
        if (!qualified.length && str_find(word, '.') != STR_NONE)
            qualified = word;
    }
    return has_node ? qualified : (struct str){0};
}

static size_t qualify_by_hosts(const struct vfs *vfs, struct str node, char name[DOMAIN_TEXT_BYTES])
{
    char *data = NULL;
    size_t length = 0;
    size_t result = 0;
    struct str rest;

    if (vfs_read_file(vfs, HOSTS_FILE, HOSTS_BYTES_MAX, &data, &length) != 0)
        return 0;
    rest = str_make(data, length);
    while (result == 0 && rest.data && rest.length > 0) {
        struct str qualified = qualified_on_line(str_trim(str_split(&rest, '\n')), node);

        if (qualified.length > 0)
            result = domain_normalize(qualified, name);
    }
    free(data);
    return result;
}

size_t machine_hostname(const struct vfs *vfs, char name[DOMAIN_TEXT_BYTES])
{
    struct utsname system;
    struct str node;
    size_t length = 0;

    if (uname(&system) != 0)
        return 0;
    node = str_from_cstr(system.nodename);
    if (str_find(node, '.') == STR_NONE)
        length = qualify_by_hosts(vfs, node, name);
    return length > 0 ? length : domain_normalize(node, name);
}

static bool from_sockaddr(const struct sockaddr *from, struct cidr_address *address)
{
    if (from && from->sa_family == AF_INET) {
        struct sockaddr_in ipv4;

        memcpy(&ipv4, from, sizeof(ipv4));
        *address = cidr_from_ipv4((const unsigned char *)&ipv4.sin_addr);
        return true;
    }
    if (from && from->sa_family == AF_INET6) {
        struct sockaddr_in6 ipv6;

        memcpy(&ipv6, from, sizeof(ipv6));
        memcpy(address->bytes, &ipv6.sin6_addr, sizeof(address->bytes));
        return true;
    }
    return false;
}

size_t machine_addresses(struct cidr_address **addresses)
{
    struct ifaddrs *interfaces = NULL;
    size_t count = 0;

    *addresses = NULL;
    if (getifaddrs(&interfaces) != 0)
        return 0;
    for (const struct ifaddrs *i = interfaces; i; i = i->ifa_next) {
        struct cidr_address address;

        if (!from_sockaddr(i->ifa_addr, &address))
            continue;
        *addresses = mem_resize_array(*addresses, count + 1, sizeof(address));
        (*addresses)[count++] = address;
    }
    freeifaddrs(interfaces);
    return count;
}
