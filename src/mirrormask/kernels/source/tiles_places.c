/* Where the pixels of a group of tiles come from, and where their sums go; see tiles_plan.c. */
#include "pool.h"
#include "tiles_job.h"

#include <stddef.h>

enum { LARGE_OUTPUT = 512 << 10 }; /* floats: more are in no cache when they are written */

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }

static int64_t tiles_of_group(const struct tiles_job *j)
{
    const struct mm_tiles *t = j->t;
    return least(t->side_by_side, t->conv.images * t->count - j->group * t->side_by_side);
}

/* Lanes [from, to) of those that begin at `first`, as far as there are `count`. */
static uint16_t lanes_in(int64_t from, int64_t to, int64_t first, int64_t count)
{
    from = most(from, 0), to = least(to, count);
    return to <= from ? 0 : (uint16_t)(((1u << (to - from)) - 1) << (first + from));
}

/* Each bit with a zero behind it. */
static uint32_t with_zeros(uint32_t bits)
{
    bits = (bits | bits << 8) & 0x00ff00ff, bits = (bits | bits << 4) & 0x0f0f0f0f;
    bits = (bits | bits << 2) & 0x33333333;
    return (bits | bits << 1) & 0x55555555;
}

/* One register of the lines of all tiles as phase `a` of the rows sees them, from column `left` of the
 * padded image on. */
static void find_source(const struct tiles_job *j, int64_t a, int64_t left, struct mm_source *source)
{
    const struct mm_tiles *t = j->t;
    const struct mm_conv *c = &t->conv;
    int64_t share = j->variant->lanes / t->side_by_side, tiles = tiles_of_group(j);
    int64_t high = t->flat ? 1 : c->height, wide = c->height * c->width / high;
    int64_t column = left - c->pad[0], step = c->stride[1];
    int64_t from = column < 0 ? up(-column, step) : 0, to = up(most(wide - column, 0), step);
    for (int64_t l = 0; l < tiles; l++) {
        int64_t tile = j->group * t->side_by_side + l;
        int64_t row = tile % t->count * t->tile * c->stride[0] + a - c->pad[2];
        source->inside[l] = lanes_in(from, to, l * share, share);
        source->others[l] = with_zeros(source->inside[l]);
        source->at[l] = tile / t->count * t->in.image + row * t->in.row + column - l * share * step;
        source->first[l] = row < 0 ? up(-row, c->stride[0]) : 0;
        source->end[l] = source->inside[l] ? up(most(high - row, 0), c->stride[0]) : 0;
    }
}

int mm_find_sources(struct tiles_job *j)
{
    const struct mm_tiles *t = j->t;
    const struct mm_conv *c = &t->conv;
    int64_t lanes = j->variant->lanes, count = c->phases[0] * c->phases[1] * t->width, plane = 0;
    size_t bytes = (size_t)count * sizeof(struct mm_source);
    struct mm_source *source = (void *)mm_scratch(MM_SCRATCH_GAPS, (int64_t)(bytes / sizeof(float)));
    if (!source)
        return 0;
    j->sources = (struct mm_sources){.all = source, .count = count, .tiles = tiles_of_group(j),
                                     .lines = t->tile + t->reach, .step = c->stride[1],
                                     .line = c->stride[0] * t->in.row, .to_line = t->width * lanes,
                                     .channel = t->in.channel, .far = t->far};
    for (int64_t a = 0; a < c->stride[0]; a++) {
        int64_t before = plane;
        for (int64_t b = 0; mm_meets(c, 0, a) && b < c->stride[1]; b++) {
            if (!mm_meets(c, 1, b))
                continue;
            for (int64_t v = 0; v < t->width; v++, source++) {
                source->to = plane + v * lanes, source->asks = plane == before;
                find_source(j, a, (t->first + v * lanes) * c->stride[1] + b, source);
            }
            plane += t->plane;
        }
    }
    return 1;
}

/* The lanes of register v of a row that have a neighbour to their right, or left, in the same row. */
static void find_neighbours(const struct tiles_job *j, int64_t v, uint16_t *right, uint16_t *left)
{
    int64_t lanes = j->variant->lanes, share = lanes / j->t->side_by_side;
    uint16_t first = 0, last = 0;
    for (int64_t l = 0; l < lanes; l += share)
        first |= (uint16_t)(1u << l), last |= (uint16_t)(1u << (l + share - 1));
    *right = v == 0 ? (uint16_t)~first : 0xffff, *left = v == j->t->width - 1 ? (uint16_t)~last : 0xffff;
}

/* Registers [from, from + count) of tile l of the group: where they belong. */
static void find_tile(const struct tiles_job *j, int64_t l, int64_t from, int64_t count,
                      struct mm_patch_places *places)
{
    const struct mm_tiles *t = j->t;
    int64_t share = j->variant->lanes / t->side_by_side, tile = j->group * t->side_by_side + l;
    int64_t image = tile / t->count, row = tile % t->count * t->tile + from / t->width, v = from % t->width;
    for (int64_t k = 0; k < count; k++, v++) {
        if (v == t->width)
            v = 0, row++;
        int64_t left = v * j->variant->lanes - t->late, at = left - l * share;
        places->inside[l][k] = row < t->size[0] ? lanes_in(-left, t->size[1] - left, l * share, share) : 0;
        places->to[l][k] = image * t->out.image + row * t->out.row + at;
        places->add[l][k] = image * t->add.image + row * t->add.row + at;
    }
}

/* Registers [from, from + count) of all tiles: where they belong. */
static void find_places(const struct tiles_job *j, int64_t from, int64_t count,
                        struct mm_patch_places *places)
{
    const struct mm_tiles *t = j->t;
    int64_t lanes = j->variant->lanes, full = (INT64_C(1) << lanes) - 1;
    places->tiles = tiles_of_group(j);
    places->channel = t->out.channel, places->add_channel = t->add.channel;
    for (int64_t k = 0; k < count; k++)
        find_neighbours(j, (from + k) % t->width, &places->right[k], &places->left[k]);
    for (int64_t l = 0; l < places->tiles; l++)
        find_tile(j, l, from, count, places);
    places->whole = places->tiles == 1;
    for (int64_t k = 0; k < count; k++)
        places->whole &= places->inside[0][k] == full;
    int large = t->conv.images * t->outputs * t->size[0] * t->size[1] > LARGE_OUTPUT;
    places->ahead = !large ? 0 : t->size[0] > 1 ? count / t->width * t->out.row : count * lanes;
}

int mm_find_patches(struct tiles_job *j)
{
    const struct mm_tiles *t = j->t;
    /* Patches have whole rows, unless no sums move. */
    int64_t unit = t->right + t->left > 0 ? t->width : 1, units = t->tile * t->width / unit;
    j->count = up(units, t->patch / unit);
    struct patch *patch = (void *)mm_scratch(MM_SCRATCH_SUMS, j->count * (int64_t)(sizeof *patch / sizeof(float)));
    if (!patch)
        return 0;
    j->patches = patch;
    for (int64_t i = 0; i < j->count; i++, patch++) {
        patch->at = units * i / j->count * unit;
        patch->count = units * (i + 1) / j->count * unit - patch->at;
        find_places(j, patch->at, patch->count, &patch->places);
    }
    return 1;
}
