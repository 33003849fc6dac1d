"""How far the judgements of a training can be trusted, measured on photo sets in which the truth was planted.

    python bench/trust.py DATA... [--only near,labels,leaks,shortcuts,intervals,sets,strangers,stage]
                          [--seeds 10] [--splits 200] [--pictures 4000]

DATA are folders of pictures in class folders; what is no folder, or has fewer than 100 different pictures, is passed
over. Features are those of the default backbone and come from the cache where it has them. `labels` needs cleanlab.
What is said of the data is measured here, what is promised of predictions in bench/trust_promises.py. Each measurement
writes its own section of bench/RESULTS.md.
"""

import argparse
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import trust_promises
from headstart.judging.shortcuts import Shortcut, find_shortcuts
from headstart.judging.suspects import doubtful_labels
from headstart.pictures.dataset import Sample
from headstart.pictures.duplicates import resolve
from headstart.pictures.looks import Looks
from headstart.pictures.near import near_duplicates, with_twins
from planting import ALTERATIONS, PhotoSet, embedded, fit, joined, load, plant, share, shortcut_looks
from results import machine, record, table

FEWEST = 100  # different pictures of a set
PLANTED = 60  # originals of a set that are altered, in each way
FLIPPED = 0.05
ROUNDS_BY_CHANCE = 5  # for each seed
TELLS = {"10 % brighter": ("brightness", "contrast"), "JPEG quality 50": ("JPEG quality", "file size", "format")}

Pair = tuple[int, int]


@dataclass(frozen=True)
class Found:
    """Of `planted` pictures `found` were paired with their originals, `false` of the `reported` pairs with others."""

    planted: int
    found: int
    reported: int
    false: int
    possible: int


def pairs_of(looks: Looks, vectors: NDArray[np.float32]) -> set[Pair]:
    return {(first, second) for first, second in near_duplicates(looks, vectors).rows.tolist()}


def find_planted(photos: PhotoSet, kind: str, own: set[Pair], folder: Path) -> Found:
    """Plant altered copies of one kind among the pictures of a set."""
    n = len(photos.distinct.samples)
    random = np.random.default_rng([*b"near", *photos.name.encode()])
    originals = np.sort(random.permutation(n)[:PLANTED])
    plant([photos.distinct.locate(photos.distinct.samples[row]) for row in originals], kind, folder)
    copies, features = embedded(replace(photos.distinct, root=folder, samples=named(folder)))
    rows = features.rows(copies.samples)
    source = np.array([*range(n), *(originals[int(Path(sample.path).stem)] for sample in copies.samples)])
    looks = joined(photos.looks, features.looks.take(rows))
    pairs = pairs_of(looks, np.concatenate([photos.vectors, features.vectors[rows]]))
    reported = [pair for pair in pairs if pair[1] >= n]
    ends = [tuple(sorted((int(source[one]), int(source[other])))) for one, other in reported]
    found = {pair[1] for pair in reported if source[pair[1]] == pair[0]}
    false = sum(one != other and (one, other) not in own for one, other in ends)
    added = len(rows)
    return Found(added, len(found), len(reported), false, added * n + added * (added - 1) // 2)


def named(folder: Path) -> tuple[Sample, ...]:
    return tuple(Sample(path.name, "planted") for path in sorted(folder.iterdir()))


def near(sets: list[PhotoSet], _: argparse.Namespace) -> str:
    by_kind: dict[str, list[Found]] = {kind: [] for kind in ALTERATIONS}
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for photos in sets:
            own = pairs_of(photos.looks, photos.vectors)
            crossing = sum(photos.labels[one] != photos.labels[other] for one, other in own)
            for number, (kind, found) in enumerate(by_kind.items()):
                found.append(find_planted(photos, kind, own, Path(name) / photos.name / str(number)))
            last = [found[-1] for found in by_kind.values()]
            false, reported = sum(one.false for one in last), sum(one.reported for one in last)
            shares = [f"{one.found} of {one.planted}" for one in last]
            pictures = f"{len(photos.labels):,}"
            rows.append([photos.name, pictures, *shares, f"{false} of {reported:,}", f"{len(own):,}", str(crossing)])
    kinds = []
    for kind, found in by_kind.items():
        least = min(one.found / one.planted for one in found)
        together = share(sum(one.found for one in found), sum(one.planted for one in found))
        kinds.append([kind, together, f"{least:.2f}"])
    return (
        f"Altered copies of {PLANTED} different pictures of each set (seeded) are put among all of its pictures, one "
        "kind at a time. Cropped: a window of 90 % of each side, anywhere. Copies are saved as JPEG at quality 90, but "
        "for those saved again. Found: paired with the original. 95 % intervals are Wilson's, over all sets.\n\n"
        + table(["altered", "found", "least of a set"], kinds)
        + "\n"
        + false_pairs(sets, [one for found in by_kind.values() for one in found])
        + " The set's own pairs were in it before, and may be true; those of two classes are counted apart.\n\n"
        + table(["data", "pictures", *ALTERATIONS, "false pairs", "own pairs", "of two classes"], rows)
    )


def false_pairs(sets: list[PhotoSet], found: list[Found]) -> str:
    false, reported, possible = (sum(getattr(one, name) for one in found) for name in ("false", "reported", "possible"))
    across, pairs, possible_across = pairs_across(sets)
    return (
        "False pairs are of a copy and a picture that is neither its original nor paired with that: "
        f"{share(false, reported)} of the reported pairs with copies, of {possible:,} possible ones. With all sets put "
        f"together, {across} of {pairs:,} reported pairs are of two sets, and so false; {possible_across:,} such pairs "
        "are possible."
    )


def pairs_across(sets: list[PhotoSet]) -> tuple[int, int, int]:
    """Of all sets put together: the reported pairs of two sets, all reported pairs, the possible pairs of two sets."""
    sizes = np.array([len(photos.distinct.samples) for photos in sets])
    owner = np.repeat(np.arange(len(sets)), sizes)
    vectors = np.concatenate([photos.vectors for photos in sets])
    pairs = near_duplicates(joined(*(photos.looks for photos in sets)), vectors).rows
    return (
        int((owner[pairs[:, 0]] != owner[pairs[:, 1]]).sum()),
        len(pairs),
        int(sizes.sum() ** 2 - (sizes**2).sum()) // 2,
    )


# wrong labels


def labels(sets: list[PhotoSet], args: argparse.Namespace) -> str:
    rows, pooled = [], []
    for photos in sets:
        scores = np.array([score_labels(photos, seed) for seed in range(args.seeds)])
        pooled.append(scores.mean(axis=0))
        rows.append([photos.name, f"{len(photos.labels):,}", *(f"{value:.2f}" for value in pooled[-1])])
    if len(sets) > 1:
        rows.append(["mean", "", *(f"{value:.2f}" for value in np.mean(pooled, axis=0))])
    columns = ["precision", "recall", "precision of cleanlab", "recall of cleanlab"]
    columns += ["first m: precision", "first m: precision of cleanlab"]
    return (
        f"Of the different pictures of each set {100 * FLIPPED:.0f} % get a wrong label, drawn evenly from the "
        f"others; means of seeds 0 to {args.seeds - 1}. `doubtful_labels` and cleanlab {version('cleanlab')} "
        "(`find_label_issues`, ranked by self-confidence) see the same probabilities, from heads that did not see the "
        "picture (out of fold, and of the held-out fifth). Labels that were wrong before count as right. First m: as "
        "many of each list as the shorter one has.\n\n" + table(["data", "pictures", "listed / wrong", *columns], rows)
    )


def score_labels(photos: PhotoSet, seed: int) -> list[float]:
    """The length of the list over the number of wrong labels; then precision and recall, ours and cleanlab's."""
    from cleanlab.filter import find_label_issues

    dataset, truth = photos.distinct, photos.labels
    random, k = np.random.default_rng([seed, *b"labels"]), len(dataset.classes)
    wrong = random.choice(len(truth), max(1, round(FLIPPED * len(truth))), replace=False)
    given = truth.copy()
    given[wrong] = (truth[wrong] + random.integers(1, k, len(wrong))) % k
    samples = (replace(sample, label=dataset.classes[c]) for sample, c in zip(dataset.samples, given, strict=True))
    examples, solved = fit(replace(dataset, samples=tuple(samples)), photos.features, seed)
    judged = np.concatenate([solved.held_out, examples.split.test])
    unseen = solved.classifier.probabilities(examples.test_vectors)
    probabilities = np.concatenate([solved.out_of_fold, unseen])
    ours = doubtful_labels(probabilities, given[judged]).rows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = find_label_issues(
            given[judged], probabilities, return_indices_ranked_by="self_confidence", n_jobs=1, verbose=False
        )
    bad = (given != truth)[judged]
    both = min(len(ours), len(theirs))
    scores = [len(ours) / bad.sum()]
    for rows in (ours, theirs):
        scores += [bad[rows].sum() / max(1, len(rows)), bad[rows].sum() / bad.sum()]
    return [*scores, *(bad[rows[:both]].sum() / max(1, both) for rows in (ours, theirs))]


# leaks


def leaks(sets: list[PhotoSet], _: argparse.Namespace) -> str:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for photos in sets:
            if any(sample.given == "test" for sample in photos.given.samples):
                rows.append([photos.name, *removed_copies(photos), planted_leaks(photos, Path(name) / photos.name)])
    if not rows:
        return "No set comes in parts."
    return (
        "Sets that come in training and test parts. Copies: training files with the bytes of a test file, counted with "
        "hashlib; removed: those named as leaks. Left: training pictures with the digest of a test picture after all. "
        f"Nearly the same: removed for a test picture nearly the same. Planted: altered copies of up to {PLANTED} test "
        "pictures, in each of the six ways of the near duplicates, put into training under their labels.\n\n"
        + table(["data", "training + test", "copies removed", "left", "nearly the same", "planted, removed"], rows)
    )


def removed_copies(photos: PhotoSet) -> list[str]:
    samples = photos.given.samples
    digests = {sample.path: sha256(photos.given.locate(sample).read_bytes()).hexdigest() for sample in samples}
    tested = {digests[sample.path] for sample in samples if sample.given == "test"}
    copies = {sample.path for sample in samples if sample.given != "test" and digests[sample.path] in tested}
    resolved = resolve(photos.given)
    told = [problem for problem in resolved.problems if problem.kind == "leak"]
    exact = {problem.path for problem in told if problem.path in copies}
    left = sum(sample.given != "test" and digests[sample.path] in tested for sample in resolved.samples)
    sizes = Counter(sample.given for sample in samples)
    pictures = f"{sum(sizes.values()) - sizes['test']} + {sizes['test']}"
    return [pictures, f"{len(exact)} of {len(copies)}", str(left), str(len(told) - len(exact))]


def planted_leaks(photos: PhotoSet, folder: Path) -> str:
    """How many altered copies of test pictures are removed from training."""
    dataset = resolve(photos.given)
    tested = [sample for sample in dataset.samples if sample.given == "test"]
    chosen = np.random.default_rng([*b"leaks"]).permutation(len(tested))[:PLANTED]
    planted = []
    for number, kind in enumerate(ALTERATIONS):
        copies = plant([dataset.locate(tested[row]) for row in chosen], kind, folder / str(number))
        planted += [Sample(str(path), tested[row].label, "train") for path, row in zip(copies, chosen, strict=True)]
    both, features = embedded(replace(dataset, samples=(*dataset.samples, *planted), twins=(), mirrored=frozenset()))
    both = with_twins(both, features.digests, near_duplicates(features.looks, features.vectors))
    names = {sample.path for sample in planted}
    told = {problem.path for problem in resolve(both).problems if problem.kind == "leak"}
    return share(len(told & names), len(names))


# shortcuts


def shortcuts(sets: list[PhotoSet], args: argparse.Namespace) -> str:
    rows, totals = [], Counter[str]()
    for photos in sets:
        versions = shortcut_looks(photos)
        plain = versions["as it is"]
        found = Counter(hit for seed in range(args.seeds) for hit in planted_shortcuts(photos, versions, seed))
        rounds = ROUNDS_BY_CHANCE * args.seeds
        chance = sum(bool(shortcuts_of(photos, plain, drawn(photos, seed), seed)) for seed in range(rounds))
        totals.update(found, chance=chance)
        own = shortcuts_of(photos, photos.looks, photos.labels, 0)
        said = ", ".join(f"{one.family} {one.effect:.2f}" for one in own) or "none"
        hits = [f"{found[what]} of {args.seeds}" for what in TELLS]
        smallest = np.bincount(photos.labels).min()
        rows.append(
            [
                photos.name,
                f"{len(photos.labels):,}",
                str(smallest),
                *hits,
                f"{chance} of {ROUNDS_BY_CHANCE * args.seeds}",
                said,
            ]
        )
    n = len(sets) * args.seeds
    told = [f"{what}: {share(totals[what], n)}" for what in TELLS]
    told.append(f"by chance: {share(totals['chance'], ROUNDS_BY_CHANCE * n)}")
    return (
        "Labels are dealt out anew to the different pictures, so that nothing tells the classes apart, with "
        f"{args.seeds} seeds; then one class, drawn, is made 10 % brighter (pixels times 1.1, the file as it is), or "
        "saved again as JPEG at quality 50. Found: brightness or contrast is named; JPEG quality, file size or format "
        f"is. By chance: anything is named though nothing was altered, {ROUNDS_BY_CHANCE * args.seeds} seeds. Of all "
        f"sets: {'; '.join(told)}. Named as they are: families with their effects, under the sets' own labels.\n\n"
        + table(["data", "pictures", "smallest class", *TELLS, "by chance", "named as they are"], rows)
    )


def drawn(photos: PhotoSet, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, *b"dealt"]).permutation(photos.labels)


def shortcuts_of(photos: PhotoSet, looks: Looks, labels: NDArray[np.int64], seed: int) -> list[Shortcut]:
    return find_shortcuts(looks, labels, photos.groups, photos.distinct.classes, seed=seed)


def planted_shortcuts(photos: PhotoSet, versions: dict[str, Looks], seed: int) -> Iterator[str]:
    """Which alterations of one class are found."""
    own = drawn(photos, seed)
    cls = int(np.random.default_rng([seed, *b"altered"]).integers(len(photos.distinct.classes)))
    rows = np.arange(len(own)) + len(own) * (own == cls)
    for what, families in TELLS.items():
        looks = joined(versions["as it is"], versions[what]).take(rows)
        if any(one.family in families for one in shortcuts_of(photos, looks, own, seed)):
            yield what


MEASUREMENTS = {
    "near": ("Trust: near duplicates", near),
    "labels": ("Trust: wrong labels", labels),
    "leaks": ("Trust: leaks", leaks),
    "shortcuts": ("Trust: shortcuts", shortcuts),
    "intervals": ("Trust: intervals", trust_promises.intervals),
    "sets": ("Trust: calibration", trust_promises.calibration),
    "strangers": ("Trust: strangers", trust_promises.strangers),
    "stage": ("Trust: the stage in seconds", trust_promises.stage),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--only", default=",".join(MEASUREMENTS), help="names of measurements, with commas")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--splits", type=int, default=200, help="random splits of each set for `intervals`")
    parser.add_argument("--pictures", type=int, default=4000, help="for `stage`, at most")
    args = parser.parse_args()
    args.only = args.only.split(",")
    if unknown := set(args.only) - set(MEASUREMENTS):
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}; there are {', '.join(MEASUREMENTS)}")
    return args


def main() -> None:
    args = parse()
    sets = []
    for folder in args.data:
        photos = load(folder) if folder.is_dir() else None
        if photos is None or len(photos.distinct.samples) < FEWEST:
            print(f"{folder.name} is passed over", flush=True)
        else:
            sets.append(photos)
    names = " ".join(photos.name for photos in sets)
    for name in args.only:
        section, measure = MEASUREMENTS[name]
        started = time.perf_counter()
        text = measure(sets, args)
        seconds = time.perf_counter() - started
        record(section, f"`python bench/trust.py {names} --only {name}`: {machine()}, {seconds:.0f} s.\n\n{text}")


if __name__ == "__main__":
    main()
