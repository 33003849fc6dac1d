"""Can the probabilities be believed: how often it is right when it says so, and what its promises came to."""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from headstart.judging.metrics import Interval
from headstart.judging.report import charts, words
from headstart.judging.report.record import Json, Record, interval

COVERAGE = 0.95
"""The promise that is shown at once; the others are folded away."""

_SETS = {
    "threshold": "by one threshold",
    "adaptive": "that adapt to the picture",
    "per_class": "with a promise for each class",
}


@dataclass(frozen=True)
class Bin:
    """Pictures of like confidence: how many, the mean confidence, the share that was right."""

    n: int
    confidence: float
    accuracy: Interval


@dataclass(frozen=True)
class Sets:
    """Prediction sets of one kind and promise: how often they held the truth, and their size."""

    name: str
    coverage: float
    held: Interval | None
    mean_size: float | None
    single: float | None

    @property
    def is_kept(self) -> bool:
        """Whether what was seen agrees with the promise."""
        return self.held is None or not self.held.high < self.coverage


@dataclass(frozen=True)
class Abstention:
    """What answering only when sure would give: the accuracy asked for, the threshold, and what came of it."""

    wanted: float
    threshold: float | None
    answered: Interval | None
    accuracy: Interval | None


@dataclass(frozen=True)
class Trust:
    """How far the probabilities can be believed: a sentence, a drawing with its bins, and what was promised.

    `usual` are those of `sets` whose promise is `COVERAGE`, or the nearest to it.
    """

    lead: str
    drawing: Markup | None
    bins: tuple[Bin, ...]
    sets: tuple[Sets, ...]
    usual: tuple[Sets, ...]
    strangers: str
    abstentions: tuple[Abstention, ...]


def find(record: Record) -> Trust | None:
    """What is known of the probabilities; None where nothing is."""
    bins = tuple(_bins(record.test))
    promises: Json = record.metrics.get("promises") or {}
    error = interval(record.test.get("ece"))
    if not (bins or promises) or not record.test:
        return None
    sets = tuple(_sets(row) for row in promises.get("sets") or ())
    usual = min((one.coverage for one in sets), key=lambda coverage: abs(coverage - COVERAGE), default=COVERAGE)
    return Trust(
        lead=_lead(error, bins),
        drawing=_drawing(bins, error) if bins else None,
        bins=bins,
        sets=sets,
        usual=tuple(one for one in sets if one.coverage == usual),
        strangers=_strangers(promises.get("none_of_these") or {}),
        abstentions=tuple(_abstentions(promises)),
    )


def _bins(test: Json) -> Iterator[Bin]:
    for row in test.get("reliability") or ():
        if (share := interval(row.get("accuracy"))) is not None:
            yield Bin(row["n"], row["confidence"], share)


def _lead(error: Interval | None, bins: tuple[Bin, ...]) -> str:
    if error is None:
        return ""
    ends = words.ends(error).replace(f"{words.THIN}%", "")
    said = "How often it is right and how often it says it is differ "
    said += f"by {words.points(error.value)} of a hundred on average" + (f" ({ends})." if ends else ".")
    off = [one for one in bins if not one.accuracy.low <= one.confidence <= one.accuracy.high]
    if not bins:
        return said
    if not off:
        return f"{said} Chance alone may do that."
    boastful = sum(one.confidence > one.accuracy.value for one in off)
    way = "too sure" if boastful > len(off) / 2 else "too modest"
    where = "" if len(bins) == 1 else f" in {len(off)} of {len(bins)} groups of pictures"
    return f"{said} It is surely {way}{where}."


def _drawing(bins: tuple[Bin, ...], error: Interval | None) -> Markup:
    low = min(min(one.confidence for one in bins), min(one.accuracy.low for one in bins))
    low = min(0.9, int(low * 10) / 10)
    ticks = tuple((at, words.exact(at)) for at in charts.ticks(low, 1.0))
    layers: list[charts.Layer] = [
        charts.Line(((low, low), (1.0, 1.0)), "ideal"),
        charts.Marks(tuple((one.confidence, one.accuracy) for one in bins), "seen"),
    ]
    description = (
        f"{words.many(len(bins), 'group')} of pictures from {words.percent(bins[0].confidence, 0)} to "
        f"{words.percent(bins[-1].confidence, 0)} confidence; on the diagonal, confidence and accuracy agree. "
        f"Calibration error {words.share(error)}."
    )
    return charts.plot(
        charts.Axis(low, 1.0, ticks, "it said"),
        charts.Axis(low, 1.0, ticks, "it was right"),
        layers,
        "How often it was right when it said so",
        description,
    )


def _sets(row: Json) -> Sets:
    name = _SETS.get(row["kind"], words.title(row["kind"]))
    return Sets(name, row["coverage"], interval(row.get("held")), row.get("mean_size"), row.get("single"))


def _strangers(found: Json) -> str:
    rejected = interval(found.get("rejected"))
    if rejected is None:
        return ""
    wanted = found.get("false_reject_rate") or 0.0
    return (
        f"“None of these” was set to reject {words.exact(float(f'{wanted:.2g}'))} of the "
        f"pictures of known classes; of the held-out ones it rejected {words.share(rejected)}."
    )


def _abstentions(promises: Json) -> Iterator[Abstention]:
    """What abstaining gives; of several wishes that one threshold fulfils, the highest alone."""
    rows = sorted(promises.get("abstain") or (), key=lambda row: -float(row["wanted"]))
    told: dict[float | None, Abstention] = {}
    for row in rows:
        answered, accuracy = interval(row.get("answered")), interval(row.get("accuracy"))
        one = Abstention(row["wanted"], row.get("threshold"), answered, accuracy)
        if one.threshold is None:
            told[None] = one  # the lowest that is out of reach
        else:
            told.setdefault(one.threshold, one)
    yield from reversed(told.values())
