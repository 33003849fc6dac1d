"""The proof: how far an export's answers lie from the model's, and whether that is near enough to hand it over."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.delivery.export.asking import Answers, Words
from headstart.delivery.export.formats import EXACT, Format
from headstart.judging.comparison import CERTAIN_BELOW, Answer, Contestant, compare
from headstart.judging.intervals import FloatArray, Interval, proportion

MEAN_CHANGE = 0.05
"""How far they may lie apart on average, whatever the arithmetic and the road: beyond, they are not what calibration
promised."""

SAME_WORDS = 0.95
"""The least share of pictures of which a page must show the same set, and say the same of "none of these"; both are
cut at a number, near which a rounding decides."""

WORST = 5


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A picture of which model and export say different things; `change` is the largest of its probabilities'."""

    path: str
    label: str
    original: str
    original_probability: float
    export: str
    export_probability: float
    change: float

    def __str__(self) -> str:
        return (
            f"{self.path} ({self.label}): model {self.original} {self.original_probability:.1%}, "
            f"export {self.export} {self.export_probability:.1%}"
        )


@dataclass(frozen=True, slots=True)
class WordsProof:
    """What a page shows beside probabilities: how often as `predict` says it, and after how long.

    `same_set`, `same_none_of_these` and `same_pixels` count pictures. `novelty_change` is the mean one of the scores,
    `pixel_change` the largest of the pictures' mean differences in levels, `milliseconds` the median from file to
    answer.
    """

    same_set: int
    same_none_of_these: int
    novelty_change: float
    milliseconds: float
    same_pixels: int
    pixel_change: float

    def to_json(self) -> dict[str, Any]:
        """The counts and figures as JSON values."""
        return {
            "same_set": self.same_set,
            "same_none_of_these": self.same_none_of_these,
            "novelty_change": float(f"{self.novelty_change:.6g}"),
            "milliseconds": float(f"{self.milliseconds:.3g}"),
            "same_pixels": self.same_pixels,
            "pixel_change": float(f"{self.pixel_change:.3g}"),
        }


@dataclass(frozen=True)
class Proof:
    """What came out on `n` pictures, each from its file to probabilities.

    `agreement`: the share that get the same class. `largest` and `mean`: of the pictures' changes, a change being the
    largest among the probabilities of one picture; `largest_same` and `mean_same`: the same where the export gets the
    very pixels that the model got. `difference`: the export's accuracy less the model's; `p` as in a comparison of
    runs. `differing`: the pictures that get another class, and `worst` the most changed ones, the worst first. `words`:
    what else a page shows; None for others.
    """

    n: int
    agreement: Interval
    agreeing: int
    largest: float
    mean: float
    largest_same: float
    mean_same: float
    accuracy: Interval
    export_accuracy: Interval
    difference: Interval
    only_original: int
    only_export: int
    p: float
    differing: tuple[Disagreement, ...]
    worst: tuple[Disagreement, ...]
    left_out: tuple[str, ...]
    words: WordsProof | None = None

    def to_json(self) -> dict[str, Any]:
        """The proof as JSON values."""
        changes = ("largest", "mean", "largest_same", "mean_same")
        return {
            "n": self.n,
            "agreement": self.agreement.to_json(),
            "agreeing": self.agreeing,
            "change": {name: float(f"{getattr(self, name):.6g}") for name in changes},
            "accuracy": {
                "original": self.accuracy.to_json(),
                "export": self.export_accuracy.to_json(),
                "difference": self.difference.to_json(),
                "only_original": self.only_original,
                "only_export": self.only_export,
                "p": float(f"{self.p:.6g}"),
            },
            "differing": [_to_json(one) for one in self.differing],
            "left_out": list(self.left_out),
            **({} if self.words is None else {"page": self.words.to_json()}),
        }


def judge(answers: Answers, classes: Sequence[str]) -> Proof:
    """Compare what the model and the export said, picture by picture."""
    original, export = answers.original.argmax(axis=1), answers.export.argmax(axis=1)
    change = np.abs(answers.export - answers.original).max(axis=1)
    same = np.abs(answers.same - answers.original).max(axis=1)
    agree = original == export
    pair, accuracy = _accuracies(answers, classes)
    forward = pair.better == "export"
    ends = pair.difference
    said = [_said(answers, row, classes, float(change[row])) for row in np.argsort(-change, kind="stable").tolist()]
    return Proof(
        n=len(agree),
        agreement=proportion(agree, _groups(answers)),
        agreeing=int(agree.sum()),
        largest=float(change.max()),
        mean=float(change.mean()),
        largest_same=float(same.max()),
        mean_same=float(same.mean()),
        accuracy=accuracy["original"],
        export_accuracy=accuracy["export"],
        difference=ends if forward else Interval(0.0 - ends.value, 0.0 - ends.high, 0.0 - ends.low),
        only_original=pair.only_worse if forward else pair.only_better,
        only_export=pair.only_better if forward else pair.only_worse,
        p=pair.p,
        differing=tuple(one for one in said if one.original != one.export),
        worst=tuple(said[:WORST]),
        left_out=answers.left_out,
        words=_words(answers.words) if answers.words else None,
    )


def refusals(proof: Proof, form: Format, agreement: float) -> list[str]:
    """Why an export of this form is not handed over, in words; empty where it is."""
    reasons, on_average = [], max(EXACT, form.rounding / 10)
    if proof.agreement.value < agreement:
        count = f"{proof.agreeing:,} of {proof.n:,} pictures get the same class"
        reasons.append(f"top-1 agreement {proof.agreement} ({count}), and {agreement:g} was asked for")
    if form.exact and not proof.largest_same <= form.rounding:
        explained = f"where rounding explains {form.rounding:g}"
        reasons.append(f"of the same pixels a probability differs by {proof.largest_same:.3g}, {explained}")
    elif form.exact and not proof.mean_same <= on_average:
        explained = f"where rounding explains {on_average:g}"
        reasons.append(f"of the same pixels probabilities differ by {proof.mean_same:.3g} on average, {explained}")
    if not proof.mean <= MEAN_CHANGE:
        reasons.append(f"probabilities change by {proof.mean:.3g} on average, more than {MEAN_CHANGE:g}")
    if proof.p < CERTAIN_BELOW and proof.difference.value < 0:
        reasons.append(f"the accuracy falls by {-100 * proof.difference.value:.1f} points (p = {proof.p:.2g})")
    return reasons + (_refused_words(proof.n, proof.words) if proof.words else [])


def _refused_words(n: int, words: WordsProof) -> list[str]:
    counts = [("set", words.same_set), ("'none of these'", words.same_none_of_these)]
    reasons = [
        f"{what} is the same for {count:,} of {n:,} pictures only" for what, count in counts if count < SAME_WORDS * n
    ]
    if not words.novelty_change <= MEAN_CHANGE:
        reasons.append(f"the score of 'none of these' changes by {words.novelty_change:.3g} on average")
    return reasons


def _words(words: Sequence[Words]) -> WordsProof:
    return WordsProof(
        same_set=sum(one.same_set for one in words),
        same_none_of_these=sum(one.same_none_of_these for one in words),
        novelty_change=float(np.mean([one.novelty_change for one in words])),
        milliseconds=float(np.median([one.milliseconds for one in words])),
        same_pixels=sum(one.pixel_change == 0 for one in words),
        pixel_change=max(one.pixel_change for one in words),
    )


def shown_worst(proof: Proof) -> list[Disagreement]:
    """The pictures to name where an export is refused: those that get another class, else the most changed."""
    return list(proof.differing[:WORST] or proof.worst)


def _accuracies(answers: Answers, classes: Sequence[str]) -> tuple[Any, Any]:
    groups = {sample.digest: sample.group for sample in answers.samples if sample.group}
    found = compare(
        [
            Contestant("original", _answers(answers, answers.original, classes)),
            Contestant("export", _answers(answers, answers.export, classes)),
        ],
        groups,
    )
    return found.pairs[0], found.accuracy


def _answers(answers: Answers, probabilities: FloatArray, classes: Sequence[str]) -> dict[str, Answer]:
    said = zip(answers.samples, probabilities.argmax(axis=1).tolist(), probabilities.max(axis=1).tolist(), strict=True)
    return {
        sample.digest: Answer(sample.path, sample.label, classes[place], min(probability, 1.0))
        for sample, place, probability in said
    }


def _groups(answers: Answers) -> np.ndarray[Any, np.dtype[np.int64]]:
    names = [sample.group or sample.digest for sample in answers.samples]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _said(answers: Answers, row: int, classes: Sequence[str], change: float) -> Disagreement:
    sample, original, export = answers.samples[row], answers.original[row], answers.export[row]
    first, second = int(original.argmax()), int(export.argmax())
    return Disagreement(
        path=sample.path,
        label=sample.label,
        original=classes[first],
        original_probability=float(original[first]),
        export=classes[second],
        export_probability=float(export[second]),
        change=change,
    )


def _to_json(one: Disagreement) -> dict[str, Any]:
    return {
        "path": one.path,
        "label": one.label,
        "original": {"label": one.original, "probability": float(f"{one.original_probability:.6g}")},
        "export": {"label": one.export, "probability": float(f"{one.export_probability:.6g}")},
        "change": float(f"{one.change:.6g}"),
    }
