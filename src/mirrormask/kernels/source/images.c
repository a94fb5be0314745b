/* Copies between layouts, and pooling; compiled once for each instruction set. */
#include "steps.h"

#include "vectors.h"
#include "turn.h"

#define RESTRICT __restrict__

static void row(const float *RESTRICT in, int64_t from, float *RESTRICT out, int64_t to, int64_t count)
{
    if (from == 1 && to == 1 && count >= 64)
        memcpy(out, in, (size_t)count * sizeof(float));
    else if (from == 1 && to == 1)
        for (int64_t i = 0; i < count; i++)
            out[i] = in[i];
    else if (from == 2 && to == 1)
        for (int64_t i = 0; i < count; i++)
            out[i] = in[2 * i];
    else
        for (int64_t i = 0; i < count; i++)
            out[i * to] = in[i * from];
}

static void copy(const struct mm_copy_step *s, const float *in, float *out)
{
    const int64_t *n = s->sizes, *from = s->from, *to = s->to;
    /* Both inner dimensions at once where one side's neighbours are the other side's far ones. */
    int turned = n[3] > 1 && from[3] == 1 && to[4] == 1 && from[4] != 1;
    for (int64_t a = 0; a < n[0]; a++)
        for (int64_t b = 0; b < n[1]; b++)
            for (int64_t c = 0; c < n[2]; c++) {
                const float *source = in + a * from[0] + b * from[1] + c * from[2];
                float *target = out + a * to[0] + b * to[1] + c * to[2];
                if (turned) {
                    turn(source, n[4], n[3], from[4], target, to[3]);
                    continue;
                }
                for (int64_t d = 0; d < n[3]; d++)
                    row(source + d * from[3], from[4], target + d * to[3], to[4], n[4]);
            }
}

/* Outputs [*low, *high) along an axis whose windows lie within the image. */
static void inside(const struct mm_pool_step *s, int axis, int64_t *low, int64_t *high)
{
    int64_t end = s->size[axis] + s->pad[axis] - s->dilation[axis] * (s->kernel[axis] - 1);
    *low = (s->pad[axis] + s->stride[axis] - 1) / s->stride[axis];
    *high = end <= 0 ? 0 : (end + s->stride[axis] - 1) / s->stride[axis];
    if (*high > s->out_size[axis])
        *high = s->out_size[axis];
    if (*low > *high)
        *low = *high;
}

INLINE float larger(float a, float b) { return b > a || b != b ? b : a; }

/* One window at the edge. */
static float window(const struct mm_pool_step *s, const float *in, int64_t y, int64_t x)
{
    int max = s->what == MM_POOL_MAX;
    float result = max ? -__builtin_inff() : 0.0f;
    int64_t met = 0;
    for (int64_t a = 0; a < s->kernel[0]; a++) {
        int64_t row = y * s->stride[0] + a * s->dilation[0] - s->pad[0];
        for (int64_t b = 0; row >= 0 && row < s->size[0] && b < s->kernel[1]; b++) {
            int64_t column = x * s->stride[1] + b * s->dilation[1] - s->pad[1];
            if (column < 0 || column >= s->size[1])
                continue;
            float value = in[row * s->in_row + column];
            result = max ? larger(result, value) : result + value;
            met++;
        }
    }
    if (max)
        return result;
    return result / (float)(s->what == MM_POOL_MEAN_INSIDE ? met : s->kernel[0] * s->kernel[1]);
}

enum { LINE = 128, SPAN = 32 };

INLINE floats fold(int max, floats a, floats b)
{
    return max ? choose((b > a) | (b != b), b, a) : a + b;
}

/* For each of `wide` places the largest value or the sum of `count` floats, `step` apart, from there
 * on. The last vectors reach beyond. */
static void slide(int max, const float *in, int64_t step, int64_t count, int64_t wide, float *out)
{
    for (int64_t i = 0; i < wide; i += LANES) {
        floats result = load(in + i);
        for (int64_t k = 1; k < count; k++)
            result = fold(max, result, load(in + k * step + i));
        store(out + i, result);
    }
}

/* The same for whole windows at once, which is less work where they are small. */
static void step_over(const struct mm_pool_step *s, int max, const float *in, int64_t wide, float *out)
{
    for (int64_t i = 0; i < wide; i += LANES) {
        floats result = load(in + i);
        for (int64_t k = 1; k < s->kernel[0] * s->kernel[1]; k++) {
            int64_t down = k / s->kernel[1] * s->dilation[0], right = k % s->kernel[1] * s->dilation[1];
            result = fold(max, result, load(in + down * s->in_row + right + i));
        }
        store(out + i, result);
    }
}

enum { SMALL = 4 };

/* Whole windows of a row, a vector at a time, of which every stride-th is wanted. The last vector may
 * reach MM_OVERREAD floats beyond the image. */
static void windows(const struct mm_pool_step *s, const float *in, int64_t y, int64_t low, int64_t high,
                    float *out)
{
    int max = s->what == MM_POOL_MAX;
    const float *first = in + (y * s->stride[0] - s->pad[0]) * s->in_row - s->pad[1];
    int64_t stride = s->stride[1], span = s->dilation[1] * (s->kernel[1] - 1);
    int64_t share = LINE / stride > 0 ? LINE / stride : 1;
    float scale = 1.0f / (float)(s->kernel[0] * s->kernel[1]);
    float column[LINE + SPAN + LANES + LANES], line[LINE + LANES];
    for (int64_t x = low; x < high; x += share) {
        int64_t count = high - x < share ? high - x : share, wide = (count - 1) * stride + 1;
        const float *corner = first + x * stride;
        if (s->kernel[0] * s->kernel[1] <= SMALL) {
            step_over(s, max, corner, wide, line);
        } else {
            slide(max, corner, s->dilation[0] * s->in_row, s->kernel[0], wide + span, column);
            slide(max, column, s->dilation[1], s->kernel[1], wide, line);
        }
        for (int64_t i = 0; !max && i < wide; i++)
            line[i] *= scale;
        row(line, stride, out + x, 1, count);
    }
}

/* The mean of a whole image, which ends most networks. */
static float mean(const float *in, int64_t height, int64_t width, int64_t step)
{
    float sums[MM_UNIT] = {0}, total = 0.0f;
    for (int64_t i = 0; i < height; i++, in += step) {
        int64_t j = 0;
        for (; j + MM_UNIT <= width; j += MM_UNIT)
            for (int u = 0; u < MM_UNIT; u++)
                sums[u] += in[j + u];
        for (; j < width; j++)
            total += in[j];
    }
    for (int u = 0; u < MM_UNIT; u++)
        total += sums[u];
    return total / (float)(height * width);
}

static void pool(const struct mm_pool_step *s, const float *in, float *out)
{
    int whole = s->what != MM_POOL_MAX && s->kernel[0] == s->size[0] && s->kernel[1] == s->size[1] &&
                !s->pad[0] && !s->pad[1] && s->dilation[0] == 1 && s->dilation[1] == 1;
    int64_t top, bottom, left, right;
    inside(s, 0, &top, &bottom);
    inside(s, 1, &left, &right);
    if (s->dilation[1] * (s->kernel[1] - 1) > SPAN) /* then all windows are taken one by one */
        left = right = 0;
    memset(out - s->front, 0, (size_t)(s->front + s->channels * s->out_plane) * sizeof(float));
    for (int64_t c = 0; c < s->channels; c++)
        for (int64_t n = 0; n < s->images; n++) {
            const float *image = in + c * s->in_plane + n * s->in_image;
            float *target = out + c * s->out_plane + n * s->out_image;
            if (whole) {
                *target = mean(image, s->size[0], s->size[1], s->in_row);
                continue;
            }
            for (int64_t y = 0; y < s->out_size[0]; y++, target += s->out_row) {
                int within = y >= top && y < bottom;
                for (int64_t x = 0; x < s->out_size[1]; x++)
                    if (!within || x < left || x >= right)
                        target[x] = window(s, image, y, x);
                if (within)
                    windows(s, image, y, left, right, target);
            }
        }
}

const struct mm_images MM_NAME = {copy, pool};
