"""Fill a model from a packed file without ever holding the dense weights of its sparse layers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from mirrormask.deploy.arguments import module_of
from mirrormask.deploy.csr import CSR_DTYPES, CsrModule
from mirrormask.deploy.decode import check_tensor, decode_csr, decode_dense
from mirrormask.deploy.manifest import Entry, Table, read_manifest
from mirrormask.deploy.model_graph import has_hooks, replace_module
from mirrormask.deploy.sparse_embedding import SparseEmbedding
from mirrormask.deploy.sparse_linear import SparseLinear
from mirrormask.errors import ArgumentError, CheckpointError
from mirrormask.files.container import ContainerReader


def load_sparse(path: str | Path, model: nn.Module, *, min_sparsity: float = 0.5) -> nn.Module:
    """Fill a model from a packed file, with sparse layers where the file has enough zeros.

    Linear layers and embeddings go from the file straight into CSR arrays: their dense weights
    are never held. Everything else is loaded dense. Nothing is timed: this is for memory;
    :func:`mirrormask.compile` is for speed.

    Args:
        path: A file written by :func:`mirrormask.save`.
        model: The model that was saved, best built under ``torch.device("meta")`` so that it
            takes no memory itself. It is changed in place.
        min_sparsity: A layer becomes sparse from this share of zeros on; CSR takes less memory
            than float32 from 0.5 on.

    Returns:
        The model, in evaluation mode and without gradients.

    Raises:
        DataError: The file cannot be read.
        CheckpointError: The file is damaged, or belongs to another model.
        ArgumentError: ``min_sparsity`` is impossible, or the model has buffers on the meta device
            that no file holds.

    Example:
        >>> import tempfile, torch
        >>> from mirrormask.deploy.pack import save
        >>> dense = torch.nn.Linear(64, 64)
        >>> _ = torch.nn.init.eye_(dense.weight)
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = save(torch.nn.Sequential(dense), folder.name + "/eye.safetensors")
        >>> with torch.device("meta"):
        ...     net = torch.nn.Sequential(torch.nn.Linear(64, 64))
        >>> load_sparse(folder.name + "/eye.safetensors", net)[0]
        SparseLinear(in_features=64, out_features=64, 98.44% zeros)
    """
    if not 0 <= min_sparsity <= 1:
        raise ArgumentError(f"min_sparsity={min_sparsity} must lie between 0 and 1")
    module_of(model)
    with ContainerReader(path) as reader:
        table = read_manifest(reader.metadata, reader.parts, reader.fail)
        entries = {name: _entry(table, name) for name in table}
        _check_model(reader, entries, model)
        for name, stored in table.items():
            if isinstance(stored, Entry):
                check_tensor(reader, name, stored)
        # Only what the module tree itself ties is tied again; a shared weight stays dense.
        counts: dict[int, int] = {}
        for _, tensor in model.named_parameters(remove_duplicate=False):
            counts[id(tensor)] = counts.get(id(tensor), 0) + 1
        sparse = set()
        for name, module in list(model.named_modules()):
            weight = f"{name}.weight" if name else "weight"
            if name and _goes_sparse(module, entries.get(weight), min_sparsity, counts):
                replace_module(model, name, _sparse_module(reader, weight, entries, module))
                sparse.add(weight)
                if f"{name}.bias" in entries:
                    sparse.add(f"{name}.bias")
        _fill_rest(reader, table, model, sparse)
    return model.eval().requires_grad_(False)


def _entry(table: Table, name: str) -> Entry:
    stored = table[name]
    entry = stored if isinstance(stored, Entry) else table[stored]
    assert isinstance(entry, Entry)
    return entry


def _check_model(reader: ContainerReader, entries: dict[str, Entry], model: nn.Module) -> None:
    state = model.state_dict(keep_vars=True)
    if set(state) != set(entries):
        odd = sorted(set(state) ^ set(entries))
        raise CheckpointError(
            f"{reader.path} belongs to another model: only one of the two has {odd[:3]}; "
            "build the model that was saved"
        )
    for name, tensor in state.items():
        entry = entries[name]
        if tuple(tensor.shape) != entry.shape or tensor.dtype != entry.torch_dtype:
            raise CheckpointError(
                f"{reader.path} holds {name!r} as {entry.dtype} {list(entry.shape)}, the model as "
                f"{tensor.dtype} {list(tensor.shape)}: build the model that was saved"
            )
    for name, buffer in model.named_buffers():
        if buffer.is_meta and name not in state:
            raise ArgumentError(
                f"buffer {name!r} is on the meta device and no file holds it: "
                "build the model on the CPU"
            )


def _goes_sparse(
    module: nn.Module, entry: Entry | None, min_sparsity: float, counts: dict[int, int]
) -> bool:
    kind = type(module)
    if entry is None or entry.layout == "dense" or kind not in (nn.Linear, nn.Embedding):
        return False
    if has_hooks(module) or getattr(module, "max_norm", None) is not None:
        return False
    if entry.torch_dtype not in CSR_DTYPES or any(counts[id(p)] > 1 for p in module.parameters()):
        return False
    return entry.nonzeros <= (1.0 - min_sparsity) * entry.length


def _sparse_module(
    reader: ContainerReader, weight: str, entries: dict[str, Entry], module: nn.Module
) -> CsrModule:
    csr = decode_csr(reader, weight, entries[weight])
    if isinstance(module, nn.Embedding):
        return SparseEmbedding(csr)
    bias_name = weight.removesuffix("weight") + "bias"
    bias = entries.get(bias_name)
    return SparseLinear(csr, None if bias is None else decode_dense(reader, bias_name, bias))


def _fill_rest(reader: ContainerReader, table: Table, model: nn.Module, done: set[str]) -> None:
    """Give every other parameter and buffer its values, tensor by tensor."""
    given: dict[int, torch.Tensor] = {}
    for name in table:
        if name in done:
            continue
        owner_name, _, leaf = name.rpartition(".")
        owner = model.get_submodule(owner_name)
        old = getattr(owner, leaf)
        if id(old) not in given:
            tensor = decode_dense(reader, name, _entry(table, name))
            is_parameter = leaf in owner._parameters
            given[id(old)] = nn.Parameter(tensor, requires_grad=False) if is_parameter else tensor
        table_of_owner = owner._parameters if leaf in owner._parameters else owner._buffers
        table_of_owner[leaf] = given[id(old)]  # type: ignore[assignment]
