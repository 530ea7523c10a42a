// The weight gradient of 3x3 convolutions of stride 1 and padding 1 in bf16, for CPUs; called by convolve.py.
//
// dW[o][ky][kx][i] is the sum over all pixels p of x[p][i] * g[p + (1 - ky, 1 - kx)][o], where g, the gradient of the
// output, is zero beyond its borders. AVX512-BF16 multiplies pairs of numbers and adds both products, so pixels are
// processed in pairs. Images are channels-last; parts that fit into the L2 cache are packed so that everything a block
// of sums needs is contiguous:
//
//   x: each pair of pixels (2j, 2j + 1) of a row, 2 L of its input channels.
//   g: each pair (2j - 1, 2j), then (2j, 2j + 1), of OUTPUTS channels: kx = 2 and 1 multiply these by x's pair j, and
//      kx = 0 the pair after them.
//
// Images and output channels are divided into TASKS pieces of work whatever the number of threads, so the results do
// not depend on that number, to the bit.

#include <algorithm>
#include <vector>

#include "lanes.h"

namespace {

constexpr long TASKS = 8;
constexpr long OUTPUTS = 4;        // output channels in a block of sums: 3 * OUTPUTS * 2 vectors, three quarters of all
constexpr long PAIRS = 256;        // pairs of pixels that are packed at once
constexpr long COPIES = 1L << 20;  // most numbers in all copies of the gradient, one for each group of images

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
    long half() const { return (width + 1) / 2; }            // pairs in a packed row of x
    long row() const { return (2 * half() + 1) * OUTPUTS; }  // words in a packed row of g
    long weights() const { return outputs * 9 * inputs; }
};

// L channels of pixels a and b of a row, as pairs; zeros for pixels beyond its ends.
inline Words pair(const bf16* row, long a, long b, long width, long channels) {
    Words value{};
    if (a >= 0 && a < width) value = bits(row + a * channels);
    if (b < width) value |= bits(row + b * channels) << 16;
    return value;
}

// Rows [0, rows) of x, as [inputs / 2 L][row][pair][2 L].
void pack_input(const bf16* x, long rows, const Shape& s, uint32_t* to) {
    for (long i = 0; i < s.inputs; i += 2 * L) {
        const long lanes = std::min(2 * L, s.inputs - i);
        for (long r = 0; r < rows; r++)
            for (long j = 0; j < s.half(); j++)
                for (long v = 0; v < lanes; v += L, to += L) {
                    const Words value = pair(x + r * s.width * s.inputs + i + v, 2 * j, 2 * j + 1, s.width, s.inputs);
                    std::memcpy(to, &value, sizeof value);
                }
    }
}

// Rows [0, rows) of `count` channels of g, as [count / OUTPUTS][row][pair][OUTPUTS].
void pack_gradient(const bf16* g, long rows, long count, const Shape& s, uint32_t* to) {
    const long block = rows * s.row();
    for (long r = 0; r < rows; r++)
        for (long o = 0; o < count; o += L)
            for (long k = 0; k < 2 * s.half() + 1; k++) {
                const Words value = pair(g + r * s.width * s.outputs + o, k - 1, k, s.width, s.outputs);
                for (long part = 0; part < L; part += OUTPUTS)
                    std::memcpy(to + (o + part) / OUTPUTS * block + r * s.row() + k * OUTPUTS,
                                (const uint32_t*)&value + part, OUTPUTS * sizeof(uint32_t));
            }
}

// Add the contribution of `images` packed images to dW[.][ky], for VECTORS * L input and OUTPUTS output channels.
template <int VECTORS>
void add_block(const uint32_t* x, const uint32_t* g, long images, long ky, const Shape& s, float* to) {
    constexpr int TAPS = 3 * OUTPUTS;
    Floats sums[TAPS][VECTORS] = {};
    const long first = ky == 2, last = s.height - (ky == 0);  // rows of x for which row r + 1 - ky of g exists
    for (long image = 0; image < images; image++)
        for (long r = image * s.height + first; r < image * s.height + last; r++) {
            const uint32_t *xs = x + r * s.half() * VECTORS * L, *gs = g + (r + 1 - ky) * s.row();
            for (long j = 0; j < s.half(); j++, xs += VECTORS * L, gs += 2 * OUTPUTS) {
                Words input[VECTORS];
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++) input[v] = load(xs + v * L);
#pragma GCC unroll 16
                for (int tap = 0; tap < TAPS; tap++) {
                    const Words value = Words{} + gs[tap];
#pragma GCC unroll 4
                    for (int v = 0; v < VECTORS; v++) sums[tap][v] = add_products(sums[tap][v], value, input[v]);
                }
            }
        }
#pragma GCC unroll 16
    for (int tap = 0; tap < TAPS; tap++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) {
            const long o = tap % OUTPUTS, kx = 2 - tap / OUTPUTS;
            float* at = to + ((o * 3 + ky) * 3 + kx) * s.inputs + v * L;
            store(at, load(at) + sums[tap][v]);
        }
}

// dW of `count` output channels, over images [first, last). `g` and `grad_weights` start at the first such channel.
void add_up(const bf16* x, const bf16* g, long first, long last, long count, const Shape& s, float* grad_weights) {
    const long most = std::max(1L, PAIRS / (s.height * s.half()));
    std::vector<uint32_t> xs(most * s.height * s.half() * s.inputs), gs(most * s.height * s.row() * count / OUTPUTS);
    std::fill_n(grad_weights, count * 9 * s.inputs, 0.f);
    for (long image = first; image < last; image += most) {
        const long images = std::min(most, last - image), rows = images * s.height, pixel = image * s.height * s.width;
        pack_input(x + pixel * s.inputs, rows, s, xs.data());
        pack_gradient(g + pixel * s.outputs, rows, count, s, gs.data());
        for (long i = 0; i < s.inputs; i += 2 * L)
            for (long o = 0; o < count; o += OUTPUTS)
                for (long ky = 0; ky < 3; ky++) {
                    const uint32_t *x_block = &xs[rows * s.half() * i], *g_block = &gs[o / OUTPUTS * rows * s.row()];
                    float* to = grad_weights + o * 9 * s.inputs + i;
                    if (s.inputs - i < 2 * L)
                        add_block<1>(x_block, g_block, images, ky, s, to);
                    else
                        add_block<2>(x_block, g_block, images, ky, s, to);
                }
    }
}

void weight_gradient(const bf16* x, const bf16* g, const Shape& s, float* grad_weights) {
    // Each copy is the gradient over some of the images. If there are many weights: fewer copies, split by channels.
    long copies = TASKS;
    while (copies > 1 && copies * s.weights() > COPIES && s.outputs % (TASKS / copies * 2 * L) == 0) copies /= 2;
    const long channels = s.outputs / (TASKS / copies);
    std::vector<float> sums(copies > 1 ? copies * s.weights() : 0);
#pragma omp parallel for schedule(dynamic)
    for (long task = 0; task < TASKS; task++) {
        const long copy = task % copies, from = task / copies * channels;
        float* to = copies > 1 ? &sums[copy * s.weights()] : grad_weights;
        add_up(x, g + from, s.images * copy / copies, s.images * (copy + 1) / copies, channels, s,
               to + from * 9 * s.inputs);
    }
    if (copies == 1) return;
#pragma omp parallel for schedule(static)
    for (long k = 0; k < s.weights(); k += L) {
        Floats total{};
        for (long copy = 0; copy < copies; copy++) total += load(&sums[copy * s.weights() + k]);
        store(grad_weights + k, total);
    }
}

}  // namespace

extern "C" void wrn_weight_gradient(const bf16* x, const bf16* g, long images, long height, long width, long inputs,
                                    long outputs, float* grad_weights) {
    weight_gradient(x, g, {images, height, width, inputs, outputs}, grad_weights);
}
