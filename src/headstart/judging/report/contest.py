"""What a comparison comes to: which run is better and how sure that is, in sentences, and each pair of runs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from headstart.judging.comparison import Comparison, Pair
from headstart.judging.finished import Compared
from headstart.judging.metrics import Interval
from headstart.judging.report import words
from headstart.judging.report.verdict import FEW_PICTURES

MOST_PAIRS = 100
WORTH_SAYING_TIMES, WORTH_SAYING_SECONDS = 1.5, 2.0
_NAMES_LISTED, _REASON_LETTERS = 5, 600


@dataclass(frozen=True)
class Place:
    """A run in the order of accuracy, `right` of all; `pair` is the best run against it, None for the best itself."""

    name: str
    accuracy: Interval
    right: int
    pair: Pair | None


@dataclass(frozen=True)
class Caution:
    """What to know before believing the numbers."""

    head: str
    text: str


@dataclass(frozen=True)
class Contest:
    """The verdict on runs that were compared on `n` pictures.

    `headline` and `sentences` hold names of runs, set apart and escaped. `first` is the best run against the next,
    None where there is only one run.
    """

    n: int
    headline: Markup
    sentences: tuple[Markup, ...]
    first: Pair | None
    places: tuple[Place, ...]
    cautions: tuple[Caution, ...]


@dataclass(frozen=True)
class Pairs:
    """Pairs of runs, of `of`; those with the best run first."""

    shown: tuple[Pair, ...]
    of: int


def judge(compared: Compared) -> Contest:
    """The verdict on `compared`."""
    found = compared.comparison
    first = found.against_best(found.names[1]) if len(found.names) > 1 else None
    places = [Place(name, found.accuracy[name], _right(found, name), found.against_best(name)) for name in found.names]
    return Contest(
        n=found.n,
        headline=_headline(found),
        sentences=tuple(_sentences(compared, first)),
        first=first,
        places=tuple(places),
        cautions=tuple(_cautions(compared)),
    )


def pairs(compared: Compared) -> Pairs | None:
    """Each pair of runs; None where there is only one run."""
    found = compared.comparison
    ordered = sorted(found.pairs, key=lambda pair: found.best not in (pair.better, pair.worse))
    return Pairs(tuple(ordered[:MOST_PAIRS]), len(ordered)) if ordered else None


def named(name: str, most: int = 40) -> Markup:
    """The name of a run or a class as a sentence holds it, whatever its letters do."""
    plain = words.plain(name)
    return Markup('<bdi class="name" title="{}">{}</bdi>').format(plain, words.short(plain, most))


def _right(found: Comparison, name: str) -> int:
    return round(found.accuracy[name].value * found.n)


def _headline(found: Comparison) -> Markup:
    best, others = named(found.best), [name for name in found.names if name != found.best]
    if not others:
        return Markup("Only {} is there to be judged").format(best)
    rivals = [pair.worse for pair in _against_best(found) if not pair.is_certain]
    if not rivals:
        rest = named(others[0]) if len(others) == 1 else Markup("the other {}").format(len(others))
        return Markup("{} is better than {}").format(best, rest)
    if len(rivals) < len(others):
        return Markup("{} leads, but cannot be told apart from {}").format(best, _several(rivals, "other"))
    if any(pair.is_certain for pair in found.pairs):
        return Markup("{} is ahead, but no other can be told apart from it").format(best)
    if len(others) == 1:
        return Markup("{} and {} cannot be told apart").format(best, named(others[0]))
    return Markup("The {} runs cannot be told apart").format(len(found.names))


def _several(names: Sequence[str], thing: str) -> Markup:
    """One name, or how many there are."""
    return named(names[0]) if len(names) == 1 else Markup(words.many(len(names), thing))


def _sentences(compared: Compared, first: Pair | None) -> Iterator[Markup]:
    found = compared.comparison
    if first is None:
        best = found.accuracy[found.best]
        yield Markup("It is right on {} of the held-out pictures.").format(words.share(best))
        return
    yield _difference(first, found.n)
    if first.only_better:
        yield _alone(first, found.n)
    if len(found.names) > 2:
        yield from _of_many(compared)
    elif said := _times(compared, first):
        yield said


def _difference(pair: Pair, n: int) -> Markup:
    """How far apart two runs are and how sure that is: the interval, n and p."""
    where = Markup("On the same {}").format(words.many(n, "held-out picture"))
    span = Markup("{} points, {}").format(
        words.gap(pair.difference), words.chance(pair.p_corrected).replace(" ", "\xa0")
    )
    if pair.only_better == pair.only_worse:
        how = "right on the very same ones" if not pair.only_better else "right equally often"
        return where + Markup(" both are {}; the 95\u202f% interval of the difference is {}.").format(how, span)
    gain = Markup(" {} is right <b>{}</b> more often than {}").format(
        named(pair.better), words.points(pair.difference.value), named(pair.worse)
    )
    doubt = "" if pair.is_certain else ", which may be chance"
    return where + gain + Markup("{}: the 95\u202f% interval is {}.").format(doubt, span)


def _alone(pair: Pair, n: int) -> Markup:
    both = n - pair.only_better - pair.only_worse
    return Markup("{} was right alone on {}, {} on {}; on the other {} both were right or both wrong.").format(
        named(pair.better), words.many(pair.only_better, "picture"), named(pair.worse), pair.only_worse, f"{both:,}"
    )


def _of_many(compared: Compared) -> Iterator[Markup]:
    """Of more than two runs: which the best can be told apart from, and which of the others is the cheapest."""
    found = compared.comparison
    against = _against_best(found)
    certain = [pair.worse for pair in against if pair.is_certain]
    rivals = [pair.worse for pair in against if not pair.is_certain]
    if certain:
        yield Markup("{} is surely better than {}.").format(named(found.best), _listed(certain))
    if rivals:
        yield Markup("{} cannot be told apart from {}.").format(named(found.best), _listed(rivals, "or"))
        cost = compared.cost
        cheapest = min([found.best, *rivals], key=lambda name: cost[name])
        if _is_worth_saying(cost[found.best], cost[cheapest]):
            yield Markup("Of those, {} took the least time: {}, against {}.").format(
                named(cheapest), words.seconds(cost[cheapest]), words.seconds(cost[found.best])
            )


def _times(compared: Compared, pair: Pair) -> Markup | None:
    slow, fast = sorted((pair.better, pair.worse), key=lambda name: -compared.cost[name])
    if not _is_worth_saying(compared.cost[slow], compared.cost[fast]):
        return None
    aside = ", embedding aside" if compared.is_embedding_aside else ""
    return Markup("{} took {}, {} {}{}.").format(
        named(slow), words.seconds(compared.cost[slow]), named(fast), words.seconds(compared.cost[fast]), aside
    )


def _is_worth_saying(long: float, short: float) -> bool:
    return long >= WORTH_SAYING_TIMES * short and long - short >= WORTH_SAYING_SECONDS


def _against_best(found: Comparison) -> list[Pair]:
    return [pair for name in found.names if (pair := found.against_best(name)) is not None]


def _listed(names: Sequence[str], last: str = "and") -> Markup:
    """Names as a sentence holds them, the first few of many."""
    shown: list[Markup] = [named(name) for name in names[:_NAMES_LISTED]]
    if len(names) > _NAMES_LISTED:
        shown.append(Markup(words.many(len(names) - _NAMES_LISTED, "other")))
    if len(shown) == 1:
        return shown[0]
    return Markup("{} {} {}").format(Markup(", ").join(shown[:-1]), last, shown[-1])


def _cautions(compared: Compared) -> Iterator[Caution]:
    for name, reason in compared.failures.items():
        yield Caution(f"{words.short(name)} failed", words.short(reason, _REASON_LETTERS))
    if compared.comparison.n < FEW_PICTURES:
        n = words.many(compared.comparison.n, "picture")
        yield Caution(f"Only {n}", "The fewer there are, the larger a difference must be to be told from chance.")
    if any(pair.difference.low > 0 and not pair.is_certain for pair in compared.comparison.pairs):
        text = "p is exact, cautious with few pictures, and corrected for the pairs; where it is large, believe it."
        yield Caution("An interval may leave out 0 where p says that it may be chance", text)
    for note in compared.notes:
        yield Caution("", _sentence(note))
    if compared.reused:
        yield Caution("Trained before", _sentence(f"used as they were: {_names(compared.reused)}"))


def _names(names: Iterable[str]) -> str:
    return ", ".join(words.short(name) for name in names)


def _sentence(note: str) -> str:
    return f"{note[:1].upper()}{note[1:]}{'' if note[-1:] in '.!?' else '.'}"
