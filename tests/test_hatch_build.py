"""Installation: with the kernels where there is a compiler, and without them everywhere else."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("hatchling")
HOOK = Path(__file__).parents[1] / "hatch_build.py"


@pytest.fixture
def initialize(monkeypatch, tmp_path):
    """Run the hook on a project whose builder is as the test wants it."""
    folder = tmp_path / "src" / "mirrormask" / "kernels"
    folder.mkdir(parents=True)

    def run(builder: str, version: str = "standard"):
        (folder / "build.py").write_text("class BuildError(Exception): pass\n" + builder)
        warnings: list[str] = []
        app = SimpleNamespace(display_warning=warnings.append)
        kind = runpy.run_path(str(HOOK))["KernelsHook"]
        hook = kind(str(tmp_path), {}, None, None, str(tmp_path), "wheel", app)
        data = {"pure_python": True, "force_include": {}}
        hook.initialize(version, data)
        return data, warnings

    return run


WORKS = "from pathlib import Path\ndef build(): return Path('/somewhere/libmirrormask.so')\n"


def test_the_wheel_holds_the_library_and_is_for_this_platform(initialize):
    data, warnings = initialize(WORKS)
    assert not warnings
    assert data["pure_python"] is False
    assert data["tag"].startswith("py3-none-")
    assert data["force_include"] == {
        "/somewhere/libmirrormask.so": "mirrormask/kernels/libmirrormask.so"
    }
    data, _ = initialize(WORKS, "editable")
    assert not data["force_include"]


@pytest.mark.parametrize("error", ["BuildError('no C compiler')", "OSError('disk full')"])
def test_without_kernels_the_installation_succeeds_and_says_how_to_get_them(initialize, error):
    data, (warning,) = initialize(f"def build(): raise {error}\n")
    assert data == {"pure_python": True, "force_include": {}}
    assert "without compiled kernels" in warning
    assert "mirrormask doctor --build" in warning
    assert error.split("'")[1] in warning


def test_the_hook_finds_the_real_builder():
    names = runpy.run_path(str(HOOK))
    module = names["_maker"](HOOK.parent)
    assert module.LIBRARY.parent == HOOK.parent / "src" / "mirrormask" / "kernels"
    assert issubclass(module.TargetError, module.BuildError)
    assert "mirrormask_kernels_build" not in sys.modules
