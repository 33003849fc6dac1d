"""An address bound for a server, and a server that ends quietly when it is told to."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from headstart.errors import UsageError

BACKLOG = 2048


class Server(uvicorn.Server):
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


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on `host`, a name or an address, IPv6 also in brackets, and `port`; 0: any that is free.

    Raises:
        UsageError: the address cannot be had.
    """
    bare = host.strip("[]")
    try:
        family = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((bare, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot listen on {host}, port {port}: {reason}. Choose another with --host or --port."
        ) from error
    # What is accepted inherits it: else the body of an answer waits for the receipt of its head, some 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def address(host: str, listening: socket.socket) -> str:
    """Where a browser finds what listens."""
    bare = host.strip("[]")
    return f"http://{f'[{bare}]' if ':' in bare else bare}:{listening.getsockname()[1]}/"
