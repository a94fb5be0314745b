/* How the output of a convolution is cut into tiles, and the weights into blocks.
 *
 * A tile is some rows of one image, over its whole width. Its input is packed so that every row begins
 * with a whole register. A weight reads at the output's own place or some rows further down: aligned,
 * which matters, because where registers are as long as lines of the cache, other loads take twice as
 * long. What a kernel sees to the left or right is dealt with by moving the sums instead: the weights of
 * the outermost column come first, then the sums move by a pixel, then come the weights of the next
 * column. So the edges of an image need no padding in memory, either: what moves across them is zero. A
 * stride is served by phases of the rows and columns. Where images are narrow, several tiles share a
 * register: parts of one image, or of several.
 *
 * Weights are cut into blocks of channels, so that the inputs that they meet stay near while a chunk of
 * rows passes, but not so small that a row's sums are fetched and put away again for a few weights.
 *
 * A 1x1 kernel without padding or stride meets no neighbours: there an image is one long row, which is
 * read where it lies if it ends with a register.
 */
#include "strips.h"

#include <stddef.h>

enum {
    ENOUGH = 160, /* multiply-adds with registers of a block's row, for each column of the kernel */
    FURTHEST = 16, /* pixels by which sums move */
    CHUNK = 64,
    BEGIN = 3000, /* cycles before the first register of a group is packed, or there about */
    FIRST_CACHE = 32 << 10, /* bytes of the first-level cache for inputs */
    PANEL = 128, /* positions that conv.c works on together */
    NEAR = 128 << 10, /* floats that stay in the second-level cache, with what else is touched */
    LARGE = 5 << 20, /* images of so many floats are in no cache: they are read and written faster */
    LONG = 2         /* in long pieces, and tiles may be so many times as large */
};

/* Tests lay every convolution out in tiles, or those with an even number of outputs in strips. */
#ifndef MM_ALWAYS_TILES
#define MM_ALWAYS_TILES 0
#endif

static int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static double planes_of(const struct mm_tiles *t)
{
    const struct mm_conv *c = &t->conv;
    return (double)c->channels * (double)c->phases[0] * (double)c->phases[1];
}

/* How many blocks of channels, and rows that pass them together. */
static void settle(struct mm_tiles *t)
{
    int64_t registers = up(t->tile * t->width, up(t->tile * t->width, t->patch));
    double enough = (double)t->outputs * ENOUGH * (double)(t->right + t->left + 1);
    t->blocks = (int64_t)((double)t->nonzeros * (double)registers / enough + 0.5);
    t->blocks = least(most(t->blocks, 1), t->conv.channels);
    t->chunk = least(CHUNK, t->outputs);
}

double mm_misses(double floats)
{
    double beyond = floats * sizeof(float) / FIRST_CACHE - 1;
    return beyond < 0 ? 0 : 0.1 * (beyond > 1.6 ? 1.6 : beyond);
}

/* Cycles, roughly, as measured on one processor: they decide between ways of doing the same. */
static double cost(const struct mm_tiles *t, int64_t lanes)
{
    const struct mm_conv *c = &t->conv;
    int64_t registers = t->tile * t->width, patches = up(registers, t->patch);
    double of_patch = (double)up(registers, patches), moves = (double)(t->right + t->left);
    double tiles = (double)t->side_by_side, rows = (double)t->outputs * (double)patches;
    double lines = planes_of(t) * (double)((t->tile + t->reach) * t->width);
    double pack = t->direct ? 0 : lines * (2 + (c->stride[1] == 1 ? 3 : c->stride[1] == 2 ? 4 : 24) * tiles);
    double seen = (of_patch + (double)(t->reach * t->width)) * (double)lanes;
    double load = 0.7 + mm_misses(planes_of(t) * seen / (double)t->blocks);
    /* Each weight's chain of additions waits for itself where a patch is small. */
    double sums = (double)t->nonzeros * (double)patches * (0.6 + load * (of_patch < 4 ? 4 : of_patch));
    double each = 24 + 3 * of_patch + moves * (10 + of_patch) + (t->right && t->left ? 6 * of_patch : 0);
    int whole = t->side_by_side == 1 && t->size[1] % lanes == 0;
    double put = whole ? 1.5 * of_patch : 3 * of_patch * tiles;
    return (double)up(c->images * t->count, t->side_by_side) *
           (BEGIN + pack + sums + rows * ((double)t->blocks * each + put));
}

/* The same for convolutions as conv.c does them. */
static double cost_of_planes(const struct mm_tiles *t, int64_t lanes)
{
    const struct mm_conv *c = &t->conv;
    double registers = (double)(c->plane_width * c->out_height) / (double)lanes;
    double read = (double)(c->plane_width * c->plane_height) / (double)lanes * planes_of(t);
    double pack = c->in_place ? 0 : read * (c->stride[1] == 1 ? 8 : 28) * (double)t->packing / 100;
    double seen = planes_of(t) * (double)(PANEL + t->reach * c->plane_width);
    double load = (c->in_place ? 1.45 : 1.6) + mm_misses(seen);
    return (double)c->images *
           (pack + registers * ((double)t->nonzeros * load + (double)t->outputs * 6));
}

/* Try so many tiles side by side; keeps what is better than `lowest`. */
static double best_tile(struct mm_tiles *best, struct mm_tiles t, int64_t seen, int64_t moves,
                        const struct mm_tile_variant *variant, double lowest)
{
    t.width = up(seen * t.side_by_side, variant->lanes);
    /* Where a row leaves lanes free, sums may end up to the right of their places: they move on in one
     * direction. Else the two directions have sums of their own. */
    t.late = moves - t.first;
    int64_t free = t.width * variant->lanes / t.side_by_side - t.size[1];
    t.right = free >= t.late ? moves : t.first, t.left = moves - t.right;
    t.late = free >= t.late ? t.late : 0;
    if ((t.side_by_side > 1 && t.width > 1) || (moves && t.width > variant->most))
        return lowest;
    t.patch = moves ? variant->most / t.width * t.width : variant->most;
    double line = planes_of(&t) * (double)(t.width * variant->lanes);
    /* As few tiles as stay near; a few more may fill the registers better. */
    double most_rows = (double)(t.far ? LONG * NEAR : NEAR) / line - (double)t.reach;
    int64_t fewest = most_rows < 1 ? t.size[0] : up(t.size[0], (int64_t)most_rows);
    for (t.count = fewest; t.count < fewest + t.side_by_side; t.count++) {
        t.tile = up(t.size[0], t.count);
        if (up(t.size[0], t.tile) != t.count)
            continue;
        settle(&t);
        double found = cost(&t, variant->lanes);
        if (found < lowest)
            lowest = found, *best = t;
    }
    return lowest;
}

static struct mm_layout without_gaps(int64_t channels, int64_t height, int64_t width)
{
    return (struct mm_layout){channels * height * width, height * width, width};
}

/* Layouts that are not given, and whether rows follow each other in all of them. */
static void find_layouts(struct mm_tiles *t)
{
    const struct mm_conv *c = &t->conv;
    struct mm_layout in = without_gaps(c->channels, c->height, c->width);
    struct mm_layout out = without_gaps(t->outputs, c->out_height, c->out_width);
    t->in = t->in.row ? t->in : in, t->out = t->out.row ? t->out : out, t->add = t->add.row ? t->add : out;
    t->flat = c->in_place && t->in.row == in.row && t->out.row == out.row && t->add.row == out.row;
}

int mm_tiles_plan(struct mm_tiles *t)
{
    if (!t || t->packing < 0 || t->packing > 100 || t->way < 0 || t->way > MM_STRIPS ||
        t->outputs < 1 || t->outputs > INT32_MAX || t->nonzeros < 0 || t->nonzeros > INT32_MAX ||
        mm_conv_plan(&t->conv) != MM_OK)
        return MM_BAD_ARGUMENT;
    int known = t->variant >= 0 && t->variant < MM_VARIANTS && mm_supported((int)t->variant);
    const struct mm_tile_variant *variant = known ? mm_tiles_for((int)t->variant) : NULL;
    const struct mm_conv *c = &t->conv;
    t->fits = t->pays = t->strips = 0;
    if (!variant || c->images == 0)
        return MM_OK;
    int64_t lanes = variant->lanes;
    find_layouts(t);
    t->size[0] = t->flat ? 1 : c->out_height;
    t->size[1] = t->flat ? c->out_height * c->out_width : c->out_width;
    t->far = (double)c->images * ((double)c->channels * (double)(c->height * c->width) +
                                  (double)t->outputs * (double)(t->size[0] * t->size[1])) > LARGE;
    t->reach = c->dilation[0] * (c->kernel[0] - 1) / c->stride[0];
    int64_t across = c->dilation[1] * (c->kernel[1] - 1) / c->stride[1];
    /* Columns left of the first pixel are zero; so are those behind the last one. */
    t->first = least(across, c->pad[0] / c->stride[1]);
    int64_t seen = least(up(c->width + c->pad[0], c->stride[1]) - t->first, t->size[1] + across - t->first);
    int64_t wide = t->flat ? t->size[1] : most(t->size[1], seen);
    if (across > FURTHEST)
        return MM_OK;
    double before = cost_of_planes(t, lanes), lowest = 1e300, in_strips = 1e300;
    struct mm_tiles best = *t, strips = *t;
    if (t->way != MM_PACKED_TILES)
        in_strips = mm_strips_plan(&strips, variant);
    t->direct = t->flat && t->size[1] % lanes == 0;
    for (t->side_by_side = 1; t->way != MM_STRIPS && t->side_by_side <= lanes; t->side_by_side *= 2)
        lowest = best_tile(&best, *t, wide, across, variant, lowest);
    int in_tests = in_strips < 1e300 && (lowest == 1e300 || t->outputs % 2 == 0);
    if (MM_ALWAYS_TILES ? in_tests : in_strips < lowest) {
        *t = strips, t->fits = 1, t->pays = MM_ALWAYS_TILES || in_strips < before;
        return MM_OK;
    }
    if (lowest == 1e300)
        return MM_OK;
    *t = best;
    t->plane = t->direct ? t->in.channel : (t->tile + t->reach) * t->width * lanes;
    /* Planes a multiple of 256 bytes apart would fight for the same lines of the cache. */
    if (t->plane / lanes % 4 == 0 && !t->direct)
        t->plane += lanes;
    if ((double)t->plane * (planes_of(t) + 1) > INT32_MAX)
        return MM_OK;
    t->floats = t->plane * c->channels * c->phases[0] * c->phases[1];
    /* A 1x1 kernel's loads are no longer than registers either way: there only blocks gain. */
    t->fits = 1;
    t->pays = MM_ALWAYS_TILES || (lowest < before && (!t->flat || t->blocks > 1));
    return MM_OK;
}

/* The group of a column among those of a row, see tiles.h, and where its input lies; -1: nowhere. */
static int64_t group_of(const struct mm_tiles *t, int64_t lanes, int32_t column, int64_t *place)
{
    struct mm_tap tap;
    if (!mm_tap_of(&t->conv, column, &tap))
        return -1;
    if (t->strips) {
        *place = tap.plane * t->plane + (tap.down - t->conv.pad[2]) * t->in.row + tap.across - t->first;
        return tap.across;
    }
    *place = tap.plane * t->plane + tap.down * t->width * lanes;
    int64_t all = t->right + t->left;
    return tap.across < t->right ? tap.across : all + t->right - tap.across;
}

/* The first weight of row i from this column on. */
static int32_t first_from(const struct mm_rows *w, int64_t i, int64_t column)
{
    int32_t low = w->starts[i], high = w->starts[i + 1];
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (w->columns[middle] < column)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* A row's weights [from, to), group by group. */
static int fill_groups(const struct mm_tiles *t, const struct mm_rows *w, int32_t from, int32_t to,
                       int32_t *filled, int32_t **starts, int32_t *offsets, float *values)
{
    int64_t lanes = mm_tiles_for((int)t->variant)->lanes, place;
    for (int64_t g = 0; g <= t->right + t->left; g++) {
        *(*starts)++ = *filled;
        for (int32_t k = from; k < to; k++) {
            int64_t group = group_of(t, lanes, w->columns[k], &place);
            if (group < 0)
                return 0;
            if (group != g)
                continue;
            offsets[*filled] = (int32_t)place, values[*filled] = w->values[k];
            ++*filled;
        }
    }
    return 1;
}

int mm_tiles_fill(const struct mm_tiles *t, const struct mm_rows *w, int32_t *starts, int32_t *offsets,
                  float *values)
{
    if (!t || !t->fits || mm_bad_rows(w) || w->rows != t->outputs || w->starts[w->rows] != t->nonzeros ||
        !starts || (t->nonzeros > 0 && (!w->columns || !w->values || !offsets || !values)))
        return MM_BAD_ARGUMENT;
    const struct mm_conv *c = &t->conv;
    int64_t taps = c->kernel[0] * c->kernel[1];
    int32_t filled = 0;
    for (int64_t r = 0; r < w->rows; r += t->chunk)
        for (int64_t b = 0; b < t->blocks; b++)
            for (int64_t i = r; i < least(r + t->chunk, w->rows); i++) {
                /* Columns of a row increase: those of the block follow each other. */
                int32_t from = first_from(w, i, c->channels * b / t->blocks * taps);
                int32_t to = first_from(w, i, c->channels * (b + 1) / t->blocks * taps);
                if (!fill_groups(t, w, from, to, &filled, &starts, offsets, values))
                    return MM_BAD_ARGUMENT;
            }
    *starts = filled;
    return filled == t->nonzeros ? MM_OK : MM_BAD_ARGUMENT;
}
