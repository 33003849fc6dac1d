"""Classes that the pictures should have and that cannot be learnt, with the reason and what follows from it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from headstart.judging.report import words
from headstart.judging.report.record import Record

SHOWN = 8


@dataclass(frozen=True)
class Loss:
    """Classes lost for one reason: the first `SHOWN` of their `names`, how many there are, and what to know of them."""

    names: tuple[str, ...]
    n: int
    sentences: tuple[str, ...]


def find(record: Record) -> tuple[Loss, ...]:
    """The classes of which nothing can be learnt, by reason; none where a finished classifier was judged."""
    if record.test and "n_train" not in record.metrics:
        return ()
    known = set(record.metrics.get("classes") or ())
    by_reason: dict[str, list[str]] = defaultdict(list)
    for row in record.problems_of("empty_class"):
        if (name := row["path"].rstrip("/")) not in known:
            by_reason[row["detail"]].append(name)
    return tuple(
        Loss(tuple(names[:SHOWN]), len(names), tuple(_sentences(record, names, reason)))
        for reason, names in by_reason.items()
    )


def _sentences(record: Record, names: Sequence[str], reason: str) -> list[str]:
    said = [f"{words.plain(reason[:1].upper() + reason[1:])}."]
    lost = set(names)
    leaks = sum(PurePosixPath(row["path"]).parent.name in lost for row in record.problems_of("leak"))
    if leaks:
        stand, were = ("stands", "was") if leaks == 1 else ("stand", "were")
        said.append(f"{words.many(leaks, 'picture')} to learn from also {stand} in the test, and {were} removed.")
    unknown = {f"the training part has no class {name!r}" for name in names}
    left = sum(row["detail"] in unknown for row in record.problems_of("ignored"))
    of = "it" if len(names) == 1 else "them"
    if left:
        were = "was" if left == 1 else "were"
        said.append(f"{words.many(left, 'test picture')} of {of} {were} left out: no number here speaks of {of}.")
    if not leaks:
        said.append(f"Add pictures of {of}, or leave {of} out.")
    else:
        said.append("Take the copies out of the test, or add other pictures to learn from.")
    return said
