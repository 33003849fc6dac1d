"""Drawings as inline SVG that fills the width it is given: its places are per cent, its letters keep their size."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from headstart.judging.metrics import Interval

Point = tuple[float, float]
_FAR_RIGHT = 0.8  # of a plot: texts beside dots beyond stand on their left
_INNER = 1000  # the viewBox of lines and areas, which are stretched to the plot


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high` with (value, text) `ticks`; `is_log` spaces it by ratios."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    label: str
    is_log: bool = False

    def at(self, value: float) -> float:
        """Where `value` lies, from 0 (at `low`) to 1, and at the nearer end if beyond."""
        low, high, here = self.low, self.high, value
        if self.is_log:
            low, high, here = math.log(low), math.log(high), math.log(max(value, self.low))
        return min(1.0, max(0.0, (here - low) / (high - low))) if high > low else 0.5


@dataclass(frozen=True)
class Line:
    """A line through `points`; `kind` is the class that the style sheet knows."""

    points: tuple[Point, ...]
    kind: str


@dataclass(frozen=True)
class Band:
    """The area between (x, low, high)."""

    edges: tuple[tuple[float, float, float], ...]
    kind: str


@dataclass(frozen=True)
class Marks:
    """Dots at (x, value) with whiskers from low to high, and texts beside them; `is_square` draws squares."""

    points: tuple[tuple[float, Interval], ...]
    kind: str
    is_square: bool = False
    texts: tuple[str, ...] = ()


Layer = Line | Band | Marks


def plot(x: Axis, y: Axis, layers: Sequence[Layer], title: str, description: str) -> Markup:
    """A plot with axes, `layers` from back to front; `title` and `description` are what a screen reader says."""
    ident = f"plot-{_slug(title)}"
    inside = Markup("").join(_stretched(x, y, layer) for layer in layers if not isinstance(layer, Marks))
    dots = Markup("").join(_marks(x, y, layer) for layer in layers if isinstance(layer, Marks))
    return Markup(
        '<div class="plot"><svg role="img" aria-labelledby="{ident}-t {ident}-d">'
        '<title id="{ident}-t">{title}</title><desc id="{ident}-d">{description}</desc>{axes}'
        '<svg viewBox="0 0 {side} {side}" preserveAspectRatio="none" width="100%" height="100%">{inside}</svg>'
        "{dots}</svg></div>"
    ).format(
        ident=ident,
        title=title,
        description=description,
        axes=_axes(x, y),
        side=_INNER,
        inside=inside,
        dots=dots,
    )


def ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round values from `low` to `high`, at most `most`, 1, 2 or 5 times a power of ten apart.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = max(high - low, 1e-12)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * times for times in (1, 2, 5, 10, 20) if span / (power * times) <= most - 1 + 1e-9)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


@dataclass(frozen=True)
class Scale:
    """The axis of a table's bars: from `start` to `end`, with `ticks` as (place in per cent, text)."""

    start: float
    ticks: tuple[tuple[float, str], ...]
    end: float = 1.0

    def at(self, value: float) -> str:
        """Where a share lies, in per cent of the axis."""
        return _percent(min(1.0, max(0.0, (value - self.start) / (self.end - self.start))))

    def length(self, interval: Interval) -> str:
        """How long an interval is, in per cent of the axis."""
        return _percent((min(self.end, interval.high) - max(self.start, interval.low)) / (self.end - self.start))


def scale(intervals: Iterable[Interval]) -> Scale:
    """The axis for shares: from the highest of 0, 50 and 80 per cent below which none of `intervals` reaches.

    What is drawn on it are places, not lengths, so that it need not begin at 0; its ticks say where it does.
    """
    lows = [one.value if math.isnan(one.low) else one.low for one in intervals]
    start = next(begin for begin in (0.8, 0.5, 0.0) if min(lows, default=0.0) >= begin)
    count = {0.8: 4, 0.5: 5, 0.0: 4}[start]
    values = [start + (1 - start) * number / count for number in range(count + 1)]
    texts = [f"{value * 100:.0f}" for value in values]
    return Scale(start, tuple((number * 100 / count, text) for number, text in enumerate(texts)))


def differences(intervals: Iterable[Interval]) -> Scale:
    """The axis for differences between shares, in points of a hundred: it holds them and 0, from tick to tick."""
    known = [end for one in intervals for end in (one.low, one.value, one.high)]
    low, high = min(0.0, *known), max(0.0, *known)
    apart = ticks(low, max(high, low + 0.01), 6)
    step = apart[1] - apart[0]
    first, last = math.floor(low / step + 1e-9), max(math.ceil(high / step - 1e-9), 1)
    texts = [f"{number * step * 100:+.3g}".replace("-", "−") if number else "0" for number in range(first, last + 1)]
    count = last - first
    return Scale(first * step, tuple((number * 100 / count, text) for number, text in enumerate(texts)), last * step)


def around(values: Iterable[float], least: float = 0.0, most: float = math.inf) -> tuple[float, float]:
    """The ends of an axis that holds `values` with a little air, within [least, most]."""
    known = [value for value in values if math.isfinite(value)]
    low, high = min(known), max(known)
    air = max((high - low) * 0.08, 0.01)
    return max(least, low - air), min(most, high + air)


def _axes(x: Axis, y: Axis) -> Markup:
    lines = [
        Markup(
            '<line class="grid" x1="0%" x2="100%" y1="{at}%" y2="{at}%"/>'
            '<text class="tick" x="0%" dx="-8" y="{at}%" dy="0.32em" text-anchor="end">{text}</text>'
        ).format(at=_percent(1 - y.at(value)), text=text)
        for value, text in y.ticks
    ]
    lines += [
        Markup(
            '<line class="grid" x1="{at}%" x2="{at}%" y1="100%" y2="100%"/>'
            '<text class="tick" x="{at}%" y="100%" dy="1.5em" text-anchor="middle">{text}</text>'
        ).format(at=_percent(x.at(value)), text=text)
        for value, text in x.ticks
    ]
    names = Markup(
        '<line class="axis" x1="0%" x2="100%" y1="100%" y2="100%"/>'
        '<text class="axis-name" x="100%" y="100%" dy="2.9em" text-anchor="end">{x}</text>'
        '<text class="axis-name" x="0%" y="0%" dy="-0.9em" text-anchor="start">{y}</text>'
    ).format(x=x.label, y=y.label)
    return Markup("").join(lines) + names


def _stretched(x: Axis, y: Axis, layer: Line | Band) -> Markup:
    if isinstance(layer, Line):
        path = " ".join(_place(x, y, point) for point in layer.points)
        return Markup('<polyline class="{}" points="{}"/>').format(layer.kind, path)
    there = [_place(x, y, (at, high)) for at, _, high in layer.edges]
    back = [_place(x, y, (at, low)) for at, low, _ in reversed(layer.edges)]
    return Markup('<polygon class="{}" points="{}"/>').format(layer.kind, " ".join(there + back))


def _marks(x: Axis, y: Axis, layer: Marks) -> Markup:
    dots = Markup("").join(_mark(x, y, at, interval, layer) for at, interval in layer.points)
    named = zip(layer.points, layer.texts, strict=False)
    return dots + Markup("").join(
        Markup('<text class="dot-name" x="{}%" y="{}%" dx="{}" dy="-0.5em" text-anchor="{}">{}</text>').format(
            _percent(x.at(at)),
            _percent(1 - y.at(interval.value)),
            *((-9, "end") if x.at(at) > _FAR_RIGHT else (9, "start")),
            text,
        )
        for (at, interval), text in named
    )


def _mark(x: Axis, y: Axis, at: float, interval: Interval, layer: Marks) -> Markup:
    across, up = _percent(x.at(at)), _percent(1 - y.at(interval.value))
    whisker = Markup("")
    if not math.isnan(interval.low):
        whisker = Markup('<line class="{} whisker" x1="{}%" x2="{}%" y1="{}%" y2="{}%"/>').format(
            layer.kind, across, across, _percent(1 - y.at(interval.low)), _percent(1 - y.at(interval.high))
        )
    if layer.is_square:
        dot = Markup(
            '<svg x="{}%" y="{}%" overflow="visible">'
            '<rect class="{} dot" x="-4.5" y="-4.5" width="9" height="9"/></svg>'
        ).format(across, up, layer.kind)
    else:
        dot = Markup('<circle class="{} dot" cx="{}%" cy="{}%" r="4.5"/>').format(layer.kind, across, up)
    return whisker + dot


def _place(x: Axis, y: Axis, point: Point) -> str:
    return f"{x.at(point[0]) * _INNER:.1f},{(1 - y.at(point[1])) * _INNER:.1f}"


def _percent(share: float) -> str:
    return f"{share * 100:.2f}"


def _slug(title: str) -> str:
    return "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in title.lower())
