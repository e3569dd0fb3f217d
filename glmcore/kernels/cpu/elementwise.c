/* What stands between the matrix products of a layer: norms, residuals, rotary positions, gates. */
#include <math.h>
#include <string.h>

#include "attention.h"
#include "glm.h"
#include "simd.h"
#include "step.h"

static void root_mean_square(const float *x, const float *weight, float epsilon, int64_t n, float *y) {
    float squares = 0.f;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < n; i++) squares += x[i] * x[i];
    const float by = 1.f / sqrtf(squares / (float)n + epsilon);
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * by * weight[i];
}

static void layer_norm(const float *x, const Norm *norm, float epsilon, int64_t n, float *y) {
    float sum = 0.f, squares = 0.f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += x[i];
    const float mean = sum / (float)n;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    const float by = 1.f / sqrtf(squares / (float)n + epsilon);
    for (int64_t i = 0; i < n; i++) y[i] = (x[i] - mean) * by * norm->weight[i] + norm->bias[i];
}

void normalise(const Model *model, const Norm *norm, const float *x, float *y, int64_t rows) {
    const int64_t n = model->hidden;
#pragma omp for
    for (int64_t row = 0; row < rows; row++) {
        if (norm->bias)
            layer_norm(x + row * n, norm, model->epsilon, n, y + row * n);
        else
            root_mean_square(x + row * n, norm->weight, model->epsilon, n, y + row * n);
    }
}

void add_residual(const Model *model, const float *kept, const float *added, float *x, int64_t rows) {
    const float factor = model->residual;
#pragma omp for
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = row * model->hidden; i < (row + 1) * model->hidden; i++) x[i] = kept[i] * factor + added[i];
}

static void swiglu(const float *gate, const float *value, int64_t n, float *y) {
    for (int64_t i = 0; i < n; i++) y[i] = gate[i] / (1.f + exponential(-gate[i])) * value[i];
}

/* The tanh form: tanh u = 1 - 2 / (1 + e^2u). */
static void gelu(const float *x, int64_t n, float *y) {
    for (int64_t i = 0; i < n; i++) {
        const float u = 0.7978845608f * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
        y[i] = x[i] * (1.f - 1.f / (1.f + exponential(2.f * u)));
    }
}

#define PIECE 512 /* values that a thread takes at a time */

void activate(const Model *model, const float *up, float *y, int64_t rows) {
    const int64_t n = model->ffn, pieces = (n + PIECE - 1) / PIECE;
#pragma omp for
    for (int64_t task = 0; task < rows * pieces; task++) {
        const int64_t row = task / pieces, from = task % pieces * PIECE, count = n - from < PIECE ? n - from : PIECE;
        if (model->gate == SWIGLU)
            swiglu(up + row * 2 * n + from, up + row * 2 * n + n + from, count, y + row * n + from);
        else
            gelu(up + row * n + from, count, y + row * n + from);
    }
}

static void turn_pairs(const Model *model, const float *cosine, const float *sine, const float *x, float *y) {
    for (int64_t i = 0; i < model->turned / 2; i++) {
        const float even = x[2 * i], odd = x[2 * i + 1];
        y[2 * i] = even * cosine[i] - odd * sine[i];
        y[2 * i + 1] = odd * cosine[i] + even * sine[i];
    }
    memcpy(y + model->turned, x + model->turned, (size_t)(model->size - model->turned) * sizeof(float));
}

static void turn_halves(const Model *model, const float *cosine, const float *sine, const float *x, float *y) {
    const int64_t width = model->size / model->parts, half = width / 2;
    for (int64_t part = 0; part < model->parts * width; part += width)
        for (int64_t i = part; i < part + half; i++) {
            const float first = x[i], second = x[i + half];
            y[i] = first * cosine[i] - second * sine[i];
            y[i + half] = second * cosine[i + half] + first * sine[i + half];
        }
}

/* Rounds to the nearest bfloat16, halves to even ones. */
static void to_brains(const float *x, int64_t n, uint16_t *y) {
    for (int64_t i = 0; i < n; i++) y[i] = float_to_brain(x[i]);
}

enum { QUERY, KEY, VALUE };

static void rotate_head(const Model *model, int kind, const float *from, const float *cosine, const float *sine, float *to) {
    if (kind == VALUE)
        memcpy(to, from, (size_t)model->size * sizeof(float));
    else
        (model->rotary == PAIRS ? turn_pairs : turn_halves)(model, cosine, sine, from, to);
    const float scale = 1.f / sqrtf((float)model->size);
    if (kind == QUERY)
        for (int64_t i = 0; i < model->size; i++) to[i] *= scale; /* here, so that no score needs it */
}

void rotate_and_store(const Model *model, const Layer *layer, const Tokens *tokens, const float *mixed,
                      float *queries) {
    const int64_t size = model->size, heads = model->heads, groups = model->groups, all = heads + 2 * groups;
    const int64_t angles = model->rotary == PAIRS ? model->turned / 2 : model->turned;
#pragma omp for
    for (int64_t task = 0; task < tokens->rows * all; task++) {
        const int64_t row = task / all, part = task % all;
        const int kind = part < heads ? QUERY : part < heads + groups ? KEY : VALUE;
        const int64_t head = kind == QUERY ? part : kind == KEY ? part - heads : part - heads - groups;
        const float *from = mixed + row * all * size + (model->within_heads ? 3 * head + kind : part) * size;
        const float *cosine = tokens->cosines + row * angles, *sine = tokens->sines + row * angles;
        void *held = kind == KEY ? layer->keys : layer->values;
        const int64_t at = tokens->sequence[row] * tokens->sequence_stride + head * tokens->group_stride +
                           tokens->place[row] * size;
        if (kind == QUERY)
            rotate_head(model, kind, from, cosine, sine, queries + (row * heads + head) * size);
        else if (model->cache == SINGLE)
            rotate_head(model, kind, from, cosine, sine, (float *)held + at);
        else {
            float rotated[MOST_SIZE];
            rotate_head(model, kind, from, cosine, sine, rotated);
            to_brains(rotated, size, (uint16_t *)held + at);
        }
    }
}
