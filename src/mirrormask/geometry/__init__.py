"""Geometries: how a weight is represented and how it moves.

Pure functions of tensors, one geometry a file. Nothing here knows of optimizers, schedules or
masks, so the code that trains is the code that the theory tests prove.
"""

from mirrormask.geometry.base import Geometry as Geometry
from mirrormask.geometry.base import Landing as Landing
from mirrormask.geometry.base import Latents as Latents
from mirrormask.geometry.bregman import Bregman as Bregman
from mirrormask.geometry.depth import Depth as Depth
from mirrormask.geometry.euclidean import Euclidean as Euclidean
from mirrormask.geometry.factors import Factors as Factors
from mirrormask.geometry.gate import Gate as Gate
from mirrormask.geometry.group_gate import GroupGate as GroupGate
from mirrormask.geometry.hyperbolic import Hyperbolic as Hyperbolic
from mirrormask.geometry.mirror import Mirror as Mirror
from mirrormask.geometry.power import Power as Power
from mirrormask.geometry.power_decay import PowerDecay as PowerDecay
from mirrormask.geometry.scaled_mirror import ScaledMirror as ScaledMirror
from mirrormask.geometry.soft_threshold import SoftThreshold as SoftThreshold
