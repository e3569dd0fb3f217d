/* Few activation rows times a matrix of 16-bit floats: the head of a model whose layers are quantised. */
#include "glm.h"
#include "simd.h"

/* Matrix rows first, first + step, … times one activation row.  Inlined with constants for brain and rows. */
INLINE void half_rows(const int brain, const int rows, const uint16_t *w, const float *x, int64_t k, int64_t step,
                    float *y) {
    const int64_t full = k / LANES * LANES;
    vf total[STREAMS];
    for (int r = 0; r < rows; r++) total[r] = vf_zero();
    for (int64_t i = 0; i < full; i += LANES)
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            const uint16_t *p = w + r * step * k + i;
            prefetch((const uint8_t *)p, AHEAD, 1);
            total[r] = vf_fma(brain ? vf_from_brain(p) : vf_from_half(p), vf_load(x + i), total[r]);
        }
    for (int r = 0; r < rows; r++) {
        float sum = vf_sum(total[r]);
        for (int64_t i = full; i < k; i++) {
            uint16_t bits = w[r * step * k + i];
            sum += x[i] * (brain ? brain_to_float(bits) : half_to_float(bits));
        }
        y[r * step] = sum;
    }
}

#define HALVES(name, brain)                                                                                        \
    static void name(const uint16_t *w, const float *x, float *y, int64_t m, int64_t n, int64_t k, int threads) {  \
        _Pragma("omp parallel for num_threads(threads) schedule(dynamic, 1)")                                      \
        for (int64_t first = 0; first < n; first += ROWS_PER_TASK) {                                               \
            int64_t count = n - first < ROWS_PER_TASK ? n - first : ROWS_PER_TASK, step = count / STREAMS;         \
            for (int64_t r = first; r < first + step; r++)                                                         \
                for (int64_t i = 0; i < m; i++) half_rows(brain, STREAMS, w + r*k, x + i*k, k, step, y + i*n + r); \
            for (int64_t r = first + step * STREAMS; r < first + count; r++)                                       \
                for (int64_t i = 0; i < m; i++) half_rows(brain, 1, w + r*k, x + i*k, k, 1, y + i*n + r);          \
        }                                                                                                          \
    }
HALVES(half_matrix, 0)
HALVES(brain_matrix, 1)

/* y[m][n] = x[m][k] · w[n][k]ᵀ with w in float16, or bfloat16 where `brain`. */
EXPORT int glm_linear16(int brain, const uint16_t *w, const float *x, float *y, int64_t m, int64_t n, int64_t k,
                        int threads) {
    int32_t largest = 0;
    for (int64_t i = 0; i < m * k; i++) {
        int32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    if (largest >= INFINITE) return GLM_NOT_FINITE;
    (brain ? brain_matrix : half_matrix)(w, x, y, m, n, k, threads_for(threads, m, n, k));
    return GLM_OK;
}
