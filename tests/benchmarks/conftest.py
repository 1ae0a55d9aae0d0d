"""Fixtures of the benchmark tests: the published files where they are, a bare machine, and a server on localhost."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path

import pytest

from ssnr.benchmarks import files as sources
from ssnr.benchmarks.files import DataFile


@pytest.fixture
def needs_data() -> Path:
    """The folder with the published files."""
    folder = os.environ.get("SSNR_DATA")
    if not folder:
        pytest.skip("SSNR_DATA is not set")
    return Path(folder)


@pytest.fixture
def needs_analog() -> None:
    try:
        metadata.distribution("analog-nasbench")
    except metadata.PackageNotFoundError:
        pytest.skip("analog-nasbench is not installed")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without benchmark files and without a network; its (not yet existing) cache folder."""
    cache = tmp_path / "cache"
    monkeypatch.delenv("SSNR_DATA", raising=False)
    monkeypatch.setenv("SSNR_CACHE", str(cache))
    monkeypatch.setenv("SSNR_MIRROR", "http://127.0.0.1:9")  # the discard port: nobody listens
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(sources, "_installed", lambda file: None)
    return cache


class Server:
    """Answers GET: `answers[path]` is the body and the Content-Length to claim (None: none)."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[bytes, int | None]] = {}
        self.asked: list[str] = []
        self.base = ""

    def serve(self, file: DataFile, body: bytes, claim: Callable[[bytes], int | None] = len) -> None:
        self.answers[f"/{file.repository}/{file.commit}/{file.path}"] = body, claim(body)


@pytest.fixture
def server(bare: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that stands in for the public address, on an otherwise bare machine."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            if self.path not in state.answers:
                self.send_error(404)
                return
            body, length = state.answers[self.path]
            self.send_response(200)
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.base = f"http://127.0.0.1:{httpd.server_port}"
    monkeypatch.setenv("SSNR_MIRROR", state.base + "/")
    yield state
    httpd.shutdown()
    httpd.server_close()
    thread.join()
