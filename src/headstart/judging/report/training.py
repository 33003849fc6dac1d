"""How it learnt: the epochs of a loop, drawn, and what was kept at the end."""

import math
from dataclasses import dataclass

from markupsafe import Markup

from headstart.judging.report import charts, words
from headstart.judging.report.record import Json, Record, Rows, interval


@dataclass(frozen=True)
class Training:
    """A sentence on what was kept, two drawings, and the rows of history.csv."""

    lead: str
    loss: Markup
    accuracy: Markup
    rows: Rows


def find(record: Record) -> Training | None:
    """How the loop went; None where none ran."""
    if not record.history:
        return None
    return Training(
        lead=_lead(record),
        loss=_drawing(record.history, "loss", "Loss by epoch"),
        accuracy=_drawing(record.history, "accuracy", "Accuracy by epoch"),
        rows=record.history,
    )


def _lead(record: Record) -> str:
    facts: Json = (record.run.get("computed") or {}).get("finetune") or {}
    said = [f"{words.many(len(record.history), 'epoch')}."]
    if facts.get("kept") == "head":
        said.append("The tuned network was not clearly better than the solved head, which was kept.")
    elif facts.get("kept_epoch"):
        said.append(f"The weights of epoch {facts['kept_epoch']} were kept.")
    alone = interval((record.metrics.get("head_alone") or {}).get("accuracy"))
    if alone is not None and facts.get("kept") != "head":
        said.append(f"The solved head alone reaches {words.share(alone)} on the held-out pictures.")
    return " ".join(said)


def _drawing(rows: Rows, measure: str, title: str) -> Markup:
    lines = {part: _column(rows, f"{part}_{measure}") for part in ("train", "val")}
    epochs = [float(row["epoch"]) for row in rows]
    known = [value for points in lines.values() for _, value in points] or [0.0, 1.0]
    is_share = measure == "accuracy"
    low, high = charts.around([*known, *([] if is_share else [0.0])], 0.0, 1.0 if is_share else math.inf)
    texts = [(at, words.exact(at) if is_share else f"{at:g}") for at in charts.ticks(low, high)]
    steps = [at for at in charts.ticks(epochs[0], epochs[-1], 8) if at == int(at)] if len(epochs) > 1 else epochs
    last = {part: points[-1][1] for part, points in lines.items() if points}
    said = ", ".join(f"{part} {words.percent(at) if is_share else words.number(at)}" for part, at in last.items())
    return charts.plot(
        charts.Axis(epochs[0], epochs[-1], tuple((at, words.count(at)) for at in steps), "epoch"),
        charts.Axis(low, high, tuple(texts), measure),
        [charts.Line(tuple(points), part) for part, points in lines.items() if points],
        title,
        f"At the last epoch: {said}.",
    )


def _column(rows: Rows, name: str) -> list[tuple[float, float]]:
    points = [(float(row["epoch"]), float(row[name])) for row in rows if row.get(name)]
    return [point for point in points if math.isfinite(point[1])]
