/* SPDX-License-Identifier: Apache-2.0 */
/* The spool stands on these calls: a short write taken for a whole one is a message lost after its 250. */
#include "os/vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[64];
static char path_text[8][200];

/* A path in the test's directory; each of the 8 slots stays valid until its next use. */
static const char *path(unsigned slot, const char *name)
{
    snprintf(path_text[slot], sizeof(path_text[slot]), "%s/%s", directory, name);
    return path_text[slot];
}

static int make_directory(void **state)
{
    (void)state;
    snprintf(directory, sizeof(directory), "/tmp/postern-vfs-XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    pid_t child = fork();
    int status = 1;

    (void)state;
    if (child == 0) {
        execlp("rm", "rm", "-rf", "--", directory, (char *)NULL);
        _exit(127);
    }
    return waitpid(child, &status, 0) == child && status == 0 ? 0 : -1;
}

static struct vfs_file *open_new(const char *name)
{
    const struct vfs *vfs = vfs_system();
    struct vfs_file *file = NULL;

    assert_int_equal(vfs->open(vfs, path(0, name), VFS_READ | VFS_WRITE | VFS_CREATE | VFS_EXCLUSIVE, &file), 0);
    assert_ptr_equal(file->vfs, vfs);
    return file;
}

static void test_open_flags(void **state)
{
    const struct vfs *vfs = vfs_system();
    struct vfs_file *file = open_new("flags");
    struct stat status;
    char byte = 'x';
    struct iovec part = {&byte, 1};

    (void)state;
    vfs->close(file);
    assert_int_equal(stat(path(0, "flags"), &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600 & ~umask(umask(0)));
    assert_int_equal(vfs->open(vfs, path(0, "flags"), VFS_WRITE | VFS_CREATE | VFS_EXCLUSIVE, &file), -EEXIST);
    assert_int_equal(vfs->open(vfs, path(0, "missing"), VFS_READ, &file), -ENOENT);
    assert_int_equal(vfs->open(vfs, path(0, "flags"), VFS_READ, &file), 0);
    assert_int_equal(vfs->write_at(file, &part, 1, 0), -EBADF);
    vfs->close(file);
    assert_int_equal(vfs->open(vfs, path(0, "flags"), VFS_WRITE, &file), 0);
    assert_int_equal(vfs->read_at(file, &byte, 1, 0), -EBADF);
    vfs->close(file);
}

/* More parts than one system call takes, empty ones among them: a group commit of a thousand messages. */
static void test_write_many_parts(void **state)
{
    enum { PARTS = 3000 };
    const struct vfs *vfs = vfs_system();
    struct vfs_file *file = open_new("parts");
    static unsigned char bytes[PARTS];
    static unsigned char back[PARTS + 10];
    static struct iovec parts[PARTS];
    size_t written = 0;

    (void)state;
    for (size_t i = 0; i < PARTS; i++) {
        bytes[i] = (unsigned char)(i % 251);
        parts[i] = (struct iovec){&bytes[i], i % 5 ? 1 : 0};
        written += parts[i].iov_len;
    }
    assert_int_equal(vfs->write_at(file, parts, PARTS, 100), 0);
    assert_int_equal(vfs->write_at(file, parts, 0, 100), 0);
    assert_int_equal(vfs->size(file), 100 + written);
    assert_int_equal(vfs->read_at(file, back, sizeof(back), 100), written);
    for (size_t i = 0, at = 0; i < PARTS; i++) {
        if (i % 5)
            assert_int_equal(back[at++], bytes[i]);
    }
    vfs->close(file);
}

/* The file size limit makes the kernel write the first half of a part and then fail: the whole must count as failed. */
static void test_short_write_is_an_error(void **state)
{
    const struct vfs *vfs = vfs_system();
    struct vfs_file *file = open_new("short");
    char first[600];
    char second[600];
    struct iovec parts[2] = {{first, sizeof(first)}, {second, sizeof(second)}};
    struct rlimit before;
    struct rlimit limit;

    (void)state;
    memset(first, 'a', sizeof(first));
    memset(second, 'b', sizeof(second));
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = (struct rlimit){1000, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(vfs->write_at(file, parts, 2, 0), -EFBIG);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(vfs->size(file), 1000);
    assert_int_equal(vfs->write_at(file, parts, 2, 0), 0);
    assert_int_equal(vfs->read_at(file, first, 2, 599), 2);
    assert_memory_equal(first, "ab", 2);
    vfs->close(file);
}

static void test_read_at_the_end(void **state)
{
    const struct vfs *vfs = vfs_system();
    struct vfs_file *file = open_new("end");
    struct iovec part = {(char[]){"0123456789"}, 10};
    char back[20];
    ssize_t count;

    (void)state;
    assert_int_equal(vfs->write_at(file, &part, 1, 0), 0);
    assert_int_equal(vfs->sync_data(file), 0);
    assert_int_equal(vfs->read_at(file, back, 20, 4), 6);
    assert_memory_equal(back, "456789", 6);
    assert_int_equal(vfs->read_at(file, back, 20, 10), 0);
    assert_int_equal(vfs->read_at(file, back, 20, 1000), 0);
    /* Just written, so in memory, if the file system can tell at all. */
    count = vfs->read_at_nowait(file, back, 20, 3);
    assert_true(count == 7 || count == -EAGAIN);
    if (count > 0)
        assert_memory_equal(back, "3456789", 7);
    assert_int_equal(vfs->truncate(file, 3), 0);
    assert_int_equal(vfs->size(file), 3);
    assert_int_equal(vfs->read_at(file, back, 20, 0), 3);
    vfs->close(file);
}

/* Recycled segments hold old frames: what allocate leaves must read as zeroes, or recovery would find them again. */
static void test_allocate_zeroes(void **state)
{
    enum { LENGTH = 1500 * 1024 + 7 };
    const struct vfs *vfs = vfs_system();
    struct vfs_file *file = open_new("allocate");
    char *content = malloc(LENGTH);
    struct iovec part = {content, LENGTH};
    struct stat status;

    (void)state;
    assert_non_null(content);
    memset(content, 'x', LENGTH);
    assert_int_equal(vfs->write_at(file, &part, 1, 0), 0);
    assert_int_equal(vfs->allocate(file, 10, LENGTH), 0);
    assert_int_equal(vfs->size(file), LENGTH + 10);
    assert_int_equal(vfs->read_at(file, content, LENGTH, 0), LENGTH);
    for (size_t i = 0; i < LENGTH; i++)
        assert_int_equal(content[i], i < 10 ? 'x' : 0);
    assert_int_equal(vfs->allocate(file, 0, 0), 0);
    assert_int_equal(vfs->allocate(file, 0, 100), 0);
    assert_int_equal(vfs->size(file), LENGTH + 10);
    assert_int_equal(stat(path(0, "allocate"), &status), 0);
    assert_true(status.st_blocks * 512 >= LENGTH);
    vfs->close(file);
    free(content);
}

/* Two daemons on one data directory would deliver everything twice. */
static void test_lock_is_exclusive(void **state)
{
    const struct vfs *vfs = vfs_system();
    struct vfs_file *first = open_new("lock");
    struct vfs_file *second;

    (void)state;
    assert_int_equal(vfs->lock(first), 0);
    assert_int_equal(vfs->open(vfs, path(0, "lock"), VFS_READ | VFS_WRITE, &second), 0);
    assert_int_equal(vfs->lock(second), -EWOULDBLOCK);
    vfs->close(first);
    assert_int_equal(vfs->lock(second), 0);
    vfs->close(second);
}

static int count_name(void *context, const char *name)
{
    unsigned *seen = context;

    assert_string_not_equal(name, ".");
    assert_string_not_equal(name, "..");
    *seen += 1;
    return 0;
}

static int stop_at_once(void *context, const char *name)
{
    (void)name;
    *(unsigned *)context += 1;
    return 42;
}

static void test_directories(void **state)
{
    const struct vfs *vfs = vfs_system();
    unsigned seen = 0;

    (void)state;
    assert_int_equal(vfs->make_directory(vfs, path(0, "d")), 0);
    assert_int_equal(vfs->make_directory(vfs, path(0, "d")), -EEXIST);
    assert_int_equal(vfs_write_file(vfs, path(0, "d/one"), "1", 1), 0);
    assert_int_equal(vfs_write_file(vfs, path(0, "d/two"), "2", 1), 0);
    assert_int_equal(vfs->list(vfs, path(0, "d"), count_name, &seen), 0);
    assert_int_equal(seen, 2);
    assert_int_equal(vfs->list(vfs, path(0, "d"), stop_at_once, &seen), 42);
    assert_int_equal(seen, 3);
    assert_int_equal(vfs->list(vfs, path(0, "none"), count_name, &seen), -ENOENT);
    assert_int_equal(vfs->rename(vfs, path(0, "d/one"), path(1, "d/two")), 0);
    assert_int_equal(vfs->rename(vfs, path(0, "d/one"), path(1, "d/two")), -ENOENT);
    assert_int_equal(vfs->remove(vfs, path(0, "d/two")), 0);
    assert_int_equal(vfs->remove(vfs, path(0, "d/two")), -ENOENT);
    assert_int_equal(vfs->sync_directory(vfs, path(0, "d")), 0);
    assert_int_equal(vfs->sync_directory(vfs, path(0, "none")), -ENOENT);
    assert_true(vfs->free_bytes(vfs, directory) > 0);
    assert_int_equal(vfs->free_bytes(vfs, path(0, "none")), -ENOENT);
}

static void test_make_directories(void **state)
{
    const struct vfs *vfs = vfs_system();
    unsigned seen = 0;

    (void)state;
    assert_int_equal(vfs_make_directories(vfs, path(0, "m/a//b/c/")), 0);
    assert_int_equal(vfs_make_directories(vfs, path(0, "m/a/b/c")), 0);
    assert_int_equal(vfs->list(vfs, path(0, "m/a/b"), count_name, &seen), 0);
    assert_int_equal(seen, 1);
    assert_int_equal(vfs_make_directories(vfs, "/"), 0);
    assert_int_equal(vfs_write_file(vfs, path(0, "m/file"), "", 0), 0);
    assert_int_equal(vfs_make_directories(vfs, path(0, "m/file")), -ENOTDIR);
    assert_int_equal(vfs_make_directories(vfs, path(0, "m/file/below")), -ENOTDIR);
}

/* A relative data-dir is what a demo configuration has. */
static void test_relative_paths(void **state)
{
    const struct vfs *vfs = vfs_system();
    int before = open(".", O_RDONLY | O_DIRECTORY);
    struct stat status;

    (void)state;
    assert_true(before >= 0);
    assert_int_equal(chdir(directory), 0);
    assert_int_equal(vfs_make_directories(vfs, "relative/below"), 0);
    assert_int_equal(vfs_write_file(vfs, "relative-file", "x", 1), 0);
    assert_int_equal(fchdir(before), 0);
    close(before);
    assert_int_equal(stat(path(0, "relative/below"), &status), 0);
    assert_int_equal(stat(path(0, "relative-file"), &status), 0);
}

static void assert_file(const char *name, const char *expected)
{
    size_t length = 0;
    char *data = NULL;

    assert_int_equal(vfs_read_file(vfs_system(), path(0, name), 100000, &data, &length), 0);
    assert_int_equal(length, strlen(expected));
    assert_string_equal(data, expected);
    free(data);
}

static void test_whole_files(void **state)
{
    const struct vfs *vfs = vfs_system();
    char *big = malloc(50000);
    size_t length;
    char *data;

    (void)state;
    assert_non_null(big);
    memset(big, 'x', 49999);
    big[49999] = '\0';
    assert_int_equal(vfs_write_file(vfs, path(0, "whole"), big, 49999), 0);
    assert_file("whole", big);
    assert_int_equal(vfs_read_file(vfs, path(0, "whole"), 49999, &data, &length), 0);
    free(data);
    assert_int_equal(vfs_read_file(vfs, path(0, "whole"), 49998, &data, &length), -EFBIG);
    /* A leftover of a crash, longer than the new content, must not show through. */
    assert_int_equal(vfs->rename(vfs, path(0, "whole"), path(1, "whole.tmp")), 0);
    assert_int_equal(vfs_write_file(vfs, path(0, "whole"), "short", 5), 0);
    assert_file("whole", "short");
    assert_int_equal(vfs->remove(vfs, path(0, "whole.tmp")), -ENOENT);
    assert_int_equal(vfs_write_file(vfs, path(0, "whole"), "", 0), 0);
    assert_file("whole", "");
    assert_int_equal(vfs_read_file(vfs, path(0, "whole"), 0, &data, &length), 0);
    free(data);
    assert_int_equal(vfs_read_file(vfs, path(0, "none"), 10, &data, &length), -ENOENT);
    assert_int_equal(vfs_write_file(vfs, path(0, "none/below"), "", 0), -ENOENT);
    free(big);
}

/* A file of /proc says that its size is 0 and has content all the same. */
static void test_file_without_a_size(void **state)
{
    size_t length = 0;
    char *data;

    (void)state;
    assert_int_equal(vfs_read_file(vfs_system(), "/proc/self/status", 100000, &data, &length), 0);
    assert_true(length > 0);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_flags),
        cmocka_unit_test(test_write_many_parts),
        cmocka_unit_test(test_short_write_is_an_error),
        cmocka_unit_test(test_read_at_the_end),
        cmocka_unit_test(test_allocate_zeroes),
        cmocka_unit_test(test_lock_is_exclusive),
        cmocka_unit_test(test_directories),
        cmocka_unit_test(test_make_directories),
        cmocka_unit_test(test_relative_paths),
        cmocka_unit_test(test_whole_files),
        cmocka_unit_test(test_file_without_a_size),
    };

    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
