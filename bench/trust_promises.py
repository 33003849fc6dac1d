"""For bench/trust.py: whether intervals, prediction sets, probabilities and "none of these" keep what they promise.

The last of the measurements is of time: what all of it costs on a few thousand pictures.
"""

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from headstart.judging import metrics
from headstart.judging.intervals import Interval, Z, wilson
from headstart.judging.reliability import ece
from headstart.learning.calibration import softmax
from headstart.learning.conformal import KINDS
from headstart.pictures.dataset import Dataset
from planting import PhotoSet, fit, share
from results import table

LARGE = 600  # different pictures of a set that intervals are checked on
HELD_OUT, TESTED = 0.6, 150  # share that no head sees, and pictures of it that are the test
COVERAGES = (0.8, 0.9, 0.95)
ROUNDING = 1e-12
SEEDS_OF_STRANGERS = 5
TRAIN = """
import json, pathlib, sys
from headstart.workflow import train
seconds = train(sys.argv[1], sys.argv[2]).seconds
(pathlib.Path(sys.argv[2]) / "seconds.json").write_text(json.dumps(seconds))
"""  # as `headstart train`, but that metrics.json is written before the run folder is done
TRUST_STAGES = ("split", "judge", "maps", "save")

MEASURES: dict[str, Callable[[metrics.Outcome], Interval]] = {
    "accuracy": metrics.accuracy,
    "balanced accuracy": metrics.balanced_accuracy,
    "log loss": metrics.log_loss,
    "Brier score": metrics.brier,
}


@dataclass(frozen=True)
class Kept:
    """Of one random split: which promises were kept, and how large the remainder was."""

    drawn: list[bool]
    rest: bool
    tested: int
    left: int
    accuracy: float
    covered: list[float]
    sizes: list[float]


def check_split(photos: PhotoSet, seed: int) -> Kept:
    """Train on 40 % of a set; the rest of it is the truth that a small test is to tell."""
    examples, solved = fit(photos.distinct, photos.features, seed, HELD_OUT)
    test = examples.split.test
    truth, related = examples.labels[test], examples.groups[test]
    p = solved.classifier.probabilities(examples.test_vectors)
    random = np.random.default_rng([seed, *b"intervals"])
    members = [np.flatnonzero(related == number) for number in random.permutation(np.unique(related))]
    cut = int(np.searchsorted(np.cumsum([len(rows) for rows in members]), TESTED)) + 1
    tested, left = np.concatenate(members[:cut]), np.concatenate(members[cut:])
    small = metrics.accuracy(metrics.judge(p[tested], truth[tested], related[tested]))
    others = float((p[left].argmax(axis=1) == truth[left]).mean())
    again = [members[number] for number in random.integers(len(members), size=cut)]  # of a population that is known
    rows, numbers = np.concatenate(again), np.repeat(np.arange(cut), [len(one) for one in again])
    sample, whole = metrics.judge(p[rows], truth[rows], numbers), metrics.judge(p, truth, related)
    held = [_holds(measure(sample), measure(whole).value) for measure in MEASURES.values()]
    kinds = [solved.classifier.sets.members(p, kind, coverage) for kind in KINDS for coverage in COVERAGES]
    covered = [float(one[np.arange(len(p)), truth].mean()) for one in kinds]
    sizes = [float(one.sum(axis=1).mean()) for one in kinds]
    return Kept(held, _holds(small, others), len(tested), len(left), metrics.accuracy(whole).value, covered, sizes)


def _holds(interval: Interval, value: float) -> bool:
    return interval.low - ROUNDING <= value <= interval.high + ROUNDING


def intervals(sets: list[PhotoSet], args: argparse.Namespace) -> str:
    held, sets_kept = [], []
    for photos in sets:
        if len(photos.labels) < LARGE:
            continue
        kept = [check_split(photos, seed) for seed in range(args.splits)]
        n, left = (round(float(np.mean([getattr(one, name) for one in kept]))) for name in ("tested", "left"))
        perfect = 2 * NormalDist().cdf(Z / math.sqrt(1 + n / left)) - 1
        again = [share(sum(one.drawn[i] for one in kept), len(kept)) for i in range(len(MEASURES))]
        rest = share(sum(one.rest for one in kept), len(kept))
        held.append(
            [
                photos.name,
                f"{n} + {left}",
                f"{np.mean([one.accuracy for one in kept]):.3f}",
                *again,
                rest,
                f"{perfect:.3f}",
            ]
        )
        columns = np.array([one.covered for one in kept]), np.array([one.sizes for one in kept])
        for row, kind in enumerate(KINDS):
            at = slice(row * len(COVERAGES), (row + 1) * len(COVERAGES))
            both = zip(columns[0][:, at].T, columns[1][:, at].T, strict=True)
            sets_kept.append([photos.name, kind, *(f"{c.mean():.3f} ({c.std():.3f}), {s.mean():.2f}" for c, s in both)])
    if not held:
        return f"No set has {LARGE} different pictures."
    drawn = [f"drawn: {name}" for name in MEASURES]
    return (
        f"{args.splits} random splits of each set of {LARGE} different pictures or more: 40 % train the classifier, "
        "the other 60 % are the truth. Drawn: groups of nearly the same pictures are drawn from those 60 %, with "
        f"replacement, until there are {TESTED} pictures; how often the 95 % interval from them holds what is true of "
        "the 60 % (with Wilson's interval of that share; 0.95 is wanted). Rest: the test is "
        f"{TESTED} of the 60 %, and its interval of accuracy is set against the accuracy on all others; these are a "
        "sample too, so that a perfect interval would hold it as often as the last column says.\n\n"
        + table(["data", "test + rest", "accuracy", *drawn, "rest: accuracy", "perfect"], held)
        + "\nPrediction sets on the same 60 %: the share whose set holds the truth, mean over the splits (and its "
        "standard deviation), and the mean size. The likeliest class is in every set, so that more is covered than "
        "asked where the classifier is right more often.\n\n"
        + table(["data", "sets", *(f"asked {100 * coverage:.0f} %" for coverage in COVERAGES)], sets_kept)
    )


def calibration(sets: list[PhotoSet], args: argparse.Namespace) -> str:
    rows = []
    for photos in sets:
        first = measure_calibration(photos, photos.resolved, 0)
        drawn = [measure_calibration(photos, photos.distinct, seed) for seed in range(args.seeds)]
        after, before = ([one[which].value for one in drawn] for which in (2, 3))
        rows.append(
            [photos.name, str(first[0]), *map(str, first[1:]), f"{np.mean(after):.3f}", f"{np.mean(before):.3f}"]
        )
    columns = ["data", "held out", "accuracy", "ECE", "ECE without calibration"]
    averages = [f"ECE, mean of {args.seeds}", "without calibration"]
    return (
        "As `headstart train` does: calibrated on out-of-fold predictions, measured on the held-out pictures (the test "
        "part that was given, or a fifth drawn with seed 0), with 95 % intervals. ECE is corrected for chance, which "
        "opens gaps too. Then means over a drawn fifth of the different pictures, seeds 0 to "
        f"{args.seeds - 1}.\n\n" + table([*columns, *averages], rows)
    )


def measure_calibration(photos: PhotoSet, dataset: Dataset, seed: int) -> tuple[int, Interval, Interval, Interval]:
    """The number of held-out pictures, their accuracy, and the calibration error with the temperature and without."""
    examples, solved = fit(dataset, photos.features, seed)
    test, p = examples.split.test, solved.classifier.probabilities(examples.test_vectors)
    truth, related = examples.labels[test], examples.groups[test]
    outcome = metrics.judge(p, truth, related)
    plain = softmax(np.log(np.maximum(p, 1e-300)) * solved.calibration.temperature)
    return len(test), metrics.accuracy(outcome), ece(outcome), ece(metrics.judge(plain, truth, related))


def strangers(sets: list[PhotoSet], _: argparse.Namespace) -> str:
    met = {photos.name: [meet(photos, sets, seed) for seed in range(SEEDS_OF_STRANGERS)] for photos in sets}
    own, rows, means = [], [], []
    for photos in sets:
        seeds = met[photos.name]
        tested, rate = np.mean([one.tested for one in seeds]), np.mean([one.rate for one in seeds])
        rejected = wilson(float(np.mean([one.rejected for one in seeds])), float(tested))
        own.append([photos.name, f"{tested:.0f}", f"{rate:.3f}", str(rejected)])
    for known, stranger in permutations(sets, 2):
        n = len(stranger.labels)
        means.append(np.mean([one.strangers[stranger.name] for one in met[known.name]], axis=0))
        auc, baseline, rejected_share = means[-1].tolist()
        told = [f"{n:,}", f"{auc:.3f}", f"{baseline:.3f}", str(wilson(rejected_share, n))]
        rows.append([known.name, stranger.name, *told])
    if not means:
        return "One set has no strangers."
    average, least = np.mean(means, axis=0), np.min(means, axis=0)
    return (
        "A classifier of one set (a fifth of its different pictures is held out) meets all pictures of another; means "
        f"of seeds 0 to {SEEDS_OF_STRANGERS - 1}. AUROC: strangers against its own held-out pictures, by the novelty "
        "score, and by 1 - the largest probability. Rejected: novelty above 1. Wilson's 95 % intervals, as for the "
        f"pictures of one seed. Mean of the {len(means)} pairs: AUROC {average[0]:.3f} against {average[1]:.3f}, least "
        f"{least[0]:.3f} against {least[1]:.3f}; rejected {average[2]:.3f}, least {least[2]:.3f}.\n\n"
        + table(["trained on", "held out", "stated false rejects", "own pictures rejected"], own)
        + "\n"
        + table(["trained on", "strangers", "n", "AUROC", "AUROC of probability", "rejected"], rows)
    )


@dataclass(frozen=True)
class Met:
    """One classifier among strangers: its own pictures wrongly rejected; of others AUROC, baseline's, and rejected."""

    tested: int
    rate: float
    rejected: float
    strangers: dict[str, tuple[float, float, float]]


def meet(photos: PhotoSet, sets: list[PhotoSet], seed: int) -> Met:
    examples, solved = fit(photos.distinct, photos.features, seed)
    classifier = solved.classifier

    def judge(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return classifier.novelty.scores(vectors), 1 - classifier.probabilities(vectors).max(axis=1)

    own = judge(examples.test_vectors)
    others = {}
    for other in sets:
        if other is not photos:
            theirs = judge(other.vectors)
            strange = np.repeat([0, 1], [len(own[0]), len(theirs[0])])
            auc, baseline = (
                float(roc_auc_score(strange, np.concatenate(both))) for both in zip(own, theirs, strict=True)
            )
            others[other.name] = auc, baseline, float((theirs[0] > 1).mean())
    return Met(len(own[0]), classifier.novelty.false_reject_rate, float((own[0] > 1).mean()), others)


def stage(sets: list[PhotoSet], args: argparse.Namespace) -> str:
    everything = [
        (str(photos.distinct.locate(sample).resolve()), f"{photos.name} {sample.label}")
        for photos in sets
        for sample in photos.distinct.samples
    ]
    chosen = np.random.default_rng([*b"stage"]).permutation(len(everything))[: args.pictures]
    timings = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "pictures.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("path", "label"), *(everything[row] for row in np.sort(chosen))])
        environment = {**os.environ, "HEADSTART_CACHE": str(folder / "cache")}
        warm = "from headstart.features.backbones import load_backbone; load_backbone()"
        subprocess.run([sys.executable, "-c", warm], check=True, env=environment)
        for which in ("empty", "full", "full, again"):
            timings.append(time_training(folder / "pictures.csv", folder / which, environment, which))
    stages = list(timings[0].stages)
    rows = [[one.cache, *(f"{one.stages[name]:.1f}" for name in stages), *one.told()] for one in timings]
    classes = len({everything[row][1] for row in chosen})
    return (
        f"`headstart train` of {len(chosen):,} different pictures of all sets, in {classes} classes, as whole "
        "processes: with an empty cache (but for the converted backbone), and with the full one. Trust: "
        f"{', '.join(TRUST_STAGES)}, which are near duplicates and split; audit, promises, growth, robustness and "
        "slices; saliency maps; and the run folder with its report.\n\n"
        + table(["cache", *(f"{name}, s" for name in stages), "trust, s", "all, s", "peak MB"], rows)
    )


@dataclass(frozen=True)
class Timing:
    """Seconds of one training, by stage and as a whole, and its peak memory in MB."""

    cache: str
    stages: dict[str, float]
    whole: float
    peak: float

    def told(self) -> list[str]:
        """The seconds of the trust stages, those of the process, and its peak memory, as written in the table."""
        trust = sum(self.stages[name] for name in TRUST_STAGES)
        return [f"{trust:.1f}", f"{self.whole:.1f}", f"{self.peak:.0f}"]


def time_training(data: Path, run: Path, environment: dict[str, str], cache: str) -> Timing:
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", TRAIN, str(data), str(run)], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the training failed")
    whole = time.perf_counter() - started
    return Timing(cache, json.loads((run / "seconds.json").read_text("utf-8")), whole, usage.ru_maxrss / 1024)
