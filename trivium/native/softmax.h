// The two places of a softmax: attention over the cache, and the choice of a token.

#pragma once
#include <algorithm>

#include "vectors.h"

namespace {

inline float highest(const float* x, int count) {  // up to the last whole vector; what is no number does not count
    Vec most = splat(-INFINITY);
    for (int i = 0; i < count; i += lanes) most = load(x + i) > most ? load(x + i) : most;
    return largest(most);
}

// Scores of N vectors of positions.
template <class E, int N>
inline void scores(const typename E::Packed* q, const typename E::Packed* k, int depth, float scale, float* out) {
    Vec sums[N] = {};
    for (int i = 0; i < depth; i++)
        for (int b = 0; b < N; b++) sums[b] = E::multiply_add(sums[b], k + (b * depth + i) * lanes, q[i]);
    for (int b = 0; b < N; b++) store(out + b * lanes, sums[b] * scale);
}

// The weighted sum of values, for N vectors of a head; even and odd positions apart, so that no sum waits for itself.
template <class E, int N>
inline void mix(const float* weights, const typename E::Packed* v, int count, int pitch, float share, float* out) {
    Vec even[N] = {}, odd[N] = {};
    int t = 0;
    for (; t + 2 <= count; t += 2, v += 2 * pitch)
        for (int i = 0; i < N; i++) {
            even[i] += weights[t] * E::unpack(v + i * lanes / E::numbers);
            odd[i] += weights[t + 1] * E::unpack(v + pitch + i * lanes / E::numbers);
        }
    if (t < count)
        for (int i = 0; i < N; i++) even[i] += weights[t] * E::unpack(v + i * lanes / E::numbers);
    for (int i = 0; i < N; i++) store(out + i * lanes, (even[i] + odd[i]) * share);
}

// softmax(q k / sqrt(d)) v of one head over the first `count` positions
template <class E>
void attend(
    const typename E::Packed* q, const typename E::Packed* k, const typename E::Packed* v, int d, int count,
    float* weights, float* out) {
    const int size = padded(d), depth = size / E::numbers, blocks = (count + lanes - 1) / lanes;
    const float scale = 1.0f / std::sqrt(float(d));
    int b = 0;
    for (; b + 4 <= blocks; b += 4) scores<E, 4>(q, k + b * depth * lanes, depth, scale, weights + b * lanes);
    for (; b < blocks; b++) scores<E, 1>(q, k + b * depth * lanes, depth, scale, weights + b * lanes);
    for (int t = count; t < blocks * lanes; t++) weights[t] = -INFINITY;
    const float top = highest(weights, count);
    Vec total = {};
    for (int t = 0; t < count; t += lanes) {
        const Vec e = exponential(load(weights + t) - top);
        store(weights + t, e);
        total += e;
    }
    const float share = 1.0f / sum(total);
    int i = 0;
    for (; i + 4 * lanes <= size; i += 4 * lanes) mix<E, 4>(weights, v + i / E::numbers, count, depth, share, out + i);
    for (; i + 2 * lanes <= size; i += 2 * lanes) mix<E, 2>(weights, v + i / E::numbers, count, depth, share, out + i);
    for (; i < size; i += lanes) mix<E, 1>(weights, v + i / E::numbers, count, depth, share, out + i);
}

// The first token whose cumulative weight exceeds `drawn`.
int invert(const float* weights, int size, float drawn) {
    float before = 0;
    int chosen = size - 1;
    for (int i = 0; i < size; i += lanes) {
        const float after = before + sum(load(weights + i));
        if (after > drawn) {
            for (int j = i; j < i + lanes && before <= drawn; before += weights[j++])
                if (weights[j] > 0) chosen = j;
            return chosen;
        }
        before = after;
    }
    while (chosen > 0 && !(weights[chosen] > 0)) chosen--;  // rounding put the draw at the very end
    return chosen;
}

// One token, as `choose` in sampling.py does it; overwrites the logits.
int choose(float* logits, int64_t vocab_size, float temperature, float uniform, float* logprob) {
    const int size = padded(vocab_size);
    const float top = highest(logits, size), heat = temperature > 0 ? temperature : 1.0f;
    int chosen = int(std::find(logits, logits + vocab_size, top) - logits) % int(vocab_size);  // 0 if none is a number
    float total = 0;
    for (int i = 0; i < size; i += lanes) {
        const Vec weights = exponential((load(logits + i) - top) / heat);
        store(logits + i, weights);
        total += sum(weights);
    }
    if (temperature > 0) chosen = invert(logits, size, uniform * total);
    *logprob = std::log(logits[chosen] / total);
    return chosen;
}
}  // namespace
