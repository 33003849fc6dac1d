"""The page of a comparison of backbones, written: which one to take, how sure that is, and what each costs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from headstart.judging.choice import Advice, Choice, Entrant, Joining, Stopped
from headstart.judging.comparison import Pair
from headstart.judging.metrics import Interval
from headstart.judging.report import charts, contest, contrast, words
from headstart.judging.report.base import build
from headstart.judging.report.making import training
from headstart.judging.report.verdict import FEW_PICTURES
from headstart.storage import written_atomically

_REASON_LETTERS = 700
_LOG_FROM = 10  # an axis of paces spaces them by ratios where the fastest is this many times the slowest


@dataclass(frozen=True)
class Place:
    """A candidate in the order of accuracy: out of fold, on the held-out pictures, and the best against it if any."""

    name: str
    accuracy: Interval
    log_loss: Interval
    held_out: Interval
    pair: Pair | None
    is_taken: bool


@dataclass(frozen=True)
class Verdict:
    """Which to take, why, and what the held-out pictures say to it; `n` out of fold, `n_check` held out."""

    headline: str
    sentences: tuple[str, ...]
    command: str
    n: int
    n_check: int
    places: tuple[Place, ...]
    cautions: tuple[contest.Caution, ...]


@dataclass(frozen=True)
class Priced:
    """What a candidate costs; `times`: its pictures a second over those of the fastest; `stopped` by the first rung."""

    rank: int | None
    entrant: Entrant
    times: float
    is_taken: bool


@dataclass(frozen=True)
class Cost:
    """The candidates, those that were stopped last, and a plot of accuracy over pace."""

    priced: tuple[Priced, ...]
    drawing: Markup
    is_any_stopped: bool


@dataclass(frozen=True)
class Aside:
    """What did not come to the end: candidates stopped after `rung` pictures, and those left out, with reasons."""

    rung: int | None
    stopped: tuple[Stopped, ...]
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Sections:
    """The sections of the page in their order; None for what there is nothing to say of."""

    verdict: Verdict
    cost: Cost
    joining: "Joined | None"
    pairs: contest.Pairs | None
    aside: Aside | None
    again: contrast.Again


@dataclass(frozen=True)
class Joined:
    """Whether joining pays, in a sentence, with the pair."""

    joining: Joining
    sentence: str
    n: int


NAMES = {
    "verdict": "The recommendation",
    "cost": "What each costs",
    "joining": "Does joining pay?",
    "pairs": "Each pair",
    "aside": "Stopped and left out",
    "again": "What to type",
}


def write_chosen(path: Path, found: Choice) -> Path:
    """Write the page of `found` to `path`, and return it: one file, which needs no network.

    Raises:
        StorageError: the page cannot be written.
    """
    page = render(found, path.parent)
    with written_atomically(path) as temporary:
        temporary.write_text(page, "utf-8", newline="\n")
    return path


def render(found: Choice, place: Path) -> str:
    """The page as text; `place` is the folder that it will stand in."""
    sections = Sections(
        verdict=_verdict(found),
        cost=_cost(found),
        joining=None if found.joining is None else Joined(found.joining, joining(found), found.comparison.n),
        pairs=_pairs(found),
        aside=_aside(found),
        again=_again(found, place),
    )
    return build(
        "chosen.html.jinja",
        {"pictures": {}, "cells": [], "points": []},
        sheets=("versus.css", "chosen.css"),
        kind="choice",
        title=words.plain(f"backbones for {Path(found.data).name or found.data}"),
        names=NAMES,
        sections=sections,
        family="chosen_",
        thumbnails={},
        numbers={},
        version=None,
        source="Every number in this page stands in backbones.json beside it.",
    )


def recommendation(found: Choice) -> str:
    """Which backbone to take and why, in a sentence."""
    advice = found.advice
    if len(found.results) == 1:
        return f"Take {advice.name}: of the candidates, it alone came to the end."
    if advice.pair is None:
        return f"Take {advice.name}: {_why_the_best(found)}."
    pair, n = advice.pair, words.many(found.comparison.n, "picture")
    worse, times = words.points(advice.at_most_worse), _times(advice)
    if advice.is_as_good:
        return (
            f"Take {advice.name}: it is as good as {pair.better} within the error on {n} (at most {worse} worse, by "
            f"the end of the 95 % interval), and {times}."
        )
    return (
        f"Take {advice.name}: on {n} it cannot be told apart from {pair.better}, and is {times}; but it may be "
        f"worse by up to {worse} (the end of the 95 % interval), which only more pictures can tell."
    )


def sooner(found: Choice) -> str | None:
    """What a faster candidate would cost in accuracy, in a sentence; None where there is no faster one."""
    if not found.advice.sooner:
        return None
    pair, taken = found.advice.sooner[0], found.results[found.advice.name].entrant
    times = found.results[pair.worse].entrant.pace.per_second / taken.pace.per_second
    behind = f"{words.points(pair.difference.value)} behind {pair.better} ({words.gap(pair.difference)})"
    return f"{pair.worse} is {times:.1f} times as fast, but surely worse: {behind}, {words.chance(pair.p_corrected)}."


def check(found: Choice) -> str:
    """What the held-out pictures, which chose nothing, say of the recommendation, in a sentence."""
    name, n = found.advice.name, words.many(found.check.n, "held-out picture")
    mine = words.share(found.check.accuracy[name])
    pair = found.check.against_best(name)
    begun = f"On the {n}, which chose nothing, {name} is right on {mine}"
    if pair is None:
        return f"{begun}{', the most of all' if len(found.results) > 1 else ''}."
    best = f"{pair.better} on {words.share(found.check.accuracy[pair.better])}"
    if pair.is_certain:
        return f"{begun} and {best}: they do not bear the recommendation out, {words.chance(pair.p_corrected)}."
    return f"{begun} and {best}; the difference may be chance, {words.chance(pair.p_corrected)}."


def joining(found: Choice) -> str:
    """Whether joining pays, in a sentence."""
    assert found.joining is not None
    joined, pair = found.joining, found.joining.pair
    single, both = found.results[joined.single].entrant.pace, found.results[joined.name].entrant.pace
    where = "ahead of" if pair.better == joined.name else "behind"
    how = f"{words.points(pair.difference.value)} {where} {joined.single}"
    if pair.only_better == pair.only_worse:
        how = f"right as often as {joined.single}"
    return (
        f"Joining {'pays' if joined.pays else 'does not pay'}: {joined.name} is {how}, "
        f"{words.chance(pair.p_corrected)}, for {single.per_second / both.per_second:.1f} times the work."
    )


def stop(one: Stopped) -> str:
    """Why a candidate was stopped, in words."""
    return (
        f"stopped after {words.many(one.n, 'picture')}: {one.accuracy.value:.2f} against {one.best.value:.2f} of "
        f"{one.pair.better}, {words.chance(one.pair.p_corrected)}, and {one.faster} is faster"
    )


def command(found: Choice) -> str:
    """What to type to train with the recommended backbone."""
    return training(found.data, {**found.options, "backbone": found.advice.name}, Path(found.run))


def _why_the_best(found: Choice) -> str:
    name = found.advice.name
    rivals = [pair for pair in found.comparison.pairs if pair.better == name and not pair.is_certain]
    is_fastest = found.fastest.name == name
    if not rivals:
        others = "the other" if len(found.results) == 2 else f"the other {len(found.results) - 1}"
        return f"it is surely better than {others}" + (", and the fastest" if is_fastest else "")
    if is_fastest:
        return "it is the most accurate, and the fastest"
    return "it is the most accurate, and none that cannot be told apart from it is clearly faster"


def _times(advice: Advice) -> str:
    return "twice as fast" if 1.9 <= advice.times < 2.1 else f"{advice.times:.1f} times as fast"


def _verdict(found: Choice) -> Verdict:
    places = [
        Place(
            name=name,
            accuracy=found.comparison.accuracy[name],
            log_loss=result.log_loss,
            held_out=found.check.accuracy[name],
            pair=found.comparison.against_best(name),
            is_taken=name == found.advice.name,
        )
        for name, result in found.results.items()
    ]
    why = recommendation(found).partition(": ")[2]
    sentences = (f"{why[:1].upper()}{why[1:]}", *filter(None, [sooner(found), check(found)]))
    return Verdict(
        headline=f"Take {found.advice.name}",
        sentences=tuple(words.tight(one) for one in sentences),
        command=command(found),
        n=found.comparison.n,
        n_check=found.check.n,
        places=tuple(places),
        cautions=tuple(_cautions(found)),
    )


def _cautions(found: Choice) -> Iterator[contest.Caution]:
    for one in found.stopped:
        yield contest.Caution(one.entrant.name, f"{stop(one)}.")
    for name, reason in found.left_out.items():
        yield contest.Caution(f"{words.short(name)} was left out", words.short(reason.partition("\n")[0], 200))
    if found.comparison.n < FEW_PICTURES:
        n = words.many(found.comparison.n, "picture")
        yield contest.Caution(
            f"Only {n}", "The fewer there are, the larger a difference must be to be told from chance."
        )
    if found.comparison.group_count < found.comparison.n:
        text = f"They come in {found.comparison.group_count:,} groups, which p and the intervals allow for."
        yield contest.Caution("The pictures are not independent", text)
    if len(found.results) > 1:
        text = (
            "Each head is judged on training pictures that it has not seen; that the best is the best of several there "
            "flatters it a little. p is corrected for all pairs (Holm), the intervals are not."
        )
        yield contest.Caution("Chosen out of fold", text)


def _cost(found: Choice) -> Cost:
    most = found.fastest.pace.per_second
    judged = [result.entrant for result in found.results.values()]
    priced = [
        Priced(rank, one, one.pace.per_second / most, one.name == found.advice.name)
        for rank, one in enumerate(judged, start=1)
    ]
    priced += [Priced(None, one.entrant, one.entrant.pace.per_second / most, False) for one in found.stopped]
    return Cost(tuple(priced), _drawing(found), bool(found.stopped))


def _drawing(found: Choice) -> Markup:
    """Accuracy out of fold over pictures a second; a numbered dot for each, a square for those that were stopped."""
    points = [(one.entrant.pace.per_second, found.comparison.accuracy[name]) for name, one in found.results.items()]
    squares = [(one.entrant.pace.per_second, one.accuracy) for one in found.stopped]
    accuracies = [interval for _, interval in points + squares]
    low, high = charts.around([end for one in accuracies for end in (one.low, one.high)], most=1.0)
    x = _pace_axis([at for at, _ in points + squares])
    digits = 0 if high - low > 0.06 else 1
    y = charts.Axis(low, high, tuple((at, words.percent(at, digits)) for at in charts.ticks(low, high)), "accuracy")
    texts = contrast.numbered(x, y, points)
    taken = list(found.results).index(found.advice.name)
    others = [place for place in range(len(points)) if place != taken]
    layers = [
        charts.Marks(tuple(squares), "halted", is_square=True),
        charts.Marks(tuple(points[at] for at in others), "rival", texts=tuple(texts[at] for at in others)),
        charts.Marks((points[taken],), "best", texts=(texts[taken],)),
    ]
    said = [
        f"{name}: {words.percent(found.comparison.accuracy[name].value)} at {words.number(at)} pictures a second"
        for name, (at, _) in zip(found.results, points, strict=True)
    ]
    return charts.plot(x, y, layers, "Accuracy over pictures a second", words.plain("; ".join(said)))


def _pace_axis(paces: list[float]) -> charts.Axis:
    label = "pictures a second"
    low, high = min(paces), max(paces)
    if high < _LOG_FROM * low:
        end = high * 1.15
        return charts.Axis(0.0, end, tuple((at, f"{at:,g}") for at in charts.ticks(0.0, end)), label)
    low, high = low / 1.4, high * 1.4
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    at = [one for power in powers for step in (1, 2, 5) if low <= (one := step * 10.0**power) <= high]
    return charts.Axis(low, high, tuple((one, f"{one:,g}") for one in at), f"{label}, spaced by ratios", is_log=True)


def _pairs(found: Choice) -> contest.Pairs | None:
    ordered = sorted(found.comparison.pairs, key=lambda pair: found.comparison.best not in (pair.better, pair.worse))
    return contest.Pairs(tuple(ordered[: contest.MOST_PAIRS]), len(ordered)) if ordered else None


def _aside(found: Choice) -> Aside | None:
    if not found.stopped and not found.left_out and found.rung is None:
        return None
    reasons = tuple((name, words.short(reason, _REASON_LETTERS)) for name, reason in found.left_out.items())
    return Aside(found.rung, found.stopped, reasons)


def _again(found: Choice, place: Path) -> contrast.Again:
    commands = [(contrast.apart(command(found)), f"train with {words.short(words.plain(found.advice.name))}")]
    names = ",".join([*found.asked])
    options = {**found.options, "backbone": None, "backbones": names, "join": found.is_join_asked}
    compared = training(found.data, options, place).replace("headstart train", "headstart compare", 1)
    return contrast.Again((*commands, (contrast.apart(compared), "compare them again")))
