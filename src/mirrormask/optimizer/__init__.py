"""The one stateful core: an optimizer wrapped so that its weights end as sparse as asked.

- ``core``: :class:`SparseOptimizer`, what training loops see; ``entry`` and ``preconditions`` are
  what it looks at first, ``ending`` and ``finish`` what it does last.
- ``recipe``: geometry, pressure and masking of a run; ``timetable`` what they ask for after a step;
  ``feedback`` and ``measures`` the numbers that they go by; ``cut`` the masks across all weights.
- ``rate_boost``: how much faster sparse layers learn; ``boosting`` follows a run for it.
- ``latent_weight``: one weight in training, a ``held`` tensor with latents and a ``mask``;
  ``base_step`` steps the caller's optimizer on all of them.
- ``checkpoint``, ``shared_checkpoint``, ``shared_entries``: state on one rank and on many;
  ``rewind``: what cycles go back to; ``randomness``: what a run draws.
- ``compacted``: what live weights (:mod:`mirrormask.live`) stand for while they train.
- ``places``, ``engines``, ``sharding``: where weights are, what else may move or wrap them, and
  which runs can be had on shards.
"""

from mirrormask.optimizer.core import SparseOptimizer as SparseOptimizer
from mirrormask.optimizer.rate_boost import RateBoost as RateBoost
from mirrormask.optimizer.recipe import Recipe as Recipe
