"""Maskings: when weights are cut, how many from each tensor, and which, exactly."""

from mirrormask.masking.acdc import ACDC as ACDC
from mirrormask.masking.budget import Scope as Scope
from mirrormask.masking.budget import zeros_asked as zeros_asked
from mirrormask.masking.budget import zeros_per_tensor as zeros_per_tensor
from mirrormask.masking.cycles import Cycles as Cycles
from mirrormask.masking.exact import keep_at as keep_at
from mirrormask.masking.exact import keep_largest as keep_largest
from mirrormask.masking.exact import kth_smallest as kth_smallest
from mirrormask.masking.groups import Block as Block
from mirrormask.masking.groups import Rows as Rows
from mirrormask.masking.n_of_m import NofM as NofM
from mirrormask.masking.pattern import Pattern as Pattern
from mirrormask.masking.pattern import Unstructured as Unstructured
from mirrormask.masking.policy import AtEnd as AtEnd
from mirrormask.masking.policy import Candidates as Candidates
from mirrormask.masking.policy import GradualCubic as GradualCubic
from mirrormask.masking.policy import Masking as Masking
from mirrormask.masking.policy import ProjectAndFreeze as ProjectAndFreeze
from mirrormask.masking.policy import Rewind as Rewind
from mirrormask.masking.regrowth import SET as SET
from mirrormask.masking.regrowth import Regrowth as Regrowth
from mirrormask.masking.regrowth import RigL as RigL
from mirrormask.masking.static import StaticRandom as StaticRandom
