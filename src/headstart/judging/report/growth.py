"""Would more pictures help: accuracy against how many pictures were learnt from, with a forecast."""

from dataclasses import dataclass

from markupsafe import Markup

from headstart.judging.metrics import Interval
from headstart.judging.report import charts, words
from headstart.judging.report.record import Json, Record, interval

_LOG_FROM = 6  # the largest over the smallest number of pictures from which on the axis goes by ratios


@dataclass(frozen=True)
class Growth:
    """The verdict in words, the drawing, and its numbers: (pictures, accuracy, whether it is a forecast)."""

    verdict: str
    drawing: Markup
    table: tuple[tuple[int, Interval, bool], ...]


def find(record: Record) -> Growth | None:
    """The learning curve over the number of pictures; None where it was not measured."""
    found: Json = record.metrics.get("growth") or {}
    seen, hoped = _read(found, "points"), _read(found, "forecast")
    if not seen:
        return None
    verdict = _sentence(words.tight(str(found.get("verdict") or "")))
    table = [(n, share, False) for n, share in seen] + [(n, share, True) for n, share in hoped]
    return Growth(verdict, _drawing(seen, hoped, verdict), tuple(table))


def _sentence(text: str) -> str:
    """`text` with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text[-1:] in ('.', '!', '?', '') else '.'}"


def _read(found: Json, key: str) -> list[tuple[int, Interval]]:
    rows = [(int(row["n"]), interval(row.get("accuracy"))) for row in found.get(key) or ()]
    return sorted((n, share) for n, share in rows if share is not None) if rows else []


def _drawing(seen: list[tuple[int, Interval]], hoped: list[tuple[int, Interval]], verdict: str) -> Markup:
    numbers = [n for n, _ in seen + hoped]
    is_log = max(numbers) >= _LOG_FROM * min(numbers)
    low, high = charts.around((end for _, share in seen + hoped for end in (share.low, share.value, share.high)), 0, 1)
    x = charts.Axis(min(numbers), max(numbers), _spaced(numbers, is_log), "pictures to learn from", is_log)
    y = charts.Axis(low, high, tuple((at, words.exact(at)) for at in charts.ticks(low, high)), "accuracy")
    layers: list[charts.Layer] = []
    if hoped:
        joined = [seen[-1], *hoped]
        layers.append(charts.Band(tuple((n, share.low, share.high) for n, share in joined), "band"))
        layers.append(charts.Line(tuple((n, share.value) for n, share in joined), "forecast"))
    layers.append(charts.Line(tuple((n, share.value) for n, share in seen), "measured"))
    layers.append(charts.Marks(tuple(hoped), "hoped", is_square=True))
    layers.append(charts.Marks(tuple(seen), "seen"))
    description = f"From {words.share(seen[0][1])} with {seen[0][0]:,} pictures to {words.share(seen[-1][1])} with "
    description += f"{seen[-1][0]:,}. {verdict}"
    return charts.plot(x, y, layers, "Accuracy against the number of pictures", description)


def _spaced(numbers: list[int], is_log: bool) -> tuple[tuple[float, str], ...]:
    """Those of `numbers` that stand far enough apart on the axis for their texts, the last one among them."""
    axis = charts.Axis(min(numbers), max(numbers), (), "", is_log)
    kept: list[int] = []
    for n in sorted(set(numbers), reverse=True):
        if not kept or axis.at(kept[-1]) - axis.at(n) >= 0.14:
            kept.append(n)
    return tuple((float(n), words.count(n)) for n in reversed(kept))
