/* Random convolutions in training against plain loops in double; see fuzz.c.
 *
 * Usage: fuzz_live CASES SEED. Prints the first case that is wrong and returns 1.
 */
#include "arrays.h"

#include <stdio.h>

/* The weights by phase and channel, with columns (output * kernel_h + y) * kernel_w + x. */
static struct mm_rows turned(const struct mm_conv *c, const struct mm_rows *w)
{
    int64_t taps = c->kernel[0] * c->kernel[1], rows = c->channels * c->phases[0] * c->phases[1], row = 0;
    size_t count = (size_t)w->starts[w->rows];
    int32_t at = 0, *starts = malloc((size_t)(rows + 1) * sizeof *starts);
    int32_t *columns = malloc(count * sizeof *columns + (count == 0));
    float *values = malloc(count * sizeof *values + (count == 0));
    for (int64_t phase = 0; phase < c->stride[0] * c->stride[1]; phase++) {
        int8_t meets[16], met = 0; /* of each tap */
        for (int64_t tap = 0; tap < taps; tap++) {
            int64_t y = tap / c->kernel[1] * c->dilation[0], x = tap % c->kernel[1] * c->dilation[1];
            meets[tap] = y % c->stride[0] == phase / c->stride[1] &&
                         x % c->stride[1] == phase % c->stride[1];
            met |= meets[tap];
        }
        for (int64_t channel = 0; met && channel < c->channels; channel++) {
            starts[row++] = at;
            for (int64_t r = 0; r < w->rows; r++)
                for (int32_t k = w->starts[r]; k < w->starts[r + 1]; k++) {
                    int64_t tap = w->columns[k] % taps;
                    if (w->columns[k] / taps != channel || !meets[tap])
                        continue;
                    values[at] = w->values[k];
                    columns[at++] = (int32_t)(r * taps + tap);
                }
        }
    }
    starts[rows] = at;
    return (struct mm_rows){rows, starts, columns, values, NULL, 0, w->variant, NULL};
}

/* Where a float of a tensor of images lies. */
static int64_t place(const struct mm_live *l, int64_t channels, int64_t height, int64_t width,
                     int64_t image, int64_t channel, int64_t i, int64_t j)
{
    return l->channels_last ? ((image * height + i) * width + j) * channels + channel
                            : ((image * channels + channel) * height + i) * width + j;
}

/* Sums in double, with the sizes of what they add up. */
struct sums {
    double *y, *dx, *values, *y_sizes, *dx_sizes, *values_sizes;
};

/* Every weight meets every pixel of the output. */
static void plain_loops(const struct mm_live *l, const struct mm_rows *w, const float *x,
                        const float *dy, struct sums s)
{
    const struct mm_conv *c = &l->conv;
    int64_t taps = c->kernel[0] * c->kernel[1];
    for (int64_t n = 0; n < c->images; n++)
        for (int64_t r = 0; r < w->rows; r++)
            for (int64_t i = 0; i < c->out_height; i++)
                for (int64_t j = 0; j < c->out_width; j++) {
                    int64_t to = place(l, w->rows, c->out_height, c->out_width, n, r, i, j);
                    s.y[to] = w->bias ? w->bias[r] : 0.0, s.y_sizes[to] = fabs(s.y[to]);
                    for (int32_t k = w->starts[r]; k < w->starts[r + 1]; k++) {
                        int64_t tap = w->columns[k] % taps;
                        int64_t p = i * c->stride[0] + tap / c->kernel[1] * c->dilation[0] - c->pad[2];
                        int64_t q = j * c->stride[1] + tap % c->kernel[1] * c->dilation[1] - c->pad[0];
                        if (p < 0 || q < 0 || p >= c->height || q >= c->width)
                            continue;
                        int64_t from = place(l, c->channels, c->height, c->width, n,
                                             w->columns[k] / taps, p, q);
                        double product = (double)w->values[k] * x[from], grad = dy[to];
                        s.y[to] += product, s.y_sizes[to] += fabs(product);
                        s.dx[from] += w->values[k] * grad, s.dx_sizes[from] += fabs(w->values[k] * grad);
                        s.values[k] += x[from] * grad, s.values_sizes[k] += fabs(x[from] * grad);
                    }
                }
}

static int64_t wrong_sums(const float *found, const double *sums, const double *sizes, int64_t count,
                          int relu)
{
    int64_t wrong = 0;
    for (int64_t i = 0; found && i < count; i++)
        wrong += differs(found[i], sums[i], sizes[i], relu);
    return wrong;
}

static int one_live(void)
{
    static const int64_t batches[] = {0, 1, 2, 3, 5, 7, 8, 12, 16, 17, 33};
    int refused;
    struct mm_live l = {.conv = any_conv(batches[draw() % 11], &refused), .outputs = between(1, 40),
                        .channels_last = (int64_t)(draw() % 2)};
    const struct mm_conv *c = &l.conv;
    if (refused || mm_live_plan(&l))
        return refused;
    /* Narrow bands, too, as large images have them. */
    if (draw() % 2) {
        l.band = between(1, l.band);
        l.plane = (l.band + l.reach[0]) * c->plane_width * l.lanes + between(0, 3);
        l.in_floats = c->channels * c->phases[0] * c->phases[1] * l.plane + 128;
        l.out_floats = l.front + l.outputs * l.plane + 128;
    }
    struct mm_rows w = matrix(l.outputs, c->channels * c->kernel[0] * c->kernel[1]), packed = w;
    struct mm_rows back = turned(c, &w), there = back;
    size_t count = (size_t)w.starts[w.rows];
    int32_t *offsets = malloc(count * sizeof *offsets + 1), *turned_offsets = malloc(count * 4 + 1);
    int64_t in = c->images * c->channels * c->height * c->width;
    int64_t out = c->images * l.outputs * c->out_height * c->out_width;
    float *x = numbers(in, 0), *dy = numbers(out, 0), *y = numbers(out, 0);
    float *dx = draw() % 4 ? numbers(in, 0) : NULL;
    float *values = draw() % 4 ? numbers((int64_t)count, 0) : NULL;
    int code = mm_live_offsets(&l, w.columns, (int64_t)count, offsets);
    code |= mm_live_turned_offsets(&l, back.columns, (int64_t)count, turned_offsets);
    packed.columns = offsets, there.columns = turned_offsets;
    code |= mm_live_forward(&l, &packed, x, y, (int)between(1, 3));
    code |= mm_live_backward(&l, &packed, dx ? &there : NULL, x, dy, dx, values, (int)between(1, 3));
    size_t all = (size_t)(in + out) + count;
    double *room = calloc(2 * all + 1, sizeof *room);
    struct sums s = {room,       room + out,       room + out + in,
                     room + all, room + all + out, room + all + out + in};
    plain_loops(&l, &w, x, dy, s);
    int64_t wrong[3] = {wrong_sums(y, s.y, s.y_sizes, out, w.relu), wrong_sums(dx, s.dx, s.dx_sizes, in, 0),
                        wrong_sums(values, s.values, s.values_sizes, (int64_t)count, 0)};
    int failed = code || wrong[0] || wrong[1] || wrong[2];
    if (failed)
        printf("live conv: code %d, %ld %ld %ld wrong; %ld of %ldx%ld, kernel %ldx%ld, stride %ldx%ld, "
               "band %ld, lanes %ld, last %ld, variant %d\n",
               code, (long)wrong[0], (long)wrong[1], (long)wrong[2], (long)c->images, (long)c->height,
               (long)c->width, (long)c->kernel[0], (long)c->kernel[1], (long)c->stride[0],
               (long)c->stride[1], (long)l.band, (long)l.lanes, (long)l.channels_last, w.variant);
    forget(&w), forget(&back), free(offsets), free(turned_offsets), free(room);
    free(x), free(dy), free(y), free(dx), free(values);
    return failed;
}

/* What is accepted must be within what 32-bit offsets reach. */
static int one_damage(void)
{
    struct mm_live l;
    for (size_t i = 0; i < sizeof l / sizeof(int64_t); i++)
        ((int64_t *)&l)[i] = draw() % 3 ? between(-2, 9) : (int64_t)draw();
    if (mm_live_plan(&l) != MM_OK)
        return 0;
    int sound = l.in_floats > 0 && l.in_floats <= INT32_MAX && l.out_floats > 0 &&
                l.out_floats <= INT32_MAX && l.band > 0 && l.plane > 0 && l.lanes > 0;
    if (!sound)
        printf("damage: accepted %ld floats in, %ld out\n", (long)l.in_floats, (long)l.out_floats);
    return !sound;
}

int main(int count, char **arguments)
{
    int64_t cases = count > 1 ? atoll(arguments[1]) : 1000;
    state = 88172645463325252u ^ (uint64_t)(count > 2 ? atoll(arguments[2]) : 0) * 2654435761u;
    for (int64_t i = 0; i < cases; i++) {
        uint64_t before = state;
        if (draw() % 4 ? one_live() : one_damage()) {
            printf("case %ld, state %llu\n", (long)i, (unsigned long long)before);
            return 1;
        }
    }
    mm_release();
    printf("%ld cases\n", (long)cases);
    return 0;
}
