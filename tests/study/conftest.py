"""Files in the data sets' formats, written byte by byte, and a local server that hands them out."""

from __future__ import annotations

import gzip
import hashlib
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest


def idx_bytes(array: np.ndarray) -> bytes:
    """Write an IDX file by the format's own description, apart from the reader under test."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@dataclass
class FashionFolder:
    path: Path
    arrays: dict[str, np.ndarray]

    @property
    def md5(self) -> dict[str, str]:
        return {
            f.name: hashlib.md5(f.read_bytes()).hexdigest() for f in sorted(self.path.iterdir())
        }


@pytest.fixture
def fashion_folder(tmp_path: Path) -> Callable[..., FashionFolder]:
    """Make a small folder in Fashion-MNIST's layout: 10 classes, 28x28."""

    def make(name: str = "fashion", per_class: int = 6, suffix: str = ".gz") -> FashionFolder:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        rng = np.random.RandomState(7)
        arrays = {}
        for stem, kind, n in (("train", "train", 10 * per_class), ("t10k", "test", 20)):
            images = rng.randint(0, 256, (n, 28, 28)).astype(np.uint8)
            labels = rng.permutation(np.arange(n) % 10).astype(np.uint8)
            arrays[f"{kind}_images"], arrays[f"{kind}_labels"] = images, labels
            for part, array in (("images-idx3", images), ("labels-idx1", labels)):
                content = idx_bytes(array)
                content = gzip.compress(content, mtime=0) if suffix == ".gz" else content
                (folder / f"{stem}-{part}-ubyte{suffix}").write_bytes(content)
        return FashionFolder(folder, arrays)

    return make


@dataclass
class Server:
    """Serves ``files`` over HTTP; a name in ``cut`` breaks off after that many bytes."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def serve_folder(self, folder: Path) -> None:
        self.files.update({f.name: f.read_bytes() for f in folder.iterdir()})


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server(url="")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            state.requests.append(name)
            if name not in state.files:
                self.send_error(404)
                return
            body = state.files[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.cut.get(name, len(body))])

        def log_message(self, format: str, *args: object) -> None:
            """Stay quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_address[1]}"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()
