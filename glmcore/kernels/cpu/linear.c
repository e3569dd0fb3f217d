/* The exported entry points: y[m][n] = x[m][k] · dequantise(w)ᵀ + bias. */
#include "glm.h"
#include "simd.h"

EXPORT int glm_abi(void) { return GLM_ABI; }

EXPORT const char *glm_isa(void) { return ISA_NAME; }

EXPORT int glm_openmp(void) {
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}

/* exact: activations with float32's precision; otherwise int8 with one scale per block of 128 columns. */
EXPORT int glm_linear(int bits, int exact, const void *weight, const float *scale, const float *bias, const float *x,
                      float *y, int64_t m, int64_t n, int64_t k, int threads) {
    if ((bits != 4 && bits != 8) || m < 0 || n < 0 || k < 1 || (bits == 4 && k % 2)) return GLM_BAD_ARGUMENT;
    threads = threads_for(threads, m, n, k);
    Weights w = {bits, weight, scale, bias, n, k, k * bits / 8, BLOCK * bits / 8, (k + BLOCK - 1) / BLOCK, k / BLOCK};
    int few = m <= (exact ? DECODE_ROWS_EXACT : bits == 4 ? DECODE_ROWS_FAST4 : DECODE_ROWS_FAST8);
    int kind = !exact ? BYTES : few ? LIMBS : FLOATS;
    Activations a;
    int status = pack_activations(x, &w, m, kind, threads, &a);
    if (status == GLM_OK) (few ? decode : prefill)(&w, &a, kind, y, threads);
    free_activations(&a);
    return status;
}
