"""Does it hold in bad conditions: damaged copies of the held-out pictures, and slices of them by their looks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headstart.judging.metrics import Interval
from headstart.judging.report import words
from headstart.judging.report.record import Json, Record, interval

_WORST_CLASSES = 2


@dataclass(frozen=True)
class Strain:
    """Accuracy under one kind of damage.

    `detail` says how much of it, `p` is that against the undamaged pictures, `worst` are the classes that fared worst
    among those that fared worse than the undamaged pictures.
    """

    name: str
    detail: str
    accuracy: Interval
    p: float | None
    worst: tuple[tuple[str, Interval], ...]

    @property
    def is_certain(self) -> bool:
        """Whether the damage surely costs accuracy."""
        return self.p is not None and self.p < words.CERTAIN_BELOW


@dataclass(frozen=True)
class Slice:
    """Accuracy on the held-out pictures that share a look, against that on the rest."""

    by: str
    name: str
    n: int
    accuracy: Interval
    rest: Interval | None
    p: float | None

    @property
    def is_certain(self) -> bool:
        """Whether the slice surely differs from the rest."""
        return self.p is not None and self.p < words.CERTAIN_BELOW


@dataclass(frozen=True)
class Robustness:
    """A sentence, the accuracy on the `n` undamaged pictures, the strains (the worst first) and the slices."""

    lead: str
    n: int
    clean: Interval | None
    strains: tuple[Strain, ...]
    slices: tuple[Slice, ...]


def find(record: Record) -> Robustness | None:
    """What damage and looks do to the accuracy; None where neither was measured."""
    found: Json = record.metrics.get("robustness") or {}
    clean = interval(found.get("clean"))
    strains = sorted(_strains(found, clean), key=lambda strain: strain.accuracy.value)
    slices = sorted(_slices(record.metrics.get("slices") or ()), key=lambda one: (one.p is None, one.p or 0.0))
    if not (strains or slices):
        return None
    return Robustness(_lead(strains, slices, clean), found.get("n", 0), clean, tuple(strains), tuple(slices))


def _strains(found: Json, clean: Interval | None) -> Iterator[Strain]:
    for row in found.get("rows") or ():
        if (share := interval(row.get("accuracy"))) is not None:
            name, opened, detail = words.tight(str(row["label"])).partition(" (")
            worst = tuple(_worst(row.get("per_class") or {}, 1.0 if clean is None else clean.value))
            yield Strain(name, detail.removesuffix(")") if opened else "", share, row.get("p"), worst)


def _worst(per_class: Json, clean: float) -> list[tuple[str, Interval]]:
    known = [(name, share) for name, value in per_class.items() if (share := interval(value)) is not None]
    known = [(name, share) for name, share in known if share.value < clean]
    return sorted(known, key=lambda item: item[1].value)[:_WORST_CLASSES]


def _slices(rows: Sequence[Json]) -> Iterator[Slice]:
    for row in rows:
        if (share := interval(row.get("accuracy"))) is not None:
            yield Slice(str(row["by"]), str(row["name"]), row["n"], share, interval(row.get("rest")), row.get("p"))


def _lead(strains: list[Strain], slices: list[Slice], clean: Interval | None) -> str:
    said = []
    hurt = [strain for strain in strains if strain.is_certain]
    if hurt and clean is not None:
        worst = hurt[0]
        said.append(
            f"What hurts most is “{worst.name}”{f' ({worst.detail})' if worst.detail else ''}: "
            f"{words.percent(worst.accuracy.value)} instead of {words.percent(clean.value)}."
        )
        if len(strains) > len(hurt):
            said.append(
                f"{len(strains) - len(hurt)} of {words.many(len(strains), 'kind')} of damage make no sure difference."
            )
    elif strains:
        said.append(
            f"None of {words.many(len(strains), 'kind')} of damage makes a difference that is surely more than chance."
        )
    certain = [one for one in slices if one.is_certain]
    if certain:
        differ = "differs" if len(certain) == 1 else "differ"
        said.append(f"{words.many(len(certain), 'slice')} of the pictures surely {differ} from the rest.")
    elif slices:
        said.append("No slice of the pictures surely differs from the rest.")
    return " ".join(said)
