"""How much is under way, and the refusal of more: pictures that wait, and bytes that are held."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from headstart.delivery.serve.settings import Limits

_LONGEST_WAIT = 60  # seconds that a client is ever told to wait


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """A request that gets no prediction: the HTTP `status`, and why, in words for the one who sent it."""

    def __init__(self, status: int, why: str, retry_after: int | None = None) -> None:
        super().__init__(why)
        self.status, self.why, self.retry_after = status, why, retry_after


class Room:
    """What all requests together hold; used from the event loop's thread alone."""

    def __init__(self, limits: Limits, tell: Callable[[int, int], None]) -> None:
        """`tell` gets the pictures and bytes under way, whenever they change by a request."""
        self.limits, self._tell = limits, tell
        self.pictures = 0
        self.bytes = 0
        self._seconds_each = 0.01  # between two answered pictures, a moving mean
        self._last = time.monotonic()

    @contextmanager
    def request(self) -> Iterator["Share"]:
        """What one request holds, given back at its end."""
        share = Share(self)
        try:
            yield share
        finally:
            self.bytes -= share.bytes
            self.pictures -= share.pictures
            self._note(share.answered)
            self._tell(self.pictures, self.bytes)

    def refuse(self) -> NoReturn:
        """Refuse a request for which there is no room.

        Raises:
            Refused: always, with 503 and the seconds after which what waits now should be done.
        """
        seconds = min(max(1, math.ceil(self.pictures * self._seconds_each)), _LONGEST_WAIT)
        raise Refused(503, f"the server is busy; try again in {seconds} s.", retry_after=seconds)

    def _note(self, answered: int) -> None:
        if answered:
            now = time.monotonic()
            self._seconds_each += 0.1 * ((now - self._last) / answered - self._seconds_each)
            self._last = now


class Share:
    """What one request holds of the room: bytes as they arrive, pictures once they are known."""

    def __init__(self, room: Room) -> None:
        self.room, self.bytes, self.pictures, self.answered = room, 0, 0, 0

    def expect_room(self) -> None:
        """Look for room before the pictures are read.

        Raises:
            Refused: there is none now.
        """
        if self.room.pictures >= self.room.limits.waiting:
            self.room.refuse()

    def take_bytes(self, count: int) -> None:
        """Hold `count` more bytes.

        Raises:
            Refused: there is no room for them now.
        """
        if self.room.bytes + count > self.room.limits.held_bytes:
            self.room.refuse()
        self.room.bytes += count
        self.bytes += count

    def take_pictures(self, count: int) -> None:
        """Let `count` pictures wait for their answers.

        Raises:
            Refused: there is no room for them now.
        """
        if self.room.pictures + count > self.room.limits.waiting:
            self.room.refuse()
        self.room.pictures += count
        self.pictures += count
        self.room._tell(self.room.pictures, self.room.bytes)
