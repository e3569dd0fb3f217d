/* A group's queries over some of its keys, by the type that the cache keeps: attention.c, and attention16.c. */
#ifndef GLM_ATTENTION_H
#define GLM_ATTENTION_H
#include <stdint.h>

#define KEYS 64 /* at a time: as floats 32 KB of heads of 128, which stay in the first cache for all queries */
#define MOST_QUERIES 64
#define MOST_SIZE 256 /* of a head, where the cache keeps bfloat16 */

/* What is known after some of the keys, for each query of a group: [queries] each. */
typedef struct {
    float *largest, *sum, *out; /* out: [queries][size], not yet divided by sum */
} Part;

/* Turns one query's scores into weights, and lowers what it gathered so far where a larger score appears. */
void soften(Part part, int64_t query, float *scores, int64_t count, int64_t size);

/* query[queries][size] over key[count][size] and value[count][size]: floats up to KEYS, bfloat16 any number. */
void attend_floats(int64_t queries, const float *query, const float *key, const float *value, int64_t size, int64_t count,
                   Part part);
void attend_brains(int64_t queries, const float *query, const uint16_t *key, const uint16_t *value, int64_t size,
                   int64_t count, Part part);

/* Whether the latter multiplies pairs of bfloat16, to which it then rounds queries and weights; else it widens keys and
 * values to floats. */
int attends_in_pairs(int64_t size);
#endif
