/* Bringing activations into the layout that the kernels read, and refusing NaN and infinity on the way. */
#include <math.h>
#include <stdlib.h>

#include "glm.h"

#define SMALLEST 1e-35f      /* a block below this is zero: 127 / max would overflow */

static void *aligned(size_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64); }

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

static int32_t pack_row(const float *x, const Weights *w, int64_t row, int kind, Activations *a) {
    float block[BLOCK], sum = 0.f;
    int32_t largest = 0;
    for (int64_t b = 0; b < w->blocks; b++) {
        int64_t at = b * a->m + row;
        float *values = kind == FLOATS ? a->values + at * BLOCK : block;
        int32_t top = load_block(x + b * BLOCK, w->k - b * BLOCK, w->bits == 4, values);
        largest = top > largest ? top : largest;
        if (kind != FLOATS && top < INFINITE)
            sum += quantise_block(values, top, kind, a->q + at * kind * BLOCK, a->scale + at);
    }
    if (kind != FLOATS) a->sum[row] = sum;
    return largest;
}

int pack_activations(const float *x, const Weights *w, int64_t m, int kind, int threads, Activations *a) {
    size_t cells = (size_t)(m * w->blocks);
    *a = (Activations){.m = m};
    if (m == 0) return GLM_OK;
    if (kind == FLOATS) {
        a->values = aligned(cells * BLOCK * sizeof(float));
        if (!a->values) return GLM_NO_MEMORY;
    } else {
        a->q = aligned(cells * (size_t)kind * BLOCK);
        a->scale = aligned(cells * sizeof(float));
        a->sum = aligned((size_t)m * sizeof(float));
        if (!a->q || !a->scale || !a->sum) return GLM_NO_MEMORY;
    }
    int32_t largest = 0;
#pragma omp parallel for num_threads(threads) reduction(max : largest) if (m > 4)
    for (int64_t row = 0; row < m; row++) {
        int32_t top = pack_row(x + row * w->k, w, row, kind, a);
        largest = top > largest ? top : largest;
    }
    return largest < INFINITE ? GLM_OK : GLM_NOT_FINITE;
}

void free_activations(Activations *a) {
    free(a->q);
    free(a->scale);
    free(a->sum);
    free(a->values);
}
