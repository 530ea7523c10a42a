// The gradient of the weights of 3x3 convolutions of stride 1 and padding 1 in bf16, for CPUs; convolve.py calls this.
//
// dW[ky][kx][i][o] is the sum over all pixels p of x[p + (ky - 1, kx - 1)][i] * g[p][o]. AVX512-BF16 multiplies pairs of
// numbers and adds both products, so that pixels are taken two by two. The images lie channels-last; parts of them that
// stay in the second cache are packed so that all that a block of sums needs of them follows each other:
//
//   g: each pair of pixels of a row (2j, 2j + 1), 2 L output channels of it.
//   x: each pair (2j - 1, 2j), then (2j, 2j + 1), of INPUTS input channels: what kx = 0 and 1 multiply by g's pair j, and
//      the next pair is what kx = 2 does.
//
// Images and input channels are shared out as TASKS pieces of work, whatever the number of threads, so that it does not
// change a bit of the result.

#include <algorithm>
#include <vector>

#include "lanes.h"

namespace {

constexpr long TASKS = 8;
constexpr long INPUTS = 4;           // input channels in a block of sums: 3 * INPUTS * 2 vectors, three quarters of all
constexpr long PAIRS = 256;          // pairs of pixels that are packed at once
constexpr long COPIES = 1L << 20;    // of the weights: so many numbers at most, for pieces of work that add up by themselves

inline Floats add_products(Floats sum, Words a, Words b) {
#ifdef __AVX512BF16__
    return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    const Words high = Words{} + 0xffff0000;
    return sum + (Floats)(a << 16) * (Floats)(b << 16) + (Floats)(a & high) * (Floats)(b & high);
#endif
}

inline Words load(const uint32_t* from) {
    Words value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

struct Shape {
    long images, height, width, inputs, outputs;
    long half() const { return (width + 1) / 2; }          // pairs in a row of g
    long row() const { return (2 * half() + 1) * INPUTS; }  // words in a row of x
    long weights() const { return 9 * inputs * outputs; }
};

// L channels of pixels a and b of a row, as pairs; zeros where they lie beyond its ends.
inline Words pair(const bf16* row, long a, long b, long width, long channels) {
    Words value{};
    if (a >= 0 && a < width) value = bits(row + a * channels);
    if (b < width) value |= bits(row + b * channels) << 16;
    return value;
}

// Rows [0, rows) of g, as [outputs / 2 L][row][pair][2 L].
void pack_gradient(const bf16* g, long rows, const Shape& s, uint32_t* to) {
    for (long o = 0; o < s.outputs; o += 2 * L) {
        const long lanes = std::min(2 * L, s.outputs - o);
        for (long r = 0; r < rows; r++)
            for (long j = 0; j < s.half(); j++)
                for (long v = 0; v < lanes; v += L, to += L) {
                    const Words value = pair(g + r * s.width * s.outputs + o + v, 2 * j, 2 * j + 1, s.width, s.outputs);
                    std::memcpy(to, &value, sizeof value);
                }
    }
}

// Rows [0, rows) of `count` input channels of x, as [count / INPUTS][row][pair][INPUTS].
void pack_input(const bf16* x, long rows, long count, const Shape& s, uint32_t* to) {
    const long block = rows * s.row();
    for (long r = 0; r < rows; r++)
        for (long i = 0; i < count; i += L)
            for (long k = 0; k < 2 * s.half() + 1; k++) {
                const Words value = pair(x + r * s.width * s.inputs + i, k - 1, k, s.width, s.inputs);
                for (long part = 0; part < L; part += INPUTS)
                    std::memcpy(to + (i + part) / INPUTS * block + r * s.row() + k * INPUTS,
                                (const uint32_t*)&value + part, INPUTS * sizeof(uint32_t));
            }
}

// Add to dW[ky], for INPUTS input channels and VECTORS * L output channels, what `images` packed ones give.
template <int VECTORS>
void add_block(const uint32_t* x, const uint32_t* g, long images, long ky, const Shape& s, float* to) {
    constexpr int TAPS = 3 * INPUTS;
    Floats sums[TAPS][VECTORS] = {};
    const long first = ky == 0, last = s.height - (ky == 2);  // rows of g that have such a row of x beside them
    for (long image = 0; image < images; image++)
        for (long r = image * s.height + first; r < image * s.height + last; r++) {
            const uint32_t *xs = x + (r + ky - 1) * s.row(), *gs = g + r * s.half() * VECTORS * L;
            for (long j = 0; j < s.half(); j++, xs += 2 * INPUTS, gs += VECTORS * L) {
                Words gradient[VECTORS];
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++) gradient[v] = load(gs + v * L);
#pragma GCC unroll 16
                for (int tap = 0; tap < TAPS; tap++) {
                    const Words value = Words{} + xs[tap];
#pragma GCC unroll 4
                    for (int v = 0; v < VECTORS; v++) sums[tap][v] = add_products(sums[tap][v], value, gradient[v]);
                }
            }
        }
#pragma GCC unroll 16
    for (int tap = 0; tap < TAPS; tap++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) {
            float* at = to + (tap / INPUTS * s.inputs + tap % INPUTS) * s.outputs + v * L;
            store(at, load(at) + sums[tap][v]);
        }
}

// dW of `count` input channels from `from`, over images [first, last); the others of `of_weights` stay as they are.
void add_up(const bf16* x, const bf16* g, long first, long last, long from, long count, const Shape& s,
            float* of_weights) {
    const long most = std::max(1L, PAIRS / (s.height * s.half()));
    std::vector<uint32_t> xs(most * s.height * s.row() * count / INPUTS), gs(most * s.height * s.half() * s.outputs);
    for (long tap = 0; tap < 9; tap++)
        std::fill_n(of_weights + (tap * s.inputs + from) * s.outputs, count * s.outputs, 0.f);
    for (long image = first; image < last; image += most) {
        const long images = std::min(most, last - image), rows = images * s.height, pixel = image * s.height * s.width;
        pack_gradient(g + pixel * s.outputs, rows, s, gs.data());
        pack_input(x + pixel * s.inputs + from, rows, count, s, xs.data());
        for (long o = 0; o < s.outputs; o += 2 * L)
            for (long i = 0; i < count; i += INPUTS)
                for (long ky = 0; ky < 3; ky++) {
                    const uint32_t *x_block = &xs[i / INPUTS * rows * s.row()], *g_block = &gs[rows * s.half() * o];
                    float* to = of_weights + (ky * 3 * s.inputs + from + i) * s.outputs + o;
                    if (s.outputs - o < 2 * L)
                        add_block<1>(x_block, g_block, images, ky, s, to);
                    else
                        add_block<2>(x_block, g_block, images, ky, s, to);
                }
    }
}

void weight_gradient(const bf16* x, const bf16* g, const Shape& s, float* of_weights) {
    long copies = TASKS;  // each of all weights over some images; where they are many, fewer copies of fewer channels each
    while (copies > 1 && copies * s.weights() > COPIES && s.inputs % (TASKS / copies * 2 * L) == 0) copies /= 2;
    const long channels = s.inputs / (TASKS / copies);
    std::vector<float> sums(copies > 1 ? copies * s.weights() : 0);
#pragma omp parallel for schedule(dynamic)
    for (long task = 0; task < TASKS; task++) {
        const long copy = task % copies, from = task / copies * channels;
        add_up(x, g, s.images * copy / copies, s.images * (copy + 1) / copies, from, channels, s,
               copies > 1 ? &sums[copy * s.weights()] : of_weights);
    }
    if (copies == 1) return;
#pragma omp parallel for schedule(static)
    for (long i = 0; i < s.weights(); i += L) {
        Floats total{};
        for (long copy = 0; copy < copies; copy++) total += load(&sums[copy * s.weights() + i]);
        store(of_weights + i, total);
    }
}

}  // namespace

extern "C" void wrn_weight_gradient(const bf16* x, const bf16* g, long images, long height, long width, long inputs,
                                    long outputs, float* of_weights) {
    weight_gradient(x, g, {images, height, width, inputs, outputs}, of_weights);
}
