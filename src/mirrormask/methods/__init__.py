"""Named methods: each a geometry, a pressure and a masking, with the knobs worth tuning.

One family a file; :mod:`mirrormask.methods.registry` puts them together.
"""

from mirrormask.methods.record import Knob as Knob
from mirrormask.methods.record import Method as Method
from mirrormask.methods.record import Refusal as Refusal
from mirrormask.methods.registry import METHODS as METHODS
from mirrormask.methods.registry import load_plugins as load_plugins
from mirrormask.methods.registry import method as method
from mirrormask.methods.registry import register as register
from mirrormask.methods.registry import unregister as unregister
