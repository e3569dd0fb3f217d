/* What the memory gives: read everything once, each thread in a few long streams as decoding does, and ask for nothing
 * beforehand: the hardware's own prefetching does that best. */
#include "glm.h"

#define STRETCH 1048576 /* bytes that a thread reads at a time */
#define WAYS 4          /* streams in it */

EXPORT uint64_t glm_read(const void *data, int64_t bytes, int threads) {
    uint64_t total = 0;
    const int64_t words = STRETCH / WAYS / 8;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) reduction(^ : total)
    for (int64_t at = 0; at < bytes / STRETCH; at++) {
        const uint64_t *p = (const uint64_t *)data + at * (STRETCH / 8);
        uint64_t sums[WAYS][8] = {{0}};
        for (int64_t i = 0; i < words; i += 8)
            for (int way = 0; way < WAYS; way++)
                for (int j = 0; j < 8; j++) sums[way][j] ^= p[way * words + i + j];
        for (int way = 0; way < WAYS; way++)
            for (int j = 0; j < 8; j++) total ^= sums[way][j];
    }
    return total;
}
