/* Few activation rows times a matrix of floats of 16 or 32 bits: the head of a quantised model, or a whole one that is
 * not quantised. */
#include "glm.h"
#include "simd.h"

/* LANES numbers of a matrix; bits is a constant in the inlined copies. */
INLINE vf numbers(const int bits, const uint8_t *p) {
    return bits == HALF ? vf_from_half((const uint16_t *)p)
         : bits == BRAIN ? vf_from_brain((const uint16_t *)p) : vf_load((const float *)p);
}

/* One block of STREAMS rows that lie `stride` bytes apart. */
INLINE void floats_block(const int bits, const uint8_t *p, int64_t stride, const float *x, vf *total) {
    const int size = bits == SINGLE ? 4 : 2;
    for (int i = 0; i < BLOCK; i += LANES)
#pragma GCC unroll 4
        for (int r = 0; r < STREAMS; r++) {
            const uint8_t *at = p + r * stride + i * size;
            prefetch(at, AHEAD, 1);
            total[r] = vf_fma(numbers(bits, at), vf_load(x + i), total[r]);
        }
}

/* Matrix rows first, first + step, … times activation row m; only the first where step is 0. */
INLINE void float_rows_of(const int bits, const Weights *w, const Activations *a, int64_t m, int64_t first,
                          int64_t step, float *y) {
    const uint8_t *p = w->data + first * w->row_bytes;
    const float *x = a->values + m * BLOCK;
    int64_t stride = step * w->row_bytes;
    uint8_t tail[STREAMS][BLOCK * sizeof(float)] __attribute__((aligned(64)));
    vf total[STREAMS];
    for (int r = 0; r < STREAMS; r++) total[r] = vf_zero();
    for (int64_t b = 0; b < w->blocks; b++, p += w->block_bytes, x += a->m * BLOCK) {
        if (b == w->full_blocks) {
            for (int r = 0; r < STREAMS; r++) copy_block(w, first + r * step, b, tail[r], sizeof tail[r]);
            p = tail[0], stride = sizeof tail[0];
        }
        floats_block(bits, p, stride, x, total);
    }
    for (int r = 0; r < (step > 0 ? STREAMS : 1); r++) {
        const int64_t n = first + r * step;
        y[m * w->n + n] = vf_sum(total[r]) + (w->bias ? w->bias[n] : 0.f);
    }
}

#define FLOATS_OF(name, bits)                                                                        \
    static void name(const Weights *w, const Activations *a, int64_t m, int64_t first, int64_t step, \
                     float *y) {                                                                     \
        float_rows_of(bits, w, a, m, first, step, y);                                                \
    }
FLOATS_OF(half_rows, HALF)
FLOATS_OF(brain_rows, BRAIN)
FLOATS_OF(single_rows, SINGLE)

void decode_floats(const Weights *w, const Activations *a, float *y) {
    typedef void FloatRows(const Weights *, const Activations *, int64_t, int64_t, int64_t, float *);
    FloatRows *const run = w->bits == HALF ? half_rows : w->bits == BRAIN ? brain_rows : single_rows;
#pragma omp for schedule(dynamic, 1)
    for (int64_t first = 0; first < w->n; first += ROWS_PER_TASK) {
        const int64_t count = at_most(ROWS_PER_TASK, w->n - first), step = count / STREAMS;
        for (int64_t i = 0; i < step; i++)
            for (int64_t m = 0; m < a->m; m++) run(w, a, m, first + i, step, y);
        for (int64_t i = step * STREAMS; i < count; i++)
            for (int64_t m = 0; m < a->m; m++) run(w, a, m, first + i, 0, y);
    }
}
