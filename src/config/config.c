/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config.h"

#include "base/mem.h"
#include "config/build.h"
#include "config/machine.h"
#include "mail/domain.h"

#include <stdatomic.h>

/* Above what the bounds on files let through. */
#define CONFIG_BYTES_MAX ((size_t)1 << 30)

/* A snapshot with what nobody outside reads. */
struct config_object {
    struct config config; /* first: a pointer to one is a pointer to the other */
    atomic_uint references;
    struct arena arena;
    struct policy_model *model;
    struct policy_proof *proof;
};

static struct config_object *object_of(const struct config *config)
{
    return (struct config_object *)(uintptr_t)config;
}

const struct config *config_retain(const struct config *config)
{
    atomic_fetch_add_explicit(&object_of(config)->references, 1, memory_order_relaxed);
    return config;
}

void config_release(const struct config **config_pointer)
{
    struct config_object *object;

    if (!*config_pointer)
        return;
    object = object_of(*config_pointer);
    *config_pointer = NULL;
    if (atomic_fetch_sub_explicit(&object->references, 1, memory_order_acq_rel) != 1)
        return;
    policy_proof_destroy(&object->proof);
    policy_model_destroy(&object->model);
    arena_release(&object->arena);
    free(object);
}

const struct config_server *config_find_server(const struct config *config, struct str name)
{
    for (size_t i = 0; i < config->server_count; i++)
        if (str_equal(config->servers[i].name, name))
            return &config->servers[i];
    return NULL;
}

const struct config_connector *config_connector_of(const struct config *config,
                                                   const struct policy_connector *connector)
{
    return &config->connectors[connector->index];
}

static void build_general(struct build *b)
{
    const struct settings *s = b->settings;
    struct config *config = b->config;
    char hostname[DOMAIN_TEXT_BYTES];
    size_t length;

    config->hostname = build_copy(b, s->hostname);
    if (s->hostname.length == 0) {
        length = b->machine.hostname ? domain_normalize(str_from_cstr(b->machine.hostname), hostname)
                                     : machine_hostname(b->vfs, hostname);
        if (length == 0)
            config_errors_add(
                b->errors, &b->tree->root->place,
                "hostname: the system's name is not a domain name; set one like hostname: mail.contoso.test");
        config->hostname = build_copy(b, str_make(hostname, length));
    }
    config->data_dir = build_copy(b, s->data_dir);
    config->run_dir = build_copy(b, s->run_dir);
    config->user = build_copy(b, s->user);
    config->log =
        (struct config_log){(enum log_format)s->log.format, (enum log_level)s->log.level, build_copy(b, s->log.to)};
    if (!str_equal(s->log.to, STR("stderr")) && !str_starts_with(s->log.to, STR("/")))
        config_errors_add(b->errors, build_key_place(s->log.head.node, "to"),
                          "log.to: wants stderr or the absolute path of a file, not \"%.*s\"",
                          STR_ARG(str_take(s->log.to, 80)));
    config->spool = s->spool.spool;
    config->queue = s->queue.queue;
    config->loops = s->loops;
}

/* What the daemon tells of itself, and to whom. */
static void build_records(struct build *b)
{
    const struct settings *s = b->settings;
    struct config *config = b->config;
    struct str directory = s->session_log.directory;
    char *fallback = mem_printf("%.*s/session-log", STR_ARG(s->data_dir));

    config->control.socket_group = build_copy(b, s->control.socket_group);
    config->tracking = (struct config_tracking){.enabled = s->tracking.enabled,
                                                .refusals = s->tracking.refusals,
                                                .keep_ms = s->tracking.keep_ms,
                                                .bytes_max = s->tracking.bytes_max};
    config->session_log = (struct config_session_log){
        .format = (enum config_session_log_format)s->session_log.format,
        .directory = build_copy(b, directory.length > 0 ? directory : str_from_cstr(fallback)),
        .keep_ms = s->session_log.keep_ms,
        .bytes_max = s->session_log.bytes_max,
    };
    free(fallback);
}

static void build_all(struct build *b)
{
    build_general(b);
    build_records(b);
    build_lists(b);
    build_domains(b);
    build_servers(b);
    build_connectors(b);
    build_delivery(b);
    build_directory(b);
}

/* From a tree without mistakes in its form. */
static const struct config *build_config(const struct vfs *vfs, const char *path, struct config_tree *tree,
                                         const struct config_machine *machine, const struct settings *settings)
{
    struct config_object *object = mem_alloc(sizeof(*object));
    struct cidr_address *addresses = NULL;
    const struct config *config = &object->config;
    struct build b = {.vfs = vfs,
                      .tree = tree,
                      .errors = tree->errors,
                      .settings = settings,
                      .arena = &object->arena,
                      .config = &object->config};

    if (machine)
        b.machine = *machine;
    if (!b.machine.addresses && b.machine.address_count == 0) {
        b.machine.address_count = machine_addresses(&addresses);
        b.machine.addresses = addresses;
    }
    arena_init(&object->arena, CONFIG_BYTES_MAX);
    hash_table_init(&b.lists);
    object->model = policy_model_create();
    b.model = object->model;
    object->config.policy = object->model;
    object->config.path = build_copy(&b, str_from_cstr(path));
    atomic_init(&object->references, 1);
    build_all(&b);
    policy_model_finish(object->model);
    build_relay_checks(&b);
    build_dns(&b);
    if (tree->errors->error_count == 0) {
        object->proof = policy_prove(object->model);
        object->config.proof = object->proof;
        build_warnings(&b);
        build_relay_warnings(&b);
    } else {
        config_release(&config);
    }
    hash_table_release(&b.lists);
    free(addresses);
    return config;
}

static int load(const struct vfs *vfs, const char *path, const struct str *text, const struct config_machine *machine,
                const struct config **config, struct config_errors *errors)
{
    struct config_tree tree;
    struct settings settings = {0};
    size_t errors_before = errors->error_count;

    *config = NULL;
    config_tree_init(&tree, errors);
    if (config_tree_load(&tree, vfs, path, text) == 0) {
        schema_read(&tree, &schema_root, tree.root, &settings);
        *config = build_config(vfs, path, &tree, machine, &settings);
    }
    config_tree_release(&tree);
    config_errors_sort(errors);
    return errors->error_count == errors_before ? 0 : -1;
}

int config_load(const struct vfs *vfs, const char *path, const struct config_machine *machine,
                const struct config **config, struct config_errors *errors)
{
    return load(vfs, path, NULL, machine, config, errors);
}

int config_load_text(const struct vfs *vfs, const char *path, struct str text, const struct config_machine *machine,
                     const struct config **config, struct config_errors *errors)
{
    return load(vfs, path, &text, machine, config, errors);
}

int config_load_places(const struct vfs *vfs, const char *path, struct config_places *places,
                       struct config_errors *errors)
{
    struct config_tree tree;
    struct settings settings = {0};
    struct config_errors unwanted;
    int result;

    config_tree_init(&tree, errors);
    result = config_tree_load(&tree, vfs, path, NULL);
    if (result == 0) {
        config_errors_init(&unwanted);
        tree.errors = &unwanted;
        schema_read(&tree, &schema_root, tree.root, &settings);
        places->data_dir = mem_copy_str(settings.data_dir);
        places->run_dir = mem_copy_str(settings.run_dir);
        config_errors_release(&unwanted);
    }
    config_tree_release(&tree);
    return result;
}

void config_places_release(struct config_places *places)
{
    mem_free(&places->data_dir);
    mem_free(&places->run_dir);
}
