"""The streamed head against the exact one, on real features, and its time and memory on many rows.

    python bench/streamed_head.py DATA... [--seeds 5] [--sizes 100000,400000]

On the pictures DATA (and the digits of `headstart demo`), embedded by the default backbone, both heads learn from the
same training pictures and are judged on the same held-out ones. Only sets with many more rows than columns are
streamed: so the features are their first principal components, one for 64 rows; a quarter of the rows is the sample. On
generated features (those of bench/head.py, a tenth of the labels drawn anew), which lie in a file, each head has a
process of its own, whose anonymous memory is watched. Writes a section of bench/RESULTS.md.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax

from head import LATENT, OVERLAP, WIDTH
from headstart import demonstration, scratch
from headstart.features.backbones import load_backbone
from headstart.features.engines import plan_engine
from headstart.features.extract import extract
from headstart.learning import eigenbasis, objective, streaming
from headstart.learning.examples import Examples
from headstart.learning.head import FittedHead, TrainingSet, fit_head
from headstart.pictures.scan import scan
from headstart.pictures.split import split
from results import machine, record, table

AGREEMENT = ["data", "columns", "n", "seeds", "log loss, held out", "difference of it", "of the largest", "of top-1"]
AGREEMENT += ["of log loss out of fold", "same strength", "same scaling", "passes", "exact passes", "time over exact"]
SCALE = [
    "n",
    "head",
    "seconds",
    "of processors",
    "passes",
    "chosen",
    "log loss out of fold",
    "gap",
    "anonymous memory, MB",
]


ROWS_PER_COLUMN = 64  # the fewest that are streamed; 400,000 rows of 1,280 columns have 312


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, nargs="*")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", default="100000,400000")
    parser.add_argument("--one", help="NUMBER,exact or NUMBER,streamed: one row of the second table, as JSON")
    return parser.parse_args()


class Passes:
    """Counts how often the rows of a head are read by the solver: 1 for all of them, for one fold or for all folds."""

    def __init__(self, count: int) -> None:
        self.count, self.rows, self.plain = count, 0, objective._over_blocks

    def __enter__(self) -> "Passes":
        objective._over_blocks = self._counted
        return self

    def __exit__(self, *_: object) -> None:
        objective._over_blocks = self.plain

    def _counted(self, problems: Any, *rest: Any) -> Any:
        used = [part for part, fold in problems.rotated.blocks if (problems.skipped != fold).any()]
        self.rows += sum(part.stop - part.start for part in used)
        return self.plain(problems, *rest)

    @property
    def number(self) -> float:
        """So far."""
        return self.rows / self.count


def timed(training: TrainingSet, streamed: bool) -> tuple[FittedHead, float, float]:
    """The head, its seconds, and its passes."""
    kept = eigenbasis.STREAMED_BYTES
    eigenbasis.STREAMED_BYTES = 0 if streamed else 2**60
    with Passes(len(training.rows)) as passes:
        started = time.perf_counter()
        fitted = fit_head(training)
        seconds = time.perf_counter() - started
    eigenbasis.STREAMED_BYTES = kept
    return fitted, seconds, passes.number


def loss(logits: Any, labels: Any) -> float:
    return float(-log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels].mean())


def reduced(vectors: Any, columns: int) -> Any:
    """The `vectors` in their first principal components, `columns` of them."""
    centred = vectors - vectors.mean(axis=0)
    return (centred @ np.linalg.eigh(centred.T @ centred)[1][:, -columns:]).astype(np.float32)


def compared(data: Path, seed: int) -> dict[str, float]:
    """What the streamed head does otherwise than the exact one, on one split."""
    dataset, features = extract(scan(data), load_backbone(), plan_engine())
    dataset = replace(dataset, samples=tuple(replace(sample, given=None) for sample in dataset.samples))
    examples = Examples(dataset, features, split(dataset, seed=seed))
    labels = examples.labels[examples.split.test]
    vectors = reduced(features.vectors, len(examples.split.train) // ROWS_PER_COLUMN)
    training = replace(examples.training_set, vectors=vectors)
    streaming.SAMPLE_BYTES = len(training.rows) // 4 * 4 * (vectors.shape[1] + 1)
    exact, seconds, passes = timed(training, False)
    other, streamed_seconds, streamed_passes = timed(training, True)
    of_exact, of_other = (fitted.head.logits(vectors[examples.rows[examples.split.test]]) for fitted in (exact, other))
    held_out = training.labels[exact.held_out]
    right, right_other = (float((scores.argmax(axis=1) == labels).mean()) for scores in (of_exact, of_other))
    print(data.name, seed, exact.scaling, f"{exact.strength:.1e}", other.scaling, f"{other.strength:.1e}", flush=True)
    return {
        "n": len(training.rows),
        "columns": vectors.shape[1],
        "loss": loss(of_exact, labels),
        "difference": loss(of_other, labels) - loss(of_exact, labels),
        "top1": right_other - right,
        "out_of_fold": loss(other.out_of_fold_logits, held_out) - loss(exact.out_of_fold_logits, held_out),
        "strength": exact.strength == other.strength,
        "scaling": exact.scaling == other.scaling,
        "passes": streamed_passes,
        "exact_passes": passes,
        "time": streamed_seconds / seconds,
    }


def agreement(data: Path, seeds: int) -> list[str]:
    """A row of the first table."""
    found = [compared(data, seed) for seed in range(seeds)]
    mean = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
    largest = max((one["difference"] for one in found), key=abs)
    numbers = [f"{mean['n']:,.0f}", str(seeds), f"{mean['loss']:.4f}", f"{mean['difference']:+.5f}", f"{largest:+.5f}"]
    numbers += [f"{mean['top1']:+.2%}", f"{mean['out_of_fold']:+.5f}"]
    numbers += [f"{round(mean[key] * seeds)} of {seeds}" for key in ("strength", "scaling")]
    return [
        data.name,
        f"{mean['columns']:.0f}",
        *numbers,
        f"{mean['passes']:.0f}",
        f"{mean['exact_passes']:.0f}",
        f"{mean['time']:.2f}",
    ]


def generate(n: int, k: int = 10) -> TrainingSet:
    """The features of bench/head.py in a file, made by and by; a tenth of the labels say nothing."""
    rng = np.random.default_rng((n, k))
    labels = rng.permutation(np.arange(n) % k)
    spread = np.arange(1, LATENT + 1) ** -0.6
    centres = rng.normal(size=(k, LATENT)) * spread * OVERLAP[k]
    mixing = (rng.normal(size=(LATENT, WIDTH)) / np.sqrt(LATENT)).astype(np.float32)
    vectors = scratch.empty((n, WIDTH), np.float32)
    for part in eigenbasis.slices(n, 5_000):
        block = (centres[labels[part]] + rng.normal(size=(part.stop - part.start, LATENT)) * spread).astype(np.float32)
        noise = rng.standard_normal((len(block), WIDTH), dtype=np.float32)
        vectors[part] = np.maximum(block @ mixing + 0.03 * noise - 0.05, 0)
    wrong = rng.random(n) < 0.1
    labels[wrong] = rng.integers(0, k, wrong.sum())
    folds = np.empty(n, dtype=np.intp)
    folds[np.argsort(labels, kind="stable")] = np.arange(n) % 5
    return TrainingSet(vectors, np.arange(n), labels, folds, k)


def anonymous() -> float:
    """Megabytes of anonymous memory that this process holds."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def measure(n: int, streamed: bool) -> list[str]:
    """A row of the second table."""
    training = generate(n)
    before, most, ended = anonymous(), [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            most[0] = max(most[0], anonymous())

    watching = threading.Thread(target=watch)
    watching.start()
    worked = time.process_time()
    fitted, seconds, passes = timed(training, streamed)
    worked = time.process_time() - worked
    ended.set()
    watching.join()
    out_of_fold = loss(fitted.out_of_fold_logits, training.labels[fitted.held_out])
    chosen = f"{fitted.scaling} {fitted.strength:.1e}"
    words = [f"{n:,}", "streamed" if streamed else "exact", f"{seconds:.0f}", f"{worked:.0f}", f"{passes:.0f}", chosen]
    return [*words, f"{out_of_fold:.5f}", f"{fitted.gap:.0e}", f"{before:,.0f} before, {most[0]:,.0f} at most"]


def apart(n: str, kind: str) -> list[str]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--one", f"{n},{kind}"]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(out.stdout, flush=True)
    row: list[str] = json.loads(out.stdout.splitlines()[-1])
    return row


def main() -> None:
    args = parse()
    if args.one:
        n, kind = args.one.split(",")
        print(json.dumps(measure(int(n), kind == "streamed")))
        return
    agreed = [agreement(data, args.seeds) for data in [demonstration.digits(), *args.data]]
    print(table(AGREEMENT, agreed), flush=True)
    sizes = args.sizes.split(",")
    rows = [apart(n, kind) for n in sizes for kind in ("exact", "streamed") if kind == "streamed" or n == sizes[0]]
    used = f"`python bench/streamed_head.py {' '.join(str(data) for data in args.data)}`: {machine()}."
    record("Streamed head", f"{used}\n\n{table(AGREEMENT, agreed)}\n{table(SCALE, rows)}")


if __name__ == "__main__":
    main()
