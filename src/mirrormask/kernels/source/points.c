/* What works on each number by itself: activations, sums, products, gates; compiled once for each
 * instruction set. */
#include "steps.h"

#include "powers.h"

INLINE floats keep_nan(floats x, floats y) { return choose(x != x, x, y); }

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
    return keep_nan(x, x * choose(x < 0.0f, half, 1.0f - half));
}

/* x * (1 + tanh(u)) / 2 = x * sigmoid(2 u) */
INLINE floats gelu_tanh(floats x)
{
    floats u = 1.5957691216f * (x + 0.044715f * x * x * x);
    return keep_nan(x, x * sigmoid(u));
}

INLINE floats silu(floats x) { return keep_nan(x, x * sigmoid(x)); }

INLINE floats relu(floats x) { return (floats)((ints)x & ~(ints)(x < 0.0f)); }

INLINE floats clamp(floats x, floats low, floats high)
{
    x = choose(x < low, low, x);
    return choose(x > high, high, x);
}

INLINE floats hardsigmoid(floats x) { return clamp(x * (1.0f / 6.0f) + 0.5f, all(0.0f), all(1.0f)); }

INLINE floats tanh_of(floats x) { return keep_nan(x, 2.0f * sigmoid(2.0f * x) - 1.0f); }

INLINE floats elu(floats x, floats factor)
{
    return choose(x <= 0.0f, factor * (power_of_e(x) - 1.0f), x);
}

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

static void one_plane(int64_t what, const float *a, const float *b, const float *parameters,
                      float *out, int64_t count)
{
    floats first = all(parameters ? parameters[0] : 0.0f);
    floats second = all(parameters ? parameters[1] : 0.0f);
    switch (what) {
    case MM_RELU: EACH(relu(x));
    case MM_GELU: EACH(gelu(x));
    case MM_GELU_TANH: EACH(gelu_tanh(x));
    case MM_SILU: EACH(silu(x));
    case MM_ADD: EACH(x + y);
    case MM_MULTIPLY: EACH(x * y);
    case MM_ADD_RELU: EACH(relu(x + y));
    case MM_SUBTRACT: EACH(x - y);
    case MM_SIGMOID: EACH(keep_nan(x, sigmoid(x)));
    case MM_HARDSIGMOID: EACH(hardsigmoid(x));
    case MM_HARDSWISH: EACH(x * hardsigmoid(x));
    case MM_TANH: EACH(tanh_of(x));
    case MM_CLAMP: EACH(clamp(x, first, second));
    case MM_LEAKY_RELU: EACH(choose(x > 0.0f, x, x * first));
    case MM_ELU: EACH(elu(x, first));
    }
}

/* Planes that follow each other without gaps are one long plane. */
static void pointwise(const struct mm_pointwise_step *s, const float *a, const float *b,
                      const float *parameters, const int32_t *mask, float *out)
{
    int64_t planes = s->planes, count = s->count, step = s->out_step;
    int joined = s->a_step == count && step == count && (!b || s->b_step == count) && !mask;
    memset(out - s->front, 0, (size_t)s->front * sizeof(float));
    if (joined)
        count *= planes, step = count, planes = 1;
    for (int64_t r = 0; r < planes; r++) {
        float *y = out + r * step;
        one_plane(s->what, a + r * s->a_step, b ? b + r * s->b_step : NULL, parameters, y, count);
        if (mask)
            clear_gaps(mask, y, count);
        memset(y + count, 0, (size_t)(step - count) * sizeof(float));
    }
}

/* Each image of each plane times one number of its own. */
static void gate(const struct mm_gate_step *s, const float *in, const float *factors, float *out)
{
    memset(out - s->front, 0, (size_t)s->front * sizeof(float));
    for (int64_t r = 0; r < s->planes; r++) {
        int64_t done = 0;
        for (int64_t n = 0; n < s->images; n++) {
            const float *x = in + r * s->in_step + n * s->image;
            float *y = out + r * s->out_step;
            float factor = factors[r * s->gate_step + n * s->gate_image];
            memset(y + done, 0, (size_t)(n * s->image - done) * sizeof(float));
            for (int64_t i = 0; i < s->used; i++)
                y[n * s->image + i] = x[i] * factor;
            done = n * s->image + s->used;
        }
        memset(out + r * s->out_step + done, 0, (size_t)(s->out_step - done) * sizeof(float));
    }
}

const struct mm_points MM_NAME = {pointwise, gate};
