"""How fast backbones are on this machine, measured in turns from pixels to features."""

import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.features.backbones import Backbone
from headstart.features.engines import Engine, EnginePlan
from headstart.progress import SILENT, Progress

ROUNDS, SINGLES = 5, 4
BLOCK_SECONDS, MOST_BLOCK = 0.4, 128


@dataclass(frozen=True, slots=True)
class Pace:
    """`per_second`: pictures a second, many at once. `latency_ms`: how long one alone takes. Medians over rounds."""

    per_second: float
    latency_ms: float

    def to_json(self) -> dict[str, float]:
        """Three significant digits: more are noise."""
        return {"pictures_per_second": float(f"{self.per_second:.3g}"), "latency_ms": float(f"{self.latency_ms:.3g}")}


def measure(backbones: Mapping[str, Backbone], plan: EnginePlan, *, progress: Progress = SILENT) -> dict[str, Pace]:
    """The pace of each backbone by its name, on generated pictures.

    They take turns, so that whatever else the machine does meets all alike: only ratios between those that were
    measured together mean much. Decoding is left out; it is about the same for all.
    """
    engines = {name: plan.load(backbone) for name, backbone in backbones.items()}
    pixels = {name: _noise(backbone) for name, backbone in backbones.items()}
    rates: dict[str, list[float]] = {name: [] for name in backbones}
    singles: dict[str, list[float]] = {name: [] for name in backbones}
    with ThreadPoolExecutor(plan.lanes) as pool, progress.stage("speed", ROUNDS * len(engines)) as advance:
        sizes = {name: _block(engine, pixels[name], plan) for name, engine in engines.items()}
        for _ in range(ROUNDS):
            for name, engine in engines.items():
                block = pixels[name][: sizes[name]]
                started = time.perf_counter()
                list(pool.map(engine.embed, [block[at : at + plan.batch] for at in range(0, len(block), plan.batch)]))
                rates[name].append(len(block) / (time.perf_counter() - started))
                singles[name] += [_seconds(engine, pixels[name][:1]) for _ in range(SINGLES)]
                advance()
    return {name: Pace(statistics.median(rates[name]), 1000 * statistics.median(singles[name])) for name in backbones}


def together(paces: list[Pace]) -> Pace:
    """The pace of backbones that each see every picture, one after the other.

    >>> together([Pace(100.0, 10.0), Pace(100.0, 10.0)])
    Pace(per_second=50.0, latency_ms=20.0)
    """
    return Pace(1 / sum(1 / pace.per_second for pace in paces), sum(pace.latency_ms for pace in paces))


def _noise(backbone: Backbone) -> NDArray[np.uint8]:
    shape = (MOST_BLOCK, backbone.preprocess.height, backbone.preprocess.width, 3)
    return np.random.default_rng([0, *b"pace"]).integers(0, 256, shape, dtype=np.uint8)


def _block(engine: Engine, pixels: NDArray[np.uint8], plan: EnginePlan) -> int:
    """How many pictures a round takes, so that it lasts about `BLOCK_SECONDS`; warms the engine up as well."""
    warm = pixels[: plan.batch]
    _seconds(engine, warm)
    _seconds(engine, pixels[:1])
    each = min(_seconds(engine, warm) for _ in range(2)) / (len(warm) * plan.lanes)
    whole = plan.batch * plan.lanes
    return int(min(MOST_BLOCK, max(whole, BLOCK_SECONDS / each // whole * whole)))


def _seconds(engine: Engine, pixels: NDArray[np.uint8]) -> float:
    started = time.perf_counter()
    engine.embed(pixels)
    return time.perf_counter() - started
