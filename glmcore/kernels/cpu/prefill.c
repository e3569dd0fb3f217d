/* Many activation rows: a tile of TILE matrix rows is unpacked once per block and used for CHUNK activation rows. */
#include "glm.h"
#include "simd.h"

#define QUADS (BLOCK / 4)          /* groups of four columns; a dot step works on one group */
#define WIDTH (LANES * VECTORS)    /* matrix rows that one micro-kernel call covers */
#define STEPS (QUADS / FLUSH)

/* [column group][matrix row], four columns' bytes in each word: a vector holds four columns of LANES matrix rows. */
typedef uint32_t Tile[QUADS][TILE];

#ifdef SIGNED_TILE
#define FLIP8 0u
#define TILE_OFFSET8 0.f
#else
#define FLIP8 0x80808080u
#define TILE_OFFSET8 128.f
#endif

/* Block b of matrix rows first … first + rows - 1 as bytes: value + 8 (int4, split order) or value + TILE_OFFSET8. */
static void unpack(const Weights *w, int64_t first, int64_t rows, int64_t b, Tile tile) {
    uint32_t words[QUADS][TILE] __attribute__((aligned(64)));
    uint8_t edge[TILE][BLOCK];
    const uint8_t *p = w->data + first * w->row_bytes + b * w->block_bytes;
    int64_t stride = w->row_bytes, next = w->block_bytes;
    int count = (int)w->block_bytes / 4;
    if (b == w->full_blocks || rows < TILE) { /* the matrix ends within this block */
        memset(edge, 0, sizeof edge);
        for (int64_t r = 0; r < rows; r++) copy_block(w, first + r, b, edge[r], BLOCK);
        p = edge[0], stride = BLOCK, next = 0;
    }
    for (int r = 0; r < TILE; r += LANES) {
        for (int i = 0; i < LANES; i++) prefetch(p + (r + i) * stride, next, w->block_bytes);
        for (int i = 0; i < count; i += LANES) transpose(p + r * stride + 4 * i, stride, &words[i][r], TILE);
    }
    if (w->bits == 4) {
        for (int i = 0; i < count; i++)
            for (int r = 0; r < TILE; r++) {
                uint32_t nibbles = words[i][r] ^ 0x88888888u;
                tile[i][r] = nibbles >> 4 & 0x0f0f0f0fu;
                tile[count + i][r] = nibbles & 0x0f0f0f0fu;
            }
    } else {
        for (int i = 0; i < count; i++)
            for (int r = 0; r < TILE; r++) tile[i][r] = words[i][r] ^ FLIP8;
    }
}

/* One nibble of each byte, for instruction sets whose byte products would overflow 16 bits. */
static void take_nibble(Tile in, int shift, Tile out) {
    for (int i = 0; i < QUADS; i++)
        for (int r = 0; r < TILE; r++) out[i][r] = in[i][r] >> shift & 0x0f0f0f0fu;
}

/* acc[m][WIDTH] += factor * scale[m] * (tile · q[m]) for m < rows; rows is a constant in the inlined copies. */
INLINE void int_rows(const int rows, const uint32_t *tile, const int8_t *q, const float *scale, float factor,
                     float *acc) {
#pragma GCC unroll 1
    for (int step = 0; step < STEPS; step++) {
        vi sum[6][VECTORS];
        for (int m = 0; m < rows; m++)
            for (int v = 0; v < VECTORS; v++) sum[m][v] = vi_zero();
#pragma GCC unroll 1
        for (int i = step * FLUSH; i < (step + 1) * FLUSH; i++) {
            vi t[VECTORS];
            for (int v = 0; v < VECTORS; v++) t[v] = vi_load(tile + i * TILE + v * LANES);
            for (int m = 0; m < rows; m++) {
                const vi x = vi_set4(q + m * BLOCK + 4 * i);
                for (int v = 0; v < VECTORS; v++) sum[m][v] = dot_step(sum[m][v], t[v], x);
            }
        }
        for (int m = 0; m < rows; m++) {
            const vf by = vf_set1(factor * scale[m]);
            for (int v = 0; v < VECTORS; v++) {
                float *to = acc + m * TILE + v * LANES;
                vf_store(to, vf_fma(vf_from(widen(sum[m][v])), by, vf_load(to)));
            }
        }
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

static void int_tile(Tile tile, const int8_t *q, const float *scale, float factor, int64_t m, float *acc) {
#define CALL(rows) int_rows(rows, tile[0] + col, q + i * BLOCK, scale + i, factor, acc + i * TILE + col)
    for (int64_t col = 0; col < TILE; col += WIDTH)
        for (int64_t i = 0; i < m; i += INT_ROWS)
            switch (m - i < INT_ROWS ? m - i : INT_ROWS) { CASES(CALL) }
#undef CALL
}

static void float_tile(const float *tile, const float *x, int64_t m, float *acc) {
#define CALL(rows) float_rows(rows, tile + col, x + i * BLOCK, acc + i * TILE + col)
    for (int64_t col = 0; col < TILE; col += WIDTH)
        for (int64_t i = 0; i < m; i += FLOAT_ROWS)
            switch (m - i < FLOAT_ROWS ? m - i : FLOAT_ROWS) { CASES(CALL) }
#undef CALL
}

/* Bytes to floats, the offset taken off: [column][matrix row]. */
static void to_floats(Tile tile, int bits, float *out) {
    const uint32_t flip = bits == 8 && !FLIP8 ? 128 : 0;
    const float offset = bits == 4 ? 8.f : 128.f;
    for (int i = 0; i < QUADS; i++)
        for (int j = 0; j < 4; j++)
            for (int r = 0; r < TILE; r++)
                out[(4 * i + j) * TILE + r] = (float)(int32_t)((tile[i][r] >> 8 * j & 255) ^ flip) - offset;
}

static void write_out(const Weights *w, int64_t first, int64_t rows, const float *acc, const float *sum, float offset,
                      int64_t m, float *y) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t r = 0; r < rows; r++) {
            float value = acc[i * TILE + r] - (sum ? offset * sum[i] : 0.f);
            y[i * w->n + first + r] = w->scale[first + r] * value + (w->bias ? w->bias[first + r] : 0.f);
        }
}

static void fast_chunk(const Weights *w, const Activations *a, int64_t first, int64_t rows, int64_t m0, int64_t m,
                       float *y) {
    Tile tile __attribute__((aligned(64))), part __attribute__((aligned(64)));
    float acc[CHUNK * TILE] __attribute__((aligned(64))), sum[CHUNK] = {0};
    memset(acc, 0, sizeof acc);
    for (int64_t b = 0; b < w->blocks; b++) {
        for (int64_t i = 0; i < m; i++) sum[i] += a->sum[b * a->m + m0 + i];
        const int8_t *q = a->q + (b * a->m + m0) * BLOCK;
        const float *scale = a->scale + b * a->m + m0;
        unpack(w, first, rows, b, tile);
        if (w->bits == 8 && NIBBLES_ONLY) {
            take_nibble(tile, 4, part);
            int_tile(part, q, scale, 16.f, m, acc);
            take_nibble(tile, 0, part);
            int_tile(part, q, scale, 1.f, m, acc);
        } else {
            int_tile(tile, q, scale, 1.f, m, acc);
        }
    }
    write_out(w, first, rows, acc, sum, w->bits == 4 ? 8.f : TILE_OFFSET8, m, y + m0 * w->n);
}

static void exact_chunk(const Weights *w, const Activations *a, int64_t first, int64_t rows, int64_t m0, int64_t m,
                        float *y) {
    Tile tile __attribute__((aligned(64)));
    float floats[BLOCK * TILE] __attribute__((aligned(64))), acc[CHUNK * TILE] __attribute__((aligned(64)));
    memset(acc, 0, sizeof acc);
    for (int64_t b = 0; b < w->blocks; b++) {
        unpack(w, first, rows, b, tile);
        to_floats(tile, w->bits, floats);
        float_tile(floats, a->values + (b * a->m + m0) * BLOCK, m, acc);
    }
    write_out(w, first, rows, acc, NULL, 0.f, m, y + m0 * w->n);
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
PREFILL(fast, fast_chunk)
PREFILL(exact, exact_chunk)

void linear_many(const Weights *w, const Activations *a, float *y) { (a->kind == BYTES ? fast : exact)(w, a, y); }
