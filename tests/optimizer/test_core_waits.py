"""No operation inside a step asks a device for a value, as seen by PyTorch's own dispatcher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import mirrormask as mm
from mirrormask.geometry import Factors, compiled_step
from mirrormask.masking import ProjectAndFreeze
from mirrormask.pressure import SeekTarget

# Each needs a number on the host: a value, a truth, or how many elements there are.
WAITING = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "unique")


class Recorder(TorchDispatchMode):
    """Collects the operations that would wait, apart from those of the base on its own counters."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(
        self,
        func: Callable,
        types: Any,
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Note the operation by its name and run it."""
        name = func.overloadpacket.__name__
        boolean_index = name == "index" and any(
            getattr(i, "dtype", None) == torch.bool for i in args[1]
        )
        if name in WAITING or boolean_index:
            self.waits.append(name)
        return func(*args, **(kwargs or {}))


SEEKING = mm.Recipe(
    geometry=Factors(),
    pressure=SeekTarget(),
    masking=ProjectAndFreeze(at=0.5, scope="erk"),
    rebalance=(0.3, 0.5),
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("edited", ["edited", "untouched"])
def test_a_step_asks_for_nothing(
    make_net, recipe, dtype: torch.dtype, edited: str, monkeypatch
) -> None:
    # The compiled loops take numbers; they run on the CPU alone, where asking for them is free.
    monkeypatch.setattr(compiled_step, "kernels", lambda: None)
    for its in (recipe, SEEKING):
        net = make_net().to(dtype)
        base = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        optimizer = mm.sparsify(base, net, sparsity=0.8, steps=20, method=its)
        for step in range(20):
            for parameter in net.parameters():
                parameter.grad = torch.full_like(parameter, 0.01 * (step % 3))
            if edited == "edited":
                net[0].weight.data[3, 3] += 0.25
            with Recorder() as recorder:
                optimizer.step()
            # On the CPU, where asking is free, adopt_edits compares once a tensor, and the mirror
            # step looks once whether its gains are small.
            assert set(recorder.waits) <= {"equal"}, step
            assert len(recorder.waits) <= 4


def test_the_recorder_sees_what_waits() -> None:
    x = torch.tensor([1.0, 0.0])
    with Recorder() as recorder:
        float(x[0])
        bool(x.any())
        x[x > 0]
        x.nonzero()
    assert len(recorder.waits) >= 4
