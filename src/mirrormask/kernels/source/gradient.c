/* What training asks for besides products: the gradient of a sparse matrix's values, at the places of
 * its weights only, and rows that become columns. */
#include "dispatch.h"
#include "pool.h"

#include <stddef.h>

struct gradient_job {
    const struct mm_rows *w;
    const struct mm_variant *variant;
    const float *dy, *x;
    int64_t n;
    float *out;
};

static void gradient_part(void *context, int part, int parts)
{
    struct gradient_job *j = context;
    int64_t from = mm_first_row(j->w, part, parts), to = mm_first_row(j->w, part + 1, parts);
    for (int64_t i = j->w->starts[from]; i < j->w->starts[to]; i++)
        j->out[i] = 0.0f;
    j->variant->dots(j->w, from, to, j->dy, j->n, j->x, j->n, (struct mm_lines){1, 0, j->n}, j->out);
}

int mm_value_gradient(const struct mm_rows *w, const float *dy, const float *x, int64_t n, float *out,
                      int threads)
{
    if (mm_bad_rows(w) || n < 0 || threads < 1)
        return MM_BAD_ARGUMENT;
    int64_t nonzeros = w->starts[w->rows];
    if (nonzeros == 0)
        return MM_OK;
    if (!out || (n > 0 && (!dy || !x)))
        return MM_BAD_ARGUMENT;
    struct gradient_job j = {w, mm_variant(w->variant), dy, x, n, out};
    mm_parallel(mm_threads_for(threads, nonzeros * (n + 1)), gradient_part, &j);
    return MM_OK;
}

struct turn_job {
    const struct mm_variant *variant;
    const float *from;
    int64_t rows, columns;
    float *to;
};

/* Parts begin at whole squares. */
static void turn_part(void *context, int part, int parts)
{
    struct turn_job *j = context;
    int64_t squares = (j->columns + 7) / 8, from = squares * part / parts * 8;
    int64_t to = part + 1 < parts ? squares * (part + 1) / parts * 8 : j->columns;
    j->variant->turn(j->from + from, j->rows, to - from, j->columns, j->to + from * j->rows, j->rows);
}

int mm_transpose(const float *from, int64_t rows, int64_t columns, float *to, int variant, int threads)
{
    if (rows < 0 || columns < 0 || variant < 0 || variant >= MM_VARIANTS || !mm_supported(variant) ||
        threads < 1)
        return MM_BAD_ARGUMENT;
    if (rows == 0 || columns == 0)
        return MM_OK;
    if (!from || !to)
        return MM_BAD_ARGUMENT;
    struct turn_job j = {mm_variant(variant), from, rows, columns, to};
    mm_parallel(mm_threads_for(threads, rows * columns), turn_part, &j);
    return MM_OK;
}
