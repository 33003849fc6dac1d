"""Tune none, last and all against each other and against the plain loop of the same network, on the same split.

    python bench/depths.py DATA... [--plain-epochs 8] [--learning-rate 0.01]

Whole commands, one after the other, each with the backbone converted but nothing else in the cache. The plain loop
(bench/classic.py, unfrozen, batches of 32) learns from all training pictures; headstart's keep a fifth of them aside to
choose by. Accuracy is on the held-out pictures of one split. `--plain-epochs 0` leaves the plain loop out. Writes a
section of bench/RESULTS.md.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from headstart.judging.metrics import wilson
from results import machine, record, table

CLASSIC = Path(__file__).with_name("classic.py")
HEADER = ["data", "what", "accuracy", "n", "minutes", "seconds an epoch", "kept"]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--plain-epochs", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=0.01, help="of the plain loop's SGD")
    return parser.parse_args()


def run_headstart(data: Path, tune: str, folder: Path, environment: dict) -> tuple[list[str], float]:
    """One row of the table, and the seconds of the whole command."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "headstart", "train", str(data), "--tune", tune, "-o", str(folder)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    metrics = json.loads((folder / "metrics.json").read_text())
    accuracy, epoch, kept = metrics["test"]["accuracy"], "", ""
    if tune != "none":
        with (folder / "history.csv").open(newline="") as file:
            epochs = [float(row["seconds"]) for row in csv.DictReader(file)]
        epoch = f"{statistics.mean(epochs):.1f} (mean of {len(epochs)})"
        kept = json.loads((folder / "run.json").read_text())["computed"]["finetune"]["kept"]
    interval = f"{accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]"
    row = [data.name, f"tune {tune}", interval, str(metrics["test"]["n"]), f"{seconds / 60:.1f}", epoch, kept]
    return row, seconds


def run_plain(data: Path, split: Path, args: argparse.Namespace) -> list[list[str]]:
    """The plain loop: a row for where it first reaches its best accuracy, and one for its end."""
    words = [data, "--split", split, "--unfrozen", "--batch", 32]
    words += ["--learning-rate", args.learning_rate, "--epochs", args.plain_epochs]
    out = subprocess.run([sys.executable, str(CLASSIC), *map(str, words)], check=True, capture_output=True, text=True)
    said = json.loads(out.stdout.strip().splitlines()[-1])
    accuracies, seconds, n = said["val_accuracies"], said["seconds_after_epochs"], said["n_val"]
    each = f"{seconds[-1] / len(seconds):.1f}"
    rows = []
    for epoch in dict.fromkeys((accuracies.index(max(accuracies)), len(accuracies) - 1)):
        interval = wilson(accuracies[epoch], n)
        minutes = f"{seconds[epoch] / 60:.1f}"
        rows.append(
            [data.name, f"plain loop, {epoch + 1} epoch{'s' * (epoch > 0)}", str(interval), str(n), minutes, each, ""]
        )
    return rows


def main() -> None:
    args = parse()
    rows = []
    for data in args.data:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            environment = {**os.environ, "HEADSTART_CACHE": str(place / "cache")}
            warm = "from headstart.features.backbones import load_backbone; load_backbone()"
            subprocess.run([sys.executable, "-c", warm], check=True, env=environment)
            for tune in ("none", "last", "all"):
                rows.append(run_headstart(data, tune, place / tune, environment)[0])
            if args.plain_epochs:
                rows += run_plain(data, place / "none" / "split.csv", args)
        names = " ".join(path.name for path in args.data)
        record("Tune depths", f"`python bench/depths.py {names}`: {machine()}.\n\n{table(HEADER, rows)}")


if __name__ == "__main__":
    main()
