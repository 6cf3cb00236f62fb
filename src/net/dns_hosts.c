/* SPDX-License-Identifier: Apache-2.0 */
/* hosts(5): ADDRESS NAME ALIAS... # comment */
#include "base/hash.h"
#include "base/mem.h"
#include "net/dns_private.h"
#include "os/vfs.h"

/* A line's address counts for each of its names; a longer line's further names don't exist for us. */
#define NAMES_PER_LINE_MAX 64

struct dns_host {
    size_t count;
    struct net_address addresses[DNS_HOSTS_ADDRESSES_MAX];
    char name[DNS_NAME_BYTES];
};

struct dns_hosts {
    struct hash_table names;
};

static struct dns_host *host_of(struct dns_hosts *hosts, const char *name)
{
    struct dns_host *host = hash_table_get(&hosts->names, str_from_cstr(name));

    if (host)
        return host;
    host = mem_alloc(sizeof(*host));
    memcpy(host->name, name, strlen(name) + 1);
    hash_table_put(&hosts->names, str_from_cstr(host->name), host);
    return host;
}

static struct str next_word(struct str *rest)
{
    size_t start = 0, end;

    while (start < rest->length && (rest->data[start] == ' ' || rest->data[start] == '\t'))
        start++;
    end = start;
    while (end < rest->length && rest->data[end] != ' ' && rest->data[end] != '\t')
        end++;
    start = end - start;
    *rest = str_skip(*rest, end);
    return str_make(rest->data - start, start);
}

static void read_line(struct dns_hosts *hosts, struct str line)
{
    struct str rest = str_trim(str_split(&line, '#'));
    struct net_address address;
    char text[DNS_NAME_BYTES + 1], name[DNS_NAME_BYTES];

    if (rest.length == 0 || !net_address_parse_ip(next_word(&rest), &address))
        return;
    for (int i = 0; i < NAMES_PER_LINE_MAX && rest.length > 0; i++) {
        struct str word = next_word(&rest);
        struct dns_host *host;

        if (word.length == 0 || word.length >= sizeof(text))
            continue;
        memcpy(text, word.data, word.length);
        text[word.length] = '\0';
        if (!dns_parse_text_name(text, name))
            continue;
        host = host_of(hosts, name);
        if (host->count < DNS_HOSTS_ADDRESSES_MAX)
            host->addresses[host->count++] = address;
    }
}

struct dns_hosts *dns_hosts_parse(struct str text)
{
    struct dns_hosts *hosts = mem_alloc(sizeof(*hosts));

    hash_table_init(&hosts->names);
    while (text.data && text.length > 0)
        read_line(hosts, str_split(&text, '\n'));
    return hosts;
}

struct dns_hosts *dns_hosts_read(const char *path)
{
    struct dns_hosts *hosts;
    char *text = NULL;
    size_t length = 0;

    if (vfs_read_file(vfs_system(), path, DNS_HOSTS_BYTES_MAX, &text, &length) != 0)
        return dns_hosts_parse(STR(""));
    hosts = dns_hosts_parse(str_make(text, length));
    free(text);
    return hosts;
}

void dns_hosts_destroy(struct dns_hosts **pointer)
{
    struct dns_hosts *hosts = *pointer;
    size_t position = 0;
    struct str key;
    void *value;

    if (!hosts)
        return;
    *pointer = NULL;
    while (hash_table_next(&hosts->names, &position, &key, &value))
        free(value);
    hash_table_release(&hosts->names);
    free(hosts);
}

size_t dns_hosts_find(const struct dns_hosts *hosts, const char *name, const struct net_address **addresses)
{
    const struct dns_host *host = hash_table_get(&hosts->names, str_from_cstr(name));

    if (!host)
        return 0;
    *addresses = host->addresses;
    return host->count;
}
