/* One row of blocks times a tile; part of panel.c, whose types it uses.
 *
 * A processor with two wide multipliers takes two inputs a cycle, and every other load costs it more
 * than its share, most of all one whose result is an address. So the places of eight weights come in
 * one load (two where blocks are wide), made eight weights before they are needed; their values come
 * by fours, each spread within the register. Rows of a group have equally many weights, so that the
 * weights beyond the last eight need no loop.
 */
#ifndef MM_BAND_H
#define MM_BAND_H

/* The sums of so many rows ahead are fetched: there are more of them than the first-level cache holds. */
enum { ROWS_AHEAD = 4 };

/* Columns of eight weights. */
struct eight {
    uint64_t words[2];
};
INLINE struct eight eight_uint8_t(const uint8_t *from)
{
    struct eight found = {{0, 0}};
    memcpy(found.words, from, 8);
    return found;
}
INLINE struct eight eight_uint16_t(const uint16_t *from)
{
    struct eight found;
    memcpy(found.words, from, 8);
    memcpy(found.words + 1, from + 4, 8);
    return found;
}
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define COLUMN(word, bits, u) (int64_t)((word) >> (bits) * (u) & ((1 << (bits)) - 1))
#else
#define COLUMN(word, bits, u) (int64_t)((word) >> (64 - (bits) * ((u) + 1)) & ((1 << (bits)) - 1))
#endif
INLINE int64_t column_uint8_t(struct eight columns, int u) { return COLUMN(columns.words[0], 8, u); }
INLINE int64_t column_uint16_t(struct eight columns, int u)
{
    return COLUMN(columns.words[u / 4], 16, u % 4);
}

/* How the sums of a block's rows begin and end. */
struct ends {
    const float *bias; /* they begin with it; NULL: with what was summed before */
    int relu;
};

/* The u-th of eight weights, with `four` values. */
#define ADD_WEIGHT(INDEX, WIDTH, N, VECTORS, SETS, u)                                              \
    {                                                                                              \
        const float *place = x + column_##INDEX(at, u) * WIDTH;                                    \
        floats##N value = SPREAD_##N(four, u % 4);                                                 \
        _Pragma("GCC unroll 8") for (int v = 0; v < VECTORS; v++) sums[u % SETS][v] +=             \
            value * *(const loose *)(place + v * N);                                               \
    }
#define ADD_FOUR(INDEX, WIDTH, N, VECTORS, SETS, u, count)                                         \
    {                                                                                              \
        __auto_type four = VALUES_##N(values + u);                                                 \
        ADD_WEIGHT(INDEX, WIDTH, N, VECTORS, SETS, u)                                              \
        if (count > u + 1)                                                                         \
            ADD_WEIGHT(INDEX, WIDTH, N, VECTORS, SETS, (u + 1))                                    \
        if (count > u + 2)                                                                         \
            ADD_WEIGHT(INDEX, WIDTH, N, VECTORS, SETS, (u + 2))                                    \
        if (count > u + 3)                                                                         \
            ADD_WEIGHT(INDEX, WIDTH, N, VECTORS, SETS, (u + 3))                                    \
    }
#define ADD_EIGHT(INDEX, WIDTH, N, VECTORS, SETS, count)                                           \
    {                                                                                              \
        struct eight at = next;                                                                    \
        columns += count, next = eight_##INDEX(columns);                                           \
        ADD_FOUR(INDEX, WIDTH, N, VECTORS, SETS, 0, count)                                         \
        if (count > 4)                                                                             \
            ADD_FOUR(INDEX, WIDTH, N, VECTORS, SETS, 4, count)                                     \
        values += count;                                                                           \
    }

/* The rows of a group, whose weights are whole eights and `rest`; each has a loop of its own.
 * VECTORS of N lanes are the part of a tile's WIDTH that x and out point to. */
#define DEFINE_GROUP(NAME, INDEX, WIDTH, N, VECTORS, SETS)                                         \
    INLINE void NAME##_with(struct mm_group group, const INDEX *columns, const float *values,      \
                            const uint16_t *rows, const float *x, struct ends ends, float *out,    \
                            int rest)                                                              \
    {                                                                                              \
        typedef float loose __attribute__((vector_size(N * 4), aligned(4)));                       \
        struct eight next = eight_##INDEX(columns);                                                \
        for (const uint16_t *end = rows + group.rows; rows < end; rows++) {                        \
            const float *ahead = out + (int64_t)rows[ROWS_AHEAD] * WIDTH;                          \
            for (int v = 0; v < VECTORS * N; v += 16)                                              \
                __builtin_prefetch(ahead + v, 1);                                                  \
            float *to = out + (int64_t)rows[0] * WIDTH, bias = 0.0f;                               \
            if (ends.bias)                                                                         \
                bias = ends.bias[rows[0]];                                                         \
            floats##N sums[SETS][VECTORS];                                                         \
            _Pragma("GCC unroll 8") for (int v = 0; v < VECTORS; v++)                              \
            {                                                                                      \
                sums[0][v] = ends.bias ? (floats##N){0} + bias : *(const loose *)(to + v * N);     \
                _Pragma("GCC unroll 4") for (int u = 1; u < SETS; u++) sums[u][v] = (floats##N){0};\
            }                                                                                      \
            for (int32_t k = group.weights / 8; k > 0; k--)                                        \
                ADD_EIGHT(INDEX, WIDTH, N, VECTORS, SETS, 8)                                       \
            if (rest)                                                                              \
                ADD_EIGHT(INDEX, WIDTH, N, VECTORS, SETS, rest)                                    \
            _Pragma("GCC unroll 8") for (int v = 0; v < VECTORS; v++)                              \
            {                                                                                      \
                _Pragma("GCC unroll 4") for (int u = 1; u < SETS; u++) sums[0][v] += sums[u][v];   \
                if (ends.relu) {                                                                   \
                    ints##N keep = ~(ints##N)(sums[0][v] < (floats##N){0});                        \
                    sums[0][v] = (floats##N)((ints##N)sums[0][v] & keep);                          \
                }                                                                                  \
                *(loose *)(to + v * N) = sums[0][v];                                               \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    static void NAME(struct mm_group group, const INDEX *columns, const float *values,             \
                     const uint16_t *rows, const float *x, struct ends ends, float *out)           \
    {                                                                                              \
        if (LANES < 8) { /* additions are what so short vectors wait for: one loop will do */      \
            NAME##_with(group, columns, values, rows, x, ends, out, group.weights % 8);            \
            return;                                                                                \
        }                                                                                          \
        switch (group.weights % 8) {                                                               \
        case 0: NAME##_with(group, columns, values, rows, x, ends, out, 0); break;                 \
        case 1: NAME##_with(group, columns, values, rows, x, ends, out, 1); break;                 \
        case 2: NAME##_with(group, columns, values, rows, x, ends, out, 2); break;                 \
        case 3: NAME##_with(group, columns, values, rows, x, ends, out, 3); break;                 \
        case 4: NAME##_with(group, columns, values, rows, x, ends, out, 4); break;                 \
        case 5: NAME##_with(group, columns, values, rows, x, ends, out, 5); break;                 \
        case 6: NAME##_with(group, columns, values, rows, x, ends, out, 6); break;                 \
        default: NAME##_with(group, columns, values, rows, x, ends, out, 7);                       \
        }                                                                                          \
    }

/* How many rows of a group lie before a row of the block. */
static int32_t rows_before(const uint16_t *rows, int32_t count, int64_t row)
{
    int32_t low = 0;
    while (low < count) {
        int32_t middle = low + (count - low) / 2;
        if (rows[middle] < row)
            low = middle + 1;
        else
            count = middle;
    }
    return low;
}

/* What of a group lies in rows [from, to) of the block; threads share out rows, not blocks. */
INLINE struct mm_group share_of(const struct mm_blocks *b, struct mm_group group, int64_t from, int64_t to)
{
    if (to - from == MM_BLOCK_ROWS)
        return group;
    const uint16_t *rows = b->rows + group.first_row;
    int32_t skipped = rows_before(rows, group.rows, from);
    group.rows = rows_before(rows, group.rows, to) - skipped;
    group.first_row += skipped;
    group.first_weight += skipped * group.weights;
    return group;
}

static const float no_bias[MM_BLOCK_ROWS];

/* Groups of a tile's WIDTH, as PARTS pieces of it, with columns of one kind. */
#define DEFINE_BAND(NAME, INDEX, WIDTH, N, VECTORS, SETS, PARTS)                                   \
    DEFINE_GROUP(NAME##_group, INDEX, WIDTH, N, VECTORS, SETS)                                     \
    static void NAME(const struct mm_rows *w, int64_t down, int64_t from, int64_t to,              \
                     const float *x, float *out)                                                   \
    {                                                                                              \
        const struct mm_blocks *b = w->blocks;                                                     \
        for (int64_t across = 0; across < b->across; across++, x += b->width * WIDTH) {            \
            int64_t block = down * b->across + across;                                             \
            struct ends ends = {NULL, w->relu && across == b->across - 1};                         \
            if (across == 0)                                                                       \
                ends.bias = w->bias ? w->bias + down * MM_BLOCK_ROWS : no_bias;                    \
            for (int32_t g = b->starts[block]; g < b->starts[block + 1]; g++) {                    \
                struct mm_group group = share_of(b, b->groups[g], from, to);                       \
                for (int64_t part = 0; part < WIDTH; part += WIDTH / PARTS)                        \
                    NAME##_group(group, (const INDEX *)b->columns + group.first_weight,            \
                                 b->values + group.first_weight, b->rows + group.first_row,        \
                                 x + part, ends, out + part);                                      \
            }                                                                                      \
        }                                                                                          \
    }

#endif
