/* Attention over keys and values in bfloat16.  Where the processor multiplies pairs of them, KEYS keys at a time are turned
 * so that a vector holds the same columns of LANES keys, and values so that it holds LANES columns of two keys: no sum
 * has to be gathered from a vector's lanes, and sixteen queries share what was turned.  Elsewhere they are widened. */
#include <string.h>

#include "attention.h"
#include "glm.h"
#include "simd.h"

static void widen_brains(const uint16_t *from, int64_t count, float *out) {
    for (int64_t i = 0; i < count; i += LANES) vf_store(out + i, vf_from_brain(from + i));
}

static void attend_widened(int64_t queries, const float *query, const uint16_t *key, const uint16_t *value, int64_t size,
                           int64_t count, Part part) {
    float keys[KEYS * MOST_SIZE] __attribute__((aligned(64))), values[KEYS * MOST_SIZE] __attribute__((aligned(64)));
    for (int64_t k = 0; k < count; k += KEYS) {
        const int64_t some = at_most(KEYS, count - k);
        widen_brains(key + k * size, some * size, keys);
        widen_brains(value + k * size, some * size, values);
        attend_floats(queries, query, keys, values, size, some, part);
    }
}

#ifdef BRAIN_PAIRS

#define QUERIES 4 /* at a time: their sums of KEYS scores fill half of the registers */
#define VECTORS_OF_KEYS (KEYS / LANES)
#define COLUMNS (2 * LANES) /* of values at a time */

/* A tile is [pair of columns][KEYS] of keys, then [pair of keys][size] of values: two bfloat16 in each word. */
typedef uint32_t Pairs[MOST_SIZE / 2 * KEYS];

/* Asks for `rows` rows beyond the `done` that lie at p. */
static void ask(const uint16_t *p, int64_t done, int64_t rows, int64_t size) {
    prefetch((const uint8_t *)p, 2 * done * size, 2 * rows * size);
}

/* Turns `count` keys, and asks for their values. */
static void turn_keys(const uint16_t *key, const uint16_t *value, int64_t size, int64_t count, uint32_t *tile) {
    uint16_t copy[LANES * MOST_SIZE];
    for (int64_t k = 0; k < count; k += LANES) {
        const uint16_t *from = key + k * size;
        if (count - k < LANES) {
            memset(copy, 0, sizeof copy);
            from = memcpy(copy, from, (size_t)((count - k) * size) * sizeof *copy);
        }
        for (int64_t i = 0; i < size / 2; i += LANES)
            transpose((const uint8_t *)(from + 2 * i), 2 * size, tile + i * KEYS + k, KEYS);
        ask(value, k, LANES, size);
    }
}

/* Turns `count` values, of which an odd last one is paired with zeros, and asks for the next keys. */
static void turn_values(const uint16_t *value, const uint16_t *key, int64_t size, int64_t count, uint32_t *tile) {
    static const uint16_t zeros[MOST_SIZE];
    for (int64_t k = 0; k < count; k += 2, tile += size) {
        const uint16_t *odd = k + 1 < count ? value + (k + 1) * size : zeros;
        for (int64_t i = 0; i < size; i += COLUMNS) interleave(value + k * size + i, odd + i, tile + i);
        ask(key, KEYS + k, 2, size);
    }
}

/* scores[queries][KEYS]; how many queries is a constant in the inlined copies, here and below. */
INLINE void score_tile(const int queries, const uint32_t *query, int64_t words, const uint32_t *tile, float *scores) {
    vf sum[QUERIES][VECTORS_OF_KEYS];
    for (int q = 0; q < queries; q++)
        for (int v = 0; v < VECTORS_OF_KEYS; v++) sum[q][v] = vf_zero();
    for (int64_t i = 0; i < words; i++) {
        vi at[VECTORS_OF_KEYS];
        for (int v = 0; v < VECTORS_OF_KEYS; v++) at[v] = vi_load(tile + i * KEYS + v * LANES);
        for (int q = 0; q < queries; q++) {
            const vi own = vi_set1((int32_t)query[q * words + i]);
            for (int v = 0; v < VECTORS_OF_KEYS; v++) sum[q][v] = pair_step(sum[q][v], own, at[v]);
        }
    }
    for (int q = 0; q < queries; q++)
        for (int v = 0; v < VECTORS_OF_KEYS; v++) vf_store(scores + q * KEYS + v * LANES, sum[q][v]);
}

/* out[queries][size] += weights[queries][KEYS / 2] times `pairs` pairs of values. */
INLINE void mix_tile(const int queries, const uint32_t *weights, int64_t pairs, const uint32_t *tile, int64_t size,
                     float *out) {
    for (int64_t i = 0; i < size; i += COLUMNS) {
        vf sum[QUERIES][2];
        for (int q = 0; q < queries; q++)
            for (int v = 0; v < 2; v++) sum[q][v] = vf_load(out + q * size + i + v * LANES);
        for (int64_t k = 0; k < pairs; k++) {
            const vi at[2] = {vi_load(tile + k * size + i), vi_load(tile + k * size + i + LANES)};
            for (int q = 0; q < queries; q++) {
                const vi by = vi_set1((int32_t)weights[q * (KEYS / 2) + k]);
                for (int v = 0; v < 2; v++) sum[q][v] = pair_step(sum[q][v], by, at[v]);
            }
        }
        for (int q = 0; q < queries; q++)
            for (int v = 0; v < 2; v++) vf_store(out + q * size + i + v * LANES, sum[q][v]);
    }
}

/* count numbers, a multiple of LANES, as pairs. */
static void round_pairs(const float *x, int64_t count, uint32_t *out) {
    for (int64_t i = 0; i < count; i += LANES) store_brains((uint16_t *)out + i, vf_load(x + i));
}

/* A query's scores become weights; beyond `count` they weigh nothing. */
static void weigh(Part part, int64_t query, float *scores, int64_t count, int64_t size, uint32_t *weights) {
    soften(part, query, scores, count, size);
    for (int64_t k = count; k < KEYS; k++) scores[k] = 0.f;
    round_pairs(scores, KEYS, weights);
}

static void attend_pairs(int64_t queries, const float *query, const uint16_t *key, const uint16_t *value, int64_t size,
                         int64_t count, Part part) {
    Pairs tile __attribute__((aligned(64)));
    uint32_t own[MOST_QUERIES * MOST_SIZE / 2], weights[MOST_QUERIES * KEYS / 2];
    float scores[MOST_QUERIES * KEYS];
    const int64_t words = size / 2, whole = queries / QUERIES * QUERIES;
    round_pairs(query, queries * size, own);
    for (int64_t k = 0; k < count; k += KEYS) {
        const int64_t some = at_most(KEYS, count - k), pairs = (some + 1) / 2;
        turn_keys(key + k * size, value + k * size, size, some, tile);
        for (int64_t q = 0; q < whole; q += QUERIES) score_tile(QUERIES, own + q * words, words, tile, scores + q * KEYS);
        for (int64_t q = whole; q < queries; q++) score_tile(1, own + q * words, words, tile, scores + q * KEYS);
        for (int64_t q = 0; q < queries; q++) weigh(part, q, scores + q * KEYS, some, size, weights + q * KEYS / 2);
        turn_values(value + k * size, key + k * size, size, some, tile);
        for (int64_t q = 0; q < whole; q += QUERIES)
            mix_tile(QUERIES, weights + q * KEYS / 2, pairs, tile, size, part.out + q * size);
        for (int64_t q = whole; q < queries; q++)
            mix_tile(1, weights + q * KEYS / 2, pairs, tile, size, part.out + q * size);
    }
}

int attends_in_pairs(int64_t size) { return size % COLUMNS == 0; }
#else
#define attend_pairs attend_widened
int attends_in_pairs(int64_t size) { return (void)size, 0; }
#endif

void attend_brains(int64_t queries, const float *query, const uint16_t *key, const uint16_t *value, int64_t size,
                   int64_t count, Part part) {
    (attends_in_pairs(size) ? attend_pairs : attend_widened)(queries, query, key, value, size, count, part);
}
