"""The same model in other CPU runtimes: the dense ones to beat, and dense int8."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from mirrormask.deploy.export import onnx_feeds, quiet, write_onnx
from mirrormask.deploy.extras import optional
from mirrormask.deploy.model_graph import storage_bytes
from mirrormask.deploy.outputs import tensors_in
from mirrormask.errors import MirrormaskError

Kind = Literal["dense", "int8", "ours"]
RUNTIMES = ("torch.compile", "ONNX Runtime", "OpenVINO", "ONNX Runtime int8")
Arguments = tuple[Any, ...]
Keywords = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to run the model: ``prepare`` takes inputs and returns the call to be timed."""

    name: str
    kind: Kind
    weight_bytes: int
    prepare: Callable[[Arguments, Keywords], Callable[[], object]]

    def outputs(self, inputs: Arguments, keywords: Keywords) -> list[torch.Tensor]:
        """Run once and return the outputs as tensors."""
        return [_as_tensor(value) for value in _flat(self.prepare(inputs, keywords)())]


def torch_contender(name: str, kind: Kind, model: nn.Module) -> Contender:
    """Return the contender that calls a module under inference mode."""

    def prepare(inputs: Arguments, keywords: Keywords) -> Callable[[], object]:
        def run() -> object:
            with torch.inference_mode():
                return model(*inputs, **keywords)

        return run

    return Contender(name=name, kind=kind, weight_bytes=storage_bytes(model), prepare=prepare)


def rivals(
    model: nn.Module,
    inputs: Arguments,
    keywords: Keywords,
    *,
    threads: int,
    runtimes: Collection[str] = RUNTIMES,
) -> tuple[list[Contender], dict[str, str]]:
    """Return every rival that works here for this model and input, and why others do not.

    ``model`` must be dense and in evaluation mode.
    """
    found = [torch_contender("eager torch", "dense", model)]
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        builders: dict[str, Callable[[], Contender]] = {
            "torch.compile": lambda: _torch_compile(model, inputs, keywords),
            "ONNX Runtime": lambda: _session(
                _written(model, inputs, keywords, path), "ONNX Runtime", "dense", threads
            ),
            "OpenVINO": lambda: _openvino(_written(model, inputs, keywords, path), threads),
            "ONNX Runtime int8": lambda: _onnx_int8(
                _written(model, inputs, keywords, path), threads
            ),
        }
        for name in RUNTIMES:
            if name not in runtimes:
                missing[name] = "not asked for"
                continue
            try:
                found.append(builders[name]())
            except MirrormaskError as error:
                missing[name] = str(error)
            # A rival that fails on this model is a finding, not an error of the benchmark.
            except Exception as error:
                missing[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    return found, missing


def _torch_compile(model: nn.Module, inputs: Arguments, keywords: Keywords) -> Contender:
    torch.compiler.reset()
    compiled = torch.compile(model)
    with quiet(), torch.inference_mode():
        compiled(*inputs, **keywords)
    contender = torch_contender("torch.compile", "dense", model)

    def prepare(inputs: Arguments, keywords: Keywords) -> Callable[[], object]:
        def run() -> object:
            with torch.inference_mode():
                return compiled(*inputs, **keywords)

        return run

    return Contender(
        name="torch.compile", kind="dense", weight_bytes=contender.weight_bytes, prepare=prepare
    )


def _written(model: nn.Module, inputs: Arguments, keywords: Keywords, path: Path) -> Path:
    """Return the model's ONNX file, written by whoever needs it first."""
    if not path.exists():
        write_onnx(model, inputs, keywords, path)
    return path


def _onnx_int8(path: Path, threads: int) -> Contender:
    quantization = optional("onnxruntime.quantization", "the int8 rival")
    onnx = optional("onnx", "the int8 rival")
    bare, small = path.with_name("bare.onnx"), path.with_name("int8.onnx")
    graph = onnx.load(str(path))
    # The quantiser transposes weights but not their recorded shapes, and then rejects its own work.
    del graph.graph.value_info[:]
    onnx.save(graph, str(bare))
    with quiet():
        quantization.quantize_dynamic(
            str(bare), str(small), weight_type=quantization.QuantType.QInt8
        )
    return _session(small, "ONNX Runtime int8", "int8", threads)


def _session(path: Path, name: str, kind: Kind, threads: int) -> Contender:
    runtime = optional("onnxruntime", "the ONNX Runtime rival")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Its idle threads would otherwise go on spinning while the next contender runs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = runtime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )

    def prepare(inputs: Arguments, keywords: Keywords) -> Callable[[], object]:
        feeds = onnx_feeds(session, inputs, keywords)
        return lambda: session.run(None, feeds)

    return Contender(name=name, kind=kind, weight_bytes=path.stat().st_size, prepare=prepare)


def _openvino(path: Path, threads: int) -> Contender:
    openvino = optional("openvino", "the OpenVINO rival")
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    network = openvino.Core().compile_model(str(path), "CPU", settings)
    request = network.create_infer_request()

    def prepare(inputs: Arguments, keywords: Keywords) -> Callable[[], object]:
        tensors = [x for x in (*inputs, *keywords.values()) if isinstance(x, torch.Tensor)]
        arrays = [tensor.numpy() for tensor in tensors]
        return lambda: list(request.infer(arrays, share_inputs=True, share_outputs=True).values())

    return Contender(
        name="OpenVINO", kind="dense", weight_bytes=path.stat().st_size, prepare=prepare
    )


def _flat(output: object) -> list[Any]:
    if isinstance(output, list):
        return output
    return list(tensors_in(output))


def _as_tensor(value: Any) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else torch.from_numpy(value.copy())
