/* AVX2 with FMA and F16C, and AVX-VNNI on top of it. */
#ifdef GLM_EMULATED /* the tests run this on CPUs without the instructions */
#include "emulate.h"
#else
#include <immintrin.h>
#endif

#define LANES 8
typedef __m256 vf;
typedef __m256i vi;

static inline vf vf_zero(void) { return _mm256_setzero_ps(); }
static inline vf vf_set1(float x) { return _mm256_set1_ps(x); }
static inline vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vf_store(float *p, vf v) { _mm256_storeu_ps(p, v); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf vf_from(vi v) { return _mm256_cvtepi32_ps(v); }
static inline float vf_sum(vf v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
#define VF_SUM4
static inline void vf_sum4(const vf *v, float *out) {
    const __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
}
static inline vf vf_from_half(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p)); }
static inline vf vf_from_brain(const uint16_t *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p)), 16));
}
static inline vi vi_zero(void) { return _mm256_setzero_si256(); }
static inline vi vi_load(const void *p) { return _mm256_loadu_si256(p); }
static inline vi vi_set4(const int8_t *p) {
    int32_t word;
    memcpy(&word, p, 4);
    return _mm256_set1_epi32(word);
}

/* 8 x 8 words. */
static inline void transpose(const uint8_t *p, int64_t stride, uint32_t *out, int64_t step) {
    __m256 r[8], t[8];
    for (int i = 0; i < 8; i++) r[i] = _mm256_castsi256_ps(vi_load(p + i * stride));
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        _mm256_store_ps((float *)(out + i * step), _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_store_ps((float *)(out + (i + 4) * step), _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
}

/* The nibbles of 32 bytes as 0 … 15: even columns, odd columns. */
static inline vi even(vi bytes) { return _mm256_and_si256(_mm256_srli_epi16(bytes, 4), _mm256_set1_epi8(15)); }
static inline vi odd(vi bytes) { return _mm256_and_si256(bytes, _mm256_set1_epi8(15)); }
static inline vi nibbles(const uint8_t *p) { return _mm256_xor_si256(vi_load(p), _mm256_set1_epi8((char)0x88)); }

#ifdef GLM_AVXVNNI

#define ISA_NAME "avxvnni"
#define OFFSET8 128
#define FLUSH 32
#define NIBBLES_ONLY 0
static inline vi dot_step(vi sum, vi w, vi x) {
#ifdef GLM_EMULATED
    return _mm256_dpbusd_epi32(sum, w, x);
#else
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(w), "x"(x)); /* as in avx512.h */
    return sum;
#endif
}
static inline vi widen(vi sum) { return sum; }
static inline vi dot8(const uint8_t *p, const int8_t *q) {
    vi sum = vi_zero();
    for (int i = 0; i < 128; i += 32)
        sum = dot_step(sum, _mm256_xor_si256(vi_load(p + i), _mm256_set1_epi8((char)0x80)), vi_load(q + i));
    return sum;
}

#else

#define ISA_NAME "avx2"
#define OFFSET8 0
#define FLUSH 8 /* 8 · 2 · 15 · 127 still fits 16 bits, 9 would not */
#define NIBBLES_ONLY 1
/* As assembler: otherwise gcc 12 gathers the products of several steps first and spills sums to the stack. */
static inline vi dot_step(vi sum, vi w, vi x) {
#ifdef GLM_EMULATED
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, x));
#else
    vi products;
    __asm__("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0" : "+x"(sum), "=&x"(products) : "x"(w), "x"(x));
    return sum;
#endif
}
static inline vi widen(vi sum) { return _mm256_madd_epi16(sum, _mm256_set1_epi16(1)); }
/* |w| · sign(w) x: 2 · 128 · 127 fits 16 bits, also for w = -128. */
static inline vi dot8(const uint8_t *p, const int8_t *q) {
    vi sum = vi_zero();
    for (int i = 0; i < 128; i += 32) {
        vi w = vi_load(p + i), x = vi_load(q + i);
        sum = _mm256_add_epi32(sum, widen(_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))));
    }
    return sum;
}

#endif

#define OFFSET4 8
static inline vi dot4(const uint8_t *p, const int8_t *q) {
    vi a = nibbles(p), b = nibbles(p + 32);
#ifdef GLM_AVXVNNI
    vi sum = dot_step(dot_step(vi_zero(), even(a), vi_load(q)), even(b), vi_load(q + 32));
    return dot_step(dot_step(sum, odd(a), vi_load(q + 64)), odd(b), vi_load(q + 96));
#else
    vi first = _mm256_maddubs_epi16(even(a), vi_load(q)), second = _mm256_maddubs_epi16(even(b), vi_load(q + 32));
    vi third = _mm256_maddubs_epi16(odd(a), vi_load(q + 64)), fourth = _mm256_maddubs_epi16(odd(b), vi_load(q + 96));
    return widen(_mm256_add_epi16(_mm256_add_epi16(first, second), _mm256_add_epi16(third, fourth)));
#endif
}

#define TILE 32
#define VECTORS 2
#define INT_ROWS 4
#define FLOAT_ROWS 6
#define DECODE_ROWS_FAST4 7
#ifdef GLM_AVXVNNI
#define DECODE_ROWS_FAST8 7
#else
#define DECODE_ROWS_FAST8 40 /* prefill needs two passes for int8 */
#endif
#define DECODE_ROWS_EXACT 3
