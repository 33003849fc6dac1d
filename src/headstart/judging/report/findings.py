"""What is wrong with the data: findings by kind, pictures that are the same, suspects, leaks, files left out."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstart.judging.report import losses, words
from headstart.judging.report.record import Json, Record, Row, Rows

PAIRS, LABELS, OF_A_KIND, TABLE_ROWS = 12, 24, 12, 500

KINDS = {
    "leak": ("Leaks", "in the test, and among the pictures to learn from", "Leak"),
    "shortcut": ("Shortcuts", "something beside the content tells classes apart", "Shortcut"),
    "conflicting_label": ("Contradictions", "the same picture under two labels", "Contradiction"),
    "label": (
        "Labels that look wrong",
        "a head that did not learn from the picture names it otherwise",
        "Doubtful label",
    ),
    "unreadable": ("Unreadable files", "cannot be opened as a picture", "Unreadable file"),
    "too_large": ("Too large", "more pixels than are opened", "Too large"),
    "vanished": ("Vanished", "there at first, and then no more", "Vanished"),
    "empty_class": ("Classes without pictures", "with no picture to learn from", "Class without pictures"),
    "duplicate": ("Exact copies", "the same file as another", "Exact copy"),
    "near_duplicate": ("Near copies", "pairs that show nearly the same", "Near copy"),
    "outlier": ("Unlike the rest", "like none of the other pictures", "Unlike the rest"),
    "dark": ("Dark", "darker than nearly all", "Dark"),
    "bright": ("Bright", "brighter than nearly all", "Bright"),
    "blurred": ("Blurred", "less sharp than nearly all", "Blurred"),
    "tiny": ("Tiny", "few pixels", "Tiny"),
    "odd_shape": ("Odd shape", "much wider or taller than the rest", "Odd shape"),
    "constant": ("One colour", "nothing else to be seen", "One colour"),
    "imbalance": ("Unequal classes", "some have many times the pictures of others", "Unequal classes"),
    "too_few": ("Too few", "too few pictures of a class to learn it well", "Too few"),
    "ignored": ("Not used", "passed over; the table below says why", "Not used"),
}
"""The heading of several, what is meant, and what one of them is called."""

_GRAVE = {"leak", "shortcut", "conflicting_label", "label", "unreadable", "too_large", "vanished", "empty_class"}
_SEPARATE = {"label", "duplicate", "near_duplicate", "leak"}
_SHORTCUT_HINT = (
    "What gives the classes away here may be missing in new pictures. AUC is how often a picture of the class has more "
    "of it (or less) than one of the other classes: 0.50 would be no difference, 1.00 gives the class away. Balanced "
    "accuracy is the accuracy with classes weighing equally."
)
_DOUBT = re.compile(r".*: probability ([01]\.\d+) against ([01]\.\d+)", re.DOTALL)
_TWIN = re.compile(r"(?:nearly )?the same picture(?:, mirrored,)? (?:as|is in \w+:) (.+)", re.DOTALL)


@dataclass(frozen=True)
class Kind:
    """One kind of finding: its name, what is meant, how many there are, and whether to look at it first.

    `name` is that of several, or of the one there is.
    """

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

    @property
    def label(self) -> str:
        """The label of the first, or of the second where that of the first is not known."""
        return self.first_label or self.second_label


@dataclass(frozen=True)
class Note:
    """Findings of one kind about classes or the whole set: (reason, "weak" or "strong" or ""), and what to do."""

    name: str
    hint: str
    reasons: tuple[tuple[str, str], ...]
    action: str


@dataclass(frozen=True)
class Doubt:
    """A picture with a label that looks wrong, a likelier one, and their probabilities ("" where not known)."""

    path: str
    label: str
    suggested: str
    given: str
    likelier: str
    reason: str


@dataclass(frozen=True)
class Doubts:
    """Labels that look wrong: `shown` of all `n`."""

    shown: tuple[Doubt, ...]
    n: int


@dataclass(frozen=True)
class Group:
    """Suspect pictures of one kind: `shown` of all `n`."""

    kind: Kind
    shown: tuple[Row, ...]
    n: int


@dataclass(frozen=True)
class Pairs:
    """Pictures side by side under a heading: `shown` of all `n`."""

    key: str
    name: str
    lead: str
    shown: tuple[Pair, ...]
    n: int

    @property
    def has_clash(self) -> bool:
        """Whether labels of a pair differ."""
        return not all(pair.agrees for pair in self.shown)


@dataclass(frozen=True)
class Findings:
    """Everything that is wrong with the data; `notes` are of classes or the whole set, `table` of single files."""

    lead: str
    kinds: tuple[Kind, ...]
    losses: tuple[losses.Loss, ...]
    notes: tuple[Note, ...]
    pairs: tuple[Pairs, ...]
    labels: Doubts | None
    groups: tuple[Group, ...]
    table: tuple[Row, ...]
    table_of: int

    @property
    def pictures(self) -> tuple[str, ...]:
        """The paths that stand in the page."""
        sides = [path for pairs in self.pairs for pair in pairs.shown for path in (pair.first, pair.second)]
        labels = self.labels.shown if self.labels else ()
        return (*[doubt.path for doubt in labels], *sides, *[row["path"] for of in self.groups for row in of.shown])


def find(record: Record, twins: Sequence[tuple[str, str]], locate: Callable[[str], Path]) -> Findings | None:
    """What is wrong with the data; None where nobody looked.

    `twins` are the paths of nearly the same pictures, in pairs; `locate` leads from a path to its file.
    """
    if not (record.problems or record.suspects or twins or record.split or record.metrics):
        return None
    single = {row["kind"] for row in record.suspects if row["path"]}
    counts = record.numbers.copy()
    counts["near_duplicate"] = len(twins) or counts["near_duplicate"]
    weak = {"shortcut"} if counts["shortcut"] and not strong_shortcuts(record) else set()
    kinds = tuple(_kind(key, n, key in _GRAVE - weak) for key, n in _ordered(+counts))
    labels = record.suspects_of("label").where(_has_path)
    groups = []
    for kind in [kind for kind in kinds if kind.key not in _SEPARATE and kind.key in single]:
        rows = record.suspects_of(kind.key).where(_has_path)
        shown = tuple({**row, "reason": words.tight(row["reason"])} for row in rows[:OF_A_KIND])
        groups.append(Group(kind, shown, len(rows) + record.unnamed[kind.key]))
    return Findings(
        lead=_lead(kinds),
        kinds=kinds,
        losses=losses.find(record),
        notes=tuple(_notes(record)),
        pairs=tuple(_pairs(record, twins, locate)),
        labels=_doubts(record, labels) if labels else None,
        groups=tuple(groups),
        table=tuple(record.problems[:TABLE_ROWS]),
        table_of=sum(record.numbers[kind] for kind in {row["kind"] for row in record.problems}),
    )


def _doubts(record: Record, labels: Rows) -> Doubts:
    return Doubts(tuple(_doubt(row) for row in labels[:LABELS]), len(labels) + record.unnamed["label"])


def _has_path(row: Row) -> bool:
    return bool(row["path"])


def _ordered(counts: Counter[str]) -> list[tuple[str, int]]:
    place = {key: number for number, key in enumerate(KINDS)}
    return sorted(counts.items(), key=lambda item: (place.get(item[0], len(place)), item[0]))


def _kind(key: str, n: int, is_grave: bool) -> Kind:
    several, meaning, one = KINDS.get(key, (words.title(key), "", words.title(key)))
    return Kind(key, one if n == 1 else several, meaning, n, is_grave)


def strong_shortcuts(record: Record) -> int:
    """How many shortcuts are strong; where metrics.json does not tell, those of suspects.csv all count."""
    found = (record.metrics.get("audit") or {}).get("shortcuts")
    if found:
        return sum(one.get("severity") != "weak" for one in found)
    return len(record.suspects_of("shortcut")) if found is None else 0


def _doubt(row: Row) -> Doubt:
    """A row of suspects.csv; what the labels and numbers say already is not said again in words."""
    numbers = _DOUBT.fullmatch(row["reason"])
    likelier, given = (words.percent(float(number), 0) for number in numbers.groups()) if numbers else ("", "")
    return Doubt(row["path"], row["label"], row["suggested"], given, likelier, "" if numbers else row["reason"])


def _notes(record: Record) -> Iterator[Note]:
    """What is said of classes and the whole set; findings of one kind that ask for the same stand together."""
    found = (record.metrics.get("audit") or {}).get("shortcuts") or ()
    severity = {_said(one): str(one.get("severity") or "") for one in found if isinstance(one, dict)}
    together: dict[tuple[str, str], list[str]] = defaultdict(list)
    general = record.suspects.where(lambda row: not row["path"])
    for row in (*general, *_shortcut_notes(record)):
        together[row["kind"], row["action"]].append(row["reason"])
    for (kind, action), reasons in together.items():
        several, _, one = KINDS.get(kind, (words.title(kind), "", words.title(kind)))
        said = tuple((reason, severity.get(reason, "")) for reason in reasons)
        yield Note(several if len(said) > 1 else one, _SHORTCUT_HINT if kind == "shortcut" else "", said, action)


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
    found = {key: [_named_pair(row, locate) for row in record.problems_of(key)] for key in ("leak", "duplicate")}
    pairs_of = {key: [pair for pair in pairs if pair is not None] for key, pairs in found.items()}
    pairs_of["duplicate"] = pairs_of["duplicate"] or _copies(record)
    pairs_of["near_duplicate"] = list(twins)
    wanted = {path for pairs in pairs_of.values() for pair in pairs for path in pair}
    labels = {row["path"]: row["class"] for row in record.split if row["path"] in wanted}
    labels |= {row["path"]: row["label"] for row in record.predictions if row["path"] in wanted}
    for key, name, lead in (
        ("leak", "Leaks", "The same picture in the test and among those to learn from."),
        ("duplicate", "Exact copies", "Copies of a picture stay together in one part, and count once in intervals."),
        ("near_duplicate", "Near copies", "Nearly the same picture; they stay together in one part."),
    ):
        pairs = [Pair(one, other, labels.get(one, ""), labels.get(other, "")) for one, other in pairs_of[key]]
        if pairs:
            yield _shown(key, name, lead, pairs)


def _shown(key: str, name: str, lead: str, pairs: Sequence[Pair]) -> Pairs:
    """Pairs whose labels disagree come first."""
    ordered = sorted(pairs, key=lambda pair: pair.agrees)
    return Pairs(key, name, lead, tuple(ordered[:PAIRS]), len(pairs))


def _named_pair(row: Row, locate: Callable[[str], Path]) -> tuple[str, str] | None:
    """The pair that a row of problems.csv speaks of; None where its words name no file that is there."""
    named = _TWIN.fullmatch(row["detail"])
    if named is None or not _is_file(locate, named[1]):
        return None
    return row["path"], named[1]


def _is_file(locate: Callable[[str], Path], path: str) -> bool:
    try:
        return locate(path).is_file()
    except (OSError, ValueError):
        return False


def _copies(record: Record) -> list[tuple[str, str]]:
    """The first two of each set of pictures with one digest."""
    starts = np.fromiter((hash(row["digest"]) for row in record.split), np.int64)  # 8 bytes of each, not all of it
    values, counts = np.unique(starts, return_counts=True)
    by_digest: dict[str, list[str]] = defaultdict(list)
    for row in record.split[np.flatnonzero(np.isin(starts, values[counts > 1]))]:
        by_digest[row["digest"]].append(row["path"])
    return [(paths[0], paths[1]) for digest, paths in by_digest.items() if digest and len(paths) > 1]
