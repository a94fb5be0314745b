/* Copies between layouts, and pooling; compiled once for each instruction set. */
#include "steps.h"

#include <string.h>

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

enum { SQUARE = 16 };

/* Both inner dimensions at once where one side's neighbours are the other side's far ones: in squares,
 * so that a line of the cache is used up before it is lost. */
static void turned(const int64_t *sizes, const int64_t *from, const int64_t *to,
                   const float *RESTRICT in, float *RESTRICT out)
{
    for (int64_t i = 0; i < sizes[0]; i += SQUARE)
        for (int64_t j = 0; j < sizes[1]; j += SQUARE) {
            int64_t i_end = i + SQUARE < sizes[0] ? i + SQUARE : sizes[0];
            int64_t j_end = j + SQUARE < sizes[1] ? j + SQUARE : sizes[1];
            for (int64_t a = i; a < i_end; a++)
                for (int64_t b = j; b < j_end; b++)
                    out[a * to[0] + b * to[1]] = in[a * from[0] + b * from[1]];
        }
}

static void copy(const struct mm_copy_step *s, const float *in, float *out)
{
    const int64_t *n = s->sizes, *from = s->from, *to = s->to;
    int square = n[3] > 1 && from[3] == 1 && to[4] == 1 && from[4] != 1;
    for (int64_t a = 0; a < n[0]; a++)
        for (int64_t b = 0; b < n[1]; b++)
            for (int64_t c = 0; c < n[2]; c++) {
                const float *source = in + a * from[0] + b * from[1] + c * from[2];
                float *target = out + a * to[0] + b * to[1] + c * to[2];
                if (square) {
                    turned(n + 3, from + 3, to + 3, source, target);
                    continue;
                }
                for (int64_t d = 0; d < n[3]; d++)
                    row(source + d * from[3], from[4], target + d * to[3], to[4], n[4]);
            }
}

/* Outputs [*low, *high) along an axis for which input out * stride + shift exists. */
static void reach(int64_t shift, int64_t stride, int64_t size, int64_t outputs, int64_t *low,
                  int64_t *high)
{
    *low = shift < 0 ? (-shift + stride - 1) / stride : 0;
    *high = size - shift <= 0 ? 0 : (size - shift + stride - 1) / stride;
    if (*high > outputs)
        *high = outputs;
}

static void take(const float *RESTRICT in, int64_t stride, float *RESTRICT out, int64_t count, int max)
{
    if (max && stride == 1)
        for (int64_t i = 0; i < count; i++)
            out[i] = in[i] > out[i] || in[i] != in[i] ? in[i] : out[i];
    else if (max && stride == 2)
        for (int64_t i = 0; i < count; i++)
            out[i] = in[2 * i] > out[i] || in[2 * i] != in[2 * i] ? in[2 * i] : out[i];
    else if (max)
        for (int64_t i = 0; i < count; i++)
            out[i] = in[i * stride] > out[i] || in[i * stride] != in[i * stride] ? in[i * stride]
                                                                               : out[i];
    else
        for (int64_t i = 0; i < count; i++)
            out[i] += in[i * stride];
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

static void pool_row(const struct mm_pool_step *s, const float *in, int64_t y, float *out)
{
    int max = s->what == MM_POOL_MAX;
    int64_t width = s->out_size[1], rows = 0;
    for (int64_t i = 0; i < width; i++)
        out[i] = max ? -__builtin_inff() : 0.0f;
    for (int64_t a = 0; a < s->kernel[0]; a++) {
        int64_t line = y * s->stride[0] + a * s->dilation[0] - s->pad[0], low, high;
        if (line < 0 || line >= s->size[0])
            continue;
        rows++;
        for (int64_t b = 0; b < s->kernel[1]; b++) {
            int64_t shift = b * s->dilation[1] - s->pad[1];
            reach(shift, s->stride[1], s->size[1], width, &low, &high);
            if (low < high)
                take(in + line * s->in_row + low * s->stride[1] + shift, s->stride[1], out + low,
                     high - low, max);
        }
    }
    if (max)
        return;
    for (int64_t i = 0; i < width; i++) {
        int64_t columns = s->kernel[1];
        for (int64_t b = 0; s->what == MM_POOL_MEAN_INSIDE && b < s->kernel[1]; b++) {
            int64_t at = i * s->stride[1] + b * s->dilation[1] - s->pad[1];
            columns -= at < 0 || at >= s->size[1];
        }
        int64_t lines = s->what == MM_POOL_MEAN_INSIDE ? rows : s->kernel[0];
        out[i] /= (float)(lines * columns);
    }
}

static void pool(const struct mm_pool_step *s, const float *in, float *out)
{
    int whole = s->what != MM_POOL_MAX && s->kernel[0] == s->size[0] && s->kernel[1] == s->size[1] &&
                !s->pad[0] && !s->pad[1] && s->dilation[0] == 1 && s->dilation[1] == 1;
    memset(out - s->front, 0, (size_t)(s->front + s->channels * s->out_plane) * sizeof(float));
    for (int64_t c = 0; c < s->channels; c++)
        for (int64_t n = 0; n < s->images; n++) {
            const float *image = in + c * s->in_plane + n * s->in_image;
            float *target = out + c * s->out_plane + n * s->out_image;
            if (whole)
                *target = mean(image, s->size[0], s->size[1], s->in_row);
            else
                for (int64_t y = 0; y < s->out_size[0]; y++)
                    pool_row(s, image, y, target + y * s->out_row);
        }
}

const struct mm_images MM_NAME = {copy, pool};
