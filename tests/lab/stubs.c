/* Stand-ins for NVIDIA's user-space libraries: real ELF files with the right SONAMEs, and the answers given at build time.
 * They are test doubles, used where NVIDIA's own files cannot be had; the lab says "stub" where it uses them.
 *
 * CUDA:  -DLIB_CUDA -DCUDA_VERSION=12020 [-DCU_INIT=0]
 * NVML:  -DLIB_NVML -DNVML_CODE=0 -DDRIVER_VERSION=\"535.183.01\" -DGPUS=1
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
int nvmlDeviceGetName(void *device, char *name, unsigned length) { (void)device; return text(name, length, "Tesla P4"); }
int nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) {
    (void)device;
    return text(uuid, length, "GPU-00000000-0000-0000-0000-000000000001");
}
struct memory { unsigned long long total, free, used; };
int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory) {
    (void)device;
    memory->total = 8ull << 30, memory->free = 7ull << 30, memory->used = 1ull << 30;
    return answer();
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    (void)device;
    *major = 6, *minor = 1;
    return answer();
}
#endif

int glmdoctor_lab_stub = 1;
