/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration of any bytes: read, refused with messages or built, and then decided with. No file is there to include. */
#include "config/config.h"
#include "mail/address.h"

#include <errno.h>
#include <stdlib.h>

static int open_nothing(const struct vfs *vfs, const char *path, int flags, struct vfs_file **file)
{
    (void)vfs;
    (void)path;
    (void)flags;
    (void)file;
    return -ENOENT;
}

/* One name, so that a pattern of an include leads to a file that is not there. */
static int list_one(const struct vfs *vfs, const char *path, vfs_list_fn *fn, void *context)
{
    (void)vfs;
    (void)path;
    fn(context, "one.yaml");
    return 0;
}

static void decide(const struct config *config)
{
    struct policy_facts facts = {0};
    struct policy_decision decision;
    struct policy_trace trace = {0};
    struct policy_route route;
    struct address address;
    const struct policy_domain *default_domain = policy_default_domain(config->policy);

    if (!address_parse(&address, STR("x@a.b.test"), default_domain ? default_domain->name : STR("")))
        abort();
    facts.server = config->servers[0].policy;
    facts.sender = &address;
    facts.recipient = &address;
    policy_decide(config->policy, POLICY_STAGE_CONNECT, &facts, &decision, &trace);
    policy_decide(config->policy, POLICY_STAGE_MAIL, &facts, &decision, &trace);
    policy_decide(config->policy, POLICY_STAGE_RCPT, &facts, &decision, &trace);
    policy_route(config->policy, config->servers[0].name, &address, &route);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct vfs nothing = {.open = open_nothing, .list = list_one};
    static const struct cidr_address own = {{0}};
    static const struct config_machine machine = {"mail.contoso.test", &own, 1};
    const struct config *config;
    struct config_errors errors;

    config_errors_init(&errors);
    if (config_load_text(&nothing, "fuzz.yaml", str_make((const char *)data, size), &machine, &config, &errors) == 0)
        decide(config);
    else if (config || errors.error_count == 0)
        abort(); /* a refusal says why */
    config_release(&config);
    config_errors_release(&errors);
    return 0;
}
