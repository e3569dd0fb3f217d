/* No instruction set assumed: gcc's and clang's portable vectors, which become whatever the machine has. */
#define ISA_NAME "plain"
#define LANES 4
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));

static inline vf vf_set1(float x) { return (vf){x, x, x, x}; }
static inline vf vf_zero(void) { return vf_set1(0.f); }
static inline vf vf_load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void vf_store(float *p, vf v) { memcpy(p, &v, sizeof v); }
static inline vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
static inline vf vf_from(vi v) { return (vf){(float)v[0], (float)v[1], (float)v[2], (float)v[3]}; }
static inline float vf_sum(vf v) { return (v[0] + v[1]) + (v[2] + v[3]); }
static inline vf vf_from_brain(const uint16_t *p) {
    return (vf)(vi){(int32_t)((uint32_t)p[0] << 16), (int32_t)((uint32_t)p[1] << 16), (int32_t)((uint32_t)p[2] << 16),
                    (int32_t)((uint32_t)p[3] << 16)};
}
static inline vf vf_from_half(const uint16_t *p) {
    return (vf){half_to_float(p[0]), half_to_float(p[1]), half_to_float(p[2]), half_to_float(p[3])};
}
static inline vi vi_add(vi a, vi b) { return a + b; }
static inline vi vi_set1(int32_t x) { return (vi){x, x, x, x}; }
static inline vi vi_zero(void) { return vi_set1(0); }
static inline vi shift_digit(vi v) { return v * 256; }
static inline vi vi_load(const void *p) {
    vi v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline vi vi_set4(const int8_t *p) {
    int32_t word;
    memcpy(&word, p, 4);
    return (vi){word, word, word, word};
}

/* 4 x 4 words. */
static inline void transpose(const uint8_t *p, int64_t stride, uint32_t *out, int64_t step) {
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) memcpy(out + j * step + i, p + i * stride + 4 * j, 4);
}

#define WORDS8 0
#define FLUSH 32
static inline vi dot_step(vi sum, vi w, vi x) {
    uint8_t weights[16];
    int8_t values[16];
    memcpy(weights, &w, 16);
    memcpy(values, &x, 16);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) sum[i] += weights[4 * i + j] * values[4 * i + j];
    return sum;
}
static inline vi dot_first(vi w, vi x) { return dot_step(vi_zero(), w, x); }
static inline vi widen(vi sum) { return sum; }

/* Every column as 16 bits.  No copies are made of these loops: there are many callers, and a call is nothing beside 128
 * multiplications. */
#define OFFSET4 0
#define OFFSET8 0
typedef struct {
    int16_t v[128];
} Block4;
typedef Block4 Block8;
static __attribute__((noinline)) Block4 load4(const uint8_t *p) {
    Block4 w;
    for (int i = 0; i < 64; i++) {
        w.v[i] = (int16_t)((p[i] >> 4 ^ 8) - 8);
        w.v[64 + i] = (int16_t)(((p[i] & 15) ^ 8) - 8);
    }
    return w;
}
static __attribute__((noinline)) Block8 load8(const uint8_t *p) {
    Block8 w;
    for (int i = 0; i < 128; i++) w.v[i] = (int8_t)p[i];
    return w;
}
static __attribute__((noinline)) int32_t one_digit(const Block4 *w, const int8_t *q) {
    int32_t sum = 0;
    for (int i = 0; i < 128; i++) sum += w->v[i] * q[i];
    return sum;
}
/* A digit's sum is at most 128 · 128 · 128 = 2^21, so two of them fit together. */
static inline vi part4(int digits, const Block4 *w, const int8_t *q) {
    const int32_t sum = one_digit(w, q);
    return (vi){digits == 1 ? sum : sum * 256 + one_digit(w, q + 128), 0, 0, 0};
}
static inline vi part8(int digits, const Block8 *w, const int8_t *q) { return part4(digits, w, q); }

typedef vf quad;
static inline quad quad_zero(void) { return vf_zero(); }
static inline quad quad_fma(quad a, float by, quad c) { return vf_fma(a, vf_set1(by), c); }
static inline void quad_store(float *p, quad v) { vf_store(p, v); }
static inline quad quad_of(const vi *v, int32_t start) {
    return vf_from((vi){v[0][0], v[1][0], v[2][0], v[3][0]} + vi_set1(start));
}

#define UNPACKED 1
#define BROAD 1
#define THREE_DIGITS 0
#define TILE 16
#define VECTORS 2
#define INT_ROWS 4
#define FLOAT_ROWS 4
#define AHEAD 1024
#define FEW4 {0, 4, 4, 4}
#define FEW8 {0, 4, 4, 4}
