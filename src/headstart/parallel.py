"""Work done by a pool of threads: in order, and only a little ahead of need."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def core_count() -> int:
    """The number of processor cores that this process may use; `HEADSTART_CORES` says fewer."""
    most = int(given) if (given := os.environ.get("HEADSTART_CORES", "")).isdecimal() and int(given) else sys.maxsize
    return min(most, machine_cores())


def machine_cores() -> int:
    """The number of processor cores that the system lets this process use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """`function` of each item, in order, computed by `pool` at most `ahead` items before they are asked for.

    Memory is bounded by `ahead` however many items there are; `items` is read no faster than that. Where the caller
    stops early, what has not begun is cancelled.
    """
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
