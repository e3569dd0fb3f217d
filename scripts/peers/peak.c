/* The arithmetic peak: products of integers as the kernels use them, and of floats, out of registers alone. */
#include <stdint.h>
#include <string.h>

#if defined(GLM_AVX512VNNI) || defined(GLM_AVX512) || defined(GLM_AVXVNNI) || defined(GLM_AVX2)
#include <immintrin.h>
#endif

#define SUMS 10 /* independent, so that no product waits for another */
#define EACH for (int j = 0; j < SUMS; j++)

#if defined(GLM_AVX512VNNI)
typedef __m512i vi;
typedef __m512 vf;
#define LANES 16
#define NAME "vpdpbusd, 512 bits"
static inline vi product(vi sum, vi a, vi b) {
    __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}
static inline vf multiply_add(vf sum, vf a, vf b) {
    __asm__ volatile("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}
#elif defined(GLM_AVX512)
typedef __m512i vi;
typedef __m512 vf;
#define LANES 16
#define NAME "vpmaddubsw and vpaddw, 512 bits"
static inline vi product(vi sum, vi a, vi b) {
    vi pairs;
    __asm__ volatile("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0" : "+v"(sum), "=&v"(pairs) : "v"(a), "v"(b));
    return sum;
}
static inline vf multiply_add(vf sum, vf a, vf b) {
    __asm__ volatile("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}
#elif defined(GLM_AVXVNNI) || defined(GLM_AVX2)
typedef __m256i vi;
typedef __m256 vf;
#define LANES 8
#ifdef GLM_AVXVNNI
#define NAME "vpdpbusd, 256 bits"
static inline vi product(vi sum, vi a, vi b) {
    __asm__ volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
    return sum;
}
#else
#define NAME "vpmaddubsw and vpaddw, 256 bits"
static inline vi product(vi sum, vi a, vi b) {
    vi pairs;
    __asm__ volatile("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0" : "+x"(sum), "=&x"(pairs) : "x"(a), "x"(b));
    return sum;
}
#endif
static inline vf multiply_add(vf sum, vf a, vf b) {
    __asm__ volatile("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
    return sum;
}
#elif defined(GLM_NEON)
#include <arm_neon.h>
typedef int32x4_t vi;
typedef float32x4_t vf;
#define LANES 4
#define NAME "sdot, 128 bits"
static inline vi product(vi sum, vi a, vi b) {
    __asm__ volatile("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(a), "w"(b));
    return sum;
}
static inline vf multiply_add(vf sum, vf a, vf b) {
    __asm__ volatile("fmla %0.4s, %1.4s, %2.4s" : "+w"(sum) : "w"(a), "w"(b));
    return sum;
}
#else
typedef int32_t vi;
typedef float vf;
#define LANES 1
#define NAME "plain C"
static inline vi product(vi sum, vi a, vi b) {
    __asm__ volatile("" : "+r"(a));
    return sum + a * b;
}
static inline vf multiply_add(vf sum, vf a, vf b) {
    __asm__ volatile("" : "+r"(a));
    return sum + a * b;
}
#endif

#define WIDTH (LANES == 1 ? 1 : 4 * LANES) /* bytes that one integer product takes from either side */

const char *peak_name(void) { return NAME; }

/* Operations done: a multiplication and an addition for each pair of numbers. */
int64_t peak_integers(int64_t rounds, int threads) {
    int64_t kept = 0;
#pragma omp parallel num_threads(threads) reduction(^ : kept)
    {
        vi sums[SUMS] = {0}, a = {0}, b = {0}, all = {0};
        for (int64_t i = 0; i < rounds; i++) EACH sums[j] = product(sums[j], a, b);
        EACH all ^= sums[j];
        int32_t part;
        memcpy(&part, &all, sizeof part);
        kept ^= part;
    }
    return (kept & 0) + rounds * threads * SUMS * WIDTH * 2;
}

int64_t peak_floats(int64_t rounds, int threads) {
    float kept = 0;
#pragma omp parallel num_threads(threads) reduction(+ : kept)
    {
        vf sums[SUMS] = {0}, a = {0}, b = {0}, all = {0};
        for (int64_t i = 0; i < rounds; i++) EACH sums[j] = multiply_add(sums[j], a, b);
        EACH all += sums[j];
        float part;
        memcpy(&part, &all, sizeof part);
        kept += part;
    }
    return rounds * threads * SUMS * LANES * 2 + (kept != kept);
}
