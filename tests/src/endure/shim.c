/*
 * Faults of the machine for one program, by LD_PRELOAD: a disk that is full, broken, read-only or hangs, and a wall clock
 * that jumps. Files below FAULT_DIR are touched, no others; FAULT_CONTROL names the file by which faults are switched.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { NONE, FULL, BROKEN, READ_ONLY, HANGING };

/* What the control file holds. */
struct control {
    volatile int64_t disk;
    volatile int64_t clock_seconds;
};

static struct control off;
static struct control *control = &off;
static const char *dir = "";

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULT_CONTROL"), *below = getenv("FAULT_DIR");
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");
    if (below) dir = below;
    if (!path) return;
    int fd = real(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    void *map = mmap(0, sizeof off, PROT_READ, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) control = map;
    close(fd);
}

static int is_ours(const char *path) { return *dir && strncmp(path, dir, strlen(dir)) == 0; }

static int is_our_fd(int fd) {
    char link[64], path[PATH_MAX];
    if (control->disk == NONE || fd < 3) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_ours(path);
}

static void hang(void) {
    while (control->disk == HANGING) usleep(1000);
}

/* The error of something that changes a file; `grows` = it takes room. */
static int fails(int grows) {
    hang();
    switch (control->disk) {
    case FULL: return grows ? ENOSPC : 0;
    case BROKEN: return EIO;
    case READ_ONLY: return EROFS;
    default: return 0;
    }
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define CHECK(ours, grows)                                                                                            \
    if (control->disk != NONE && (ours)) {                                                                            \
        int error = fails(grows);                                                                                     \
        if (error) {                                                                                                  \
            errno = error;                                                                                            \
            return -1;                                                                                                \
        }                                                                                                             \
    }
#define FUNCTION(result, name, parameters, arguments, ours, grows)                                                    \
    result name parameters {                                                                                          \
        static __typeof__(&name) real;                                                                                \
        if (!real) real = REAL(name);                                                                                 \
        CHECK(ours, grows)                                                                                            \
        return real arguments;                                                                                        \
    }

FUNCTION(ssize_t, write, (int fd, const void *bytes, size_t count), (fd, bytes, count), is_our_fd(fd), 1)
FUNCTION(ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count), is_our_fd(fd), 1)
FUNCTION(int, fsync, (int fd), (fd), is_our_fd(fd), 0)
FUNCTION(int, fdatasync, (int fd), (fd), is_our_fd(fd), 0)
FUNCTION(int, ftruncate, (int fd, off_t length), (fd, length), is_our_fd(fd), 0)
FUNCTION(int, ftruncate64, (int fd, off64_t length), (fd, length), is_our_fd(fd), 0)
FUNCTION(int, unlink, (const char *path), (path), is_ours(path), 0)
FUNCTION(int, rename, (const char *from, const char *to), (from, to), is_ours(to), 0)
FUNCTION(int, mkdir, (const char *path, mode_t mode), (path, mode), is_ours(path), 1)

#define OPEN(name)                                                                                                    \
    int name(const char *path, int flags, ...) {                                                                      \
        static __typeof__(&name) real;                                                                                \
        mode_t mode = 0;                                                                                              \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                                                        \
            va_list list;                                                                                             \
            va_start(list, flags);                                                                                    \
            mode = va_arg(list, mode_t);                                                                              \
            va_end(list);                                                                                             \
        }                                                                                                             \
        if (!real) real = REAL(name);                                                                                 \
        CHECK((flags & (O_CREAT | O_WRONLY | O_RDWR)) && is_ours(path), 0)                                            \
        return real(path, flags, mode);                                                                               \
    }
OPEN(open)
OPEN(open64)

int clock_gettime(clockid_t clock, struct timespec *now) {
    static __typeof__(&clock_gettime) real;
    if (!real) real = REAL(clock_gettime);
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += control->clock_seconds;
    return result;
}

time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict to, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    to->tv_sec = now.tv_sec;
    to->tv_usec = now.tv_nsec / 1000;
    return 0;
}
