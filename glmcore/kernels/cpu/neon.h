/* 64-bit Arm: NEON with the dot-product instructions, and with those for small matrices where the CPU has them. */
#include <arm_neon.h>

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
static inline vi vi_add(vi a, vi b) { return vaddq_s32(a, b); }
static inline vi vi_zero(void) { return vdupq_n_s32(0); }
static inline vi vi_set1(int32_t x) { return vdupq_n_s32(x); }
static inline vi shift_digit(vi v) { return vshlq_n_s32(v, 8); }
static inline vi vi_load(const void *p) { return vld1q_s32(p); }
static inline vi vi_set4(const int8_t *p) {
    int32_t word;
    memcpy(&word, p, 4);
    return vdupq_n_s32(word);
}

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

#define WORDS8 0
#define FLUSH 32
static inline vi dot_step(vi sum, vi w, vi x) {
    return vdotq_s32(sum, vreinterpretq_s8_s32(w), vreinterpretq_s8_s32(x));
}
#ifdef __ARM_FEATURE_MATMUL_INT8
#define ISA_NAME "neon-i8mm"
#define INT_ROWS 4
#define MATRIX_STEP 1
/* Eight columns of four matrix rows (w: those of the first four columns, then of the others) times two activation rows:
 * each instruction does two rows of each.  unpair sorts the sums by activation row. */
static inline void matrix_step(vi *a, vi *b, vi w0, vi w1, const int8_t *q0, const int8_t *q1) {
    const int8x16_t x = vcombine_s8(vld1_s8(q0), vld1_s8(q1));
    *a = vmmlaq_s32(*a, vreinterpretq_s8_s32(vzip1q_s32(w0, w1)), x);
    *b = vmmlaq_s32(*b, vreinterpretq_s8_s32(vzip2q_s32(w0, w1)), x);
}
static inline void unpair(vi *a, vi *b) {
    const vi first = vuzp1q_s32(*a, *b);
    *b = vuzp2q_s32(*a, *b);
    *a = first;
}
#else
#define ISA_NAME "neon-dotprod"
#define INT_ROWS 5
#endif
static inline vi dot_first(vi w, vi x) { return dot_step(vi_zero(), w, x); }
static inline vi widen(vi sum) { return sum; }

/* 16 columns in each of eight vectors: the nibbles of 64 bytes with their signs, even columns before odd ones, or 128
 * bytes as they are. */
#define OFFSET4 0
#define OFFSET8 0
typedef struct {
    int8x16_t v[8];
} Block4;
typedef Block4 Block8;
static inline Block4 load4(const uint8_t *p) {
    Block4 w;
    for (int i = 0; i < 4; i++) {
        const int8x16_t bytes = vld1q_s8((const int8_t *)p + 16 * i);
        w.v[i] = vshrq_n_s8(bytes, 4);
        w.v[4 + i] = vshrq_n_s8(vshlq_n_s8(bytes, 4), 4);
    }
    return w;
}
static inline Block8 load8(const uint8_t *p) {
    Block8 w;
    for (int i = 0; i < 8; i++) w.v[i] = vld1q_s8((const int8_t *)p + 16 * i);
    return w;
}
static inline vi one_digit(const Block4 *w, const int8_t *q) {
    vi a = vi_zero(), b = vi_zero();
    for (int i = 0; i < 8; i += 2) {
        a = vdotq_s32(a, w->v[i], vld1q_s8(q + 16 * i));
        b = vdotq_s32(b, w->v[i + 1], vld1q_s8(q + 16 * i + 16));
    }
    return vi_add(a, b);
}
/* A digit's sum is at most 32 · 128 · 128 = 2^19, so two of them fit together. */
static inline vi part4(int digits, const Block4 *w, const int8_t *q) {
    const vi sum = one_digit(w, q);
    return digits == 1 ? sum : vi_add(shift_digit(sum), one_digit(w, q + 128));
}
static inline vi part8(int digits, const Block8 *w, const int8_t *q) { return part4(digits, w, q); }

typedef float32x4_t quad;
static inline quad quad_zero(void) { return vf_zero(); }
static inline quad quad_fma(quad a, float by, quad c) { return vf_fma(a, vf_set1(by), c); }
static inline void quad_store(float *p, quad v) { vf_store(p, v); }
static inline quad quad_of(const vi *v, int32_t start) {
    const vi sums = vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3]));
    return vf_from(vi_add(sums, vi_set1(start)));
}

#define UNPACKED 1
#define BROAD 1
#define THREE_DIGITS 1
#define TILE 32
#define VECTORS 4
#define FLOAT_ROWS 5
#define AHEAD 1024
#define FEW4 {0, 4, 4, 4}
#define FEW8 {0, 4, 4, 4}
