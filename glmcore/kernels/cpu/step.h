/* A whole model's forward pass over some tokens, in one parallel region: what Python describes, field for field
 * (glmcore/kernels/abi.py), and what the sources of the pass offer to each other.
 */
#ifndef GLM_STEP_H
#define GLM_STEP_H
#include <stdint.h>

typedef struct {
    int64_t bits;       /* as in linear.c */
    const void *data;   /* [n][k] */
    const float *scale, *bias;
    int64_t n, k;
} Matrix;

typedef struct {
    const float *weight, *bias; /* bias NULL: root-mean-square norm, otherwise layer norm */
} Norm;

typedef struct {
    Norm before_attention, before_mlp, after_attention, after_mlp; /* of what is added, those after; weight NULL: none */
    Matrix qkv, dense, up, down;
    void *keys, *values; /* [sequence][group][place][size] of the type that Model.cache says */
} Layer;

enum { PAIRS = 0, HALVES = 1 };
enum { GELU = 0, SWIGLU = 1 };

typedef struct {
    int64_t layers, hidden, heads, groups, size, ffn;
    int64_t within_heads; /* the fused projection holds query, key, value of each head together; else all of each */
    int64_t rotary; /* PAIRS: the first `turned` of a head turn, even with odd; HALVES: all of it, each of `parts` parts */
    int64_t turned;
    int64_t parts, gate, precision;
    int64_t cache; /* SINGLE or BRAIN, the type of keys and values */
    int64_t residual_of_norm; /* the residual is what the norm gives, else what it was given */
    float residual, epsilon;  /* the residual's factor */
    const Layer *layer;
    Norm last; /* weight NULL: none */
    Matrix head;
} Model;

/* What a pass does of each layer.  Of rows that see each other both ways all have to be STORING before any is SEEING, but
 * not all at once. */
enum { BOTH = 0, STORING = 1, SEEING = 2 };

/* The tokens of one pass.  A token's key goes to `place`, and it sees the first `visible` places. */
typedef struct {
    int64_t rows;
    const int64_t *sequence, *place, *visible; /* [rows] */
    const float *cosines, *sines;              /* [rows][turned / 2] with PAIRS, [rows][turned] with HALVES */
    int64_t sequence_stride, group_stride;     /* numbers in a layer's keys and values */
    float *hidden;                             /* [rows][hidden], embeddings in, the last layer's states out */
    float *logits;                             /* [wanted][head.n], of the last `wanted` rows */
    int64_t wanted;
    int64_t answers; /* rows from this one on are of prompts, of which `fast` keeps less than of answers */
    int64_t half;    /* of every layer: STORING ends with keys, values and queries, SEEING goes on from there */
    float *queries;  /* [rows][heads * size], out of STORING and into SEEING; NULL with BOTH */
} Tokens;

/* The arithmetic between the products.  All of it is called by every thread of a team and ends with a barrier. */
void normalise(const Model *model, const Norm *norm, const float *x, float *y, int64_t rows);
void add_residual(const Model *model, const float *kept, const float *added, float *x, int64_t rows);
void activate(const Model *model, const float *up, float *y, int64_t rows);
void rotate_and_store(const Model *model, const Layer *layer, const Tokens *tokens, const float *mixed, float *queries);

/* out[rows][heads * size]: every query's mixture of values.  `scratch` holds attention_floats(…) floats. */
int64_t attention_floats(const Model *model, const Tokens *tokens, int threads);
void attend(const Model *model, const Layer *layer, const Tokens *tokens, const float *queries, float *scratch,
            float *out);

/* e^x for |x| within float32's range, to 2e-7; written so that loops over it become vector code. */
static inline float exponential(float x) {
    const float low = x > -87.f ? x : -87.f, z = low < 88.f ? low : 88.f;
    const float shifted = z * 1.44269504f + 12582912.f; /* rounds to an integer, which stands in the low bits */
    const float n = shifted - 12582912.f;
    const float r = z - n * 0.693359375f + n * 2.12194440e-4f; /* ln 2 in two parts (Cephes) */
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.f;
    union { float f; uint32_t u; } bits = {shifted};
    union { uint32_t u; float f; } scale = {(bits.u << 23) + 0x3f800000u};
    return p * scale.f;
}
#endif
