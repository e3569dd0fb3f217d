/* Compares glm_linear with a float64 reference over odd shapes and extreme values; exit status 0 if all agree.
 * Built with the kernel's sources for instruction sets that this machine lacks, and with sanitizers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "glm.h"

int glm_linear(int bits, int precision, const void *weight, const float *scale, const float *bias, const float *x, float *y,
               int64_t m, int64_t n, int64_t k, int threads);
int glm_precision(int bits, int precision, int64_t m);
const char *glm_isa(void);

static uint64_t state = 88172645463325252ull;

static uint32_t next(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)(state >> 32);
}

/* Sizes are allocated exactly, so that AddressSanitizer sees a read one byte beyond. */
static void *exactly(int64_t bytes) {
    void *p = malloc((size_t)bytes);
    if (!p) exit(2);
    return p;
}

static double weight_at(const uint8_t *w, int bits, int64_t k, int64_t row, int64_t col) {
    if (bits == 8) return (int8_t)w[row * k + col];
    uint8_t byte = w[(row * k + col) / 2];
    int nibble = col % 2 ? byte & 15 : byte >> 4;
    return nibble > 7 ? nibble - 16 : nibble;
}

/* What integers of so many bits with one scale per block keep of x. */
static void round_row(const float *x, int64_t k, int bits, double *out) {
    const float most = bits == 8 ? 127.f : 32639.f;
    for (int64_t at = 0; at < k; at += BLOCK) {
        int64_t end = at + BLOCK < k ? at + BLOCK : k;
        float largest = 0;
        for (int64_t i = at; i < end; i++) largest = fmaxf(largest, fabsf(x[i]));
        for (int64_t i = at; i < end; i++)
            out[i] = largest > 0 ? nearbyintf(x[i] * (most / largest)) * (double)(largest / most) : 0;
    }
}

static int check(int bits, int precision, int64_t m, int64_t n, int64_t k, int extreme, int threads) {
    int64_t bytes = n * k * bits / 8;
    uint8_t *w = exactly(bytes);
    float *scale = exactly(n * 4), *bias = exactly(n * 4), *x = exactly(m * k * 4), *y = exactly(m * n * 4);
    double *kept = exactly(k * 8), worst = 0;
    const uint8_t extremes[] = {0x80, 0x7f, 0x88, 0x77, 0x81, 0xff};
    for (int64_t i = 0; i < bytes; i++) w[i] = extreme ? extremes[(uint32_t)extreme % 6] : (uint8_t)next();
    for (int64_t i = 0; i < n; i++) scale[i] = (float)(next() % 100 + 1) / 64, bias[i] = (float)(next() % 200) - 100;
    for (int64_t i = 0; i < m * k; i++)
        x[i] = extreme ? (extreme % 2 ? 3.f : -3.f) : (float)((int32_t)next() / 65536) / 512.f;
    if (glm_linear(bits, precision, w, scale, bias, x, y, m, n, k, threads)) return 1;
    for (int64_t i = 0; i < m; i++) {
        if (precision == EXACT)
            for (int64_t c = 0; c < k; c++) kept[c] = x[i * k + c];
        else
            round_row(x + i * k, k, glm_precision(bits, precision, m), kept);
        for (int64_t r = 0; r < n; r++) {
            double sum = 0, size = 0;
            for (int64_t c = 0; c < k; c++) {
                double term = weight_at(w, bits, k, r, c) * kept[c];
                sum += term, size += fabs(term);
            }
            double error = fabs(y[i * n + r] - (sum * scale[r] + bias[r])) / (size * scale[r] + fabs(bias[r]) + 1e-9);
            worst = error > worst || isnan(error) ? error : worst;
        }
    }
    free(w), free(scale), free(bias), free(x), free(y), free(kept);
    static const char *const names[] = {"fast", "exact", "light"};
    if (worst < 2e-6) return 0;
    printf("int%d %s m=%d n=%d k=%d extreme=%d: off by %g\n", bits, names[precision], (int)m, (int)n, (int)k,
           extreme, worst);
    return 1;
}

/* bfloat16 cuts float32 in half; float16 patterns are taken as they come and read by their definition. */
static double number_at(const void *w, int bits, int64_t at) {
    if (bits == SINGLE) return ((const float *)w)[at];
    const uint16_t pattern = ((const uint16_t *)w)[at];
    const int brain = bits == BRAIN, width = brain ? 7 : 10, bias = brain ? 127 : 15;
    const int fraction = pattern & ((1 << width) - 1), exponent = (pattern & 0x7fff) >> width;
    const double value = exponent ? ldexp((1 << width) + fraction, exponent - bias - width)
                                  : ldexp(fraction, 1 - bias - width);
    return pattern >> 15 ? -value : value;
}

static void random_number(void *w, int bits, int64_t at) {
    if (bits == SINGLE) {
        ((float *)w)[at] = (float)((int32_t)next() / 65536) / 512.f;
        return;
    }
    uint16_t pattern = (uint16_t)next();
    if (bits == BRAIN) pattern = (uint16_t)((pattern & 0x83ff) | 0x3c00); /* 2^-7 … 2 */
    else if ((pattern >> 10 & 31) == 31) pattern &= 0x83ff;               /* no infinities; subnormals instead */
    ((uint16_t *)w)[at] = pattern;
}

static int check_floats(int bits, int64_t m, int64_t n, int64_t k) {
    void *w = exactly(n * k * (bits == SINGLE ? 4 : 2));
    float *x = exactly(m * k * 4), *y = exactly(m * n * 4), *bias = exactly(n * 4);
    double worst = 0;
    for (int64_t i = 0; i < n * k; i++) random_number(w, bits, i);
    for (int64_t i = 0; i < n; i++) bias[i] = (float)(next() % 200) - 100;
    for (int64_t i = 0; i < m * k; i++) x[i] = (float)((int32_t)next() / 65536) / 512.f;
    if (glm_linear(bits, 0, w, NULL, bias, x, y, m, n, k, 3)) return 1;
    for (int64_t i = 0; i < m; i++)
        for (int64_t r = 0; r < n; r++) {
            double sum = bias[r], size = fabs(bias[r]) + 1e-30;
            for (int64_t c = 0; c < k; c++) {
                double term = number_at(w, bits, r * k + c) * x[i * k + c];
                sum += term, size += fabs(term);
            }
            double error = fabs(y[i * n + r] - sum) / size;
            worst = error > worst || isnan(error) ? error : worst;
        }
    free(w), free(x), free(y), free(bias);
    if (worst < 2e-6) return 0;
    printf("floats of kind %d, m=%d n=%d k=%d: off by %g\n", bits, (int)m, (int)n, (int)k, worst);
    return 1;
}

#include "step_check.c"

/* The bits of a row's product do not depend on how many rows go with it, nor on what those are. */
static int check_rows(int bits, int precision) {
    enum { N = 61, K = 514, MOST = PRECISE_ROWS };
    uint8_t *w = exactly(N * K * bits / 8);
    float *scale = random_floats(N, 1.f), *x = random_floats(MOST * K, 4.f), alone[N], y[MOST * N];
    int wrong = 0;
    for (int64_t i = 0; i < N * K * bits / 8; i++) w[i] = (uint8_t)next();
    glm_linear(bits, precision, w, scale, NULL, x, alone, 1, N, K, 1);
    for (int64_t m = 2; m <= MOST; m++) {
        for (int64_t i = 0; i < (m - 1) * K; i++) y[i % (MOST * N)] = 0, x[K + i] = (float)next() / 65536.f;
        glm_linear(bits, precision, w, scale, NULL, x, y, m, N, K, 1 + (int)m % 3);
        wrong |= memcmp(y, alone, sizeof alone) != 0;
    }
    free(w), free(scale), free(x);
    if (wrong) printf("int%d in precision %d: other rows change a row\n", bits, precision);
    return wrong;
}

int main(void) {
    const int64_t shapes[][3] = {{1, 1, 2},     {1, 33, 128},  {1, 67, 386}, {2, 5, 62},    {3, 40, 256}, {4, 31, 130},
                                 {5, 65, 128},  {7, 64, 384},  {8, 7, 514},  {13, 129, 66}, {16, 32, 128}, {37, 70, 258},
                                 {131, 33, 130}};
    int failures = 0;
    for (int bits = 4; bits <= 8; bits += 4)
        for (int precision = FAST; precision <= LIGHT; precision++)
            for (int threads = 1; threads <= 3; threads += 2) {
                for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
                    failures += check(bits, precision, shapes[s][0], shapes[s][1], shapes[s][2], 0, threads);
                for (int extreme = 1; extreme <= 12; extreme++)
                    failures += check(bits, precision, extreme % 3 ? 1 : 17, 9, 256, extreme, threads);
            }
    const int floats[] = {HALF, BRAIN, SINGLE};
    for (int kind = 0; kind < 3; kind++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            failures += check_floats(floats[kind], shapes[s][0], shapes[s][1], shapes[s][2]);
    for (int bits = 4; bits <= 8; bits += 4)
        for (int precision = FAST; precision <= LIGHT; precision++) failures += check_rows(bits, precision);
    failures += check_steps();
    printf("%s: %d failures\n", glm_isa(), failures);
    return failures != 0;
}
