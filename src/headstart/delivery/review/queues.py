"""The queues of the desk: which pictures a person should look at, and in which order.

Everything follows from one training in the desk: its features, out-of-fold and held-out predictions. Nothing is
embedded. What a person has confirmed since is left out of the next training's queues, not of this one's: an order that
changes under the eyes helps nobody.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headstart.delivery.review.again import Material, Trained
from headstart.features.picked import Picked
from headstart.judging.suspects import Evidence, label_suspects, outlier_suspects
from headstart.learning.novelty import held_out_distances, unit
from headstart.pictures.dataset import Sample
from headstart.pictures.overlay import pair_key
from headstart.pictures.split import TEST

NAMES = ("labels", "twins", "uncertain", "mistakes", "strangers", "new", "all")

MOST_UNCERTAIN, POOL = 200, 5
"""How many uncertain pictures there are, and from how many times as many of the least certain they are chosen."""


@dataclass(frozen=True, slots=True)
class Item:
    """One picture to look at, of `part` "test", "train", "new" (outside the data) or "out" (left out of training).

    `label`: as trained on; "" for a new picture. `suggested`: the class that the classifier says, "" where it was not
    asked; `probability`, in [0, 1], of that class. `score`: larger for what is more worth looking at, within its queue.
    `reason`: a sentence. `twin`: the digest of the picture to look at beside it, or "".
    """

    id: str
    path: str
    label: str
    part: str
    suggested: str = ""
    probability: float | None = None
    score: float = 0.0
    reason: str = ""
    twin: str = ""


@dataclass(frozen=True, eq=False)
class Said:
    """What the classifier says of pictures outside the data: `probabilities` float64 [n, k], `novelty` float64 [n]."""

    samples: tuple[Sample, ...]
    probabilities: NDArray[np.float64]
    novelty: NDArray[np.float64]


def make(name: str, material: Material, trained: Trained) -> list[Item]:
    """The queue called `name`, one of `NAMES`."""
    queues: dict[str, Callable[[Material, Trained], list[Item]]] = {
        "labels": labels,
        "twins": twins,
        "uncertain": uncertain,
        "mistakes": mistakes,
        "strangers": strangers,
        "new": new,
        "all": everything,
    }
    return queues[name](material, trained)


def labels(_: Material, trained: Trained) -> list[Item]:
    """Labels that are likely to be wrong and that nobody has confirmed, the likeliest first."""
    items = _judged_items(trained)
    found = []
    for suspect in label_suspects(_evidence(trained)):
        item = items[suspect.path]
        if not trained.overlay.is_confirmed(item.id, item.label):
            found.append(_because(item, suspect.reason, suspect.score))
    return _once(found)


def twins(_: Material, trained: Trained) -> list[Item]:
    """Pictures under two labels, then pairs of nearly the same pictures: of two labels first, the likest first."""
    present: dict[str, list[Sample]] = defaultdict(list)
    for sample in trained.assembled.samples:
        if sample.digest not in trained.overlay.excluded:
            present[sample.digest].append(sample)
    label = {digest: _label_now(trained, copies[0]) for digest, copies in present.items()}
    found = [
        _torn(trained, copies) for copies in present.values() if len({_label_now(trained, one) for one in copies}) > 1
    ]
    pairs = []
    for one, other in trained.assembled.twins:
        if one in present and other in present and pair_key(one, other) not in trained.overlay.accepted:
            mirrored = ", mirrored" if (one, other) in trained.assembled.mirrored else ""
            first = _item(trained, present[one][0])
            differ = label[one] != label[other]
            but = f", which is labelled {label[other]!r}" if differ else ""
            reason = f"nearly the same{mirrored} as {_end_of(present[other][0].path)}{but}"
            pairs.append(_because(first, reason, float(differ), other))
    return found + sorted(pairs, key=lambda item: -item.score)


def uncertain(material: Material, trained: Trained) -> list[Item]:
    """Pictures between classes whose labels would teach most, no two of them alike.

    Of the pictures with the smallest margin between the two likeliest classes (5 times as many as are wanted) the first
    is the least certain, each next one that which has the largest (1 - margin) (1 - cosine to the nearest chosen).
    Where there are pictures outside the data, they come first.
    """
    said = ask(material, trained)
    outside = _new_items(trained, said)
    waiting = _diverse(outside, said.probabilities, _vectors(material, said.samples), trained.classes)
    samples = [trained.examples.dataset.samples[place] for place in trained.judged.tolist()]
    items = list(_judged_items(trained).values())
    unknown = [not trained.overlay.is_confirmed(item.id, item.label) for item in items]
    keep = np.flatnonzero(unknown)
    inside = _diverse(
        [items[place] for place in keep],
        trained.probabilities[keep],
        _vectors(material, [samples[place] for place in keep]),
        trained.classes,
    )
    return waiting + inside[: max(0, MOST_UNCERTAIN - len(waiting))]


def mistakes(_: Material, trained: Trained) -> list[Item]:
    """Pictures that the classifier takes for another class, the most confident mistake first."""
    found = []
    for item in _judged_items(trained).values():
        if item.suggested != item.label and not trained.overlay.is_confirmed(item.id, item.label):
            where = "held out" if item.part == "test" else "a classifier that did not see it"
            reason = f"{where}: {item.suggested!r} with probability {item.probability:.2f}, labelled {item.label!r}"
            found.append(_because(item, reason, item.probability or 0.0))
    return _once(sorted(found, key=lambda item: (-item.score, item.path)))


def strangers(material: Material, trained: Trained) -> list[Item]:
    """Pictures unlike all the others: outliers of the data, and pictures that are none of the classes."""
    by_path = {sample.path: sample for sample in trained.examples.dataset.samples}
    evidence = _evidence(trained, with_distances=True)
    found = [
        _because(_item(trained, by_path[suspect.path]), suspect.reason, suspect.score)
        for suspect in outlier_suspects(evidence)
    ]
    said = ask(material, trained)
    for samples, novelty in ((trained.examples.test_samples, _novelty(trained)), (said.samples, said.novelty)):
        for sample, score in zip(samples, novelty.tolist(), strict=True):
            if score > 1:
                reason = f"unlike everything trained on: {score:.2f} times the distance that few pictures exceed"
                found.append(_because(_item(trained, sample), reason, score / (score + 1)))
    seen = trained.overlay.accepted
    return _once(sorted((one for one in found if one.id not in seen), key=lambda item: (-item.score, item.path)))


def new(material: Material, trained: Trained) -> list[Item]:
    """Pictures from outside the data, by the class that the classifier says, the surest first."""
    items = _new_items(trained, ask(material, trained))
    return sorted(items, key=lambda item: (item.suggested, -(item.probability or 0.0), item.path))


def everything(_: Material, trained: Trained) -> list[Item]:
    """All pictures of the data, and those that were added, by label and path; those that were left out too."""
    judged = _judged_items(trained)
    items = [judged.get(sample.path) or _item(trained, sample) for sample in trained.assembled.samples]
    return sorted(items, key=lambda item: (item.label, item.path))


def ask(material: Material, trained: Trained) -> Said:
    """What the classifier says of the pictures outside the data that are not in it by now."""
    inside = {sample.digest for sample in trained.assembled.samples} | trained.overlay.excluded
    first: dict[str, Sample] = {}
    for sample in material.outside:
        if sample.digest not in inside:
            first.setdefault(sample.digest, sample)
    samples = tuple(first.values())
    vectors = Picked(material.features.vectors, material.features.rows(samples))
    classifier = trained.solved.classifier
    return Said(samples, classifier.probabilities(vectors), classifier.novelty.scores(vectors))


def diverse(margins: NDArray[np.float64], units: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """The rows, at most `most`, that are uncertain and unlike each other, in the order in which they are chosen.

    Args:
        margins: [n], in [0, 1], between the two likeliest classes.
        units: float32 [n, d], features of length one.
        most: how many.
    """
    pool = np.argsort(margins, kind="stable")[: POOL * most]
    doubt, rows = 1 - margins[pool], units[pool]
    chosen: list[int] = []
    apart = np.full(len(pool), 2.0)
    while len(chosen) < min(most, len(pool)):
        worth = doubt * apart
        worth[chosen] = -1.0
        best = int(worth.argmax())
        chosen.append(best)
        np.minimum(apart, np.maximum(1 - rows @ rows[best], 1e-6), out=apart)
    return np.asarray(pool[chosen], dtype=np.int64)


def _diverse(
    items: list[Item], probabilities: NDArray[np.float64], vectors: Picked, classes: tuple[str, ...]
) -> list[Item]:
    if not items:
        return []
    likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    two = np.take_along_axis(probabilities, likeliest, axis=1)
    margins = two[:, 0] - two[:, 1]
    found = []
    pool = np.argsort(margins, kind="stable")[: POOL * MOST_UNCERTAIN]
    for row in pool[diverse(margins[pool], unit(vectors[pool]), MOST_UNCERTAIN)].tolist():
        first, second = (classes[number] for number in likeliest[row].tolist())
        reason = f"undecided between {first!r} and {second!r}: probability {two[row, 0]:.2f} against {two[row, 1]:.2f}"
        found.append(_because(items[row], reason, float(1 - margins[row])))
    return found


def _vectors(material: Material, samples: tuple[Sample, ...] | list[Sample]) -> Picked:
    return Picked(material.features.vectors, material.features.rows(samples))


def _evidence(trained: Trained, *, with_distances: bool = False) -> Evidence:
    """What `judging.suspects` asks for."""
    examples = trained.examples
    distances = np.full(len(examples.labels), np.nan)
    if with_distances:
        parts = examples.split.parts.astype(np.int64)
        folds = np.where(parts == TEST, parts.max() + 1, parts)
        distances = held_out_distances(examples.vectors, examples.labels, folds, examples.groups)
    return Evidence(
        paths=tuple(sample.path for sample in examples.dataset.samples),
        labels=examples.labels,
        classes=trained.classes,
        held_out=trained.judged,
        probabilities=trained.probabilities,
        distances=distances,
        looks=examples.features.looks.measures(examples.rows[:0]),  # nobody asks how they look
    )


def _novelty(trained: Trained) -> NDArray[np.float64]:
    return trained.solved.classifier.novelty.scores(trained.examples.test_vectors)


def _judged_items(trained: Trained) -> dict[str, Item]:
    """An item for each judged sample, by its path, in the order of `trained.judged`."""
    samples, classes = trained.examples.dataset.samples, trained.classes
    best, sure = trained.probabilities.argmax(axis=1).tolist(), trained.probabilities.max(axis=1).tolist()
    items = {}
    for place, number, p in zip(trained.judged.tolist(), best, sure, strict=True):
        sample = samples[place]
        part = "test" if sample.digest in trained.held_out else "train"
        items[sample.path] = Item(sample.digest, sample.path, sample.label, part, classes[number], p)
    return items


def _new_items(trained: Trained, said: Said) -> list[Item]:
    numbers = said.probabilities.argmax(axis=1).tolist()
    return [
        Item(sample.digest, sample.path, "", "new", trained.classes[number], float(row[number]), float(row[number]))
        for sample, number, row in zip(said.samples, numbers, said.probabilities, strict=True)
    ]


def item_of(trained: Trained, digest: str, path: str) -> Item:
    """An item for any picture of the data, with what was said of it if it was judged."""
    label, answer = trained.labels.get(digest), trained.answers.get(digest)
    if label is None:
        return Item(digest, path, "", "out")
    part = "test" if digest in trained.held_out else "train"
    if answer is None:
        return Item(digest, path, label, part)
    return Item(digest, path, label, part, answer.predicted, answer.probability)


def _item(trained: Trained, sample: Sample) -> Item:
    """An item for any sample: of the data, left out, or from outside."""
    if sample.label == "":
        return Item(sample.digest, sample.path, "", "new")
    found = item_of(trained, sample.digest, sample.path)
    return replace(found, label=_label_now(trained, sample)) if found.part == "out" else found


def _torn(trained: Trained, copies: list[Sample]) -> Item:
    labelled = ", ".join(f"{_label_now(trained, one)!r} ({_end_of(one.path)})" for one in copies)
    return _because(_item(trained, copies[0]), f"the same picture under different labels: {labelled}", 2.0)


def _end_of(path: str) -> str:
    """The folder and the name of a file, for a sentence."""
    parts = path.split("/")
    return path if len(parts) < 3 else "/".join(["…", *parts[-2:]])


def _label_now(trained: Trained, sample: Sample) -> str:
    return trained.overlay.relabelled.get(sample.digest, trained.overlay.class_name(sample.label))


def _because(item: Item, reason: str, score: float, twin: str = "") -> Item:
    return Item(item.id, item.path, item.label, item.part, item.suggested, item.probability, float(score), reason, twin)


def _once(items: list[Item]) -> list[Item]:
    """The items without copies of a picture that came before."""
    return list(_by_id(items))


def _by_id(items: list[Item]) -> Iterator[Item]:
    seen: set[str] = set()
    for item in items:
        if item.id not in seen:
            seen.add(item.id)
            yield item
