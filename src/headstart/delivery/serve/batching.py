"""Threads that work through a queue in small batches: what waits while one batch is computed makes up the next."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batching(NamedTuple):
    """How batches are made: by how many threads, of how many items at most, and how many seconds the first may wait.

    A thread that is free takes what is there, and only if `wait` is positive stays for more.
    """

    lanes: int
    most: int
    wait: float


class Batcher(Generic[Item, Answer]):
    """`work` applied to items in batches, by threads; see `Batching`.

    `work` takes a batch and gives as many answers, in order; what it raises is the answer to each item of the batch.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Answer]], batching: Batching) -> None:
        self._work, self._batching = work, batching
        self._queue: queue.SimpleQueue[tuple[Item, Future[Answer]] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(batching.lanes)]
        for thread in self._threads:
            thread.start()

    def put(self, item: Item, answer: "Future[Answer]") -> None:
        """Let `answer` become that of `item`; one that was cancelled meanwhile costs nothing."""
        self._queue.put((item, answer))

    def close(self) -> None:
        """End the threads, after everything that was put in is answered."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, last = self._gather(first)
            wanted = [(item, answer) for item, answer in batch if not answer.cancelled()]
            if wanted:
                self._answer(wanted)
            del first, batch, wanted  # while this thread waits for the next, nothing keeps the pictures
            if last:
                return

    def _gather(self, first: tuple[Item, "Future[Answer]"]) -> tuple[list[tuple[Item, "Future[Answer]"]], bool]:
        """A batch that begins with `first`, and whether it is the last for this thread."""
        batch, until = [first], time.monotonic() + self._batching.wait
        while len(batch) < self._batching.most:
            left = until - time.monotonic()
            try:
                taken = self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if taken is None:
                return batch, True
            batch.append(taken)
        return batch, False

    def _answer(self, batch: Sequence[tuple[Item, "Future[Answer]"]]) -> None:
        try:
            answers = self._work([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            for _, answer in batch:
                settle(answer, error=error)
            return
        for (_, answer), made in zip(batch, answers, strict=True):
            settle(answer, made)


def settle(answer: "Future[Answer]", made: Answer | None = None, error: Exception | None = None) -> None:
    """Set the answer, unless nobody waits for it any more."""
    if not answer.set_running_or_notify_cancel():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(made)  # type: ignore[arg-type]
