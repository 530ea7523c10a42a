// 3x3 convolutions of stride 1 and padding 1 in fp32, for CPUs; called by winograd.py.
//
// Winograd's algorithm F(4x4, 3x3) (Lavin and Gray, arXiv:1509.09308): a tile of 4x4 output pixels and the window of
// 6x6 input pixels that it depends on become 36 numbers each, for which the convolution is 36 plain products: a quarter
// of the multiplications. With windows d, weights w, output y, its gradient g, and the small matrices below,
//
//   y  = A^T [ sum over inputs (G w G^T) * (B^T d B) ] A
//   dw = G^T [ sum over tiles  (A g A^T) * (B^T d B) ] G
//
// The 36 sums are matrix products, channels by tiles, small enough to stay in the L2 cache. Every sum has a fixed order
// whatever the number of threads.

#include <algorithm>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#include "lanes.h"

extern "C" int omp_get_max_threads();  // omp.h may be missing if there is only Clang

namespace {

constexpr long TILE = 4, WINDOW = 6, POINTS = WINDOW * WINDOW;
constexpr long PANEL = 2 * L;  // channels that are stored together
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int ROWS = 12;  // by two vectors: the sums that fit into 32 registers along with their factors
#else
constexpr int ROWS = 6;
#endif
constexpr long TILES = 48;               // most tiles processed at once for an output
constexpr long LEAST = 64, MOST = 256;   // tiles processed at once for a weight gradient:
constexpr long NUMBERS = 1L << 20;       // as many as fit, as points, into this or into twice the size of the sums
constexpr long LINE = 16;                // numbers in a cache line

struct OfWindow {  // B^T
    static constexpr int FROM = WINDOW, TO = WINDOW;
    static void apply(const Floats* d, Floats* to) {
        const Floats a = d[4] - 4.f * d[2], b = d[3] - 4.f * d[1], c = d[4] - d[2], e = 2.f * (d[3] - d[1]);
        to[0] = 4.f * d[0] - 5.f * d[2] + d[4];
        to[1] = a + b;
        to[2] = a - b;
        to[3] = c + e;
        to[4] = c - e;
        to[5] = 4.f * d[1] - 5.f * d[3] + d[5];
    }
};

struct OfWeights {  // G
    static constexpr int FROM = 3, TO = WINDOW;
    static void apply(const Floats* w, Floats* to) {
        const Floats a = (w[0] + w[2]) * (-1.f / 6), b = w[1] * (1.f / 6);
        const Floats c = w[0] * (1.f / 24) + w[2] * (1.f / 6), d = w[1] * (1.f / 12);
        to[0] = w[0] * (1.f / 4);
        to[1] = a - b;
        to[2] = a + b;
        to[3] = c + d;
        to[4] = c - d;
        to[5] = w[2];
    }
};

struct ToWeights {  // G^T
    static constexpr int FROM = WINDOW, TO = 3;
    static void apply(const Floats* u, Floats* to) {
        const Floats a = (u[1] + u[2]) * (1.f / 6), b = (u[2] - u[1]) * (1.f / 6), c = u[3] + u[4], d = u[3] - u[4];
        to[0] = u[0] * (1.f / 4) - a + c * (1.f / 24);
        to[1] = b + d * (1.f / 12);
        to[2] = c * (1.f / 6) - a + u[5];
    }
};

struct ToOutput {  // A^T
    static constexpr int FROM = WINDOW, TO = TILE;
    static void apply(const Floats* m, Floats* to) {
        const Floats a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], d = m[3] - m[4];
        to[0] = m[0] + a + c;
        to[1] = b + 2.f * d;
        to[2] = a + 4.f * c;
        to[3] = b + 8.f * d + m[5];
    }
};

struct OfGradient {  // A
    static constexpr int FROM = TILE, TO = WINDOW;
    static void apply(const Floats* g, Floats* to) {
        const Floats a = g[0] + g[2], b = g[1] + g[3], c = g[0] + 4.f * g[2], d = 2.f * g[1] + 8.f * g[3];
        to[0] = g[0];
        to[1] = a + b;
        to[2] = a - b;
        to[3] = c + d;
        to[4] = c - d;
        to[5] = g[3];
    }
};

// Map X Map^T of the square X, read by get(k) in row order; put(k, value) stores the result.
template <class Map, class Get, class Put>
inline __attribute__((always_inline)) void transform(Get get, Put put) {
    Floats between[Map::TO][Map::FROM];
#pragma GCC unroll 6
    for (int column = 0; column < Map::FROM; column++) {
        Floats in[Map::FROM], out[Map::TO];
#pragma GCC unroll 6
        for (int row = 0; row < Map::FROM; row++) in[row] = get(row * Map::FROM + column);
        Map::apply(in, out);
#pragma GCC unroll 6
        for (int row = 0; row < Map::TO; row++) between[row][column] = out[row];
    }
#pragma GCC unroll 6
    for (int row = 0; row < Map::TO; row++) {
        Floats out[Map::TO];
        Map::apply(between[row], out);
#pragma GCC unroll 6
        for (int column = 0; column < Map::TO; column++) put(row * Map::TO + column, out[column]);
    }
}

struct Free {
    void operator()(float* numbers) const { ::operator delete(numbers, std::align_val_t(4 * LINE)); }
};

// 36 matrices of `rows` by channels, as [point][row][channel] or, in panels, [point][channel / PANEL][row][PANEL].
class Points {
   public:
    Points(long rows, long channels, bool panels)
        : row(panels ? PANEL : channels),
          panel(panels ? rows * PANEL : PANEL),
          // Plus a line: at strides of a power of two, a cache could hold only a few of them.
          point((channels + PANEL - 1) / PANEL * PANEL * rows + LINE),
          numbers_((float*)::operator new(POINTS * point * sizeof(float), std::align_val_t(4 * LINE))) {}
    float* at(long p, long r, long channel) const {
        return numbers_.get() + p * point + channel / PANEL * panel + r * row + channel % PANEL;
    }
    const long row, panel, point;  // strides

   private:
    const std::unique_ptr<float, Free> numbers_;
};

struct Shape {
    long images, height, width, inputs, outputs;
    long down() const { return (height + TILE - 1) / TILE; }
    long across() const { return (width + TILE - 1) / TILE; }
    long tiles() const { return images * down() * across(); }
    long pixel(long image, long y, long x) const { return (image * height + y) * width + x; }
};

// The position of a tile: its image, and its first pixel in that image.
struct Place {
    const long image, top, left;
    Place(const Shape& s, long tile)
        : image(tile / s.across() / s.down()),
          top(tile / s.across() % s.down() * TILE),
          left(tile % s.across() * TILE) {}
};

// The points of one tile of x, or of its window; pixels beyond the image's borders are read from `zeros`.
template <class Map>
void points_of_tile(const float* x, long channels, const Shape& s, long tile, const float* zeros, const Points& to,
                    long row) {
    constexpr int SIDE = Map::FROM, BORDER = (SIDE - TILE) / 2;
    const Place place(s, tile);
    const float* pixels[SIDE * SIDE];
    for (int k = 0; k < SIDE * SIDE; k++) {
        const long y = place.top - BORDER + k / SIDE, x_ = place.left - BORDER + k % SIDE;
        const bool inside = y >= 0 && y < s.height && x_ >= 0 && x_ < s.width;
        pixels[k] = inside ? x + s.pixel(place.image, y, x_) * channels : zeros;
    }
    for (long c = 0; c < channels; c += L) {
        float* target = to.at(0, row, c);
        transform<Map>([&](int k) { return load(pixels[k] + c); },
                       [&](int k, Floats value) { store(target + k * to.point, value); });
    }
}

void output_of_tile(const Points& from, long row, const Shape& s, long tile, float* y) {
    const Place place(s, tile);
    const long high = std::min(TILE, s.height - place.top), wide = std::min(TILE, s.width - place.left);
    float* first = y + s.pixel(place.image, place.top, place.left) * s.outputs;
    for (long o = 0; o < s.outputs; o += L) {
        const float* source = from.at(0, row, o);
        transform<ToOutput>([&](int k) { return load(source + k * from.point); },
                            [&](int k, Floats value) {
                                const long down = k / TILE, across = k % TILE;
                                if (down < high && across < wide)
                                    store(first + (down * s.width + across) * s.outputs + o, value);
                            });
    }
}

// A part of a matrix: its first number, and the strides from row to row and from column to column.
struct Matrix {
    const float* first;
    long down, across;
};

// R rows and VECTORS * L columns of a product over `depth`: sums = a b, or with `add`, sums += a b.
template <int R, int VECTORS>
inline void block(Matrix a, Matrix b, long depth, bool add, float* sums, long to_next) {
    Floats total[R][VECTORS] = {};
    for (long k = 0; k < depth; k++, a.first += a.across, b.first += b.down) {
        Floats right[VECTORS];
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; v++) right[v] = load(b.first + v * L);
#pragma GCC unroll 12
        for (int r = 0; r < R; r++)
#pragma GCC unroll 2
            for (int v = 0; v < VECTORS; v++) total[r][v] += a.first[r * a.down] * right[v];
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; v++) {
            float* to = sums + r * to_next + v * L;
            store(to, add ? load(to) + total[r][v] : total[r][v]);
        }
}

template <int VECTORS>
void rows_of_product(long rows, Matrix a, Matrix b, long depth, bool add, float* sums, long to_next) {
    const auto take = [&](auto count) {
        for (; rows >= count; rows -= count, a.first += count * a.down, sums += count * to_next)
            block<count, VECTORS>(a, b, depth, add, sums, to_next);
    };
    take(std::integral_constant<int, ROWS>());
    take(std::integral_constant<int, 4>());
    take(std::integral_constant<int, 1>());
}

// One panel of columns of a b, or fewer at the end.
void product(long rows, long columns, Matrix a, Matrix b, long depth, bool add, float* sums, long to_next) {
    if (columns < PANEL)
        rows_of_product<1>(rows, a, b, depth, add, sums, to_next);
    else
        rows_of_product<2>(rows, a, b, depth, add, sums, to_next);
}

void convolve(const float* x, const float* weights, const Shape& s, float* y) {
    const long for_each = s.tiles() / omp_get_max_threads() + 1;
    const long most = std::min(TILES, (for_each + ROWS - 1) / ROWS * ROWS);
    const Points weight_points(s.inputs, s.outputs, true);
    const std::vector<float> zeros(s.inputs);
#pragma omp parallel
    {
#pragma omp for schedule(static) collapse(2)
        for (long panel = 0; panel < s.outputs; panel += PANEL)
            for (long i = 0; i < s.inputs; i++)
                for (long o = panel; o < std::min(panel + PANEL, s.outputs); o += L) {
                    float* target = weight_points.at(0, i, o);
                    transform<OfWeights>(
                        [&](int k) { return load(weights + (k * s.inputs + i) * s.outputs + o); },
                        [&](int k, Floats value) { store(target + k * weight_points.point, value); });
                }
        const Points x_points(most, s.inputs, false), y_points(most, s.outputs, false);
#pragma omp for schedule(dynamic)
        for (long first = 0; first < s.tiles(); first += most) {
            const long tiles = std::min(most, s.tiles() - first);
            for (long t = 0; t < tiles; t++)
                points_of_tile<OfWindow>(x, s.inputs, s, first + t, zeros.data(), x_points, t);
            for (long k = 0; k < POINTS; k++)
                for (long o = 0; o < s.outputs; o += PANEL)
                    product(tiles, s.outputs - o, {x_points.at(k, 0, 0), x_points.row, 1},
                            {weight_points.at(k, 0, o), weight_points.row, 1}, s.inputs, false, y_points.at(k, 0, o),
                            y_points.row);
            for (long t = 0; t < tiles; t++) output_of_tile(y_points, t, s, first + t, y);
        }
    }
}

void weight_gradient(const float* x, const float* g, const Shape& s, float* grad_weights) {
    const long numbers = std::max(NUMBERS, 2 * POINTS * s.inputs * s.outputs);
    const long most = std::clamp(numbers / (POINTS * (s.inputs + s.outputs)), LEAST, MOST);
    const Points x_points(most, s.inputs, true), g_points(most, s.outputs, true), sums(s.outputs, s.inputs, false);
    const std::vector<float> zeros(std::max(s.inputs, s.outputs));
#pragma omp parallel
    {
        for (long first = 0; first < s.tiles(); first += most) {
            const long tiles = std::min(most, s.tiles() - first);
#pragma omp for schedule(static)
            for (long t = 0; t < tiles; t++) {
                points_of_tile<OfWindow>(x, s.inputs, s, first + t, zeros.data(), x_points, t);
                points_of_tile<OfGradient>(g, s.outputs, s, first + t, zeros.data(), g_points, t);
            }
#pragma omp for schedule(static) collapse(2)
            for (long k = 0; k < POINTS; k++)
                for (long i = 0; i < s.inputs; i += PANEL)
                    for (long o = 0; o < s.outputs; o += PANEL)
                        product(std::min(PANEL, s.outputs - o), s.inputs - i, {g_points.at(k, 0, o), 1, g_points.row},
                                {x_points.at(k, 0, i), x_points.row, 1}, tiles, first > 0, sums.at(k, o, i), sums.row);
        }
#pragma omp for schedule(static)
        for (long o = 0; o < s.outputs; o++)
            for (long i = 0; i < s.inputs; i += L) {
                const float* source = sums.at(0, o, i);
                transform<ToWeights>(
                    [&](int k) { return load(source + k * sums.point); },
                    [&](int k, Floats value) { store(grad_weights + (o * 9 + k) * s.inputs + i, value); });
            }
    }
}

}  // namespace

// x is [image][row][column][input], weights [3][3][input][output], y [image][row][column][output].
extern "C" void wrn_winograd(const float* x, const float* weights, long images, long height, long width, long inputs,
                             long outputs, float* y) {
    convolve(x, weights, {images, height, width, inputs, outputs}, y);
}

// The weight gradient, as [output][3][3][input], from x and the output's gradient g.
extern "C" void wrn_winograd_weight_gradient(const float* x, const float* g, long images, long height, long width,
                                             long inputs, long outputs, float* grad_weights) {
    weight_gradient(x, g, {images, height, width, inputs, outputs}, grad_weights);
}
