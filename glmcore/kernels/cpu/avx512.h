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

/* The nibbles of 64 bytes as 0 … 15, even columns before odd ones. */
#define OFFSET4 8
typedef struct {
    vi v[2];
} Block4;
static inline Block4 load4(const uint8_t *p) {
    const vi low = _mm512_set1_epi8(15), bytes = _mm512_xor_si512(vi_load(p), _mm512_set1_epi8((char)0x88));
    return (Block4){{_mm512_and_si512(_mm512_srli_epi16(bytes, 4), low), _mm512_and_si512(bytes, low)}};
}

#ifdef GLM_AVX512VNNI

#define ISA_NAME "avx512vnni"
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
static inline vi one_digit(const Block4 *w, const int8_t *q) {
    return dot_step(dot_step(vi_zero(), w->v[0], vi_load(q)), w->v[1], vi_load(q + 64));
}
/* A digit's sum is at most 8 · 255 · 128 < 2^18, so two of them fit together; a third one is added as a float. */
static inline vf dots(int kind, const Block4 *w, const int8_t *q) {
    const int8_t *last = q + (kind - 1) * 128;
    const vi low = vi_add(_mm512_slli_epi32(one_digit(w, last - 128), 8), one_digit(w, last));
    return kind == 2 ? vf_from(low) : vf_fma(vf_from(one_digit(w, q)), vf_set1(65536.f), vf_from(low));
}
static inline vf dots4(int kind, Block4 w, const int8_t *q) { return dots(kind, &w, q); }
static inline vf dots8(int kind, Block8 w, const int8_t *q) { return dots(kind, &w, q); }

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
/* As assembler: otherwise gcc 12 gathers the products of several steps first and spills sums to the stack. */
static inline vi dot_step(vi sum, vi w, vi x) {
    vi products;
    __asm__("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0" : "+v"(sum), "=&v"(products) : "v"(w), "v"(x));
    return sum;
}
static inline vi word_step(vi sum, vi w, vi x) {
    vi products;
    __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+v"(sum), "=&v"(products) : "v"(w), "v"(x));
    return sum;
}
#endif
static inline vi times(vi sums, int factor) { return _mm512_madd_epi16(sums, _mm512_set1_epi16((int16_t)factor)); }
static inline vi widen(vi sum) { return times(sum, 1); }

/* One digit: 16-bit sums of four columns. */
static inline vi one_digit(const Block4 *w, const int8_t *q) {
    return _mm512_add_epi16(dot_first(w->v[0], vi_load(q)), dot_first(w->v[1], vi_load(q + 64)));
}
/* All digits together in 32 bits: a sum has 8 columns, 8 · 15 · 8355711 (24 bits of activation) < 2^30. */
static inline vf dots4(int kind, Block4 w, const int8_t *q) {
    const int8_t *last = q + (kind - 1) * 128;
    vi sum = vi_add(times(one_digit(&w, last - 128), 256), times(one_digit(&w, last), 1));
    if (kind == 3) sum = vi_add(sum, _mm512_slli_epi32(times(one_digit(&w, q), 1), 16));
    return vf_from(sum);
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
static inline vi one_word(const Block8 *w, const int8_t *q) {
    vi sum = word_first(w->v[0], vi_load(q));
    for (int i = 1; i < 4; i++) sum = vi_add(sum, word_first(w->v[i], vi_load(q + 64 * i)));
    return sum;
}
static inline vf dots8(int kind, Block8 w, const int8_t *q) {
    const vf high = vf_from(one_word(&w, q));
    return kind == 2 ? high : vf_fma(high, vf_set1(256.f), vf_from(one_word(&w, q + 256)));
}

#endif

#define TILE 64
#define VECTORS 4
#define INT_ROWS 6
#define FLOAT_ROWS 6
#define AHEAD 1024
#define DECODE_ROWS4_FAST 4
#define DECODE_ROWS4_EXACT 4
#define DECODE_ROWS8 4
