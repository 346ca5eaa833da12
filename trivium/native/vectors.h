// Numbers in vectors, and products with packed matrices. Knows nothing of models.
//
// Vectors are the compiler's own, as long as the processor's registers. A packed matrix is (outputs / lanes, inputs,
// lanes), so that one load brings the weights of one input for several outputs; in bfloat16 a packed number holds two
// inputs, and a product adds both.

#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif
#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)
#define HAS_TILES
#include "tiles.h"
#endif

namespace {

#if defined(__AVX512F__)
constexpr int lanes = 16, tile_rows = 8, tile_blocks = 2;  // of 32 registers
#elif defined(__AVX__)
constexpr int lanes = 8, tile_rows = 6, tile_blocks = 2;  // of 16
#elif defined(__aarch64__)
constexpr int lanes = 4, tile_rows = 6, tile_blocks = 4;  // of 32
#else
constexpr int lanes = 4, tile_rows = 6, tile_blocks = 2;
#endif
constexpr int flat_rows = 4, flat_blocks = 4;  // few rows: more columns at once keep the multipliers busy
constexpr int64_t whole = 16;                  // all sizes are filled up with zeros to multiples of this

typedef float Vec __attribute__((vector_size(lanes * 4), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(lanes * 4), aligned(4), may_alias));

// Where a thread's own memory for so many numbers begins, whatever is in it: with a line of the cache, since a tile whose
// lines each lie across two of the cache's is loaded at half the speed.
template <class T>
T* room(std::vector<T>& memory, size_t count) {
    constexpr size_t line = 64;
    memory.resize(std::max(memory.size(), count + line / sizeof(T)));
    return reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(memory.data()) + line - 1) / line * line);
}

inline Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }
inline Vec splat(float x) { return Vec{} + x; }

typedef uint16_t Halves __attribute__((vector_size(lanes * 2), aligned(2), may_alias));

// bfloat16 to float32 and back, there to the nearest, halves to even; where the processor has an instruction for it,
// numbers below 2^-126 become 0.
inline Vec widen(const uint16_t* p) {
    const Ints bits = __builtin_convertvector(*reinterpret_cast<const Halves*>(p), Ints) << 16;
    return reinterpret_cast<const Vec&>(bits);
}

inline void narrow(Vec x, uint16_t* p) {
#ifdef __AVX512BF16__
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh((__m512)x));
#else
    const Ints bits = reinterpret_cast<const Ints&>(x), rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    *reinterpret_cast<Halves*>(p) = __builtin_convertvector(rounded, Halves);
#endif
}

// Numbers of either kind.
inline Vec take(const float* from) { return load(from); }
inline Vec take(const uint16_t* from) { return widen(from); }
inline void give(Vec x, float* to) { store(to, x); }
inline void give(Vec x, uint16_t* to) { narrow(x, to); }

// The numbers, `by` places further.
template <int by, size_t... I>
inline Vec moved(Vec v, std::index_sequence<I...>) {
    return __builtin_shufflevector(v, v, int((I + by) % lanes)...);
}

// One number of all: each half with the other, then each quarter, ...
template <int half = lanes / 2, class Join>
inline float fold(Vec v, Join join) {
    if constexpr (half == 0)
        return v[0];
    else
        return fold<half / 2>(join(v, moved<half>(v, std::make_index_sequence<lanes>())), join);
}

inline float sum(Vec v) {
    return fold(v, [](Vec a, Vec b) { return a + b; });
}

inline float largest(Vec v) {
    return fold(v, [](Vec a, Vec b) { return b > a ? b : a; });
}

// Cephes' expf; below -87 it is 0.
inline Vec exponential(Vec x) {
    const Vec low = splat(-87.0f), high = splat(88.0f);
    const Vec y = x < low ? low : (x > high ? high : x);
    const Vec n = (y * 1.44269504f + 12582912.0f) - 12582912.0f;  // the nearest whole number
    const Vec r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
    Vec p = splat(1.9875691500e-4f);
    for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
        p = p * r + c;
    p = p * r * r + r + 1.0f;
    const Ints power = (__builtin_convertvector(n, Ints) + 127) << 23;
    return x < low ? Vec{} : p * reinterpret_cast<const Vec&>(power);
}

// Numbers of a and b in turns: `half` 0 the first ones of each, 1 the last ones.
template <int half, size_t... I>
inline Vec in_turns(Vec a, Vec b, std::index_sequence<I...>) {
    return __builtin_shufflevector(a, b, int(half * lanes / 2 + I / 2 + I % 2 * lanes)...);
}

// A square of numbers, its rows becoming columns.
inline void transpose(Vec (&rows)[lanes]) {
    constexpr auto all = std::make_index_sequence<lanes>();
    for (int stage = 1; stage < lanes; stage *= 2) {
        Vec turned[lanes];
        for (int i = 0; i < lanes / 2; i++) {
            turned[2 * i] = in_turns<0>(rows[i], rows[i + lanes / 2], all);
            turned[2 * i + 1] = in_turns<1>(rows[i], rows[i + lanes / 2], all);
        }
        for (int i = 0; i < lanes; i++) rows[i] = turned[i];
    }
}

// A square of packed numbers, turned; lines are `pitch` apart.
template <class Packed>
inline void turn(const Packed* from, int from_pitch, Packed* to, int to_pitch) {
    Vec rows[lanes];
    for (int l = 0; l < lanes; l++) rows[l] = load(reinterpret_cast<const float*>(from + l * from_pitch));
    transpose(rows);
    for (int l = 0; l < lanes; l++) store(reinterpret_cast<float*>(to + l * to_pitch), rows[l]);
}

struct NoRegisters {
    ~NoRegisters() {}
};

struct Float32 {
    typedef float Packed;  // one number
    typedef NoRegisters Registers;  // what a thread holds while it multiplies
    static constexpr int numbers = 1;
    static constexpr bool in_tiles(int) { return false; }
    static void join(Packed* out, Vec v, Vec) { store(out, v); }
    static void pack(Packed* out, int at, Vec v) { store(out + at, v); }
    static Vec unpack(const Packed* from) { return load(from); }
    static Vec multiply_add(Vec sum, const Packed* weights, Packed x) { return sum + load(weights) * x; }
};

#ifdef __AVX512BF16__  // implies vectors of 16
struct Bfloat16 {
    typedef uint32_t Packed;  // two numbers
    typedef NoRegisters Registers;
    static constexpr int numbers = 2;
    static constexpr bool in_tiles(int) { return false; }
    static void pack(Packed* out, int at, Vec v) {
        narrow(v, reinterpret_cast<uint16_t*>(out) + at);
    }
    static void join(Packed* out, Vec first, Vec second) {  // of two lines, one over the other
        const auto halves = [](Vec v) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)v)); };
        _mm512_storeu_si512(out, _mm512_or_si512(halves(first), _mm512_slli_epi32(halves(second), 16)));
    }
    static Vec unpack(const Packed* from) {
        const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
        return (Vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
    }
    static Vec multiply_add(Vec sum, const Packed* weights, Packed x) {
        const __m512i both = _mm512_loadu_si512(weights), twice = _mm512_set1_epi32(int(x));
        return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)both, (__m512bh)twice);
    }
};
#endif

#ifdef HAS_TILES
struct Tiles : Bfloat16 {  // where sizes allow it, else vectors
    typedef TileRegisters Registers;
    static constexpr bool in_tiles(int inputs) { return inputs % (side * numbers) == 0; }
};
#endif

// Does the work with the kind of numbers that this processor multiplies fastest.
template <class Work>
void in_fastest(bool bfloat16, Work work) {
#ifdef HAS_TILES
    if (bfloat16 && tiles_allowed()) return work(Tiles{});
#endif
#ifdef __AVX512BF16__
    if (bfloat16) return work(Bfloat16{});
#endif
    work(Float32{});
}

inline int padded(int64_t n) { return int((n + whole - 1) / whole * whole); }

struct Matrix {
    const float* from;  // (outputs, inputs)
    void* to;           // packed, padded
    int64_t outputs, inputs;
    int64_t output_group, input_group;  // sizes that are padded one by one, such as heads
};

template <class E>
void pack(const Matrix& m) {
    const int64_t group = m.input_group, high = padded(m.output_group);
    auto to = static_cast<typename E::Packed*>(m.to);
    for (int64_t o = 0; o < m.outputs / m.output_group * high; o += lanes) {
        const float* rows[lanes] = {};  // none where there is padding
        for (int l = 0; l < lanes; l++)
            if ((o + l) % high < m.output_group)
                rows[l] = m.from + ((o + l) / high * m.output_group + (o + l) % high) * m.inputs;
        for (int64_t first = 0; first < m.inputs; first += group)
            for (int64_t i = 0; i < group; i += whole) {
                float square[lanes][whole] = {};
                for (int l = 0; l < lanes; l++)
                    if (rows[l])
                        std::memcpy(square[l], rows[l] + first + i, std::min(group - i, whole) * sizeof(float));
                for (int j = 0; j < whole; j += E::numbers, to += lanes) {
                    float line[lanes * E::numbers];
                    for (int l = 0; l < lanes; l++)
                        for (int n = 0; n < E::numbers; n++) line[l * E::numbers + n] = square[l][j + n];
                    for (int n = 0; n < E::numbers; n++) E::pack(to, n * lanes, load(line + n * lanes));
                }
            }
    }
}

// R rows times C vectors of outputs. Each sum runs over the inputs in order, so R and C do not show in it.
// stride: vectors of weights from one block of outputs to the next
template <class E, int R, int C>
inline void tile(
    const typename E::Packed* w, int stride, const typename E::Packed* x, int depth, float* y, int pitch, bool add) {
    Vec sums[R][C] = {};
    for (int i = 0; i < depth; i++) {  // the next blocks are fetched meanwhile: a third faster
        for (int c = 0; c < C; c++) __builtin_prefetch(w + ((C + c) * stride + i) * lanes, 0, 2);
        for (int r = 0; r < R; r++)
            for (int c = 0; c < C; c++)
                sums[r][c] = E::multiply_add(sums[r][c], w + (c * stride + i) * lanes, x[r * depth + i]);
    }
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) {
            float* to = y + r * pitch + c * lanes;
            store(to, add ? load(to) + sums[r][c] : sums[r][c]);
        }
}

template <class E, int C, int R>
inline void tiles(
    const typename E::Packed* w, int stride, const typename E::Packed* x, int rows, int depth, float* y, int pitch,
    bool add) {
    for (; rows >= R; rows -= R, x += R * depth, y += R * pitch) tile<E, R, C>(w, stride, x, depth, y, pitch, add);
    if constexpr (R > 1)
        if (rows) tiles<E, C, R - 1>(w, stride, x, rows, depth, y, pitch, add);
}

template <class E, int C, int R>
inline void sweep(
    const typename E::Packed* w, int stride, const typename E::Packed* x, int rows, int depth, int outputs, float* y,
    bool add) {
    int o = 0;
    for (; o + C * lanes <= outputs; o += C * lanes)
        tiles<E, C, R>(w + size_t(o) * stride, stride, x, rows, depth, y + o, outputs, add);
    for (; o < outputs; o += lanes)
        tiles<E, 1, R>(w + size_t(o) * stride, stride, x, rows, depth, y + o, outputs, add);
}

// y (rows, outputs) = x (rows, inputs) times the packed matrix, or that added to y. Of a matrix with more inputs than are
// asked for, `stride` says how many vectors a block of its outputs has.
template <class E>
void multiply(
    const typename E::Packed* w, const typename E::Packed* x, int rows, int inputs, int outputs, float* y, bool add,
    int stride = 0) {
    const int depth = inputs / E::numbers;
    if (!stride) stride = depth;
#ifdef HAS_TILES
    if constexpr (std::is_same_v<E, Tiles>)
        if (rows % side == 0 && E::in_tiles(inputs))
            return multiply_tiles(w, stride, x, rows, depth, outputs, y, outputs, add);
#endif
    if (rows <= flat_rows)
        sweep<E, flat_blocks, flat_rows>(w, stride, x, rows, depth, outputs, y, add);
    else
        sweep<E, tile_blocks, tile_rows>(w, stride, x, rows, depth, outputs, y, add);
}

// Numbers as `multiply` takes its rows.
template <class E>
void line_up(const float* from, int count, typename E::Packed* to) {
    for (int i = 0; i < count; i += lanes) E::pack(to, i, load(from + i));
}

// Lines of so many packed numbers, as a matrix whose rows are outputs.
template <class E>
void stand(const typename E::Packed* lines, int rows, int width, typename E::Packed* to) {
    for (int r = 0; r < rows; r += lanes)
        for (int i = 0; i < width; i += lanes, to += lanes * lanes)
            turn(lines + r * width + i, width, to, lanes);
}

// A matrix (rows, columns) whose rows are inputs, and its columns outputs.
template <class E>
void lay(const float* from, int rows, int columns, typename E::Packed* to) {
    for (int c = 0; c < columns; c += lanes)
        for (int r = 0; r < rows; r += E::numbers, to += lanes)
            E::join(to, load(from + r * columns + c), load(from + (r + E::numbers - 1) * columns + c));
}

// The columns of a matrix (rows, columns) as `multiply` takes its rows.
template <class E>
void line_down(const float* from, int rows, int columns, typename E::Packed* to) {
    for (int c = 0; c < columns; c += lanes)
        for (int r = 0; r < rows; r += E::numbers * lanes) {
            typename E::Packed square[lanes * lanes];
            for (int l = 0; l < lanes; l++) {
                const float* line = from + (r + l * E::numbers) * columns + c;
                E::join(square + l * lanes, load(line), load(line + (E::numbers - 1) * columns));
            }
            turn(square, lanes, to + (c * rows + r) / E::numbers, rows / E::numbers);
        }
}
}  // namespace
