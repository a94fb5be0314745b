"""Run random kernel calls and programs under AddressSanitizer and UndefinedBehaviorSanitizer.

python scripts/fuzz_kernels.py 1000000 [SEED]

The same programs with fewer cases are part of the test suite.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from mirrormask.kernels.build import SANITIZERS, build

FOLDER = Path(__file__).parents[1] / "tests" / "kernels"
# Single kernels; convolutions in training; whole programs, sound and damaged.
HARNESSES = ("fuzz", "fuzz_live", "fuzz_program")


def main() -> int:
    """Compile and run the programs; the exit code is that of one that failed."""
    cases = sys.argv[1] if len(sys.argv) > 1 else "1000000"
    seed = sys.argv[2] if len(sys.argv) > 2 else "1"
    codes = []
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder) / "kernels.so", flags=SANITIZERS)
        for name in HARNESSES:
            program = build(
                Path(folder) / name, main=FOLDER / f"{name}.c", library=library, flags=SANITIZERS
            )
            codes.append(subprocess.run([str(program), cases, seed], check=False).returncode)
    return max(codes, key=abs)


if __name__ == "__main__":
    sys.exit(main())
