"""Latency of the sparse MiniLM that ``minilm.py`` packed, beside the dense one in ONNX Runtime.

All contenders compute the same function, the sparse student: dense in eager torch and ONNX Runtime
(zeros are numbers there), dense and quantised to int8 as ONNX Runtime does it on the fly, and
compiled by this package. They take turns in one run. What each of the two packed files is worth on
the held-out text is measured, too.

    HF_HUB_OFFLINE=1 python benchmarks/minilm_speed.py --models here \
        --out benchmarks/results/minilm_speed.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import mirrormask as mm
from minilm import HELD_OUT, LENGTH, VALUES, embed, load, teach, tokens
from mirrormask.deploy import BenchOptions, bench

BATCHES = (1, 8)
RUNTIMES = ("ONNX Runtime", "ONNX Runtime int8")


class Encoder(nn.Module):
    """MiniLM as a function of two tensors, with its token states as the only output."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return [n, tokens, width]."""
        states: Tensor = self.inside(input_ids, attention_mask=attention_mask).last_hidden_state
        return states


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--student", default="pilot, 0.9")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    test = tokens("test", HELD_OUT)
    wanted = embed(teach(load(), test), test["attention_mask"])
    student, cosine = load(), {}
    for values in reversed(VALUES):  # the exact one stays
        mm.load(options.models / f"{options.student}, {values}.safetensors", student)
        mine = embed(teach(student, test), test["attention_mask"])
        cosine[values] = float((mine * wanted).sum(1).mean())
    example = tuple(test[name][: max(BATCHES)] for name in ("input_ids", "attention_mask"))
    report = bench(
        Encoder(student).eval(),
        example,
        options=BenchOptions(batches=BATCHES, runtimes=RUNTIMES, rounds=options.rounds),
    )
    result: dict[str, Any] = {
        "script": "benchmarks/minilm_speed.py",
        "torch": torch.__version__,
        "machine": report.machine,
        "student": options.student,
        "tokens a text": LENGTH,
        "cosine": cosine,
        "missing": report.missing,
        "rows": [asdict(row) for row in report.rows],
    }
    for row in report.rows:
        print(
            f"batch {row.batch} {row.contender:18} {row.milliseconds:8.2f} ms "
            f"{row.gain.median:.2f}x ({row.gain.low:.2f}-{row.gain.high:.2f}) of {row.best_dense}, "
            f"error {row.output_error:.1e} {row.note}",
            flush=True,
        )
    print(report.missing)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
