/* The exported entry points: y[m][n] = x[m][k] · dequantise(w)ᵀ + bias. */
#include <stdlib.h>

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

Weights weights_of(int bits, const void *data, const float *scale, const float *bias, int64_t n, int64_t k) {
    int width = bits == BRAIN ? 16 : bits;
    return (Weights){bits, data, scale, bias, n, k, k * width / 8, BLOCK * width / 8, (k + BLOCK - 1) / BLOCK,
                     k / BLOCK};
}

int is_few(const Weights *w, int64_t m, int exact) {
    if (w->bits >= HALF) return 1;
    return m <= (w->bits == INT8 ? DECODE_ROWS8 : exact ? DECODE_ROWS4_EXACT : DECODE_ROWS4_FAST);
}

int kind_of(const Weights *w, int64_t m, int exact) {
    if (w->bits >= HALF) return FLOATS;
    if (!exact) return m <= PRECISE_ROWS || (w->bits == INT8 && WORDS8) ? BITS16 : BITS8;
    /* Tiles of int8 take so many integer operations for 24 bits that floats are as fast. */
    return is_few(w, m, exact) || (w->bits == INT4 && m <= PRECISE_ROWS) ? BITS24 : FLOATS;
}

void linear_few(const Weights *w, const Activations *a, float *y) {
    (w->bits >= HALF ? decode_floats : decode)(w, a, y);
}

static int linear(const Weights *w, int exact, const float *x, float *y, int64_t m, int threads) {
    const int few = is_few(w, m, exact), kind = kind_of(w, m, exact);
    void *memory = aligned_alloc(64, activations_bytes(w->k, m, kind));
    if (!memory) return GLM_NO_MEMORY;
    const Activations a = activations_over(memory, w, m, kind);
    int32_t largest = 0;
#pragma omp parallel num_threads(threads_for(threads, m, w->n, w->k)) reduction(max : largest)
    {
        largest = pack(&a, x);
        (few ? linear_few : linear_many)(w, &a, y);
    }
    free(memory);
    return largest < INFINITE ? GLM_OK : GLM_NOT_FINITE;
}

/* How many bits activations keep of a block's largest value in such a product. */
EXPORT int glm_precision(int bits, int exact, int64_t m) {
    const Weights w = weights_of(bits, NULL, NULL, NULL, 0, BLOCK);
    const int kind = kind_of(&w, m, exact);
    return kind == FLOATS ? 24 : 8 * kind;
}

/* bits: INT4 … SINGLE.  exact: activations with float32's precision (floats always are); otherwise 16 bits with one
 * scale per block of 128 columns where rows are few, and 8 or 16 where they are many. */
EXPORT int glm_linear(int bits, int exact, const void *weight, const float *scale, const float *bias, const float *x,
                      float *y, int64_t m, int64_t n, int64_t k, int threads) {
    const int known = bits == INT4 || bits == INT8 || bits == HALF || bits == BRAIN || bits == SINGLE;
    if (!known || m < 0 || n < 0 || k < 1 || (bits == INT4 && k % 2)) return GLM_BAD_ARGUMENT;
    const Weights w = weights_of(bits, weight, scale, bias, n, k);
    return m == 0 ? GLM_OK : linear(&w, exact, x, y, m, threads);
}

/* float16, or bfloat16 where `brain`. */
EXPORT int glm_linear16(int brain, const void *w, const float *x, float *y, int64_t m, int64_t n, int64_t k,
                        int threads) {
    return glm_linear(brain ? BRAIN : HALF, 1, w, NULL, NULL, x, y, m, n, k, threads);
}
