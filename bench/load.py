"""Clients that ask a server over and over, each on a connection of its own: latencies and statuses.

Plain sockets and requests made beforehand, as the clients share the machine with the server and must not slow it down.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

BOUNDARY = b"----bench"


@dataclass
class Outcome:
    """What some clients saw: the latency of each answer (status 200) in seconds, statuses, and how long it took."""

    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def quantile(self, share: float) -> float:
        """In milliseconds."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def form_request(picture: bytes) -> bytes:
    """A whole POST /predict with one picture, as a browser sends it."""
    body = b"\r\n".join(
        [
            b"--" + BOUNDARY,
            b'Content-Disposition: form-data; name="file"; filename="picture.jpg"',
            b"Content-Type: image/jpeg",
            b"",
            picture,
            b"--" + BOUNDARY + b"--",
            b"",
        ]
    )
    head = (
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary="
        + BOUNDARY
        + b"\r\nContent-Length: "
        + str(len(body)).encode()
        + b"\r\n\r\n"
    )
    return head + body


def ask(port: int, requests: list[bytes], clients: int, *, seconds: float = 1e9, count: int | None = None) -> Outcome:
    """Let so many clients ask at once, for so many seconds, or until `count` requests were sent."""
    return asyncio.run(_ask(port, requests, clients, seconds, count))


async def _ask(port: int, requests: list[bytes], clients: int, seconds: float, count: int | None) -> Outcome:
    outcome = Outcome()
    endless = itertools.cycle(requests)
    work = endless if count is None else itertools.islice(endless, count)
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(_client(port, work, started + seconds, outcome))
    outcome.seconds = time.perf_counter() - started
    return outcome


async def _client(port: int, work: Iterator[bytes], until: float, outcome: Outcome) -> None:
    """Ask one after the other on one connection; a connection that breaks counts as status 0, and is made anew."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until and (request := next(work, None)) is not None:
        started = time.perf_counter()
        try:
            writer.write(request)
            status = await _answer(reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            status = 0
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        outcome.statuses[status] += 1
        if status == 200:
            outcome.latencies.append(time.perf_counter() - started)
        else:
            await asyncio.sleep(0.05)
    writer.close()


async def _answer(reader: asyncio.StreamReader) -> int:
    """The status of the next answer, which is read to its end."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(length)
    return int(head[9:12])
