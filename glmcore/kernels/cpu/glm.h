/* Shared by all sources of the CPU kernels: the ABI, sizes, and what one file offers to another.
 *
 * Quantised weights keep the original row-major packing: int8 rows of K bytes, or int4 rows of K/2 bytes with the even
 * column in the high nibble and the odd one in the low nibble, two's complement; one float scale per row.
 * Columns are worked on in blocks of 128.  Inside a block of an int4 matrix the activations are kept in "split"
 * order, 64 even columns then 64 odd ones, so that masking a byte's nibbles yields neighbours of the same half.
 */
#ifndef GLM_H
#define GLM_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_max_threads() 1
#define omp_get_num_threads() 1
#define omp_get_thread_num() 0
#endif

#define EXPORT __attribute__((visibility("default")))
#define GLM_ABI 6
#define BLOCK 128
#define ROWS_PER_TASK 32  /* floats: rows that a thread takes at a time; cores are shared, so they take turns freely */
#define STREAMS 4         /* floats: matrix rows side by side */
#define SMALL 500000      /* multiplications, some 20 microseconds of one thread */
#define PRECISE_ROWS 16   /* prompts of up to so many tokens keep what answers keep: they need it as those do */
#define CHUNK 128         /* prefill: activation rows that share one unpacked tile */

#define TILE_OFFSET4 8    /* prefill: int4 weights are multiplied as value + 8 */

#define INFINITE 0x7f800000  /* bits of +inf: every |value| at or above it is infinite or NaN */
#define INLINE static inline __attribute__((always_inline))

enum { GLM_OK = 0, GLM_NOT_FINITE = 1, GLM_NO_MEMORY = 2, GLM_BAD_ARGUMENT = 3 };

/* Kinds of weights: two of integers, three of floats. */
enum { INT4 = 4, INT8 = 8, HALF = 16, BRAIN = 17, SINGLE = 32 };

typedef struct {
    int bits;              /* INT4 … SINGLE */
    const uint8_t *data;   /* [n][row_bytes] */
    const float *scale;    /* [n], of integers only */
    const float *bias;     /* [n] or NULL */
    int64_t n, k, row_bytes, block_bytes, blocks, full_blocks;
} Weights;

/* How much of its activations a product keeps, beside whether they are a prompt's: see kind_of. */
enum { FAST = 0, EXACT = 1, LIGHT = 2 };

/* How activations are kept.  FLOATS: as they are.  The others are integers with one scale per block, of 8, 16 or 24
 * bits, so that the arithmetic stays in integers: the first two what int8 and int16 keep, the third as good as float32
 * for a block's largest value. */
enum { BITS8 = 1, BITS16 = 2, BITS24 = 3, FLOATS = 4 };

/* Integers are split into signed digits of base 256, int8 each and the highest first; where the instruction set works
 * on int8 weights by 16-bit products (WORDS8) they are int16 instead: the integer itself, or with 24 bits the two upper
 * digits in one and the lowest. */
enum { DIGITS, WORDS };

/* Packed activations, block by block so that neighbouring rows never lie a power of two apart.
 *
 * A block's integers are multiplied in one part, or with 24 bits in two (the highest digit or word, and what is below
 * it), of which each sums up to 32 bits.  Every kernel computes a row's product in the same order, so that its bits do
 * not depend on which kernel served it, nor on the rows beside it: block by block, the parts from the highest on,
 * total += float(sum of weight * integer over the 128 columns) * scale.  Weights are multiplied as value + offset where
 * that is unsigned; what the offset adds is taken off as an integer. */
typedef struct {
    int64_t m, k, blocks, stride; /* stride: bytes of one row's block */
    int kind, split, digits;      /* digits: DIGITS or WORDS */
    int8_t *q;                    /* integers: [blocks][m][stride] */
    float *scale;                 /* integers: [blocks][parts][m], value = the parts' integers times their scales */
    int32_t *start;               /* integers: [blocks][parts][m], what the offset of a tile's weights adds, negative */
    float *values;                /* FLOATS: [blocks][m][128] */
    int64_t *claimed;             /* decode: how many matrix rows the threads have taken */
} Activations;

#define MOST_PARTS 2
static inline int parts_of(int kind) { return kind == BITS24 ? 2 : 1; }
static inline int first_part(int kind, int part) { return kind == BITS24 && part == 0; } /* the one above another */
/* Bytes of one row's block. */
static inline int64_t stride_of(int kind, int digits) {
    if (kind == FLOATS) return BLOCK * sizeof(float);
    return digits == DIGITS ? kind * BLOCK : parts_of(kind) * BLOCK * (int64_t)sizeof(int16_t);
}
/* What a part counts, and where it lies within a row's block. */
static inline float factor_of(int kind, int words, int part) {
    return !first_part(kind, part) ? 1.f : words ? 256.f : 65536.f;
}
static inline int64_t offset_of(int words, int part) { return part * (words ? 2 : 1) * BLOCK; }
static inline int digits_of_part(int kind, int words, int part) {
    return words || kind == BITS8 || first_part(kind, part) ? 1 : 2;
}

Weights weights_of(int bits, const void *data, const float *scale, const float *bias, int64_t n, int64_t k);
int kind_of(const Weights *w, int precision, int prompt); /* how activations are kept */
int is_few(const Weights *w, int kind, int64_t m);         /* whether m rows of a kind are for linear_few */

/* Activations in memory of the caller's, aligned to 64 bytes; the memory is only written by packing.  FLOATS take the
 * most. */
size_t activations_bytes(int64_t k, int64_t m, int kind);
Activations activations_over(void *memory, const Weights *w, int64_t m, int kind);

/* Packs columns 128 block … of one activation row x[k]; any thread may take any block.  Returns the bits of the largest
 * |value|: INFINITE or more where one is infinite or NaN. */
int32_t pack_block(const Activations *a, const float *x, int64_t row, int64_t block);

/* The following are called by every thread of a team (or outside of one): the threads share the work, and all of it is
 * done when they return.  `pack` packs x[m][k] and returns the largest of the calling thread's share. */
int32_t pack(const Activations *a, const float *x);
void linear_few(const Weights *w, const Activations *a, float *y);   /* y[m][n] from integers; floats: FLOATS */
void linear_many(const Weights *w, const Activations *a, float *y);  /* y[m][n] from any kind; weights of integers */

/* What a matrix is multiplied by, and the results; `other` may be NULL. */
typedef struct {
    const Activations *a, *other;
    float *y, *other_y;
} Factors;

/* How a few long streams of weights are read.  As abi.py has it. */
typedef struct {
    int64_t near, far;  /* bytes that are asked for ahead, in narrow and in wide matrices */
    int64_t most_bytes; /* of a stretch */
    int64_t wide;       /* columns from which a matrix is wide: activations crowd the first cache, so more rows share them */
} Reading;
void decode(const Weights *w, const Factors *x);                   /* linear_few for integers */
int several_rows(const Activations *a);                              /* whether decoding is for `several` */
int shared_rows(const Activations *a, const Activations *other);     /* whether both can go at once */
void several(const Weights *w, const Factors *x, int64_t first, int64_t count); /* a stretch of it */
void decode_floats(const Weights *w, const Activations *a, float *y);

static inline int64_t at_most(int64_t most, int64_t left) { return left < most ? left : most; }
static inline int64_t at_least(int64_t least, int64_t value) { return value > least ? value : least; }

/* A product's result out of its total. */
static inline float finished(const Weights *w, int64_t n, float total) {
    const float scaled = w->scale[n] * total;
    return w->bias ? scaled + w->bias[n] : scaled;
}

/* One thread for products that take less than waking others does.  Nothing between one and all: OpenMP would end and
 * start threads each time the number changes. */
static inline int threads_for(int threads, int64_t m, int64_t n, int64_t k) {
    return threads < 1 || m * n * k < SMALL ? 1 : threads;
}

/* Block b of a row, filled up with zero bytes to `size` where the row ends. */
static inline void copy_block(const Weights *w, int64_t row, int64_t b, uint8_t *out, size_t size) {
    memset(out, 0, size);
    memcpy(out, w->data + row * w->row_bytes + b * w->block_bytes,
           (size_t)at_most(w->block_bytes, w->row_bytes - b * w->block_bytes));
}
#endif
