/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a decision costs: 10,000 networks on the relay list, 100,000 domains, and each kind of answer. Prints nanoseconds for one
 * decision at RCPT, the address parsed already; and what the two commands that use it make of the same configuration: how long the
 * proof takes, and how many lines a second `explain --batch` answers.
 */
#include "base/mem.h"
#include "config/config.h"
#include "mail/address.h"
#include "policy/explain_batch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define NETWORKS  10000
#define DOMAINS   100000
#define DECISIONS 2000000
#define VARIANTS  1024

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void write_config(struct buf *text)
{
    buf_append_str(text, STR("hostname: mail.contoso.test\n"
                             "servers: { s: { listen: ['127.0.0.1:0'], relay: { only: ['list:nets'] } } }\n"
                             "connectors: { c: { address-spaces: ['*', '*.net.test'], smart-hosts: [h.test] } }\n"
                             "domains:\n  contoso.test: { type: local, default: true, recipients: any }\n"
                             "  '*.wild.test': { type: allowed }\n"));
    for (unsigned i = 0; i < DOMAINS; i++)
        buf_printf(text, "  domain%u.test: { type: allowed }\n", i);
    buf_append_str(text, STR("lists:\n  nets:\n"));
    for (unsigned i = 0; i < NETWORKS; i++)
        buf_printf(text, "    - 10.%u.%u.0/25\n", i / 256, i % 256);
}

/* Different clients and recipients in turn, so that the caches don't hold the one answer. */
static void run(const struct config *config, const char *name, const char *client_format, const char *recipient_format)
{
    struct policy_facts *facts = mem_alloc_array(VARIANTS, sizeof(*facts));
    struct address *addresses = mem_alloc_array(VARIANTS, sizeof(*addresses));
    struct policy_decision decision;
    unsigned codes = 0;
    uint64_t begin;

    for (unsigned i = 0; i < VARIANTS; i++) {
        char *client = mem_printf("10.%u.%u.%s", i % 39, i * 7 % 256, client_format);
        char *recipient = mem_printf("%s%u%s", "user@domain", i * 97, recipient_format);

        if (!cidr_parse_address(str_from_cstr(client), &facts[i].client) ||
            !address_parse(&addresses[i], str_from_cstr(recipient), STR("contoso.test")))
            abort();
        facts[i].server = config->servers[0].policy;
        facts[i].recipient = &addresses[i];
        free(client);
        free(recipient);
    }
    begin = now_ns();
    for (unsigned i = 0; i < DECISIONS; i++) {
        policy_decide(config->policy, POLICY_STAGE_RCPT, &facts[i % VARIANTS], &decision, NULL);
        codes += (unsigned)decision.code;
    }
    printf("%-28s %6.0f ns (%u)\n", name, (double)(now_ns() - begin) / DECISIONS, codes / DECISIONS);
    free(facts);
    free(addresses);
}

static void run_proof(const struct config *config)
{
    uint64_t begin = now_ns();
    struct policy_proof *proof = policy_prove(config->policy);

    printf("%-28s %6.1f ms (%s)\n", "proof", (double)(now_ns() - begin) / 1e6, policy_exposure_name(proof->exposure));
    policy_proof_destroy(&proof);
}

/* All three stages, the reading and the writing. */
static void run_batch(const struct config *config)
{
    struct explain_batch *batch = explain_batch_create(config->policy);
    struct buf questions[VARIANTS];
    struct buf answer;
    uint64_t begin;

    for (unsigned i = 0; i < VARIANTS; i++) {
        buf_init(&questions[i], 1024);
        buf_printf(&questions[i],
                   "{\"server\":\"s\",\"client\":\"10.%u.%u.200\",\"client_name\":null,\"client_name_state\":\"none\","
                   "\"tls\":false,\"user\":null,\"groups\":[],\"from\":\"alice@contoso.test\","
                   "\"to\":\"user@domain%u.%s\",\"cert\":null}",
                   i % 39, i * 7 % 256, i * 97, i % 2 ? "test" : "example.net");
    }
    buf_init(&answer, EXPLAIN_ANSWER_BYTES_MAX);
    begin = now_ns();
    for (unsigned i = 0; i < DECISIONS; i++) {
        if (!explain_batch_answer(batch, buf_str(&questions[i % VARIANTS]), &answer))
            abort();
        buf_clear(&answer);
    }
    printf("%-28s %6.0f lines/s\n", "explain --batch", DECISIONS / ((double)(now_ns() - begin) / 1e9));
    for (unsigned i = 0; i < VARIANTS; i++)
        buf_release(&questions[i]);
    buf_release(&answer);
    explain_batch_destroy(&batch);
}

int main(void)
{
    struct buf text;
    const struct config *config;
    struct config_errors errors;
    uint64_t begin;

    buf_init(&text, 8u << 20);
    write_config(&text);
    config_errors_init(&errors);
    begin = now_ns();
    if (config_load_text(vfs_system(), "bench.yaml", buf_str(&text), NULL, &config, &errors) != 0) {
        fprintf(stderr, "%u: %s\n", errors.messages[0].line, errors.messages[0].text);
        return 1;
    }
    printf("%-28s %6" PRIu64 " ms\n", "load", (now_ns() - begin) / 1000000);
    run(config, "allowed domain", "200", ".test");
    run(config, "below a wildcard", "200", ".a.b.c.wild.test");
    run(config, "external, granted", "1", ".example.net");
    run(config, "external, refused", "200", ".example.net");
    run_proof(config);
    run_batch(config);
    config_release(&config);
    config_errors_release(&errors);
    buf_release(&text);
    return 0;
}
