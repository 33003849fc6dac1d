"""The training loop against a bare loop of the same network on pictures that already lie in memory.

    python bench/loop.py DATA [--backbone tf_efficientnet_lite0] [--weights FILE|none] [--rounds 5] [--steps 6]

`ours` is headstart's loop on real pictures: reading, augmentation, loss, optimiser, average, checkpoints' bookkeeping.
`bare` is forward, backward and the optimiser's step on random tensors, of the same network (batch norm folded, same
arithmetic), `plain` of the network as timm makes it, in training mode. They take turns, and each round gives a ratio.
Writes its section of bench/RESULTS.md.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional

from headstart.features import networks
from headstart.features.backbones import DEFAULT, load_backbone
from headstart.features.engines import plan_engine
from headstart.features.extract import extract
from headstart.learning import loop
from headstart.learning.allocator import freed_memory_kept
from headstart.learning.arithmetic import Arithmetic, arrange
from headstart.learning.augment import policy_steps
from headstart.learning.examples import Examples
from headstart.learning.finetune import Job, _parts, _source
from headstart.learning.recipes import load_recipe
from headstart.learning.sources import Wanted
from headstart.learning.student import enrol
from headstart.pictures.scan import scan
from headstart.pictures.split import split
from headstart.progress import SILENT
from results import machine, record, table


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default=DEFAULT)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    return parser.parse_args()


def rate(step: Callable[[], int], steps: int) -> float:
    """Pictures a second of `steps` steps."""
    started = time.perf_counter()
    return sum(step() for _ in range(steps)) / (time.perf_counter() - started)


def bare(student: nn.Module, inputs: torch.Tensor, classes: int) -> Callable[[], int]:
    """Forward, backward, step, on inputs in memory."""
    optimiser = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=1e-5)
    labels = torch.arange(len(inputs)) % classes

    def step() -> int:
        optimiser.zero_grad()
        functional.cross_entropy(student(inputs), labels).backward()
        optimiser.step()
        return len(inputs)

    return step


def ours(training: loop.Training, source, labels: np.ndarray) -> Callable[[], int]:
    """One step of headstart's loop on the next batch."""
    size = training.recipe.batch
    whole = len(labels) // size * size
    rows = [rows.tolist() for rows in np.arange(whole).reshape(-1, size)]
    wanted = (Wanted(training.recipe.epochs - 1, batch) for batch in itertools.cycle(rows))
    fetched = source.training(itertools.islice(wanted, 10_000))
    numbers = itertools.cycle(rows)

    def step() -> int:
        batch = np.array(next(numbers))
        loop.learn(training, batch, next(fetched), labels, SILENT)
        return len(batch)

    return step


def compete(tune: str, args: argparse.Namespace, examples: Examples, backbone, place: Path) -> list[str]:
    recipe = load_recipe(tune, backbone=backbone.name, precision="f32", epochs=3)
    plan = plan_engine()
    job = Job(recipe, plan, place)
    parts, classes = _parts(examples, recipe), len(examples.dataset.classes)
    steps = policy_steps(recipe.augmentation)
    pupil = enrol(backbone, recipe, classes, None, 0)
    source, _ = _source(job, examples, pupil, parts, steps, SILENT)
    twin = enrol(backbone, recipe, classes, None, 0)
    for one in (pupil, twin):
        arrange(one, Arithmetic("f32", channels_last=True))
    training = loop.begin(pupil, recipe, Accelerator(cpu=True), examples.labels[parts.training], 0)
    training.model.train()
    twin.student.train()
    side = pupil.sides[-1]
    pixels = torch.randint(0, 256, (recipe.batch, side, side, 3), dtype=torch.uint8)
    inputs = pixels if pupil.cut is None else torch.randn(recipe.batch, *pupil.cut.shape)
    known = networks.facts(backbone.name)
    plain = networks.build(known, backbone.tensors, backbone.preprocess)
    plain.module.requires_grad_(True).train()
    whole = nn.Sequential(plain.module, nn.Linear(plain.dimension, classes))
    contenders = {
        "ours": ours(training, source, examples.labels[parts.training]),
        "bare": bare(twin.student, inputs, classes),
        "plain": bare(whole, pixels, classes),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(args.rounds + 1):
        for name, step in contenders.items():
            if name == "plain":
                measured = rate(step, max(1, args.steps // 3))
            else:
                with freed_memory_kept():
                    measured = rate(step, args.steps)
            if number:  # the first round warms up
                rates[name].append(measured)
    ratios = {name: [a / b for a, b in zip(rates["ours"], rates[name], strict=True)] for name in ("bare", "plain")}
    middle = {name: f"{statistics.median(values):.1f}" for name, values in rates.items()}
    shown = {name: f"{statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f})" for name, r in ratios.items()}
    return [backbone.name, tune, str(side), *middle.values(), shown["bare"], shown["plain"]]


def main() -> None:
    args = parse()
    backbone = load_backbone(args.backbone, args.weights)
    dataset, features = extract(scan(args.data), backbone, plan_engine())
    examples = Examples(dataset, features, split(dataset))
    header = ["network", "tune", "pixels", "ours, pictures / s", "bare", "plain", "ours / bare", "ours / plain"]
    with tempfile.TemporaryDirectory() as folder:
        rows = [compete(tune, args, examples, backbone, Path(folder)) for tune in ("all", "last")]
    command = f"`python bench/loop.py {args.data.name} --backbone {args.backbone}`"
    text = f"{command}: {machine()}. Medians of {args.rounds} rounds."
    record(f"Training loop, {args.backbone}", f"{text}\n\n{table(header, rows)}")


if __name__ == "__main__":
    main()
