// What a layer does between its products: norms, sums with the residual stream, SwiGLU. Each is one pass.
//
// All memory is the caller's, laid out as layer.py says. Positions are shared out in blocks of one size, each with sums of
// its own, so that the result does not depend on the number of threads.

#include "vectors.h"

namespace {

constexpr int64_t block = 32;  // positions: layer.py knows it too

extern "C" struct Norm {  // layer.py fills it in, as it does what follows; the order of the fields is shared
    int64_t bfloat16, positions, width;  // bfloat16: else float32, of what is narrow
    double eps;
    const float* x;       // (positions, width)
    const void* added;    // likewise, narrow; or none
    float* sum;           // x and what is added, where something is
    const float* weight;  // (width); none: there is only a sum
    void* normed;         // (positions, width), narrow
    float* scale;         // (positions), what the sum was multiplied by
};

extern "C" struct NormBackward {
    int64_t bfloat16, positions, width;
    const void* to_normed;  // (positions, width), narrow
    const float *x, *weight, *scale;
    const float* to_sum;    // gradient of what was normed, from elsewhere; or none
    float* to_x;            // with the norm's own
    void* narrow;           // to_x again, narrow; or none
    float* to_weight;       // (blocks, width)
};

extern "C" struct Swiglu {
    int64_t bfloat16, positions, width;
    const void* joined;  // (positions, 2 width), narrow, as is what follows: gate and up
    void* out;           // (positions, width)
    const void* to_out;  // its gradient; none: that of joined is not asked for
    void* to_joined;
};

extern "C" struct Narrow {
    int64_t numbers;  // a multiple of 16
    const float* from;
    uint16_t* to;
};

template <class Number>
void norm(const Norm& n, int64_t at) {
    const int64_t width = n.width, first = at * width;
    const float* x = n.x + first;
    Vec squares = {};
    if (n.added) {
        const auto* added = static_cast<const Number*>(n.added) + first;
        float* sums = n.sum + first;
        for (int64_t i = 0; i < width; i += lanes) {
            const Vec s = load(x + i) + take(added + i);
            store(sums + i, s);
            squares += s * s;
        }
        x = sums;
    } else {
        for (int64_t i = 0; i < width; i += lanes) squares += load(x + i) * load(x + i);
    }
    if (!n.weight) return;
    const float scale = n.scale[at] = 1.0f / std::sqrt(sum(squares) / float(width) + float(n.eps));
    auto* normed = static_cast<Number*>(n.normed) + first;
    for (int64_t i = 0; i < width; i += lanes) give(load(x + i) * scale * load(n.weight + i), normed + i);
}

template <class Number>
void norm_backward(const NormBackward& n, int64_t at, float* to_weight) {
    const int64_t width = n.width, first = at * width;
    const auto* slopes = static_cast<const Number*>(n.to_normed) + first;
    const float *x = n.x + first, *before = n.to_sum ? n.to_sum + first : nullptr, scale = n.scale[at];
    float* to_x = n.to_x + first;
    auto* narrow = n.narrow ? static_cast<Number*>(n.narrow) + first : nullptr;
    Vec along = {};
    for (int64_t i = 0; i < width; i += lanes) along += take(slopes + i) * load(n.weight + i) * load(x + i);
    const float back = sum(along) * scale * scale * scale / float(width);
    for (int64_t i = 0; i < width; i += lanes) {
        const Vec slope = take(slopes + i), here = load(x + i);
        const Vec all = (before ? load(before + i) : Vec{}) + slope * load(n.weight + i) * scale - here * back;
        store(to_x + i, all);
        if (narrow) give(all, narrow + i);
        store(to_weight + i, load(to_weight + i) + slope * here * scale);
    }
}

template <class Number>
void swiglu(const Swiglu& s, int64_t at) {
    const int64_t width = s.width;
    const auto *gate = static_cast<const Number*>(s.joined) + 2 * at * width, *up = gate + width;
    auto* out = static_cast<Number*>(s.out) + at * width;
    const auto* to_out = static_cast<const Number*>(s.to_out) + at * width;
    auto *to_gate = static_cast<Number*>(s.to_joined) + 2 * at * width, *to_up = to_gate + width;
    for (int64_t i = 0; i < width; i += lanes) {
        const Vec g = take(gate + i), u = take(up + i), open = 1.0f / (1.0f + exponential(-g)), silu = g * open;
        give(silu * u, out + i);
        if (!s.to_out) continue;
        const Vec slope = take(to_out + i);
        give(slope * u * (open + silu * (1.0f - open)), to_gate + i);
        give(slope * silu, to_up + i);
    }
}

// Each block of positions: `work(block, position)`.
template <class Work>
void each_position(int64_t positions, Work work) {
#pragma omp parallel for
    for (int64_t b = 0; b < (positions + block - 1) / block; b++)
        for (int64_t at = b * block; at < std::min(positions, (b + 1) * block); at++) work(b, at);
}

// Does the work with numbers of the kind that is narrow.
template <class Work>
void in_kind(bool bfloat16, Work work) {
    if (bfloat16)
        work(uint16_t{});
    else
        work(float{});
}
}  // namespace

extern "C" void layer_norm(const Norm* n) {
    in_kind(n->bfloat16, [=](auto kind) {
        each_position(n->positions, [=](int64_t, int64_t at) { norm<decltype(kind)>(*n, at); });
    });
}

extern "C" void layer_norm_backward(const NormBackward* n) {
    in_kind(n->bfloat16, [=](auto kind) {
        each_position(n->positions, [=](int64_t b, int64_t at) {
            norm_backward<decltype(kind)>(*n, at, n->to_weight + b * n->width);
        });
    });
}

extern "C" void layer_swiglu(const Swiglu* s) {
    in_kind(s->bfloat16, [=](auto kind) {
        each_position(s->positions, [=](int64_t, int64_t at) { swiglu<decltype(kind)>(*s, at); });
    });
}

extern "C" void layer_narrow(const Narrow* n) {
    constexpr int64_t some = 4096;
#pragma omp parallel for
    for (int64_t first = 0; first < n->numbers; first += some)
        for (int64_t i = first; i < std::min(n->numbers, first + some); i += lanes) narrow(load(n->from + i), n->to + i);
}
