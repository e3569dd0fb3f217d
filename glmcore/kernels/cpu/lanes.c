/* Several activation rows, where an instruction set has LANE_ROWS: a block of eight matrix rows is unpacked once, with a
 * lane for each of them, and multiplied by all activation rows, four at a time.  Eight, because activations come from the
 * second cache and each must serve more than one product.  Sums are those of decode.c to the bit. */
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

INLINE void block_of_rows(const int bits, const int kind, const uint8_t *p, int64_t stride, const Activations *a,
                          int64_t b, Totals total) {
    const int64_t whole = a->m / FOUR * FOUR;
    Lanes w[2];
    for (int r = 0; r < EIGHT; r++) prefetch(p + r * stride, ASKED, bits * BLOCK / 8);
    for (int r = 0; r < 2; r++)
        w[r] = bits == INT4 ? lanes4(p + r * FOUR * stride, stride) : lanes8(p + r * FOUR * stride, stride);
    for (int64_t m = 0; m < whole; m += FOUR) add_rows(kind, FOUR, w, a, b, m, total);
    switch (a->m - whole) {
        case 3: add_rows(kind, 3, w, a, b, whole, total); break;
        case 2: add_rows(kind, 2, w, a, b, whole, total); break;
        case 1: add_rows(kind, 1, w, a, b, whole, total);
    }
}

/* Matrix rows first, first + step, … times all activation rows; only the first where step is 0. */
INLINE void eight_rows(const int bits, const int kind, const Weights *w, const Activations *a, int64_t first,
                       int64_t step, float *y) {
    const uint8_t *p = w->data + first * w->row_bytes;
    int64_t stride = step * w->row_bytes;
    const int rows = step > 0 ? EIGHT : 1;
    uint8_t tail[EIGHT][BLOCK];
    float sums[2][FOURS][FOUR][FOUR];
    Totals total;
    for (int i = 0; i < FOURS; i++) total[0][i] = total[1][i] = vf_zero();
    for (int64_t b = 0; b < w->blocks; b++, p += bits * BLOCK / 8) {
        if (b == w->full_blocks) {
            for (int r = 0; r < EIGHT; r++) copy_block(w, first + r * step, b, tail[r], BLOCK);
            p = tail[0], stride = BLOCK;
        }
        block_of_rows(bits, kind, p, stride, a, b, total);
    }
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < FOURS; i++) vf_store(sums[r][i][0], total[r][i]);
    for (int64_t m = 0; m < a->m; m++)
        for (int r = 0; r < rows; r++)
            y[m * w->n + first + r * step] = finished(w, first + r * step, sums[r / FOUR][m / FOUR][r % FOUR][m % FOUR]);
}

typedef void EightRows(const Weights *, const Activations *, int64_t, int64_t, float *);
#define EIGHT_ROWS(name, bits, kind)                                                                   \
    static void name(const Weights *w, const Activations *a, int64_t first, int64_t step, float *y) { \
        eight_rows(bits, kind, w, a, first, step, y);                                                  \
    }
EIGHT_ROWS(eight8_of4, INT4, BITS8)
EIGHT_ROWS(eight16_of4, INT4, BITS16)
EIGHT_ROWS(eight24_of4, INT4, BITS24)
EIGHT_ROWS(eight8_of8, INT8, BITS8)
EIGHT_ROWS(eight16_of8, INT8, BITS16)
EIGHT_ROWS(eight24_of8, INT8, BITS24)

/* What is left of a stretch after equal parts is taken one by one. */
void several(const Weights *w, const Activations *a, int64_t first, int64_t count, float *y) {
    static EightRows *const all[2][3] = {{eight8_of4, eight16_of4, eight24_of4}, {eight8_of8, eight16_of8, eight24_of8}};
    EightRows *const run = all[w->bits == INT8][a->kind - BITS8];
    const int64_t step = count / EIGHT;
    for (int64_t i = 0; i < step; i++) run(w, a, first + i, step, y);
    for (int64_t i = step * EIGHT; i < count; i++) run(w, a, first + i, 0, y);
}

#else
int several_rows(const Activations *a) { return (void)a, 0; }
void several(const Weights *w, const Activations *a, int64_t first, int64_t count, float *y) {
    (void)w, (void)a, (void)first, (void)count, (void)y;
}
#endif
