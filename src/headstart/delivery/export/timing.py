"""How fast the model and its export are on this machine, measured in turns from pixels to probabilities."""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.delivery.export.asking import Export
from headstart.delivery.predictor import Predictor

Ask = Callable[[NDArray[np.uint8]], Any]

ROUNDS, SINGLES = 5, 8
BLOCK_SECONDS, LEAST_BLOCK, MOST_BLOCK = 0.5, 4, 64


@dataclass(frozen=True, slots=True)
class Speed:
    """`latency_ms`: the median of a single picture. `per_second`: the median of pictures a second, many at once."""

    latency_ms: float
    per_second: float

    def to_json(self) -> dict[str, float]:
        """Three significant digits: more are noise."""
        return {"latency_ms": float(f"{self.latency_ms:.3g}"), "pictures_per_second": float(f"{self.per_second:.3g}")}


@dataclass(frozen=True, slots=True)
class Race:
    """The speeds of both, and `times`: how many times as many pictures a second the export does, median of rounds."""

    original: Speed
    export: Speed
    times: float

    def to_json(self) -> dict[str, Any]:
        """The race as JSON values."""
        return {
            "original": self.original.to_json(),
            "export": self.export.to_json(),
            "times": float(f"{self.times:.3g}"),
        }


def race(predictor: Predictor, export: Export) -> Race:
    """Let both answer generated pictures in turns; what the machine does besides then meets both alike.

    The model is asked as `predict` asks it: on each lane of its engine a batch at a time. The export gets whole blocks.
    """
    preprocess, plan = predictor.classifier.backbone.preprocess, predictor.plan
    shape = (MOST_BLOCK, preprocess.height, preprocess.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def one(batch: NDArray[np.uint8]) -> Any:
        return predictor.classifier.probabilities(predictor.engine.embed(batch))

    with ThreadPoolExecutor(plan.lanes) as pool:

        def many(block: NDArray[np.uint8]) -> Any:
            return list(
                pool.map(one, [block[start : start + plan.batch] for start in range(0, len(block), plan.batch)])
            )

        singles = [_singles(ask, pixels) for ask in (one, export.probabilities)]
        slower = max(statistics.median(times) for times in singles)
        block = pixels[: min(MOST_BLOCK, max(LEAST_BLOCK, int(BLOCK_SECONDS / slower)))]
        rates: list[tuple[float, float]] = []
        for _ in range(ROUNDS):
            for times, ask in zip(singles, (one, export.probabilities), strict=True):
                times += _singles(ask, pixels)
            rates.append((_rate(many, block), _rate(export.probabilities, block)))
    speeds = [
        Speed(1000 * statistics.median(times), statistics.median(rate[place] for rate in rates))
        for place, times in enumerate(singles)
    ]
    return Race(speeds[0], speeds[1], statistics.median(export_rate / own for own, export_rate in rates))


def _singles(ask: Ask, pixels: NDArray[np.uint8]) -> list[float]:
    """The seconds that single pictures take; the first one is not counted."""
    ask(pixels[:1])
    seconds = []
    for place in range(1, SINGLES + 1):
        started = time.perf_counter()
        ask(pixels[place : place + 1])
        seconds.append(time.perf_counter() - started)
    return seconds


def _rate(ask: Ask, block: NDArray[np.uint8]) -> float:
    """Pictures a second."""
    started = time.perf_counter()
    ask(block)
    return len(block) / (time.perf_counter() - started)
