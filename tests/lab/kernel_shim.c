/* Preloaded before NVIDIA's own libnvidia-ml: answers in place of a kernel module of version $SHIM_KVER.
 * nvidiactl is a file in memory, the module is live, and the version question (ioctl 210: command, reply, 64 letters)
 * gets the answer that the module gives: equal, or its own version and EINVAL, which the library calls a mismatch.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

static int control = -1;

static int stands_for(const char *path) {
    if (strcmp(path, "/dev/nvidiactl") == 0) return control = memfd_create("nvidiactl", 0);
    if (strcmp(path, "/sys/module/nvidia/initstate") == 0) {
        int file = memfd_create("initstate", 0);
        if (write(file, "live\n", 5) != 5) return -1;
        lseek(file, 0, SEEK_SET);
        return file;
    }
    return -1;
}

#define OPEN(name)                                                        \
    int name(const char *path, int flags, ...) {                          \
        va_list rest;                                                     \
        va_start(rest, flags);                                            \
        mode_t mode = va_arg(rest, mode_t);                               \
        va_end(rest);                                                     \
        int file = stands_for(path);                                      \
        if (file >= 0) return file;                                       \
        int (*next)(const char *, int, ...) = dlsym(RTLD_NEXT, #name);    \
        return next(path, flags, mode);                                   \
    }
OPEN(open)
OPEN(open64)

#define FOPEN(name)                                                       \
    FILE *name(const char *path, const char *mode) {                      \
        int file = stands_for(path);                                      \
        if (file >= 0) return fdopen(file, "r");                          \
        FILE *(*next)(const char *, const char *) = dlsym(RTLD_NEXT, #name); \
        return next(path, mode);                                          \
    }
FOPEN(fopen)
FOPEN(fopen64)

struct version { uint32_t command, reply; char text[64]; };

int ioctl(int file, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (file == control && file >= 0) {
        struct version *asked = argument;
        const char *ours = getenv("SHIM_KVER");
        if ((request & 0xff) != 210) return errno = EINVAL, -1;
        if (strncmp(asked->text, ours, sizeof asked->text) == 0) return asked->reply = 1, 0;
        memset(asked->text, 0, sizeof asked->text);
        strncpy(asked->text, ours, sizeof asked->text - 1);
        return asked->reply = 0, errno = EINVAL, -1;
    }
    int (*next)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return next(file, request, argument);
}
