"""How compared runs differ: in what they cost, in their settings, and in the commands that made them."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from headstart.judging.finished import Compared, FinishedRun
from headstart.judging.metrics import Interval
from headstart.judging.report import charts, words
from headstart.judging.report.making import Command, flat, training

ABSENT = words.UNKNOWN
_LOG_FROM = 10  # an axis of times spaces them by ratios where the longest is this many times the shortest
_NEAR = 0.035  # of the plot: the numbers of dots that lie closer are written together


@dataclass(frozen=True)
class Cost:
    """The runs in their order, a plot of accuracy over time, and whether embedding is left out of that time."""

    runs: tuple[FinishedRun, ...]
    drawing: Markup
    is_embedding_aside: bool


@dataclass(frozen=True)
class Settings:
    """Settings by name with a value for each run: those that differ, and those that all have in common."""

    names: tuple[str, ...]
    differing: tuple[tuple[str, tuple[str, ...]], ...]
    equal: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Again:
    """The commands that make the same comparison, and each of its runs, again, as (text, purpose).

    Each word of a text is set apart, so that one from right to left turns no other round.
    """

    commands: tuple[tuple[Markup, str], ...]


def costs(compared: Compared) -> Cost:
    """What each run cost, and what it is worth."""
    return Cost(tuple(compared.runs.values()), _drawing(compared), compared.is_embedding_aside)


def settings(compared: Compared) -> Settings | None:
    """In which settings the runs differ; None where there is only one run."""
    runs = list(compared.runs.values())
    if len(runs) < 2:
        return None
    told = [_settings_of(run) for run in runs]
    differing, equal = [], []
    for key in dict.fromkeys(key for one in told for key in one):
        values = tuple(words.short(one.get(key, ABSENT), 160) for one in told)
        known = {one[key] for one in told if key in one}
        if len(known) > 1:
            differing.append((key, values))
        elif all(key in one for one in told):
            equal.append((key, values[0]))
    return Settings(tuple(run.name for run in runs), tuple(differing), tuple(equal))


def again(compared: Compared, place: Path) -> Again:
    """How to do it all again, with the comparison in the folder `place`."""
    runs = list(compared.runs.values())
    folders = " ".join(shlex.quote(str(run.folder)) for run in runs)
    commands = []
    if len(runs) > 1:
        commands.append(Command(f"headstart compare {folders} -o {shlex.quote(str(place))}", "this comparison"))
    commands += [
        Command(training(run.data, run.options, run.folder), f"the run {words.short(words.plain(run.name))}")
        for run in runs
        if run.data
    ]
    return Again(tuple((apart(command.text), command.purpose) for command in commands))


def apart(command: str) -> Markup:
    """A command each word of which is set apart, as a page shows it."""
    quoted = (words.plain(shlex.quote(word)) for word in shlex.split(command))
    return Markup(" ").join(Markup("<bdi>{}</bdi>").format(word) for word in quoted)


def _settings_of(run: FinishedRun) -> dict[str, str]:
    """What was given and what came of it, as text; a recipe's own settings under `recipe`."""
    found = dict(flat(run.options))
    resolved = {"data": run.data, "backbone": run.backbone, "tune": run.tune, "learnt from": words.count(run.n_train)}
    computed = {f"{key} used" if key in found else key: value for key, value in flat(run.computed)}
    return {**{key: value for key, value in found.items() if key not in resolved}, **resolved, **computed}


def _drawing(compared: Compared) -> Markup:
    """Accuracy over seconds, a numbered dot for each run."""
    accuracy = compared.comparison.accuracy
    seconds = {name: max(compared.cost[name], 0.01) for name in compared.runs}
    low, high = charts.around([end for one in accuracy.values() for end in (one.low, one.high)], most=1.0)
    x = _time_axis(list(seconds.values()), compared.is_embedding_aside)
    y = charts.Axis(low, high, tuple((at, words.percent(at, 0)) for at in charts.ticks(low, high)), "accuracy")
    points = [(seconds[name], accuracy[name]) for name in compared.runs]
    texts = numbered(x, y, points)
    layers = [
        charts.Marks(tuple(points[1:]), "rival", texts=texts[1:]),
        charts.Marks(tuple(points[:1]), "best", texts=texts[:1]),
    ]
    said = (
        f"{name}: {words.percent(accuracy[name].value)} in {words.seconds(seconds[name])}" for name in compared.runs
    )
    return charts.plot(x, y, layers, "Accuracy over seconds", words.plain("; ".join(said)))


def _time_axis(seconds: Sequence[float], aside: bool) -> charts.Axis:
    label = f"seconds of training{', embedding aside' if aside else ''}"
    low, high = min(seconds), max(seconds)
    if high < _LOG_FROM * low:
        end = high * 1.15
        return charts.Axis(0.0, end, tuple((at, f"{at:,g}") for at in charts.ticks(0.0, end)), label)
    low, high = low / 1.4, high * 1.6
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high < 300 * low else (1,)
    at = [one for exponent in powers for step in steps if low <= (one := step * 10.0**exponent) <= high]
    return charts.Axis(low, high, tuple((one, f"{one:,g}") for one in at), f"{label}, spaced by ratios", is_log=True)


def numbered(x: charts.Axis, y: charts.Axis, points: Sequence[tuple[float, Interval]]) -> tuple[str, ...]:
    """The numbers of the dots from 1 on; of those that lie upon each other all at the first, none at the others."""
    texts: list[str] = []
    places: list[tuple[float, float]] = []
    for number, (at, interval) in enumerate(points, start=1):
        here = (x.at(at), y.at(interval.value))
        near = next((place for place, other in enumerate(places) if math.dist(here, other) < _NEAR), None)
        places.append(here if near is None else (math.inf, math.inf))
        texts.append(str(number) if near is None else "")
        if near is not None:
            texts[near] += f", {number}"
    return tuple(texts)
