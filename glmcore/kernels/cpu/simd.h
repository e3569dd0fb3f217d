/* One instruction set, chosen by the builder with -DGLM_<NAME>; each header defines the same few operations.
 *
 *   LANES, vf, vi           floats in a vector; vectors of floats and of integer sums
 *   vf_sum, vf_sum4         the sum of a vector's floats, or of each of four vectors
 *   vf_from_half, vf_from_brain   LANES numbers of float16 or bfloat16
 *   transpose               LANES x LANES words: out[column * step + row] = the word at p + row * stride + 4 * column
 *   transpose4              where defined, the same for int4, with the nibbles parted
 *   load4, load8            one block of weights of one matrix row, unpacked to value + OFFSET4 or OFFSET8
 *   part4, part8            such a block times 128 activations of one or two digits, as partial sums in int32; WORDS8:
 *                           int8 weights are multiplied by activations in 16-bit words instead of 8-bit digits
 *   lanes4, lanes8, part_of_lanes, add_lanes   with LANE_ROWS, the most activation rows: four matrix rows in a lane each
 *   UNPACKED                how many unpacked blocks registers hold beside what they are multiplied by
 *   quad, quad_*            four floats; quad_of: what four vectors of partial sums sum up to, and a number
 *   dot_first, dot_step, widen   prefill: four columns' products, alone or added to a sum; at most FLUSH of them before
 *                           widen makes LANES int32 of it; with FLUSH < 32 weights must be 0 … 15, otherwise any byte
 *   matrix_step, unpair     with MATRIX_STEP: eight columns' products of two activation rows at once
 *   word_first, word_step   the same with two columns of 16 bits and int32 sums, with WORDS8 only
 *   shift_digit             prefill: sums times 256, for the next digit
 *   TILE, VECTORS, INT_ROWS, FLOAT_ROWS   prefill: tile width and the registers' share
 *   THREE_DIGITS            whether 24 bits are multiplied faster as digits than as floats
 *   pair_step, store_brains, interleave   with BRAIN_PAIRS: words of two bfloat16 multiplied, LANES floats rounded to them,
 *                           2 * LANES columns of two rows side by side in words
 *   AHEAD                   floats: bytes to prefetch ahead in each stream
 *   FEW4, FEW8              by kind, up to how many activation rows decoding beats unpacking a tile
 */
#ifndef GLM_SIMD_H
#define GLM_SIMD_H
#include <stdint.h>
#include <string.h>

#ifdef GLM_NEON
#define TILE_OFFSET8 0 /* prefill: int8 weights are multiplied as value + offset, or as words */
#else
#define TILE_OFFSET8 128
#endif

/* Asks for the bytes that lie `ahead` of p; an address beyond the weights does no harm. */
static inline void prefetch(const uint8_t *p, int64_t ahead, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch((const void *)((uintptr_t)p + (uintptr_t)(ahead + i)));
}

static inline float half_to_float(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
    uint32_t bits = sign | (exponent + 112) << 23 | fraction << 13;
    float value;
    if (exponent == 0) return (sign ? -1.f : 1.f) * (float)fraction * 5.9604645e-8f; /* subnormal: steps of 2^-24 */
    if (exponent == 31) bits = sign | 0x7f800000u | fraction << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float brain_to_float(uint16_t brain) {
    const uint32_t bits = (uint32_t)brain << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The nearest one, of two the even one. */
static inline uint16_t float_to_brain(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? bits >> 16 | 64 : rounded); /* a NaN stays one */
}

#if defined(GLM_AVX512VNNI) || defined(GLM_AVX512)
#include "avx512.h"
#elif defined(GLM_AVXVNNI) || defined(GLM_AVX2)
#include "avx2.h"
#elif defined(GLM_NEON)
#include "neon.h"
#else
#include "plain.h"
#endif

#ifndef QUAD_OF4 /* quad_of of what part4 gives */
static inline quad quad_of4(int digits, const vi *v, int32_t start) { return (void)digits, quad_of(v, start); }
#endif
static inline quad quad_of8(int digits, const vi *v, int32_t start) { return (void)digits, quad_of(v, start); }

#ifndef VF_SUM4 /* the sums of four vectors, where an instruction set knows no shorter way */
static inline void vf_sum4(const vf *v, float *out) {
    for (int i = 0; i < 4; i++) out[i] = vf_sum(v[i]);
}
#endif
#endif
