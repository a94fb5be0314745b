/* Cut a matrix into blocks whose inputs fit a cache; see mirrormask.h. */
#include "dispatch.h"

#include <stddef.h>
#include <string.h>

/* The columns of blocks: the inputs of a tile of 64 take 32, 64 and 256 KB. */
enum { NARROW = 128, MIDDLE = MM_BYTE_COLUMNS, WIDE = 1024 };

/* Few rows make no groups; narrow tiles of few inputs fit the cache as they are. Tests set both to 1. */
#ifndef MM_LEAST_BLOCK
enum { LEAST_ROWS = 256, LEAST_INPUTS = 1024 };
#else
enum { LEAST_ROWS = MM_LEAST_BLOCK, LEAST_INPUTS = MM_LEAST_BLOCK };
#endif

/* What is read and thrown away behind the last weight. */
enum { SPARE_COLUMNS = 8, SPARE_VALUES = 4, SPARE_ROWS = 4 };

/* The inputs of a block should fit the first-level cache, but every row of it reads and writes its
 * sums once more, which pays for about ten weights or, where the cache is missed by half, for five.
 * Thinner matrices are cut where the second-level cache ends. All measured. */
static int64_t block_width(const struct mm_rows *w, int64_t width)
{
    int64_t weights = w->starts[w->rows], all = w->rows * width;
    if (weights >= all / 14)
        return NARROW;
    if (weights >= all / 48)
        return MIDDLE;
    return width < WIDE ? width : WIDE;
}

int mm_blocks_pay(const struct mm_rows *w, int64_t width, int64_t wide)
{
    if (width <= 0 || w->rows < LEAST_ROWS)
        return 0;
    int64_t each = block_width(w, width);
    return wide == 64 || (wide == 32 && each <= MIDDLE) || (each == NARROW && width >= LEAST_INPUTS);
}

int mm_blocks_plan(const struct mm_rows *w, int64_t width, struct mm_blocks *b, int64_t bytes[5])
{
    if (!w || w->rows < 0 || !w->starts || width <= 0 || !b || !bytes)
        return MM_BAD_ARGUMENT;
    int64_t each = block_width(w, width), weights = w->starts[w->rows];
    int64_t across = (width + each - 1) / each, down = (w->rows + MM_BLOCK_ROWS - 1) / MM_BLOCK_ROWS;
    int64_t groups = across * down * (each + 1), rows = across * w->rows;
    *b = (struct mm_blocks){.across = across, .down = down, .width = each};
    bytes[0] = (across * down + 1) * (int64_t)sizeof *b->starts;
    bytes[1] = (groups < rows ? groups : rows) * (int64_t)sizeof *b->groups;
    bytes[2] = (rows + SPARE_ROWS) * (int64_t)sizeof *b->rows;
    bytes[3] = (weights + SPARE_COLUMNS) * (each <= MM_BYTE_COLUMNS ? 1 : 2);
    bytes[4] = (weights + SPARE_VALUES) * (int64_t)sizeof *b->values;
    return MM_OK;
}

/* The rows [first, first + count) of one block; `next` is where each row goes on. */
struct cut {
    const struct mm_rows *w;
    int64_t first, count, end; /* end: the column after the block */
    int32_t next[MM_BLOCK_ROWS], counts[MM_BLOCK_ROWS];
    int32_t rows_with[WIDE + 1]; /* how many rows have so many weights in the block */
};

static void count_weights(struct cut *c)
{
    memset(c->rows_with, 0, sizeof c->rows_with);
    for (int64_t r = 0; r < c->count; r++) {
        int32_t i = c->next[r], stop = c->w->starts[c->first + r + 1];
        while (i < stop && c->w->columns[i] < c->end)
            i++;
        c->counts[r] = i - c->next[r];
        c->rows_with[c->counts[r]]++;
    }
}

/* Weights [from, from + count) of the matrix become those from `to` on. */
static void copy_weights(const struct mm_blocks *b, const struct mm_rows *w, int64_t begin, int32_t from,
                         int32_t count, int32_t to)
{
    memcpy(b->values + to, w->values + from, (size_t)count * sizeof(float));
    for (int32_t k = 0; k < count; k++)
        if (b->width <= MM_BYTE_COLUMNS)
            ((uint8_t *)b->columns)[to + k] = (uint8_t)(w->columns[from + k] - begin);
        else
            ((uint16_t *)b->columns)[to + k] = (uint16_t)(w->columns[from + k] - begin);
}

int mm_blocks_fill(const struct mm_rows *w, const struct mm_blocks *b, int64_t used[2])
{
    if (!w || !b || !used || b->width < 1 || b->width > WIDE || !b->starts || !b->groups || !b->rows ||
        !b->columns || !b->values)
        return MM_BAD_ARGUMENT;
    int32_t group = 0, weight = 0, row = 0;
    struct cut c = {.w = w};
    b->starts[0] = 0;
    for (int64_t i = 0; i < b->down; i++) {
        c.first = i * MM_BLOCK_ROWS;
        c.count = w->rows - c.first < MM_BLOCK_ROWS ? w->rows - c.first : MM_BLOCK_ROWS;
        for (int64_t r = 0; r < c.count; r++)
            c.next[r] = w->starts[c.first + r];
        for (int64_t j = 0; j < b->across; j++) {
            int64_t begin = j * b->width;
            int32_t first_group[WIDE + 1];
            c.end = begin + b->width;
            count_weights(&c);
            /* Sums begin in the first block of a row and end in the last, even if they are empty. */
            for (int32_t n = j > 0 && j < b->across - 1; n <= b->width; n++) {
                if (c.rows_with[n] == 0)
                    continue;
                first_group[n] = group;
                b->groups[group++] = (struct mm_group){n, 0, weight, row};
                row += c.rows_with[n], weight += n * c.rows_with[n];
            }
            for (int64_t r = 0; r < c.count; r++) {
                int32_t n = c.counts[r];
                if (n == 0 && j > 0 && j < b->across - 1)
                    continue;
                struct mm_group *g = b->groups + first_group[n];
                copy_weights(b, w, begin, c.next[r], n, g->first_weight + n * g->rows);
                b->rows[g->first_row + g->rows++] = (uint16_t)r;
                c.next[r] += n;
            }
            b->starts[i * b->across + j + 1] = group;
        }
    }
    memset(b->rows + row, 0, SPARE_ROWS * sizeof *b->rows); /* they are fetched ahead */
    used[0] = group * (int64_t)sizeof *b->groups;
    used[1] = (row + SPARE_ROWS) * (int64_t)sizeof *b->rows;
    return MM_OK;
}
