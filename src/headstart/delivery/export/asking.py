"""The same pictures asked of the model and of its export: from each file to probabilities, each by its own road."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.delivery.export.formats import Answering, Showing
from headstart.delivery.export.page_browser import Shown
from headstart.delivery.export.pictures import Shelf
from headstart.delivery.export.road import UNREADABLE, pixels_of
from headstart.delivery.export.source import as_input
from headstart.delivery.predictor import Predictor
from headstart.errors import DataError, ExportError
from headstart.features.extract import Prepared, prepare
from headstart.judging.intervals import FloatArray
from headstart.learning.calibration import softmax
from headstart.learning.classifier import Prediction
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
    or whose content has changed. `words`: of a page, how what it shows beside probabilities compares.
    """

    samples: tuple[Sample, ...]
    original: FloatArray
    export: FloatArray
    same: FloatArray
    left_out: tuple[str, ...] = ()
    words: tuple["Words", ...] = ()


@dataclass(frozen=True, slots=True)
class Words:
    """What a page shows of a picture, against what `predict` says: whether set and "none of these" are the same.

    `novelty_change` is between the scores of "none of these"; `milliseconds` from the file to the answer;
    `pixel_change` the mean difference, in levels of 0..255, between the pixels that both networks saw.
    """

    same_set: bool
    same_none_of_these: bool
    novelty_change: float
    milliseconds: float
    pixel_change: float


class Asked(NamedTuple):
    """A picture, and what the model, the export, and the export of the model's pixels say: [3, k], or None."""

    sample: Sample
    said: FloatArray | None
    words: Words | None = None


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
        return self.checked(self.answering(as_input(pixels, self.facts)), len(pixels))

    def checked(self, given: NDArray[np.float32], count: int) -> FloatArray:
        """What the export gave of `count` pictures, as probabilities float64 [count, k].

        Raises:
            ExportError: they are none.
        """
        output = np.asarray(given, dtype=np.float64)
        expected = (count, len(self.facts["classes"]))
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

    def close(self) -> None:
        """Let go of what answers, where it runs in something of its own."""
        if isinstance(self.answering, Showing):
            self.answering.close()


def ask(shelf: Shelf, predictor: Predictor, export: Export, progress: Progress) -> Answers:
    """Ask the model and the export about every picture on `shelf`.

    Raises:
        ExportError: the export does not give probabilities.
        DataError: none of the pictures can be read by both.
    """
    samples: list[Sample] = []
    said: list[FloatArray] = []
    left_out: list[str] = []
    words: list[Words] = []

    def ask_block(work: tuple[list[str], list[Prepared]]) -> list[Asked]:
        if isinstance(export.answering, Showing):
            return _ask_page(*work, shelf.root, predictor, export)
        return _ask_block(*work, shelf.root, predictor, export)

    with progress.stage("proof", len(shelf.samples)) as advance, ThreadPoolExecutor(predictor.plan.lanes) as pool:
        items = prepare(shelf.samples, shelf.root, predictor.classifier.backbone.preprocess)
        for answered in in_order(pool, ask_block, _blocks(shelf, items), 2 * predictor.plan.lanes):
            for one in answered:
                if one.said is None:
                    left_out.append(one.sample.path)
                else:
                    samples.append(one.sample)
                    said.append(one.said)
                    words += [one.words] if one.words else []
                advance()
    if not said:
        raise DataError("none of the held-out pictures can be read any more, so that nothing can be proved on them.")
    original, exported, same = np.stack(said, axis=1)
    return Answers(tuple(samples), original, exported, same, tuple(left_out), tuple(words))


def _blocks(shelf: Shelf, items: Iterator[Prepared]) -> Iterator[tuple[list[str], list[Prepared]]]:
    """The prepared pictures in blocks, with the digests that they should have."""
    digests = (sample.digest for sample in shelf.samples)
    while block := list(itertools.islice(items, BLOCK)):
        yield list(itertools.islice(digests, len(block))), block


def _ask_block(
    digests: list[str], items: list[Prepared], root: Path, predictor: Predictor, export: Export
) -> list[Asked]:
    """The pictures asked of the model and of an export, to which the record's own road brings them."""
    asked = []
    for item, digest in zip(items, digests, strict=True):
        own = _by_road(root, item, export.facts) if item.sample.digest == digest else None
        asked.append((item.sample, None if own is None or item.pixels is None else np.stack([item.pixels, own])))
    both = [pair for _, pair in asked if pair is not None]
    if not both:
        return [Asked(sample, None) for sample, _ in asked]
    given, taken = np.stack(both, axis=1)
    original = predictor.classifier.probabilities(predictor.engine.embed(given))
    exported = export.probabilities(taken)
    same = _of_same(export, given, taken, exported)
    answers = iter(np.stack([original, exported, same], axis=1))
    return [Asked(sample, None if pair is None else next(answers)) for sample, pair in asked]


def _ask_page(
    digests: list[str], items: list[Prepared], root: Path, predictor: Predictor, export: Export
) -> list[Asked]:
    """The pictures asked of the model and of a page, which gets their files and, once more, the model's pixels."""
    answering, classifier = export.answering, predictor.classifier
    assert isinstance(answering, Showing)
    whole = [
        item.pixels is not None and item.sample.digest == digest for item, digest in zip(items, digests, strict=True)
    ]
    paths = [root / item.sample.path for item, there in zip(items, whole, strict=True) if there]
    answers = iter(answering.of_files(paths) if paths else [])
    shown = [next(answers) if there else None for there in whole]
    read = [(item, one) for item, one in zip(items, shown, strict=True) if one is not None and item.pixels is not None]
    if not read:
        return [Asked(item.sample, None) for item in items]
    given = np.stack([item.pixels for item, _ in read if item.pixels is not None])
    vectors = predictor.engine.embed(given)
    expected = classifier.predictions([item.sample.path for item, _ in read], vectors)
    exported = export.checked(np.stack([one.probabilities for _, one in read]), len(read))
    taken = np.stack([one.pixels.reshape(given.shape[1:]) for _, one in read])
    same = _of_same(export, given, taken, exported)
    said = np.stack([classifier.probabilities(vectors), exported, same], axis=1)
    levels = np.abs(given.astype(np.int16) - taken).mean(axis=(1, 2, 3))
    words = [_words(one, own, float(level)) for (_, one), own, level in zip(read, expected, levels, strict=True)]
    asked = zip(said, words, strict=True)
    return [
        Asked(item.sample, *((None,) if one is None else next(asked))) for item, one in zip(items, shown, strict=True)
    ]


def _of_same(export: Export, given: NDArray[np.uint8], taken: NDArray[np.uint8], exported: FloatArray) -> FloatArray:
    """What the export says of the model's pixels `given`: what it `exported` where those that it took are the same."""
    same = exported.copy()
    differs = (given != taken).any(axis=(1, 2, 3))
    if differs.any():
        same[differs] = export.probabilities(given[differs])
    return same


def _words(shown: Shown, expected: Prediction, pixel_change: float) -> Words:
    assert expected.novelty is not None
    return Words(
        same_set=shown.set == expected.set,
        same_none_of_these=shown.is_none_of_these == expected.is_none_of_these,
        novelty_change=abs(shown.novelty - expected.novelty),
        milliseconds=shown.milliseconds,
        pixel_change=pixel_change,
    )


def _by_road(root: Path, item: Prepared, facts: dict[str, Any]) -> NDArray[np.uint8] | None:
    """What the record's own preprocessing makes of the picture; None where one of the two roads cannot read it."""
    if item.pixels is None:
        return None
    try:
        return pixels_of(root / item.sample.path, facts["preprocessing"])
    except UNREADABLE:
        return None
