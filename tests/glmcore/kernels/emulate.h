/* The intrinsics of missing instruction sets in plain C, by SIMDe; what its release 0.7.4 lacks or has wrong is added. */
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

#undef _mm512_madd_epi16
#define _mm512_madd_epi16 emulated_madd_epi16
static inline simde__m512i emulated_madd_epi16(simde__m512i a, simde__m512i b) {
    int16_t x[32], y[32];
    int32_t out[16];
    memcpy(x, &a, 64), memcpy(y, &b, 64);
    for (int i = 0; i < 16; i++) out[i] = x[2 * i] * y[2 * i] + x[2 * i + 1] * y[2 * i + 1];
    return simde_mm512_loadu_si512(out);
}

/* Called: SIMDe's own is copied to wherever it is used, and gcc took 38 s for what it compiles so in 9. */
#define CALLED static __attribute__((noinline, unused))

static void add_products(int32_t *sums, const void *a, const void *b, int count) {
    const uint8_t *x = a;
    const int8_t *y = b;
    for (int i = 0; i < count; i++) sums[i / 4] += x[i] * y[i];
}

#undef _mm512_dpbusd_epi32
#define _mm512_dpbusd_epi32 emulated_dpbusd_512
CALLED simde__m512i emulated_dpbusd_512(simde__m512i sum, simde__m512i a, simde__m512i b) {
    int32_t out[16];
    memcpy(out, &sum, 64);
    add_products(out, &a, &b, 64);
    return simde_mm512_loadu_si512(out);
}

#undef _mm256_dpbusd_epi32
#define _mm256_dpbusd_epi32 emulated_dpbusd_256
CALLED simde__m256i emulated_dpbusd_256(simde__m256i sum, simde__m256i a, simde__m256i b) {
    int32_t out[8];
    memcpy(out, &sum, 32);
    add_products(out, &a, &b, 32);
    return simde_mm256_loadu_si256((const void *)out);
}

#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps emulated_cvtepi32_ps
static inline simde__m512 emulated_cvtepi32_ps(simde__m512i a) {
    int32_t x[16];
    float out[16];
    memcpy(x, &a, 64);
    for (int i = 0; i < 16; i++) out[i] = (float)x[i];
    return simde_mm512_loadu_ps(out);
}

#undef _mm512_reduce_add_ps
#define _mm512_reduce_add_ps emulated_reduce_add_ps
static inline float emulated_reduce_add_ps(simde__m512 a) {
    float x[16], sum = 0;
    memcpy(x, &a, 64);
    for (int i = 0; i < 16; i++) sum += x[i];
    return sum;
}

#undef _mm512_shuffle_i32x4
#define _mm512_shuffle_i32x4 emulated_shuffle_i32x4
static inline simde__m512i emulated_shuffle_i32x4(simde__m512i a, simde__m512i b, int choice) {
    uint8_t x[64], y[64], out[64];
    memcpy(x, &a, 64), memcpy(y, &b, 64);
    for (int i = 0; i < 4; i++) memcpy(out + 16 * i, (i < 2 ? x : y) + 16 * (choice >> 2 * i & 3), 16);
    return simde_mm512_loadu_si512(out);
}

#undef _mm512_cvtph_ps
#define _mm512_cvtph_ps emulated_cvtph_ps
static inline simde__m512 emulated_cvtph_ps(simde__m256i a) {
    uint16_t halves[16];
    float out[16];
    memcpy(halves, &a, 32);
    for (int i = 0; i < 16; i++) out[i] = half_to_float(halves[i]);
    return simde_mm512_loadu_ps(out);
}

#undef _mm512_cvtepu16_epi32
#define _mm512_cvtepu16_epi32 emulated_cvtepu16_epi32
static inline simde__m512i emulated_cvtepu16_epi32(simde__m256i a) {
    uint16_t in[16];
    int32_t out[16];
    memcpy(in, &a, 32);
    for (int i = 0; i < 16; i++) out[i] = in[i];
    return simde_mm512_loadu_si512(out);
}

#undef _mm_maskz_loadu_epi32
#define _mm_maskz_loadu_epi32 emulated_maskz_loadu_epi32
static inline simde__m128i emulated_maskz_loadu_epi32(unsigned some, const void *p) {
    int32_t out[4] = {0};
    for (int i = 0; i < 4; i++)
        if (some >> i & 1) memcpy(out + i, (const char *)p + 4 * i, 4);
    return simde_mm_loadu_si128((const void *)out);
}

#undef _mm_maskz_loadu_ps
#define _mm_maskz_loadu_ps(some, p) simde_mm_castsi128_ps(emulated_maskz_loadu_epi32(some, p))

#undef __m512bh
#define __m512bh simde__m512i
#undef _mm512_dpbf16_ps
#define _mm512_dpbf16_ps emulated_dpbf16_ps
static inline simde__m512 emulated_dpbf16_ps(simde__m512 sum, simde__m512i a, simde__m512i b) {
    uint16_t x[32], y[32];
    float out[16];
    memcpy(x, &a, 64), memcpy(y, &b, 64), memcpy(out, &sum, 64);
    for (int i = 0; i < 16; i++)
        for (int j = 1; j >= 0; j--) out[i] += brain_to_float(x[2 * i + j]) * brain_to_float(y[2 * i + j]);
    return simde_mm512_loadu_ps(out);
}

#undef _mm512_cvtneps_pbh
#define _mm512_cvtneps_pbh emulated_cvtneps_pbh
static inline simde__m256i emulated_cvtneps_pbh(simde__m512 a) {
    float x[16];
    uint16_t out[16];
    memcpy(x, &a, 64);
    for (int i = 0; i < 16; i++) out[i] = float_to_brain(x[i]);
    return simde_mm256_loadu_si256((const void *)out);
}

#undef _mm512_permutex2var_epi16
#define _mm512_permutex2var_epi16 emulated_permutex2var_epi16
static inline simde__m512i emulated_permutex2var_epi16(simde__m512i a, simde__m512i places, simde__m512i b) {
    uint16_t x[64], at[32], out[32];
    memcpy(x, &a, 64), memcpy(x + 32, &b, 64), memcpy(at, &places, 64);
    for (int i = 0; i < 32; i++) out[i] = x[at[i] & 63];
    return simde_mm512_loadu_si512(out);
}
