"""The server's processes: one, or several that share a socket; watched, and stopped without losing a request."""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from headstart.delivery import artefact
from headstart.delivery.serve.metrics import SHARED
from headstart.delivery.serve.settings import Settings
from headstart.errors import HeadstartError, UsageError

BACKLOG = 2048
_GRACE = 5  # seconds beyond those that a request may take, in which all must be answered after a signal to stop

Say = Callable[[str], None]


def serve(settings: Settings, say: Say, warn: Say) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer what was accepted.

    `say` gets one line with the address as soon as answers can be had; `warn` gets what an operator should know.

    Raises:
        UsageError: the address cannot be had.
        ModelError: a model cannot be loaded.
    """
    for _, path in settings.models:
        artefact.find(path)
    if not settings.is_local and settings.token is None:
        warn("note: everyone who can reach this address can use the model; --token restricts it.")
    listening = _listen(settings)
    line = f"headstart serves {', '.join(name for name, _ in settings.models)} on {_address(settings, listening)}"
    if settings.workers == 1:
        _serve_here(settings, listening, lambda: say(line), warn)
    else:
        _serve_with_workers(settings, listening, lambda: say(line))


def _serve_here(settings: Settings, listening: socket.socket, ready: Callable[[], None], warn: Say) -> None:
    from headstart.delivery.serve.app import build

    failure: list[HeadstartError] = []

    def on_loaded(error: HeadstartError | None) -> None:
        if error is None:
            ready()
        else:
            failure.append(error)
            server.should_exit = True

    _log_errors()
    server = _Server(_configuration(settings, partial(build, settings, warn, on_loaded)))
    server.run([listening])
    if failure:
        raise failure[0]


class _Server(uvicorn.Server):
    """A server that ends as if by itself when it is told to: its process leaves with 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Without raising the signals once more when all is done, as uvicorn does."""
        taken = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, former in taken.items():
                signal.signal(number, former)


def _serve_with_workers(settings: Settings, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Several processes, each with its models; one that dies is replaced."""
    warm = multiprocessing.get_context("spawn").Semaphore(0)
    with tempfile.TemporaryDirectory(prefix="headstart-metrics-") as folder:
        os.environ[SHARED] = folder
        supervisor = _Supervisor(_configuration(settings, partial(_build_worker, settings, warm)), [listening])
        supervisor.warm, supervisor.when_ready = warm, ready
        supervisor.run()
        del os.environ[SHARED]
    if any(process.exitcode == _CANNOT_LOAD for process in supervisor.processes):
        raise HeadstartError("a worker could not load its models; it has said why.")


_CANNOT_LOAD = 3  # a worker's exit status at which uvicorn's supervisor stops instead of starting another


class _Supervisor(Multiprocess):
    """Uvicorn's, which also says when all workers are ready, and forgets the present numbers of those that died."""

    warm: Any
    ready = 0
    when_ready: Callable[[], None] | None

    def keep_subprocess_alive(self) -> None:
        from prometheus_client import multiprocess

        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for dead in before - {process.pid for process in self.processes}:
            multiprocess.mark_process_dead(dead)
        while self.warm.acquire(block=False):
            self.ready += 1
        if self.when_ready is not None and self.ready >= self.processes_num:
            self.when_ready()
            self.when_ready = None


def _build_worker(settings: Settings, warm: Any) -> Any:
    """The application of a worker; it is called in the worker."""
    from headstart.delivery.serve.app import build

    def on_loaded(error: HeadstartError | None) -> None:
        if error is None:
            warm.release()
            return
        _warn(f"error: {error}")
        os._exit(_CANNOT_LOAD)  # nothing was answered yet

    _share_cores(settings.workers)
    _log_errors()
    return build(settings, _warn, on_loaded)


def _share_cores(workers: int) -> None:
    """Let this worker compute on its share of the cores, so that all workers do not run more threads than there are."""
    number = int(multiprocessing.current_process().name.rpartition("-")[2])  # SpawnProcess-3
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        mine = cores[(number - 1) % workers :: workers] or [cores[(number - 1) % len(cores)]]
        os.sched_setaffinity(0, mine)


def _configuration(settings: Settings, application: Callable[[], Any]) -> uvicorn.Config:
    from headstart.delivery.serve.connection import Connection

    return uvicorn.Config(
        application,
        factory=True,
        http=Connection,
        ws="none",
        loop="asyncio",
        lifespan="on",
        workers=settings.workers,
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=round(2 * settings.limits.seconds) + _GRACE,
    )


def _listen(settings: Settings) -> socket.socket:
    host = settings.host.strip("[]")
    try:
        family = socket.getaddrinfo(host, settings.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {settings.host}, port {settings.port}: {error.strerror or error}. "
            "Choose another with --host or --port."
        ) from error


def _address(settings: Settings, listening: socket.socket) -> str:
    host = settings.host.strip("[]")
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"


def _log_errors() -> None:
    """Faults, and nothing else, to standard error."""
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")


def _warn(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
