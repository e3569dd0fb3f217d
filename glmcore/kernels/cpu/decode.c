/* Few activation rows: every weight is read from memory once.  A thread takes a long stretch of matrix rows and walks
 * through a few equal parts of it side by side, each of which is one sequence in memory that the hardware's prefetching
 * follows by itself; asking for a little of it helps, asking far ahead or jumping about does harm.  Stretches get shorter
 * towards the end, so that threads that share their core with other programs end together.  With several activation
 * rows arithmetic takes longer than reading: SHARING of them share what was unpacked. */
#include "glm.h"
#include "simd.h"

#define SHARING 4
#define QUAD 4              /* matrix rows whose sums are gathered together */
#ifndef NARROW
#define NARROW 1            /* quads side by side */
#endif
#ifndef BROAD
#define BROAD 2             /* the same in wide matrices */
#endif
#define MOST_SIDE 16        /* matrix rows side by side */

#ifndef LEAST_BYTES
#define LEAST_BYTES 131072  /* of a stretch */
#endif
#ifndef MOST_BYTES
#define MOST_BYTES 2097152
#endif
#ifndef WIDE
#define WIDE 8192
#endif
#ifndef NEAR
#define NEAR 384
#endif
#ifndef FAR
#define FAR 1024
#endif
static Reading reading = {NEAR, FAR, MOST_BYTES, WIDE};
#define SECOND_CACHE 262144 /* of a stretch that is gone through several times */

/* Where the activations of a block lie: rows m, m + 1, …. */
typedef struct {
    const int8_t *q;
    int64_t next; /* bytes between rows */
    const float *scale;
    const int32_t *start;
    int64_t rows; /* of all activations: between the scales of two parts */
} Operand;

INLINE void hint(const int far, const uint8_t *row, int bytes) {
    for (int i = 0; i < bytes; i += 64)
        if (far) __builtin_prefetch((const void *)((uintptr_t)row + (uintptr_t)(reading.far + i)), 0, 2);
        else __builtin_prefetch((const void *)((uintptr_t)row + (uintptr_t)(reading.near + i)), 0, 3);
}

/* One block of QUAD matrix rows that lie `stride` bytes apart times `group` activation rows: total[group] += what they
 * come to.  far, kind and group are constants in the inlined copies.  Where registers hold all unpacked rows, they are
 * multiplied by one activation row after the other; else each is multiplied by all of them before the next. */
#define QUAD_OF(bits, words, offset)                                                                               \
    INLINE void one##bits(const int kind, const Block##bits *w, const int8_t *q, int r, vi (*sums)[QUAD]) {        \
        for (int i = 0; i < parts_of(kind); i++)                                                                   \
            sums[i][r] = part##bits(digits_of_part(kind, words, i), w, q + offset_of(words, i));                   \
    }                                                                                                              \
    INLINE void quad##bits(const int far, const int kind, const int group, const uint8_t *p, int64_t stride,       \
                           const Operand *c, quad *total) {                                                        \
        const int kept = group > 1 && UNPACKED >= QUAD;                                                            \
        vi sums[SHARING][2][QUAD];                                                                                 \
        Block##bits w[QUAD];                                                                                       \
        UNROLL for (int r = 0; r < QUAD; r++) {                                                                    \
            hint(far, p + r * stride, bits * BLOCK / 8);                                                           \
            w[r] = load##bits(p + r * stride);                                                                     \
            if (!kept)                                                                                             \
                UNROLL for (int g = 0; g < group; g++) one##bits(kind, &w[r], c->q + g * c->next, r, sums[g]);     \
        }                                                                                                          \
        UNROLL for (int g = 0; g < group; g++) {                                                                   \
            if (kept)                                                                                              \
                UNROLL for (int r = 0; r < QUAD; r++) one##bits(kind, &w[r], c->q + g * c->next, r, sums[g]);      \
            for (int i = 0; i < parts_of(kind); i++) {                                                             \
                const int64_t at = i * c->rows + g;                                                                \
                const quad all = quad_of##bits(digits_of_part(kind, words, i), sums[g][i], (offset) ? c->start[at] : 0); \
                total[g] = quad_fma(all, c->scale[at], total[g]);                                                  \
            }                                                                                                      \
        }                                                                                                          \
    }
#define UNROLL _Pragma("GCC unroll 4")
QUAD_OF(4, 0, OFFSET4)
QUAD_OF(8, WORDS8, OFFSET8)
#undef UNROLL

/* The same for `quads` times as many matrix rows; goes on to the next block's activations. */
INLINE void block(const int bits, const int kind, const int quads, const int far, const int group, const uint8_t *p,
                  int64_t stride, Operand *c, quad (*total)[SHARING]) {
    for (int i = 0; i < quads; i++)
        (bits == INT4 ? quad4 : quad8)(far, kind, group, p + i * QUAD * stride, stride, c, total[i]);
    c->q += c->rows * c->next, c->scale += parts_of(kind) * c->rows, c->start += parts_of(kind) * c->rows;
}

/* The first `rows` matrix rows' totals of activation row m. */
INLINE void put_quads(const int rows, const Weights *w, quad (*total)[SHARING], int g, int64_t m, int64_t first,
                    int64_t step, float *y) {
    float sums[QUAD];
    for (int r = 0; r < rows; r++) {
        if (r % QUAD == 0) quad_store(sums, total[r / QUAD][g]);
        y[m * w->n + first + r * step] = finished(w, first + r * step, sums[r % QUAD]);
    }
}

/* Matrix rows first, first + step, … times activation rows m, m + 1, …; only the first where step is 0. */
INLINE void rows_of(const int bits, const int kind, const int quads, const int far, const int group, const Weights *w,
                    const Activations *a, int64_t m, int64_t first, int64_t step, float *y) {
    int64_t stride = step * w->row_bytes;
    const uint8_t *p = w->data + first * w->row_bytes;
    uint8_t tail[MOST_SIDE][BLOCK];
    const int64_t all = group == 1 ? 1 : a->m; /* rows are taken one by one where there is no other: constants then */
    Operand c = {a->q + m * a->stride, stride_of(kind, bits == INT8 && WORDS8 ? WORDS : DIGITS), a->scale + m,
                 a->start + m, all};
    quad total[MOST_SIDE / QUAD][SHARING];
    for (int i = 0; i < quads; i++)
        for (int g = 0; g < group; g++) total[i][g] = quad_zero();
    for (int64_t b = 0, end = w->full_blocks; b < w->blocks; end = w->blocks) {
        if (b == w->full_blocks) {
            for (int r = 0; r < quads * QUAD; r++) copy_block(w, first + r * step, b, tail[r], BLOCK);
            p = tail[0], stride = BLOCK;
        }
        for (; b < end; b++, p += bits * BLOCK / 8) block(bits, kind, quads, far, group, p, stride, &c, total);
    }
    for (int g = 0; g < group; g++)
        if (step > 0)
            put_quads(quads * QUAD, w, total, g, m + g, first, step, y);
        else
            put_quads(1, w, total, g, m + g, first, step, y);
}

/* One copy for each kind, breadth and number of activation rows. */
typedef void DecodeRows(const Weights *, const Activations *, int64_t m, int64_t first, int64_t step, float *y);
#define ROWS(name, bits, kind, quads, far, group)                                                                \
    static void name(const Weights *w, const Activations *a, int64_t m, int64_t first, int64_t step, float *y) { \
        rows_of(bits, kind, quads, far, group, w, a, m, first, step, y);                                         \
    }
#define COPIES(name, quads, far, group)                     \
    ROWS(name##8_of4, INT4, BITS8, quads, far, group)       \
    ROWS(name##16_of4, INT4, BITS16, quads, far, group)     \
    ROWS(name##24_of4, INT4, BITS24, quads, far, group)     \
    ROWS(name##8_of8, INT8, BITS8, quads, far, group)       \
    ROWS(name##16_of8, INT8, BITS16, quads, far, group)     \
    ROWS(name##24_of8, INT8, BITS24, quads, far, group)
#define TABLE(name) {{name##8_of4, name##16_of4, name##24_of4}, {name##8_of8, name##16_of8, name##24_of8}}
typedef DecodeRows *const Table[2][3]; /* [int4, int8][kind] */
COPIES(broad, BROAD, 1, 1)
COPIES(one, NARROW, 0, 1)
static Table broad = TABLE(broad);
#ifdef LANE_ROWS /* more than one row: lanes.c */
static Table narrow[] = {TABLE(one)};
#else
COPIES(two, NARROW, 0, 2)
COPIES(three, NARROW, 0, 3)
COPIES(four, NARROW, 0, 4)
static Table narrow[] = {TABLE(one), TABLE(two), TABLE(three), TABLE(four)};
#endif

/* All activation rows times a stretch, as many at a time as come out even.  Matrix rows that are left of it after equal
 * parts are taken one by one. */
static void few(const Weights *w, const Activations *a, int64_t first, int64_t count, float *y) {
    const int wide = a->m == 1 && BROAD > NARROW && w->k >= reading.wide, side = (wide ? BROAD : NARROW) * QUAD;
    const int64_t step = count / side;
    for (int64_t m = 0, group, passes = (a->m + SHARING - 1) / SHARING; passes > 0; passes--, m += group) {
        group = (a->m - m + passes - 1) / passes;
        DecodeRows *const run = (wide ? broad : narrow[group - 1])[w->bits == INT8][a->kind - BITS8];
        for (int64_t i = 0; i < step; i++) run(w, a, m, first + i, step, y);
        for (int64_t i = step * side; i < count; i++) run(w, a, m, first + i, 0, y);
    }
}

/* Takes the next stretch, of which `first` is told; returns how many rows it has, 0 where none is left.  As long as there
 * is much left it is long, later a share of what is left. */
static int64_t next_stretch(const Weights *w, const Activations *a, int64_t *first) {
    const int64_t most_bytes = a->m > SHARING && !several_rows(a) ? SECOND_CACHE : reading.most_bytes, share = 2 * omp_get_num_threads();
    const int64_t least = at_least(MOST_SIDE, at_most(LEAST_BYTES, most_bytes) / w->row_bytes);
    const int64_t most = at_least(least, most_bytes / w->row_bytes);
    int64_t count;
    *first = __atomic_load_n(a->claimed, __ATOMIC_RELAXED);
    do {
        const int64_t left = w->n - *first;
        if (left <= 0) return 0;
        count = at_most(at_least(least, at_most(most, left / share)) / MOST_SIDE * MOST_SIDE, left);
    } while (!__atomic_compare_exchange_n(a->claimed, first, *first + count, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return count;
}

/* From now on weights are read so: what suits the memory best differs from one processor to the next.  No bit of any
 * result depends on it. */
EXPORT void glm_read_by(const Reading *chosen) { reading = *chosen; }
/* How they are read without being told. */
EXPORT void glm_reading(Reading *out) { *out = (Reading){NEAR, FAR, MOST_BYTES, WIDE}; }

void decode(const Weights *w, const Factors *x) {
    int64_t first, count;
    while ((count = next_stretch(w, x->a, &first)) > 0)
        if (x->other || several_rows(x->a))
            several(w, x, first, count);
        else
            few(w, x->a, first, count, x->y);
#pragma omp barrier
}
