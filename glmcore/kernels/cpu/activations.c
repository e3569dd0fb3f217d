/* Bringing activations into the layout that the kernels read, and refusing NaN and infinity on the way. */
#include <math.h>

#include "glm.h"
#include "simd.h"

#define SMALLEST 1e-35f  /* a block below this is zero */
#define TINY 1e-20f

/* One block, zero-filled, in natural or split order; returns the largest |value| as bits (compared as integers,
 * which orders NaN above everything and lets the compiler vectorise the loop without -ffast-math). */
static int32_t load_block(const float *x, int64_t count, int split, float *out) {
    float full[BLOCK];
    if (count < BLOCK) {
        memset(full, 0, sizeof full);
        memcpy(full, x, (size_t)count * sizeof(float));
        x = full;
    }
    if (split)
        for (int i = 0; i < BLOCK / 2; i++) out[i] = x[2 * i], out[BLOCK / 2 + i] = x[2 * i + 1];
    else
        memcpy(out, x, BLOCK * sizeof(float));
    int32_t bits[BLOCK], largest = 0;
    memcpy(bits, out, sizeof bits);
    for (int i = 0; i < BLOCK; i++) {
        int32_t b = bits[i] & 0x7fffffff;
        largest = b > largest ? b : largest;
    }
    return largest;
}

/* The largest integers that 1, 2 and 3 digits up to 127 can express (digits go down to -128); 128 less with 24 bits,
 * where the quotient's rounding could exceed it. */
static const float LARGEST[] = {0.f, 127.f, 32639.f, 8355583.f};

/* Both leave what is above the lowest digit, or the highest word, in `integers`. */
static void store_digits(int32_t *integers, int digits, int8_t *q) {
    for (int d = digits - 1; d > 0; d--)
        for (int i = 0; i < BLOCK; i++) {
            const int8_t digit = (int8_t)integers[i];
            q[d * BLOCK + i] = digit;
            integers[i] = (integers[i] - digit) >> 8;
        }
    for (int i = 0; i < BLOCK; i++) q[i] = (int8_t)integers[i];
}

static void store_words(int32_t *integers, int kind, int16_t *q) {
    if (kind == BITS24)
        for (int i = 0; i < BLOCK; i++) {
            q[BLOCK + i] = (int8_t)integers[i];
            integers[i] = (integers[i] - q[BLOCK + i]) >> 8;
        }
    for (int i = 0; i < BLOCK; i++) q[i] = (int16_t)integers[i];
}

static int32_t sum_of(const int32_t *integers) {
    int32_t sum = 0; /* at most 128 * 2^23 */
    for (int i = 0; i < BLOCK; i++) sum += integers[i];
    return sum;
}

/* Leaves the integers of a block with this largest value, and returns their scale. */
static float quantise_block(const float *x, float largest, int kind, int32_t *integers) {
    const float boost = largest < TINY ? 0x1p64f : 1.f; /* keeps the reciprocal finite, changes no rounding */
    const float inverse = largest > SMALLEST ? LARGEST[kind] / (largest * boost) : 0.f;
    for (int i = 0; i < BLOCK; i++) integers[i] = (int32_t)rintf(x[i] * boost * inverse);
    return largest > SMALLEST ? largest / LARGEST[kind] : 0.f;
}

/* Offsets are kept multiples of 64. */
static size_t padded(int64_t bytes) { return ((size_t)bytes + 63) / 64 * 64; }

static int digits_of(const Weights *w) { return w->bits == INT8 && WORDS8 ? WORDS : DIGITS; }

size_t activations_bytes(int64_t k, int64_t m, int kind) {
    const int64_t cells = (k + BLOCK - 1) / BLOCK * m;
    return padded(sizeof(int64_t)) + padded(cells * stride_of(kind, WORDS)) +
           2 * padded(cells * MOST_PARTS * (int64_t)sizeof(float));
}

Activations activations_over(void *memory, const Weights *w, int64_t m, int kind) {
    const int64_t cells = m * w->blocks;
    Activations a = {.m = m, .k = w->k, .blocks = w->blocks, .kind = kind, .split = w->bits == INT4};
    a.digits = digits_of(w);
    a.stride = stride_of(kind, a.digits);
    a.claimed = memory;
    a.q = (int8_t *)memory + padded(sizeof *a.claimed);
    a.values = (float *)a.q;
    a.scale = (float *)(a.q + padded(cells * a.stride));
    a.start = (int32_t *)a.scale + padded(cells * parts_of(kind) * (int64_t)sizeof(float)) / sizeof(float);
    return a;
}

int32_t pack_block(const Activations *a, const float *x, int64_t row, int64_t b) {
    float block[BLOCK], largest;
    int32_t integers[BLOCK];
    const int64_t at = b * a->m + row;
    float *values = a->kind == FLOATS ? a->values + at * BLOCK : block;
    const int32_t bits = load_block(x + b * BLOCK, a->k - b * BLOCK, a->split, values);
    if (a->kind == FLOATS) return bits;
    if (bits >= INFINITE) memset(values, 0, sizeof block);
    memcpy(&largest, &bits, sizeof largest);
    const float scale = quantise_block(values, bits < INFINITE ? largest : 0.f, a->kind, integers);
    const int words = a->digits == WORDS, parts = parts_of(a->kind);
    const int32_t all = sum_of(integers), offset = a->split ? TILE_OFFSET4 : words ? 0 : TILE_OFFSET8;
    if (words)
        store_words(integers, a->kind, (int16_t *)(a->q + at * a->stride));
    else
        store_digits(integers, a->kind, a->q + at * a->stride);
    for (int part = 0; part < parts; part++) {
        const float factor = factor_of(a->kind, words, part);
        const int32_t above = part == 0 ? 0 : sum_of(integers) * (int32_t)factor_of(a->kind, words, 0);
        const int64_t place = (b * parts + part) * a->m + row;
        a->scale[place] = scale * factor;
        a->start[place] = -offset * (first_part(a->kind, part) ? sum_of(integers) : all - above);
    }
    return bits;
}

int32_t pack(const Activations *a, const float *x) {
    int32_t largest = 0;
#pragma omp master
    *a->claimed = 0;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < a->m * a->blocks; i++) {
        const int64_t row = i / a->blocks, b = i % a->blocks;
        const int32_t top = pack_block(a, x + row * a->k, row, b);
        largest = top > largest ? top : largest;
    }
    return largest;
}
