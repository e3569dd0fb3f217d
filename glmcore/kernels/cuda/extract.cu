/* Packed rows and their scales to float16, as the original's kernels expand them. No headers: NVRTC may have none. */

static __device__ unsigned short half_of(float value) {
    unsigned short half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
    return half;
}

extern "C" __global__ void extract_int8(const signed char *packed, const float *scale, unsigned short *out, int bytes) {
    const long long row = (long long)blockIdx.x * bytes;
    for (int i = threadIdx.x; i < bytes; i += blockDim.x) out[row + i] = half_of(packed[row + i] * scale[blockIdx.x]);
}

extern "C" __global__ void extract_int4(const signed char *packed, const float *scale, unsigned short *out, int bytes) {
    const long long row = (long long)blockIdx.x * bytes;
    for (int i = threadIdx.x; i < bytes; i += blockDim.x) {
        const int pair = packed[row + i];
        out[2 * (row + i)] = half_of((pair >> 4) * scale[blockIdx.x]);
        out[2 * (row + i) + 1] = half_of(((pair << 28) >> 28) * scale[blockIdx.x]);
    }
}
