// Writing with a decoder of the Llama family: rows of (slot, position, token) in, tokens or logits out.
//
// All memory is the caller's, laid out as native.py says; nothing is kept here and nothing is thrown. Every row is
// computed in an order of its own, whatever stands beside it: equal to the bit in any company, on any number of
// threads.
//
// d head dimension; "padded": filled up with zeros to a multiple of 16.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#include "softmax.h"
#include "vectors.h"

namespace {

extern "C" struct Model {  // native.py fills it in; the order of the fields is shared
    int64_t bfloat16, layers, width, heads, kv_heads, head_dim, mlp_width, vocab_size, positions;
    double norm_eps;
    const float *embedding, *cos, *sin;                     // (vocab_size, width), (positions, d / 2) twice
    const float *input_norm, *attention_norm, *final_norm;  // (layers, padded width) twice, (padded width)
    const float *q_norm, *k_norm, *bias;            // (layers, padded d) twice, (layers, padded q, k, v), or null
    const void *qkv, *out, *gate_up, *down, *head;  // (layers, outputs / lanes, inputs, lanes), packed
    void* keys;    // (slots, layers, kv_heads, positions / lanes, padded d, lanes), packed too
    void* values;  // (slots, layers, kv_heads, positions, padded d), of the same numbers
    float* space;  // (threads, space_floats)
    int64_t space_floats;
};

extern "C" struct Writing {
    int64_t rows, steps, group, stops, stream;
    double temperature;
    const int32_t *row, *stop, *most;    // (rows,) slots; (stops,); (slots,) how many tokens may be written at most
    int32_t *position, *last, *written;  // (slots,) of the token read next, that token, and how many are written
    const float* uniform;                // (slots, stream)
    int32_t *count, *token;              // (slots,) and (slots, steps): what was written
    float *logprob, *logits;             // (slots, steps); (rows, vocab_size), or null for choosing here
};

struct Row {
    int32_t slot, position, token;
};

inline float inverse_scale(const float* x, int size, int64_t width, double eps) {
    Vec squares = {};
    for (int i = 0; i < size; i += lanes) squares += load(x + i) * load(x + i);
    return 1.0f / std::sqrt(sum(squares) / width + float(eps));
}

template <class E>
void normalise(const float* x, const float* weight, int rows, const Model& m, typename E::Packed* out) {
    const int size = padded(m.width);
    for (int r = 0; r < rows; r++, x += size, out += size / E::numbers) {
        const float scale = inverse_scale(x, size, m.width, m.norm_eps);
        for (int i = 0; i < size; i += lanes) E::pack(out, i, load(x + i) * scale * load(weight + i));
    }
}

// Bias, norms and rotation of one row's queries and keys.
void turn(const Model& m, int layer, int position, float* qkv) {
    const int d = m.head_dim, size = padded(d), half = d / 2, heads = m.heads + m.kv_heads;
    if (m.bias)
        for (int i = 0, all = (heads + m.kv_heads) * size; i < all; i += lanes)
            store(qkv + i, load(qkv + i) + load(m.bias + size_t(layer) * all + i));
    const float *cos = m.cos + size_t(position) * half, *sin = m.sin + size_t(position) * half;
    for (int h = 0; h < heads; h++) {
        float* x = qkv + h * size;
        if (m.q_norm) {
            const float* weight = (h < m.heads ? m.q_norm : m.k_norm) + size_t(layer) * size;
            const float scale = inverse_scale(x, size, d, m.norm_eps);
            for (int i = 0; i < d; i++) x[i] *= scale * weight[i];
        }
        for (int i = 0; i < half; i++) {
            const float a = x[i], b = x[i + half];
            x[i] = a * cos[i] - b * sin[i];
            x[i + half] = b * cos[i] + a * sin[i];
        }
    }
}

// The layers' work on some rows; of one slot, earlier positions come first. Leaves their last states in `x`.
template <class E>
struct Pass {
    typedef typename E::Packed Packed;
    const Model& m;
    int width, head, queries, keys, mlp;  // padded
    float *x, *wide, *weights;
    Packed *in, *packed;

    Pass(const Model& model, int thread, int most) : m(model) {
        width = padded(m.width), head = padded(m.head_dim), mlp = padded(m.mlp_width);
        queries = m.heads * head, keys = m.kv_heads * head;
        x = m.space + size_t(thread) * m.space_floats;
        wide = x + most * width;
        const int widest = std::max({queries + 2 * keys, 2 * mlp, padded(m.vocab_size)});
        in = reinterpret_cast<Packed*>(wide + most * widest);
        packed = in + most * std::max({width, queries, mlp});
        weights = wide + most * widest + most * std::max({width, queries, mlp}) + queries + 2 * keys;
    }

    // Tiles take rows by sixteens, and there is room for 64 (READ_ROWS); a row's sums do not depend on the others.
    void product(const void* all, int layer, int rows, int inputs, int outputs, float* y, bool add) {
        const auto* matrix = static_cast<const Packed*>(all) + size_t(layer) * outputs * inputs / E::numbers;
        multiply<E>(matrix, in, E::in_tiles(inputs) ? padded(rows) : rows, inputs, outputs, y, add);
    }

    void layers(const Row* rows, int n) {
        const int all = queries + 2 * keys;
        for (int r = 0; r < n; r++) {
            std::memcpy(x + r * width, m.embedding + size_t(rows[r].token) * m.width, m.width * sizeof(float));
            std::fill(x + r * width + m.width, x + (r + 1) * width, 0.0f);
        }
        for (int layer = 0; layer < m.layers; layer++) {
            normalise<E>(x, m.input_norm + size_t(layer) * width, n, m, in);
            product(m.qkv, layer, n, width, all, wide, false);
            for (int r = 0; r < n; r++) {
                turn(m, layer, rows[r].position, wide + r * all);
                look(layer, rows[r], wide + r * all, in + r * queries / E::numbers);
            }
            product(m.out, layer, n, queries, width, x, true);
            normalise<E>(x, m.attention_norm + size_t(layer) * width, n, m, in);
            product(m.gate_up, layer, n, width, 2 * mlp, wide, false);
            for (int r = 0; r < n; r++) gate(wide + r * 2 * mlp, in + r * mlp / E::numbers);
            product(m.down, layer, n, mlp, width, x, true);
        }
    }

    // Keys and values of one row go into the cache, and its queries look at what is there.
    void look(int layer, Row row, float* qkv, Packed* out) {
        const int depth = head / E::numbers;
        const size_t first = (size_t(row.slot) * m.layers + layer) * m.kv_heads;
        Packed *all_keys = static_cast<Packed*>(m.keys), *all_values = static_cast<Packed*>(m.values);
        for (int i = 0; i < queries + 2 * keys; i += lanes) E::pack(packed, i, load(qkv + i));
        for (int g = 0; g < m.kv_heads; g++) {
            const Packed *k = packed + (m.heads + g) * depth, *v = k + m.kv_heads * depth;
            Packed* to =
                all_keys + ((first + g) * m.positions + row.position / lanes * lanes) * depth + row.position % lanes;
            for (int i = 0; i < depth; i++) to[i * lanes] = k[i];
            std::memcpy(all_values + ((first + g) * m.positions + row.position) * depth, v, depth * sizeof(Packed));
        }
        for (int h = 0; h < m.heads; h++) {
            const size_t at = (first + h * m.kv_heads / m.heads) * m.positions * depth;
            attend<E>(
                packed + h * depth, all_keys + at, all_values + at, m.head_dim, row.position + 1, weights,
                qkv + h * head);
        }
        for (int i = 0; i < queries; i += lanes) E::pack(out, i, load(qkv + i));
    }

    void gate(const float* wide, Packed* out) {
        for (int i = 0; i < mlp; i += lanes) {
            const Vec g = load(wide + i);
            E::pack(out, i, g / (1.0f + exponential(-g)) * load(wide + mlp + i));
        }
    }

    float* logits(int n) {  // (n, padded vocabulary); the padding is minus infinity
        normalise<E>(x, m.final_norm, n, m, in);
        product(m.head, 0, n, width, padded(m.vocab_size), wide, false);
        for (int r = 0; r < n; r++)
            std::fill(wide + r * padded(m.vocab_size) + m.vocab_size, wide + (r + 1) * padded(m.vocab_size), -INFINITY);
        return wide;
    }
};

// Some rows, a few steps: each reads its last token and chooses the next, until it stops or has written all it may.
template <class E>
void write_rows(Pass<E>& pass, const Writing& w, const int32_t* slots, int n, float* logits) {
    std::vector<int32_t> alive(slots, slots + n);
    std::vector<Row> rows(n);
    const int64_t vocab_size = pass.m.vocab_size, pitch = padded(vocab_size);
    for (int step = 0; step < w.steps && !alive.empty(); step++) {
        for (size_t r = 0; r < alive.size(); r++) rows[r] = {alive[r], w.position[alive[r]], w.last[alive[r]]};
        pass.layers(rows.data(), int(alive.size()));
        float* found = pass.logits(int(alive.size()));
        if (logits) {
            for (int r = 0; r < n; r++)
                std::memcpy(logits + r * vocab_size, found + r * pitch, vocab_size * sizeof(float));
            return;
        }
        size_t left = 0;
        for (size_t r = 0; r < alive.size(); r++) {
            const int32_t slot = alive[r];
            const int64_t at = slot * w.steps + w.count[slot]++;
            const float uniform = w.uniform[slot * w.stream + w.written[slot]++];
            w.token[at] = w.last[slot] =
                choose(found + r * pitch, vocab_size, float(w.temperature), uniform, w.logprob + at);
            w.position[slot]++;
            const bool stopped = std::find(w.stop, w.stop + w.stops, w.last[slot]) != w.stop + w.stops;
            if (!stopped && w.written[slot] < w.most[slot]) alive[left++] = slot;
        }
        alive.resize(left);
    }
}

// Units of work 0 .. units - 1, each done once by one of the threads; with no thread to be had, by this one alone.
template <class F>
void share(int threads, int64_t units, F work) {
    std::atomic<int64_t> next{0};
    auto run = [&](int thread) {
        for (int64_t unit; (unit = next++) < units;) work(thread, unit);
    };
    std::vector<std::thread> others;
    try {
        for (int t = 1; t < std::min<int64_t>(threads, units); t++) others.emplace_back(run, t);
    } catch (const std::system_error&) {
    }
    run(0);
    for (auto& other : others) other.join();
}

template <class E>
void read(const Model& m, const Row* rows, const int32_t* starts, int64_t units, int most, int threads) {
    share(threads, units, [&](int thread, int64_t unit) {
        const typename E::Registers registers;
        Pass<E> pass(m, thread, most);
        for (int at = starts[unit]; at < starts[unit + 1]; at += most)
            pass.layers(rows + at, std::min(most, starts[unit + 1] - at));
    });
}

template <class E>
void write(const Model& m, const Writing& w, int most, int threads) {
    share(threads, (w.rows + w.group - 1) / w.group, [&](int thread, int64_t unit) {
        const typename E::Registers registers;
        Pass<E> pass(m, thread, most);
        const int64_t first = unit * w.group;
        float* logits = w.logits ? w.logits + first * m.vocab_size : nullptr;
        write_rows(pass, w, w.row + first, int(std::min(w.group, w.rows - first)), logits);
    });
}
}  // namespace

extern "C" int vector_lanes() { return lanes; }

extern "C" int has_bfloat16() {
#ifdef __AVX512BF16__
    return 1;
#else
    return 0;
#endif
}

extern "C" void pack_matrices(const Matrix* matrices, int64_t count, int bfloat16, int threads) {
    in_fastest(bfloat16, [=](auto kind) {
        share(threads, count, [=](int, int64_t unit) { pack<decltype(kind)>(matrices[unit]); });
    });
}

// Prompts into the cache. Rows of a unit stand between its start and the next; `most` rows are read at once.
extern "C" void read_rows(
    const Model* m, const Row* rows, const int32_t* starts, int64_t units, int most, int threads) {
    in_fastest(m->bfloat16, [=](auto kind) { read<decltype(kind)>(*m, rows, starts, units, most, threads); });
}

extern "C" void write_rows(const Model* m, const Writing* w, int most, int threads) {
    in_fastest(m->bfloat16, [=](auto kind) { write<decltype(kind)>(*m, *w, most, threads); });
}
