"""What a server is asked to be: what it serves, where it listens, how much it takes on."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from headstart.errors import UsageError
from headstart.features.engines import Device
from headstart.features.openvino_engine import Precision
from headstart.pictures.decode import PIXEL_LIMIT

_NAMES_OF_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Limits:
    """How much one process takes on; what is more is refused, never kept waiting without bound.

    `file_bytes`, `pixels`: of a picture. `request_bytes`, `files`: of a request. `waiting`: pictures accepted and not
    answered yet. `held_bytes`: of the bodies of all requests under way. `seconds`: for a request to arrive, and as
    many again for its answer.

    Raises:
        UsageError: limits that contradict each other.
    """

    file_bytes: int = 32_000_000
    request_bytes: int = 128_000_000
    files: int = 100
    pixels: int = PIXEL_LIMIT
    waiting: int = 512
    held_bytes: int = 512_000_000
    seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.request_bytes > self.held_bytes:
            raise UsageError(
                f"a request of {self.request_bytes:,} bytes would never fit into the {self.held_bytes:,} bytes for all "
                "pictures under way: raise --max-memory-mb or lower --max-request-mb."
            )
        if self.files > self.waiting:
            raise UsageError(
                f"a request of {self.files} pictures would never fit into a queue of {self.waiting}: raise --queue or "
                "lower --max-files."
            )

    def to_json(self) -> dict[str, float]:
        """What a client may want to know before it sends."""
        return {
            "file_bytes": self.file_bytes,
            "request_bytes": self.request_bytes,
            "files": self.files,
            "pixels": self.pixels,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Settings:
    """Everything that `headstart serve` was asked for.

    `models`: names and paths; the first answers where none is asked for. `token`: what callers must know, if anything.
    `allowed_hosts`: names by which callers may know the server, beside those of loopback. `batch` and `batch_wait`
    (seconds): see `batching`; None stands for what suits the device.
    """

    models: tuple[tuple[str, Path], ...]
    limits: Limits = field(default_factory=Limits)
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    workers: int = 1
    batch: int | None = None
    batch_wait: float | None = None
    device: Device = "auto"
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise UsageError("the token must be of printable ASCII characters, as it travels in a header.")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def known_as(self) -> frozenset[str] | None:
        """The host names, in lower case, that a request may be addressed to; None: any.

        A page of a stranger can let its own name point to 127.0.0.1 and then read what a server there answers to
        that name (DNS rebinding); so on loopback only loopback's names are answered.
        """
        given = {name.lower() for name in self.allowed_hosts}
        if not self.is_local and not given:
            return None
        return frozenset({*given, *_NAMES_OF_LOOPBACK, self.host.lower()})
