/* Attention of some tokens over the cache.  The queries of a group share its keys and values: every key is read once
 * for all of them, and where they are few, for those of several tokens that see the same keys.  Keys are taken in parts
 * of PART, each with its own maximum and sum, which are merged in their order: what comes out does not depend on how
 * many tokens and threads there are.  Where tokens and groups are too few for the threads, the parts are shared out as
 * well. */
#include <math.h>
#include <string.h>

#include "attention.h"
#include "glm.h"
#include "simd.h"
#include "step.h"

#define PART 256      /* keys that are merged with others as one */
#define TASKS 4       /* per thread, so that a thread that was held up leaves work to the others */
#define LINE 16       /* floats in a cache line */
#define TOGETHER 6    /* queries whose sums of values stay in registers, two vectors each */
#define ALIKE 12      /* queries of neighbouring tokens: keys are read once for all, and are in the first cache then */
#define SCORED 3      /* queries whose sums of scores do, four keys each */

static int64_t part_floats(const Model *model) { return model->heads / model->groups * (model->size + 2); }

/* Tokens whose queries of a group are taken at once where they see the same keys. */
static int64_t rows_together(const Model *model) { return at_least(1, ALIKE / (model->heads / model->groups)); }

/* The part of `rows` tokens, where those of one each would be number `index`. */
static Part part_at(const Model *model, float *scratch, int64_t index, int64_t rows) {
    const int64_t queries = rows * (model->heads / model->groups);
    float *at = scratch + index * part_floats(model);
    return (Part){at, at + queries, at + 2 * queries};
}

/* What a piece of work asks the memory for while it computes: part `index` of `of` parts of what lies at `from`.
 * Scores ask for the values of their keys, mixing asks for the next keys, a few lines at a time: more than some tens at
 * once make the processor wait. */
typedef struct {
    const float *from;
    int64_t index, of;
} Share;

/* Asks for its part of `count` keys or values from number `first` on; addresses beyond the cache do no harm. */
INLINE void fetch(Share share, int64_t first, int64_t count, int64_t size) {
    const int64_t lines = count * size / LINE, end = lines * (share.index + 1) / share.of;
    for (int64_t i = lines * share.index / share.of; i < end; i++)
        __builtin_prefetch(share.from + first * size + LINE * i, 0, 2);
}

/* scores[query][key] of up to three queries and four keys, or of one key; the counts are constants in the inlined
 * copies. */
INLINE void score_block(const int queries, const int keys, const float *query, const float *key,
                        int64_t size, float *scores) {
    vf sum[SCORED][4];
    for (int q = 0; q < queries; q++)
        for (int k = 0; k < keys; k++) sum[q][k] = vf_zero();
    for (int64_t i = 0; i < size; i += LANES) {
        vf own[SCORED];
#pragma GCC unroll 3
        for (int q = 0; q < queries; q++) own[q] = vf_load(query + q * size + i);
#pragma GCC unroll 4
        for (int k = 0; k < keys; k++) {
            const vf at = vf_load(key + k * size + i);
#pragma GCC unroll 3
            for (int q = 0; q < queries; q++) sum[q][k] = vf_fma(own[q], at, sum[q][k]);
        }
    }
    for (int q = 0; q < queries; q++)
        if (keys == 4)
            vf_sum4(sum[q], scores + q * KEYS);
        else
            scores[q * KEYS] = vf_sum(sum[q][0]);
}

INLINE void score_keys(const int queries, const float *query, const float *key, int64_t size, int64_t count,
                       Share next, float *scores) {
    int64_t k = 0;
    for (; k + 4 <= count; k += 4) {
        fetch(next, k, 4, size);
        score_block(queries, 4, query, key + k * size, size, scores + k);
    }
    for (; k < count; k++) score_block(queries, 1, query, key + k * size, size, scores + k);
}

/* out[query] += weights[query][key] · values[key], for `vectors` vectors of each query's sum; constants as above. */
INLINE void mix_columns(const int queries, const int vectors, const float *weights, const float *value, int64_t size,
                        int64_t count, float *out) {
    vf sum[TOGETHER][2];
    for (int q = 0; q < queries; q++)
        for (int v = 0; v < vectors; v++) sum[q][v] = vf_load(out + q * size + v * LANES);
    for (int64_t k = 0; k < count; k++) {
        vf at[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) at[v] = vf_load(value + k * size + v * LANES);
#pragma GCC unroll 6
        for (int q = 0; q < queries; q++) {
            const vf by = vf_set1(weights[q * KEYS + k]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) sum[q][v] = vf_fma(at[v], by, sum[q][v]);
        }
    }
    for (int q = 0; q < queries; q++)
        for (int v = 0; v < vectors; v++) vf_store(out + q * size + v * LANES, sum[q][v]);
}

INLINE void mix_values(const int queries, const float *weights, const float *value, int64_t size, int64_t count,
                       Share next, float *out) {
    const int64_t pairs = size / (2 * LANES);
    int64_t i = 0;
    for (; i + 2 * LANES <= size; i += 2 * LANES) {
        fetch((Share){next.from, next.index * pairs + i / (2 * LANES), next.of * pairs}, 0, KEYS, size);
        mix_columns(queries, 2, weights, value + i, size, count, out + i);
    }
    if (i < size) mix_columns(queries, 1, weights, value + i, size, count, out + i);
}

/* One copy for each number of queries, so that all sums stay in registers. */
#define SCORED_AT_ONCE(call)                                             \
    for (int64_t q = 0; q < queries; q += SCORED) switch (queries - q) { \
        default: call(SCORED); break;                                    \
        case 2: call(2); break;                                          \
        case 1: call(1); break;                                          \
    }
#define MIXED_AT_ONCE(call)                                                \
    for (int64_t q = 0; q < queries; q += TOGETHER) switch (queries - q) { \
        default: call(TOGETHER); break;                                    \
        case 5: call(5); break;                                            \
        case 4: call(4); break;                                            \
        case 3: call(3); break;                                            \
        case 2: call(2); break;                                            \
        case 1: call(1); break;                                            \
    }

void soften(Part part, int64_t query, float *scores, int64_t count, int64_t size) {
    float largest = part.largest[query], sum = 0.f;
#pragma omp simd reduction(max : largest)
    for (int64_t k = 0; k < count; k++) largest = scores[k] > largest ? scores[k] : largest;
    for (int64_t k = 0; k < count; k++) scores[k] = exponential(scores[k] - largest);
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < count; k++) sum += scores[k];
    const float lower = exponential(part.largest[query] - largest);
    part.largest[query] = largest;
    part.sum[query] = part.sum[query] * lower + sum;
    if (lower != 1.f)
        for (int64_t i = 0; i < size; i++) part.out[query * size + i] *= lower;
}

void attend_floats(int64_t queries, const float *query, const float *key, const float *value, int64_t size, int64_t count,
                   Part part) {
    float scores[MOST_QUERIES * KEYS] __attribute__((aligned(64)));
#define SHARE(from, each) ((Share){from, q / each, (queries + each - 1) / each})
#define CALL(n) score_keys(n, query + q * size, key, size, count, SHARE(value, SCORED), scores + q * KEYS)
    SCORED_AT_ONCE(CALL)
#undef CALL
    for (int64_t q = 0; q < queries; q++) soften(part, q, scores + q * KEYS, count, size);
#define CALL(n) \
    mix_values(n, scores + q * KEYS, value, size, count, SHARE(key + KEYS * size, TOGETHER), part.out + q * size)
    MIXED_AT_ONCE(CALL)
#undef CALL
}

/* The parts of the keys that a token sees. */
static int64_t parts_of_row(const Tokens *tokens, int64_t row) { return (tokens->visible[row] + PART - 1) / PART; }

/* The most parts of any token where parts are shared out, else 0. */
static int64_t shared_parts(const Model *model, const Tokens *tokens, int threads) {
    int64_t most = 0;
    if (threads == 1 || tokens->rows * model->groups >= (int64_t)threads * TASKS) return 0;
    for (int64_t row = 0; row < tokens->rows; row++) most = at_least(most, parts_of_row(tokens, row));
    return most;
}

/* Shared parts stand each in a place of its own; otherwise a thread has one part beside what it has merged, of some
 * tokens. */
int64_t attention_floats(const Model *model, const Tokens *tokens, int threads) {
    const int64_t shared = shared_parts(model, tokens, threads) * tokens->rows * model->groups;
    return at_least(2 * threads * rows_together(model), shared) * part_floats(model);
}

/* A group's queries of some neighbouring tokens, which see the same keys. */
typedef struct {
    int64_t row, rows, group;
    const float *queries; /* [rows][heads / groups][size] */
} Group;

static int64_t queries_of(const Model *model, const Group *of) { return of->rows * (model->heads / model->groups); }

/* Over part p of the keys. */
static void attend_part(const Model *model, const Layer *layer, const Tokens *tokens, const Group *of, int64_t p,
                        Part part) {
    const int64_t size = model->size, queries = queries_of(model, of);
    const int64_t start = tokens->sequence[of->row] * tokens->sequence_stride + of->group * tokens->group_stride;
    const int64_t from = start + p * PART * size, count = at_most(PART, tokens->visible[of->row] - p * PART);
    for (int64_t q = 0; q < queries; q++) part.largest[q] = -1e30f, part.sum[q] = 0.f;
    memset(part.out, 0, (size_t)(queries * size) * sizeof(float));
    if (model->cache == BRAIN) {
        attend_brains(queries, of->queries, (const uint16_t *)layer->keys + from,
                      (const uint16_t *)layer->values + from, size, count, part);
        return;
    }
    const float *key = (const float *)layer->keys + from, *value = (const float *)layer->values + from;
    for (int64_t k = 0; k < count; k += KEYS)
        attend_floats(queries, of->queries, key + k * size, value + k * size, size, at_most(KEYS, count - k), part);
}

/* Adds a part to those before it. */
static void merge(const Model *model, const Group *of, Part all, Part next) {
    const int64_t size = model->size;
    for (int64_t q = 0; q < queries_of(model, of); q++) {
        const float largest = all.largest[q] > next.largest[q] ? all.largest[q] : next.largest[q];
        const float by = exponential(all.largest[q] - largest), own = exponential(next.largest[q] - largest);
        all.largest[q] = largest;
        all.sum[q] = all.sum[q] * by + next.sum[q] * own;
        for (int64_t i = q * size; i < (q + 1) * size; i++) all.out[i] = all.out[i] * by + next.out[i] * own;
    }
}

static void put_out(const Model *model, const Group *of, Part all, float *out) {
    const int64_t size = model->size, each = model->heads / model->groups;
    for (int64_t q = 0; q < queries_of(model, of); q++) {
        float *to = out + ((of->row + q / each) * model->heads + of->group * each + q % each) * size;
        for (int64_t i = 0; i < size; i++) to[i] = all.out[q * size + i] / all.sum[q];
    }
}

static const float *queries_at(const Model *model, const float *queries, int64_t row, int64_t group) {
    return queries + (row * model->heads + group * (model->heads / model->groups)) * model->size;
}

/* Of one token. */
static Group group_at(const Model *model, const float *queries, int64_t row, int64_t group) {
    return (Group){row, 1, group, queries_at(model, queries, row, group)};
}

/* One part after the other. */
static void attend_group(const Model *model, const Layer *layer, const Tokens *tokens, const Group *of, float *scratch,
                         float *out) {
    const int64_t room = rows_together(model);
    const Part all = part_at(model, scratch, 2 * room * omp_get_thread_num(), of->rows);
    const Part next = part_at(model, scratch, 2 * room * omp_get_thread_num() + room, of->rows);
    attend_part(model, layer, tokens, of, 0, all);
    for (int64_t p = 1; p < parts_of_row(tokens, of->row); p++) {
        attend_part(model, layer, tokens, of, p, next);
        merge(model, of, all, next);
    }
    put_out(model, of, all, out);
}

/* Whether the rows from this one on are tokens that see the same keys. */
static int see_the_same(const Tokens *tokens, int64_t row, int64_t rows) {
    for (int64_t i = row + 1; i < row + rows; i++)
        if (tokens->sequence[i] != tokens->sequence[row] || tokens->visible[i] != tokens->visible[row]) return 0;
    return 1;
}

/* A group of `rows` tokens: together where they see the same keys. */
static void attend_rows(const Model *model, const Layer *layer, const Tokens *tokens, const float *queries, int64_t row,
                        int64_t rows, int64_t group, float *scratch, float *out) {
    const int64_t floats = model->heads / model->groups * model->size;
    if (rows > 1 && see_the_same(tokens, row, rows)) {
        float together[ALIKE * MOST_SIZE] __attribute__((aligned(64)));
        for (int64_t i = 0; i < rows; i++)
            memcpy(together + i * floats, queries_at(model, queries, row + i, group), (size_t)floats * sizeof(float));
        attend_group(model, layer, tokens, &(Group){row, rows, group, together}, scratch, out);
        return;
    }
    for (int64_t i = row; i < row + rows; i++) {
        const Group of = group_at(model, queries, i, group);
        attend_group(model, layer, tokens, &of, scratch, out);
    }
}

/* The parts of few tokens, shared out to all threads. */
static void attend_in_parts(const Model *model, const Layer *layer, const Tokens *tokens, const float *queries,
                            int64_t parts, float *scratch, float *out) {
    const int64_t rows = tokens->rows, tasks = rows * model->groups;
#pragma omp for schedule(dynamic, 1)
    for (int64_t index = 0; index < tasks * parts; index++) {
        const Group of = group_at(model, queries, index / parts % rows, index / parts / rows);
        if (index % parts < parts_of_row(tokens, of.row))
            attend_part(model, layer, tokens, &of, index % parts, part_at(model, scratch, index, 1));
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < tasks; task++) {
        const Group of = group_at(model, queries, task % rows, task / rows);
        const Part all = part_at(model, scratch, task * parts, 1);
        for (int64_t p = 1; p < parts_of_row(tokens, of.row); p++)
            merge(model, &of, all, part_at(model, scratch, task * parts + p, 1));
        put_out(model, &of, all, out);
    }
}

void attend(const Model *model, const Layer *layer, const Tokens *tokens, const float *queries, float *scratch,
            float *out) {
    const int64_t parts = shared_parts(model, tokens, omp_get_num_threads()), most = rows_together(model);
    const int64_t bundles = (tokens->rows + most - 1) / most;
    if (parts > 0) {
        attend_in_parts(model, layer, tokens, queries, parts, scratch, out);
        return;
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < bundles * model->groups; task++) {
        const int64_t row = task % bundles * most;
        attend_rows(model, layer, tokens, queries, row, at_most(most, tokens->rows - row), task / bundles, scratch,
                    out);
    }
}
