/* Bringing activations into the layout that the kernels read, and refusing NaN and infinity on the way. */
#include "glm.h"

#define SMALLEST 1e-35f      /* a block below this is zero: 127 / max would overflow */

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

/* Rounds each value to int8 and leaves 254 times what is missing in its place; returns the sum of the integers.
 * Adding 1.5 * 2^23 rounds to nearest even and leaves the integer in the low bits. */
static int32_t take_digit(float *x, int8_t *q) {
    float rounded[BLOCK];
    int32_t bits[BLOCK], sum = 0;
    for (int i = 0; i < BLOCK; i++) {
        rounded[i] = x[i] + 12582912.f;
        x[i] = (x[i] - (rounded[i] - 12582912.f)) * LIMB_BASE;
    }
    memcpy(bits, rounded, sizeof bits);
    for (int i = 0; i < BLOCK; i++) {
        int32_t v = bits[i] - 0x4b400000;
        q[i] = (int8_t)v;
        sum += v;
    }
    return sum;
}

/* Symmetric digits with one scale; returns the sum of the values they stand for. */
static float quantise_block(float *x, int32_t largest_bits, int digits, int8_t *q, float *scale) {
    float largest, sum = 0.f, digit_scale;
    memcpy(&largest, &largest_bits, sizeof largest);
    float inverse = largest > SMALLEST ? 127.f / largest : 0.f;
    *scale = digit_scale = largest > SMALLEST ? largest / 127.f : 0.f;
    for (int i = 0; i < BLOCK; i++) x[i] *= inverse;
    for (int d = 0; d < digits; d++, digit_scale /= LIMB_BASE) sum += digit_scale * (float)take_digit(x, q + d * BLOCK);
    return sum;
}

/* Offsets are kept multiples of 64. */
static size_t padded(int64_t bytes) { return ((size_t)bytes + 63) / 64 * 64; }

size_t activations_bytes(int64_t k, int64_t m, int kind) {
    const int64_t cells = (k + BLOCK - 1) / BLOCK * m, size = kind == FLOATS ? (int64_t)sizeof(float) : kind;
    return padded(cells * BLOCK * size) + (kind == FLOATS ? 0 : 2 * padded(cells * (int64_t)sizeof(float)));
}

Activations activations_over(void *memory, const Weights *w, int64_t m, int kind) {
    Activations a = {.m = m, .k = w->k, .blocks = w->blocks, .kind = kind, .split = w->bits == INT4};
    if (kind == FLOATS) {
        a.values = memory;
    } else {
        const int64_t cells = m * w->blocks;
        a.q = memory;
        a.scale = (float *)(a.q + cells * kind * BLOCK);
        a.sum = a.scale + padded(cells * (int64_t)sizeof(float)) / sizeof(float);
    }
    return a;
}

int32_t pack_block(const Activations *a, const float *x, int64_t row, int64_t b) {
    float block[BLOCK];
    const int64_t at = b * a->m + row;
    float *values = a->kind == FLOATS ? a->values + at * BLOCK : block;
    const int32_t largest = load_block(x + b * BLOCK, a->k - b * BLOCK, a->split, values);
    if (a->kind != FLOATS) {
        const int finite = largest < INFINITE;
        if (!finite) memset(values, 0, sizeof block);
        a->sum[at] = quantise_block(values, finite ? largest : 0, a->kind, a->q + at * a->kind * BLOCK, a->scale + at);
    }
    return largest;
}

int32_t pack(const Activations *a, const float *x) {
    int32_t largest = 0;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < a->m * a->blocks; i++) {
        const int64_t row = i / a->blocks, b = i % a->blocks;
        const int32_t top = pack_block(a, x + row * a->k, row, b);
        largest = top > largest ? top : largest;
    }
    return largest;
}
