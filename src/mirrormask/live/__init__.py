"""Training on live weights: once a mask is frozen, products and buffers of what is left of it."""

from mirrormask.live.linear import LiveLinear as LiveLinear
from mirrormask.live.report import LiveLayer as LiveLayer
from mirrormask.live.report import LiveReport as LiveReport
from mirrormask.live.switch import go_live as go_live
