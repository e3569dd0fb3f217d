/* What the memory gives: read everything once, four streams per thread as decoding does. */
#include "glm.h"

#define STRETCH 65536 /* bytes that a thread reads at a time, in four streams */

EXPORT uint64_t glm_read(const void *data, int64_t bytes, int threads) {
    uint64_t total = 0;
    const int64_t words = STRETCH / 4 / 8;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4) reduction(^ : total)
    for (int64_t at = 0; at < bytes / STRETCH; at++) {
        const uint64_t *p = (const uint64_t *)data + at * 4 * words;
        for (int64_t i = 0; i < words; i += 8) {
            for (int s = 0; s < 4; s++) __builtin_prefetch(p + s * words + i + 4 * words);
            for (int s = 0; s < 4; s++)
                for (int j = 0; j < 8; j++) total ^= p[s * words + i + j];
        }
    }
    return total;
}
