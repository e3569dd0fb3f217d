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
static inline vf vf_from_half(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
static inline vf vf_from_brain(const uint16_t *p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
static inline vi vi_zero(void) { return vdupq_n_s32(0); }
static inline vi vi_load(const void *p) { return vld1q_s32(p); }
static inline vi vi_set4(const int8_t *p) {
    int32_t word;
    memcpy(&word, p, 4);
    return vdupq_n_s32(word);
}
static inline int8x16_t bytes_at(const void *p) { return vld1q_s8(p); }

/* 4 x 4 words. */
static inline void transpose(const uint8_t *p, int64_t stride, uint32_t *out, int64_t step) {
    uint32x4_t r[4];
    for (int i = 0; i < 4; i++) r[i] = vreinterpretq_u32_u8(vld1q_u8(p + i * stride));
    uint32x4x2_t a = vtrnq_u32(r[0], r[1]), b = vtrnq_u32(r[2], r[3]);
    for (int i = 0; i < 2; i++) {
        vst1q_u32(out + i * step, vcombine_u32(vget_low_u32(a.val[i]), vget_low_u32(b.val[i])));
        vst1q_u32(out + (i + 2) * step, vcombine_u32(vget_high_u32(a.val[i]), vget_high_u32(b.val[i])));
    }
}

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

#define TILE 32
#define VECTORS 4
#define INT_ROWS 5
#define FLOAT_ROWS 5
#define DECODE_ROWS_FAST4 3
#define DECODE_ROWS_FAST8 3
#define DECODE_ROWS_EXACT 3
