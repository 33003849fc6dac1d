"""The map of the features: every picture a dot, alike ones close together, classes by colour and by shape."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from headstart.judging.report import words
from headstart.judging.report.record import Record, Row, Rows, is_right

MOST_POINTS, MOST_PICTURES, STYLES = 2000, 300, 12
MOST_WRONG = MOST_POINTS // 4  # shown before others: of very many pictures the mistakes alone would fill the map
WIDTH, HEIGHT, MARGIN = 1000, 640, 24
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "plus")
"""The shape of a class is the remainder of its place by six, its colour that by eight, in the style sheet."""


@dataclass(frozen=True)
class Style:
    """How a class is drawn: colour and shape; its sample for the legend; `n` pictures on the map."""

    name: str
    n: int
    colour: int
    shape: str
    sample: Markup


@dataclass(frozen=True)
class Atlas:
    """The map: `shown` of `of` dots, the drawing, the legend, and what pointing at a dot needs.

    `favours_mistakes`: whether more of the dots are mistakes than of the pictures.
    """

    shown: int
    of: int
    favours_mistakes: bool
    drawing: Markup
    legend: tuple[Style, ...]
    others: int
    points: list[list[Any]]
    pictures: tuple[str, ...]


def find(record: Record) -> Atlas | None:
    """The map of map.csv; None where there is none."""
    rows = record.points.where(_is_placed)
    if not rows:
        return None
    wrong = {row["path"] for row in record.mistakes}
    chosen = _chosen(rows, wrong)
    shown = {row["path"] for row in chosen}
    said = {row["path"]: row for row in record.predictions if row["path"] in shown}
    sizes = Counter(row["label"] for row in rows)
    ranked = sorted(sizes, key=lambda name: (-sizes[name], name))
    styled = sorted(ranked[:STYLES])
    places = _places(chosen)
    return Atlas(
        shown=len(chosen),
        of=len(rows),
        favours_mistakes=bool(wrong) and len(chosen) < len(rows),
        drawing=_drawing(chosen, places, styled, said),
        legend=tuple(_style(place, name, sizes[name]) for place, name in enumerate(styled)),
        others=len(ranked) - len(styled),
        points=[_point(row, place, said.get(row["path"])) for row, place in zip(chosen, places, strict=True)],
        pictures=_pictures(chosen, said),
    )


def _is_placed(row: Row) -> bool:
    try:
        return math.isfinite(float(row.get("x") or "nan")) and math.isfinite(float(row.get("y") or "nan"))
    except ValueError:
        return False


def _is_wrong(row: Row, said: dict[str, Row]) -> bool:
    return row["path"] in said and not is_right(said[row["path"]])


def _chosen(rows: Rows, wrong: set[str]) -> tuple[Row, ...]:
    """At most `MOST_POINTS` of `rows`: `MOST_WRONG` mistakes and a random part of the rest, always the same."""
    if len(rows) <= MOST_POINTS:
        return tuple(rows)
    luck = np.random.default_rng([0, *b"report map"]).random(len(rows))
    mistakes = np.flatnonzero([row["path"] in wrong for row in rows])
    rank = luck.copy()
    rank[mistakes[np.argsort(-luck[mistakes], kind="stable")[:MOST_WRONG]]] += 1
    return tuple(rows[np.sort(np.argsort(-rank, kind="stable")[:MOST_POINTS])])


def _pictures(chosen: tuple[Row, ...], said: dict[str, Row]) -> tuple[str, ...]:
    """The paths of the dots that show a picture: mistakes first, then a random part."""
    luck = np.random.default_rng([0, *b"report map pictures"]).random(len(chosen))
    rank = np.array([_is_wrong(row, said) for row in chosen]) * 2.0 + luck
    return tuple(chosen[place]["path"] for place in np.argsort(-rank, kind="stable")[:MOST_PICTURES])


def _places(rows: tuple[Row, ...]) -> list[tuple[float, float]]:
    """Where the dots lie in the drawing; both directions have the same scale, so that distances can be compared."""
    at = np.array([(float(row["x"]), -float(row["y"])) for row in rows])
    low, span = at.min(axis=0), np.maximum(np.ptp(at, axis=0), 1e-12)
    room = np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN])
    scale = float((room / span).min()) if (np.ptp(at, axis=0) > 0).any() else 0.0
    free = (np.array([WIDTH, HEIGHT]) - span * scale) / 2
    return [(float(x), float(y)) for x, y in np.round((at - low) * scale + free, 1)]


def _point(row: Row, place: tuple[float, float], said: Row | None) -> list[Any]:
    """What pointing at a dot shows: x, y, path, label, part, and the prediction with its probability, if any."""
    answer = [] if said is None else [words.plain(said["predicted"]), words.percent(float(said["probability"]))]
    return [*place, row["path"], words.plain(row["label"]), row["part"], *answer]


def _drawing(
    rows: tuple[Row, ...], places: list[tuple[float, float]], styled: list[str], said: dict[str, Row]
) -> Markup:
    """One path for each class and part; rings around mistakes on top."""
    size = 9.0 if len(rows) <= 400 else 7.0 if len(rows) <= 1000 else 5.5
    number = {name: place for place, name in enumerate(styled)}
    parts: dict[tuple[int, bool], list[str]] = {}
    rings = []
    for row, (x, y) in zip(rows, places, strict=True):
        style = number.get(row["label"], -1)
        parts.setdefault((style, row["part"] == "test"), []).append(_shape(x, y, size, style))
        if _is_wrong(row, said):
            rings.append(_shape(x, y, size * 1.9, 0))
    paths = [
        Markup('<path class="{} {}" d="{}"/>').format(
            f"class-{style % 8}" if style >= 0 else "class-other", "held-out" if is_test else "learnt", "".join(shapes)
        )
        for (style, is_test), shapes in sorted(parts.items())
    ]
    return Markup("").join([*paths, Markup('<path class="mistaken" d="{}"/>').format("".join(rings))])


def _style(place: int, name: str, n: int) -> Style:
    shape = Markup('<path class="class-{} held-out" d="{}"/>').format(place % 8, _shape(8, 8, 6, place))
    return Style(name, n, place % 8, SHAPES[place % len(SHAPES)], shape)


def _shape(x: float, y: float, size: float, style: int) -> str:
    """An SVG path about (x, y), as far as `size` from it; -1 is a small dot."""
    shape = SHAPES[style % len(SHAPES)]
    if style < 0 or shape == "circle":
        r = size * (0.6 if style < 0 else 0.85)
        return f"M{x - r:.1f} {y:.1f}a{r:.1f} {r:.1f} 0 1 0 {2 * r:.1f} 0a{r:.1f} {r:.1f} 0 1 0 {-2 * r:.1f} 0z"
    s, t = size * 0.78, size * 0.3
    if shape == "square":
        return f"M{x - s:.1f} {y - s:.1f}h{2 * s:.1f}v{2 * s:.1f}h{-2 * s:.1f}z"
    if shape == "triangle":
        return f"M{x:.1f} {y - size:.1f}l{size:.1f} {1.75 * size:.1f}h{-2 * size:.1f}z"
    if shape == "diamond":
        return f"M{x:.1f} {y - size:.1f}l{size:.1f} {size:.1f}l{-size:.1f} {size:.1f}l{-size:.1f} {-size:.1f}z"
    arms = f"h{2 * t:.1f}v{size - t:.1f}h{size - t:.1f}v{2 * t:.1f}h{t - size:.1f}v{size - t:.1f}h{-2 * t:.1f}"
    plus = f"v{t - size:.1f}h{t - size:.1f}v{-2 * t:.1f}h{size - t:.1f}z"
    if shape == "plus":
        return f"M{x - t:.1f} {y - size:.1f}{arms}{plus}"
    long, near = size * 0.85, t * 1.3
    turns = [(near, 0), (long, long - near), (long - near, long), (0, near), (near - long, long), (-long, long - near)]
    turns += [
        (-near, 0),
        (-long, near - long),
        (near - long, -long),
        (0, -near),
        (long - near, -long),
        (long, near - long),
    ]
    return "M" + "L".join(f"{x + dx:.1f} {y + dy:.1f}" for dx, dy in turns) + "z"
