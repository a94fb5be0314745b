/* What is summed over a band: outputs, gradients of the input, gradients of the values.
 *
 * The gradient of the output lies in planes of the input's size, with zeros where the output has no
 * pixel. A weight's gradient is then the product of a band of one such plane with the band of the
 * input that the weight meets; and since the zeros between two rows are as many as the kernel
 * reaches, the gradient of the input is a sparse sum of shifted planes, too, with a row for each
 * channel and phase of the stride.
 */
#include "live.h"

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Rows [from, from + channels of the view) of w times what lies at x, to the view's tensor. */
static void multiply(const struct mm_live_job *j, const struct mm_band *b, const struct mm_rows *w,
                     int64_t from, const struct mm_view *view, const float *x, float *tensor)
{
    /* As many floats either way; a tensor's own neighbours should be written together. */
    enum { MOST_PIECES = 4 };
    int most = view->channels_last ? 1 : MOST_PIECES, rows = MM_PANEL_ROWS / most;
    int64_t lanes = view->lanes, to = from + view->channels, end = view->end[1] * lanes;
    int64_t top = b->top > view->first[0] ? b->top : view->first[0];
    for (int64_t i = top; i < least(b->end, view->end[0]); i++)
        for (int64_t at = view->first[1] * lanes; at < end;) {
            struct mm_piece pieces[MOST_PIECES];
            const float *place = x + (i - b->top) * view->width * lanes;
            int count = 0;
            for (; count < most && at < end; count++) {
                int64_t width = mm_widths[mm_width_for(end - at)];
                pieces[count] = (struct mm_piece){at / lanes, least(width, end - at) / lanes, width,
                                                  b->panel + count * rows * MM_WIDEST};
                at += width;
            }
            for (int64_t r = from; r < to; r += rows) {
                int64_t last = least(r + rows, to);
                for (int p = 0; p < count; p++)
                    j->variant->panels[mm_width_for(pieces[p].width)](
                        w, r, last, place + pieces[p].j * lanes, 1, b->panel + p * rows * MM_WIDEST,
                        pieces[p].width);
                mm_write_pieces(view, j->variant->turn, pieces, count, r - from, last - r, b->images,
                                i, tensor);
            }
        }
}

void mm_live_outputs(const struct mm_live_job *j, const struct mm_band *b)
{
    struct mm_view view = mm_output_view(j->l);
    multiply(j, b, j->w, 0, &view, b->x, j->y + b->out_at);
}

/* The gradient of the input from that of the output, phase by phase. */
void mm_live_inputs(const struct mm_live_job *j, const struct mm_band *b)
{
    const struct mm_conv *c = &j->l->conv;
    int64_t from = 0;
    for (int64_t s = 0; s < c->stride[0]; s++)
        for (int64_t t = 0; mm_meets(c, 0, s) && t < c->stride[1]; t++) {
            if (!mm_meets(c, 1, t))
                continue;
            struct mm_view view = mm_input_view(j->l, s, t);
            multiply(j, b, j->turned, from, &view, b->dy, j->dx + b->in_at);
            from += c->channels;
        }
}

void mm_live_products(const struct mm_live_job *j, const struct mm_band *b, float *sums)
{
    const struct mm_conv *c = &j->l->conv;
    int64_t row = c->plane_width * j->l->lanes, lines = least(b->end, c->out_height) - b->top;
    if (lines > 0)
        j->variant->dots(j->w, 0, j->w->rows, b->dy + j->l->front + j->l->reach[0] * row, j->l->plane,
                         b->x, 1, (struct mm_lines){lines, row, c->out_width * j->l->lanes}, sums);
}
