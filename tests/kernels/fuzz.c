/* Random kernel calls against plain loops in double, meant to run under sanitizers.
 *
 * Every array is allocated to its exact size, so that a read or write one float beyond it is seen.
 * Usage: fuzz CASES SEED. Prints the first case that is wrong and returns 1.
 */
#include "arrays.h"
#include "strips.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The same matrix in blocks, its arrays cut down to what is used. */
static struct mm_blocks blocks_of(const struct mm_rows *w, int64_t width)
{
    struct mm_blocks b = {0};
    int64_t bytes[5], used[2];
    if (mm_blocks_plan(w, width, &b, bytes) != MM_OK)
        return b;
    b.starts = malloc((size_t)bytes[0]), b.groups = malloc((size_t)bytes[1] + 1);
    b.rows = malloc((size_t)bytes[2]), b.columns = malloc((size_t)bytes[3]);
    b.values = malloc((size_t)bytes[4]);
    mm_blocks_fill(w, &b, used);
    b.groups = realloc(b.groups, (size_t)used[0] + (used[0] == 0));
    b.rows = realloc(b.rows, (size_t)used[1]);
    return b;
}

static void forget_blocks(struct mm_blocks *b)
{
    free(b->starts), free(b->groups), free(b->rows), free(b->columns), free(b->values);
}

static int one_linear(void)
{
    static const int64_t batches[] = {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 129};
    int large = draw() % 64 == 0, tall = draw() % 2; /* large ones have several blocks */
    int64_t width = large ? tall ? between(1, 300) : between(500, 1200) : between(0, 40);
    int64_t rows = large ? tall ? between(900, 1100) : between(0, 300) : between(0, 70);
    int64_t n = batches[draw() % 17], wrong = 0;
    struct mm_rows w = matrix(rows, width);
    struct mm_blocks blocks = blocks_of(&w, width);
    w.blocks = draw() % 2 ? &blocks : NULL;
    int32_t by[2] = {(int32_t)(draw() % 2), (int32_t)(draw() % 2)};
    float *x = numbers(width * n, 1), *y = numbers(w.rows * n, 0);
    int code = mm_linear(&w, width, x, n, y, by, (int)between(1, 3));
    for (int64_t i = 0; i < n; i++)
        for (int64_t r = 0; r < w.rows; r++) {
            double sum = w.bias ? w.bias[r] : 0.0, size = fabs(sum);
            for (int32_t k = w.starts[r]; k < w.starts[r + 1]; k++) {
                int64_t c = w.columns[k];
                double part = (double)w.values[k] * (double)x[by[0] ? c * n + i : i * width + c];
                sum += part, size += fabs(part);
            }
            wrong += differs(y[by[1] ? r * n + i : i * w.rows + r], sum, size, w.relu);
        }
    if (code || wrong)
        printf("linear: code %d, %ld wrong of %ld x %ld, width %ld, variant %d\n", code, (long)wrong,
               (long)n, (long)w.rows, (long)width, w.variant);
    forget(&w), forget_blocks(&blocks), free(x), free(y);
    return code || wrong;
}

static int one_gradient(void)
{
    int64_t width = between(1, 40), n = between(0, 70), wrong = 0;
    struct mm_rows w = matrix(between(0, 40), width);
    int32_t count = w.starts[w.rows];
    float *x = numbers(width * n, 0), *dy = numbers(w.rows * n, 0), *out = numbers(count, 0);
    int code = mm_value_gradient(&w, dy, x, n, out, (int)between(1, 3));
    for (int64_t r = 0; r < w.rows; r++)
        for (int32_t i = w.starts[r]; i < w.starts[r + 1]; i++) {
            double sum = 0.0, size = 0.0;
            for (int64_t k = 0; k < n; k++) {
                double part = (double)dy[r * n + k] * (double)x[w.columns[i] * n + k];
                sum += part, size += fabs(part);
            }
            wrong += differs(out[i], sum, size, 0);
        }
    float *turned = numbers(width * n, 0);
    code |= mm_transpose(x, width, n, turned, w.variant, (int)between(1, 3));
    for (int64_t i = 0; i < width * n; i++)
        wrong += turned[i % n * width + i / n] != x[i];
    if (code || wrong)
        printf("gradient: code %d, %ld wrong of %d, n %ld, variant %d\n", code, (long)wrong, count,
               (long)n, w.variant);
    forget(&w), free(x), free(dy), free(out), free(turned);
    return code || wrong;
}

static double pixel(const struct mm_conv *c, const float *x, int64_t image, int64_t channel, int64_t i,
                    int64_t j)
{
    i -= c->pad[2], j -= c->pad[0];
    if (i < 0 || j < 0 || i >= c->height || j >= c->width)
        return 0.0;
    return x[((image * c->channels + channel) * c->height + i) * c->width + j];
}

static int64_t wrong_pixels(const struct mm_conv *c, const struct mm_rows *w, const float *x,
                            const float *y)
{
    int64_t wrong = 0, taps = c->kernel[0] * c->kernel[1];
    for (int64_t n = 0; n < c->images; n++)
        for (int64_t r = 0; r < w->rows; r++)
            for (int64_t i = 0; i < c->out_height; i++)
                for (int64_t j = 0; j < c->out_width; j++) {
                    double sum = w->bias ? w->bias[r] : 0.0, size = fabs(sum);
                    for (int32_t k = w->starts[r]; k < w->starts[r + 1]; k++) {
                        int64_t channel = w->columns[k] / taps, tap = w->columns[k] % taps;
                        double value = pixel(
                            c, x, n, channel,
                            i * c->stride[0] + tap / c->kernel[1] * c->dilation[0],
                            j * c->stride[1] + tap % c->kernel[1] * c->dilation[1]);
                        sum += w->values[k] * value, size += fabs(w->values[k] * value);
                    }
                    int64_t at = ((n * w->rows + r) * c->out_height + i) * c->out_width + j;
                    wrong += differs(y[at], sum, size, w->relu);
                }
    return wrong;
}

static int report_conv(const char *way, int code, int64_t wrong, const struct mm_conv *c, int variant)
{
    if (code || wrong)
        printf("%s: code %d, %ld wrong; %ld of %ldx%ld images, kernel %ldx%ld, stride %ldx%ld, "
               "dilation %ldx%ld, variant %d\n",
               way, code, (long)wrong, (long)c->images, (long)c->height, (long)c->width,
               (long)c->kernel[0], (long)c->kernel[1], (long)c->stride[0], (long)c->stride[1],
               (long)c->dilation[0], (long)c->dilation[1], variant);
    return code || wrong;
}

/* The same convolution in tiles, where there are some. */
static int one_conv_in_tiles(const struct mm_conv *c, const struct mm_rows *w, const float *x, float *y)
{
    struct mm_tiles t = {.conv = *c, .outputs = w->rows, .nonzeros = w->starts[w->rows],
                         .variant = w->variant, .packing = between(0, 100),
                         .way = between(MM_EITHER_WAY, MM_STRIPS)};
    int code = w->rows > 0 ? mm_tiles_plan(&t) : MM_OK;
    if (code || w->rows == 0 || !t.pays)
        return code != MM_OK;
    if (t.strips) { /* any size that can be, not just the one that seems fastest */
        const struct mm_tile_variant *variant = mm_tiles_for(w->variant);
        struct mm_tiles other = t;
        struct mm_strip_edges edges;
        other.patch = draw() % 2 ? between(1, variant->most_of_strip) : between(7, variant->lanes == 16 ? 8 : 7);
        if (mm_strip_edges(&other, variant->lanes, &edges))
            t = other, t.floats = edges.floats;
    }
    /* Small cases would all have one block. */
    t.blocks = between(1, t.blocks > 1 ? t.blocks : c->channels), t.chunk = between(1, t.chunk);
    int64_t groups = t.outputs * t.blocks * (t.right + t.left + 1);
    int32_t *starts = malloc((size_t)(groups + 1) * sizeof *starts);
    int32_t *offsets = malloc((size_t)t.nonzeros * sizeof *offsets + (t.nonzeros == 0));
    float *values = malloc((size_t)t.nonzeros * sizeof *values + (t.nonzeros == 0));
    code = mm_tiles_fill(&t, w, starts, offsets, values);
    struct mm_rows laid_out = *w;
    laid_out.starts = starts, laid_out.columns = offsets, laid_out.values = values;
    code = code ? code : mm_tiles_conv2d(&t, &laid_out, x, y, (int)between(1, 3));
    const char *way = t.strips ? "conv in strips" : "conv in tiles";
    int failed = report_conv(way, code, wrong_pixels(c, w, x, y), c, w->variant);
    free(starts), free(offsets), free(values);
    return failed;
}

static int one_conv(void)
{
    int many = draw() % 4 == 0, refused; /* images, small enough to lie side by side */
    struct mm_conv c = any_conv(many ? between(5, 35) : between(0, 4), &refused);
    if (c.out_height == 0)
        return refused;
    struct mm_rows w = matrix(between(0, 40), c.channels * c.kernel[0] * c.kernel[1]), packed = w;
    int32_t count = w.starts[w.rows], *offsets = malloc((size_t)count * sizeof *offsets + 1);
    float *x = numbers(c.images * c.channels * c.height * c.width, 0);
    float *y = numbers(c.images * w.rows * c.out_height * c.out_width, 0);
    int code = mm_conv_offsets(&c, w.columns, count, offsets);
    packed.columns = offsets;
    code = code ? code : mm_conv2d(&c, &packed, x, y, (int)between(1, 3));
    int failed = report_conv("conv", code, wrong_pixels(&c, &w, x, y), &c, w.variant);
    failed = failed || one_conv_in_tiles(&c, &w, x, y);
    forget(&w), free(x), free(y), free(offsets);
    return failed;
}

/* Damaged arrays and sizes are told apart from sound ones without reading beyond them. */
static int one_damage(void)
{
    int64_t rows = between(1, 20), width = between(1, 20);
    struct mm_rows w = matrix(rows, width);
    int32_t count = w.starts[rows], *starts = (int32_t *)w.starts, *columns = (int32_t *)w.columns;
    int sound = mm_check_rows(starts, columns, rows, count, width) == MM_OK, caught = 1;
    int64_t full = 0; /* a row with two weights or more, whose columns can stand in a wrong order */
    while (full < rows && starts[full + 1] - starts[full] < 2)
        full++;
    int kind = (int)(draw() % 5);
    if (kind == 0 && count > 0)
        columns[draw() % (uint64_t)count] = draw() % 2 ? -1 - (int32_t)(draw() % 9) : (int32_t)width;
    else if (kind == 1 && full < rows)
        columns[starts[full] + 1] = draw() % 2 ? columns[starts[full]] : 0;
    else if (kind == 2 && rows > 1) /* one start reaches beyond the next */
        starts[between(1, rows - 1)] = count + (int32_t)between(1, 1 << 20);
    else if (kind == 3)
        starts[rows] += (int32_t)between(1, 1 << 20);
    else
        starts[0] = (int32_t)between(1, 9);
    caught = mm_check_rows(starts, columns, rows, count, width) != MM_OK;
    struct mm_conv c;
    for (size_t i = 0; i < sizeof c / sizeof(int64_t); i++)
        ((int64_t *)&c)[i] = draw() % 3 ? between(-2, 9) : (int64_t)draw();
    if (mm_conv_plan(&c) == MM_OK) /* what it accepts must be within what 32-bit offsets reach */
        caught &= c.floats > 0 && c.floats <= INT32_MAX && c.out_height > 0 && c.out_width > 0;
    struct mm_tiles t = {.conv = c, .outputs = draw() % 3 ? between(-2, 99) : (int64_t)draw(),
                         .nonzeros = draw() % 3 ? between(-2, 999) : (int64_t)draw(),
                         .variant = between(-2, MM_VARIANTS + 2), .packing = between(-1, 101),
                         .way = between(-1, MM_STRIPS + 1)};
    if (mm_tiles_plan(&t) == MM_OK && t.pays)
        caught &= t.floats > 0 && t.floats <= INT32_MAX && t.blocks > 0 && t.tile * t.count >= t.size[0];
    forget(&w);
    if (!sound || !caught)
        printf("damage: sound %d, caught %d\n", sound, caught);
    return !sound || !caught;
}

/* Whether a float is within a few roundings of numbers of this size. */
static int near(float mine, double wanted, double size) { return fabs(mine - wanted) <= 1e-6 * size; }

static int one_step(void)
{
    int64_t n = between(0, 3000), block = between(1, 700), blocks = (n + block - 1) / block;
    int variant = (int)(draw() % MM_VARIANTS), threads = (int)between(1, 4), wrong = 0;
    while (!mm_supported(variant))
        variant--;
    float *x = numbers(n, 0), *gain = numbers(n, 0), a = 0.01f + fabsf(number(0));
    float *before = malloc((size_t)n * sizeof(float) + 1), t = 0.004f + 0.004f * fabsf(number(0));
    uint8_t *left = calloc((size_t)blocks + (blocks == 0), 1);
    for (int64_t i = 0; i < n; i++) {
        before[i] = x[i];
        gain[i] *= draw() % 512 ? 0.007f : draw() % 2 ? NAN : 1.0f;
    }
    int64_t lefts = mm_advance(x, gain, n, block, a * a, 0.5f, 1.0f / 64, left, variant, threads);
    for (int64_t b = 0; b < blocks; b++) {
        int64_t end = b * block + block < n ? b * block + block : n, large = 0;
        for (int64_t i = b * block; i < end; i++)
            large |= !(fabsf(gain[i]) <= 1.0f / 64);
        wrong |= large != left[b];
        lefts -= large;
        for (int64_t i = b * block; i < end; i++) {
            double root = hypot(before[i], a), u = gain[i];
            wrong |= large ? memcmp(&x[i], &before[i], sizeof(float)) != 0
                           : !near(x[i], (before[i] * cosh(2 * u) + root * sinh(2 * u)) / 2, root);
        }
    }
    wrong |= lefts != 0;
    memcpy(x, before, (size_t)n * sizeof(float));
    wrong |= mm_shrink(x, n, a * a, tanhf(t), coshf(t), variant, threads) != MM_OK;
    for (int64_t i = 0; i < n; i++) {
        double rest = asinh(fabs(before[i]) / a) - t, size = rest > 0 ? a * sinh(rest) : 0.0;
        wrong |= !near(x[i], before[i] < 0 ? -size : size, hypot(before[i], a));
        wrong |= x[i] == 0.0f && signbit(x[i]);
    }
    wrong |= mm_advance(x, gain, n, 0, a, a, a, left, variant, 1) >= 0;
    wrong |= mm_shrink(x, -1, a, a, a, variant, 1) == MM_OK;
    free(x), free(gain), free(before), free(left);
    if (wrong)
        printf("step of %ld in blocks of %ld, variant %d\n", (long)n, (long)block, variant);
    return wrong;
}

int main(int count, char **arguments)
{
    int64_t cases = count > 1 ? atoll(arguments[1]) : 1000;
    state = 88172645463325252u ^ (uint64_t)(count > 2 ? atoll(arguments[2]) : 0) * 2654435761u;
    for (int64_t i = 0; i < cases; i++) {
        uint64_t before = state;
        int kind = (int)(draw() % 7);
        int failed = kind < 2   ? one_linear()
                     : kind < 4 ? one_conv()
                     : kind < 5 ? one_damage()
                     : kind < 6 ? one_gradient()
                                : one_step();
        if (failed) {
            printf("case %ld, state %llu\n", (long)i, (unsigned long long)before);
            return 1;
        }
    }
    mm_release();
    printf("%ld cases\n", (long)cases);
    return 0;
}
