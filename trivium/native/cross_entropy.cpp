// From logits to what the softmax over them loses, and to its gradient, in their place.
//
// All memory is the caller's, laid out as cross_entropy.py says; a vocabulary is a whole number of vectors. Logits come, and
// gradients go, in bfloat16 or float32; what is in between is float32, and of one position alone, so that the result does
// not depend on the number of threads.

#include <vector>

#include "vectors.h"

namespace {

extern "C" struct CrossEntropy {  // cross_entropy.py fills it in; the order of the fields is shared
    int64_t bfloat16, positions, vocab_size;
    void* logits;            // (positions, vocab_size); becomes the gradient
    const int64_t* targets;  // (positions)
    const float* counted;    // (positions): what each loss is multiplied by
    float* losses;           // (positions)
    const float* offsets;    // (vocab_size): what the logits count for more in the sum over all; or none
};

// One position. Its probabilities are multiplied by `counted`; that of the target is lower by as much.
template <class Number>
float soften(Number* logits, int count, int64_t target, float counted, const float* offsets, float* line) {
    Vec most = splat(-INFINITY);
    for (int i = 0; i < count; i += lanes) {
        const Vec x = offsets ? take(logits + i) + load(offsets + i) : take(logits + i);
        store(line + i, x);
        most = x > most ? x : most;
    }
    const float top = largest(most), wanted = line[target] - (offsets ? offsets[target] : 0);
    Vec total = {};
    for (int i = 0; i < count; i += lanes) {
        const Vec e = exponential(load(line + i) - top);
        store(line + i, e);
        total += e;
    }
    const float sums = sum(total), share = counted / sums;
    line[target] -= sums;
    for (int i = 0; i < count; i += lanes) give(load(line + i) * share, logits + i);
    return counted * (std::log(sums) + top - wanted);
}

template <class Number>
void each(const CrossEntropy& c) {
    auto* logits = static_cast<Number*>(c.logits);
    const int count = int(c.vocab_size);
#pragma omp parallel
    {
        std::vector<float> line(count);
#pragma omp for
        for (int64_t i = 0; i < c.positions; i++)
            c.losses[i] = soften(logits + i * count, count, c.targets[i], c.counted[i], c.offsets, line.data());
    }
}
}  // namespace

extern "C" void logits_gradient(const CrossEntropy* c) {
    if (c->bfloat16)
        each<uint16_t>(*c);
    else
        each<float>(*c);
}
