"""Pressures: how strongly weights are pulled to zero, over optimizer steps."""

from mirrormask.pressure.algorithm1 import Algorithm1 as Algorithm1
from mirrormask.pressure.base import Application as Application
from mirrormask.pressure.base import Clock as Clock
from mirrormask.pressure.base import Constant as Constant
from mirrormask.pressure.base import NoPressure as NoPressure
from mirrormask.pressure.base import Pressure as Pressure
from mirrormask.pressure.base import PressureState as PressureState
from mirrormask.pressure.base import TrainingSignal as TrainingSignal
from mirrormask.pressure.seek import SeekTarget as SeekTarget
from mirrormask.pressure.sparsity_controller import SparsityController as SparsityController
from mirrormask.pressure.strength import Strength as Strength
