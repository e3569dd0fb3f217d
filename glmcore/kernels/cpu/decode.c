/* Few activation rows: every weight is read from memory once, ROWS rows of the matrix side by side. */
#include "glm.h"
#include "simd.h"

#define ROWS 4  /* that many streams keep the memory busy; their accumulators stay in registers */

/* Compiled once per bits and row count: both are constants in the inlined copies. */
static inline __attribute__((always_inline)) void fast_rows(const int bits, const int rows, const Weights *w,
                                                            const Activations *a, int64_t row, float *y) {
    const uint8_t *at = w->data + row * w->row_bytes;
    const float offset = bits == 4 ? OFFSET4 : OFFSET8;
    for (int64_t m = 0; m < a->m; m++) {
        vf total[ROWS];
        for (int r = 0; r < rows; r++) total[r] = vf_zero();
        for (int64_t b = 0; b < w->blocks; b++) {
            const int8_t *q = a->q + (b * a->m + m) * BLOCK;
            const vf scale = vf_set1(a->scale[b * a->m + m]);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++) {
                uint8_t spare[BLOCK];
                const uint8_t *p = block_of(w, at + r * w->row_bytes, b, spare);
                prefetch(p + rows * w->row_bytes, w->block_bytes);
                total[r] = vf_fma(vf_from(bits == 4 ? dot4(p, q) : dot8(p, q)), scale, total[r]);
            }
        }
        for (int r = 0; r < rows; r++) {
            float value = w->scale[row + r] * (vf_sum(total[r]) - offset * a->sum[m]);
            y[m * w->n + row + r] = value + (w->bias ? w->bias[row + r] : 0.f);
        }
    }
}

static inline __attribute__((always_inline)) void exact_rows(const int bits, const int rows, const Weights *w,
                                                             const Activations *a, int64_t row, float *y) {
    const uint8_t *at = w->data + row * w->row_bytes;
    for (int64_t m = 0; m < a->m; m++) {
        vf total[ROWS];
        for (int r = 0; r < rows; r++) total[r] = vf_zero();
        for (int64_t b = 0; b < w->blocks; b++) {
            const float *x = a->values + (b * a->m + m) * BLOCK;
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++) {
                uint8_t spare[BLOCK];
                const uint8_t *p = block_of(w, at + r * w->row_bytes, b, spare);
                prefetch(p + rows * w->row_bytes, w->block_bytes);
                total[r] = bits == 4 ? float_dot4(p, x, total[r]) : float_dot8(p, x, total[r]);
            }
        }
        for (int r = 0; r < rows; r++)
            y[m * w->n + row + r] = w->scale[row + r] * vf_sum(total[r]) + (w->bias ? w->bias[row + r] : 0.f);
    }
}

#define DECODE(name, inner, bits)                                                                             \
    static void name(const Weights *w, const Activations *a, float *y, int threads) {                         \
        int64_t tasks = (w->n + ROWS_PER_TASK - 1) / ROWS_PER_TASK;                                           \
        _Pragma("omp parallel for num_threads(threads) schedule(dynamic, 1)")                                 \
        for (int64_t task = 0; task < tasks; task++) {                                                        \
            int64_t row = task * ROWS_PER_TASK, end = row + ROWS_PER_TASK < w->n ? row + ROWS_PER_TASK : w->n; \
            for (; row + ROWS <= end; row += ROWS) inner(bits, ROWS, w, a, row, y);                           \
            for (; row < end; row++) inner(bits, 1, w, a, row, y);                                            \
        }                                                                                                     \
    }
DECODE(fast4, fast_rows, 4)
DECODE(fast8, fast_rows, 8)
DECODE(exact4, exact_rows, 4)
DECODE(exact8, exact_rows, 8)

void decode_fast(const Weights *w, const Activations *a, float *y, int threads) {
    (w->bits == 4 ? fast4 : fast8)(w, a, y, threads);
}

void decode_exact(const Weights *w, const Activations *a, float *y, int threads) {
    (w->bits == 4 ? exact4 : exact8)(w, a, y, threads);
}
