/* Lay a matrix out in windows; see windows.h. */
#include "windows.h"

#include <stddef.h>
#include <stdlib.h>

mm_windows_run mm_windows_for(int variant)
{
#ifdef MM_X86
    if (variant == MM_AVX2)
        return mm_windowed_avx2.run;
    if (variant == MM_AVX512)
        return mm_windowed_avx512.run;
#endif
    return variant == MM_PORTABLE ? mm_windowed_portable.run : NULL;
}

/* A turn costs about as much as this many weights of a row by itself, and so does such a row. */
enum { TURN_COST = 4, ROW_COST = 6 };
/* Windows begin where lines of the cache do, as far as the inputs do. */
enum { LINE = 16 };

/* One more than the highest column, or 0 if the columns of a row do not increase. */
static int64_t width_of(const struct mm_rows *w)
{
    int32_t highest = -1;
    for (int64_t r = 0; r < w->rows; r++)
        for (int32_t i = w->starts[r]; i < w->starts[r + 1]; i++) {
            if (w->columns[i] < 0 || (i > w->starts[r] && w->columns[i] <= w->columns[i - 1]))
                return 0;
            highest = w->columns[i] > highest ? w->columns[i] : highest;
        }
    return (int64_t)highest + 1;
}

struct length {
    int32_t weights, row;
};

/* The longest first; the order of equally long ones is settled too. */
static int longer(const void *one, const void *other)
{
    const struct length *a = one, *b = other;
    return a->weights != b->weights ? (a->weights < b->weights ? 1 : -1) : (a->row > b->row) - (a->row < b->row);
}

static struct length *by_length(const struct mm_rows *w)
{
    struct length *found = malloc(sizeof *found * (size_t)w->rows);
    for (int64_t r = 0; found && r < w->rows; r++)
        found[r] = (struct length){w->starts[r + 1] - w->starts[r], (int32_t)r};
    if (found)
        qsort(found, (size_t)w->rows, sizeof *found, longer);
    return found;
}

/* Where the turns of a group go; nowhere while they are only counted. */
struct turns {
    int32_t *begins;
    float *values;
    uint8_t *places;
};

/* Write the turns of these rows, and return how many they are. */
static int64_t take_turns(const struct mm_rows *w, int64_t width, const struct length *rows, int64_t count,
                          const struct turns *to)
{
    int32_t next[MM_ABREAST] = {0}, ends[MM_ABREAST] = {0};
    for (int64_t lane = 0; lane < count; lane++)
        next[lane] = w->starts[rows[lane].row], ends[lane] = w->starts[rows[lane].row + 1];
    for (int64_t turn = 0;; turn++) {
        int64_t lowest = width;
        for (int64_t lane = 0; lane < count; lane++)
            if (next[lane] < ends[lane] && w->columns[next[lane]] < lowest)
                lowest = w->columns[next[lane]];
        if (lowest == width)
            return turn;
        int64_t begin = lowest - lowest % LINE;
        begin = begin < width - MM_WINDOW ? begin : width - MM_WINDOW;
        if (to)
            to->begins[turn] = (int32_t)begin;
        for (int64_t lane = 0; lane < MM_ABREAST; lane++) {
            int busy = next[lane] < ends[lane] && w->columns[next[lane]] < begin + MM_WINDOW;
            if (to) {
                to->places[turn * MM_ABREAST + lane] =
                    busy ? (uint8_t)(w->columns[next[lane]] - begin) : (uint8_t)MM_IDLE;
                to->values[turn * MM_ABREAST + lane] = busy ? w->values[next[lane]] : 0.0f;
            }
            next[lane] += busy;
        }
    }
}

static int64_t rows_in(const struct mm_rows *w, int64_t group)
{
    int64_t left = w->rows - group * MM_ABREAST;
    return left < MM_ABREAST ? left : MM_ABREAST;
}

/* Of all arrays: values, biases, rows, first turns, windows; and places, which are bytes. */
static size_t bytes_for(int64_t groups, int64_t turns)
{
    size_t lanes = (size_t)groups * MM_ABREAST, values = (size_t)turns * MM_ABREAST;
    return (values + lanes + lanes + (size_t)groups + 1 + (size_t)turns) * sizeof(float) + values;
}

int64_t mm_windows_bytes(const struct mm_windows *windows)
{
    return (int64_t)bytes_for(windows->groups, windows->first[windows->groups]);
}

/* Memory for so many turns, in one piece that begins with the values: a turn's fill a line of the cache. */
static struct mm_windows *room(int64_t rows, int64_t groups, int64_t turns)
{
    size_t lanes = (size_t)groups * MM_ABREAST, values = (size_t)turns * MM_ABREAST;
    void *memory;
    struct mm_windows *made = malloc(sizeof *made);
    if (!made || posix_memalign(&memory, 64, bytes_for(groups, turns)) != 0) {
        free(made);
        return NULL;
    }
    float *floats = memory;
    int32_t *integers = (int32_t *)(floats + values + lanes);
    *made = (struct mm_windows){.rows = rows,
                                .groups = groups,
                                .values = floats,
                                .bias = floats + values,
                                .order = integers,
                                .first = integers + lanes,
                                .begins = integers + lanes + groups + 1,
                                .places = (uint8_t *)(integers + lanes + groups + 1 + turns)};
    return made;
}

static void fill(struct mm_windows *made, const struct mm_rows *w, int64_t width, const struct length *rows)
{
    int32_t *first = (int32_t *)made->first, *order = (int32_t *)made->order;
    int64_t turn = 0;
    first[0] = 0;
    for (int64_t g = 0; g < made->groups; g++) {
        struct turns to = {(int32_t *)made->begins + turn, (float *)made->values + turn * MM_ABREAST,
                           (uint8_t *)made->places + turn * MM_ABREAST};
        int64_t count = rows_in(w, g);
        turn += take_turns(w, width, rows + g * MM_ABREAST, count, &to);
        first[g + 1] = (int32_t)turn;
        for (int64_t lane = 0; lane < MM_ABREAST; lane++) {
            int32_t row = lane < count ? rows[g * MM_ABREAST + lane].row : 0;
            order[g * MM_ABREAST + lane] = row;
            ((float *)made->bias)[g * MM_ABREAST + lane] = lane < count && w->bias ? w->bias[row] : 0.0f;
        }
    }
}

struct mm_windows *mm_windows_of(const struct mm_rows *w)
{
    int64_t width = width_of(w), groups = (w->rows + MM_ABREAST - 1) / MM_ABREAST, turns = 0;
    if (!mm_windows_for(w->variant) || width < MM_WINDOW)
        return NULL;
    struct length *rows = by_length(w);
    if (!rows)
        return NULL;
    for (int64_t g = 0; g < groups; g++)
        turns += take_turns(w, width, rows + g * MM_ABREAST, rows_in(w, g), NULL);
    struct mm_windows *made = NULL;
    if (turns * TURN_COST <= w->starts[w->rows] + w->rows * ROW_COST)
        made = room(w->rows, groups, turns);
    if (made)
        fill(made, w, width, rows);
    free(rows);
    return made;
}

void mm_windows_free(struct mm_windows *windows)
{
    if (windows)
        free((void *)windows->values);
    free(windows);
}
