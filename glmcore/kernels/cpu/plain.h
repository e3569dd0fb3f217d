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
static inline vi vi_zero(void) { return (vi){0, 0, 0, 0}; }
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

#define FLUSH 32
#define NIBBLES_ONLY 0
static inline vi dot_step(vi sum, vi w, vi x) {
    uint8_t weights[16];
    int8_t values[16];
    memcpy(weights, &w, 16);
    memcpy(values, &x, 16);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) sum[i] += weights[4 * i + j] * values[4 * i + j];
    return sum;
}
static inline vi widen(vi sum) { return sum; }

static inline int high_nibble(uint8_t byte) { return (byte >> 4 ^ 8) - 8; }
static inline int low_nibble(uint8_t byte) { return ((byte & 15) ^ 8) - 8; }

#define OFFSET4 0
static inline vi dot4(const uint8_t *p, const int8_t *q) {
    int32_t sum = 0;
    for (int i = 0; i < 64; i++) sum += high_nibble(p[i]) * q[i] + low_nibble(p[i]) * q[64 + i];
    return (vi){sum, 0, 0, 0};
}
#define OFFSET8 0
static inline vi dot8(const uint8_t *p, const int8_t *q) {
    int32_t sum = 0;
    for (int i = 0; i < 128; i++) sum += (int8_t)p[i] * q[i];
    return (vi){sum, 0, 0, 0};
}
#define TILE 16
#define VECTORS 2
#define INT_ROWS 4
#define FLOAT_ROWS 4
#define DECODE_ROWS_FAST4 3
#define DECODE_ROWS_FAST8 3
#define DECODE_ROWS_EXACT 3
