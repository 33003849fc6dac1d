"""The server's processes: one, or several that share a socket; watched, and stopped without losing a request."""

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from headstart.delivery import artefact
from headstart.delivery.listening import BACKLOG, Server, address, listen
from headstart.delivery.serve.metrics import SHARED
from headstart.delivery.serve.settings import Settings
from headstart.errors import HeadstartError

_FILES = 8192  # open at once at most, where the system allows it: so many connections, of some 15 KB each
_AGAIN = 5.0  # seconds between two attempts to load a model that is gone, for a worker that died
_HUNG = 30  # seconds without a sign of life after which a worker is replaced; starting one takes long on a busy machine
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
    _allow_connections()
    listening = listen(settings.host, settings.port)
    line = f"headstart serves {', '.join(name for name, _ in settings.models)} on {address(settings.host, listening)}"
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
    server = Server(_configuration(settings, partial(build, settings, warn, on_loaded)))
    server.run([listening])
    if failure:
        raise failure[0]


def _serve_with_workers(settings: Settings, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Several processes, each with its models; one that dies is replaced."""
    warm = multiprocessing.get_context("spawn").Semaphore(0)
    with tempfile.TemporaryDirectory(prefix="headstart-metrics-", dir=_memory()) as folder:
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

    def init_processes(self) -> None:
        super().init_processes()
        self._let_go()

    def _let_go(self) -> None:
        """Close the workers' ends of their pipes here, so that the death of one is heard of at once."""
        for process in self.processes:
            process.child_conn.close()

    def keep_subprocess_alive(self) -> None:
        from prometheus_client import multiprocess

        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        self._let_go()
        for dead in before - {process.pid for process in self.processes}:
            multiprocess.mark_process_dead(dead)  # type: ignore[no-untyped-call]
        while self.warm.acquire(block=False):
            self.ready += 1
        if self.when_ready is not None and self.ready >= self.processes_num:
            self.when_ready()
            self.when_ready = None

    def terminate_all(self) -> None:
        for one in self.sockets:  # else it takes connections until the last worker has ended, and nobody answers them
            one.close()
        super().terminate_all()


def _build_worker(settings: Settings, warm: Any) -> Any:
    """The application of a worker; it is called in the worker."""
    from headstart.delivery.serve.app import build

    number = int(multiprocessing.current_process().name.rpartition("-")[2])  # SpawnProcess-3
    replaces = number > settings.workers  # one that died: the others answer meanwhile, and go on if it cannot load

    def on_loaded(error: HeadstartError | None) -> None:
        if error is None:
            warm.release()
            return
        _warn(f"error: {error}")  # nothing was answered yet
        if replaces:
            time.sleep(_AGAIN)
            os._exit(1)
        os._exit(_CANNOT_LOAD)

    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    _share_cores(settings.workers)
    _log_errors()
    return build(settings, _warn, on_loaded, load_first=replaces)


def _end_with_supervisor() -> None:
    """Stop this worker when the supervisor is killed: nobody would stop it later on, and it would keep the port."""
    supervisor = multiprocessing.parent_process()
    assert supervisor is not None
    supervisor.join()
    os.kill(os.getpid(), signal.SIGTERM)


_held: list[Any] = []  # open until this worker ends: the file whose lock says which share of the cores is its own


def _share_cores(workers: int) -> None:
    """Let this worker compute on its share of the cores, so that all workers do not run more threads than there are."""
    if sys.platform != "linux":
        return
    import fcntl

    cores = sorted(os.sched_getaffinity(0))
    for number in range(workers):
        share = open(os.path.join(os.environ[SHARED], f"share-{number}"), "wb")  # noqa: SIM115
        try:
            fcntl.flock(share, fcntl.LOCK_EX | fcntl.LOCK_NB)  # given back by the system, however the worker ends
        except BlockingIOError:
            share.close()
            continue
        _held.append(share)
        os.sched_setaffinity(0, cores[number::workers] or [cores[number % len(cores)]])
        return


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
        timeout_worker_healthcheck=_HUNG,
        timeout_graceful_shutdown=round(2 * settings.limits.seconds) + _GRACE,
    )


def _allow_connections() -> None:
    """As many open files as the system allows, within reason; 1,024 are usual, and few for connections."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _memory() -> str | None:
    """A folder in memory for what the workers count, where there is one: a full disk would end them."""
    place = "/dev/shm"
    return place if os.access(place, os.W_OK | os.X_OK) else None


def _log_errors() -> None:
    """Faults, and nothing else, to standard error."""
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")


def _warn(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
