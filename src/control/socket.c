/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the socket is, and who may reach it. Bound through the directory's descriptor, so that the length of run-dir does not matter (a socket's
 * path has 107 octets at most).
 */
#include "base/mem.h"
#include "control/control_private.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 64

/* 0 and -1 in `*gid` without a group. */
static int find_group(struct str name, int64_t *gid, struct error *error)
{
    const struct group *group;

    *gid = -1;
    if (name.length == 0)
        return 0;
    errno = 0;
    group = getgrnam(name.data);
    if (!group && errno != 0)
        return error_set_errno(error, errno, "control.socket-group %s", name.data);
    if (!group)
        return error_set(error, "control.socket-group %s does not exist: create it, or name another", name.data);
    *gid = group->gr_gid;
    return 0;
}

static void set_path(struct sockaddr_un *address, int directory_fd)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/%s", directory_fd, CONTROL_SOCKET);
}

/* Root gives it to the daemon's user; the group gets in, nobody else. */
static int set_owner(int directory_fd, const char *user, int64_t gid, struct error *error)
{
    const struct passwd *entry = user ? getpwnam(user) : NULL;
    const uid_t uid = entry ? entry->pw_uid : (uid_t)-1;
    struct stat status;

    /* While it is ours: of somebody else's the systemd unit leaves no capability to change the mode. */
    if (fchmodat(directory_fd, CONTROL_SOCKET, gid >= 0 ? 0660 : 0600, 0) != 0)
        return error_set_errno(error, errno, "the control socket's mode");
    if ((entry || gid >= 0) &&
        fchownat(directory_fd, CONTROL_SOCKET, uid, gid >= 0 ? (gid_t)gid : (gid_t)-1, AT_SYMLINK_NOFOLLOW) != 0)
        return error_set_errno(error, errno, "giving the control socket to control.socket-group");
    if (gid < 0 || fstat(directory_fd, &status) != 0 || (status.st_mode & S_IXOTH))
        return 0;
    /* To reach the socket the group has to pass the directory; it learns nothing else of it. */
    if ((status.st_gid != (gid_t)gid && fchown(directory_fd, (uid_t)-1, (gid_t)gid) != 0) ||
        fchmod(directory_fd, (status.st_mode & 07777) | S_IXGRP) != 0)
        return error_set_errno(error, errno, "letting control.socket-group into run-dir");
    return 0;
}

/* What a daemon that was killed has left is taken away: the lock says that it is no other's. */
static int bind_socket(struct control_socket *socket_of, const char *user, struct error *error)
{
    const mode_t mask = umask(0177);
    struct sockaddr_un address;
    int result = -1;

    set_path(&address, socket_of->lock_fd);
    unlinkat(socket_of->lock_fd, CONTROL_SOCKET, 0);
    socket_of->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (socket_of->fd < 0 || bind(socket_of->fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        error_set_errno(error, errno, "%s", socket_of->path);
        goto done;
    }
    socket_of->is_bound = true;
    if (set_owner(socket_of->lock_fd, user, socket_of->gid, error) == 0)
        result = listen(socket_of->fd, BACKLOG) == 0 ? 0 : error_set_errno(error, errno, "%s", socket_of->path);
done:
    umask(mask);
    return result;
}

int control_open_socket(const struct config *config, const char *user, struct control_socket *socket_of,
                        struct error *error)
{
    *socket_of = (struct control_socket){.fd = -1, .lock_fd = -1, .gid = -1};
    if (find_group(config->control.socket_group, &socket_of->gid, error) != 0)
        return -1;
    socket_of->path = mem_printf("%s/%s", config->run_dir.data, CONTROL_SOCKET);
    socket_of->lock_fd = open(config->run_dir.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (socket_of->lock_fd < 0)
        error_set_errno(error, errno, "run-dir %s", config->run_dir.data);
    else if (flock(socket_of->lock_fd, LOCK_EX | LOCK_NB) != 0)
        error_set(error, "run-dir %s is another posternd's", config->run_dir.data);
    else if (bind_socket(socket_of, user, error) == 0)
        return 0;
    control_close_socket(socket_of);
    return -1;
}

void control_close_socket(struct control_socket *socket_of)
{
    if (socket_of->is_bound)
        unlinkat(socket_of->lock_fd, CONTROL_SOCKET, 0);
    if (socket_of->fd >= 0)
        close(socket_of->fd);
    if (socket_of->lock_fd >= 0)
        close(socket_of->lock_fd);
    free(socket_of->path);
    *socket_of = (struct control_socket){.fd = -1, .lock_fd = -1, .gid = -1};
}
