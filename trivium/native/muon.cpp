// A step of Muon: momentum, its blocks made orthogonal, and the weights moved.
//
// All memory is the caller's, laid out as muon.py says. A unit of work is one block of one matrix, which stays near the
// processor through all rounds; no two units write to the same place, so that the result does not depend on the number
// of threads. Products are in bfloat16 where the processor multiplies it, with sums in float32.
//
// h height of a block: its neurons; w width: the numbers of a neuron.

#include <vector>

#include "vectors.h"

namespace {

extern "C" struct Moved {  // muon.py fills it in; the order of the fields is shared
    float* weight;          // (rows, columns), as are the two that follow
    const float* gradient;
    float* momentum;
    int64_t rows, columns, neurons, by_column;
    double step;            // what the orthogonal block is multiplied by
};

extern "C" struct Muon {
    const Moved* moved;
    int64_t matrices, rounds, bfloat16;
    double momentum, kept, a, b, c;  // kept: of the weights; a, b, c: coefficients of a round
};

template <class E>
struct Block {
    typedef typename E::Packed Packed;
    const Muon& muon;
    const Moved& of;
    const int64_t first;  // neuron
    const int h, w;
    float *x, *square, *fourth;
    Packed *lines, *standing;

    Block(const Muon& muon, const Moved& of, int64_t index)
        : muon(muon), of(of), first(index * of.neurons), h(int(of.neurons)),
          w(int(of.by_column ? of.rows : of.columns)) {
        thread_local std::vector<float> memory;
        thread_local std::vector<Packed> packed;
        const size_t all = size_t(h) * w, most = size_t(h) * std::max(h, w);
        x = room(memory, all + 2 * h * h), square = x + all, fourth = square + h * h;
        lines = room(packed, 2 * most), standing = lines + most;
    }

    // Where number `i` of neuron `n` stands; where neurons are columns, the next neuron stands beside it.
    int64_t place(int n, int i) const {
        return of.by_column ? i * of.columns + first + n : (first + n) * of.columns + i;
    }

    // Momentum moves towards the gradient; x is what lies ahead of it (Nesterov).
    Vec ahead(int64_t at) const {
        const float keep = float(muon.momentum);
        const Vec g = load(of.gradient + at), m = load(of.momentum + at), now = m + (g - m) * (1.0f - keep);
        store(of.momentum + at, now);
        return g + (now - g) * keep;
    }

    void move(int64_t at, Vec update) const {
        store(of.weight + at, load(of.weight + at) * float(muon.kept) - update * float(of.step));
    }

    void take() const {
        if (!of.by_column) {
            for (int n = 0; n < h; n++)
                for (int i = 0; i < w; i += lanes) store(x + n * w + i, ahead(place(n, i)));
            return;
        }
        for (int i = 0; i < w; i += lanes)
            for (int n = 0; n < h; n += lanes) {
                Vec tile[lanes];
                for (int l = 0; l < lanes; l++) tile[l] = ahead(place(n, i + l));
                transpose(tile);
                for (int l = 0; l < lanes; l++) store(x + (n + l) * w + i, tile[l]);
            }
    }

    void give() const {
        if (!of.by_column) {
            for (int n = 0; n < h; n++)
                for (int i = 0; i < w; i += lanes) move(place(n, i), load(x + n * w + i));
            return;
        }
        for (int i = 0; i < w; i += lanes)
            for (int n = 0; n < h; n += lanes) {
                Vec tile[lanes];
                for (int l = 0; l < lanes; l++) tile[l] = load(x + (n + l) * w + i);
                transpose(tile);
                for (int l = 0; l < lanes; l++) move(place(n, i + l), tile[l]);
            }
    }

    void scale_to_one() const {
        Vec squares = {};
        for (int i = 0; i < h * w; i += lanes) squares += load(x + i) * load(x + i);
        const float by = 1.0f / (std::sqrt(sum(squares)) + 1e-7f);
        for (int i = 0; i < h * w; i += lanes) store(x + i, load(x + i) * by);
    }

    // x = a x + (b S + c S S) x, where S = x x^T
    void round() const {
        line_up<E>(x, h * w, lines);
        stand<E>(lines, h, w / E::numbers, standing);
        multiply<E>(standing, lines, h, w, h, square, false);
        line_up<E>(square, h * h, lines);
        lay<E>(square, h, h, standing);
        multiply<E>(standing, lines, h, h, h, fourth, false);
        for (int i = 0; i < h * h; i += lanes)
            store(fourth + i, load(square + i) * float(muon.b) + load(fourth + i) * float(muon.c));
        line_up<E>(fourth, h * h, lines);
        lay<E>(x, h, w, standing);
        for (int i = 0; i < h * w; i += lanes) store(x + i, load(x + i) * float(muon.a));
        multiply<E>(standing, lines, h, h, w, x, true);
    }

    void work() const {
        take();
        scale_to_one();
        for (int i = 0; i < muon.rounds; i++) round();
        give();
    }
};

template <class E>
void step(const Muon& muon) {
    std::vector<std::pair<int64_t, int64_t>> units;
    for (int64_t m = 0; m < muon.matrices; m++) {
        const Moved& of = muon.moved[m];
        for (int64_t n = 0; n < (of.by_column ? of.columns : of.rows) / of.neurons; n++) units.emplace_back(m, n);
    }
#pragma omp parallel
    {
        const typename E::Registers registers;
#pragma omp for schedule(dynamic)
        for (size_t u = 0; u < units.size(); u++) Block<E>(muon, muon.moved[units[u].first], units[u].second).work();
    }
}
}  // namespace

extern "C" void muon_step(const Muon* muon) {
    in_fastest(muon->bfloat16, [=](auto kind) { step<decltype(kind)>(*muon); });
}
