"""Training on live weights: once a mask is frozen, products and buffers of what is left of it."""

from mirrormask.live.layers import LiveConv1d as LiveConv1d
from mirrormask.live.layers import LiveConv2d as LiveConv2d
from mirrormask.live.layers import LiveLinear as LiveLinear
from mirrormask.live.report import LiveLayer as LiveLayer
from mirrormask.live.report import LiveReport as LiveReport
from mirrormask.live.switch import go_live as go_live
