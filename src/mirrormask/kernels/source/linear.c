/* Sparse matrix times a vector, or times several rows in tiles of 8 to 64.
 *
 * A tile holds one float of each of its rows for every input feature, so that a weight meets its
 * inputs side by side. Tiles are made by transposing and undone the same way, unless the caller's
 * tensors are already laid out by columns and are exactly one tile wide.
 */
#include "dispatch.h"
#include "pool.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

/* Up to ALONE rows run as vectors. Results are turned TURNED rows at a time: long enough for the far
 * lines of y, which compete for the same places of the cache, and short enough for it to hold them. */
enum { WIDEST = 64, ALONE = 2, TURNED = 128 };

struct linear_job {
    const struct mm_rows *w;
    const struct mm_variant *variant;
    int64_t width, n;
    const float *x;
    float *y;
    int x_by_columns, y_by_columns;
    const float *tile; /* the packed tile that all parts read, or NULL: each part packs its own */
    int64_t tile_at;
    atomic_int failed;
};

/* Index of the panel width of the tile that begins at row `at`. */
static int tile_width(int64_t n, int64_t at)
{
    int index = 0;
    while (mm_widths[index] < n - at && mm_widths[index] < WIDEST)
        index++;
    return index;
}

int64_t mm_least_for_blocks(const struct mm_rows *w, int64_t width)
{
    if (mm_bad_rows(w) || width <= 0)
        return INT64_MAX;
    int64_t least = ALONE + 1;
    for (int i = 0; i < MM_WIDTHS && mm_widths[i] <= WIDEST; i++) {
        if (mm_blocks_pay(w, width, mm_widths[i]))
            return least;
        least = mm_widths[i] + 1;
    }
    return INT64_MAX;
}

static int as_it_is(const struct linear_job *j)
{
    return j->x_by_columns && mm_widths[tile_width(j->n, 0)] == j->n;
}

static void pack(const struct linear_job *j, int64_t at, int64_t from, int64_t to, float *tile)
{
    int64_t wide = mm_widths[tile_width(j->n, at)];
    int64_t used = j->n - at < wide ? j->n - at : wide;
    if (j->x_by_columns) {
        for (int64_t k = from; k < to; k++)
            memcpy(tile + k * wide, j->x + k * j->n + at, (size_t)used * sizeof(float));
    } else {
        j->variant->turn(j->x + at * j->width + from, used, to - from, j->width,
                         tile + from * wide, wide);
    }
    for (int64_t k = from; used < wide && k < to; k++)
        memset(tile + k * wide + used, 0, (size_t)(wide - used) * sizeof(float));
}

/* A panel's rows [from, to), with the tile's width as step, go to their places in y. */
static void lay_out(const struct linear_job *j, int64_t at, const float *panel, int64_t from,
                    int64_t to)
{
    int64_t wide = mm_widths[tile_width(j->n, at)], rows = j->w->rows;
    int64_t used = j->n - at < wide ? j->n - at : wide;
    for (int64_t r = from; !j->y_by_columns && r < to; r += TURNED)
        j->variant->turn(panel + (r - from) * wide, to - r < TURNED ? to - r : TURNED, used, wide,
                         j->y + at * rows + r, rows);
    if (!j->y_by_columns)
        return;
    for (int64_t i = from; i < to; i++)
        memcpy(j->y + i * j->n + at, panel + (i - from) * wide, (size_t)used * sizeof(float));
}

static void multiply_rows(struct linear_job *j, int64_t at, const float *tile, int64_t from,
                          int64_t to)
{
    int index = tile_width(j->n, at);
    int64_t wide = mm_widths[index];
    if (j->y_by_columns && j->n == wide) {
        j->variant->panels[index](j->w, from, to, tile, wide, j->y + from * wide, wide);
        return;
    }
    float *panel = mm_scratch(MM_SCRATCH_PANEL, TURNED * WIDEST);
    if (!panel) {
        j->failed = 1;
        return;
    }
    for (int64_t r = from; r < to; r += TURNED) {
        int64_t end = r + TURNED < to ? r + TURNED : to;
        j->variant->panels[index](j->w, r, end, tile, wide, panel, wide);
        lay_out(j, at, panel, r, end);
    }
}

/* The same by blocks. */
static void multiply_blocks(struct linear_job *j, int64_t at, const float *tile, int64_t from,
                            int64_t to)
{
    int index = tile_width(j->n, at);
    int64_t wide = mm_widths[index];
    int in_place = j->y_by_columns && j->n == wide;
    float *panel = in_place ? NULL : mm_scratch(MM_SCRATCH_PANEL, MM_BLOCK_ROWS * wide);
    if (!in_place && !panel) {
        j->failed = 1;
        return;
    }
    int wide_blocks = j->w->blocks->width > MM_BYTE_COLUMNS;
    mm_band band = wide_blocks ? j->variant->wide_band : j->variant->bands[index];
    for (int64_t r = from; r < to;) {
        int64_t down = r / MM_BLOCK_ROWS, first = down * MM_BLOCK_ROWS;
        int64_t end = to < first + MM_BLOCK_ROWS ? to : first + MM_BLOCK_ROWS;
        band(j->w, down, r - first, end - first, tile, in_place ? j->y + first * wide : panel);
        if (!in_place)
            lay_out(j, at, panel + (r - first) * wide, r, end);
        r = end;
    }
}

static void multiply(struct linear_job *j, int64_t at, const float *tile, int64_t from, int64_t to)
{
    if (j->w->blocks && mm_blocks_pay(j->w, j->width, mm_widths[tile_width(j->n, at)]))
        multiply_blocks(j, at, tile, from, to);
    else
        multiply_rows(j, at, tile, from, to);
}

static void vector_part(void *context, int part, int parts)
{
    struct linear_job *j = context;
    int64_t from = mm_first_row(j->w, part, parts), to = mm_first_row(j->w, part + 1, parts);
    for (int64_t i = 0; i < j->n; i++)
        j->variant->vector(j->w, from, to, j->x + i * j->width, j->y + i * j->w->rows);
}

static void pack_part(void *context, int part, int parts)
{
    struct linear_job *j = context;
    int64_t share = (j->width + parts - 1) / parts, from = share * part;
    int64_t to = from + share < j->width ? from + share : j->width;
    if (from < to)
        pack(j, j->tile_at, from, to, (float *)j->tile);
}

static void rows_part(void *context, int part, int parts)
{
    struct linear_job *j = context;
    multiply(j, j->tile_at, j->tile, mm_first_row(j->w, part, parts),
             mm_first_row(j->w, part + 1, parts));
}

/* Every part takes each parts-th tile, whole. */
static void tiles_part(void *context, int part, int parts)
{
    struct linear_job *j = context;
    for (int64_t at = part * WIDEST; at < j->n; at += (int64_t)parts * WIDEST) {
        float *tile = mm_scratch(MM_SCRATCH_INPUT, j->width * mm_widths[tile_width(j->n, at)]);
        if (!tile) {
            j->failed = 1;
            return;
        }
        pack(j, at, 0, j->width, tile);
        multiply(j, at, tile, 0, j->w->rows);
    }
}

int mm_linear(const struct mm_rows *w, int64_t width, const float *x, int64_t n, float *y,
              const int32_t by_columns[2], int threads)
{
    if (mm_bad_rows(w) || width < 0 || n < 0 || !by_columns || threads < 1)
        return MM_BAD_ARGUMENT;
    if (n == 0 || w->rows == 0)
        return MM_OK;
    if (!y || (!x && width > 0))
        return MM_BAD_ARGUMENT;
    threads = mm_threads_for(threads, (int64_t)w->starts[w->rows] * n);
    struct linear_job j = {w, mm_variant(w->variant), width, n, x, y, by_columns[0] != 0,
                           by_columns[1] != 0, NULL, 0, 0};
    /* One row is the same by rows and by columns. */
    if (n == 1 || (n <= ALONE && !j.x_by_columns && !j.y_by_columns)) {
        mm_parallel(threads, vector_part, &j);
        return MM_OK;
    }
    if (as_it_is(&j)) {
        j.tile = x;
        mm_parallel(threads, rows_part, &j);
    } else if (n > 2 * (int64_t)WIDEST * (threads - 1)) {
        mm_parallel(threads, tiles_part, &j);
    } else {
        for (j.tile_at = 0; j.tile_at < n; j.tile_at += WIDEST) {
            j.tile = mm_scratch(MM_SCRATCH_INPUT, width * mm_widths[tile_width(n, j.tile_at)]);
            if (!j.tile)
                return MM_NO_MEMORY;
            mm_parallel(threads, pack_part, &j);
            mm_parallel(threads, rows_part, &j);
        }
    }
    return j.failed ? MM_NO_MEMORY : MM_OK;
}
