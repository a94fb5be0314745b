"""Compile the kernels: plain C, one shared library, no dependency but a C compiler.

The package build calls this (``hatch_build.py``), and ``mirrormask doctor --build`` does where the
package was installed without a compiler. Nothing here imports anything but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCE = Path(__file__).parent / "source"
LIBRARY = Path(__file__).parent / "libmirrormask.so"
# Contraction is what makes multiply-adds of a * b + c; nothing else is allowed to change results.
_FLAGS = (
    "-std=gnu11",
    "-O3",
    "-fPIC",
    "-ffp-contract=fast",
    "-fvisibility=default",
    "-fno-math-errno",
    "-Wall",
)
# Each variant of the inner loops, and the flags that it is compiled with.
_X86 = {
    "portable": (),
    "avx2": ("-mavx2", "-mfma"),
    "avx512": ("-mavx512f", "-mavx512vl", "-mavx512dq", "-mfma", "-mprefer-vector-width=512"),
}
# The files that are compiled once for each variant, what their variants' names begin with, and the
# flags that they need. What trains gives the same bits on every processor: nothing is contracted.
_VARIED: dict[str, tuple[str, tuple[str, ...]]] = {
    "panel": ("mm_variant", ()),
    "planes": ("mm_planes", ()),
    "images": ("mm_images", ()),
    "points": ("mm_points", ()),
    "lanes": ("mm_lanes", ()),
    "tiles": ("mm_tiles", ()),
    "windows": ("mm_windowed", ()),
    "flow_loops": ("mm_flow", ("-ffp-contract=off",)),
}


# For tests and fuzzing: stop at the first wrong access, share even the smallest work out, cut even
# the smallest matrix into blocks, and lay every convolution out in tiles or in strips.
SANITIZERS = (
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-g1",
    "-O1",
    "-DMM_LEAST_WORK=1",
    "-DMM_LEAST_BLOCK=1",
    "-DMM_ALWAYS_TILES=1",
)


class BuildError(Exception):
    """The kernels cannot be compiled here; the text says why in one line."""


class TargetError(BuildError):
    """They were compiled, but the library cannot be written to its place."""


def compiler() -> list[str]:
    """Return the command of the C compiler: ``$CC``, or the first of cc, gcc and clang.

    Raises:
        BuildError: There is none.
    """
    try:
        named = shlex.split(os.environ.get("CC", ""))
    except ValueError as error:
        raise BuildError(f"CC={os.environ['CC']!r} is no command: {error}") from error
    for command in [named] if named else [["cc"], ["gcc"], ["clang"]]:
        if shutil.which(command[0]):
            return command
    raise BuildError(f"no C compiler: {named[0] if named else 'cc, gcc or clang'} was not found")


def build(
    target: Path = LIBRARY,
    *,
    main: Path | None = None,
    library: Path | None = None,
    flags: Sequence[str] = (),
) -> Path:
    """Compile to ``target``, whole or not at all.

    Args:
        target: The file to write.
        main: A C file with a ``main``: the target is then a program, not a library.
        library: The kernels as built before, with the same flags, for a program that need not
            contain them.
        flags: More flags for the compiler, such as those of sanitizers.

    Raises:
        BuildError: There is no compiler, or it fails.
        TargetError: The target cannot be written.
    """
    if sys.platform not in ("linux", "darwin"):
        raise BuildError(f"the kernels are written for GCC and Clang, not for {sys.platform}")
    command = [*compiler(), *_FLAGS, *flags]
    if not os.access(target.parent, os.W_OK | os.X_OK):
        # Said before a minute of compiling.
        why = "may not be written to" if target.parent.is_dir() else "is no folder"
        raise TargetError(f"{target} cannot be written: {target.parent} {why}")
    kind = ["-shared", "-lm"] if main is None else ["-lm"]
    if library is not None:
        kind = [str(library), f"-Wl,-rpath,{library.parent}", *kind]
    with tempfile.TemporaryDirectory() as folder:
        objects, jobs = [], []
        for name, path, own in _parts(main, kernels=library is None):
            objects.append(str(Path(folder) / f"{name}.o"))
            jobs.append([*command, *own, "-c", str(path), "-o", objects[-1]])
        with ThreadPoolExecutor(os.cpu_count()) as workers:
            list(workers.map(_run, jobs))
        made = Path(folder) / target.name
        _run([*command, *objects, "-o", str(made), "-pthread", *kind])
        # A library that a running process has mapped must never be overwritten, only replaced.
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            shutil.copy(made, beside)
            beside.replace(target)
        except OSError as error:
            raise TargetError(f"{target} cannot be written: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                beside.unlink()
    return target


def _parts(main: Path | None, *, kernels: bool) -> Iterator[tuple[str, Path, list[str]]]:
    """Yield a name, a C file and its own flags for each object file."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    variants = _X86 if x86 else {"portable": ()}
    common = [f"-I{SOURCE}", *(["-DMM_X86"] if x86 else [])]
    sources = sorted(SOURCE.glob("*.c")) if kernels else []
    for path in [*sources, *([main] if main else [])]:
        if path.stem not in _VARIED:
            yield path.stem, path, common
            continue
        prefix, needed = _VARIED[path.stem]
        for name, own in variants.items():
            flags = [*common, *own, *needed, f"-DMM_NAME={prefix}_{name}"]
            yield f"{path.stem}_{name}", path, flags


def _run(job: Sequence[str]) -> None:
    try:
        done = subprocess.run(job, capture_output=True, text=True, check=False, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{job[0]} could not be run ({type(error).__name__})") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or ["no message"]
        raise BuildError(f"{job[0]} failed: {lines[0].strip()[:200]}")
