"""What is wrong with the data: findings by kind, pictures that are the same, suspects, leaks, files left out."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.judging.report import words
from headstart.judging.report.record import Json, Record, Row, Rows

PAIRS, LABELS, OF_A_KIND, TABLE_ROWS = 12, 24, 12, 500

KINDS = {
    "leak": ("Leaks", "stand in the test and among the pictures to learn from"),
    "shortcut": ("Shortcuts", "tell the classes apart without looking at the content"),
    "conflicting_label": ("Contradictions", "stand under two labels"),
    "label": ("Labels that look wrong", "are named otherwise by heads that never saw them"),
    "unreadable": ("Unreadable files", "cannot be opened as a picture"),
    "too_large": ("Too large", "have more pixels than are opened"),
    "vanished": ("Vanished", "were there and are no more"),
    "duplicate": ("Exact copies", "are the same file as another"),
    "near_duplicate": ("Near copies", "are pairs that show nearly the same"),
    "outlier": ("Unlike the rest", "resemble no other picture of their class"),
    "dark": ("Dark", "are darker than nearly all"),
    "bright": ("Bright", "are brighter than nearly all"),
    "blurred": ("Blurred", "are less sharp than nearly all"),
    "tiny": ("Tiny", "have few pixels"),
    "odd_shape": ("Odd shape", "are much wider or taller than the rest"),
    "constant": ("Empty", "show one colour and nothing else"),
    "imbalance": ("Unequal classes", "have very unlike numbers of pictures"),
    "too_few": ("Too few", "have too few pictures to learn from"),
    "empty_class": ("Empty classes", "have no picture in them"),
    "ignored": ("Not used", "were passed over; the table below says why"),
}
_GRAVE = {"leak", "shortcut", "conflicting_label", "label", "unreadable", "too_large", "vanished", "empty_class"}
_SEPARATE = {"label", "duplicate", "near_duplicate", "leak"}
_TWIN = re.compile(r"(?:nearly )?the same picture(?:, mirrored,)? (?:as|is in \w+:) (.+)", re.DOTALL)


@dataclass(frozen=True)
class Kind:
    """One kind of finding: its name, what is meant, how many there are, and whether to look at it first."""

    key: str
    name: str
    meaning: str
    n: int
    is_grave: bool


@dataclass(frozen=True)
class Pair:
    """Two pictures that are the same or nearly so, with their labels ("" where not known)."""

    first: str
    second: str
    first_label: str
    second_label: str

    @property
    def agrees(self) -> bool:
        """Whether the labels agree, or one is not known."""
        return self.first_label == self.second_label or not (self.first_label and self.second_label)


@dataclass(frozen=True)
class Group:
    """Suspect pictures of one kind: `shown` of all `n`."""

    kind: Kind
    shown: Rows
    n: int


@dataclass(frozen=True)
class Pairs:
    """Pictures side by side under a heading: `shown` of all `n`."""

    key: str
    name: str
    lead: str
    shown: tuple[Pair, ...]
    n: int


@dataclass(frozen=True)
class Findings:
    """Everything that is wrong with the data; `notes` are of classes or the whole set, `table` of single files."""

    lead: str
    kinds: tuple[Kind, ...]
    notes: Rows
    pairs: tuple[Pairs, ...]
    labels: Group | None
    groups: tuple[Group, ...]
    table: Rows
    table_of: int

    @property
    def pictures(self) -> tuple[str, ...]:
        """The paths that stand in the page."""
        sides = [path for pairs in self.pairs for pair in pairs.shown for path in (pair.first, pair.second)]
        labels = self.labels.shown if self.labels else ()
        return (*[row["path"] for row in labels], *sides, *[row["path"] for of in self.groups for row in of.shown])


def find(record: Record, twins: Sequence[tuple[str, str]], locate: Callable[[str], Path]) -> Findings | None:
    """What is wrong with the data; None where nobody looked.

    `twins` are the paths of nearly the same pictures, in pairs; `locate` leads from a path to its file.
    """
    if not (record.problems or record.suspects or twins or record.split or record.metrics):
        return None
    single = [row for row in record.suspects if row["path"]]
    counts = Counter(row["kind"] for row in (*record.problems, *record.suspects))
    counts["near_duplicate"] = len(twins) or counts["near_duplicate"]
    kinds = tuple(_kind(key, n) for key, n in _ordered(+counts))
    labels = [row for row in record.suspects_of("label") if row["path"]]
    others = [kind for kind in kinds if kind.key not in _SEPARATE and any(row["kind"] == kind.key for row in single)]
    groups = []
    for kind in others:
        rows = [row for row in record.suspects_of(kind.key) if row["path"]]
        groups.append(Group(kind, tuple(rows[:OF_A_KIND]), len(rows)))
    return Findings(
        lead=_lead(kinds),
        kinds=kinds,
        notes=tuple(row for row in record.suspects if not row["path"]) + tuple(_shortcut_notes(record)),
        pairs=tuple(_pairs(record, twins, locate)),
        labels=Group(_kind("label", len(labels)), tuple(labels[:LABELS]), len(labels)) if labels else None,
        groups=tuple(groups),
        table=record.problems[:TABLE_ROWS],
        table_of=len(record.problems),
    )


def _ordered(counts: Counter[str]) -> list[tuple[str, int]]:
    place = {key: number for number, key in enumerate(KINDS)}
    return sorted(counts.items(), key=lambda item: (place.get(item[0], len(place)), item[0]))


def _kind(key: str, n: int) -> Kind:
    name, meaning = KINDS.get(key, (words.title(key), ""))
    return Kind(key, name, meaning, n, key in _GRAVE)


def _lead(kinds: Sequence[Kind]) -> str:
    if not kinds:
        return "Nothing was found that is wrong with the pictures or their labels."
    grave = sum(kind.n for kind in kinds if kind.is_grave)
    total = sum(kind.n for kind in kinds)
    if not grave:
        return f"{words.many(total, 'finding')}, none of them grave."
    return f"{words.many(total, 'finding')}, {words.count(grave)} of them worth your time first."


def _shortcut_notes(record: Record) -> Iterator[Row]:
    """The shortcuts of metrics.json, where suspects.csv does not name them."""
    if record.suspects_of("shortcut"):
        return
    for found in (record.metrics.get("audit") or {}).get("shortcuts") or ():
        yield {"path": "", "kind": "shortcut", "score": "", "reason": _said(found), "action": "", "label": ""}


def _said(found: Json | str) -> str:
    if isinstance(found, str):
        return found
    spoken = next((found[key] for key in ("reason", "detail", "label", "text") if found.get(key)), None)
    return str(spoken) if spoken else "; ".join(f"{words.title(key)} {value}" for key, value in found.items())


def _pairs(record: Record, twins: Sequence[tuple[str, str]], locate: Callable[[str], Path]) -> Iterator[Pairs]:
    labels = {row["path"]: row["class"] for row in record.split}
    labels |= {row["path"]: row["label"] for row in record.predictions}
    for key, name, lead in (
        ("leak", "Leaks", "The same picture in the test and among those to learn from."),
        ("duplicate", "Exact copies", "Copies of a picture stay together in one part, and count once in intervals."),
    ):
        found = [_named_pair(row, labels, locate) for row in record.problems_of(key)]
        pairs = [pair for pair in found if pair is not None] or (_copies(record, labels) if key == "duplicate" else [])
        if pairs:
            yield _shown(key, name, lead, pairs)
    if twins:
        pairs = [Pair(one, other, labels.get(one, ""), labels.get(other, "")) for one, other in twins]
        yield _shown("near_duplicate", "Near copies", "Nearly the same picture; they stay together in one part.", pairs)


def _shown(key: str, name: str, lead: str, pairs: Sequence[Pair]) -> Pairs:
    """Pairs whose labels disagree come first."""
    ordered = sorted(pairs, key=lambda pair: pair.agrees)
    return Pairs(key, name, lead, tuple(ordered[:PAIRS]), len(pairs))


def _named_pair(row: Row, labels: dict[str, str], locate: Callable[[str], Path]) -> Pair | None:
    """The pair that a row of problems.csv speaks of; None where its words name no file that is there."""
    named = _TWIN.fullmatch(row["detail"])
    if named is None or not _is_file(locate, named[1]):
        return None
    return Pair(row["path"], named[1], labels.get(row["path"], ""), labels.get(named[1], ""))


def _is_file(locate: Callable[[str], Path], path: str) -> bool:
    try:
        return locate(path).is_file()
    except (OSError, ValueError):
        return False


def _copies(record: Record, labels: dict[str, str]) -> list[Pair]:
    """The first two of each set of pictures with one digest."""
    by_digest: dict[str, list[str]] = defaultdict(list)
    for row in record.split:
        by_digest[row["digest"]].append(row["path"])
    several = [paths for digest, paths in by_digest.items() if digest and len(paths) > 1]
    return [Pair(paths[0], paths[1], labels[paths[0]], labels[paths[1]]) for paths in several]
