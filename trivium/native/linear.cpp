// The gradient of a linear layer's weights: the sum over positions of gradient times input, in tiles.
//
// What goes in and comes out is the caller's memory, what is packed and summed a thread's own. The narrower of the two
// matrices is packed whole; the wider one in blocks of columns, each a unit of work, some positions at a time, so that what
// is multiplied and its sums stay near the processor. A sum runs over the positions in order, whatever the blocks: the
// result does not depend on the number of threads.

#include <omp.h>

#include "vectors.h"

namespace {

extern "C" struct WeightGradient {  // linear.py fills it in; the order of the fields is shared
    int64_t positions, outputs, inputs, add;
    const uint16_t* gradient;  // (positions, outputs) bfloat16
    const uint16_t* x;         // (positions, inputs), likewise
    float* found;              // (outputs, inputs); if `add`, what is found is added to what is there
};

#ifdef HAS_TILES
constexpr int64_t pair = 2 * side;     // columns that are packed at once, and positions of a tile
constexpr int64_t at_once = 256;       // positions
constexpr int64_t most_columns = 384;  // of a unit

inline int64_t filled(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

struct Numbers {
    const uint16_t* from;
    int64_t rows, columns;

    __m512i line(int64_t row, int64_t column) const {  // 32 numbers; beyond the edges there is nothing
        const int64_t left = row < rows ? std::clamp<int64_t>(columns - column, 0, pair) : 0;
        return _mm512_maskz_loadu_epi16(__mmask32((uint64_t(1) << left) - 1), from + row * columns + column);
    }

    // 32 rows, each two in one packed number, of the first and of the last 16 of 32 columns.
    void pack(int64_t row, int64_t column, uint32_t* first, uint32_t* last) const {
        const __m512i lower = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), upper = lower + 4;
        for (int l = 0; l < side; l++, row += 2) {
            const __m512i a = line(row, column), b = line(row + 1, column);
            const __m512i low = _mm512_unpacklo_epi16(a, b), high = _mm512_unpackhi_epi16(a, b);
            _mm512_storeu_si512(first + l * side, _mm512_permutex2var_epi64(low, lower, high));
            _mm512_storeu_si512(last + l * side, _mm512_permutex2var_epi64(low, upper, high));
        }
    }
};

struct Product {
    const Numbers narrow, wide;
    float* found;
    const bool turned, add;  // turned: what is found has the wide one's columns as rows
    const int64_t rows = filled(narrow.columns, pair), positions = filled(narrow.rows, pair);
    uint32_t* lines = nullptr;  // (positions / at_once, rows, at_once / 2) in tiles, the last ones shorter

    int64_t depth(int64_t from) const { return std::min(at_once, positions - from) / 2; }  // packed numbers

    void pack_narrow(int64_t position) const {
        const int64_t from = position / at_once * at_once;
        uint32_t* to = lines + from / 2 * rows + (position - from) / 2 * side;
        for (int64_t r = 0; r < rows; r += pair) {
            uint32_t tiles[2][side * side];
            narrow.pack(position, r, tiles[0], tiles[1]);
            for (int i = 0; i < 2; i++) turn(tiles[i], side, to + (r + i * side) * depth(from), side);
        }
    }

    void work(int64_t first, int64_t columns) const {
        thread_local std::vector<uint32_t> packed;
        thread_local std::vector<float> numbers;
        uint32_t* block = room(packed, columns * at_once / 2);
        const int64_t pitch = columns + side;  // lines of a power of two would stand in each other's way
        float* sums = room(numbers, rows * pitch);
        for (int64_t from = 0; from < positions; from += at_once) {
            const int64_t deep = depth(from);
            for (int64_t p = 0; p < 2 * deep; p += pair)
                for (int64_t c = 0; c < columns; c += pair) {
                    uint32_t* to = block + c * deep + p / 2 * side;
                    wide.pack(from + p, first + c, to, to + side * deep);
                }
            multiply_tiles<true>(
                block, deep, lines + from / 2 * rows, int(rows), deep, int(columns), sums, pitch, from > 0);
        }
        if (!positions) std::fill_n(sums, rows * pitch, 0.0f);
        for (int64_t r = 0; r < narrow.columns; r += side)
            for (int64_t c = 0; c < columns; c += side) give(sums + r * pitch + c, pitch, r, first + c);
    }

    void give(const float* from, int64_t pitch, int64_t row, int64_t column) const {
        Vec square[lanes];
        for (int l = 0; l < lanes; l++) square[l] = load(from + l * pitch);
        if (turned) transpose(square), std::swap(row, column);
        const int64_t high = turned ? wide.columns : narrow.columns, across = turned ? narrow.columns : wide.columns;
        const __mmask16 there = __mmask16((1u << std::clamp<int64_t>(across - column, 0, side)) - 1);
        for (int64_t l = 0; l < std::min<int64_t>(side, high - row); l++) {
            float* to = found + (row + l) * across + column;
            const Vec before = add ? (Vec)_mm512_maskz_loadu_ps(there, to) : Vec{};
            _mm512_mask_storeu_ps(to, there, (__m512)(before + square[l]));
        }
    }
};

void multiply(Product product) {
    thread_local std::vector<uint32_t> packed;
    product.lines = room(packed, product.rows * product.positions / 2);
#pragma omp parallel
    {
        const TileRegisters registers;
        const int64_t all = product.wide.columns, threads = omp_get_num_threads();
        const int64_t units = filled(all, threads * most_columns) / most_columns;
        const int64_t columns = filled((all + units - 1) / units, pair);
#pragma omp for schedule(static)
        for (int64_t position = 0; position < product.positions; position += pair) product.pack_narrow(position);
#pragma omp for schedule(dynamic)
        for (int64_t first = 0; first < all; first += columns)
            product.work(first, std::min(columns, filled(all - first, pair)));
    }
}
#endif
}  // namespace

extern "C" void are_tiles_here(int64_t* yes) {
    *yes = 0;
#ifdef HAS_TILES
    *yes = tiles_allowed();
#endif
}

extern "C" void weight_gradient(const WeightGradient* w) {
#ifdef HAS_TILES
    const Numbers gradient{w->gradient, w->positions, w->outputs}, x{w->x, w->positions, w->inputs};
    const bool turned = w->outputs > w->inputs;
    if (!w->outputs || !w->inputs) return;
    multiply({turned ? x : gradient, turned ? gradient : x, w->found, turned, bool(w->add)});
#endif
}
