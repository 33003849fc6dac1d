"""The page itself: sections in their order, and the thumbnails that they show."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.judging.report import (
    atlas,
    findings,
    growth,
    making,
    mistakes,
    robustness,
    thumbnails,
    training,
    trust,
    verdict,
    words,
)
from headstart.judging.report.base import build
from headstart.judging.report.record import Record


@dataclass(frozen=True)
class Sections:
    """The sections of the page in their order; None for what there is nothing to say of."""

    verdict: verdict.Verdict | None
    mistakes: mistakes.Mistakes | None
    data: findings.Findings | None
    growth: growth.Growth | None
    trust: trust.Trust | None
    robustness: robustness.Robustness | None
    map: atlas.Atlas | None
    training: training.Training | None
    making: making.Making | None


NAMES = {
    "verdict": "The verdict",
    "mistakes": "What goes wrong",
    "data": "What is wrong with the data",
    "growth": "Would more pictures help",
    "trust": "Can the probabilities be believed",
    "robustness": "Does it hold in bad conditions",
    "map": "The map of the pictures",
    "training": "How it learnt",
    "making": "How it was made",
}


def render(
    record: Record,
    locate: Callable[[str], Path],
    saliency: Mapping[str, bytes],
    twins: Sequence[tuple[str, str]],
    place: Path,
) -> str:
    """The page as text; see `write_report` for the arguments."""
    sections = Sections(
        verdict=verdict.judge(record),
        mistakes=mistakes.find(record),
        data=findings.find(record, twins, locate),
        growth=growth.find(record),
        trust=trust.find(record),
        robustness=robustness.find(record),
        map=atlas.find(record),
        training=training.find(record),
        making=making.find(record, place),
    )
    shown = [
        *(sections.mistakes.pictures if sections.mistakes else ()),
        *(sections.data.pictures if sections.data else ()),
    ]
    pointed = [
        *(sections.mistakes.matrix.pictures if sections.mistakes else ()),
        *(sections.map.pictures if sections.map else ()),
    ]
    small = thumbnails.draw(shown, pointed, locate)
    overlays = thumbnails.overlays(
        saliency, [row["path"] for row in sections.mistakes.worst] if sections.mistakes else ()
    )
    return build(
        "report.html.jinja",
        _store(sections, small, frozenset(shown)),
        kind="report",
        title=_title(record, place),
        names=NAMES,
        sections=sections,
        family="",
        record=record,
        kinds=findings.KINDS,
        thumbnails=small,
        overlays=overlays,
        numbers={path: number for number, path in enumerate(small)},
        version=(record.run.get("versions") or {}).get("headstart"),
        source="Every number in this page stands in the files beside it.",
    )


def _title(record: Record, place: Path) -> str:
    """What the report is of: the name of the data where it is known."""
    data = Path(str(record.run.get("data") or record.metrics.get("data") or "")).name
    return words.plain(data or place.resolve().name or "pictures")


def _store(sections: Sections, small: Mapping[str, thumbnails.Thumbnail], shown: frozenset[str]) -> dict[str, Any]:
    """What the script needs: further pictures by number, the fields of the matrix, the dots of the map."""
    number = {path: place for place, path in enumerate(small)}
    extra = {number[path]: [thumb.uri, thumb.width, thumb.height] for path, thumb in small.items() if path not in shown}
    return {
        "pictures": extra,
        "cells": list(_cells(sections.mistakes.matrix, number)) if sections.mistakes else [],
        "points": [[*point, number.get(point[2], -1)] for point in sections.map.points] if sections.map else [],
    }


def _cells(matrix: mistakes.Matrix, number: Mapping[str, int]) -> Iterable[dict[str, Any]]:
    for line in matrix.cells:
        for cell in line:
            if cell.n:
                shown = [
                    [number.get(row["path"], -1), words.plain(row["path"]), words.percent(float(row["probability"]))]
                    for row in cell.shown
                ]
                yield {
                    "truth": words.plain(cell.truth),
                    "said": words.plain(cell.predicted),
                    "n": cell.n,
                    "shown": shown,
                }
