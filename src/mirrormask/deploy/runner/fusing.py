"""Let the product that comes before an addition, a ReLU or a BatchNorm do it on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import fx

from mirrormask.deploy.runner.layers import Builder
from mirrormask.deploy.runner.operations import Operation, Product, Sparse
from mirrormask.deploy.runner.storage import Storage, View


class Fuser:
    """Finds the product behind a tensor that nobody else reads."""

    def __init__(self, builder: Builder, views: Mapping[fx.Node, View]) -> None:
        self._builder, self._views = builder, views

    def relu(self, node: Any, view: View) -> bool:
        """Make the tensor's product rectify it, if it may."""
        product = self._product(node, view)
        if product is None:
            return False
        product.relu = True
        return True

    def scale(
        self,
        node: Any,
        view: View,
        factor: npt.NDArray[np.float64],
        shift: npt.NDArray[np.float64],
    ) -> bool:
        """Fold a factor and a summand for each channel of the buffer into the weights.

        Zeros stay zeros.
        """
        product = self._product(node, view)
        if product is None or product.add is not None:
            return False
        bias = 0.0 if product.bias is None else product.bias.astype(np.float64)
        product.weight = (product.weight * factor[:, None]).astype(np.float32)
        product.bias = (bias * factor + shift).astype(np.float32)
        return True

    def add(self, left: tuple[Any, View], right: tuple[Any, View]) -> View | None:
        """Make the later of two tensors' products add the other tensor; return the sum, or None."""
        found = []
        if left[1].storage is right[1].storage:
            return None
        for (node, view), (_, other) in ((left, right), (right, left)):
            product = self._product(node, view)
            if product is not None and product.add is None:
                found.append((self._operations().index(product), product, view, other))
        for _, product, view, other in sorted(found, key=lambda entry: -entry[0]):
            layout = self._builder.mover.like(other, view)
            assert isinstance(layout.storage, Storage)
            if isinstance(product, Sparse):
                product.out.grid.link(layout.storage.grid)
            product.add = layout
            # The other tensor may come later than the product, which nobody has read so far.
            self._operations().remove(product)
            self._operations().append(product)
            return view
        return None

    def _operations(self) -> list[Operation]:
        return self._builder.network.operations

    def _product(self, node: Any, view: View) -> Product | None:
        """Return the product that fills a tensor which one reader reads as it is."""
        while isinstance(node, fx.Node) and node in self._views:
            if self._views[node].storage is not view.storage:
                break
            if len(node.users) != 1:
                return None
            node = node.args[0] if node.args else None
        for operation in reversed(self._operations()):
            if operation.out is view.storage:
                free = isinstance(operation, Product) and not operation.relu
                return operation if free else None  # type: ignore[return-value]
        return None
