/* Transposition in blocks of 8 x 8 floats; part of panel.c, whose types and instruction set it uses. */
#ifndef MM_TURN_H
#define MM_TURN_H

#if defined(__clang__) || __GNUC__ >= 12
#define PAIR(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else /* older GCC has its own word for it */
typedef int places8 __attribute__((vector_size(32)));
#define PAIR(a, b, ...) __builtin_shuffle(a, b, (places8){__VA_ARGS__})
#endif

/* 8 x 8 floats, as two rounds of pairs within 128 bits and one across. */
INLINE void turn_8x8(const float *from, int64_t from_step, float *to, int64_t to_step)
{
    typedef float loose __attribute__((vector_size(32), aligned(4)));
    floats8 a[8], b[8];
    _Pragma("GCC unroll 8") for (int i = 0; i < 8; i++) a[i] =
        *(const loose *)(from + i * from_step);
    _Pragma("GCC unroll 4") for (int i = 0; i < 8; i += 2)
    {
        b[i] = PAIR(a[i], a[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        b[i + 1] = PAIR(a[i], a[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    _Pragma("GCC unroll 2") for (int i = 0; i < 8; i += 4)
    {
        a[i] = PAIR(b[i], b[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        a[i + 1] = PAIR(b[i], b[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        a[i + 2] = PAIR(b[i + 1], b[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
        a[i + 3] = PAIR(b[i + 1], b[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
    }
    _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++)
    {
        *(loose *)(to + i * to_step) = PAIR(a[i], a[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        *(loose *)(to + (i + 4) * to_step) = PAIR(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

INLINE void turn_edge(const float *from, int64_t rows, int64_t columns, int64_t from_step, float *to,
                      int64_t to_step)
{
    for (int64_t c = 0; c < columns; c++)
        for (int64_t r = 0; r < rows; r++)
            to[c * to_step + r] = from[r * from_step + c];
}

static void turn(const float *from, int64_t rows, int64_t columns, int64_t from_step, float *to,
                 int64_t to_step)
{
    int64_t whole_rows = rows & ~(int64_t)7, whole_columns = columns & ~(int64_t)7;
    /* Along the side whose lines lie far apart, so that each is finished before it leaves the cache:
     * steps are often powers of two, and such lines all compete for the same few places. */
    if (from_step < to_step) {
        for (int64_t c = 0; c < whole_columns; c += 8)
            for (int64_t r = 0; r < whole_rows; r += 8)
                turn_8x8(from + r * from_step + c, from_step, to + c * to_step + r, to_step);
    } else {
        for (int64_t r = 0; r < whole_rows; r += 8)
            for (int64_t c = 0; c < whole_columns; c += 8)
                turn_8x8(from + r * from_step + c, from_step, to + c * to_step + r, to_step);
    }
    turn_edge(from + whole_columns, whole_rows, columns - whole_columns, from_step,
              to + whole_columns * to_step, to_step);
    turn_edge(from + whole_rows * from_step, rows - whole_rows, columns, from_step, to + whole_rows,
              to_step);
}

#endif
