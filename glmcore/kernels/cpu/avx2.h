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
static inline vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
static inline vi vi_zero(void) { return _mm256_setzero_si256(); }
static inline vi vi_set1(int32_t x) { return _mm256_set1_epi32(x); }
static inline vi shift_digit(vi v) { return _mm256_slli_epi32(v, 8); }
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

typedef __m128 quad;
static inline quad quad_zero(void) { return _mm_setzero_ps(); }
static inline quad quad_fma(quad a, float by, quad c) { return _mm_fmadd_ps(a, _mm_set1_ps(by), c); }
static inline void quad_store(float *p, quad v) { _mm_storeu_ps(p, v); }
static inline quad quad_of_sums(vi all, int32_t start) {
    float same; /* the bits: gcc broadcasts a float of memory in one instruction, an integer in two */
    memcpy(&same, &start, sizeof same);
    const __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    return _mm_cvtepi32_ps(_mm_add_epi32(sums, _mm_castps_si128(_mm_set1_ps(same))));
}
static inline quad quad_of(const vi *v, int32_t start) {
    return quad_of_sums(_mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3])), start);
}

/* The nibbles of 64 bytes as 0 … 15, even columns before odd ones. */
#define OFFSET4 8
typedef struct {
    vi v[4];
} Block4;
static inline Block4 load4(const uint8_t *p) {
    const vi low = _mm256_set1_epi8(15), flip = _mm256_set1_epi8((char)0x88);
    const vi a = _mm256_xor_si256(vi_load(p), flip), b = _mm256_xor_si256(vi_load(p + 32), flip);
    return (Block4){{_mm256_and_si256(_mm256_srli_epi16(a, 4), low), _mm256_and_si256(_mm256_srli_epi16(b, 4), low),
                     _mm256_and_si256(a, low), _mm256_and_si256(b, low)}};
}

#ifdef GLM_AVXVNNI

#define ISA_NAME "avxvnni"
#define WORDS8 0
#define FLUSH 32
static inline vi dot_step(vi sum, vi w, vi x) {
#ifdef GLM_EMULATED
    return _mm256_dpbusd_epi32(sum, w, x);
#else
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(w), "x"(x)); /* as in avx512.h */
    return sum;
#endif
}
static inline vi dot_first(vi w, vi x) { return dot_step(vi_zero(), w, x); }
static inline vi widen(vi sum) { return sum; }

/* 32 columns in each of four vectors; int8 as value + 128. */
#define OFFSET8 128
typedef Block4 Block8;
static inline Block8 load8(const uint8_t *p) {
    const vi flip = _mm256_set1_epi8((char)0x80);
    Block8 w;
    for (int i = 0; i < 4; i++) w.v[i] = _mm256_xor_si256(vi_load(p + 32 * i), flip);
    return w;
}
static inline vi add_digit(vi sum, const Block4 *w, const int8_t *q) {
    for (int i = 0; i < 4; i++) sum = dot_step(sum, w->v[i], vi_load(q + 32 * i));
    return sum;
}
/* A digit's sum is below 16 · 255 · 128 = 2^19, so two of them still fit together. */
static inline vi part4(int digits, const Block4 *w, const int8_t *q) {
    const vi sum = add_digit(vi_zero(), w, q);
    return digits == 1 ? sum : add_digit(shift_digit(sum), w, q + 128);
}
static inline vi part8(int digits, const Block8 *w, const int8_t *q) { return part4(digits, w, q); }
#define THREE_DIGITS 1

#else

#define ISA_NAME "avx2"
#define WORDS8 1
#define FLUSH 8 /* 8 · 2 · 15 · 128 still fits 16 bits, 9 would not */
/* As assembler: otherwise gcc 12 gathers the products of several steps first and spills sums to the stack.  With a register
 * of its own choice for the products it would move sums about in every step. */
static inline vi dot_step(vi sum, vi w, vi x) {
#ifdef GLM_EMULATED
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, x));
#else
    __asm__("vpmaddubsw %2, %1, %%ymm15\n\tvpaddw %%ymm15, %0, %0" : "+x"(sum) : "x"(w), "x"(x) : "xmm15");
    return sum;
#endif
}
static inline vi dot_first(vi w, vi x) { return _mm256_maddubs_epi16(w, x); }
static inline vi times(vi sums, int factor) { return _mm256_madd_epi16(sums, _mm256_set1_epi16((int16_t)factor)); }
static inline vi widen(vi sum) { return times(sum, 1); }
static inline vi word_first(vi w, vi x) { return _mm256_madd_epi16(w, x); }
static inline vi word_step(vi sum, vi w, vi x) {
#ifdef GLM_EMULATED
    return _mm256_add_epi32(sum, _mm256_madd_epi16(w, x));
#else
    __asm__("vpmaddwd %2, %1, %%ymm15\n\tvpaddd %%ymm15, %0, %0" : "+x"(sum) : "x"(w), "x"(x) : "xmm15");
    return sum;
#endif
}

/* The same for decoding, with activations that lie in memory. */
#ifdef GLM_EMULATED
static inline vi dot_at(vi sum, vi w, const void *x) { return dot_step(sum, w, vi_load(x)); }
static inline vi word_at(vi sum, vi w, const void *x) { return word_step(sum, w, vi_load(x)); }
#else
static inline vi dot_at(vi sum, vi w, const void *x) {
    __asm__("vpmaddubsw %2, %1, %%ymm15\n\tvpaddw %%ymm15, %0, %0" : "+x"(sum)
            : "x"(w), "m"(*(const __m256i_u *)x) : "xmm15");
    return sum;
}
static inline vi word_at(vi sum, vi w, const void *x) {
    __asm__("vpmaddwd %2, %1, %%ymm15\n\tvpaddd %%ymm15, %0, %0" : "+x"(sum)
            : "x"(w), "m"(*(const __m256i_u *)x) : "xmm15");
    return sum;
}
#endif

/* One digit: 16-bit sums of eight columns, at most 8 · 15 · 128 = 15360. */
static inline vi one_digit(const Block4 *w, const int8_t *q) {
    vi sum = dot_first(w->v[0], vi_load(q));
    for (int i = 1; i < 4; i++) sum = dot_at(sum, w->v[i], q + 32 * i);
    return sum;
}
/* One digit's stay in 16 bits until those of two rows are joined: at most 2 · 15360 then. */
static inline vi part4(int digits, const Block4 *w, const int8_t *q) {
    if (digits == 1) return one_digit(w, q);
    return vi_add(times(one_digit(w, q), 256), widen(one_digit(w, q + 128)));
}
#define QUAD_OF4
static inline quad quad_of4(int digits, const vi *v, int32_t start) {
    if (digits == 2) return quad_of(v, start);
    const vi low = widen(_mm256_hadd_epi16(v[0], v[1])), high = widen(_mm256_hadd_epi16(v[2], v[3]));
    return quad_of_sums(_mm256_hadd_epi32(low, high), start);
}

/* int8 weights as 16 bits, 16 columns in each vector. */
#define OFFSET8 0
typedef struct {
    vi v[8];
} Block8;
static inline Block8 load8(const uint8_t *p) {
    Block8 w;
    for (int i = 0; i < 8; i++) w.v[i] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)(p + 16 * i)));
    return w;
}
/* A sum has 16 columns: 16 · 128 · 32767 < 2^26. */
static inline vi part8(int digits, const Block8 *w, const int8_t *q) {
    vi sum = _mm256_madd_epi16(w->v[0], vi_load(q));
    (void)digits;
    for (int i = 1; i < 8; i++) sum = word_at(sum, w->v[i], q + 32 * i);
    return sum;
}
#define THREE_DIGITS 0

#endif

#define TILE 32
#define VECTORS 2
#define INT_ROWS 4
#define FLOAT_ROWS 6
#define AHEAD 256 /* best of 0 … 1024 on Zen 3, by a fifth with int8 */
#define UNPACKED 1
#define BROAD 1
#define NEAR 256 /* bytes, as AHEAD */
#define MOST_BYTES 65536
#define LEAST_BYTES 65536
#define FEW4 {0, 16, 16, 16}
#define FEW8 {0, 16, 16, 16}
