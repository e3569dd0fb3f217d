/* Stand-ins for NVIDIA's user-space libraries: real ELF files with the right SONAMEs, and the answers given at build time.
 * They are test doubles, used where NVIDIA's own files cannot be had; the lab says "stub" where it uses them.
 *
 * CUDA:  -DLIB_CUDA -DCUDA_VERSION=12020 [-DCU_INIT=0]
 * NVML:  -DLIB_NVML -DNVML_CODE=0 -DDRIVER_VERSION=\"535.183.01\" -DGPUS=1, and for a card that is not well
 *        -DSLOWED_BY=0x40 -DUNCORRECTED=3 -DREMAP_FAILED=1 -DLINK_WIDTH=4 -DLINK_GENERATION=1 -DSTATE=0 -DMIG=1
 *        -DMIG_INSTANCES=0 -DFABRIC_STATE=2 -DHOLDER=1 (a pid), and for another card than a Tesla P4
 *        -DCARD=\"NVIDIA H100\" -DCOMPUTE=90 -DFREE_MIB=7168
 * other: nothing; an empty library with a SONAME
 */
#include <string.h>

#ifdef LIB_CUDA
#ifndef CU_INIT
#define CU_INIT 0
#endif
int cuInit(unsigned flags) { (void)flags; return CU_INIT; }
#ifdef STUB_LIBRARY
int cuDriverGetVersion(int *version) { (void)version; return 34; }
#else
int cuDriverGetVersion(int *version) { *version = CUDA_VERSION; return 0; }
#endif
int cuDeviceGetCount(int *count) { *count = 1; return CU_INIT; }
#endif

#ifdef LIB_NVML
#ifndef CARD
#define CARD "Tesla P4"
#endif
#ifndef COMPUTE
#define COMPUTE 61
#endif
#ifndef FREE_MIB
#define FREE_MIB 7168
#endif
static int answer(void) { return NVML_CODE; }
static int text(char *out, unsigned length, const char *value) {
    if (answer()) return answer();
    strncpy(out, value, length);
    return 0;
}
int nvmlInit_v2(void) { return answer(); }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return answer(); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) {
    switch (code) {
    case 4: return "Insufficient Permissions";
    case 9: return "Driver Not Loaded";
    case 15: return "GPU is lost";
    case 18: return "RM has detected an NVML/RM version mismatch.";
    case 999: return "Unknown Error";
    default: return "Success";
    }
}
int nvmlSystemGetDriverVersion(char *out, unsigned length) { return text(out, length, DRIVER_VERSION); }
int nvmlSystemGetNVMLVersion(char *out, unsigned length) { strncpy(out, "12." DRIVER_VERSION, length); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12020; return answer(); }
int nvmlSystemGetCudaDriverVersion(int *version) { *version = 12020; return answer(); }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = GPUS; return answer(); }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(long)(index + 1); return answer(); }
int nvmlDeviceGetName(void *device, char *name, unsigned length) { (void)device; return text(name, length, CARD); }
int nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) {
    (void)device;
    return text(uuid, length, "GPU-00000000-0000-0000-0000-000000000001");
}
struct memory { unsigned long long total, free, used; };
int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory) {
    (void)device;
    memory->total = 8ull << 30, memory->free = (unsigned long long)FREE_MIB << 20;
    memory->used = memory->total - memory->free;
    return answer();
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    (void)device;
    *major = COMPUTE / 10, *minor = COMPUTE % 10;
    return answer();
}

#ifndef SLOWED_BY
#define SLOWED_BY 1 /* idle */
#endif
#ifndef UNCORRECTED
#define UNCORRECTED 0
#endif
#ifndef REMAP_FAILED
#define REMAP_FAILED 0
#endif
#ifndef LINK_WIDTH
#define LINK_WIDTH 16
#endif
#ifndef LINK_GENERATION
#define LINK_GENERATION 1 /* at rest */
#endif
#ifndef STATE
#define STATE 8
#endif
#ifndef MIG
#define MIG 0
#endif
#ifndef COMPUTE_MODE
#define COMPUTE_MODE 0
#endif
#ifndef MIG_INSTANCES
#define MIG_INSTANCES 0
#endif
enum { NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
int nvmlDeviceGetTotalEccErrors(void *d, int type, int counter, unsigned long long *n) {
    (void)d, (void)type, (void)counter, *n = UNCORRECTED;
    return 0;
}
int nvmlDeviceGetRemappedRows(void *d, unsigned *c, unsigned *u, unsigned *pending, unsigned *failed) {
    (void)d, *c = 0, *u = UNCORRECTED, *pending = 0, *failed = REMAP_FAILED;
    return 0;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *d, unsigned long long *r) { (void)d, *r = SLOWED_BY; return 0; }
int nvmlDeviceGetTemperature(void *d, int sensor, unsigned *t) { (void)d, (void)sensor, *t = 41; return 0; }
int nvmlDeviceGetPerformanceState(void *d, int *state) { (void)d, *state = STATE; return 0; }
int nvmlDeviceGetCurrPcieLinkGeneration(void *d, unsigned *v) { (void)d, *v = LINK_GENERATION; return 0; }
int nvmlDeviceGetMaxPcieLinkGeneration(void *d, unsigned *v) { (void)d, *v = 3; return 0; }
int nvmlDeviceGetCurrPcieLinkWidth(void *d, unsigned *v) { (void)d, *v = LINK_WIDTH; return 0; }
int nvmlDeviceGetMaxPcieLinkWidth(void *d, unsigned *v) { (void)d, *v = 16; return 0; }
int nvmlDeviceGetPersistenceMode(void *d, int *mode) { (void)d, *mode = 1; return 0; }
int nvmlDeviceGetComputeMode(void *d, int *mode) { (void)d, *mode = COMPUTE_MODE; return 0; }
int nvmlDeviceGetMigMode(void *d, unsigned *now, unsigned *next) { (void)d, *now = *next = MIG; return 0; }
int nvmlDeviceGetMaxMigDeviceCount(void *d, unsigned *n) { (void)d, *n = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *d, unsigned i, void **found) {
    *found = d;
    return i < MIG_INSTANCES ? 0 : NOT_FOUND;
}
struct fabric { unsigned char cluster[16]; int status; unsigned clique; unsigned char state; };
int nvmlDeviceGetGpuFabricInfo(void *d, struct fabric *info) {
    (void)d, memset(info, 0, sizeof *info);
#ifdef FABRIC_STATE
    info->state = FABRIC_STATE;
    return 0;
#else
    return NOT_SUPPORTED;
#endif
}
struct process { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; };
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *count, struct process *found) {
    (void)d;
#ifdef HOLDER
    if (!found) return *count = 1, INSUFFICIENT_SIZE;
    found[0] = (struct process){HOLDER, 6ull << 30, ~0u, ~0u};
    *count = 1;
#else
    (void)found, *count = 0;
#endif
    return 0;
}
#endif

int glmdoctor_lab_stub = 1;
