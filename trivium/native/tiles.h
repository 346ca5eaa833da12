// Products of tiles, on processors that have registers for them (Intel's AMX). Knows nothing of models.
//
// A tile is sixteen lines of 64 bytes: rows or weights in bfloat16, packed as vectors.h says, or sums in float32.

#pragma once
#include <cstdint>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

constexpr int side = 16;  // lines of a tile, and packed numbers of a line

// Whether the system lets this process use tiles: it has to keep 8 KiB more for each thread, and wants to be asked.
inline bool tiles_allowed() {
    constexpr long request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    static const bool allowed = syscall(SYS_arch_prctl, request, tile_data) == 0;
    return allowed;
}

// As long as one lives, this thread has whole tiles.
struct TileRegisters {
    struct alignas(64) Shapes {
        uint8_t palette = 1, rest[15] = {};
        uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        uint8_t lines[16] = {side, side, side, side, side, side, side, side};
    };
    TileRegisters() {
        static constexpr Shapes shapes;  // static, for some compilers do not know that all of it is read
        _tile_loadconfig(&shapes);
    }
    ~TileRegisters() { _tile_release(); }
};

// R times C tiles of sums, one or two of each: of rows x, `depth` packed numbers long, and blocks of weights that stand
// `stride` lines apart. Registers 0 to 3 hold sums, 4 and 5 rows, 6 and 7 weights. Where rows are `tiled`, each tile of
// them stands in one piece, which is faster to load.
template <int R, int C, bool tiled>
inline void product(
    const uint32_t* w, int64_t stride, const uint32_t* x, int64_t depth, float* y, int64_t pitch, bool add) {
    const uint32_t *next_w = w + stride * side, *next_x = x + depth * side;
    float* next_y = y + pitch * side;
    const int64_t line = (tiled ? side : depth) * 4, step = tiled ? side : 1, across = pitch * 4;
    asm volatile("" ::: "memory");  // compilers do not know that tiles are loaded from memory
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    if (add) {
        _tile_loadd(0, y, across);
        if constexpr (C > 1) _tile_loadd(1, y + side, across);
        if constexpr (R > 1) _tile_loadd(2, next_y, across);
        if constexpr (R > 1 && C > 1) _tile_loadd(3, next_y + side, across);
    }
    for (int64_t i = 0; i < depth; i += side) {
        _tile_loadd(4, x + i * step, line);
        _tile_loadd(6, w + i * side, 64);
        if constexpr (R > 1) _tile_loadd(5, next_x + i * step, line);
        if constexpr (C > 1) _tile_loadd(7, next_w + i * side, 64);
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (C > 1) _tile_dpbf16ps(1, 4, 7);
        if constexpr (R > 1) _tile_dpbf16ps(2, 5, 6);
        if constexpr (R > 1 && C > 1) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, y, across);
    if constexpr (C > 1) _tile_stored(1, y + side, across);
    if constexpr (R > 1) _tile_stored(2, next_y, across);
    if constexpr (R > 1 && C > 1) _tile_stored(3, next_y + side, across);
}

template <int C, bool tiled>
inline void products(
    const uint32_t* w, int64_t stride, const uint32_t* x, int rows, int64_t depth, float* y, int64_t pitch, bool add) {
    int r = 0;
    for (; r + 2 * side <= rows; r += 2 * side)
        product<2, C, tiled>(w, stride, x + r * depth, depth, y + r * pitch, pitch, add);
    if (r < rows) product<1, C, tiled>(w, stride, x + r * depth, depth, y + r * pitch, pitch, add);
}

// `multiply` of vectors.h, for rows, packed inputs and outputs that are multiples of sixteen; lines of y are `pitch` apart.
template <bool tiled = false>
inline void multiply_tiles(
    const uint32_t* w, int64_t stride, const uint32_t* x, int rows, int64_t depth, int outputs, float* y, int64_t pitch,
    bool add) {
    int o = 0;
    for (; o + 2 * side <= outputs; o += 2 * side)
        products<2, tiled>(w + o * stride, stride, x, rows, depth, y + o, pitch, add);
    if (o < outputs) products<1, tiled>(w + o * stride, stride, x, rows, depth, y + o, pitch, add);
}
}  // namespace
