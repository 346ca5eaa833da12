// Attention of packed rows, forward and backward: norms and rotation of queries and keys, scores, softmax and mixing.
//
// All memory is the caller's, laid out as attention.py says; half a head is a whole number of vectors. A unit of work
// is one row and one key head with the query heads that share it: what it needs stays near the processor, and no two units
// write to the same place, so that the result does not depend on the number of threads. Numbers come and go in bfloat16
// or float32, and are multiplied as they came; sums, and what is in between, are float32.
//
// T positions, d head dimension, H query heads, K key heads.

#include <algorithm>
#include <vector>

#include "vectors.h"

namespace {

extern "C" struct Attention {  // attention.py fills it in; the order of the fields is shared
    int64_t bfloat16, rows, length, heads, kv_heads, head_dim;
    double norm_eps;
    const void* qkv;                // (rows, T, (H + 2 K) d): what attends and is attended to, as one product leaves it
    const float* norms;             // (2, d) weights, of queries and of keys, or null
    const float* rope;              // (2, rows, T, d / 2) cosines and sines
    const int32_t* seen;            // (rows, T, 3): keys from the first up to the second, and from the third to itself
    void* mixed;                    // (rows, T, H d)
    float* surprise;                // (rows, H, T): log of the sum of what softmax divides by
    const void* to_mixed;           // (rows, T, H d), the gradient
    void* to_qkv;                   // (rows, T, (H + 2 K) d), the gradient
    float* to_norms;                // (rows, K, 2, d), gradients of the norms by unit
};

constexpr int block = 32;  // queries at once, and keys

inline int filled(int n) { return (n + block - 1) / block * block; }

constexpr int ahead = 24;  // positions: what is read then is fetched now

// `count` numbers, a whole number of vectors, from or to the caller's kind; the next position's stand `step` further.
inline void read(const Attention& a, const void* from, int64_t at, int64_t step, int count, float* to) {
    const char* later = static_cast<const char*>(from) + (at + ahead * step) * (a.bfloat16 ? 2 : 4);
    for (int i = 0; i < count * (a.bfloat16 ? 2 : 4); i += 64) __builtin_prefetch(later + i);
    if (!a.bfloat16) {
        std::memcpy(to, static_cast<const float*>(from) + at, count * sizeof(float));
        return;
    }
    const auto* halves = static_cast<const uint16_t*>(from) + at;
    for (int i = 0; i < count; i += lanes) store(to + i, widen(halves + i));
}

inline void write(const Attention& a, void* to, int64_t at, int count, const float* from) {
    if (!a.bfloat16) {
        std::memcpy(static_cast<float*>(to) + at, from, count * sizeof(float));
        return;
    }
    auto* halves = static_cast<uint16_t*>(to) + at;
    for (int i = 0; i < count; i += lanes) narrow(load(from + i), halves + i);
}

// One row and one key head. Of what is packed, lines stay as they are, a matrix stands that is multiplied by its rows,
// and lies that is multiplied by its columns: see vectors.h.
template <class E>
struct Unit {
    typedef typename E::Packed Packed;
    const Attention& a;
    const int64_t row, group;
    const int T, full, d, half, packed_d;  // full: T filled up
    float *x, *to_k, *to_v, *q, *to_q, *to_out, *out, *scores, *slopes;
    Packed *k_standing, *k_lying, *v_standing, *v_lying, *q_lines, *q_lying, *out_lines, *out_lying, *weights;

    Unit(const Attention& a, int64_t row, int64_t group)
        : a(a), row(row), group(group), T(int(a.length)), full(filled(T)), d(int(a.head_dim)), half(d / 2),
          packed_d(d / E::numbers) {
        thread_local std::vector<float> numbers;
        thread_local std::vector<Packed> packed;
        const size_t lines = size_t(full + block) * d, square = size_t(block) * full;
        float* next = room(numbers, 7 * lines + 2 * square);
        for (float** field : {&x, &to_k, &to_v, &q, &to_q, &to_out, &out}) *field = next, next += lines;
        for (float** field : {&scores, &slopes}) *field = next, next += square;
        Packed* then = room(packed, 8 * lines + std::max(lines, square));
        for (Packed** field :
             {&k_standing, &k_lying, &v_standing, &v_lying, &q_lines, &q_lying, &out_lines, &out_lying, &weights})
            *field = then, then += lines;
    }

    int64_t wide() const { return (a.heads + 2 * a.kv_heads) * d; }
    int64_t place(int t, int64_t head) const { return (row * T + t) * wide() + head * d; }
    int64_t place_mixed(int t, int64_t head) const { return ((row * T + t) * a.heads + head) * d; }

    float inverse_scale(const float* x) const {
        Vec squares = {};
        for (int i = 0; i < d; i += lanes) squares += load(x + i) * load(x + i);
        return 1.0f / std::sqrt(sum(squares) / d + float(a.norm_eps));
    }

    // A head's numbers, normed and turned, times `scale`.
    void take(int64_t head, const float* norm, float scale, float* to) const {
        for (int t = 0; t < T; t++) {
            float* x = to + t * d;
            read(a, a.qkv, place(t, head), wide(), d, x);
            const float by = norm ? inverse_scale(x) * scale : scale;
            const float *cos = a.rope + (row * T + t) * half, *sin = cos + a.rows * T * half;
            for (int i = 0; i < half; i += lanes) {
                Vec one = load(x + i) * by, other = load(x + i + half) * by;
                if (norm) one *= load(norm + i), other *= load(norm + i + half);
                store(x + i, one * load(cos + i) - other * load(sin + i));
                store(x + i + half, other * load(cos + i) + one * load(sin + i));
            }
        }
    }

    // The way back: from gradients of what `take` gave to those of the numbers it took, written down.
    void give(int64_t head, const float* norm, float scale, float* to, float* to_norm) const {
        for (int t = 0; t < T; t++) {
            float *g = to + t * d, *x = out;
            const float *cos = a.rope + (row * T + t) * half, *sin = cos + a.rows * T * half;
            for (int i = 0; i < half; i += lanes) {
                const Vec one = load(g + i) * scale, other = load(g + i + half) * scale;
                store(g + i, one * load(cos + i) + other * load(sin + i));
                store(g + i + half, other * load(cos + i) - one * load(sin + i));
            }
            if (norm) {
                read(a, a.qkv, place(t, head), wide(), d, x);
                const float by = inverse_scale(x);
                Vec along = {};
                for (int i = 0; i < d; i += lanes) {
                    const Vec slope = load(g + i), weighed = slope * load(norm + i);
                    store(to_norm + i, load(to_norm + i) + slope * load(x + i) * by);
                    store(g + i, weighed);
                    along += weighed * load(x + i);
                }
                const float share = sum(along) * by * by / d;
                for (int i = 0; i < d; i += lanes) store(g + i, by * (load(g + i) - load(x + i) * share));
            }
            write(a, a.to_qkv, place(t, head), d, g);
        }
    }

    static void clear(float* from, float* to) { std::fill(from, to, 0.0f); }

    // Keys and values, packed as the products to come take them.
    void take_keys(bool backward) {
        take(a.heads + group, k_norm(), 1.0f, x);
        pack_both(k_standing, backward ? k_lying : nullptr);
        const int64_t values = a.heads + a.kv_heads + group;
        for (int t = 0; t < T; t++) read(a, a.qkv, place(t, values), wide(), d, x + t * d);
        pack_both(backward ? v_standing : nullptr, v_lying);
    }

    // x, in the ways that are asked for; what fills it up is nothing.
    void pack_both(Packed* standing, Packed* lying) {
        clear(x + T * d, x + full * d);
        if (standing) {
            line_up<E>(x, full * d, weights);
            stand<E>(weights, full, packed_d, standing);
        }
        if (lying) lay<E>(x, full, d, lying);
    }

    void take_queries(int64_t head) {
        take(head, a.norms, scale(), q);
        line_up<E>(q, T * d, q_lines);
    }

    const int32_t* seen(int t) const { return a.seen + (row * T + t) * 3; }

    // The first key that any of these queries sees, a whole number of blocks from the beginning.
    int lowest(int first, int end) const {
        int low = first;
        for (int t = first; t < end; t++) {
            const int32_t* s = seen(t);
            low = std::min({low, int(s[2]), s[0] < s[1] ? int(s[0]) : low});
        }
        return low / block * block;
    }

    // -infinity where query t does not look, from `low` to `high`
    void hide(int t, int low, int high, float* line) const {
        const int32_t* s = seen(t);
        const bool apart = s[0] < s[1];
        const int before = apart ? s[0] : s[2];
        for (int i = low; i < before; i++) line[i - low] = -INFINITY;
        if (apart)
            for (int i = std::max(low, int(s[1])); i < s[2]; i++) line[i - low] = -INFINITY;
        for (int i = t + 1; i < high; i++) line[i - low] = -INFINITY;
    }

    const float* k_norm() const { return a.norms ? a.norms + d : nullptr; }
    float scale() const { return 1.0f / std::sqrt(float(d)); }

    // Of queries from `first` and keys from `low`, either multiplied by a standing matrix.
    void multiply_keys(const Packed* lines, const Packed* standing, int count, int low, int span, float* to) const {
        multiply<E>(standing + size_t(low) * packed_d, lines, count, d, span, to, false);
    }

    // What so many lines of weights over keys from `low` make of a lying matrix.
    void mix(const float* lines, const Packed* lying, int count, int low, int span, float* to) const {
        line_up<E>(lines, count * span, weights);
        const Packed* from = lying + size_t(low) / E::numbers * lanes;
        multiply<E>(from, weights, count, span, d, to, false, full / E::numbers);
    }

    // to += lines^T times a block, for keys from `low`
    void mix_back(const float* lines, const Packed* lying, int span, float* to) const {
        line_down<E>(lines, block, span, weights);
        multiply<E>(lying, weights, span, block, d, to, true);
    }

    void forward() {
        take_keys(false);
        const int64_t shared = a.heads / a.kv_heads;
        for (int64_t head = group * shared; head < (group + 1) * shared; head++) {
            take_queries(head);
            for (int first = 0; first < T; first += block) {
                const int end = std::min(first + block, T), some = end - first;
                const int low = lowest(first, end), span = filled(end) - low;
                multiply_keys(q_lines + first * packed_d, k_standing, some, low, span, scores);
                for (int t = first; t < end; t++) soften(t, low, span, scores + (t - first) * span, head);
                mix(scores, v_lying, some, low, span, out);
                for (int t = first; t < end; t++) write(a, a.mixed, place_mixed(t, head), d, out + (t - first) * d);
            }
        }
    }

    void soften(int t, int low, int span, float* line, int64_t head) {
        hide(t, low, low + span, line);
        Vec most = splat(-INFINITY);
        for (int i = 0; i < span; i += lanes) most = load(line + i) > most ? load(line + i) : most;
        const float top = largest(most);
        Vec total = {};
        for (int i = 0; i < span; i += lanes) {
            const Vec e = exponential(load(line + i) - top);
            store(line + i, e);
            total += e;
        }
        const float sums = sum(total);
        for (int i = 0; i < span; i += lanes) store(line + i, load(line + i) * (1.0f / sums));
        a.surprise[(row * a.heads + head) * T + t] = top + std::log(sums);
    }

    void backward() {
        take_keys(true);
        for (float* field : {to_k, to_v}) clear(field, field + full * d);
        const int64_t shared = a.heads / a.kv_heads;
        float* norms = a.to_norms + (row * a.kv_heads + group) * 2 * d;
        for (int64_t head = group * shared; head < (group + 1) * shared; head++) {
            take_queries(head);
            for (int first = 0; first < T; first += block) backward_block(head, first, std::min(first + block, T));
            give(head, a.norms, scale(), to_q, norms);
        }
        give(a.heads + group, k_norm(), 1.0f, to_k, norms + d);
        for (int t = 0; t < T; t++) write(a, a.to_qkv, place(t, a.heads + a.kv_heads + group), d, to_v + t * d);
    }

    void backward_block(int64_t head, int first, int end) {
        const int some = end - first, low = lowest(first, end), span = filled(end) - low;
        for (int t = first; t < end; t++) {
            read(a, a.to_mixed, place_mixed(t, head), a.heads * d, d, to_out + (t - first) * d);
            read(a, a.mixed, place_mixed(t, head), a.heads * d, d, out + (t - first) * d);
        }
        clear(to_out + some * d, to_out + block * d), clear(q + end * d, q + (first + block) * d);
        for (float* square : {scores, slopes}) clear(square + some * span, square + block * span);
        line_up<E>(to_out, block * d, out_lines);
        lay<E>(to_out, block, d, out_lying);
        lay<E>(q + first * d, block, d, q_lying);
        multiply_keys(q_lines + first * packed_d, k_standing, some, low, span, scores);
        multiply_keys(out_lines, v_standing, some, low, span, slopes);
        for (int t = first; t < end; t++) slope(t, first, low, span, head);
        mix(slopes, k_lying, some, low, span, to_q + first * d);
        mix_back(scores, out_lying, span, to_v + low * d);
        mix_back(slopes, q_lying, span, to_k + low * d);
    }

    // From scores and gradients of the softmax's output to its output and gradients of the scores.
    void slope(int t, int first, int low, int span, int64_t head) {
        float *line = scores + (t - first) * span, *steep = slopes + (t - first) * span;
        hide(t, low, low + span, line);
        Vec both = {};
        for (int i = (t - first) * d; i < (t - first + 1) * d; i += lanes) both += load(to_out + i) * load(out + i);
        const float along = sum(both);
        const float surprise = a.surprise[(row * a.heads + head) * T + t];
        for (int i = 0; i < span; i += lanes) {
            const Vec share = exponential(load(line + i) - surprise);
            store(line + i, share);
            store(steep + i, share * (load(steep + i) - along));
        }
    }
};

template <class E, class Work>
void each_unit(const Attention& a, Work work) {
    const int64_t units = a.rows * a.kv_heads;
#pragma omp parallel
    {
        const typename E::Registers registers;
#pragma omp for schedule(dynamic)
        for (int64_t unit = 0; unit < units; unit++) {
            Unit<E> one(a, unit / a.kv_heads, unit % a.kv_heads);
            work(one);
        }
    }
}

template <class Work>
void each(const Attention& a, Work work) {
    in_fastest(a.bfloat16, [&](auto kind) { each_unit<decltype(kind)>(a, work); });
}
}  // namespace

extern "C" void attend_forward(const Attention* a) {
    each(*a, [](auto& unit) { unit.forward(); });
}

extern "C" void attend_backward(const Attention* a) {
    each(*a, [](auto& unit) { unit.backward(); });
}
