"""What the decisions make of the data as a manifest, and the decisions themselves as lines."""

import csv
import io
from typing import Any

from headstart.delivery.review.decision import Decision
from headstart.learning.examples import Examples
from headstart.pictures.addresses import url_of
from headstart.pictures.split import TEST

PATHS_IN_A_LINE = 3


def manifest(examples: Examples) -> str:
    """A CSV manifest: path (absolute), label, split, group; it trains on and holds out the same pictures."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["path", "label", "split", "group"])
    root = examples.dataset.root.resolve()
    for sample, part in zip(examples.dataset.samples, examples.split.parts.tolist(), strict=True):
        split = "test" if part == TEST else "val" if sample.given == "val" else "train"
        path = root / sample.path
        writer.writerow([url_of(path) or path.as_posix(), sample.label, split, sample.group or ""])
    return buffer.getvalue()


def log_entry(row: Decision) -> dict[str, Any]:
    """A decision for machines: when, who, what, about which pictures, before and after."""
    return {
        "revision": row.id,
        "at": row.at,
        "who": row.who,
        "action": row.action,
        "value": row.value,
        "target": row.target,
        "pictures": [
            {"id": one.id, "path": one.path, "label": one.label, "before": one.before, "after": one.after}
            for one in row.subjects
        ],
    }


def log_line(row: Decision) -> str:
    """A decision for people, in one line."""
    names = [one.path or one.id for one in row.subjects[:PATHS_IN_A_LINE]]
    more = f" and {len(row.subjects) - PATHS_IN_A_LINE} more" if len(row.subjects) > PATHS_IN_A_LINE else ""
    labels = sorted({one.label for one in row.subjects if one.label})
    of = f" ({', '.join(labels[:PATHS_IN_A_LINE])})" if labels else ""
    to = f" -> {row.value}" if row.value is not None else ""
    what = row.action if row.target is None else f"{row.action} of {row.target}:"
    text = f"{row.id}  {row.at[:19].replace('T', ' ')}  {row.who}  {what} {', '.join(names)}{more}{of}{to}"
    return "".join(letter if letter.isprintable() else " " for letter in text)
