"""A server within the tests: in a thread, where its parts can be slowed down, or as a process of its own."""

import contextlib
import io
import os
import re
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import uvicorn
from PIL import Image

from headstart.delivery.serve import running
from headstart.delivery.serve.app import build
from headstart.delivery.serve.settings import Settings

PATIENCE = 30  # seconds


def wait_until(true, seconds=PATIENCE):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


class Server:
    """A server in a thread: its address, and what it warned of."""

    def __init__(self, settings: Settings):
        self.warnings: list[str] = []
        self.failures: list[Exception] = []
        self.loaded = threading.Event()
        listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        application = partial(build, settings, self.warnings.append, self._on_loaded)
        self._server = uvicorn.Server(running._configuration(settings, application))
        self._thread = threading.Thread(target=self._server.run, args=([listening],), daemon=True)
        self._thread.start()

    def _on_loaded(self, error):
        if error is not None:
            self.failures.append(error)
        self.loaded.set()

    def stop(self):
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def in_thread(run: Path, *, wait=True, **chosen):
    """A server of `run`, or of `models`, with settings."""
    models = chosen.pop("models", (("photos", run),))
    server = Server(Settings(models=models, device="cpu", **chosen))
    try:
        if wait:
            assert server.loaded.wait(PATIENCE)
            assert not server.failures, server.failures
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def as_process(run: Path, cache: Path, *options: str, **environment: str):
    """`headstart serve` as a process; gives it with its port, once it has said that it is ready."""
    process = start(run, cache, *options, **environment)
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        process.port = int(re.search(r":(\d+)/\n", line).group(1))
        process.line = line
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=PATIENCE)


def start(run: Path, cache: Path, *options: str, **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "headstart", "serve", str(run), "--port", "0", "--device", "cpu", *options]
    environment = {**os.environ, "HEADSTART_CACHE": str(cache), **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def client(server, **options) -> httpx.Client:
    """Without the environment's proxies."""
    return httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE, trust_env=False, **options)


def picture(seed=0, size=(48, 40), form="PNG") -> bytes:
    """A noisy picture as the bytes of a file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=form)
    return buffer.getvalue()


def raw_request(port: int, data: bytes, seconds=PATIENCE) -> bytes:
    """What the server sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(data)
        received = bytearray()
        while chunk := connection.recv(65536):
            received += chunk
    return bytes(received)
