/* Copies between layouts, and pooling; compiled once for each instruction set. */
#include "steps.h"

#include "vectors.h"
#include "turn.h"

#define RESTRICT __restrict__

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

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

INLINE float larger(float a, float b) { return b > a || b != b ? b : a; }

/* One window by itself. */
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

#if LANES == 16
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#elif LANES == 8
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#else
#define EVEN 0, 2, 4, 6
#endif

/* Every stride-th float from there on, stride 1 or 2. */
INLINE floats pick(const float *from, int64_t stride)
{
    if (stride == 1)
        return load(from);
#if defined(__clang__) || __GNUC__ >= 12
    return __builtin_shufflevector(load(from), load(from + LANES), EVEN);
#else
    return __builtin_shuffle(load(from), load(from + LANES), (ints){EVEN});
#endif
}

/* The largest or the sum of the rows that a row of windows meets. Of so many columns [from, to) are inside
 * the image, which begins at `in`; what windows see beyond it makes no difference. */
INLINE void down(int max, const float *in, int64_t step, int64_t rows, int64_t from, int64_t to,
                 int64_t columns, float *column)
{
    floats nothing = all(max ? -__builtin_inff() : 0.0f);
    for (int64_t i = 0; i < from; i += LANES)
        store(column + i, nothing);
    for (int64_t i = from; i < to; i += LANES, in += LANES) {
        floats result = load(in);
        for (int64_t k = 1; k < rows; k++)
            result = fold(max, result, load(in + k * step));
        store(column + i, result);
    }
    for (int64_t i = to; i < columns; i += LANES)
        store(column + i, nothing);
}

/* The same for the columns of so many windows. */
INLINE void across(int max, const struct mm_pool_step *s, int64_t stride, const float *column, floats scale,
                   int64_t count, float *out)
{
    for (int64_t i = 0; i < count; i += LANES) {
        floats result = pick(column + i * stride, stride);
        for (int64_t k = 1; k < s->kernel[1]; k++)
            result = fold(max, result, pick(column + i * stride + k * s->dilation[1], stride));
        if (!max)
            result *= scale;
        if (i + LANES <= count)
            store(out + i, result);
        else
            store_some(out + i, result, count - i);
    }
}

/* How many of a window's rows or columns are inside the image, and which is the first; a dilated window
 * may have none. */
static int64_t met(const struct mm_pool_step *s, int axis, int64_t begin, int64_t *first)
{
    int64_t step = s->dilation[axis], count = 0;
    *first = 0;
    for (int64_t k = 0; k < s->kernel[axis]; k++)
        if (begin + k * step >= 0 && begin + k * step < s->size[axis])
            *first = count++ == 0 ? begin + k * step : *first;
    return count;
}

/* A row of windows. The last vectors may reach MM_OVERREAD floats beyond the image. */
INLINE void windows(int max, const struct mm_pool_step *s, const float *in, int64_t y, float *out)
{
    int64_t stride = s->stride[1], span = s->dilation[1] * (s->kernel[1] - 1), first, other;
    int64_t begin = y * s->stride[0] - s->pad[0], rows = met(s, 0, begin, &first);
    int64_t share = stride == 1 ? LINE : stride == 2 ? LINE / 2 : most(LINE / stride, 1);
    int inside = s->what == MM_POOL_MEAN_INSIDE;
    floats scale = all(inside ? 1.0f : 1.0f / (float)(s->kernel[0] * s->kernel[1]));
    float column[LINE + SPAN + 3 * LANES], line[LINE + LANES];
    in += first * s->in_row;
    for (int64_t x = 0; x < s->out_size[1]; x += share) {
        int64_t count = least(share, s->out_size[1] - x), columns = (count - 1) * stride + 1 + span;
        int64_t left = x * stride - s->pad[1], from = most(-left, 0), to = least(columns, s->size[1] - left);
        to = rows > 0 ? to : from;
        down(max, in + left + from, s->dilation[0] * s->in_row, rows, from, to, columns, column);
        if (stride == 1) {
            across(max, s, 1, column, scale, count, out + x);
        } else if (stride == 2) {
            across(max, s, 2, column, scale, count, out + x);
        } else {
            across(max, s, 1, column, scale, columns - span, line);
            row(line, stride, out + x, 1, count);
        }
        for (int64_t i = 0; inside && i < count; i++)
            out[x + i] /= (float)(rows * met(s, 1, left + i * stride, &other));
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
    int max = s->what == MM_POOL_MAX;
    int whole = !max && s->kernel[0] == s->size[0] && s->kernel[1] == s->size[1] && !s->pad[0] && !s->pad[1] &&
                s->dilation[0] == 1 && s->dilation[1] == 1;
    int wide = s->dilation[1] * (s->kernel[1] - 1) > SPAN;
    memset(out - s->front, 0, (size_t)(s->front + s->channels * s->out_plane) * sizeof(float));
    for (int64_t c = 0; c < s->channels; c++)
        for (int64_t n = 0; n < s->images; n++) {
            const float *image = in + c * s->in_plane + n * s->in_image;
            float *target = out + c * s->out_plane + n * s->out_image;
            if (whole) {
                *target = mean(image, s->size[0], s->size[1], s->in_row);
                continue;
            }
            for (int64_t y = 0; y < s->out_size[0]; y++, target += s->out_row)
                if (wide)
                    for (int64_t x = 0; x < s->out_size[1]; x++)
                        target[x] = window(s, image, y, x);
                else if (max)
                    windows(1, s, image, y, target);
                else
                    windows(0, s, image, y, target);
        }
}

const struct mm_images MM_NAME = {copy, pool};
