/* The entry points of the original quantization_kernels.c, so that the remote code's `kernel_file` may be this
 * library.  As there: n rows, m bytes per packed row, float32 scales. */
#include "glm.h"

static int original_threads = 0;

EXPORT void set_num_threads(int threads) { original_threads = threads; }

static int threads_to_use(void) { return original_threads > 0 ? original_threads : omp_get_max_threads(); }

EXPORT void compress_int4_weight(const void *weight, void *out, int n, int m) {
    const uint8_t *in = weight;
    uint8_t *packed = out;
    int64_t count = (int64_t)n * m;
#pragma omp parallel for num_threads(threads_to_use())
    for (int64_t i = 0; i < count; i++) packed[i] = (uint8_t)(in[2 * i] << 4 | (in[2 * i + 1] & 15));
}

EXPORT void extract_int8_weight_to_float(const void *weight, const void *scales, void *out, int n, int m) {
    const int8_t *in = weight;
    const float *scale = scales;
#pragma omp parallel for num_threads(threads_to_use())
    for (int64_t row = 0; row < n; row++) {
        float *to = (float *)out + row * m;
        for (int64_t j = 0; j < m; j++) to[j] = scale[row] * in[row * m + j];
    }
}

EXPORT void extract_int4_weight_to_float(const void *weight, const void *scales, void *out, int n, int m) {
    const uint8_t *in = weight;
    const float *scale = scales;
#pragma omp parallel for num_threads(threads_to_use())
    for (int64_t row = 0; row < n; row++) {
        float *to = (float *)out + row * 2 * m;
        for (int64_t j = 0; j < m; j++) {
            uint8_t byte = in[row * m + j];
            to[2 * j] = scale[row] * ((byte >> 4 ^ 8) - 8);
            to[2 * j + 1] = scale[row] * (((byte & 15) ^ 8) - 8);
        }
    }
}
