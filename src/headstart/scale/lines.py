"""Work on batches by all workers of a cluster, by Ray Data: in order, a little ahead of need, whoever dies."""

import itertools
import os
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from headstart import __version__
from headstart.errors import HeadstartError
from headstart.scale.cluster import Cluster

LEAST, MOST, ROUNDS = 16, 256, 32  # items that a worker gets at once, so that each gets so many batches of a wave
WAVE = 200_000  # items that are given to the cluster at once, so that its memory holds no more
ASKED_AHEAD = 4  # batches on their way to this process
Do = Callable[[list[Any]], list[Any]]


class Work(Protocol):
    """What workers are to do; it travels to them, and is small: what is large lies in `Shipped` files."""

    def begin(self) -> Do:
        """Make ready, on the worker; returns what turns a list of items into a list of as many results."""


def spread(cluster: Cluster, work: Work, items: Iterable[Any], device: str) -> Iterator[Any]:
    """The result of each item, in order, done by all workers.

    A worker that dies is replaced, and its batch done again by another. `items` may be endless: they are read in waves.

    Args:
        cluster: see `joined`.
        work: what to do.
        items: pickled to the workers.
        device: "cuda" for workers with a GPU each, else they have a core each.

    Raises:
        HeadstartError: what a worker raised.
    """
    waiting = iter(items)
    while wave := list(itertools.islice(waiting, WAVE)):
        yield from _spread(cluster, work, wave, device)


def batch_size(count: int, workers: int) -> int:
    """How many of `count` items a worker gets at once: what is lost with it, and done again.

    Small enough that all are busy to the end; large enough that handing over costs little (`bench/ceiling.py`).
    """
    return max(LEAST, min(MOST, count // (ROUNDS * workers)))


def _spread(cluster: Cluster, work: Work, wave: list[Any], device: str) -> Iterator[Any]:
    import ray

    size = batch_size(len(wave), cluster.workers(device))
    batches = [pickle.dumps(wave[start : start + size]) for start in range(0, len(wave), size)]
    workers = min(cluster.workers(device), len(batches))
    conductor = ray.remote(_Conductor).options(num_cpus=0).remote(work, __version__, workers, device)
    held = ray.put(batches)
    try:
        ray.get(conductor.start.remote(held))  # or what went wrong there
        asked = deque(conductor.take.remote() for _ in range(ASKED_AHEAD))
        while (answer := _unpacked(ray.get(asked.popleft()))) is not None:
            asked.append(conductor.take.remote())
            yield from answer
    except ray.exceptions.RayError as error:
        raise HeadstartError(f"the cluster failed: {error}") from error
    finally:
        ray.kill(conductor)


def _unpacked(content: bytes | None) -> list[Any] | None:
    if content is None:
        return None
    answer = pickle.loads(content)
    if isinstance(answer, HeadstartError):
        raise answer
    return list(answer)


class _Conductor:
    """Runs the pipeline within the cluster: Ray Data does not run in a process that is only a client of one."""

    def __init__(self, work: Work, version: str, workers: int, device: str) -> None:
        self.settings = work, version, device
        self.workers = workers

    def start(self, batches: list[bytes]) -> None:
        import ray.data
        from ray.data import ActorPoolStrategy, DataContext

        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        pool = ActorPoolStrategy(min_size=1, max_size=self.workers, initial_size=self.workers)
        source = ray.data.from_items([{"batch": batch} for batch in batches], override_num_blocks=len(batches))
        done = source.map_batches(
            _Worker,
            fn_constructor_args=self.settings,
            batch_size=1,
            compute=pool,
            num_cpus=0 if self.settings[2] == "cuda" else 1,
            num_gpus=1 if self.settings[2] == "cuda" else 0,
        )
        self.rows = iter(done.iter_batches(batch_size=1, prefetch_batches=ASKED_AHEAD))

    def take(self) -> bytes | None:
        """The next batch's results; None after the last."""
        row = next(self.rows, None)
        return None if row is None else bytes(row["batch"][0])


class _Worker:
    """One worker of the pool, in a process of its own."""

    def __init__(self, work: Work, version: str, device: str) -> None:
        if device != "cuda":
            os.environ["HEADSTART_CORES"] = "1"  # read by `core_count`
        self.work, self.version = work, version
        self.do: Do | None = None

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        return {"batch": np.array([pickle.dumps(self._answer(pickle.loads(rows["batch"][0])))], dtype=object)}

    def _answer(self, batch: list[Any]) -> list[Any] | HeadstartError:
        try:
            if self.do is None:
                if __version__ != self.version:
                    raise HeadstartError(f"a worker has headstart {__version__}, but {self.version} asks it to work.")
                self.do = self.work.begin()
            return self.do(batch)
        except HeadstartError as error:
            return error
