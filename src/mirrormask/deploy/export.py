"""Write a finished model for other runtimes: as ONNX, or as a plain torch.export program."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mirrormask.deploy.arguments import module_of
from mirrormask.deploy.csr import CsrModule
from mirrormask.deploy.example_inputs import Inputs, arguments_of
from mirrormask.deploy.extras import optional
from mirrormask.deploy.model_graph import replace_module
from mirrormask.deploy.outputs import output_error, tensors_in
from mirrormask.deploy.pack import save
from mirrormask.deploy.runner.attached import detach
from mirrormask.deploy.sparse_conv import SparseConv2d
from mirrormask.deploy.sparse_embedding import SparseEmbedding
from mirrormask.deploy.sparse_linear import SparseLinear
from mirrormask.errors import ArgumentError, OutputError
from mirrormask.files.paths import path_of

_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was written: bytes of the file, bytes of the same weights packed, and the output error.

    ``runtime`` is where the file was run to compare its outputs with the model's.
    """

    path: str
    runtime: str
    file_bytes: int
    packed_bytes: int
    max_error: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.file_bytes:,} bytes (its weights packed: {self.packed_bytes:,}), "
            f"largest output error in {self.runtime} {self.max_error:.1e}"
        )


def export_model(model: nn.Module, example_inputs: Inputs, path: str | Path) -> ExportReport:
    """Write a model as a dense graph with its zeros, for ``.onnx`` or ``.pt2`` runtimes.

    Sparse layers become dense ones. The file is read back and run, and refused if its outputs
    are not the model's.

    Args:
        model: A model on the CPU, compiled or not; it is not changed.
        example_inputs: A tensor, a tuple of arguments or a mapping of keyword arguments.
        path: ``*.onnx`` needs onnx, onnxscript and onnxruntime; ``*.pt2`` needs nothing but torch.

    Raises:
        ArgumentError: The suffix is unknown, or the model cannot be exported.
        MissingExtraError: An ONNX library is not installed; ``*.pt2`` works without.
        OutputError: The file cannot be written, or does not compute what the model computes.

    Example:
        >>> import tempfile, torch
        >>> folder = tempfile.TemporaryDirectory()
        >>> report = export_model(torch.nn.Linear(3, 2), torch.randn(1, 3), folder.name + "/m.pt2")
        >>> report.runtime, report.max_error
        ('torch.export', 0.0)
    """
    path = path_of(path)
    if path.suffix not in (".onnx", ".pt2"):
        raise ArgumentError(f"{path} has an unknown suffix: name it *.onnx or *.pt2")
    if path.is_dir() or not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: give a file in an existing folder")
    inputs, keywords = arguments_of(example_inputs)
    plain = densified(model)
    with torch.no_grad():
        expected = plain(*inputs, **keywords)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        draft = Path(folder) / path.name
        found: object
        if path.suffix == ".onnx":
            write_onnx(plain, inputs, keywords, draft)
            found, runtime = run_onnx(draft, inputs, keywords), "ONNX Runtime"
        else:
            found, runtime = _write_pt2(plain, inputs, keywords, draft), "torch.export"
        error = output_error(found, tensors_in(expected))
        if error > _TOLERANCE:
            raise OutputError(f"{path} would be wrong by {error:.1e} in {runtime}: not written")
        packed = save(plain, Path(folder) / "packed.safetensors").file_bytes
        size = draft.stat().st_size
        draft.replace(path)
    return ExportReport(
        path=str(path), runtime=runtime, file_bytes=size, packed_bytes=packed, max_error=error
    )


def densified(model: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode in which every sparse layer is an ordinary one again."""
    plain = copy.deepcopy(module_of(model)).eval().requires_grad_(False)
    detach(plain)
    for name, module in list(plain.named_modules()):
        if isinstance(module, SparseLinear | SparseEmbedding | SparseConv2d):
            replace_module(plain, name, module.to_dense())
        elif isinstance(module, CsrModule):
            raise ArgumentError(f"layer {name!r} ({type(module).__name__}) has no dense form")
    return plain


def write_onnx(
    model: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any], path: Path
) -> None:
    """Write one ONNX file with its weights inside.

    Raises:
        MissingExtraError: onnx or onnxscript is missing.
        ArgumentError: The model cannot be exported.
    """
    for library in ("onnx", "onnxscript"):
        optional(library, "ONNX export")
    try:
        with quiet():
            torch.onnx.export(
                model,
                inputs,
                str(path),
                kwargs=dict(keywords) or None,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    # The exporter runs the model's code and raises whatever goes wrong in it.
    except Exception as error:
        raise ArgumentError(
            f"the model cannot be exported to ONNX ({type(error).__name__}): "
            "export it as .pt2, or simplify its forward"
        ) from error


def run_onnx(
    path: Path, inputs: tuple[Any, ...], keywords: Mapping[str, Any]
) -> list[torch.Tensor]:
    """Run an ONNX file in ONNX Runtime and return its outputs."""
    runtime = optional("onnxruntime", "checking an ONNX file")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = session.run(None, onnx_feeds(session, inputs, keywords))
    return [torch.from_numpy(np.asarray(output)) for output in outputs]


def onnx_feeds(
    session: Any, inputs: tuple[Any, ...], keywords: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the session's inputs as arrays that share the tensors' memory."""
    names = [entry.name for entry in session.get_inputs()]
    tensors = [x for x in (*inputs, *keywords.values()) if isinstance(x, torch.Tensor)]
    if set(keywords) >= set(names):
        tensors = [keywords[name] for name in names]
    return {name: x.detach().numpy() for name, x in zip(names, tensors, strict=False)}


def _write_pt2(
    model: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any], path: Path
) -> object:
    try:
        with quiet():
            program = torch.export.export(model, inputs, dict(keywords))
            torch.export.save(program, str(path))
            reread = torch.export.load(str(path)).module()
    except Exception as error:
        raise ArgumentError(
            f"the model cannot be exported ({type(error).__name__}): simplify its forward"
        ) from error
    return reread(*inputs, **keywords)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters' progress reports and hints off the user's terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
