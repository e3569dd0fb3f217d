/* Stands for libnvidia-ml.so.1 under the real pynvml: answers with the codes that the environment names. */
#include <stdlib.h>
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory_t;
static int env(const char *name, int fallback) { const char *v = getenv(name); return v ? atoi(v) : fallback; }
/* A driver's library that is found through LD_LIBRARY_PATH may be the wrong one: a code for that case alone. */
static int init(void) { return getenv("LD_LIBRARY_PATH") ? env("STUB_INIT", 0) : env("STUB_INIT_PLAIN", env("STUB_INIT", 0)); }
int nvmlInit_v2(void) { return init(); }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return init(); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return code == 18 ? "Driver/library version mismatch" : "An error"; }
static int text(char *out, const char *value) { strcpy(out, value); return 0; }
int nvmlSystemGetDriverVersion(char *out, unsigned n) { (void)n; return text(out, "535.183.01"); }
int nvmlSystemGetNVMLVersion(char *out, unsigned n) { (void)n; return text(out, "12.535.183.01"); }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = env("STUB_COUNT", 2); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { *h = (void *)(size_t)(i + 1); return env("STUB_HANDLE", 0); }
int nvmlDeviceGetName(void *h, char *out, unsigned n) { (void)h; (void)n; return text(out, "Tesla P4"); }
int nvmlDeviceGetUUID(void *h, char *out, unsigned n) { (void)h; (void)n; return text(out, "GPU-1234"); }
int nvmlDeviceGetMemoryInfo(void *h, memory_t *m) { (void)h; m->total = 8000; m->free = 7000; m->used = 1000; return 0; }
int nvmlDeviceGetCudaComputeCapability(void *h, int *major, int *minor) {
    (void)h; *major = 6; *minor = 1; return env("STUB_CAPABILITY", 0);
}
