/* Holds the attention to a float64 reference over odd lengths, and a whole pass to itself: tokens together give what
 * tokens one after the other give, and what half a layer at a time over some of them gives.  Memory is allocated
 * exactly, for AddressSanitizer. */
#include <math.h>
#include <stdlib.h>

#include "attention.h"
#include "glm.h"
#include "simd.h"
#include "step.h"

int64_t glm_step_bytes(const Model *model, const Tokens *tokens, int threads);
int glm_step(const Model *model, const Tokens *tokens, void *memory, int threads);

enum { PLACES = 333, MOST_ROWS = 5 };

static float *random_floats(int64_t count, float size) {
    float *x = exactly(count * (int64_t)sizeof(float));
    for (int64_t i = 0; i < count; i++) x[i] = ((float)next() / 4294967296.f - 0.5f) * size;
    return x;
}

/* What a cache of this type keeps, as it lies there: `x` is rounded along. */
static void *kept_as(int64_t cache, float *x, int64_t count) {
    uint16_t *kept = exactly(count * (cache == BRAIN ? 2 : 4));
    if (cache == SINGLE) return memcpy(kept, x, (size_t)count * sizeof *x);
    for (int64_t i = 0; i < count; i++) kept[i] = float_to_brain(x[i]), x[i] = brain_to_float(kept[i]);
    return kept;
}

/* out[size]: what one head of a token comes to. */
static void attended(const Model *m, const float *keys, const float *values, const Tokens *t, const float *q, int64_t row,
                     int64_t head, double *out) {
    const int64_t start = head / (m->heads / m->groups) * t->group_stride + t->sequence[row] * t->sequence_stride;
    double sum = 0;
    for (int64_t i = 0; i < m->size; i++) out[i] = 0;
    for (int64_t key = 0; key < t->visible[row]; key++) {
        double score = 0;
        for (int64_t d = 0; d < m->size; d++)
            score += (double)q[(row * m->heads + head) * m->size + d] * keys[start + key * m->size + d];
        const double by = exp(score);
        sum += by;
        for (int64_t i = 0; i < m->size; i++) out[i] += by * values[start + key * m->size + i];
    }
    for (int64_t i = 0; i < m->size; i++) out[i] /= sum;
}

static int check_attention(int64_t cache, int64_t heads, int64_t groups, int64_t size, int64_t rows, int alike,
                           int threads) {
    const Model model = {.heads = heads, .groups = groups, .size = size, .cache = cache};
    const int pairs = cache == BRAIN && attends_in_pairs(size);
    int64_t sequence[MOST_ROWS], visible[MOST_ROWS];
    const int64_t cells = 2 * groups * PLACES * size;
    float *keys = random_floats(cells, 4.f), *values = random_floats(cells, 2.f);
    const Layer layer = {.keys = kept_as(cache, keys, cells), .values = kept_as(cache, values, cells)};
    const Tokens tokens = {.rows = rows, .sequence = sequence, .visible = visible, .group_stride = PLACES * size,
                           .sequence_stride = groups * PLACES * size};
    for (int64_t row = 0; row < rows; row++) sequence[row] = next() % 2, visible[row] = 1 + next() % PLACES;
    for (int64_t row = 1; row < rows && alike; row++) sequence[row] = sequence[0], visible[row] = visible[0];
    float *queries = random_floats(rows * heads * size, 0.5f), *out = random_floats(rows * heads * size, 1.f);
    float *scratch = exactly(attention_floats(&model, &tokens, threads) * (int64_t)sizeof(float));
    double worst = 0;
    if (pairs) /* queries are rounded too, and weights by up to 2^-9, of values up to 1 */
        for (int64_t i = 0; i < rows * heads * size; i++) queries[i] = brain_to_float(float_to_brain(queries[i]));
#pragma omp parallel num_threads(threads)
    attend(&model, &layer, &tokens, queries, scratch, out);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t head = 0; head < heads; head++) {
            double right[MOST_SIZE];
            attended(&model, keys, values, &tokens, queries, row, head, right);
            for (int64_t i = 0; i < size; i++)
                worst = fmax(worst, fabs(right[i] - out[(row * heads + head) * size + i]));
        }
    free(queries), free(out), free(scratch), free(layer.keys), free(layer.values), free(keys), free(values);
    if (worst < (pairs ? 0x1p-9 : 2e-6)) return 0;
    printf("attention: cache of kind %d, %d heads of %d: off by %g\n", (int)cache, (int)heads, (int)size, worst);
    return 1;
}

static Matrix random_matrix(int64_t bits, int64_t n, int64_t k) {
    uint8_t *data = exactly(n * k * bits / 8);
    for (int64_t i = 0; i < n * k * bits / 8; i++) data[i] = (uint8_t)next();
    float *scale = random_floats(n, 0.f);
    for (int64_t i = 0; i < n; i++) scale[i] = (bits == 4 ? 0.2f : 0.012f) / sqrtf((float)k);
    return (Matrix){bits, data, scale, random_floats(n, 0.2f), n, k};
}

static void free_matrix(const Matrix *m) {
    free((void *)m->data), free((void *)m->scale), free((void *)m->bias);
}

/* The logits of the last of `rows` tokens, given `at_once` at a time. */
static int last_logits(const Model *model, const float *embedded, const float *turns, int64_t rows, int64_t at_once,
                       int threads, float *logits) {
    const int64_t turned = model->rotary == PAIRS ? model->turned / 2 : model->turned;
    int64_t sequence[MOST_ROWS] = {0}, place[MOST_ROWS], visible[MOST_ROWS];
    int status = GLM_OK;
    for (int64_t row = 0; row < rows; row++) place[row] = row, visible[row] = row + 1;
    for (int64_t row = 0; row < rows; row += at_once) {
        float *hidden = exactly(at_once * model->hidden * (int64_t)sizeof(float));
        memcpy(hidden, embedded + row * model->hidden, (size_t)(at_once * model->hidden) * sizeof(float));
        const Tokens tokens = {at_once, sequence, place + row, visible + row, turns + row * turned, turns + row * turned,
                               model->groups * PLACES * model->size, PLACES * model->size, hidden, logits, 1, rows,
                               BOTH, NULL};
        void *memory = aligned_alloc(64, (size_t)(glm_step_bytes(model, &tokens, threads) + 63) / 64 * 64);
        status |= glm_step(model, &tokens, memory, threads);
        free(memory), free(hidden);
    }
    return status;
}

/* The states of `rows` tokens that all see each other; in halves, over `at_once` rows after the others, or whole. */
static float *both_ways(const Model *model, const float *embedded, const float *turns, int64_t rows, int64_t at_once,
                        int threads) {
    const int64_t turned = model->rotary == PAIRS ? model->turned / 2 : model->turned, wide = model->heads * model->size;
    int64_t sequence[MOST_ROWS] = {0}, place[MOST_ROWS], visible[MOST_ROWS];
    float *hidden = exactly(rows * model->hidden * (int64_t)sizeof(float)), *queries = random_floats(rows * wide, 0.f);
    Model one = *model;
    one.layers = 1;
    memcpy(hidden, embedded, (size_t)(rows * model->hidden) * sizeof(float));
    for (int64_t row = 0; row < rows; row++) place[row] = row, visible[row] = rows;
    for (one.layer = model->layer; one.layer < model->layer + model->layers; one.layer++)
        for (int64_t half = at_once ? STORING : BOTH; half <= (at_once ? SEEING : BOTH); half++)
            for (int64_t row = 0; row < rows; row += at_once ? at_once : rows) {
                const int64_t some = at_once ? at_most(at_once, rows - row) : rows;
                const Tokens tokens = {some, sequence, place + row, visible + row, turns + row * turned,
                                       turns + row * turned, model->groups * PLACES * model->size, PLACES * model->size,
                                       hidden + row * model->hidden, NULL, 0, at_least(0, 1 - row), half,
                                       half == BOTH ? NULL : queries + row * wide};
                void *memory = aligned_alloc(64, (size_t)(glm_step_bytes(&one, &tokens, threads) + 63) / 64 * 64);
                if (glm_step(&one, &tokens, memory, threads)) hidden[0] = NAN;
                free(memory);
            }
    free(queries);
    return hidden;
}

static int halves_differ(const Model *model, const float *embedded, const float *turns, int64_t rows, int threads) {
    float *whole = both_ways(model, embedded, turns, rows, 0, threads);
    int differ = whole[0] != whole[0];
    for (int64_t at_once = 1; at_once <= rows; at_once++) {
        float *halves = both_ways(model, embedded, turns, rows, at_once, threads);
        differ |= memcmp(whole, halves, (size_t)(rows * model->hidden) * sizeof(float)) != 0;
        free(halves);
    }
    free(whole);
    return differ;
}

static int check_step(int64_t cache, int64_t bits, int first_generation, int threads) {
    const int64_t hidden = 96, heads = 6, groups = first_generation ? 6 : 2, size = 32, ffn = 130, rows = 4, vocabulary = 33;
    float *weight = random_floats(hidden, 2.f), *bias = random_floats(hidden, 1.f);
    const Norm norm = {weight, first_generation ? bias : NULL};
    const Norm none = {NULL, NULL};
    Layer layers[2];
    for (int i = 0; i < 2; i++)
        layers[i] = (Layer){norm, norm, i ? norm : none, i ? norm : none, random_matrix(bits, (heads + 2 * groups) * size, hidden),
                            random_matrix(bits, hidden, heads * size),
                            random_matrix(bits, first_generation ? ffn : 2 * ffn, hidden), random_matrix(bits, hidden, ffn),
                            random_floats(groups * PLACES * size, 0.f), random_floats(groups * PLACES * size, 0.f)};
    const Model model = {2, hidden, heads, groups, size, ffn, first_generation, first_generation ? HALVES : PAIRS,
                         first_generation || bits == 8 ? size : size / 2,
                         first_generation ? 2 : 1, first_generation ? GELU : SWIGLU, 1, cache, first_generation,
                         first_generation ? 2.f : 1.f, 1e-5f, layers, norm, random_matrix(bits, vocabulary, hidden)};
    float *embedded = random_floats(rows * hidden, 2.f), *turns = random_floats(rows * size, 2.f);
    float *together = random_floats(vocabulary, 0.f), *singly = random_floats(vocabulary, 0.f);
    int wrong = last_logits(&model, embedded, turns, rows, rows, threads, together);
    wrong |= last_logits(&model, embedded, turns, rows, 1, threads, singly);
    for (int64_t i = 0; i < vocabulary; i++) wrong |= !(fabsf(together[i] - singly[i]) < 1e-3f * (1.f + fabsf(singly[i])));
    wrong |= halves_differ(&model, embedded, turns, rows, threads);
    embedded[hidden + 1] = NAN;
    wrong |= last_logits(&model, embedded, turns, rows, rows, threads, together) != GLM_NOT_FINITE;
    for (int i = 0; i < 2; i++) {
        const Matrix all[] = {layers[i].qkv, layers[i].dense, layers[i].up, layers[i].down};
        for (int j = 0; j < 4; j++) free_matrix(all + j);
        free(layers[i].keys), free(layers[i].values);
    }
    free_matrix(&model.head), free(weight), free(bias), free(embedded), free(turns), free(together), free(singly);
    return wrong != 0;
}

static int check_steps(void) {
    static const int64_t caches[] = {SINGLE, BRAIN};
    int failures = 0;
    for (int threads = 1; threads <= 3; threads += 2)
        for (int64_t rows = 1; rows <= MOST_ROWS; rows += 2) {
            const int64_t shapes[][3] = {{16, 1, 128}, {7, 7, 32}, {10, 2, 16}, {6, 2, 48}, {7, 1, 64}};
            for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
                for (int i = 0; i < 4; i++)
                    failures += check_attention(caches[i / 2], shapes[s][0], shapes[s][1], shapes[s][2], rows, i % 2,
                                                threads);
        }
    for (int first = 0; first < 2; first++)
        for (int i = 0; i < 2; i++) failures += check_step(caches[i], 4, first, 3) + check_step(caches[i], 8, first, 1);
    return failures;
}
