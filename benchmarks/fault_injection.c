/* Counts writes, fsyncs, renames and reads of files below a folder, and lets one of them fail, for fault_injection.py.
   Loaded before the C library (LD_PRELOAD), so that Python, FFmpeg and PyTorch all come by here. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE, FSYNC, RENAME, READ, KINDS };

static char folder[PATH_MAX];
static int armed_kind = -1;
static long armed_nth, counts[KINDS];

void fault_watch(const char *path) { snprintf(folder, sizeof folder, "%s", path); }

/* The nth call of a kind fails, once; none with kind -1. Counting begins anew. */
void fault_arm(int kind, long nth) {
    memset(counts, 0, sizeof counts);
    armed_nth = nth;
    armed_kind = kind;
}

long fault_count(int kind) { return counts[kind]; }

static int is_inside(const char *path) {
    size_t length = strlen(folder);
    return length && path && !strncmp(path, folder, length) && path[length] == '/';
}

static int fails(int kind) {
    return __sync_add_and_fetch(&counts[kind], 1) == armed_nth && kind == armed_kind;
}

static int fails_on(int kind, int file) {
    char link[64], path[PATH_MAX];
    int before = errno;
    ssize_t length;
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0) return 0;
    path[length] = 0;
    return is_inside(path) && fails(kind);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(error) do { errno = error; return -1; } while (0)

#define WRAPPED(kind, error, result, name, parameters, arguments)   \
    result name parameters {                                         \
        static __typeof__(&name) next;                               \
        if (!next) next = NEXT(name);                                \
        if (fails_on(kind, file)) FAIL(error);                       \
        return next arguments;                                       \
    }

WRAPPED(WRITE, ENOSPC, ssize_t, write, (int file, const void *data, size_t size), (file, data, size))
WRAPPED(WRITE, ENOSPC, ssize_t, writev, (int file, const struct iovec *data, int count), (file, data, count))
WRAPPED(WRITE, ENOSPC, ssize_t, pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at))
WRAPPED(WRITE, ENOSPC, ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
WRAPPED(READ, EIO, ssize_t, read, (int file, void *data, size_t size), (file, data, size))
WRAPPED(READ, EIO, ssize_t, readv, (int file, const struct iovec *data, int count), (file, data, count))
WRAPPED(READ, EIO, ssize_t, pread, (int file, void *data, size_t size, off_t at), (file, data, size, at))
WRAPPED(READ, EIO, ssize_t, pread64, (int file, void *data, size_t size, off64_t at), (file, data, size, at))
WRAPPED(FSYNC, EIO, int, fsync, (int file), (file))
WRAPPED(FSYNC, EIO, int, fdatasync, (int file), (file))

int rename(const char *from, const char *to) {
    if (is_inside(to) && fails(RENAME)) FAIL(EIO);
    return NEXT(rename)(from, to);
}

int renameat(int in, const char *from, int into, const char *to) {
    if (is_inside(to) && fails(RENAME)) FAIL(EIO);
    return NEXT(renameat)(in, from, into, to);
}

int link(const char *from, const char *to) {
    if (is_inside(to) && fails(RENAME)) FAIL(EIO);
    return NEXT(link)(from, to);
}
