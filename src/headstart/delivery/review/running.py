"""The desk's process: the data read, an address bound, and requests answered until somebody stops it."""

import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from headstart.delivery.review.app import build
from headstart.delivery.review.desk import open_desk
from headstart.delivery.review.gate import LOOPBACK
from headstart.errors import UsageError
from headstart.progress import SILENT, Progress


class _Server(uvicorn.Server):
    """A server that ends as if by itself when it is told to: its process leaves with 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        taken = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, former in taken.items():
                signal.signal(number, former)


def run(
    folder: Path,
    unlabelled: Path | None,
    address: tuple[str, int],
    save: Callable[[], object],
    tell: Callable[[str], None],
    progress: Progress = SILENT,
) -> None:
    """Serve the desk for the run `folder` until Ctrl-C or SIGTERM.

    Args:
        folder: a finished run.
        unlabelled: a folder of pictures to label.
        address: host and port; port 0 is any that is free.
        save: trains the run folder again.
        tell: is given a line with the address once the desk can be used.
        progress: shows how the data are read.

    Raises:
        UsageError: the address cannot be had.
        HeadstartError: the run, its data or its journal cannot be used.
    """
    host, _ = address
    with _listening(address) as listening:
        desk = open_desk(folder, unlabelled, save, progress)
        try:
            app = build(desk, secrets.token_urlsafe(24), host)
            server = _Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5, server_header=False))
            port = listening.getsockname()[1]
            if host not in LOOPBACK | {"::1"}:
                tell("note: everyone who can reach this address can see the pictures and decide about them.")
            tell(
                f"the review of {folder} is on http://{f'[{host}]' if ':' in host else host}:{port}/  (Ctrl-C ends it)"
            )
            server.run([listening])
        finally:
            desk.close()


@contextmanager
def _listening(address: tuple[str, int]) -> Iterator[socket.socket]:
    host, port = address
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server(address, family=family)
    except (OSError, OverflowError) as error:
        raise UsageError(f"cannot listen on {host}:{port}: {error}. Choose another --port, or 0 for any.") from error
    # What is accepted inherits it: else the body of an answer waits for the receipt of its head, some 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listening:
        yield listening
