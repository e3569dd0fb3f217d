/* More activation rows: a tile of TILE matrix rows is unpacked once per block and used for CHUNK activation rows. */
#include "glm.h"
#include "simd.h"

#if !WORDS8 /* never called then */
#define word_first dot_first
#define word_step dot_step
#endif

#define QUADS (BLOCK / 4)          /* groups of four columns; a step works on one group, or on one pair of columns */
#define DUOS (BLOCK / 2)
#define WIDTH (LANES * VECTORS)    /* matrix rows that one micro-kernel call covers */

/* [column group or pair][matrix row], four bytes or two 16-bit numbers in each word: a vector holds the same columns of
 * LANES matrix rows. */
typedef uint32_t Tile[DUOS][TILE];

#define FLIP8 (TILE_OFFSET8 ? 0x80808080u : 0u)

/* Where a tile's block lies: in the matrix, or in a copy where the matrix ends within it. */
typedef struct {
    const uint8_t *p;
    int64_t stride;
} Rows;

/* Asks for the block after the next one, into the second cache: those of a tile's rows would crowd each other out of the
 * first. */
static Rows rows_at(const Weights *w, int64_t first, int64_t rows, int64_t b, uint8_t copy[TILE][BLOCK]) {
    if (b < w->full_blocks && rows == TILE) {
        const uint8_t *p = w->data + first * w->row_bytes + b * w->block_bytes;
        for (int i = 0; i < TILE; i++)
            for (int64_t at = 2 * w->block_bytes; at < 3 * w->block_bytes; at += 64)
                __builtin_prefetch((const void *)((uintptr_t)(p + i * w->row_bytes) + (uintptr_t)at), 0, 2);
        return (Rows){p, w->row_bytes};
    }
    memset(copy[0], 0, TILE * BLOCK);
    for (int64_t r = 0; r < rows; r++) copy_block(w, first + r, b, copy[r], BLOCK);
    return (Rows){copy[0], BLOCK};
}

static void transpose_words(Rows from, int count, uint32_t (*out)[TILE]) {
    for (int r = 0; r < TILE; r += LANES)
        for (int i = 0; i < count; i += LANES)
            transpose(from.p + r * from.stride + 4 * i, from.stride, &out[i][r], TILE);
}

/* int4: bytes of value + 8, even columns before odd ones. */
static void unpack4(Rows from, Tile tile) {
#ifdef TRANSPOSE4
    for (int r = 0; r < TILE; r += LANES)
        transpose4(from.p + r * from.stride, from.stride, &tile[0][r], TILE, QUADS / 2 * TILE);
#else
    uint32_t words[QUADS / 2][TILE] __attribute__((aligned(64)));
    transpose_words(from, QUADS / 2, words);
    for (int i = 0; i < QUADS / 2; i++)
        for (int r = 0; r < TILE; r++) {
            const uint32_t nibbles = words[i][r] ^ 0x88888888u;
            tile[i][r] = nibbles >> 4 & 0x0f0f0f0fu;
            tile[QUADS / 2 + i][r] = nibbles & 0x0f0f0f0fu;
        }
#endif
}

/* int8: bytes of value + TILE_OFFSET8. */
static void unpack8(Rows from, Tile tile) {
    transpose_words(from, QUADS, tile);
    for (int i = 0; i < QUADS; i++)
        for (int r = 0; r < TILE; r++) tile[i][r] ^= FLIP8;
}

/* int8: pairs of 16-bit numbers. */
static void unpack16(Rows from, Tile tile) {
    int16_t wide[TILE][BLOCK] __attribute__((aligned(64)));
    for (int r = 0; r < TILE; r++)
        for (int i = 0; i < BLOCK; i++) wide[r][i] = (int8_t)from.p[r * from.stride + i];
    transpose_words((Rows){(const uint8_t *)wide, sizeof wide[0]}, DUOS, tile);
}

/* Block b of matrix rows first … first + rows - 1, as pairs if `words`. */
static void unpack(const Weights *w, int64_t first, int64_t rows, int64_t b, int words, Tile tile) {
    uint8_t copy[TILE][BLOCK];
    const Rows from = rows_at(w, first, rows, b, copy);
    (w->bits == INT4 ? unpack4 : words ? unpack16 : unpack8)(from, tile);
}

/* One step: sum[rows][VECTORS] += columns of a tile times activations that lie `next` bytes apart. */
INLINE void int_step(const int words, const int first, const int rows, const uint32_t *tile, const int8_t *q,
                     int64_t next, vi (*sum)[VECTORS]) {
    vi t[VECTORS];
    for (int v = 0; v < VECTORS; v++) t[v] = vi_load(tile + v * LANES);
    for (int m = 0; m < rows; m++) {
        const vi x = vi_set4(q + m * next);
        for (int v = 0; v < VECTORS; v++)
            sum[m][v] = words ? first ? word_first(t[v], x) : word_step(sum[m][v], t[v], x)
                              : first ? dot_first(t[v], x) : dot_step(sum[m][v], t[v], x);
    }
}

#ifdef MATRIX_STEP
/* total[rows][VECTORS] = start + tile · q: pairs of activation rows by matrix instructions, an odd one as elsewhere. */
INLINE void int_sums(const int words, const int rows, const uint32_t *tile, const int8_t *q, int64_t next, int digits,
                     const int32_t *start, vi (*total)[VECTORS]) {
    (void)words;
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < VECTORS; v++) total[m][v] = vi_zero();
    for (int d = 0; d < digits; d++, q += BLOCK) {
        if (d > 0)
            for (int m = 0; m < rows; m++)
                for (int v = 0; v < VECTORS; v++) total[m][v] = shift_digit(total[m][v]);
#pragma GCC unroll 1
        for (int i = 0; i < QUADS; i += 2) {
            const uint32_t *at = tile + i * TILE;
            for (int m = 0; m + 1 < rows; m += 2)
                for (int v = 0; v < VECTORS; v++)
                    matrix_step(&total[m][v], &total[m + 1][v], vi_load(at + v * LANES), vi_load(at + TILE + v * LANES),
                                q + m * next + 4 * i, q + (m + 1) * next + 4 * i);
            if (rows % 2) {
                const int8_t *last = q + (rows - 1) * next + 4 * i;
                int_step(0, 0, 1, at, last, next, total + rows - 1);
                int_step(0, 0, 1, at + TILE, last + 4, next, total + rows - 1);
            }
        }
    }
    for (int m = 0; m + 1 < rows; m += 2)
        for (int v = 0; v < VECTORS; v++) unpair(&total[m][v], &total[m + 1][v]);
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < VECTORS; v++) total[m][v] = vi_add(total[m][v], vi_set1(start[m]));
}
#else
/* total += tile · q of one digit, FLUSH steps at a time. */
INLINE void add_digit_sums(const int rows, const uint32_t *tile, const int8_t *q, int64_t next, vi (*total)[VECTORS]) {
    vi sum[6][VECTORS];
    if (FLUSH == QUADS) {
#pragma GCC unroll 1
        for (int i = 0; i < QUADS; i++) int_step(0, 0, rows, tile + i * TILE, q + 4 * i, next, total);
        return;
    }
#pragma GCC unroll 1
    for (int from = 0; from < QUADS; from += FLUSH) {
        int_step(0, 1, rows, tile + from * TILE, q + 4 * from, next, sum);
#pragma GCC unroll 1
        for (int i = from + 1; i < from + FLUSH; i++) int_step(0, 0, rows, tile + i * TILE, q + 4 * i, next, sum);
        for (int m = 0; m < rows; m++)
            for (int v = 0; v < VECTORS; v++) total[m][v] = vi_add(total[m][v], widen(sum[m][v]));
    }
}

/* total[rows][VECTORS] = start + tile · q, one digit after the other; words have one, and no offset to start from. */
INLINE void int_sums(const int words, const int rows, const uint32_t *tile, const int8_t *q, int64_t next, int digits,
                     const int32_t *start, vi (*total)[VECTORS]) {
    if (words) {
        vi sum[6][VECTORS];
        int_step(1, 1, rows, tile, q, next, sum);
#pragma GCC unroll 1
        for (int i = 1; i < DUOS; i++) int_step(1, 0, rows, tile + i * TILE, q + 4 * i, next, sum);
        for (int m = 0; m < rows; m++)
            for (int v = 0; v < VECTORS; v++) total[m][v] = sum[m][v];
        return;
    }
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < VECTORS; v++) total[m][v] = digits == 1 ? vi_set1(start[m]) : vi_zero();
#pragma GCC unroll 1
    for (int d = 0; d < digits; d++, q += BLOCK) {
        if (d > 0)
            for (int m = 0; m < rows; m++)
                for (int v = 0; v < VECTORS; v++)
                    total[m][v] = vi_add(shift_digit(total[m][v]), vi_set1(start[m]));
        add_digit_sums(rows, tile, q, next, total);
    }
}
#endif

/* One block's activations in one part: those of m rows, `next` bytes apart. */
typedef struct {
    const int8_t *q;
    int64_t next, m;
    int digits;
    const float *scale;
    const int32_t *start;
} Cells;

/* acc[m][WIDTH] += scale[m] * (start[m] + tile · q[m]) for `rows` rows from number i on; words and rows are constants in
 * the inlined copies. */
INLINE void int_rows(const int words, const int rows, const uint32_t *tile, const Cells *c, int64_t i, float *acc) {
    vi total[6][VECTORS];
    int_sums(words, rows, tile, c->q + i * c->next, c->next, c->digits, c->start + i, total);
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < VECTORS; v++) {
            float *to = acc + (i + m) * TILE + v * LANES;
            vf_store(to, vf_fma(vf_from(total[m][v]), vf_set1(c->scale[i + m]), vf_load(to)));
        }
}

INLINE void float_rows(const int rows, const float *tile, const float *x, float *acc) {
    vf sum[6][VECTORS];
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < VECTORS; v++) sum[m][v] = vf_load(acc + m * TILE + v * LANES);
#pragma GCC unroll 1
    for (int i = 0; i < BLOCK; i++) {
        vf t[VECTORS];
        for (int v = 0; v < VECTORS; v++) t[v] = vf_load(tile + i * TILE + v * LANES);
        for (int m = 0; m < rows; m++) {
            const vf value = vf_set1(x[m * BLOCK + i]);
            for (int v = 0; v < VECTORS; v++) sum[m][v] = vf_fma(t[v], value, sum[m][v]);
        }
    }
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < VECTORS; v++) vf_store(acc + m * TILE + v * LANES, sum[m][v]);
}

/* Up to six rows at a time, each count a copy of its own with all sums in registers. */
#define CASES(call) case 6: call(6); break; case 5: call(5); break; case 4: call(4); break; \
                    case 3: call(3); break; case 2: call(2); break; case 1: call(1); break;

#define INT_TILE(name, words)                                             \
    static void name(Tile tile, const Cells *c, float *acc) {             \
        for (int64_t col = 0; col < TILE; col += WIDTH)                   \
            for (int64_t i = 0; i < c->m; i += INT_ROWS)                  \
                switch (at_most(INT_ROWS, c->m - i)) { CASES(CALL_##words) } \
    }
#define CALL_0(rows) int_rows(0, rows, tile[0] + col, c, i, acc + col)
#define CALL_1(rows) int_rows(1, rows, tile[0] + col, c, i, acc + col)
INT_TILE(byte_tile, 0)
#if WORDS8
INT_TILE(word_tile, 1)
#else
#define word_tile byte_tile
#endif

static void float_tile(const float *tile, const float *x, int64_t m, float *acc) {
#define CALL(rows) float_rows(rows, tile + col, x + i * BLOCK, acc + i * TILE + col)
    for (int64_t col = 0; col < TILE; col += WIDTH)
        for (int64_t i = 0; i < m; i += FLOAT_ROWS)
            switch (m - i < FLOAT_ROWS ? m - i : FLOAT_ROWS) { CASES(CALL) }
#undef CALL
}

/* Bytes to floats, the offset taken off: [column][matrix row]. */
static void to_floats(Tile tile, int bits, float *out) {
    const uint32_t flip = bits == INT8 && !FLIP8 ? 128 : 0;
    const float offset = bits == INT4 ? TILE_OFFSET4 : 128;
    for (int i = 0; i < QUADS; i++)
        for (int j = 0; j < 4; j++)
            for (int r = 0; r < TILE; r++)
                out[(4 * i + j) * TILE + r] = (float)(int32_t)((tile[i][r] >> 8 * j & 255) ^ flip) - offset;
}

static void write_out(const Weights *w, int64_t first, int64_t rows, const float *acc, int64_t m, float *y) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t r = 0; r < rows; r++) y[i * w->n + first + r] = finished(w, first + r, acc[i * TILE + r]);
}

/* Part `part` of block b of activation rows m0 … m0 + m - 1. */
static Cells cells_of(const Activations *a, int64_t b, int part, int64_t m0, int64_t m) {
    const int words = a->digits == WORDS;
    const int64_t at = (b * parts_of(a->kind) + part) * a->m + m0;
    return (Cells){a->q + (b * a->m + m0) * a->stride + offset_of(words, part), a->stride, m,
                   digits_of_part(a->kind, words, part), a->scale + at, a->start + at};
}

static void int_chunk(const Weights *w, const Activations *a, int64_t first, int64_t rows, int64_t m0, int64_t m,
                      float *y) {
    Tile tile __attribute__((aligned(64)));
    float acc[CHUNK * TILE] __attribute__((aligned(64)));
    const int words = a->digits == WORDS, parts = parts_of(a->kind);
    memset(acc, 0, (size_t)(m * TILE) * sizeof(float));
    for (int64_t b = 0; b < w->blocks; b++) {
        unpack(w, first, rows, b, words, tile);
        for (int part = 0; part < parts; part++) {
            const Cells cells = cells_of(a, b, part, m0, m);
            (words ? word_tile : byte_tile)(tile, &cells, acc);
        }
    }
    write_out(w, first, rows, acc, m, y + m0 * w->n);
}

static void float_chunk(const Weights *w, const Activations *a, int64_t first, int64_t rows, int64_t m0, int64_t m,
                        float *y) {
    Tile tile __attribute__((aligned(64)));
    float floats[BLOCK * TILE] __attribute__((aligned(64))), acc[CHUNK * TILE] __attribute__((aligned(64)));
    memset(acc, 0, sizeof acc);
    for (int64_t b = 0; b < w->blocks; b++) {
        unpack(w, first, rows, b, 0, tile);
        to_floats(tile, w->bits, floats);
        float_tile(floats, a->values + (b * a->m + m0) * BLOCK, m, acc);
    }
    write_out(w, first, rows, acc, m, y + m0 * w->n);
}

#define PREFILL(name, chunk)                                                           \
    static void name(const Weights *w, const Activations *a, float *y) {               \
        int64_t tiles = (w->n + TILE - 1) / TILE, chunks = (a->m + CHUNK - 1) / CHUNK; \
        _Pragma("omp for schedule(dynamic, 1)")                                        \
        for (int64_t task = 0; task < tiles * chunks; task++) {                        \
            int64_t first = task % tiles * TILE, m0 = task / tiles * CHUNK;            \
            int64_t rows = at_most(TILE, w->n - first);                                \
            chunk(w, a, first, rows, m0, at_most(CHUNK, a->m - m0), y);                \
        }                                                                              \
    }
PREFILL(ints, int_chunk)
PREFILL(floats, float_chunk)

/* Where 24 bits are multiplied as digits, there are no floats, and the compiler need not look at them. */
void linear_many(const Weights *w, const Activations *a, float *y) {
    (!THREE_DIGITS && a->kind == FLOATS ? floats : ints)(w, a, y);
}
