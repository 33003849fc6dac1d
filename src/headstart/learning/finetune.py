"""Classifier -> classifier: what a loop over the pictures makes of a solved head, and whether that is better."""

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.state import AcceleratorState
from numpy.typing import NDArray

from headstart import processes
from headstart.errors import UsageError
from headstart.features.backbones import Backbone, tuned
from headstart.features.engines import EnginePlan
from headstart.features.extract import extract
from headstart.learning import activations, checkpoint, loop
from headstart.learning.arithmetic import Arithmetic, arrange, fastest
from headstart.learning.augment import Step, policy_steps
from headstart.learning.calibration import Calibration, fit_temperature, softmax
from headstart.learning.conformal import fit_abstention, fit_sets
from headstart.learning.examples import Examples
from headstart.learning.head import Head
from headstart.learning.history import Epoch
from headstart.learning.label_safety import advice, suited
from headstart.learning.novelty import fit_novelty
from headstart.learning.pixels import Pictures
from headstart.learning.recipes import Recipe
from headstart.learning.solve import Solved
from headstart.learning.sources import FromActivations, FromPictures, Growth, Source, look
from headstart.learning.student import Pupil, enrol
from headstart.parallel import core_count
from headstart.pictures.dataset import Problem
from headstart.pictures.split import TEST
from headstart.progress import SILENT, Progress
from headstart.storage import clear_storage_errors, written_atomically

SETTINGS, BACKBONE = "settings.json", "backbone"
MOST_WORKERS_ON_CPU, MOST_WORKERS = 1, 16
CLEARLY = 2
"""By how many standard errors the tuned network must be better than the solved head."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Job:
    """What a fine-tuning is to be: the recipe, the engine, the seed, where its unfinished work lies, and its trackers.

    `place` is a folder that belongs to this training alone; `resume` goes on with what lies there.
    """

    recipe: Recipe
    plan: EnginePlan
    place: Path
    seed: int = 0
    resume: bool = False
    track: str | None = None


@dataclass(frozen=True)
class Tuned:
    """What a fine-tuning gave: the classifier that is kept, the examples with its features, and how it came about.

    `solved` and `examples` are those of the tuned network, or, where the guard kept the solved head, the given ones.
    `facts` are JSON values for the record: what was computed, measured and decided.
    """

    solved: Solved
    examples: Examples
    history: tuple[Epoch, ...]
    problems: tuple[Problem, ...]
    facts: dict[str, Any]


@dataclass(frozen=True)
class _Parts:
    """The positions of the training and of the validation samples in the dataset, int [n] and int [m]."""

    training: Indices
    validation: Indices


def finetune(solved: Solved, examples: Examples, job: Job, progress: Progress = SILENT) -> Tuned:
    """Train the classifier of `solved` by epochs, as `job.recipe` says, and keep the better of the two.

    With `validate_on = "fold"` a fifth of the training samples is kept aside to choose by; the tuned classifier is
    calibrated on it, and, where the recipe has a guard, compared there with the head that has not seen it either. With
    "test" all are trained on and nothing is chosen or calibrated.

    Raises:
        UsageError: there is unfinished work and `job.resume` is false, or it was begun with other settings.
        KeyboardInterrupt: stopped by Ctrl-C; the work up to then lies in `job.place`.
        HeadstartError: the network cannot be cut, the loss is no number, memory does not suffice.
    """
    recipe, backbone = job.recipe, solved.classifier.backbone
    steps = _steps(recipe, examples.dataset.classes, progress)
    parts = _parts(examples, recipe)
    _check_tracker(job.track)
    state = checkpoint.load(job.place)
    if state is not None:
        _check_resumable(job, _settings(job, examples, backbone))
    start = None
    if recipe.start == "solved":
        start = solved.fitted.without_first_fold if recipe.validate_on == "fold" else solved.fitted.head
    pupil = enrol(backbone, recipe, len(examples.dataset.classes), start, job.seed)
    accelerator, arithmetic = _accelerator(job, pupil, backbone)
    _claim(job, _settings(job, examples, backbone))
    source, problems = _source(job, examples, pupil, parts, steps, progress)
    labels = examples.labels[parts.training], examples.labels[parts.validation]
    training = loop.begin(pupil, recipe, accelerator, labels[0], job.seed)
    if state is not None:
        training.restore(state)
        progress.say(f"going on at epoch {training.position[0] + 1}, batch {training.position[1] + 1}")
    loop.train(training, source, labels, job.place, progress)
    facts = _facts(job, pupil, arithmetic, steps, training, parts)
    graduate = _graduate(training, pupil, job, backbone, progress)
    problems = {**problems, **training.problems}
    result = _finish(solved, examples, graduate, job, progress)
    for tracker in accelerator.trackers:
        tracker.finish()
    outcome = Tuned(*result, tuple(training.history), tuple(problems.values()), facts)
    return _guarded(outcome, solved, examples, recipe)


def _steps(recipe: Recipe, classes: Sequence[str], progress: Progress) -> tuple[Step, ...]:
    """The augmentation, less what may change labels where the recipe spares them; says what a person should know."""
    steps = policy_steps(recipe.augmentation)
    for sentence in advice(steps, classes):
        progress.say(f"augmentation: {sentence}{' Left out.' if recipe.spare_labels else ''}")
    return suited(steps, classes) if recipe.spare_labels else steps


def _parts(examples: Examples, recipe: Recipe) -> _Parts:
    of = examples.split.parts
    if recipe.validate_on == "test":
        return _Parts(np.flatnonzero(of != TEST), np.flatnonzero(of == TEST))
    return _Parts(np.flatnonzero((of != TEST) & (of != 0)), np.flatnonzero(of == 0))


def _settings(job: Job, examples: Examples, backbone: Backbone) -> dict[str, Any]:
    """All that a training depends on, as JSON values."""
    samples = zip(examples.dataset.samples, examples.split.parts.tolist(), strict=True)
    content = sha256(repr([(sample.digest, sample.label, part) for sample, part in samples]).encode()).hexdigest()
    settings = {
        "recipe": job.recipe.model_dump(mode="json"),
        "weights": backbone.weights_digest,
        "preprocess": backbone.preprocess.to_json(),
        "pictures": content,
        "seed": job.seed,
    }
    return dict(json.loads(json.dumps(settings)))


def _check_resumable(job: Job, now: dict[str, Any]) -> None:
    """Make sure that what lies in `job.place` is the beginning of this training, and is to be gone on with."""
    if not job.resume:
        raise UsageError(
            f"an unfinished training lies in {job.place}. Go on by --resume, or delete that folder to begin anew."
        )
    former = json.loads((job.place / SETTINGS).read_text("utf-8"))
    if former != now:
        recipes = former.get("recipe", {}), now["recipe"]
        changed = [key for key in now if key != "recipe" and former.get(key) != now[key]]
        changed += [f"recipe.{key}" for key in recipes[1] if recipes[0].get(key) != recipes[1][key]]
        raise UsageError(
            f"the unfinished training in {job.place} was begun with another {', '.join(changed)}. Give the same data "
            "and options to go on with it, or delete that folder to begin anew."
        )


def _claim(job: Job, settings: dict[str, Any]) -> None:
    """Make `job.place` the place of this training; what is there without a checkpoint is of no use to anyone."""
    if processes.is_main():
        with clear_storage_errors(job.place):
            job.place.mkdir(parents=True, exist_ok=True)
            with written_atomically(job.place / SETTINGS) as temporary:
                temporary.write_text(json.dumps(settings, indent=1), "utf-8")


def _check_tracker(name: str | None) -> None:
    if name is not None and importlib.util.find_spec(name) is None:
        raise UsageError(f"--track {name} needs its package: pip install 'headstart[{name}]'.")


def _accelerator(job: Job, pupil: Pupil, backbone: Backbone) -> tuple[Accelerator, Arithmetic]:
    """Accelerate's device, precision and trackers, and the arithmetic that was chosen, or measured the first time."""
    recipe, names = job.recipe, {"f32": "no", "bf16": "bf16", "fp16": "fp16"}
    if recipe.precision == "fp16" and job.plan.device != "cuda":
        raise UsageError(f"precision = 'fp16' needs a CUDA GPU, not {job.plan.device}; take 'auto', 'bf16' or 'f32'.")
    AcceleratorState._reset_state()  # a process may train several times, in different precisions
    common = {
        "cpu": job.plan.device == "cpu",
        "kwargs_handlers": [InitProcessGroupKwargs(timeout=processes.PATIENCE)],
        "log_with": job.track,
        "project_dir": str(job.place.parent / "tracking") if job.track else None,
    }
    arithmetic = Arithmetic(recipe.precision, channels_last=True)
    if recipe.precision == "auto":
        device = Accelerator(cpu=job.plan.device == "cpu", kwargs_handlers=common["kwargs_handlers"]).device
        cut = None if pupil.cut is None else pupil.cut.stage
        arithmetic = fastest(pupil, device, repr((backbone.architecture, cut, pupil.sides, recipe.batch_norm)))
        AcceleratorState._reset_state()
    arrange(pupil, arithmetic)
    accelerator = Accelerator(mixed_precision=names[arithmetic.precision], **common)
    if job.track:
        accelerator.init_trackers(
            job.place.name.removesuffix(".unfinished"), config={"recipe": recipe.model_dump_json()}
        )
    return accelerator, arithmetic


def _source(
    job: Job, examples: Examples, pupil: Pupil, parts: _Parts, steps: tuple[Step, ...], progress: Progress
) -> tuple[Source, dict[str, Problem]]:
    """Where the loop gets its inputs from, and what was wrong with pictures that were looked at already."""
    recipe, dataset = job.recipe, examples.dataset
    preprocess, workers = pupil.preprocess, _workers(job)
    training, validation = (
        Pictures([dataset.samples[index] for index in part], dataset.root, preprocess, steps, pupil.sides)
        for part in (parts.training, parts.validation)
    )
    growth = Growth(pupil.sides, recipe.epochs)
    if pupil.cut is None:
        return FromPictures(training, validation, growth, job.seed, workers, job.plan.device == "cuda"), {}
    looks = list(dict.fromkeys(look(growth, recipe.views, epoch) for epoch in range(recipe.epochs)))
    made = []
    with processes.main_first(job.plan.device):
        for pictures, wanted in ((training, looks), (validation, [activations.PLAIN])):
            made.append(
                activations.compute(
                    pictures,
                    pupil.cut,
                    pupil.backbone,
                    job.plan,
                    looks=wanted,
                    described=(steps, job.seed),
                    workers=workers,
                    progress=progress,
                )
            )
    problems = {problem.path: problem for one in made for problem in one.problems}
    return FromActivations(made[0], made[1], growth, recipe.views), problems


def _workers(job: Job) -> int:
    if job.recipe.workers is not None:
        return job.recipe.workers
    if job.plan.device == "cpu":
        return min(MOST_WORKERS_ON_CPU, core_count() - 1)
    return min(MOST_WORKERS, core_count())


@dataclass(frozen=True)
class _Graduate:
    """The trained backbone and head; `moved` where the backbone is no longer the one that it was."""

    backbone: Backbone
    head: Head
    moved: bool


def _graduate(training: loop.Training, pupil: Pupil, job: Job, backbone: Backbone, progress: Progress) -> _Graduate:
    """Take the weights that are kept out of the training, as a backbone of timm's own tensors and a head."""
    judged = training.best if training.best is not None else training.judged.state_dict()
    training.student.load_state_dict(judged)
    network, head = pupil.finished()
    moved = job.recipe.tune != "none" or job.recipe.batch_norm == "train"
    if not moved:
        return _Graduate(backbone, head, moved)
    with processes.main_first(job.plan.device), progress.stage("exporting", 1) as advance:
        backbone = tuned(backbone, network, job.place / BACKBONE, write=processes.is_main())
        advance()
    return _Graduate(backbone, head, moved)


def _finish(
    solved: Solved, examples: Examples, graduate: _Graduate, job: Job, progress: Progress
) -> tuple[Solved, Examples]:
    """The calibrated classifier of the graduate, and the examples with its features."""
    if graduate.moved:
        with processes.main_first(job.plan.device):
            examples = _embedded_anew(examples, graduate.backbone, job.plan, progress)
    of, labels, head = examples.split.parts, examples.labels, graduate.head
    fold = np.flatnonzero(of == 0) if job.recipe.validate_on == "fold" else np.empty(0, dtype=np.int64)
    logits = head.logits(examples.features.vectors[examples.rows[fold]])
    calibration = Calibration(1.0, False, float("nan"), float("nan"))
    if len(fold):
        calibration = fit_temperature(logits, labels[fold])
    out_of_fold = softmax(logits / calibration.temperature)
    training = examples.training_set
    novelty = solved.classifier.novelty
    if graduate.moved:
        folds = np.where(training.folds == 0, 0, -1) if len(fold) else training.folds
        novelty = fit_novelty(training.vectors, training.rows, training.labels, folds)
    classifier = replace(
        solved.classifier,
        backbone=graduate.backbone,
        weight=(head.weight / calibration.temperature).astype(np.float32),
        bias=(head.bias / calibration.temperature).astype(np.float32),
        novelty=novelty,
        sets=fit_sets(out_of_fold, labels[fold]),
        abstention=fit_abstention(out_of_fold, labels[fold]),
    )
    return Solved(classifier, solved.fitted, calibration, fold, out_of_fold), examples


def _embedded_anew(examples: Examples, backbone: Backbone, plan: EnginePlan, progress: Progress) -> Examples:
    """The same samples with the features of another backbone; those whose file has gone meanwhile are left out."""
    before = examples.dataset
    after, features = extract(replace(before, problems=()), backbone, plan, progress=progress)
    digests = {sample.path: sample.digest for sample in after.samples}
    kept = [index for index, sample in enumerate(before.samples) if digests.get(sample.path) == sample.digest]
    gone = tuple(
        Problem(sample.path, "vanished", "the file changed or vanished during the training", "left out")
        for sample in before.samples
        if digests.get(sample.path) != sample.digest
    )
    dataset = replace(before, samples=tuple(before.samples[i] for i in kept), problems=before.problems + gone)
    return Examples(dataset, features, replace(examples.split, parts=examples.split.parts[kept]))


def _facts(
    job: Job, pupil: Pupil, arithmetic: Arithmetic, steps: tuple[Step, ...], training: loop.Training, parts: _Parts
) -> dict[str, Any]:
    recipe = job.recipe
    return {
        "recipe": recipe.model_dump(mode="json"),
        "augmentation": [str(step) for step in steps],
        "arithmetic": asdict(arithmetic),
        "sides": list(pupil.sides),
        "cut": None if pupil.cut is None else {"stage": pupil.cut.stage, "share": pupil.cut.share},
        "folded_norms": len(pupil.pairs),
        "passes": training.passes,
        "processes": processes.count(),
        "kept_epoch": training.best_epoch if recipe.keep == "best" else len(training.history),
        "n_train": len(parts.training),
        "n_validation": len(parts.validation),
    }


def _guarded(outcome: Tuned, solved: Solved, examples: Examples, recipe: Recipe) -> Tuned:
    """`outcome`, or the solved head where the recipe has a guard and the tuned classifier is not clearly better.

    Both are judged by the log loss of the samples of fold 0, which neither has learnt from, each at its own best
    temperature. Clearly: by more than `CLEARLY` standard errors of the paired differences. The solved head that is
    kept has learnt from fold 0 too, and nothing was chosen on it; so a tie is the head's.
    """
    facts = {**outcome.facts, "kept": "tuned"}
    if recipe.validate_on != "fold":
        return replace(outcome, facts=facts)
    held_out = np.flatnonzero(examples.split.parts[solved.held_out] == 0)
    digests = [examples.dataset.samples[index].digest for index in solved.held_out[held_out]]
    tuned = {outcome.examples.dataset.samples[i].digest: p for i, p in zip(*_held_out(outcome.solved), strict=True)}
    both = [row for row, digest in enumerate(digests) if digest in tuned]
    labels = examples.labels[solved.held_out[held_out[both]]]
    logits = solved.fitted.out_of_fold_logits[held_out[both]]
    of_head = _log_losses(softmax(logits / fit_temperature(logits, labels).temperature), labels)
    of_tuned = _log_losses(np.stack([tuned[digests[row]] for row in both]), labels)
    gain = of_head - of_tuned
    error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else float("inf")
    compared = {"head": float(of_head.mean()), "tuned": float(of_tuned.mean()), "gain_error": error, "n": len(gain)}
    facts["validation_log_loss"] = compared
    if recipe.guard and gain.mean() <= CLEARLY * error:
        return replace(outcome, solved=solved, examples=examples, facts={**facts, "kept": "head"})
    return replace(outcome, facts=facts)


def _held_out(solved: Solved) -> tuple[list[int], NDArray[np.float64]]:
    return solved.held_out.tolist(), solved.out_of_fold


def _log_losses(probabilities: NDArray[np.float64], labels: Indices) -> NDArray[np.float64]:
    """-log of the probability of the label, float64 [n]."""
    of_truth = probabilities[np.arange(len(labels)), labels]
    return -np.log(np.maximum(of_truth, np.finfo(np.float64).tiny))
