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
static inline vi vi_zero(void) { return _mm512_setzero_si512(); }
static inline vi vi_load(const void *p) { return _mm512_loadu_si512(p); }
static inline vi vi_set4(const int8_t *p) {
    int32_t word;
    memcpy(&word, p, 4);
    return _mm512_set1_epi32(word);
}

/* 16 x 16 words. */
static inline void transpose(const uint8_t *p, int64_t stride, uint32_t *out, int64_t step) {
    vi r[16], t[16];
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
        _mm512_store_si512(out + i * step, _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88));
        _mm512_store_si512(out + (8 + i) * step, _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd));
    }
}

#ifdef GLM_AVX512VNNI

#define ISA_NAME "avx512vnni"
#define FLUSH 32
#define NIBBLES_ONLY 0
/* As assembler: gcc 12 keeps most accumulators of _mm512_dpbusd_epi32 on the stack, three times slower. */
static inline vi dot_step(vi sum, vi w, vi x) {
#ifdef GLM_EMULATED
    return _mm512_dpbusd_epi32(sum, w, x);
#else
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
#endif
}
static inline vi widen(vi sum) { return sum; }
#define OFFSET8 128
static inline vi dot8(const uint8_t *p, const int8_t *q) {
    const vi flip = _mm512_set1_epi8((char)0x80);
    vi sum = dot_step(vi_zero(), _mm512_xor_si512(vi_load(p), flip), vi_load(q));
    return dot_step(sum, _mm512_xor_si512(vi_load(p + 64), flip), vi_load(q + 64));
}

#else

#define ISA_NAME "avx512"
#define FLUSH 8 /* 8 · 2 · 15 · 127 still fits 16 bits, 9 would not */
#define NIBBLES_ONLY 1
/* As assembler: otherwise gcc 12 gathers the products of several steps first and spills sums to the stack. */
static inline vi dot_step(vi sum, vi w, vi x) {
#ifdef GLM_EMULATED
    return _mm512_add_epi16(sum, _mm512_maddubs_epi16(w, x));
#else
    vi products;
    __asm__("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0" : "+v"(sum), "=&v"(products) : "v"(w), "v"(x));
    return sum;
#endif
}
static inline vi widen(vi sum) { return _mm512_madd_epi16(sum, _mm512_set1_epi16(1)); }
#define OFFSET8 0
/* 16-bit products: there is no sign operation at this width. */
static inline vi dot8(const uint8_t *p, const int8_t *q) {
    vi sum = vi_zero();
    for (int i = 0; i < 128; i += 32) {
        vi w = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const void *)(p + i)));
        vi x = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const void *)(q + i)));
        sum = _mm512_add_epi32(sum, _mm512_madd_epi16(w, x));
    }
    return sum;
}

#endif

#define OFFSET4 8
static inline vi dot4(const uint8_t *p, const int8_t *q) {
    const vi low = _mm512_set1_epi8(15);
    vi bytes = _mm512_xor_si512(vi_load(p), _mm512_set1_epi8((char)0x88));
    vi sum = dot_step(vi_zero(), _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low), vi_load(q));
    return widen(dot_step(sum, _mm512_and_si512(bytes, low), vi_load(q + 64)));
}

#define TILE 64
#define VECTORS 4
#define INT_ROWS 6
#define FLOAT_ROWS 6
#define DECODE_ROWS_FAST4 3
#define DECODE_ROWS_FAST8 3
#define DECODE_ROWS_EXACT 3
