/* Images of a tensor as planes of floats with room between their rows, and back. */
#include "views.h"

#include "dispatch.h"

#include <string.h>

struct mm_view mm_input_view(const struct mm_conv *c, int64_t row_phase, int64_t column_phase)
{
    return (struct mm_view){c->channels,
                            {c->height, c->width},
                            {c->plane_height, c->plane_width},
                            {c->stride[0], c->stride[1]},
                            {row_phase - c->pad[2], column_phase - c->pad[0]},
                            c->channels_last};
}

struct mm_view mm_output_view(const struct mm_conv *c, int64_t channels)
{
    return (struct mm_view){channels,
                            {c->out_height, c->out_width},
                            {c->plane_height, c->plane_width},
                            {1, 1},
                            {0, 0},
                            c->channels_last};
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* The first place whose pixel is not before this one. */
static int64_t place_of(const struct mm_view *v, int axis, int64_t pixel)
{
    int64_t distance = pixel - v->shift[axis];
    return distance <= 0 ? 0 : (distance + v->step[axis] - 1) / v->step[axis];
}

int64_t mm_first_place(const struct mm_view *v, int axis) { return place_of(v, axis, 0); }

int64_t mm_end_place(const struct mm_view *v, int axis)
{
    return least(place_of(v, axis, v->size[axis]), v->plane[axis]);
}

static void read_row(const struct mm_view *v, const float *from, float *to, int64_t count)
{
    if (v->step[1] == 1) {
        memcpy(to, from, (size_t)count * sizeof(float));
        return;
    }
    for (int64_t i = 0; i < count; i++)
        to[i] = from[i * v->step[1]];
}

void mm_read_view(const struct mm_view *v, mm_turn turn, const float *tensor, int64_t images,
                  int64_t from, int64_t to, float *planes, int64_t step)
{
    int64_t first = mm_first_place(v, 1), count = mm_end_place(v, 1) - first;
    int64_t top = mm_first_place(v, 0), bottom = mm_end_place(v, 0);
    int64_t pixels = v->size[0] * v->size[1], left = first * v->step[1] + v->shift[1];
    if (count <= 0)
        return;
    for (int64_t image = 0; image < images; image++) {
        const float *images_own = tensor + image * v->channels * pixels;
        float *place = planes + image * v->plane[0] * v->plane[1] + first;
        if (v->channels_last) {
            for (int64_t i = top; i < bottom; i++) {
                int64_t pixel = (i * v->step[0] + v->shift[0]) * v->size[1] + left;
                turn(images_own + pixel * v->channels + from, count, to - from,
                     v->step[1] * v->channels, place + i * v->plane[1] + from * step, step);
            }
            continue;
        }
        for (int64_t channel = from; channel < to; channel++) {
            const float *own = images_own + channel * pixels + left;
            for (int64_t i = top; i < bottom; i++)
                read_row(v, own + (i * v->step[0] + v->shift[0]) * v->size[1],
                         place + i * v->plane[1] + channel * step, count);
        }
    }
}

int mm_stretches(const struct mm_view *v, int64_t images, int64_t at, int64_t width,
                 struct mm_stretch *found)
{
    int64_t image_size = v->plane[0] * v->plane[1];
    int64_t first = mm_first_place(v, 1), end = mm_end_place(v, 1);
    int64_t top = mm_first_place(v, 0), bottom = mm_end_place(v, 0);
    int count = 0;
    for (int64_t p = at; p < at + width && p < images * image_size;) {
        int64_t image = p / image_size, i = p % image_size / v->plane[1], j = p % v->plane[1];
        if (i < top || i >= bottom) {
            p = image * image_size + (i < top ? top * v->plane[1] : image_size);
            continue;
        }
        if (j < first || j >= end) {
            p += (j < first ? first : v->plane[1]) - j;
            continue;
        }
        int64_t length = least(end - j, at + width - p);
        int64_t pixel = (i * v->step[0] + v->shift[0]) * v->size[1] + j * v->step[1] + v->shift[1];
        struct mm_stretch *last = found + count - 1;
        if (count > 0 && v->step[1] == 1 && last->image == image &&
            last->from + last->count == p - at && last->pixel + last->count == pixel)
            last->count += length;
        else
            found[count++] = (struct mm_stretch){p - at, length, image, pixel};
        p += length;
    }
    return count;
}

static void write_row(const struct mm_view *v, const float *from, float *to, int64_t count)
{
    typedef float loose __attribute__((vector_size(16), aligned(4)));
    int64_t i = 0, step = v->step[1];
    if (step == 1)
        for (; i + 4 <= count; i += 4)
            *(loose *)(to + i) = *(const loose *)(from + i);
    for (; i < count; i++)
        to[i * step] = from[i];
}

void mm_write_view(const struct mm_view *v, mm_turn turn, const float *rows, int64_t width,
                   int64_t from, int64_t to, const struct mm_stretch *found, int count,
                   float *tensor)
{
    int64_t pixels = v->size[0] * v->size[1];
    if (v->channels_last) {
        for (int s = 0; s < count; s++)
            turn(rows + found[s].from, to - from, found[s].count, width,
                 tensor + (found[s].image * pixels + found[s].pixel) * v->channels + from,
                 v->step[1] * v->channels);
        return;
    }
    for (int64_t r = from; r < to; r++, rows += width)
        for (int s = 0; s < count; s++)
            write_row(v, rows + found[s].from,
                      tensor + (found[s].image * v->channels + r) * pixels + found[s].pixel,
                      found[s].count);
}
