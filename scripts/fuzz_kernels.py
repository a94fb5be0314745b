"""Run random kernel calls under AddressSanitizer and UndefinedBehaviorSanitizer.

python scripts/fuzz_kernels.py 1000000 [SEED]

The same program with fewer cases is part of the test suite.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from mirrormask.kernels.build import SANITIZERS, build

HARNESS = Path(__file__).parents[1] / "tests" / "kernels" / "fuzz.c"


def main() -> int:
    """Compile and run; the exit code is the program's."""
    cases = sys.argv[1] if len(sys.argv) > 1 else "1000000"
    seed = sys.argv[2] if len(sys.argv) > 2 else "1"
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder) / "fuzz", main=HARNESS, flags=SANITIZERS)
        return subprocess.run([str(program), cases, seed], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
