"""Looks -> flaws: pictures too dark, bright, blurred, small, oddly shaped or empty to learn from."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from headstart.judging.intervals import BoolArray, FloatArray
from headstart.pictures.looks import Looks

EMPTY = 0.015  # standard deviation of luma, of white
DARK, BRIGHT = 0.15, 0.92  # of white; nearly all pixels are darker, or brighter
BLURRED, BLURRED_OF_MEDIAN = 0.01, 1 / 3  # sharpness
TINY = 64  # pixels of the shorter side
NARROW = 3.0  # longer side over shorter side
COMMON, COMMON_COUNT = 0.1, 3  # more pictures than both are a trait of the set, not a flaw of each
LEAST = 1e-6  # where a measure of zero is divided by


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with the picture at `row`, or with the whole set (None).

    `kind` is dark, bright, blurred, tiny, odd_shape or constant. `score`, in [0, 1]: of a picture, 0.5 at the limit and
    1 at the worst; of a set, the share of its pictures. `reason` is a sentence with the numbers, `action` what to do.
    """

    row: int | None
    kind: str
    score: float
    reason: str
    action: str


@dataclass(frozen=True, eq=False)
class _Rule:
    """One kind of flaw, measured on n pictures.

    `excess` [n]: above 1 where the limit is passed, and the further the larger. `order` [n]: larger for pictures that
    are more `more` ("darker"), `value` [n]: what is told of them, as `told`. `trait`: what is said of a whole set.
    """

    kind: str
    excess: FloatArray
    order: FloatArray
    more: str
    value: FloatArray
    told: str
    trait: str
    action: str


def find_flaws(looks: Looks) -> list[Flaw]:
    """What is wrong with the pictures, where a person would agree; by kind, the worst first within one.

    - constant: the standard deviation of the luma is below 0.015 of white, so that nothing can be seen;
    - dark: 95 % of the pixels are darker than 0.15 of white; bright: 95 % are brighter than 0.92;
    - tiny: the shorter side is less than 64 pixels; odd_shape: one side is more than three times the other;
    - blurred: the sharpness is below 0.01, and below a third of the median of the set.

    The limits are absolute, so that a good set has no flaws. But where more than a tenth of the pictures (and more than
    three) pass one, it is how this set looks, a night camera or thumbnails, and is said once. For its light, size or
    sharpness a picture is named once, in the order above. The kinds are those of cleanvision
    (https://github.com/cleanlab/cleanvision). The limits were chosen by looking at 4,000 photos of six sets: those that
    came nearest to a limit were fine, and blurring by 1 % of the side brought 9 of 10 ordinary photos below 0.01.
    """
    flaws: list[Flaw] = []
    explained = np.zeros(len(looks.brightness), np.bool_)
    for rule in _rules(looks):
        passed = rule.excess > 1
        if rule.kind != "odd_shape":
            passed = passed & ~explained
            explained |= passed
        flaws.extend(_flaws(rule, passed))
    return flaws


def _flaws(rule: _Rule, passed: BoolArray) -> Iterator[Flaw]:
    """One flaw for each picture that `passed` the limit of `rule`, or one for the set."""
    rows, n = np.flatnonzero(passed), len(passed)
    if len(rows) > max(COMMON * n, COMMON_COUNT):
        reason = f"{len(rows):,} of {n:,} pictures ({100 * len(rows) / n:.0f} %) {rule.trait}"
        yield Flaw(None, rule.kind, len(rows) / n, reason, "nothing, if the pictures to come will be alike")
        return
    ordered = np.sort(rule.order)
    for row in rows[np.argsort(-rule.excess[rows], kind="stable")]:
        less = np.searchsorted(ordered, rule.order[row]) / n
        reason = f"{rule.more} than {_percent(less)} of the pictures: {rule.told.format(rule.value[row])}"
        yield Flaw(int(row), rule.kind, float(1 - 0.5 / rule.excess[row]), reason, rule.action)


def _percent(share: float) -> str:
    """A share in per cent, with a digit behind the point; never rounded up to all."""
    return f"{np.floor(share * 1000) / 10:.1f} %"


def _rules(looks: Looks) -> Iterator[_Rule]:
    """The rules in the order in which they explain a picture."""
    brightness, contrast = looks.brightness.astype(np.float64), looks.contrast.astype(np.float64)
    darkest, brightest = looks.darkest.astype(np.float64), looks.brightest.astype(np.float64)
    yield _Rule(
        "constant",
        EMPTY / np.maximum(contrast, LEAST),
        -contrast,
        "emptier",
        contrast,
        "its light varies by {:.3f} of white only",
        "show next to nothing",
        "look at it, and remove it if it is a placeholder or a fault",
    )
    yield _Rule(
        "dark",
        DARK / np.maximum(brightest, LEAST),
        -brightness,
        "darker",
        brightness,
        "mean brightness {:.2f}",
        "are dark (nearly all of their pixels are below 0.15 of white)",
        "look at it, and remove or brighten it if little can be seen",
    )
    yield _Rule(
        "bright",
        (1 - BRIGHT) / np.maximum(1 - darkest, LEAST),
        brightness,
        "brighter",
        brightness,
        "mean brightness {:.2f}",
        "are bright (nearly all of their pixels are above 0.92 of white)",
        "look at it, and remove it if little can be seen",
    )
    yield from _shape_rules(looks)
    sharpness = looks.sharpness.astype(np.float64)
    limit = min(BLURRED, BLURRED_OF_MEDIAN * float(np.median(sharpness))) if len(sharpness) else BLURRED
    yield _Rule(
        "blurred",
        limit / np.maximum(sharpness, LEAST),
        -sharpness,
        "more blurred",
        sharpness,
        f"sharpness {{:.4f}}, where {np.median(sharpness) if len(sharpness) else 0:.3f} is usual",
        "are blurred",
        "look at it, and remove it if it does not show its class",
    )


def _shape_rules(looks: Looks) -> Iterator[_Rule]:
    """Those about width and height."""
    shorter = np.minimum(looks.width, looks.height).astype(np.float64)
    longer = np.maximum(looks.width, looks.height).astype(np.float64)
    yield _Rule(
        "tiny",
        # The limit itself is not passed: a set of thumbnails of 64 pixels is fine.
        TINY / np.maximum(shorter, LEAST),
        -shorter,
        "smaller",
        shorter,
        "{:.0f} pixels on its shorter side",
        "are tiny (below 64 pixels on the shorter side)",
        "use the original instead of a thumbnail if there is one",
    )
    ratio = longer / np.maximum(shorter, 1)
    yield _Rule(
        "odd_shape",
        ratio / NARROW,
        ratio,
        "narrower",
        ratio,
        "one side is {:.1f} times the other, and only the middle is looked at",
        "have one side more than three times the other, and only their middle is looked at",
        "cut out the part that shows its class",
    )
