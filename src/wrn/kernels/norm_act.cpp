// BN followed by an activation, in as few passes over memory as possible, for CPUs; called by norm_act.py.
//
// Images are channels-last: x is a matrix of n = images * height * width rows and c channels, c a multiple of L. torch
// takes five passes forward (mean, variance, scaling; activation) and eight backward, each with its own conversions,
// mostly compute-bound; this takes two and five, memory-bound.
//
// Sums are taken over CHUNKS pieces of the rows whatever the number of threads, so the results do not depend on that
// number, to the bit.

#include <algorithm>
#include <vector>

#include "lanes.h"

namespace {

constexpr int CHUNKS = 64;    // pieces of the rows, distributed over threads
constexpr long TILE = 8192;   // elements that stay in the L1 cache while a pass goes over their channels

inline Floats reciprocal(Floats value) {
#ifdef __AVX512F__
    const Floats near = (Floats)_mm512_rcp14_ps((__m512)value);
    return near * (2.f - value * near);  // one Newton step: 14 bits become 23
#else
    return 1.f / value;
#endif
}

// 1 / (1 + e^-z), with a relative error of about 2e-7: for t = -z / ln(2), 2^t is 2^round(t), built from exponent bits,
// times a polynomial in the rest (2^rest interpolated at the Chebyshev nodes of [-0.5, 0.5]).
inline Floats sigmoid(Floats z) {
    const Floats most = Floats{} + 126.f, least = Floats{} - 126.f;
    Floats t = z * -1.44269504f;
    t = t > most ? most : t;
    t = t < least ? least : t;
    const Floats shifted = t + 12582912.f;  // 1.5 * 2^23: the sum's lowest bits are the nearest integer
    const Floats rest = t - (shifted - 12582912.f);
    Floats power = 1.33909e-3f * rest + 9.67603e-3f;
    power = power * rest + 5.550357e-2f;
    power = power * rest + 2.4022107e-1f;
    power = power * rest + 6.9314719e-1f;
    power = power * rest + 1.00000008f;
    return reciprocal(1.f + (Floats)((Ints)power + ((Ints)shifted << 23)));
}

struct Relu {
    static Floats value(Floats z) { return z < Floats{} ? Floats{} : z; }
    static Floats gradient(Floats z, Floats grad_output) { return z > Floats{} ? grad_output : Floats{}; }
};

struct Silu {  // x * sigmoid(x)
    static Floats value(Floats z) { return z * sigmoid(z); }
    static Floats gradient(Floats z, Floats grad_output) {
        const Floats s = sigmoid(z), y = z * s;
        return grad_output * (s + y - y * s);
    }
};

// Calls visit(chunk, first, last, j) for every tile of rows [first, last) of every chunk, and every L channels from j.
template <class Visit>
void for_tiles(long n, long c, Visit visit) {
    const long rows = std::max(1L, TILE / c);
#pragma omp parallel for schedule(static)
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
        const long end = n * (chunk + 1) / CHUNKS;
        for (long first = n * chunk / CHUNKS; first < end; first += rows)
            for (long j = 0; j < c; j += L) visit(chunk, first, std::min(first + rows, end), j);
    }
}

// Two sums over the rows for each channel, kept per chunk until `total` adds them up.
class Sums {
   public:
    explicit Sums(long c) : c_(c), first_(CHUNKS * c), second_(CHUNKS * c) {}
    void add(int chunk, long j, Floats first, Floats second) {
        float *a = &first_[chunk * c_ + j], *b = &second_[chunk * c_ + j];
        store(a, load(a) + first);
        store(b, load(b) + second);
    }
    void total(long j, double* first, double* second) const {
        *first = *second = 0;
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            *first += first_[chunk * c_ + j];
            *second += second_[chunk * c_ + j];
        }
    }

   private:
    long c_;
    std::vector<float> first_, second_;
};

template <class T>
void moments(const T* x, long n, long c, float* mean, float* variance) {
    std::vector<float> origin(c);  // near the mean, so that squared differences from it lose no digits
    for (long j = 0; j < c; j += L) store(&origin[j], load(x + j));
    Sums sums(c);
    for_tiles(n, c, [&](int chunk, long first, long last, long j) {
        Floats sum{}, squares{};
        const Floats from = load(&origin[j]);
        for (long i = first; i < last; i++) {
            const Floats difference = load(x + i * c + j) - from;
            sum += difference;
            squares += difference * difference;
        }
        sums.add(chunk, j, sum, squares);
    });
    for (long j = 0; j < c; j++) {
        double sum, squares;
        sums.total(j, &sum, &squares);
        mean[j] = (float)(origin[j] + sum / n);
        variance[j] = (float)std::max(0., squares / n - sum / n * (sum / n));
    }
}

template <class T, class Activation>
void activate(const T* x, T* y, long n, long c, const float* scale, const float* shift) {
    for_tiles(n, c, [&](int, long first, long last, long j) {
        const Floats a = load(scale + j), b = load(shift + j);
        for (long i = first; i < last; i++) store(y + i * c + j, Activation::value(load(x + i * c + j) * a + b));
    });
}

template <class T, class Activation>
void gradient_before(const T* grad_y, const T* x, T* grad_z, long n, long c, const float* scale, const float* shift,
                     const float* mean, float* sum, float* product) {
    Sums sums(c);
    for_tiles(n, c, [&](int chunk, long first, long last, long j) {
        Floats plain{}, times_x{};
        const Floats a = load(scale + j), b = load(shift + j), m = load(mean + j);
        for (long i = first; i < last; i++) {
            const Floats value = load(x + i * c + j);
            const Floats gradient = Activation::gradient(value * a + b, load(grad_y + i * c + j));
            plain += gradient;
            times_x += gradient * (value - m);
            store(grad_z + i * c + j, gradient);
        }
        sums.add(chunk, j, plain, times_x);
    });
    for (long j = 0; j < c; j++) {
        double plain, times_x;
        sums.total(j, &plain, &times_x);
        sum[j] = (float)plain;
        product[j] = (float)times_x;
    }
}

template <class T>
void gradient_through(const T* x, T* gradient, long n, long c, const float* scale, const float* x_factor,
                      const float* constant) {
    for_tiles(n, c, [&](int, long first, long last, long j) {
        const Floats a = load(scale + j), k = load(x_factor + j), b = load(constant + j);
        for (long i = first; i < last; i++) {
            T* at = gradient + i * c + j;
            store(at, load(at) * a + load(x + i * c + j) * k + b);
        }
    });
}

}  // namespace

// For both number types and both activations. Per-channel arrays are fp32, and so is all arithmetic.
#define EXPORT_FOR(T, name)                                                                                            \
    void wrn_moments_##name(const T* x, long n, long c, float* mean, float* variance) {                                \
        moments(x, n, c, mean, variance);                                                                              \
    }                                                                                                                  \
    void wrn_gradient_through_##name(const T* x, T* gradient, long n, long c, const float* scale,                      \
                                     const float* x_factor, const float* constant) {                                   \
        gradient_through(x, gradient, n, c, scale, x_factor, constant);                                                \
    }
#define EXPORT_WITH(T, name, Activation, activation)                                                                   \
    void wrn_##activation##_##name(const T* x, T* y, long n, long c, const float* scale, const float* shift) {         \
        activate<T, Activation>(x, y, n, c, scale, shift);                                                             \
    }                                                                                                                  \
    void wrn_gradient_before_##activation##_##name(const T* grad_y, const T* x, T* grad_z, long n, long c,             \
                                                   const float* scale, const float* shift, const float* mean,          \
                                                   float* sum, float* product) {                                       \
        gradient_before<T, Activation>(grad_y, x, grad_z, n, c, scale, shift, mean, sum, product);                     \
    }

extern "C" {
EXPORT_FOR(float, fp32)
EXPORT_FOR(bf16, bf16)
EXPORT_WITH(float, fp32, Relu, relu)
EXPORT_WITH(float, fp32, Silu, silu)
EXPORT_WITH(bf16, bf16, Relu, relu)
EXPORT_WITH(bf16, bf16, Silu, silu)
}
