/* Several activation rows, where an instruction set has LANE_ROWS: a block of eight matrix rows is unpacked once, with a
 * lane for each of them, and multiplied by all activation rows, four at a time.  Eight, because activations come from the
 * second cache and each must serve more than one product.  Rows of another kind, a prompt's beside answers, may share what
 * was unpacked.  Sums are those of decode.c to the bit. */
#include "glm.h"
#include "simd.h"

#ifdef LANE_ROWS

#define FOUR 4
#define EIGHT (2 * FOUR)
#define FOURS (LANE_ROWS / FOUR)
#define ASKED 256 /* bytes ahead in each matrix row */

typedef vf Totals[2][FOURS]; /* [matrix row][activation row], four by four in each vector */

int several_rows(const Activations *a) { return a->m > 1; }

/* Block b of eight matrix rows times `group` activation rows from row m on; kind and group are constants in the inlined
 * copies. */
INLINE void add_rows(const int kind, const int group, const Lanes *w, const Activations *a, int64_t b, int64_t m,
                     Totals total) {
    for (int i = 0; i < parts_of(kind); i++) {
        const int8_t *q = a->q + (b * a->m + m) * a->stride + offset_of(0, i);
        const int64_t at = (b * parts_of(kind) + i) * a->m + m;
        vi sums[2][FOUR];
        part_of_lanes(digits_of_part(kind, 0, i), group, w, q, a->stride, sums);
        for (int r = 0; r < 2; r++)
            total[r][m / FOUR] = add_lanes(sums[r], group, a->start + at, a->scale + at, total[r][m / FOUR]);
    }
}

/* The same for all activation rows. */
INLINE void add_all(const int kind, const Lanes *w, const Activations *a, int64_t b, Totals total) {
    const int64_t whole = a->m / FOUR * FOUR;
    for (int64_t m = 0; m < whole; m += FOUR) add_rows(kind, FOUR, w, a, b, m, total);
    switch (a->m - whole) {
        case 3: add_rows(kind, 3, w, a, b, whole, total); break;
        case 2: add_rows(kind, 2, w, a, b, whole, total); break;
        case 1: add_rows(kind, 1, w, a, b, whole, total);
    }
}

INLINE void unpack_eight(const int bits, const uint8_t *p, int64_t stride, Lanes *w) {
    for (int r = 0; r < EIGHT; r++) prefetch(p + r * stride, ASKED, bits * BLOCK / 8);
    for (int r = 0; r < 2; r++)
        w[r] = bits == INT4 ? lanes4(p + r * FOUR * stride, stride) : lanes8(p + r * FOUR * stride, stride);
}

/* The first `rows` matrix rows' totals. */
INLINE void put_eight(const int rows, const Weights *w, const Activations *a, Totals total, int64_t first, int64_t step,
                      float *y) {
    float sums[2][FOURS][FOUR][FOUR];
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < FOURS; i++) vf_store(sums[r][i][0], total[r][i]);
    for (int64_t m = 0; m < a->m; m++)
        for (int r = 0; r < rows; r++)
            y[m * w->n + first + r * step] = finished(w, first + r * step, sums[r / FOUR][m / FOUR][r % FOUR][m % FOUR]);
}

/* Matrix rows first, first + step, … times all activation rows, and those of `other` if it has a kind; only the first
 * where step is 0. */
INLINE void eight_rows(const int bits, const int kind, const int other_kind, const Weights *w, const Factors *x,
                       int64_t first, int64_t step) {
    const uint8_t *p = w->data + first * w->row_bytes;
    int64_t stride = step * w->row_bytes;
    const int rows = step > 0 ? EIGHT : 1;
    uint8_t tail[EIGHT][BLOCK];
    Totals total, other;
    for (int i = 0; i < FOURS; i++) total[0][i] = total[1][i] = other[0][i] = other[1][i] = vf_zero();
    for (int64_t b = 0; b < w->blocks; b++, p += bits * BLOCK / 8) {
        Lanes unpacked[2];
        if (b == w->full_blocks) {
            for (int r = 0; r < EIGHT; r++) copy_block(w, first + r * step, b, tail[r], BLOCK);
            p = tail[0], stride = BLOCK;
        }
        unpack_eight(bits, p, stride, unpacked);
        add_all(kind, unpacked, x->a, b, total);
        if (other_kind) add_all(other_kind, unpacked, x->other, b, other);
    }
    put_eight(rows, w, x->a, total, first, step, x->y);
    if (other_kind) put_eight(rows, w, x->other, other, first, step, x->other_y);
}

typedef void EightRows(const Weights *, const Factors *, int64_t, int64_t);
#define EIGHT_ROWS(name, bits, kind, other_kind)                                              \
    static void name(const Weights *w, const Factors *x, int64_t first, int64_t step) {      \
        eight_rows(bits, kind, other_kind, w, x, first, step);                                \
    }
EIGHT_ROWS(eight8_of4, INT4, BITS8, 0)
EIGHT_ROWS(eight16_of4, INT4, BITS16, 0)
EIGHT_ROWS(eight24_of4, INT4, BITS24, 0)
EIGHT_ROWS(eight8_of8, INT8, BITS8, 0)
EIGHT_ROWS(eight16_of8, INT8, BITS16, 0)
EIGHT_ROWS(eight24_of8, INT8, BITS24, 0)
EIGHT_ROWS(both_of4, INT4, BITS16, BITS8)
EIGHT_ROWS(both_of8, INT8, BITS16, BITS8)

int shared_rows(const Activations *a, const Activations *other) {
    return a->kind == BITS16 && other->kind == BITS8 && a->m <= LANE_ROWS && other->m <= LANE_ROWS;
}

/* What is left of a stretch after equal parts is taken one by one. */
void several(const Weights *w, const Factors *x, int64_t first, int64_t count) {
    static EightRows *const all[2][3] = {{eight8_of4, eight16_of4, eight24_of4}, {eight8_of8, eight16_of8, eight24_of8}};
    static EightRows *const both[2] = {both_of4, both_of8};
    EightRows *const run = x->other ? both[w->bits == INT8] : all[w->bits == INT8][x->a->kind - BITS8];
    const int64_t step = count / EIGHT;
    for (int64_t i = 0; i < step; i++) run(w, x, first + i, step);
    for (int64_t i = step * EIGHT; i < count; i++) run(w, x, first + i, 0);
}

#else
int several_rows(const Activations *a) { return (void)a, 0; }
int shared_rows(const Activations *a, const Activations *other) { return (void)a, (void)other, 0; }
void several(const Weights *w, const Factors *x, int64_t first, int64_t count) {
    (void)w, (void)x, (void)first, (void)count;
}
#endif
