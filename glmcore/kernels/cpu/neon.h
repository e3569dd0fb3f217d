/* 64-bit Arm: NEON with the dot-product instructions. */
#include <arm_neon.h>

#define ISA_NAME "neon-dotprod"
#define LANES 4
typedef float32x4_t vf;
typedef int32x4_t vi;

static inline vf vf_zero(void) { return vdupq_n_f32(0.f); }
static inline vf vf_set1(float x) { return vdupq_n_f32(x); }
static inline vf vf_load(const float *p) { return vld1q_f32(p); }
static inline void vf_store(float *p, vf v) { vst1q_f32(p, v); }
static inline vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf vf_from(vi v) { return vcvtq_f32_s32(v); }
static inline float vf_sum(vf v) { return vaddvq_f32(v); }
static inline vi vi_zero(void) { return vdupq_n_s32(0); }
static inline vi vi_load(const void *p) { return vld1q_s32(p); }
static inline vi vi_set4(const int8_t *p) {
    int32_t word;
    memcpy(&word, p, 4);
    return vdupq_n_s32(word);
}
static inline int8x16_t bytes_at(const void *p) { return vld1q_s8(p); }

/* Nibbles of 16 bytes with their signs: even columns, odd columns. */
static inline int8x16_t even(int8x16_t bytes) { return vshrq_n_s8(bytes, 4); }
static inline int8x16_t odd(int8x16_t bytes) { return vshrq_n_s8(vshlq_n_s8(bytes, 4), 4); }

#define FLUSH 32
#define NIBBLES_ONLY 0
#define SIGNED_TILE 1
static inline vi dot_step(vi sum, vi w, vi x) {
    return vdotq_s32(sum, vreinterpretq_s8_s32(w), vreinterpretq_s8_s32(x));
}
static inline vi widen(vi sum) { return sum; }

#define OFFSET4 0
static inline vi dot4(const uint8_t *p, const int8_t *q) {
    vi a = vi_zero(), b = vi_zero();
    for (int i = 0; i < 64; i += 16) {
        int8x16_t bytes = bytes_at(p + i);
        a = vdotq_s32(a, even(bytes), bytes_at(q + i));
        b = vdotq_s32(b, odd(bytes), bytes_at(q + 64 + i));
    }
    return vaddq_s32(a, b);
}
#define OFFSET8 0
static inline vi dot8(const uint8_t *p, const int8_t *q) {
    vi a = vi_zero(), b = vi_zero();
    for (int i = 0; i < 128; i += 32) {
        a = vdotq_s32(a, bytes_at(p + i), bytes_at(q + i));
        b = vdotq_s32(b, bytes_at(p + i + 16), bytes_at(q + i + 16));
    }
    return vaddq_s32(a, b);
}

/* 16 signed bytes times 16 floats. */
static inline vf float_dot16(int8x16_t bytes, const float *x, vf sum) {
    int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    sum = vf_fma(vf_from(vmovl_s16(vget_low_s16(low))), vf_load(x), sum);
    sum = vf_fma(vf_from(vmovl_s16(vget_high_s16(low))), vf_load(x + 4), sum);
    sum = vf_fma(vf_from(vmovl_s16(vget_low_s16(high))), vf_load(x + 8), sum);
    return vf_fma(vf_from(vmovl_s16(vget_high_s16(high))), vf_load(x + 12), sum);
}
static inline vf float_dot4(const uint8_t *p, const float *x, vf sum) {
    for (int i = 0; i < 64; i += 16) {
        int8x16_t bytes = bytes_at(p + i);
        sum = float_dot16(odd(bytes), x + 64 + i, float_dot16(even(bytes), x + i, sum));
    }
    return sum;
}
static inline vf float_dot8(const uint8_t *p, const float *x, vf sum) {
    for (int i = 0; i < 128; i += 16) sum = float_dot16(bytes_at(p + i), x + i, sum);
    return sum;
}

#define TILE 32
#define VECTORS 4
#define INT_ROWS 5
#define FLOAT_ROWS 5
#define DECODE_ROWS_FAST 3
#define DECODE_ROWS_EXACT 3
