/* The products of a compiled graph on the CPU, as the C functions that it calls: what computes them is told by
 * glm_products before the first call. Built with the graphs, beside which it lies; needs no header of torch, whose
 * functions for compiled graphs (torch/csrc/inductor/aoti_torch/c/shim.h) have C interfaces. */
#include <stdint.h>

typedef struct AtenTensorOpaque *Tensor;
typedef int32_t Status; /* 0: all is well */

extern Status aoti_torch_get_data_ptr(Tensor, void **);
extern Status aoti_torch_get_dim(Tensor, int64_t *);
extern Status aoti_torch_get_sizes(Tensor, int64_t **);
extern Status aoti_torch_get_strides(Tensor, int64_t **);
extern Status aoti_torch_empty_strided(int64_t, const int64_t *, const int64_t *, int32_t, int32_t, int32_t, Tensor *);

enum { FLOAT32 = 6, BFLOAT16 = 15, CPU = 0, MOST_DIMENSIONS = 8, REFUSED = -1 };

/* As glm_linear and glm_linear16 of cpu/linear.c. */
typedef int (*Packed)(int bits, int precision, const void *weight, const float *scale, const float *bias,
                      const float *x, float *y, int64_t m, int64_t n, int64_t k, int threads);
typedef int (*Half)(int brain, const void *weight, const float *x, float *y, int64_t m, int64_t n, int64_t k,
                    int threads);

typedef struct {
    Packed packed;
    Half few, many;        /* of up to `few_rows` rows, and of more */
    int64_t few_rows;      /* of activations beside 16-bit weights */
    int64_t answer_rows;   /* of activations that keep at once what an answer's keep */
    int answers, prompts;  /* precisions */
    int threads;
    int reading;           /* a long prompt is being read */
    int status;            /* of the last product that failed */
} Products;

__attribute__((visibility("default"))) Products glm_products;

static int min_of(int64_t a, int64_t b) { return (int)(a < b ? a : b); }

/* [..., k] contiguous activations: their data and how many rows; [..., n] made for the result. */
static Status begin(Tensor x, int64_t n, const float **data, int64_t *m, int64_t *k, Tensor *y, float **out) {
    int64_t dimensions, *sizes, *strides, shape[MOST_DIMENSIONS], steps[MOST_DIMENSIONS];
    if (aoti_torch_get_dim(x, &dimensions) || dimensions < 1 || dimensions > MOST_DIMENSIONS ||
        aoti_torch_get_sizes(x, &sizes) || aoti_torch_get_strides(x, &strides))
        return REFUSED;
    *k = sizes[dimensions - 1], *m = 1;
    int64_t step = 1, wanted = 1;
    for (int64_t i = dimensions - 1; i >= 0; i--) {
        if (sizes[i] > 1 && strides[i] != wanted) return REFUSED;
        shape[i] = i == dimensions - 1 ? n : sizes[i];
        steps[i] = step;
        step *= shape[i], wanted *= sizes[i];
        if (i < dimensions - 1) *m *= sizes[i];
    }
    return aoti_torch_get_data_ptr(x, (void **)data) ||
           aoti_torch_empty_strided(dimensions, shape, steps, FLOAT32, CPU, 0, y) ||
           aoti_torch_get_data_ptr(*y, (void **)out);
}

static Status ended(int status) {
    if (status) glm_products.status = status;
    return status != 0;
}

__attribute__((visibility("default"))) Status aoti_torch_cpu_packed_linear(
    Tensor x, Tensor weight, Tensor scale, Tensor *bias, int64_t bits, int32_t head, Tensor *y) {
    const Products *p = &glm_products;
    const float *rows, *scales, *biases = 0;
    float *out;
    const char *packed;
    int64_t m, k, *sizes;
    if (aoti_torch_get_sizes(weight, &sizes) || aoti_torch_get_data_ptr(weight, (void **)&packed) ||
        aoti_torch_get_data_ptr(scale, (void **)&scales) ||
        (bias && aoti_torch_get_data_ptr(*bias, (void **)&biases)))
        return ended(REFUSED);
    const int64_t n = sizes[0];
    if (begin(x, n, &rows, &m, &k, y, &out) || k * bits / 8 != sizes[1]) return ended(REFUSED);
    if (p->reading && !head)
        return ended(p->packed((int)bits, p->prompts, packed, scales, biases, rows, out, m, n, k, p->threads));
    for (int64_t at = 0; at < m; at += p->answer_rows) {
        const int status = p->packed((int)bits, p->answers, packed, scales, biases, rows + at * k, out + at * n,
                                     min_of(p->answer_rows, m - at), n, k, p->threads);
        if (status) return ended(status);
    }
    return 0;
}

__attribute__((visibility("default"))) Status aoti_torch_cpu_half_linear(Tensor x, Tensor weight, int32_t brain,
                                                                        Tensor *y) {
    const Products *p = &glm_products;
    const float *rows;
    float *out;
    const void *data;
    int64_t m, k, *sizes;
    if (aoti_torch_get_sizes(weight, &sizes) || aoti_torch_get_data_ptr(weight, (void **)&data)) return ended(REFUSED);
    const int64_t n = sizes[0];
    if (begin(x, n, &rows, &m, &k, y, &out) || k != sizes[1]) return ended(REFUSED);
    return ended((m <= p->few_rows ? p->few : p->many)(brain, data, rows, out, m, n, k, p->threads));
}
