"""Two experiments in plain C behind decisions about the kernels; nothing of them is shipped.

python benchmarks/kernel_limits.py

`value_types.c`: would indices of 16 bits and values in float16 or int8 make sparse products
faster? `load_limits.c`: what share of the multiply-add peak is there to reach, when every
multiply-add loads an input of its own? Both need a processor with AVX-512. Raw figures go to
benchmarks/results/kernel_limits.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mirrormask.deploy.timing import machine
from mirrormask.kernels.build import compiler

HERE = Path(__file__).parent
RESULT = HERE / "results" / "kernel_limits.json"
FLAGS = ("-O3", "-march=native", "-mprefer-vector-width=512", "-Wall")
# Inputs, outputs, zeros, rounds: the layers of the benchmarked MLP; one of a large language model.
MATRICES = (
    (1024, 4096, 0.9, 101),
    (4096, 1024, 0.9, 101),
    (4096, 11008, 0.8, 25),
    (4096, 11008, 0.9, 35),
    (4096, 11008, 0.95, 51),
)


def built(folder: str, name: str) -> str:
    """Compile one of the experiments and return its path."""
    program = str(Path(folder) / name)
    command = [*compiler(), *FLAGS, "-o", program, str(HERE / f"{name}.c"), "-lm"]
    subprocess.run(command, check=True)
    return program


def lines(*command: str) -> list[list[str]]:
    """Run an experiment and return the fields of its lines."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed: {done.stdout}{done.stderr}")
    return [line.split(";") for line in done.stdout.splitlines()]


def value_types(program: str) -> list[dict[str, Any]]:
    rows = []
    for width, out, zeros, rounds in MATRICES:
        for name, batch, weights, *times in lines(
            program, str(width), str(out), str(zeros), str(rounds)
        ):
            median, low, high = (float(time) for time in times)
            row: dict[str, Any] = {"inputs": width, "outputs": out, "sparsity": zeros}
            row["batch"] = int(batch)
            row |= {"storage": name, "weights": int(weights), "microseconds": median}
            rows.append({**row, "low": low, "high": high})
            print(
                f"{width}-{out} {zeros:.0%} batch {batch:>2} {name:16} {median:.0f} us", flush=True
            )
    return rows


def load_limits(program: str) -> list[dict[str, Any]]:
    rows = []
    for kilobytes, aligned, vectors, share in lines(program):
        row = {"kilobytes": int(kilobytes), "aligned": aligned == "1", "vectors": int(vectors)}
        rows.append({**row, "share": float(share)})
        print(f"{kilobytes} KB, aligned {aligned}, {vectors} vectors: {float(share):.0%} of peak")
    return rows


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        values, loads = built(folder, "value_types"), built(folder, "load_limits")
        data = {"machine": machine(), "values": value_types(values), "loads": load_limits(loads)}
    RESULT.write_text(json.dumps(data, indent=1) + "\n")
    print("written", RESULT.name)


if __name__ == "__main__":
    main()
