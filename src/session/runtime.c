/* SPDX-License-Identifier: Apache-2.0 */
#include "session/runtime.h"

#include "base/mem.h"
#include "session/auth.h"

_Static_assert((int)TLS_PROTOCOL_1_0 == (int)CONFIG_TLS_1_0 && (int)TLS_PROTOCOL_1_3 == (int)CONFIG_TLS_1_3,
               "config.h names the versions in tls.h's order");

static struct tls_context *make_tls(const struct config_server *server, struct tls_tickets *tickets,
                                    struct error *error)
{
    const struct config_server_tls *tls = &server->tls;
    struct tls_files *files = mem_alloc_array(tls->certificate_count, sizeof(*files));
    struct tls_server_settings settings = {.certificates = files,
                                           .certificate_count = tls->certificate_count,
                                           .protocol_min = (enum tls_protocol)tls->version_min,
                                           .asks_certificate = tls->client_certificates};
    struct tls_context *context;

    for (size_t i = 0; i < tls->certificate_count; i++)
        files[i] = (struct tls_files){
            .name = tls->certificates[i].name.length > 0 ? tls->certificates[i].name.data : NULL,
            .certificate = tls->certificates[i].certificate.data,
            .key = tls->certificates[i].key.data,
        };
    context = tls_server_create(&settings, tickets, error);
    if (!context)
        error_add_context(error, "servers.%.*s.tls", STR_ARG(server->name));
    free(files);
    return context;
}

static const struct config_connector *connector_at(const struct config *config, size_t i)
{
    return i < config->connector_count ? &config->connectors[i] : &config->default_connector;
}

/* One context for all that trust the same roots: reading the system's takes a while. */
static struct tls_context *find_outward_tls(const struct runtime *runtime, size_t count, struct str ca_file)
{
    for (size_t i = 0; i < count; i++)
        if (runtime->outward_tls[i] && str_equal(connector_at(runtime->config, i)->ca_file, ca_file))
            return tls_context_retain(runtime->outward_tls[i]);
    return NULL;
}

static int make_outward_tls(struct runtime *runtime, struct error *error)
{
    const struct config *config = runtime->config;

    for (size_t i = 0; i <= config->connector_count; i++) {
        const struct config_connector *connector = connector_at(config, i);
        const struct tls_client_settings settings = {
            .ca_file = connector->ca_file.length > 0 ? connector->ca_file.data : NULL,
            .protocol_min = TLS_PROTOCOL_1_2,
        };

        if (connector->tls == CONFIG_CONNECTOR_TLS_NONE)
            continue;
        runtime->outward_tls[i] = find_outward_tls(runtime, i, connector->ca_file);
        if (!runtime->outward_tls[i])
            runtime->outward_tls[i] = tls_client_create(&settings, error);
        if (!runtime->outward_tls[i])
            return error_add_context(error, "connectors.%.*s", STR_ARG(connector->name));
    }
    return 0;
}

int runtime_create(const struct config *config, struct tls_tickets *tickets, struct runtime **out, struct error *error)
{
    struct runtime *runtime = mem_alloc(sizeof(*runtime));

    runtime->config = config_retain(config);
    runtime->tls = mem_alloc_array(config->server_count, sizeof(*runtime->tls));
    runtime->outward_tls = mem_alloc_array(config->connector_count + 1, sizeof(*runtime->outward_tls));
    atomic_init(&runtime->references, 1);
    for (size_t i = 0; i < config->server_count; i++) {
        if (config->servers[i].tls.mode == CONFIG_TLS_NONE)
            continue;
        runtime->tls[i] = make_tls(&config->servers[i], tickets, error);
        if (!runtime->tls[i]) {
            runtime_release(&runtime);
            return -1;
        }
    }
    if (make_outward_tls(runtime, error) != 0) {
        runtime_release(&runtime);
        return -1;
    }
    *out = runtime;
    return 0;
}

int runtime_open_directory(struct runtime *runtime, const struct runtime *before, struct worker_pool *reaper,
                           struct error *error)
{
    runtime->reaper = reaper;
    if (before && before->directory && directory_matches(before->directory, runtime->config))
        runtime->directory = directory_retain(before->directory);
    else
        runtime->directory = directory_create(runtime->config, error);
    if (!runtime->directory)
        return -1;
    runtime->auth = auth_setup_create(runtime->config);
    return 0;
}

struct runtime *runtime_retain(struct runtime *runtime)
{
    atomic_fetch_add_explicit(&runtime->references, 1, memory_order_relaxed);
    return runtime;
}

void runtime_release(struct runtime **pointer)
{
    struct runtime *runtime = *pointer;

    *pointer = NULL;
    if (!runtime || atomic_fetch_sub_explicit(&runtime->references, 1, memory_order_acq_rel) != 1)
        return;
    auth_setup_destroy(&runtime->auth);
    directory_release_on(&runtime->directory, runtime->reaper);
    for (size_t i = 0; i < runtime->config->server_count; i++)
        tls_context_release(&runtime->tls[i]);
    for (size_t i = 0; i <= runtime->config->connector_count; i++)
        tls_context_release(&runtime->outward_tls[i]);
    free(runtime->tls);
    free(runtime->outward_tls);
    config_release(&runtime->config);
    free(runtime);
}

struct tls_context *runtime_server_tls(const struct runtime *runtime, const struct config_server *server)
{
    return runtime->tls[server - runtime->config->servers];
}

struct tls_context *runtime_connector_tls(const struct runtime *runtime, const struct config_connector *connector)
{
    const struct config *config = runtime->config;

    return runtime->outward_tls[connector == &config->default_connector ? config->connector_count
                                                                        : (size_t)(connector - config->connectors)];
}
