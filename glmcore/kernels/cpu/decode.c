/* Few activation rows: every weight is read from memory once.  A thread takes ROWS_PER_TASK rows and walks through
 * STREAMS quarters of them side by side: that many long sequential streams keep the memory busiest (neighbouring rows
 * side by side would share pages, which confuses the hardware's prefetching).  With several activation rows arithmetic
 * takes longer than reading: SHARING of them share what was unpacked of one matrix row. */
#include "glm.h"
#include "simd.h"

#define SHARING 4

/* One block of `rows` matrix rows that lie `stride` bytes apart times `group` activation rows.  bits, kind, rows and
 * group are constants in the inlined copies. */
INLINE void block(const int bits, const int kind, const int rows, const int group, const uint8_t *p, int64_t stride,
                  int64_t ahead, const int8_t *q, int64_t next, const float *scale, vf *total) {
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        const uint8_t *row = p + r * stride;
        prefetch(row, ahead, bits * BLOCK / 8);
        if (bits == INT4) {
            const Block4 w = load4(row);
#pragma GCC unroll 4
            for (int g = 0; g < group; g++)
                total[r * group + g] = vf_fma(dots4(kind, w, q + g * next), vf_set1(scale[g]), total[r * group + g]);
        } else {
            const Block8 w = load8(row);
#pragma GCC unroll 4
            for (int g = 0; g < group; g++)
                total[r * group + g] = vf_fma(dots8(kind, w, q + g * next), vf_set1(scale[g]), total[r * group + g]);
        }
    }
}

/* Matrix rows first, first + step, … times activation rows m, m + 1, …. */
INLINE void rows_of(const int bits, const int kind, const int rows, const int group, const Weights *w,
                    const Activations *a, int64_t m, int64_t first, int64_t step, float *y) {
    const uint8_t *p = w->data + first * w->row_bytes;
    const int8_t *q = a->q + m * a->stride;
    const int64_t stride = step * w->row_bytes;
    float sum[SHARING] = {0};
    vf total[STREAMS * SHARING];
    for (int i = 0; i < rows * group; i++) total[i] = vf_zero();
    const float *scale = a->scale + m, *sums = a->sum + m;
    for (int64_t b = 0; b < w->full_blocks; b++) {
        block(bits, kind, rows, group, p, stride, AHEAD, q, a->stride, scale, total);
        for (int g = 0; g < group; g++) sum[g] += sums[g];
        p += bits * BLOCK / 8, q += a->m * a->stride, scale += a->m, sums += a->m;
    }
    if (w->full_blocks < w->blocks) {
        uint8_t tail[STREAMS][BLOCK];
        for (int r = 0; r < rows; r++) copy_block(w, first + r * step, w->full_blocks, tail[r], BLOCK);
        block(bits, kind, rows, group, tail[0], BLOCK, 0, q, a->stride, scale, total);
        for (int g = 0; g < group; g++) sum[g] += sums[g];
    }
    for (int r = 0; r < rows; r++)
        for (int g = 0; g < group; g++) {
            const int64_t n = first + r * step;
            const float value = vf_sum(total[r * group + g]) - (bits == INT4 ? OFFSET4 : OFFSET8) * sum[g];
            y[(m + g) * w->n + n] = w->scale[n] * value + (w->bias ? w->bias[n] : 0.f);
        }
}

/* All activation rows times `count` matrix rows from `first` on. */
#define DECODE(name, bits, kind)                                                                                  \
    static void name##_rows(const Weights *w, const Activations *a, int64_t first, int64_t count, float *y) {     \
        const int64_t step = count / STREAMS, grouped = a->m / SHARING * SHARING;                               \
        for (int64_t i = 0; i < count; i++)                                                                       \
            for (int64_t m = 0; m < grouped; m += SHARING)                                                       \
                rows_of(bits, kind, 1, SHARING, w, a, m, first + i, 1, y);                                       \
        for (int64_t m = grouped; m < a->m; m++) {                                                                \
            for (int64_t i = 0; i < step; i++) rows_of(bits, kind, STREAMS, 1, w, a, m, first + i, step, y);      \
            for (int64_t i = step * STREAMS; i < count; i++) rows_of(bits, kind, 1, 1, w, a, m, first + i, 1, y); \
        }                                                                                                         \
    }                                                                                                             \
    static void name(const Weights *w, const Activations *a, float *y) {                                          \
        _Pragma("omp for schedule(dynamic, 1)")                                                                   \
        for (int64_t first = 0; first < w->n; first += ROWS_PER_TASK)                                             \
            name##_rows(w, a, first, at_most(ROWS_PER_TASK, w->n - first), y);                                    \
    }
DECODE(fast4, INT4, BITS16)
DECODE(fast8, INT8, BITS16)
DECODE(exact4, INT4, BITS24)
DECODE(exact8, INT8, BITS24)

void decode(const Weights *w, const Activations *a, float *y) {
    if (a->kind == BITS16)
        (w->bits == INT4 ? fast4 : fast8)(w, a, y);
    else
        (w->bits == INT4 ? exact4 : exact8)(w, a, y);
}
