"""One way to show long work: a bar in a terminal, a line every ten seconds in a log, nothing in libraries."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from headstart import processes

SECONDS_BETWEEN_LINES = 10.0


class Advance(Protocol):
    """Called with the number of items that have just been finished, and what to show beside the count."""

    def __call__(self, count: int = 1, note: str = "") -> None:
        """Count them."""


class Progress:
    """Shows nothing; the base of those that do, and what the library uses unless told otherwise."""

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:  # noqa: ARG002 - the silent one ignores them
        """Announce a stage of `total` items; yields the function to call as they are done."""
        yield lambda count=1, note="": None  # noqa: ARG005

    def say(self, line: str) -> None:
        """A line worth keeping on the screen, such as the result of an epoch."""


SILENT = Progress()


class LineProgress(Progress):
    """Writes a plain line every ten seconds: for log files and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """Announce a stage; see `Progress.stage`."""
        last, done = time.monotonic(), 0
        first: tuple[float, int] | None = None  # when, and how many: what came before was getting ready

        def advance(count: int = 1, note: str = "") -> None:
            nonlocal done, last, first
            done += count
            now = time.monotonic()
            if first is None:
                first = now, done
            elif done > first[1] and now - last >= SECONDS_BETWEEN_LINES:
                last = now
                rate = (done - first[1]) / max(now - first[0], 1e-9)
                left = max(0, total - done) / rate
                self.stream.write(f"{name}: {done:,} of {max(done, total):,}, {rate:.0f}/s, about {left:.0f} s left")
                self.stream.write(f"; {note}\n" if note else "\n")
                self.stream.flush()

        yield advance

    def say(self, line: str) -> None:
        """Write the line; see `Progress.say`."""
        self.stream.write(f"{line}\n")
        self.stream.flush()


class BarProgress(Progress):
    """Draws a bar with rate and time left on a terminal, and removes it when the stage ends."""

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """Announce a stage; see `Progress.stage`."""
        from rich.console import Console  # slow to import: only where a bar is drawn
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        started, done = time.monotonic(), 0
        with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(name, total=total, rate="", note="")

            def advance(count: int = 1, note: str = "") -> None:
                nonlocal done
                done += count
                rate = done / max(time.monotonic() - started, 1e-9)
                bar.update(task, advance=count, rate=f"{rate:.0f}/s", note=note)

            yield advance

    def say(self, line: str) -> None:
        """Write the line above the bar; see `Progress.say`."""
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def on_standard_error() -> Progress:
    """The progress that suits standard error: a bar on a terminal, lines elsewhere, from the main process only."""
    stream = sys.stderr
    if not processes.is_main():
        return SILENT
    return BarProgress() if stream.isatty() else LineProgress(stream)
