/* Shared by all sources of the CPU kernels: the ABI, sizes, and what one file offers to another.
 *
 * Weights keep the original row-major packing: int8 rows of K bytes, or int4 rows of K/2 bytes with the even
 * column in the high nibble and the odd one in the low nibble, two's complement; one float scale per row.
 * Columns are worked on in blocks of 128.  Inside a block of an int4 matrix the activations are kept in "split"
 * order, 64 even columns then 64 odd ones, so that masking a byte's nibbles yields neighbours of the same half.
 */
#ifndef GLM_H
#define GLM_H
#include <stdint.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_max_threads() 1
#endif

#define EXPORT __attribute__((visibility("default")))
#define GLM_ABI 1
#define BLOCK 128
#define ROWS_PER_TASK 32  /* decode: rows that a thread takes at a time; cores are shared, so they take turns freely */
#define CHUNK 128         /* prefill: activation rows that share one unpacked tile */

enum { GLM_OK = 0, GLM_NOT_FINITE = 1, GLM_NO_MEMORY = 2, GLM_BAD_ARGUMENT = 3 };

typedef struct {
    int bits;              /* 4 or 8 */
    const uint8_t *data;   /* [n][row_bytes] */
    const float *scale;    /* [n] */
    const float *bias;     /* [n] or NULL */
    int64_t n, k, row_bytes, block_bytes, blocks;
} Weights;

/* Packed activations, block by block so that neighbouring rows never lie a power of two apart. */
typedef struct {
    int64_t m;
    int8_t *q;      /* fast: [blocks][m][128] */
    float *scale;   /* fast: [blocks][m], value = q * scale */
    float *sum;     /* fast: [m], sum of all values, for the weights' offset */
    float *values;  /* exact: [blocks][m][128] */
} Activations;

int pack_activations(const float *x, const Weights *w, int64_t m, int exact, int threads, Activations *out);
void free_activations(Activations *a);

void decode_fast(const Weights *w, const Activations *a, float *y, int threads);
void decode_exact(const Weights *w, const Activations *a, float *y, int threads);
void prefill_fast(const Weights *w, const Activations *a, float *y, int threads);
void prefill_exact(const Weights *w, const Activations *a, float *y, int threads);

/* The bytes of block b of a row; a short last block is copied out and filled with zero bytes. */
static inline const uint8_t *block_of(const Weights *w, const uint8_t *row, int64_t b, uint8_t *spare) {
    int64_t have = w->row_bytes - b * w->block_bytes;
    if (have >= w->block_bytes) return row + b * w->block_bytes;
    memset(spare, 0, (size_t)w->block_bytes);
    memcpy(spare, row + b * w->block_bytes, (size_t)have);
    return spare;
}
#endif
