/* How a convolution is cut into strips of images that are read where they lie.
 *
 * Where a convolution leaves images their size, the input that a weight meets is the same number of
 * floats away from the output's place, for all pixels but those at the edges: so nothing needs to be
 * packed. A strip is some registers of an image's pixels, one row after the other, and its sums stay in
 * registers. Above the first and below the last strips there would be rows of zeros: these strips alone
 * are packed. What comes from beyond the left or right end of a row is a pixel of the row before or
 * after it; the sums of each column of the kernel are made apart, and such sums dropped. Loads cross
 * lines of the cache, which costs more than aligned ones where there are many weights: then tiles are
 * faster, but they have to be packed, which takes a third of the time where there are few.
 */
#include "strips.h"

enum {
    LINE = 16,              /* floats of a line of the cache */
    CLASH = 1024,           /* floats between lines that fight for the same places of it */
    BEGIN = 2000,           /* cycles before the first register of an image is packed */
    FAR = 1 << 20,          /* images of so many floats are not in the second-level cache */
    MOST_BLOCKS = 8,
    CHUNK = 64
};

static int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

int64_t mm_strip_at(const struct mm_tiles *t, int64_t strip)
{
    return t->width * strip / up(t->width, t->patch);
}

int mm_strip_edges(const struct mm_tiles *t, int64_t lanes, struct mm_strip_edges *e)
{
    const struct mm_conv *c = &t->conv;
    int64_t down = c->dilation[0] * (c->kernel[0] - 1), across = c->dilation[1] * (c->kernel[1] - 1);
    int64_t pixels = c->height * c->width;
    e->count = up(t->width, t->patch);
    e->back = c->pad[2] * c->width + c->pad[0], e->ahead = (down - c->pad[2]) * c->width + across - c->pad[0];
    if (e->ahead > pixels)
        return 0;
    /* The first strip that begins so far down, and the last one that ends so far up. */
    e->top = up(up(e->back, lanes) * e->count, t->width);
    e->bottom = (((pixels - e->ahead) / lanes + 1) * e->count - 1) / t->width;
    e->bottom = least(e->bottom, e->count);
    if (e->top > e->bottom)
        return 0;
    e->top_end = e->top ? mm_strip_at(t, e->top) * lanes + e->ahead : 0;
    e->bottom_at = mm_strip_at(t, e->bottom) * lanes - e->back, e->end = t->width * lanes + e->ahead;
    /* Both lie in the place of one image, as far from the next channel as in the image. */
    e->apart = (e->top_end - e->bottom_at) / lanes * lanes;
    e->apart += e->bottom_at + e->apart < e->top_end ? lanes : 0;
    e->floats = up(e->back, lanes) * lanes + c->channels * t->in.channel;
    return e->back + e->end + e->apart <= t->in.channel;
}

/* Cycles that a load waits for, where a strip reads more of a block of channels than the first-level
 * cache holds: more than a tile's, as it crosses lines. Channels whose lines fall on the same places of
 * the cache leave others unused. */
static double misses(const struct mm_tiles *t, const struct mm_strip_edges *e, double floats)
{
    double seen = floats + (double)(e->back + e->ahead), lines = seen / LINE;
    int64_t places = 1; /* of the first lines of channels */
    while (places < CLASH / LINE && t->in.channel % (CLASH / places) != 0)
        places *= 2;
    double used = lines * (double)places * LINE / CLASH;
    return 2.3 * mm_misses(seen * (double)t->conv.channels / (double)t->blocks / (used < 1 ? used : 1));
}

/* Cycles, roughly, as measured on one processor: they decide between ways of doing the same. */
static double cost(const struct mm_tiles *t, const struct mm_strip_edges *e, int64_t lanes)
{
    const struct mm_conv *c = &t->conv;
    double strips = (double)e->count, registers = (double)t->width / strips;
    double edges = (double)c->channels * (150 + (double)(e->back + e->top_end + e->end - e->bottom_at) / 4);
    double moved = (double)(c->channels + t->outputs) * (double)t->width * 2.4;
    double sums = 0.5 + registers * (1.18 + misses(t, e, registers * (double)lanes));
    /* Where strips are whole rows, edges are in few of their registers. */
    int whole = t->width % t->patch == 0 && t->patch * lanes % c->width == 0;
    double rows = (double)t->outputs * (double)t->blocks * (9 + (whole ? 1.3 : 2.2) * registers);
    return (double)c->images * (BEGIN + edges + moved + strips * ((double)t->nonzeros * sums + rows));
}

static int can_be(const struct mm_tiles *t)
{
    const struct mm_conv *c = &t->conv;
    return c->stride[0] == 1 && c->stride[1] == 1 && c->kernel[0] * c->kernel[1] > 1 &&
           c->out_height == c->height && c->out_width == c->width && t->in.row == c->width &&
           t->out.row == c->width && t->add.row == c->width &&
           (double)t->in.channel * (double)(c->channels + 1) <= INT32_MAX;
}

double mm_strips_plan(struct mm_tiles *t, const struct mm_tile_variant *variant)
{
    const struct mm_conv *c = &t->conv;
    double lowest = 1e300;
    struct mm_tiles best;
    if (!can_be(t))
        return lowest;
    t->strips = 1, t->direct = 1, t->side_by_side = 1, t->tile = 1, t->count = 1, t->late = 0;
    t->size[0] = 1, t->size[1] = c->height * c->width;
    t->width = up(t->size[1], variant->lanes), t->plane = t->in.channel;
    t->first = c->pad[0], t->right = c->dilation[1] * (c->kernel[1] - 1), t->left = 0;
    t->chunk = least(CHUNK, t->outputs);
    t->far = (double)c->images * (double)(c->channels + t->outputs) * (double)t->size[1] > FAR;
    for (t->patch = 1; t->patch <= variant->most_of_strip; t->patch++) {
        struct mm_strip_edges edges;
        if (!mm_strip_edges(t, variant->lanes, &edges))
            continue;
        t->floats = edges.floats;
        for (t->blocks = 1; t->blocks <= least(MOST_BLOCKS, c->channels); t->blocks++) {
            double found = cost(t, &edges, variant->lanes);
            if (found < lowest)
                lowest = found, best = *t;
        }
    }
    if (lowest < 1e300)
        *t = best;
    return lowest;
}
