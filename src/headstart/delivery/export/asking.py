"""The same pictures asked of the model and of its export: from each file to probabilities, each by its own road."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.delivery.export.formats import Answering
from headstart.delivery.export.pictures import Shelf
from headstart.delivery.export.road import UNREADABLE, pixels_of
from headstart.delivery.export.source import as_input
from headstart.delivery.predictor import Predictor
from headstart.errors import DataError, ExportError
from headstart.features.extract import Prepared, prepare
from headstart.judging.intervals import FloatArray
from headstart.learning.calibration import softmax
from headstart.parallel import in_order
from headstart.pictures.dataset import Sample
from headstart.progress import Progress

BLOCK = 16
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Answers:
    """What was said of n pictures, in probabilities float64 [n, k].

    `original`: by the model, of what headstart makes of the files. `export`: by the export, of what its record makes of
    them. `same`: by the export, of the very pixels that the model got. `left_out`: paths that one road could not read,
    or whose content has changed.
    """

    samples: tuple[Sample, ...]
    original: FloatArray
    export: FloatArray
    same: FloatArray
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Export:
    """An export under proof: what answers, and the `facts` of its record that say how to ask it."""

    answering: Answering
    facts: dict[str, Any]

    def probabilities(self, pixels: NDArray[np.uint8]) -> FloatArray:
        """Probabilities float64 [n, k] of `pixels` uint8 [n, h, w, 3].

        Raises:
            ExportError: what comes out are no probabilities of the classes.
        """
        output = np.asarray(self.answering(as_input(pixels, self.facts)), dtype=np.float64)
        expected = (len(pixels), len(self.facts["classes"]))
        if output.shape != expected or not np.isfinite(output).all():
            found = "values that are not finite" if output.shape == expected else f"an output of shape {output.shape}"
            raise ExportError(f"the export is wrong: it gives {found}, where {expected} was expected.")
        if self.facts["preprocessing"]["normalise"] is not None:
            return softmax(output)
        if output.min() < -SUM_TOLERANCE or np.abs(output.sum(axis=1) - 1).max() > SUM_TOLERANCE:
            raise ExportError(
                f"the export is wrong: what it gives are no probabilities ({output[0].min():.3g} to "
                f"{output[0].max():.3g}, in all {output[0].sum():.3g}, for the first picture)."
            )
        return output


def ask(shelf: Shelf, predictor: Predictor, export: Export, progress: Progress) -> Answers:
    """Ask the model and the export about every picture on `shelf`.

    Raises:
        ExportError: the export does not give probabilities.
        DataError: none of the pictures can be read by both.
    """
    samples: list[Sample] = []
    said: list[FloatArray] = []
    left_out: list[str] = []

    def ask_block(work: tuple[list[str], list[Prepared]]) -> list[tuple[Sample, FloatArray | None]]:
        return _ask_block(*work, shelf.root, predictor, export)

    with progress.stage("proof", len(shelf.samples)) as advance, ThreadPoolExecutor(predictor.plan.lanes) as pool:
        items = prepare(shelf.samples, shelf.root, predictor.classifier.backbone.preprocess)
        for answered in in_order(pool, ask_block, _blocks(shelf, items), 2 * predictor.plan.lanes):
            for sample, answers in answered:
                if answers is None:
                    left_out.append(sample.path)
                else:
                    samples.append(sample)
                    said.append(answers)
                advance()
    if not said:
        raise DataError("none of the held-out pictures can be read any more, so that nothing can be proved on them.")
    original, exported, same = np.stack(said, axis=1)
    return Answers(tuple(samples), original, exported, same, tuple(left_out))


def _blocks(shelf: Shelf, items: Iterator[Prepared]) -> Iterator[tuple[list[str], list[Prepared]]]:
    """The prepared pictures in blocks, with the digests that they should have."""
    digests = (sample.digest for sample in shelf.samples)
    while block := list(itertools.islice(items, BLOCK)):
        yield list(itertools.islice(digests, len(block))), block


def _ask_block(
    digests: list[str], items: list[Prepared], root: Path, predictor: Predictor, export: Export
) -> list[tuple[Sample, FloatArray | None]]:
    """Of each picture what the model, the export, and the export of the model's pixels say: [3, k], or None."""
    asked = []
    for item, digest in zip(items, digests, strict=True):
        own = _by_road(root, item, export.facts) if item.sample.digest == digest else None
        asked.append((item.sample, None if own is None or item.pixels is None else np.stack([item.pixels, own])))
    both = [pair for _, pair in asked if pair is not None]
    if not both:
        return [(sample, None) for sample, _ in asked]
    given, taken = np.stack(both, axis=1)
    original = predictor.classifier.probabilities(predictor.engine.embed(given))
    exported = export.probabilities(taken)
    same = exported.copy()
    differs = (given != taken).any(axis=(1, 2, 3))
    if differs.any():
        same[differs] = export.probabilities(given[differs])
    answers = iter(np.stack([original, exported, same], axis=1))
    return [(sample, None if pair is None else next(answers)) for sample, pair in asked]


def _by_road(root: Path, item: Prepared, facts: dict[str, Any]) -> NDArray[np.uint8] | None:
    """What the record's own preprocessing makes of the picture; None where one of the two roads cannot read it."""
    if item.pixels is None:
        return None
    try:
        return pixels_of(root / item.sample.path, facts["preprocessing"])
    except UNREADABLE:
        return None
