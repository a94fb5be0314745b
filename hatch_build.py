"""Compile the kernels into the wheel; without a compiler the wheel is pure Python and says so."""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelsHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs ``src/mirrormask/kernels/build.py`` for wheels, editable ones too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tag the wheel for this platform: it needs no particular Python."""
        maker = _maker(Path(self.root))
        try:
            library = maker.build()
        # A full disk or a folder that cannot be written is no reason not to install the rest.
        except (maker.BuildError, OSError) as error:
            self.app.display_warning(
                f"mirrormask is installed without compiled kernels ({error}). Everything works, "
                "sparse models run slower. With a C compiler: mirrormask doctor --build"
            )
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        if version != "editable":
            build_data["force_include"][str(library)] = f"mirrormask/kernels/{library.name}"


def _maker(root: Path) -> ModuleType:
    """Load the builder by its path: the package itself would need torch, which is missing here."""
    path = root / "src" / "mirrormask" / "kernels" / "build.py"
    spec = importlib.util.spec_from_file_location("mirrormask_kernels_build", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
