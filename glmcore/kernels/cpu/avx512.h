/* AVX-512 F, BW, VL, with or without VNNI. */
#ifdef GLM_EMULATED /* the tests run this on CPUs without the instructions */
#include "emulate.h"
#else
#include <immintrin.h>
#endif

#define LANES 16
typedef __m512 vf;
typedef __m512i vi;

static inline vf vf_zero(void) { return _mm512_setzero_ps(); }
static inline vf vf_set1(float x) { return _mm512_set1_ps(x); }
static inline vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vf_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf vf_from(vi v) { return _mm512_cvtepi32_ps(v); }
static inline float vf_sum(vf v) { return _mm512_reduce_add_ps(v); }
static inline vf vf_from_half(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p)); }
static inline vf vf_from_brain(const uint16_t *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p)), 16));
}
static inline vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
static inline vi vi_zero(void) { return _mm512_setzero_si512(); }
static inline vi vi_set1(int32_t x) { return _mm512_set1_epi32(x); }
static inline vi shift_digit(vi v) { return _mm512_slli_epi32(v, 8); }
static inline vi vi_load(const void *p) { return _mm512_loadu_si512(p); }
static inline vi vi_set4(const int8_t *p) {
    int32_t word;
    memcpy(&word, p, 4);
    return _mm512_set1_epi32(word);
}

/* 16 x 16 words: row i of the result is t[i]. */
static inline __attribute__((always_inline)) void transposed(const uint8_t *p, int64_t stride, vi *t) {
    vi r[16];
    for (int i = 0; i < 16; i++) r[i] = vi_load(p + i * stride);
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        t[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
        t[i] = r[i];
    }
}
static inline void transpose(const uint8_t *p, int64_t stride, uint32_t *out, int64_t step) {
    vi t[16];
    transposed(p, stride, t);
    for (int i = 0; i < 16; i++) _mm512_store_si512(out + i * step, t[i]);
}

#ifdef GLM_BF16
#define BRAIN_PAIRS
static inline vf pair_step(vf sum, vi a, vi b) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }
static inline void store_brains(uint16_t *p, vf v) {
    _mm256_storeu_si256((void *)p, (__m256i)_mm512_cvtneps_pbh(v));
}
static inline void interleave(const uint16_t *even, const uint16_t *odd, uint32_t *out) {
    vi first = _mm512_set1_epi32(0x00200000), second;
    int32_t words[LANES];
    for (int i = 0; i < LANES; i++) words[i] = 0x00010001 * i;
    first = vi_add(first, vi_load(words)), second = vi_add(first, _mm512_set1_epi16(LANES));
    _mm512_store_si512(out, _mm512_permutex2var_epi16(vi_load(even), first, vi_load(odd)));
    _mm512_store_si512(out + LANES, _mm512_permutex2var_epi16(vi_load(even), second, vi_load(odd)));
}
#endif

/* Four sums as floats: halves are added first, since 256 bits take half the time where 512 are done in two goes. */
typedef __m128 quad;
static inline quad quad_zero(void) { return _mm_setzero_ps(); }
static inline quad quad_fma(quad a, float by, quad c) { return _mm_fmadd_ps(a, _mm_set1_ps(by), c); }
static inline void quad_store(float *p, quad v) { _mm_storeu_ps(p, v); }
static inline quad quad_of(const vi *v, int32_t start) {
    __m256i h[4];
    for (int i = 0; i < 4; i++)
        h[i] = _mm256_add_epi32(_mm512_castsi512_si256(v[i]), _mm512_extracti64x4_epi64(v[i], 1));
    const __m256i ab = _mm256_add_epi32(_mm256_unpacklo_epi32(h[0], h[1]), _mm256_unpackhi_epi32(h[0], h[1]));
    const __m256i cd = _mm256_add_epi32(_mm256_unpacklo_epi32(h[2], h[3]), _mm256_unpackhi_epi32(h[2], h[3]));
    const __m256i all = _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
    const __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    return _mm_cvtepi32_ps(_mm_add_epi32(sums, _mm_set1_epi32(start)));
}

/* The high and the low nibbles of bytes as value + 8: (bits & 15) ^ 8. */
static inline vi high_nibbles(vi bytes) {
    return _mm512_ternarylogic_epi32(_mm512_srli_epi16(bytes, 4), _mm512_set1_epi8(15), _mm512_set1_epi8(8), 0x6a);
}
static inline vi low_nibbles(vi bytes) {
    return _mm512_ternarylogic_epi32(bytes, _mm512_set1_epi8(15), _mm512_set1_epi8(8), 0x6a);
}

/* The nibbles of 64 bytes as 0 … 15, even columns before odd ones. */
/* transpose with its nibbles parted: those of even columns at `out`, those of odd ones `odd` words on. */
#define TRANSPOSE4
static inline void transpose4(const uint8_t *p, int64_t stride, uint32_t *out, int64_t step, int64_t odd) {
    vi t[16];
    transposed(p, stride, t);
    for (int i = 0; i < 16; i++) {
        _mm512_store_si512(out + i * step, high_nibbles(t[i]));
        _mm512_store_si512(out + odd + i * step, low_nibbles(t[i]));
    }
}

#define OFFSET4 8
typedef struct {
    vi v[2];
} Block4;
static inline Block4 load4(const uint8_t *p) {
    const vi bytes = vi_load(p);
    return (Block4){{high_nibbles(bytes), low_nibbles(bytes)}};
}

#ifdef GLM_AVX512VNNI

#ifdef GLM_BF16
#define ISA_NAME "avx512bf16"
#else
#define ISA_NAME "avx512vnni"
#endif
#define WORDS8 0
#define FLUSH 32
/* As assembler: gcc 12 keeps most accumulators of _mm512_dpbusd_epi32 on the stack, three times slower. */
static inline vi dot_step(vi sum, vi w, vi x) {
#ifdef GLM_EMULATED
    return _mm512_dpbusd_epi32(sum, w, x);
#else
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
#endif
}
static inline vi dot_first(vi w, vi x) { return dot_step(vi_zero(), w, x); }
static inline vi widen(vi sum) { return sum; }

/* 64 columns in each of two vectors; int8 as value + 128. */
#define OFFSET8 128
typedef Block4 Block8;
static inline Block8 load8(const uint8_t *p) {
    const vi flip = _mm512_set1_epi8((char)0x80);
    return (Block8){{_mm512_xor_si512(vi_load(p), flip), _mm512_xor_si512(vi_load(p + 64), flip)}};
}
static inline vi add_digit(vi sum, const Block4 *w, const int8_t *q) {
    return dot_step(dot_step(sum, w->v[0], vi_load(q)), w->v[1], vi_load(q + 64));
}
/* A digit's sum is at most 8 · 255 · 128 < 2^18, so two of them fit together. */
static inline vi part4(int digits, const Block4 *w, const int8_t *q) {
    const vi sum = add_digit(vi_zero(), w, q);
    return digits == 1 ? sum : add_digit(shift_digit(sum), w, q + 128);
}
static inline vi part8(int digits, const Block8 *w, const int8_t *q) { return part4(digits, w, q); }

/* Several activation rows: a block of four matrix rows with a lane of 128 bits for each, so that what remains to be summed
 * up lies within lanes, and sixteen sums are gathered at once.  v[j] holds columns 16 j … 16 j + 15 as they are packed. */
#define LANE_ROWS 16 /* at most */
typedef struct {
    vi v[8];
} Lanes;
static inline __attribute__((always_inline)) void into_lanes(const vi *row, vi *out) {
    const vi a = _mm512_shuffle_i32x4(row[0], row[1], 0x44), b = _mm512_shuffle_i32x4(row[0], row[1], 0xee);
    const vi c = _mm512_shuffle_i32x4(row[2], row[3], 0x44), d = _mm512_shuffle_i32x4(row[2], row[3], 0xee);
    out[0] = _mm512_shuffle_i32x4(a, c, 0x88), out[1] = _mm512_shuffle_i32x4(a, c, 0xdd);
    out[2] = _mm512_shuffle_i32x4(b, d, 0x88), out[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}
static inline __attribute__((always_inline)) Lanes lanes4(const uint8_t *p, int64_t stride) {
    vi row[4], bytes[4];
    Lanes w;
    for (int r = 0; r < 4; r++) row[r] = vi_load(p + r * stride);
    into_lanes(row, bytes);
    for (int j = 0; j < 4; j++) w.v[j] = high_nibbles(bytes[j]), w.v[4 + j] = low_nibbles(bytes[j]);
    return w;
}
static inline __attribute__((always_inline)) Lanes lanes8(const uint8_t *p, int64_t stride) {
    const vi flip = _mm512_set1_epi8((char)0x80);
    vi row[4];
    Lanes w;
    for (int half = 0; half < 2; half++) {
        for (int r = 0; r < 4; r++) row[r] = _mm512_xor_si512(vi_load(p + r * stride + 64 * half), flip);
        into_lanes(row, w.v + 4 * half);
    }
    return w;
}
/* Twice four matrix rows times up to four activation rows that lie `next` bytes apart. */
static inline __attribute__((always_inline)) void part_of_lanes(int digits, int group, const Lanes *w, const int8_t *q,
                                                                int64_t next, vi (*sums)[4]) {
    for (int g = 0; g < 4; g++) sums[0][g] = sums[1][g] = vi_zero();
#pragma GCC unroll 2
    for (int d = 0; d < digits; d++, q += 128) {
        for (int g = 0; g < (d > 0 ? group : 0); g++)
            sums[0][g] = shift_digit(sums[0][g]), sums[1][g] = shift_digit(sums[1][g]);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++)
#pragma GCC unroll 4
            for (int g = 0; g < group; g++) {
                const vi x = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)(q + g * next + 16 * j)));
                sums[0][g] = dot_step(sums[0][g], w[0].v[j], x);
                sums[1][g] = dot_step(sums[1][g], w[1].v[j], x);
            }
    }
}
/* total[matrix row][activation row] += (the sums of up to four activation rows + start) * scale */
static inline __attribute__((always_inline)) vf add_lanes(const vi *sums, int group, const int32_t *start, const float *scale, vf total) {
    const vi ab = vi_add(_mm512_unpacklo_epi32(sums[0], sums[1]), _mm512_unpackhi_epi32(sums[0], sums[1]));
    const vi cd = vi_add(_mm512_unpacklo_epi32(sums[2], sums[3]), _mm512_unpackhi_epi32(sums[2], sums[3]));
    const vi all = vi_add(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    const __mmask8 some = (__mmask8)((1 << group) - 1);
    const vi starts = _mm512_broadcast_i32x4(_mm_maskz_loadu_epi32(some, start));
    const vf scales = _mm512_broadcast_f32x4(_mm_maskz_loadu_ps(some, scale));
    return vf_fma(vf_from(vi_add(all, starts)), scales, total);
}
#define UNPACKED 4
#define THREE_DIGITS 1
#define FEW4 {0, 16, 16, 16}
#define FEW8 {0, 16, 16, 16}

#else

#define ISA_NAME "avx512"
#define WORDS8 1
#define FLUSH 8 /* 8 · 2 · 15 · 128 still fits 16 bits, 9 would not */
static inline vi dot_first(vi w, vi x) { return _mm512_maddubs_epi16(w, x); }
static inline vi word_first(vi w, vi x) { return _mm512_madd_epi16(w, x); }
#ifdef GLM_EMULATED
static inline vi dot_step(vi sum, vi w, vi x) { return _mm512_add_epi16(sum, dot_first(w, x)); }
static inline vi word_step(vi sum, vi w, vi x) { return vi_add(sum, word_first(w, x)); }
#else
/* As assembler: otherwise gcc 12 gathers the products of several steps first and spills sums to the stack; in one register,
 * lest it move sums about. */
static inline vi dot_step(vi sum, vi w, vi x) {
    __asm__("vpmaddubsw %2, %1, %%zmm31\n\tvpaddw %%zmm31, %0, %0" : "+v"(sum) : "v"(w), "v"(x) : "xmm31");
    return sum;
}
static inline vi word_step(vi sum, vi w, vi x) {
    __asm__("vpmaddwd %2, %1, %%zmm31\n\tvpaddd %%zmm31, %0, %0" : "+v"(sum) : "v"(w), "v"(x) : "xmm31");
    return sum;
}
#endif
static inline vi times(vi sums, int factor) { return _mm512_madd_epi16(sums, _mm512_set1_epi16((int16_t)factor)); }
static inline vi widen(vi sum) { return times(sum, 1); }

/* One digit: 16-bit sums of four columns. */
static inline vi one_digit(const Block4 *w, const int8_t *q) {
    return _mm512_add_epi16(dot_first(w->v[0], vi_load(q)), dot_first(w->v[1], vi_load(q + 64)));
}
static inline vi part4(int digits, const Block4 *w, const int8_t *q) {
    if (digits == 1) return widen(one_digit(w, q));
    return vi_add(times(one_digit(w, q), 256), widen(one_digit(w, q + 128)));
}

/* int8 weights as 16 bits, 32 columns in each vector. */
#define OFFSET8 0
typedef struct {
    vi v[4];
} Block8;
static inline Block8 load8(const uint8_t *p) {
    Block8 w;
    for (int i = 0; i < 4; i++) w.v[i] = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const void *)(p + 32 * i)));
    return w;
}
/* A sum has 8 columns: 8 · 128 · 32767 < 2^25. */
static inline vi part8(int digits, const Block8 *w, const int8_t *q) {
    vi sum = word_first(w->v[0], vi_load(q));
    (void)digits;
    for (int i = 1; i < 4; i++) sum = word_step(sum, w->v[i], vi_load(q + 64 * i));
    return sum;
}
#define UNPACKED 4
#define THREE_DIGITS 0
#define FEW4 {0, 4, 4, 4}
#define FEW8 {0, 4, 4, 4}

#endif

#define TILE 64
#define VECTORS 4
#define INT_ROWS 6
#define FLOAT_ROWS 6
#define AHEAD 1024
