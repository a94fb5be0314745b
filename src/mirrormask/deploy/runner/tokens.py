"""Add what mixes the features of a token, or tokens: LayerNorm and attention."""

from __future__ import annotations

from mirrormask.deploy.runner import operations as ops
from mirrormask.deploy.runner.layers import Builder
from mirrormask.deploy.runner.moves import same_grid
from mirrormask.deploy.runner.operations import Array
from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.storage import Storage, View
from mirrormask.deploy.runner.views import CHANNELS, COLUMNS, IMAGES, Atom, Dimensions, whole


def norm(
    builder: Builder,
    x: View,
    weight: Array | None,
    bias: Array | None,
    epsilon: float,
    *,
    label: str,
) -> View:
    """Add a LayerNorm over the last dimension."""
    x = builder.mover.as_features(x)
    source = x.storage
    assert isinstance(source, Storage)
    if x.dims[-1] != whole(CHANNELS, source.sizes[CHANNELS]):
        raise UnsupportedError("LayerNorm over features in another order")
    out = same_grid(source, source.sizes)
    builder.network.operations.append(
        ops.Norm(label=label, source=x, out=out, weight=weight, bias=bias, epsilon=epsilon)
    )
    return View(storage=out, dims=x.dims)


def attention(
    builder: Builder, q: View, k: View, v: View, *, scale: float, causal: bool, label: str
) -> View:
    """Add attention for ``[n, heads, tokens, depth]``."""
    for view in (q, k, v):
        if not isinstance(view.storage, Storage) or view.dims != _head_dims(view):
            raise UnsupportedError("attention over heads that do not lie side by side in features")
    source = q.storage
    assert isinstance(source, Storage)
    heads, value_depth = q.shape[1], v.shape[3]
    out = same_grid(source, (*source.sizes[:1], heads * value_depth, *source.sizes[2:]))
    builder.network.operations.append(
        ops.Attention(label=label, q=q, k=k, v=v, out=out, heads=heads, scale=scale, causal=causal)
    )
    view = View(storage=out, dims=(q.dims[0], (), q.dims[2], ()))
    heads_atom = (Atom(CHANNELS, heads, value_depth),) if heads > 1 else ()
    return View(
        storage=out, dims=(view.dims[0], heads_atom, view.dims[2], whole(CHANNELS, value_depth))
    )


def _head_dims(view: View) -> Dimensions:
    storage = view.storage
    assert isinstance(storage, Storage)
    if len(view.shape) != 4:
        return ()
    images, heads, tokens, depth = view.shape
    if storage.sizes != (images, heads * depth, 1, tokens):
        return ()
    return (
        whole(IMAGES, images),
        (Atom(CHANNELS, heads, depth),) if heads > 1 else (),
        whole(COLUMNS, tokens),
        whole(CHANNELS, depth),
    )
