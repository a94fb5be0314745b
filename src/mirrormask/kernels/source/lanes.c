/* What works position by position: activations, LayerNorm, attention; compiled once for each
 * instruction set. Positions are the lanes of the vectors, so that no sum runs across lanes. */
#include "steps.h"

#include "vectors.h"

#define RESTRICT __restrict__

/* exp(x) within 2 units in the last place (Cephes' polynomial on [-log 2 / 2, log 2 / 2]). */
INLINE floats power_of_e(floats x)
{
    x = choose(x < -87.0f, all(-87.0f), choose(x > 88.0f, all(88.0f), x));
    floats half = choose(x < 0.0f, all(-0.5f), all(0.5f)), p = all(1.9875691500e-4f);
    ints whole = __builtin_convertvector(x * 1.44269504f + half, ints);
    floats n = __builtin_convertvector(whole, floats);
    floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
    p = p * r + 1.3981999507e-3f, p = p * r + 8.3334519073e-3f, p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f, p = p * r + 5.0000001201e-1f;
    return (p * r * r + r + 1.0f) * (floats)((whole + 127) << 23);
}

INLINE floats sigmoid(floats x) { return 1.0f / (1.0f + power_of_e(-x)); }

/* 1 - erf(z) for z >= 0 within 1.5e-7 (Abramowitz & Stegun 1964, 7.1.26). */
INLINE floats rest_of_erf(floats z)
{
    floats t = 1.0f / (1.0f + 0.3275911f * z), p = t * 1.061405429f - 1.453152027f;
    p = p * t + 1.421413741f, p = p * t - 0.284496736f, p = p * t + 0.254829592f;
    return p * t * power_of_e(-z * z);
}

INLINE floats gelu(floats x)
{
    floats z = choose(x < 0.0f, -x, x) * 0.70710678f, half = 0.5f * rest_of_erf(z);
    return choose(x != x, x, x * choose(x < 0.0f, half, 1.0f - half));
}

/* x * (1 + tanh(u)) / 2 = x * sigmoid(2 u) */
INLINE floats gelu_tanh(floats x)
{
    floats u = 1.5957691216f * (x + 0.044715f * x * x * x);
    return choose(x != x, x, x * sigmoid(u));
}

INLINE floats silu(floats x) { return choose(x != x, x, x * sigmoid(x)); }

INLINE floats relu(floats x) { return (floats)((ints)x & ~(ints)(x < 0.0f)); }

/* Out may be one of the operands: each position is read before it is written. */
#define EACH(expression)                                                                           \
    {                                                                                              \
        int64_t i = 0;                                                                             \
        for (; i + LANES <= count; i += LANES) {                                                   \
            floats x = load(a + i), y = b ? load(b + i) : x;                                       \
            (void)y;                                                                               \
            store(out + i, (expression));                                                          \
        }                                                                                          \
        if (i < count) {                                                                           \
            floats x = load_some(a + i, count - i), y = b ? load_some(b + i, count - i) : x;       \
            (void)y;                                                                               \
            store_some(out + i, (expression), count - i);                                          \
        }                                                                                          \
    }                                                                                              \
    break

static void one_plane(int64_t what, const float *a, const float *b, float *out, int64_t count)
{
    switch (what) {
    case MM_RELU: EACH(relu(x));
    case MM_GELU: EACH(gelu(x));
    case MM_GELU_TANH: EACH(gelu_tanh(x));
    case MM_SILU: EACH(silu(x));
    case MM_ADD: EACH(x + y);
    case MM_MULTIPLY: EACH(x * y);
    case MM_ADD_RELU: EACH(relu(x + y));
    case MM_SUBTRACT: EACH(x - y);
    }
}

/* Planes that follow each other without gaps are one long plane. */
static void pointwise(const struct mm_pointwise_step *s, const float *a, const float *b, float *out)
{
    int64_t planes = s->planes, count = s->count, step = s->out_step;
    int joined = s->a_step == count && step == count && (!b || s->b_step == count);
    memset(out - s->front, 0, (size_t)s->front * sizeof(float));
    if (joined)
        count *= planes, step = count, planes = 1;
    for (int64_t r = 0; r < planes; r++) {
        one_plane(s->what, a + r * s->a_step, b ? b + r * s->b_step : NULL, out + r * step, count);
        memset(out + r * step + count, 0, (size_t)(step - count) * sizeof(float));
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

/* A vector for each of the queries, LANES queries in each. */
enum { VECTORS = MM_QUERIES / LANES, KEYS = 4 };
struct queries {
    floats part[VECTORS];
};

INLINE struct queries read_queries(const float *from, int64_t count)
{
    struct queries found;
    if (count == MM_QUERIES)
        for (int v = 0; v < VECTORS; v++)
            found.part[v] = load(from + v * LANES);
    else
        memset(&found, 0, sizeof found), memcpy(&found, from, (size_t)count * sizeof(float));
    return found;
}

/* Scores of the queries from `first` on against all keys: room [keys][MM_QUERIES]. */
static void score(const struct mm_attention_step *s, const float *q, const float *k, float scale,
                  int64_t first, int64_t count, float *room)
{
    for (int64_t j = 0; j < s->keys; j += KEYS) {
        int64_t some = s->keys - j < KEYS ? s->keys - j : KEYS;
        struct queries sums[KEYS];
        memset(sums, 0, sizeof sums);
        for (int64_t d = 0; d < s->depth; d++) {
            struct queries query = read_queries(q + d * s->q_step, count);
            const float *key = k + d * s->k_step + j;
            for (int u = 0; u < KEYS; u++)
                for (int v = 0; v < VECTORS; v++)
                    sums[u].part[v] += (u < some ? key[u] : 0.0f) * query.part[v];
        }
        for (int64_t u = 0; u < some; u++) {
            float *scores = room + (j + u) * MM_QUERIES;
            for (int v = 0; v < VECTORS; v++)
                store(scores + v * LANES, sums[u].part[v] * scale);
            /* A key counts for the queries at its own place and behind it. */
            for (int64_t i = 0; s->causal && i < MM_QUERIES && first + i < j + u; i++)
                scores[i] = -__builtin_inff();
        }
    }
}

static void softmax(int64_t keys, float *room)
{
    for (int at = 0; at < MM_QUERIES; at += LANES) {
        floats largest = load(room + at), total = {0};
        for (int64_t j = 1; j < keys; j++) {
            floats x = load(room + j * MM_QUERIES + at);
            largest = choose((x > largest) | (x != x), x, largest);
        }
        for (int64_t j = 0; j < keys; j++) {
            floats x = load(room + j * MM_QUERIES + at), far = x - largest;
            floats part = choose(x == -__builtin_inff(), all(0.0f), power_of_e(far));
            part = choose(far != far, far, part);
            store(room + j * MM_QUERIES + at, part);
            total += part;
        }
        for (int64_t j = 0; j < keys; j++)
            store(room + j * MM_QUERIES + at, load(room + j * MM_QUERIES + at) / total);
    }
}

static void mix(const struct mm_attention_step *s, const float *v, int64_t count, const float *room,
                float *out)
{
    for (int64_t d = 0; d < s->value_depth; d += KEYS) {
        int64_t some = s->value_depth - d < KEYS ? s->value_depth - d : KEYS;
        struct queries sums[KEYS];
        memset(sums, 0, sizeof sums);
        for (int64_t j = 0; j < s->keys; j++)
            for (int u = 0; u < KEYS; u++) {
                float value = u < some ? v[(d + u) * s->v_step + j] : 0.0f;
                for (int w = 0; w < VECTORS; w++)
                    sums[u].part[w] += value * load(room + j * MM_QUERIES + w * LANES);
            }
        for (int64_t u = 0; u < some; u++)
            memcpy(out + (d + u) * s->out_step, sums + u, (size_t)count * sizeof(float));
    }
}

static void attention(const struct mm_attention_step *s, const float *q, const float *k,
                      const float *v, float scale, float *room, float *out)
{
    for (int64_t n = 0; n < s->images; n++)
        for (int64_t h = 0; h < s->heads; h++)
            for (int64_t at = 0; at < s->queries; at += MM_QUERIES) {
                int64_t count = s->queries - at < MM_QUERIES ? s->queries - at : MM_QUERIES;
                score(s, q + h * s->depth * s->q_step + n * s->queries + at,
                      k + h * s->depth * s->k_step + n * s->keys, scale, at, count, room);
                softmax(s->keys, room);
                mix(s, v + h * s->value_depth * s->v_step + n * s->keys, count, room,
                    out + h * s->value_depth * s->out_step + n * s->queries + at);
            }
}

const struct mm_lanes MM_NAME = {pointwise, norm, attention};
