/* What adds up planes position by position: LayerNorm, attention; compiled once for each instruction
 * set. Positions are the lanes of the vectors, so that no sum runs across lanes. */
#include "steps.h"

#include "powers.h"

#define RESTRICT __restrict__

enum { STRIP = 64 }; /* positions whose sums are kept together */

static void norm(const struct mm_norm_step *s, const float *in, const float *weight,
                 const float *bias, float epsilon, const int32_t *mask, float *out)
{
    memset(out - s->front, 0, (size_t)s->front * sizeof(float));
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
    for (int64_t r = 0; r < s->planes; r++) {
        float *y = out + r * s->out_step;
        if (mask)
            clear_gaps(mask, y, s->count);
        memset(y + s->count, 0, (size_t)(s->out_step - s->count) * sizeof(float));
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

const struct mm_lanes MM_NAME = {norm, attention};
