/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/confine.h"

#include "base/log.h"
#include "base/mem.h"
#include "os/sandbox.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

struct confinement {
    struct vfs vfs; /* the system's, with two operations of ours in front */
    struct sandbox_path *paths;
    size_t path_count;
    bool is_closed; /* nothing can be granted any more */
    bool has_landlock;
};

/* What libraries open when they are first needed: resolvers and their files, certificates, time zones, NSS modules, GSSAPI mechanisms. The programs
 * there can't be run. */
static const struct sandbox_path always[] = {{"/etc", false},
                                             {"/usr", false},
                                             {"/lib", false},
                                             {"/lib64", false},
                                             {"/dev/null", true},
                                             {"/dev/urandom", false},
                                             {"/dev/random", false},
                                             {"/proc/self", false},
                                             {"/proc/sys", false},
                                             {"/sys/devices/system/cpu", false},
                                             {"/run/systemd/resolve", false},
                                             {"/run/resolvconf", false},
                                             {"/run/NetworkManager", false},
                                             {"/var/lib/sss", false},
                                             {"/var/lib/unbound", false}};

/* Where libraries are told to look, in so many words. */
static const char *const variables[] = {"KRB5_CONFIG",  "KRB5_KTNAME",  "GSS_MECH_CONFIG", "SSL_CERT_FILE",
                                        "SSL_CERT_DIR", "OPENSSL_CONF", "LDAPCONF",        "LDAPTLS_CACERT"};

/* ---- what is granted ---- */

static void grant(struct confinement *confinement, struct str path, bool may_write)
{
    for (size_t i = 0; i < confinement->path_count; i++)
        if (str_equal(str_from_cstr(confinement->paths[i].path), path) && confinement->paths[i].may_write >= may_write)
            return;
    confinement->paths = mem_resize_array(confinement->paths, confinement->path_count + 1, sizeof(*confinement->paths));
    confinement->paths[confinement->path_count++] = (struct sandbox_path){mem_copy_str(path), may_write};
}

/* Of "/x" the file alone: everything is below "/". */
static struct str directory_of(struct str path)
{
    size_t slash = str_find_last(path, '/');

    if (slash == STR_NONE)
        return STR(".");
    return slash == 0 ? path : str_take(path, slash);
}

/* With its neighbours, so that it can be replaced; and, where a link leads elsewhere, as certbot's do, with the target's. */
static void grant_file(struct confinement *confinement, struct str path, bool may_write)
{
    char *given = mem_copy_str(path);
    char *real = realpath(given, NULL);

    /* "postern.yaml", started in "/", is in "/" too. */
    grant(confinement, real && str_find_last(str_from_cstr(real), '/') == 0 ? path : directory_of(path), may_write);
    if (real)
        grant(confinement, directory_of(str_from_cstr(real)), may_write);
    free(real);
    free(given);
}

static bool is_directory(struct str path)
{
    char *text = mem_copy_str(path);
    struct stat status;
    bool result = stat(text, &status) == 0 && S_ISDIR(status.st_mode);

    free(text);
    return result;
}

/* Paths separated by colons, perhaps with a type in front ("FILE:/etc/krb5.keytab"). */
static void grant_variable(struct confinement *confinement, const char *name)
{
    struct str rest = str_from_cstr(getenv(name));

    while (rest.data) {
        struct str path = str_split(&rest, ':');

        if (!str_starts_with(path, STR("/")))
            continue;
        if (is_directory(path))
            grant(confinement, path, false);
        else
            grant_file(confinement, path, false);
    }
}

/* Calls `fn` for each file that is opened by something else than config_load. Stops at the first that answers other than 0. */
typedef int file_fn(struct confinement *confinement, struct str path, bool may_write, struct error *error);

static int for_files(struct confinement *confinement, const struct config *config, file_fn *fn, struct error *error)
{
    const struct config_directory *directory = &config->directory;
    int result = 0;

    if (directory->backend != CONFIG_DIRECTORY_LDAP && directory->path.length > 0)
        result = fn(confinement, directory->path, directory->backend == CONFIG_DIRECTORY_SQLITE, error);
    if (result == 0 && directory->ldap.ca_file.length > 0)
        result = fn(confinement, directory->ldap.ca_file, false, error);
    if (result == 0 && config->dns.trust_anchor.length > 0)
        result = fn(confinement, config->dns.trust_anchor, false, error);
    for (size_t i = 0; i < config->connector_count && result == 0; i++)
        if (config->connectors[i].ca_file.length > 0)
            result = fn(confinement, config->connectors[i].ca_file, false, error);
    for (size_t i = 0; i < config->server_count && result == 0; i++)
        if (config->servers[i].auth.keytab.length > 0)
            result = fn(confinement, config->servers[i].auth.keytab, false, error);
    return result;
}

static int grant_one(struct confinement *confinement, struct str path, bool may_write, struct error *error)
{
    (void)error;
    grant_file(confinement, path, may_write);
    return 0;
}

static bool is_below(struct str path, struct str directory)
{
    return str_starts_with(path, directory) && (path.length == directory.length || path.data[directory.length] == '/');
}

static bool is_granted(const struct confinement *confinement, const char *path, bool may_write)
{
    char *directory = mem_copy_str(directory_of(str_from_cstr(path)));
    char *real = realpath(directory, NULL);
    bool result = false;

    for (size_t i = 0; i < confinement->path_count && !result; i++) {
        char *granted = realpath(confinement->paths[i].path, NULL);

        result = real && granted && confinement->paths[i].may_write >= may_write &&
                 is_below(str_from_cstr(real), str_from_cstr(granted));
        free(granted);
    }
    free(real);
    free(directory);
    return result;
}

/* ---- files of the configuration ---- */

static struct confinement *confinement_of(const struct vfs *vfs)
{
    return vfs->context;
}

static void on_refused(const struct confinement *confinement, const char *path, int result)
{
    if (result == -EACCES && confinement->has_landlock && !is_granted(confinement, path, false))
        LOG_ERROR("sandbox-refused", log_cstr("file", path),
                  log_cstr("reason", "it is in none of the directories that the configuration named at start; restart "
                                     "posternd for it"));
}

static int open_noted(const struct vfs *vfs, const char *path, int flags, struct vfs_file **file)
{
    struct confinement *confinement = confinement_of(vfs);
    int result = vfs_system()->open(vfs_system(), path, flags, file);

    if (!confinement->is_closed)
        grant_file(confinement, str_from_cstr(path), false);
    else
        on_refused(confinement, path, result);
    return result;
}

static int list_noted(const struct vfs *vfs, const char *path, vfs_list_fn *fn, void *context)
{
    struct confinement *confinement = confinement_of(vfs);
    int result = vfs_system()->list(vfs_system(), path, fn, context);

    if (!confinement->is_closed)
        grant(confinement, str_from_cstr(path), false);
    else
        on_refused(confinement, path, result);
    return result;
}

struct confinement *confinement_create(void)
{
    struct confinement *confinement = mem_alloc(sizeof(*confinement));

    confinement->vfs = *vfs_system();
    confinement->vfs.context = confinement;
    confinement->vfs.open = open_noted;
    confinement->vfs.list = list_noted;
    return confinement;
}

void confinement_destroy(struct confinement **pointer)
{
    struct confinement *confinement = *pointer;

    *pointer = NULL;
    if (!confinement)
        return;
    for (size_t i = 0; i < confinement->path_count; i++)
        free((char *)(uintptr_t)confinement->paths[i].path);
    free(confinement->paths);
    free(confinement);
}

const struct vfs *confinement_vfs(struct confinement *confinement)
{
    return &confinement->vfs;
}

/* ---- closing ---- */

static void set_variable(const char *name, const char *prefix, struct str directory, const char *file)
{
    char *value = mem_printf("%s%.*s%s", prefix, STR_ARG(directory), file);

    setenv(name, value, 0);
    free(value);
}

static void collect(struct confinement *confinement, const struct config *config)
{
    struct error unused;

    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
        grant(confinement, str_from_cstr(always[i].path), always[i].may_write);
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
        grant_variable(confinement, variables[i]);
    grant_file(confinement, STR("/etc/resolv.conf"), false);
    grant(confinement, config->data_dir, true);
    grant(confinement, config->run_dir, true);
    for_files(confinement, config, grant_one, &unused);
    if (config->session_log.format != CONFIG_SESSION_LOG_NONE)
        grant(confinement, config->session_log.directory, true);
    if (!str_equal(config->log.to, STR("stderr")))
        grant_file(confinement, config->log.to, true);
    /* What SQLite can't sort in memory else goes to /var/tmp. */
    set_variable("SQLITE_TMPDIR", "", config->data_dir, "");
}

static void log_report(const struct sandbox_report *report)
{
    LOG_AT(report->missing[0] ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "sandbox", log_bool("no_core", report->has_no_core),
           log_bool("no_capabilities", report->has_no_capabilities), log_bool("landlock", report->has_landlock),
           log_i64("landlock_abi", report->landlock_abi), log_bool("seccomp", report->has_seccomp),
           log_cstr("missing", report->missing), log_cstr("weakened", report->weakened));
}

int confinement_apply(struct confinement *confinement, const struct config *config, struct error *error)
{
    struct sandbox_report report;

    confinement->is_closed = true;
    if (config->sandbox == CONFIG_SANDBOX_OFF) {
        LOG_WARNING("sandbox", log_cstr("missing", "all: `sandbox: off`"));
        return 0;
    }
    collect(confinement, config);
    sandbox_apply(&(struct sandbox_settings){confinement->paths, confinement->path_count}, &report);
    confinement->has_landlock = report.has_landlock;
    log_report(&report);
    if (config->sandbox == CONFIG_SANDBOX_REQUIRED && report.missing[0] != '\0')
        return error_set(error, "`sandbox: required`, but there is missing: %s", report.missing);
    return 0;
}

static int check_one(struct confinement *confinement, struct str path, bool may_write, struct error *error)
{
    if (is_granted(confinement, path.data, may_write))
        return 0;
    return error_set(error,
                     "%s is in none of the directories that the sandbox was given at start; restart posternd for it",
                     path.data);
}

/* A directory of its own, which the first reload that names it may have to make. */
static int check_session_log(struct confinement *confinement, const struct config *config, struct error *error)
{
    char *inside;
    int result;

    if (config->session_log.format == CONFIG_SESSION_LOG_NONE)
        return 0;
    vfs_make_directories(vfs_system(), config->session_log.directory.data);
    inside = mem_printf("%s/.", config->session_log.directory.data);
    result = check_one(confinement, str_from_cstr(inside), true, error);
    free(inside);
    return result;
}

int confinement_reaches(struct confinement *confinement, const struct config *config, struct error *error)
{
    if (!confinement->has_landlock)
        return 0;
    if (check_session_log(confinement, config, error) != 0)
        return -1;
    return for_files(confinement, config, check_one, error);
}
