/* Cut a matrix into blocks whose inputs fit the first-level cache; see mirrormask.h. */
#include "mirrormask.h"

#include <stddef.h>
#include <string.h>

/* The rows [first, first + count) of one block; `next` is where each row goes on. */
struct cut {
    const struct mm_rows *w;
    int64_t first, count, end; /* end: the column after the block */
    int32_t next[MM_BLOCK_ROWS];
};

/* How many weights each row has in the block, and how many rows have so many. */
static void count_weights(const struct cut *c, int32_t *counts, int32_t *rows_with)
{
    memset(rows_with, 0, (MM_BLOCK_COLUMNS + 1) * sizeof *rows_with);
    for (int64_t r = 0; r < c->count; r++) {
        int32_t i = c->next[r], stop = c->w->starts[c->first + r + 1];
        while (i < stop && c->w->columns[i] < c->end)
            i++;
        counts[r] = i - c->next[r];
        rows_with[counts[r]]++;
    }
}

int mm_blocks_fill(const struct mm_rows *w, int64_t width, int32_t *starts, struct mm_group *groups,
                   uint8_t *rows, uint8_t *columns, float *values, int64_t sizes[2])
{
    if (!w || w->rows < 0 || width < 0 || !starts || !sizes)
        return MM_BAD_ARGUMENT;
    int64_t across = (width + MM_BLOCK_COLUMNS - 1) / MM_BLOCK_COLUMNS;
    int64_t down = (w->rows + MM_BLOCK_ROWS - 1) / MM_BLOCK_ROWS;
    int32_t group = 0, weight = 0, row = 0;
    struct cut c = {.w = w};
    starts[0] = 0;
    for (int64_t i = 0; i < down; i++) {
        c.first = i * MM_BLOCK_ROWS;
        c.count = w->rows - c.first < MM_BLOCK_ROWS ? w->rows - c.first : MM_BLOCK_ROWS;
        for (int64_t r = 0; r < c.count; r++)
            c.next[r] = w->starts[c.first + r];
        for (int64_t j = 0; j < across; j++) {
            int32_t counts[MM_BLOCK_ROWS], rows_with[MM_BLOCK_COLUMNS + 1];
            int64_t begin = j * MM_BLOCK_COLUMNS;
            c.end = begin + MM_BLOCK_COLUMNS;
            count_weights(&c, counts, rows_with);
            for (int32_t n = 1; n <= MM_BLOCK_COLUMNS; n++) {
                if (rows_with[n] == 0)
                    continue;
                groups[group++] = (struct mm_group){n, rows_with[n], weight, row};
                for (int64_t r = 0; r < c.count; r++) {
                    if (counts[r] != n)
                        continue;
                    rows[row++] = (uint8_t)r;
                    for (int32_t k = 0; k < n; k++, weight++, c.next[r]++) {
                        columns[weight] = (uint8_t)(w->columns[c.next[r]] - begin);
                        values[weight] = w->values[c.next[r]];
                    }
                }
            }
            starts[i * across + j + 1] = group;
        }
    }
    sizes[0] = group, sizes[1] = row;
    return MM_OK;
}
