// Vectors of as many channels as fit into a register, for the kernels in this folder.
//
// GCC's and Clang's vector extensions serve all CPUs; AVX-512 intrinsics appear where compilers miss the instruction.

#pragma once

#include <cstdint>
#include <cstring>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

// Channels in a vector.
#ifdef __AVX512F__
constexpr long L = 16;
#elif defined(__AVX__)
constexpr long L = 8;
#else
constexpr long L = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * L)));
typedef int32_t Ints __attribute__((vector_size(4 * L)));
typedef uint32_t Words __attribute__((vector_size(4 * L)));
typedef uint16_t Halves __attribute__((vector_size(2 * L)));

struct bf16 {
    uint16_t bits;
};

inline Floats load(const float* from) {
    Floats value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

inline void store(float* to, Floats value) { std::memcpy(to, &value, sizeof value); }

inline Words bits(const bf16* from) {
#ifdef __AVX512F__
    return (Words)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from));
#else
    Halves halves;
    std::memcpy(&halves, from, sizeof halves);
    return __builtin_convertvector(halves, Words);
#endif
}

inline Floats load(const bf16* from) { return (Floats)(bits(from) << 16); }

inline void store(bf16* to, Floats value) {
#ifdef __AVX512BF16__
    _mm256_storeu_si256((__m256i*)to, (__m256i)_mm512_cvtneps_pbh((__m512)value));
#else
    Words words = (Words)value;
    words += 0x7fff + ((words >> 16) & 1);  // to the nearest, ties to even
    const Halves halves = __builtin_convertvector(words >> 16, Halves);
    std::memcpy(to, &halves, sizeof halves);
#endif
}

}  // namespace
