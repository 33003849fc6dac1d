"""How many suspects a person must look at until noisy labels no longer hurt: `python bench/review.py [DATA...]`.

A tenth of the labels of each set is changed to another class, drawn at random, through a manifest; the held-out labels
stay clean, so that accuracy means what it says. A simulated person then works through the queue of likely label errors
from its top, ten at a time: a wrong label is corrected, a right one confirmed; after each ten the desk trains again. It
stops when the queue is empty. The clean labels' accuracy, with its interval, is the goal.

Then how long training again takes for 5,000 pictures, whose features are generated as in `bench/head.py`: the desk is
opened on them, and ten suspects at a time are decided about. `--speed` measures that alone, and records nothing.
"""

import argparse
import csv
import statistics
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from head import generate
from headstart import workflow
from headstart.delivery.review.again import Material
from headstart.delivery.review.desk import Desk, open_desk
from headstart.delivery.review.journal import open_journal
from headstart.delivery.run_folder import Run, TrainOptions
from headstart.features.backbones import load_backbone
from headstart.features.engines import plan_engine
from headstart.features.extract import Features
from headstart.pictures.dataset import Dataset, Sample
from headstart.pictures.looks import Looks
from headstart.pictures.split import TEST, split
from results import machine, record, table

PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data"
SETS = ("hymenoptera", "sign_digits")
NOISE, AT_ONCE = 0.1, 10
SIZES, TIMES = ((5_000, 10), (5_000, 100)), 7


@dataclass(frozen=True)
class Moment:
    """How things stand after `looked` suspects: labels corrected and still wrong, accuracy, seconds to train again."""

    looked: int
    corrected: int
    wrong: int
    accuracy: str
    value: float
    suspects: int
    seconds: float


def plant(clean: Run, folder: Path, seed: int) -> tuple[Path, dict[str, str]]:
    """A manifest of the clean run's pictures, a tenth of the training labels changed; by digest the truth of those."""
    chance = np.random.default_rng([seed, *b"noise"])
    dataset, parts = clean.examples.dataset, clean.examples.split.parts
    train = sorted({sample.digest for sample, part in zip(dataset.samples, parts, strict=True) if part != TEST})
    wrong = set(chance.permutation(train)[: round(NOISE * len(train))].tolist())
    changed: dict[str, str] = {}
    others = {label: [name for name in dataset.classes if name != label] for label in dataset.classes}
    target = folder / "noisy.csv"
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "group"])
        drawn: dict[str, str] = {}
        for sample, part in zip(dataset.samples, parts.tolist(), strict=True):
            label = sample.label
            if sample.digest in wrong:
                changed[sample.digest] = label
                label = drawn.setdefault(sample.digest, str(chance.choice(others[label])))
            writer.writerow(
                [dataset.locate(sample).resolve(), label, "test" if part == TEST else "train", sample.group or ""]
            )
    return target, changed


def work_through(desk: Desk, truth: dict[str, str], changed: dict[str, str]) -> list[Moment]:
    """Look at the suspects from the top, ten at a time, until none is left."""
    moments = [_moment(desk, 0, 0, changed, 0.0)]
    looked = corrected = 0
    while waiting := [one for one in desk.queue("labels", 0, 500)["items"] if one["decision"] is None][:AT_ONCE]:
        for item in waiting:
            digest, label = item["id"], truth[item["id"]]
            corrected += label != item["label"]
            desk.decide("relabel" if label != item["label"] else "accept", [digest], label)
        looked += len(waiting)
        began = time.perf_counter()
        desk.train()
        moments.append(_moment(desk, looked, corrected, changed, time.perf_counter() - began))
    return moments


def _moment(desk: Desk, looked: int, corrected: int, changed: dict[str, str], seconds: float) -> Moment:
    trained = desk.trained
    wrong = sum(trained.labels.get(digest, label) != label for digest, label in changed.items())
    suspects = desk.queue("labels", 0, 1)["total"]
    return Moment(looked, corrected, wrong, str(trained.accuracy), trained.accuracy.value, suspects, seconds)


def measure(data: Path, folder: Path, seed: int) -> tuple[str, list[list[str]]]:
    """A paragraph and the rows of the table for one set."""
    clean = workflow.train(data, folder / "clean")
    goal = clean.evaluation.accuracy
    truth = {sample.digest: sample.label for sample in clean.examples.dataset.samples}
    manifest, changed = plant(clean, folder, seed)
    noisy = workflow.train(manifest, folder / "noisy").folder
    desk = open_desk(noisy, None, lambda: None)
    try:
        moments = work_through(desk, truth, changed)
        saved = workflow.train(noisy).evaluation.accuracy
    finally:
        desk.close()
    inside = next((one.looked for one in moments if goal.low <= one.value), None)
    level = next((one.looked for one in moments if one.value >= goal.value), None)
    rows = [
        [
            data.name,
            str(one.looked),
            f"{one.corrected} of {len(changed)}",
            str(one.wrong),
            str(one.suspects),
            one.accuracy,
            "yes" if goal.low <= one.value <= goal.high else "no",
            f"{one.seconds:.2f}",
        ]
        for one in moments
    ]
    last = moments[-1]
    text = (
        f"{data.name}: {len(changed)} of {len(truth) - len(clean.examples.split.test)} training labels changed. Clean "
        f"{goal} on {len(clean.examples.split.test)} held-out pictures; noisy {moments[0].accuracy}; after all "
        f"{last.looked} suspects {last.accuracy}, {last.corrected} labels corrected, {last.wrong} still wrong. Inside "
        f"the clean interval from n = {inside} on, at the clean accuracy from n = {level} on. `headstart train RUN` "
        f"afterwards: {saved}."
    )
    print(text, flush=True)
    assert digest_is_content(clean)
    return text, rows


def digest_is_content(run: Run) -> bool:
    """Whether the pictures are untouched: their content is what was trained on."""
    dataset = run.examples.dataset
    return all(sha256(dataset.locate(one).read_bytes()).hexdigest() == one.digest for one in dataset.samples)


def generated(n: int, k: int, run: Path) -> Material:
    """What the desk has in memory of `n` pictures of `k` classes, a tenth of them labelled wrong."""
    training, chance = generate(n, k), np.random.default_rng((n, k, 1))
    digests = sorted(sha256(str(number).encode()).hexdigest() for number in range(n))
    wrong = chance.random(n) < NOISE
    labels = np.where(wrong, (training.labels + chance.integers(1, k, n)) % k, training.labels)
    samples = tuple(
        Sample(f"{label:03}/{number:05}.jpg", f"{label:03}", digest=digest)
        for number, (label, digest) in enumerate(zip(labels.tolist(), digests, strict=True))
    )
    dataset = Dataset(run, tuple(sorted(samples, key=lambda sample: sample.path)))
    parts = split(dataset).parts.tolist()
    return Material(
        run=run,
        data=run,
        options=TrainOptions(device="cpu"),
        dataset=dataset,
        outside=(),
        features=Features(tuple(digests), training.vectors, 0, looks(n, chance)),
        backbone=load_backbone(),
        plan=plan_engine("cpu"),
        earlier={sample.digest: part for sample, part in zip(dataset.samples, parts, strict=True)},
    )


def looks(n: int, chance: np.random.Generator) -> Looks:
    """Looks of n pictures of noise, none like another."""

    def numbers() -> NDArray[np.float32]:
        return chance.random(n, dtype=np.float32)

    return Looks(
        width=np.full(n, 500, np.int32),
        height=np.full(n, 375, np.int32),
        file_bytes=np.full(n, 50_000),
        format=("JPEG",) * n,
        mode=("RGB",) * n,
        quality=np.full(n, 90, np.float32),
        brightness=numbers(),
        contrast=numbers(),
        darkest=numbers(),
        brightest=numbers(),
        sharpness=numbers(),
        prints=chance.integers(0, 256, (n, 32, 32), dtype=np.uint8),
        colours=chance.dirichlet(np.ones(64), n).astype(np.float32),
    )


def speed() -> str:
    """A table of the seconds that training again takes."""
    rows = []
    for n, k in SIZES:
        with TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            run.mkdir()
            (run / "run.json").write_text('{"data": "generated", "options": {}}')
            began = time.perf_counter()
            desk = Desk(generated(n, k, run), open_journal(Path(folder) / "run.review.sqlite"), lambda: None)
            opened = time.perf_counter() - began
            seconds = [_decided_and_trained(desk) for _ in range(TIMES)]
            desk.close()
        typical, worst = statistics.median(seconds[1:]), max(seconds[1:])
        rows.append([f"{n:,}", str(k), f"{opened:.1f}", f"{seconds[0]:.2f}", f"{typical:.2f}", f"{worst:.2f}"])
        print(rows[-1], flush=True)
    header = ["pictures", "classes", "open the desk, s", "first time, s", "then, median, s", "worst, s"]
    return f"Training again with generated features, ten labels changed each time:\n\n{table(header, rows)}"


def _decided_and_trained(desk: Desk) -> float:
    """Seconds from the press of the key to the answer."""
    waiting = [one for one in desk.queue("labels", 0, 500)["items"] if one["decision"] is None]
    for item in waiting[:AT_ONCE]:
        desk.decide("relabel", [item["id"]], item["suggested"])
    for name in ("twins", "uncertain", "mistakes", "strangers", "all"):
        desk.queue(name, 0, 1)  # all queues are ready when somebody decides
    began = time.perf_counter()
    desk.train()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="How many suspects must be looked at until noise no longer hurts.")
    parser.add_argument("data", nargs="*", default=SETS, help=f"folders, or names in {PHOTOS}")
    parser.add_argument("--seed", type=int, default=0, help="draws the labels that are changed")
    parser.add_argument("--speed", action="store_true", help="only time training again on generated features")
    given = parser.parse_args()
    if given.speed:
        print(speed())
        return
    texts, rows = [], []
    for name in given.data:
        with TemporaryDirectory() as folder:
            data = Path(name) if Path(name).is_dir() else PHOTOS / name
            text, of_set = measure(data, Path(folder), given.seed)
            texts.append(text)
            rows += of_set
    header = [
        "data",
        "looked at",
        "corrected",
        "still wrong",
        "suspects left",
        "accuracy",
        "in interval",
        "train again, s",
    ]
    command = f"`python bench/review.py {' '.join(given.data)}`: {machine()}."
    kept = [row for place, row in enumerate(rows) if place < 4 or place % 3 == 0 or row[0] != rows[place - 1][0]]
    record("Review", f"{command}\n\n" + "\n\n".join(texts) + f"\n\n{table(header, kept)}\n{speed()}")


if __name__ == "__main__":
    main()
