/* Few activation rows: every weight is read from memory once.  A thread takes ROWS_PER_TASK rows and walks through
 * STREAMS quarters of them side by side: that many long sequential streams keep the memory busiest (neighbouring rows
 * side by side would share pages, which confuses the hardware's prefetching). */
#include "glm.h"
#include "simd.h"

/* One block of `rows` rows that lie `stride` bytes apart.  bits, kind and rows are constants in the inlined copies. */
INLINE void block(const int bits, const int kind, const int rows, const uint8_t *p, int64_t stride, int64_t ahead,
                  const int8_t *q, float scale, vf *total) {
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        const uint8_t *row = p + r * stride;
        float by = scale;
        prefetch(row, ahead, bits * BLOCK / 8);
#pragma GCC unroll 3
        for (int digit = 0; digit < kind; digit++, by /= LIMB_BASE) {
            vi dot = bits == 4 ? dot4(row, q + digit * BLOCK) : dot8(row, q + digit * BLOCK);
            total[r] = vf_fma(vf_from(dot), vf_set1(by), total[r]);
        }
    }
}

/* Matrix rows first, first + step, … times activation row m. */
INLINE void rows_of(const int bits, const int kind, const int rows, const Weights *w, const Activations *a, int64_t m,
                    int64_t first, int64_t step, float *y) {
    const uint8_t *p = w->data + first * w->row_bytes;
    const int8_t *q = a->q + m * kind * BLOCK;
    const int64_t stride = step * w->row_bytes;
    float sum = 0.f;
    vf total[STREAMS];
    for (int r = 0; r < rows; r++) total[r] = vf_zero();
    for (int64_t b = 0, at = m; b < w->blocks; b++, at += a->m, p += bits * BLOCK / 8, q += a->m * kind * BLOCK) {
        sum += a->sum[at];
        if (b < w->full_blocks) {
            block(bits, kind, rows, p, stride, AHEAD, q, a->scale[at], total);
        } else {
            uint8_t tail[STREAMS][BLOCK];
            for (int r = 0; r < rows; r++) copy_block(w, first + r * step, b, tail[r], BLOCK);
            block(bits, kind, rows, tail[0], BLOCK, 0, q, a->scale[at], total);
        }
    }
    for (int r = 0; r < rows; r++) {
        const int64_t n = first + r * step;
        const float value = vf_sum(total[r]) - (bits == INT4 ? OFFSET4 : OFFSET8) * sum;
        y[m * w->n + n] = w->scale[n] * value + (w->bias ? w->bias[n] : 0.f);
    }
}

#define DECODE(name, bits, kind)                                                                               \
    static void name(const Weights *w, const Activations *a, float *y) {                                       \
        _Pragma("omp for schedule(dynamic, 1)")                                                                \
        for (int64_t first = 0; first < w->n; first += ROWS_PER_TASK) {                                        \
            const int64_t count = at_most(ROWS_PER_TASK, w->n - first), step = count / STREAMS;                \
            for (int64_t i = 0; i < step; i++)                                                                 \
                for (int64_t m = 0; m < a->m; m++) rows_of(bits, kind, STREAMS, w, a, m, first + i, step, y);  \
            for (int64_t i = step * STREAMS; i < count; i++)                                                   \
                for (int64_t m = 0; m < a->m; m++) rows_of(bits, kind, 1, w, a, m, first + i, 1, y);           \
        }                                                                                                      \
    }
DECODE(bytes4, INT4, BYTES)
DECODE(bytes8, INT8, BYTES)
DECODE(limbs4, INT4, LIMBS)
DECODE(limbs8, INT8, LIMBS)

void decode(const Weights *w, const Activations *a, float *y) {
    if (a->kind == BYTES)
        (w->bits == INT4 ? bytes4 : bytes8)(w, a, y);
    else
        (w->bits == INT4 ? limbs4 : limbs8)(w, a, y);
}
