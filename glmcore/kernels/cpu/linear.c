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

/* FAST keeps 16 bits of what answers are made of and 8 of prompts, LIGHT 8 of both, EXACT what float32 keeps.  Where
 * int8 weights are multiplied by words, 8 bits would save nothing. */
int kind_of(const Weights *w, int precision, int prompt) {
    const int least = w->bits == INT8 && WORDS8 ? BITS16 : BITS8;
    if (w->bits >= HALF) return FLOATS;
    if (precision == EXACT) return prompt && !THREE_DIGITS ? FLOATS : BITS24;
    return prompt || precision == LIGHT ? least : BITS16;
}

int is_few(const Weights *w, int kind, int64_t m) {
    static const int few4[] = FEW4, few8[] = FEW8;
    if (w->bits >= HALF) return 1;
    return kind != FLOATS && m <= (w->bits == INT4 ? few4 : few8)[kind];
}

void linear_few(const Weights *w, const Activations *a, float *y) {
    if (w->bits >= HALF)
        decode_floats(w, a, y);
    else
        decode(w, &(Factors){a, NULL, y, NULL});
}

static int linear(const Weights *w, int precision, const float *x, float *y, int64_t m, int threads) {
    const int kind = kind_of(w, precision, m > PRECISE_ROWS), few = is_few(w, kind, m);
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
EXPORT int glm_precision(int bits, int precision, int64_t m) {
    const Weights w = weights_of(bits, NULL, NULL, NULL, 0, BLOCK);
    const int kind = kind_of(&w, precision, m > PRECISE_ROWS);
    return kind == FLOATS ? 24 : 8 * kind;
}

/* bits: INT4 … SINGLE.  precision: how much is kept of activations of integer weights, FAST, EXACT or LIGHT; more than
 * PRECISE_ROWS rows count as a prompt's. */
EXPORT int glm_linear(int bits, int precision, const void *weight, const float *scale, const float *bias,
                      const float *x, float *y, int64_t m, int64_t n, int64_t k, int threads) {
    const int known = bits == INT4 || bits == INT8 || bits == HALF || bits == BRAIN || bits == SINGLE;
    if (!known || precision < FAST || precision > LIGHT || m < 0 || n < 0 || k < 1 || (bits == INT4 && k % 2))
        return GLM_BAD_ARGUMENT;
    const Weights w = weights_of(bits, weight, scale, bias, n, k);
    return m == 0 ? GLM_OK : linear(&w, precision, x, y, m, threads);
}

/* float16, or bfloat16 where `brain`. */
EXPORT int glm_linear16(int brain, const void *w, const float *x, float *y, int64_t m, int64_t n, int64_t k,
                        int threads) {
    return glm_linear(brain ? BRAIN : HALF, EXACT, w, NULL, NULL, x, y, m, n, k, threads);
}
