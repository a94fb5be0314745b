"""What a multiply-add of the kernels costs in instructions, loads and misses, counted by callgrind.

python benchmarks/kernel_counts.py

Runs `kernel_counts.c` with the AVX2 kernels, because Valgrind knows no AVX-512, once with one
product and once with three, and takes the difference: what is counted is products in steady use,
on one thread, with this machine's first two levels of caches. Valgrind takes a multiply-add apart
into lanes, so that it counts as many reads as the register has floats where there is one load. Raw
figures go to benchmarks/results/kernel_counts.json.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mirrormask.deploy.timing import machine
from mirrormask.kernels.build import build
from mirrormask.kernels.structures import VARIANTS

HERE = Path(__file__).parent
RESULT = HERE / "results" / "kernel_counts.json"
LEVELS = (0.9, 0.95, 0.99)
LANES = 8  # floats of an AVX2 register
# The events of callgrind, in the order of its totals.
EVENTS = ("Ir", "Dr", "Dw", "I1mr", "D1mr", "D1mw", "ILmr", "DLmr", "DLmw")


def caches() -> list[str]:
    """Return the options for a simulation of this machine's first and second level."""
    options = []
    for name, level in (("D1", "LEVEL1_DCACHE"), ("LL", "LEVEL2_CACHE")):
        size, ways, line = (
            subprocess.check_output(["getconf", f"{level}_{what}"], text=True).strip()
            for what in ("SIZE", "ASSOC", "LINESIZE")
        )
        options.append(f"--{name}={size},{ways},{line}")
    return options


def totals(program: Path, kernel: str, zeros: float, repeats: int) -> tuple[float, list[int]]:
    """Return the multiply-adds of one product, and the events of the whole run."""
    variant = str(VARIANTS.index("avx2"))
    counts = program.with_name("counts")
    command = ["valgrind", "--tool=callgrind", "--cache-sim=yes", *caches()]
    command += [f"--callgrind-out-file={counts}", str(program), kernel]
    command += [str(zeros), variant, str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed: {done.stderr[-400:]}")
    found = re.search(r"^totals: (.+)$", counts.read_text(), re.MULTILINE)
    assert found is not None
    return float(done.stdout), [int(number) for number in found[1].split()]


def main() -> None:
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder) / "kernel_counts", main=HERE / "kernel_counts.c")
        for kernel in ("linear", "conv"):
            for zeros in LEVELS:
                products, one = totals(program, kernel, zeros, 1)
                _, three = totals(program, kernel, zeros, 3)
                each = [(b - a) / 2 for a, b in zip(one, three, strict=True)]
                events = dict(zip(EVENTS, each, strict=True))
                rows.append({"kernel": kernel, "zeros": zeros, "multiply_adds": products, **events})
                per = {name: value * LANES / products for name, value in events.items()}
                print(kernel, zeros, {name: round(value, 3) for name, value in per.items()})
    data = {"machine": machine(), "lanes": LANES, "caches": caches(), "rows": rows}
    RESULT.write_text(json.dumps(data, indent=1) + "\n")
    print("written", RESULT.name)


if __name__ == "__main__":
    main()
