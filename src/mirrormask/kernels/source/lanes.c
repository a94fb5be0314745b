/* What works position by position: activations, LayerNorm, attention; compiled once for each
 * instruction set. Positions are the lanes of the vectors, so that no sum runs across lanes. */
#include "steps.h"

#include <string.h>

#define RESTRICT __restrict__
#define INLINE static inline __attribute__((always_inline))

/* exp(x) within 2 units in the last place (Cephes' polynomial on [-log 2 / 2, log 2 / 2]). */
INLINE float power_of_e(float x)
{
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    int32_t whole = (int32_t)(x * 1.44269504f + (x < 0.0f ? -0.5f : 0.5f));
    float n = (float)whole, r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f, p = p * r + 8.3334519073e-3f, p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f, p = p * r + 5.0000001201e-1f;
    union {
        int32_t bits;
        float value;
    } scale = {.bits = (whole + 127) << 23};
    return (p * r * r + r + 1.0f) * scale.value;
}

/* 1 - erf(z) for z >= 0 within 1.5e-7 (Abramowitz & Stegun 1964, 7.1.26). */
INLINE float rest_of_erf(float z)
{
    float t = 1.0f / (1.0f + 0.3275911f * z), p = 1.061405429f;
    p = p * t - 1.453152027f, p = p * t + 1.421413741f, p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    return p * t * power_of_e(-z * z);
}

INLINE float gelu(float x)
{
    float z = (x < 0.0f ? -x : x) * 0.70710678f, half = 0.5f * rest_of_erf(z);
    return x != x ? x : x < 0.0f ? x * half : x - x * half;
}

INLINE float gelu_tanh(float x)
{
    /* x * (1 + tanh(u)) / 2 = x * sigmoid(2 u) */
    float u = 1.5957691216f * (x + 0.044715f * x * x * x);
    return x != x ? x : x / (1.0f + power_of_e(-u));
}

INLINE float silu(float x) { return x != x ? x : x / (1.0f + power_of_e(-x)); }

INLINE float relu(float x) { return x < 0.0f ? 0.0f : x; }

#define EACH(expression)                                                                           \
    for (int64_t i = 0; i < count; i++)                                                            \
        out[i] = (expression);                                                                     \
    break

/* Out may be one of the operands: each position is read before it is written. */
static void one_plane(int64_t what, const float *a, const float *b, float *out, int64_t count)
{
    switch (what) {
    case MM_RELU: EACH(relu(a[i]));
    case MM_GELU: EACH(gelu(a[i]));
    case MM_GELU_TANH: EACH(gelu_tanh(a[i]));
    case MM_SILU: EACH(silu(a[i]));
    case MM_ADD: EACH(a[i] + b[i]);
    case MM_MULTIPLY: EACH(a[i] * b[i]);
    case MM_ADD_RELU: EACH(relu(a[i] + b[i]));
    case MM_SUBTRACT: EACH(a[i] - b[i]);
    }
}

static void pointwise(const struct mm_pointwise_step *s, const float *a, const float *b, float *out)
{
    memset(out - s->front, 0, (size_t)s->front * sizeof(float));
    for (int64_t r = 0; r < s->planes; r++) {
        one_plane(s->what, a + r * s->a_step, b ? b + r * s->b_step : NULL, out + r * s->out_step,
                  s->count);
        memset(out + r * s->out_step + s->count, 0,
               (size_t)(s->out_step - s->count) * sizeof(float));
    }
}

enum { STRIP = 64 }; /* positions whose sums are kept together */

static void norm(const struct mm_norm_step *s, const float *in, const float *weight,
                 const float *bias, float epsilon, float *out)
{
    for (int64_t at = 0; at < s->count; at += STRIP) {
        int64_t count = s->count - at < STRIP ? s->count - at : STRIP;
        float mean[STRIP] = {0}, spread[STRIP] = {0};
        for (int64_t r = 0; r < s->planes; r++)
            for (int64_t i = 0; i < count; i++)
                mean[i] += in[r * s->in_step + at + i];
        for (int64_t i = 0; i < count; i++)
            mean[i] /= (float)s->planes;
        for (int64_t r = 0; r < s->planes; r++)
            for (int64_t i = 0; i < count; i++) {
                float far = in[r * s->in_step + at + i] - mean[i];
                spread[i] += far * far;
            }
        for (int64_t i = 0; i < count; i++)
            spread[i] = 1.0f / __builtin_sqrtf(spread[i] / (float)s->planes + epsilon);
        for (int64_t r = 0; r < s->planes; r++) {
            float factor = weight ? weight[r] : 1.0f, shift = bias ? bias[r] : 0.0f;
            const float *x = in + r * s->in_step + at;
            float *RESTRICT y = out + r * s->out_step + at;
            for (int64_t i = 0; i < count; i++)
                y[i] = (x[i] - mean[i]) * spread[i] * factor + shift;
        }
    }
}

/* Scores of `count` queries against all keys, then their softmax: room [keys][MM_QUERIES]. */
static void weigh(const struct mm_attention_step *s, const float *q, const float *k, float scale,
                  int64_t first, int64_t count, float *room)
{
    float largest[MM_QUERIES], total[MM_QUERIES] = {0};
    for (int i = 0; i < MM_QUERIES; i++)
        largest[i] = -__builtin_inff();
    for (int64_t j = 0; j < s->keys; j++) {
        float *score = room + j * MM_QUERIES, sums[MM_QUERIES] = {0};
        for (int64_t d = 0; d < s->depth; d++) {
            float key = k[d * s->k_step + j];
            const float *query = q + d * s->q_step;
            if (count == MM_QUERIES)
                for (int i = 0; i < MM_QUERIES; i++)
                    sums[i] += key * query[i];
            else
                for (int64_t i = 0; i < count; i++)
                    sums[i] += key * query[i];
        }
        for (int i = 0; i < MM_QUERIES; i++) {
            sums[i] = s->causal && j > first + i ? -__builtin_inff() : sums[i] * scale;
            largest[i] = sums[i] > largest[i] || sums[i] != sums[i] ? sums[i] : largest[i];
            score[i] = sums[i];
        }
    }
    for (int64_t j = 0; j < s->keys; j++)
        for (int i = 0; i < MM_QUERIES; i++) {
            float score = room[j * MM_QUERIES + i], far = score - largest[i];
            float part = far != far ? far : score == -__builtin_inff() ? 0.0f : power_of_e(far);
            room[j * MM_QUERIES + i] = part;
            total[i] += part;
        }
    for (int64_t j = 0; j < s->keys; j++)
        for (int i = 0; i < MM_QUERIES; i++)
            room[j * MM_QUERIES + i] /= total[i];
}

static void mix(const struct mm_attention_step *s, const float *v, int64_t count, const float *room,
                float *out)
{
    for (int64_t d = 0; d < s->value_depth; d++) {
        float sums[MM_QUERIES] = {0};
        for (int64_t j = 0; j < s->keys; j++) {
            float value = v[d * s->v_step + j];
            for (int i = 0; i < MM_QUERIES; i++)
                sums[i] += value * room[j * MM_QUERIES + i];
        }
        for (int64_t i = 0; i < count; i++)
            out[d * s->out_step + i] = sums[i];
    }
}

static void attention(const struct mm_attention_step *s, const float *q, const float *k,
                      const float *v, float scale, float *room, float *out)
{
    for (int64_t n = 0; n < s->images; n++)
        for (int64_t h = 0; h < s->heads; h++)
            for (int64_t at = 0; at < s->queries; at += MM_QUERIES) {
                int64_t count = s->queries - at < MM_QUERIES ? s->queries - at : MM_QUERIES;
                weigh(s, q + h * s->depth * s->q_step + n * s->queries + at,
                      k + h * s->depth * s->k_step + n * s->keys, scale, at, count, room);
                mix(s, v + h * s->value_depth * s->v_step + n * s->keys, count, room,
                    out + h * s->value_depth * s->out_step + n * s->queries + at);
            }
}

const struct mm_lanes MM_NAME = {pointwise, norm, attention};
