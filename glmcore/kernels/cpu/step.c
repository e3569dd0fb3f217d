/* A whole model over some tokens in one parallel region: threads are woken once for a token, not for every product,
 * and nothing is allocated. */
#include "glm.h"
#include "step.h"

typedef struct {
    float *normed, *mixed, *queries, *context, *wide, *gated, *added, *scratch;
    void *packed;
} Buffers;

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* Places the buffers one after another from `memory` on; returns the bytes that they take. */
static int64_t place_buffers(const Model *model, const Tokens *tokens, int threads, char *memory, Buffers *out) {
    const int64_t rows = tokens->rows, heads = model->heads * model->size;
    const int64_t widest = larger(larger(model->hidden, heads), model->ffn);
    const int64_t floats[] = {rows * model->hidden, rows * (heads + 2 * model->groups * model->size),
                              tokens->queries ? 0 : rows * heads, rows * heads, rows * model->ffn * (model->gate == SWIGLU ? 2 : 1), rows * model->ffn,
                              rows * model->hidden, attention_floats(model, tokens, threads)};
    float **places[] = {&out->normed, &out->mixed, &out->queries, &out->context,
                        &out->wide,   &out->gated, &out->added,   &out->scratch};
    int64_t at = 0;
    for (int i = 0; i < 8; i++) {
        *places[i] = (float *)(memory + at);
        at += (floats[i] * (int64_t)sizeof(float) + 63) / 64 * 64;
    }
    if (tokens->queries) out->queries = tokens->queries;
    out->packed = memory + at;
    return at + (int64_t)activations_bytes(widest, rows, FLOATS);
}

/* y[rows][n] = x[rows][k] times the matrix; returns the bits of the largest |x| that this thread saw. */
static int32_t product_of(const Weights *w, int kind, const float *x, int64_t rows, void *packed, float *y) {
    const Activations a = activations_over(packed, w, rows, kind);
    const int32_t largest = pack(&a, x);
    (is_few(w, kind, rows) ? linear_few : linear_many)(w, &a, y);
    return largest;
}

/* The same, where the first `answers` rows are those of answers and the others of prompts.  Where both are few and kept
 * differently, the weights are read once for both. */
static int32_t product(const Model *model, const Matrix *matrix, const float *x, int64_t rows, int64_t answers,
                       void *packed, float *y) {
    const Weights w = weights_of((int)matrix->bits, matrix->data, matrix->scale, matrix->bias, matrix->n, matrix->k);
    const int kinds[] = {kind_of(&w, (int)model->precision, 0), kind_of(&w, (int)model->precision, 1)};
    const int64_t first = kinds[0] == kinds[1] || answers > rows ? rows : answers;
    if (first == 0 || first == rows) return product_of(&w, kinds[first == 0], x, rows, packed, y);
    const float *others = x + first * w.k;
    const Activations a = activations_over(packed, &w, first, kinds[0]);
    void *behind = (char *)packed + activations_bytes(w.k, first, kinds[0]);
    const Activations other = activations_over(behind, &w, rows - first, kinds[1]);
    int32_t largest[2];
    if (shared_rows(&a, &other)) {
        largest[0] = pack(&a, x), largest[1] = pack(&other, others);
        decode(&w, &(Factors){&a, &other, y, y + first * w.n});
    } else {
        largest[0] = product_of(&w, kinds[0], x, first, packed, y);
        largest[1] = product_of(&w, kinds[1], others, rows - first, packed, y + first * w.n);
    }
    return largest[largest[1] > largest[0]];
}

/* What attention or MLP gave joins the residual, through its own norm where it has one. */
static void join(const Model *model, const Norm *after, const float *kept, float *added, float *x, int64_t rows) {
    if (after->weight) normalise(model, after, added, added, rows);
    add_residual(model, kept, added, x, rows);
}

static int32_t run_layer(const Model *model, const Layer *layer, const Tokens *tokens, const Buffers *b) {
    const int64_t rows = tokens->rows, answers = tokens->answers;
    float *x = tokens->hidden;
    const float *kept = model->residual_of_norm ? b->normed : x;
    int32_t largest[4] = {0};
    normalise(model, &layer->before_attention, x, b->normed, rows);
    if (tokens->half != SEEING) {
        largest[0] = product(model, &layer->qkv, b->normed, rows, answers, b->packed, b->mixed);
        rotate_and_store(model, layer, tokens, b->mixed, b->queries);
    }
    if (tokens->half == STORING) return largest[0];
    attend(model, layer, tokens, b->queries, b->scratch, b->context);
    largest[1] = product(model, &layer->dense, b->context, rows, answers, b->packed, b->added);
    join(model, &layer->after_attention, kept, b->added, x, rows);
    normalise(model, &layer->before_mlp, x, b->normed, rows);
    largest[2] = product(model, &layer->up, b->normed, rows, answers, b->packed, b->wide);
    activate(model, b->wide, b->gated, rows);
    largest[3] = product(model, &layer->down, b->gated, rows, answers, b->packed, b->added);
    join(model, &layer->after_mlp, kept, b->added, x, rows);
    for (int i = 1; i < 4; i++) largest[0] = largest[i] > largest[0] ? largest[i] : largest[0];
    return largest[0];
}

static int32_t run_head(const Model *model, const Tokens *tokens, const Buffers *b) {
    const float *x = tokens->hidden + (tokens->rows - tokens->wanted) * model->hidden;
    if (tokens->wanted == 0) return 0;
    if (model->last.weight) {
        normalise(model, &model->last, x, b->normed, tokens->wanted);
        x = b->normed;
    }
    return product(model, &model->head, x, tokens->wanted, tokens->wanted, b->packed, tokens->logits);
}

/* How many bytes the structures of step.h take, in the order of STRUCTURES in glmcore/kernels/abi.py; 0 beyond. */
EXPORT int64_t glm_size_of(int number) {
    static const int64_t sizes[] = {sizeof(Matrix), sizeof(Norm), sizeof(Layer), sizeof(Model), sizeof(Tokens), sizeof(Reading)};
    return number < 0 || number >= (int)(sizeof(sizes) / sizeof(*sizes)) ? 0 : sizes[number];
}

EXPORT int64_t glm_step_bytes(const Model *model, const Tokens *tokens, int threads) {
    Buffers buffers;
    return place_buffers(model, tokens, threads, NULL, &buffers);
}

/* Runs all layers over the tokens, whose keys and values are stored on the way; `memory` holds glm_step_bytes(…),
 * aligned to 64 bytes. */
EXPORT int glm_step(const Model *model, const Tokens *tokens, void *memory, int threads) {
    Buffers buffers;
    int32_t largest = 0;
    place_buffers(model, tokens, threads, memory, &buffers);
#pragma omp parallel num_threads(threads) reduction(max : largest)
    {
        for (int64_t i = 0; i < model->layers; i++) {
            const int32_t own = run_layer(model, model->layer + i, tokens, &buffers);
            largest = own > largest ? own : largest;
        }
        const int32_t own = run_head(model, tokens, &buffers);
        largest = own > largest ? own : largest;
    }
    return largest < INFINITE ? GLM_OK : GLM_NOT_FINITE;
}
