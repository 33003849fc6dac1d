"""The roads through the rooms: train, evaluate, check."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headstart import processes
from headstart.delivery import artefact, evidence, run_folder
from headstart.delivery.predictor import Predictor
from headstart.delivery.review.journal import Reviewed, read_reviewed
from headstart.delivery.run_folder import DEFAULT_TEST_FRACTION, Run, TrainOptions
from headstart.errors import DataError, HeadstartError, UsageError
from headstart.features.backbones import DEFAULT, UNTRAINED, Backbone, load_backbone
from headstart.features.engines import EnginePlan, plan_engine
from headstart.features.extract import Features, embed_here, embed_picture, extract
from headstart.features.names import is_joined
from headstart.features.picked import Picked
from headstart.features.store import prune
from headstart.judging.assessment import Audit, OnTrial, assess, examine, look_over
from headstart.judging.evaluation import Evaluation, evaluate
from headstart.judging.promises import Promises, check_promises
from headstart.judging.trial import Trial, try_classifier
from headstart.learning.classifier import Classifier
from headstart.learning.examples import Examples
from headstart.learning.solve import Solved, solve
from headstart.pictures import kept
from headstart.pictures.classes import check_classes, check_names
from headstart.pictures.dataset import Dataset
from headstart.pictures.duplicates import groups, resolve
from headstart.pictures.near import near_duplicates, with_twins
from headstart.pictures.overlay import NOTHING, Overlay, apply, with_added
from headstart.pictures.scan import scan
from headstart.pictures.split import split
from headstart.progress import SILENT, Progress
from headstart.site import Candidate, Site
from headstart.storage import KEPT_PIXELS_BYTES, cache_folder, prune_oldest

if TYPE_CHECKING:
    from headstart.delivery.preview import Augmentation
    from headstart.learning.finetune import Job, Tuned
    from headstart.learning.recipes import Recipe


@dataclass
class Clock:
    """Seconds of each stage, in the order in which they ran."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as the stage `name`."""
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def _finetune(solved: Solved, examples: Examples, job: "Job", progress: Progress) -> "Tuned":
    from headstart.learning.finetune import finetune  # with torch: seconds

    return finetune(solved, examples, job, progress)


def _train_each(
    candidates: Sequence[Candidate], tell: Callable[[str], None], progress: Progress
) -> Iterator[tuple[Candidate, str | HeadstartError]]:
    for candidate in candidates:
        tell(f"{candidate.name}: training ...")
        yield candidate, train_candidate(candidate, progress)


HERE = Site(embed_here, _finetune, _train_each)
"""This process."""


def train_candidate(candidate: Candidate, progress: Progress = SILENT) -> str | HeadstartError:
    """Train one candidate, or go on with its unfinished training; a line about it, or why it failed."""
    try:
        begun = run_folder.unfinished(candidate.folder).exists()
        run = train(candidate.data, candidate.folder, replace(candidate.options, resume=begun), progress)
        return f"{run.evaluation}, {sum(run.seconds.values()):.1f} s"
    except HeadstartError as error:
        return error


def train(
    data: str | Path,
    run: str | Path | None = None,
    options: TrainOptions | None = None,
    progress: Progress = SILENT,
    site: Site = HERE,
) -> Run:
    """Train a classifier on the labelled pictures in `data` and write the run folder `run`.

    Args:
        data: a folder of class folders, a folder of split folders, a manifest, or an archive of one of these; or a
            finished run, which is trained again from its data, with its options unless others are given.
        run: where the results go; `runs/NAME` for data called NAME, and the same place for a run, unless given. An
            earlier run there is replaced when the new one is complete, and its split is extended, never drawn again.
        options: see `TrainOptions`.
        progress: shows long work; nothing is shown unless given.
        site: who embeds and trains by epochs; this process unless given, see `headstart.scale.site`.

    What was decided in a review of the run is applied to the data, see `headstart.pictures.overlay`.

    Raises:
        HeadstartError: the user can mend it, and the message says how; nothing is left half-written.
    """
    source, data, options = _source(Path(data), options)
    clock = Clock()
    recipe, options = settled(options)
    folder = Path(run) if run is not None else source or run_folder.default(data)
    run_folder.claim(folder)
    earlier = run_folder.earlier_split(source or folder, options)
    reviewed = read_reviewed(source or folder)
    overlay = NOTHING if reviewed is None else reviewed.overlay

    with clock.stage("scan"):
        dataset = with_added(scan(data, group_by=options.group_by, test=options.test_folder), overlay)
        if reviewed is None:  # else names do not tell what the classes are
            check_names(dataset)
    with clock.stage("backbone"):
        backbone, plan = backbone_for(options, recipe, progress)
    with clock.stage("features"), processes.main_first(plan.device):
        scanned = {overlay.class_name(name) for name in dataset.classes}
        dataset, features = extract(dataset, backbone, plan, embedding=site.embed, progress=progress)
    with clock.stage("split"):
        dataset = resolve(apply(paired(dataset, features, progress), overlay), keep_leaks=options.keep_leaks)
        dataset = check_classes(dataset, scanned=scanned)
        parts = split(dataset, test_fraction=options.test_fraction, seed=options.seed, earlier=earlier)
        examples = Examples(dataset, features, parts)
    with clock.stage("head"):
        solved = solve(examples, backbone, plan.precision, balanced=options.balanced, progress=progress)
    with clock.stage("evaluate"):
        head = OnTrial(solved, examples, _try(solved, examples, options.seed))
    tuning, kept = None, head
    if recipe is not None:
        with clock.stage("finetune"):
            tuning = _tune(solved, examples, (recipe, plan, folder, options), site, progress)
            kept = OnTrial(tuning.solved, tuning.examples, _try(tuning.solved, tuning.examples, options.seed))
    with clock.stage("judge"):
        out_of_fold = _out_of_fold(kept.solved, kept.examples, options.seed)
        audit = _unconfirmed(examine(head, seed=options.seed), examples.dataset, overlay)
        with processes.main_first(plan.device):
            assessment = assess(kept, head, plan, balanced=options.balanced, seed=options.seed, progress=progress)
    outcome = Run(
        folder=folder,
        data=data,
        options=options,
        plan=plan,
        examples=kept.examples,
        solved=kept.solved,
        trial=kept.trial,
        out_of_fold=out_of_fold,
        audit=audit,
        assessment=assessment,
        seconds=clock.seconds,
        tuning=tuning,
        head=None if tuning is None else head.trial.evaluation,
        reviewed=reviewed,
    )
    if processes.is_main():
        _save(outcome, clock)
    processes.part()
    return run_folder.settled(outcome)


def _save(run: Run, clock: Clock) -> None:
    """Write the run folder with its report, and keep the cache within its bounds."""
    backbone = run.solved.classifier.backbone
    with clock.stage("maps"):
        load = partial(_predictor, run)
        extras = evidence.of_trial(run.examples.dataset, run.trial, load, run.folder)
    with clock.stage("save"):
        pattern = artefact.check_pattern(backbone.preprocess)
        run_folder.write(run, embed_picture(pattern, backbone, run.plan), extras)
        prune()
        prune_oldest(cache_folder() / "pixels", KEPT_PIXELS_BYTES)
        kept.prune()


def _predictor(run: Run) -> Predictor:
    classifier = run.solved.classifier
    return Predictor(classifier, run.plan, run.plan.load(classifier.backbone))


def _source(data: Path, options: TrainOptions | None) -> tuple[Path | None, Path, TrainOptions]:
    """The run that `data` is, if it is one; the data; and the options, given or recorded."""
    if not run_folder.is_run(data):
        return None, data, options or TrainOptions()
    recorded, former = run_folder.recorded(data)
    return data, recorded, options or former


def _unconfirmed(audit: Audit, dataset: Dataset, overlay: Overlay) -> Audit:
    """The audit less the labels that a person has confirmed."""
    confirmed = {sample.path for sample in dataset.samples if overlay.is_confirmed(sample.digest, sample.label)}
    return replace(
        audit, suspects=tuple(one for one in audit.suspects if one.kind != "label" or one.path not in confirmed)
    )


def paired(dataset: Dataset, features: Features, progress: Progress = SILENT) -> Dataset:
    """The data set with the pairs of pictures that are nearly the same."""
    return with_twins(dataset, features.digests, near_duplicates(features.looks, features.vectors, progress))


def settled(options: TrainOptions) -> tuple["Recipe | None", TrainOptions]:
    """The recipe that the options name, if any, and the options with what it says of the split filled in."""
    if options.recipe is None and options.tune in (None, "none"):
        if options.track is not None:
            raise UsageError("--track follows a training by epochs; give --tune last, --tune all or a --recipe too.")
        return None, options if options.test is not None else replace(options, test=DEFAULT_TEST_FRACTION)
    from headstart.learning.recipes import load_recipe  # with pydantic: only where there is a recipe

    given = {
        "tune": options.tune,
        "backbone": options.backbone,
        "weights": "none" if options.weights == UNTRAINED else None,
        "balance": "weights" if options.balanced else None,
        "precision": options.precision if options.precision != "auto" else None,
    }
    overrides = {key: value for key, value in given.items() if value is not None}
    recipe = load_recipe(options.recipe or str(options.tune), **overrides)
    return recipe, options if options.test is not None else replace(options, test=recipe.test)


def backbone_for(options: TrainOptions, recipe: "Recipe | None", progress: Progress) -> tuple[Backbone, EnginePlan]:
    """The backbone that the options name, or the recipe, and the engine that runs it."""
    name, weights = options.backbone, options.weights
    if recipe is not None:
        name = recipe.backbone
        weights = UNTRAINED if recipe.weights == "none" and weights is None else weights
        if is_joined(name):
            raise UsageError(
                f"{name} is several backbones joined, of which only the head can be trained. Leave out --tune and "
                "--recipe, or give one backbone."
            )
    plan = plan_engine(options.device, options.precision)
    with processes.main_first(plan.device):
        backbone = load_backbone(name or DEFAULT, weights, progress=progress)
    if options.fit is not None:
        backbone = replace(backbone, preprocess=backbone.preprocess.with_fit(options.fit))
    return backbone, plan


def _tune(
    solved: Solved,
    examples: Examples,
    asked: tuple["Recipe", EnginePlan, Path, TrainOptions],
    site: Site,
    progress: Progress,
) -> "Tuned":
    """Fine-tune the solved classifier; what is unfinished lies beside the run folder."""
    from headstart.learning.finetune import Job  # with torch: seconds

    recipe, plan, folder, options = asked
    job = Job(recipe, plan, run_folder.unfinished(folder), options.seed, options.resume, options.track)
    return site.finetune(solved, examples, job, progress)


def _try(solved: Solved, examples: Examples, seed: int) -> Trial:
    related = examples.groups[examples.split.test]
    return try_classifier(solved.classifier, examples.test_samples, examples.test_vectors, related, seed=seed)


def _out_of_fold(solved: Solved, examples: Examples, seed: int) -> Evaluation:
    held_out, labels = solved.held_out, examples.labels
    return evaluate(
        solved.out_of_fold, labels[held_out], examples.groups[held_out], examples.dataset.classes, seed=seed
    )


@dataclass(frozen=True)
class Measured:
    """An evaluation on new data: the trial, the data, how many were trained on, and what was decided in review."""

    trial: Trial
    promises: Promises
    dataset: Dataset
    seen: int
    reviewed: Reviewed | None = None


def measure(
    predictor: Predictor,
    data: str | Path,
    *,
    allow_seen: bool = False,
    reviewed: Reviewed | None = None,
    progress: Progress = SILENT,
    site: Site = HERE,
) -> Measured:
    """Measure a loaded classifier on the labelled pictures in `data`; parts that the data came in do not matter.

    What was `reviewed` is applied to the pictures among them that it is about.

    Raises:
        DataError: a class is unknown to the model, nothing can be read, or pictures were trained on and
            `allow_seen` is false: numbers on them would say nothing about new pictures.
    """
    classifier = predictor.classifier
    overlay = NOTHING if reviewed is None else reviewed.overlay
    dataset = scan(Path(data))
    _refuse_unknown(classifier, {overlay.class_name(name) for name in dataset.classes}, overlay)
    dataset, features = extract(dataset, classifier.backbone, predictor.plan, embedding=site.embed, progress=progress)
    dataset = apply(dataset, overlay)
    _refuse_unknown(classifier, dataset.classes, overlay)
    if not dataset.samples:
        raise DataError(f"none of the pictures in {data} can be read.")
    seen = sum(classifier.has_seen(sample.digest) for sample in dataset.samples)
    if seen and not allow_seen:
        raise DataError(
            f"the model learnt from {seen} of these {len(dataset.samples)} pictures, so that numbers on them would say "
            "nothing about new ones. Leave them out, or allow them with --allow-training-pictures."
        )
    related = groups(dataset)
    vectors = Picked(features.vectors, features.rows(dataset.samples))
    trial = try_classifier(classifier, dataset.samples, vectors, related)
    return Measured(trial, _promises(classifier, trial, related), dataset, seen, reviewed)


def _refuse_unknown(classifier: Classifier, classes: Collection[str], overlay: Overlay) -> None:
    unknown = sorted(set(classes) - set(classifier.classes))
    if not unknown:
        return
    decided = {*overlay.relabelled.values(), *overlay.renamed.values()} & set(unknown)
    hint = "Train again with what was decided" if decided else "Rename the folders, or leave those classes out"
    raise DataError(
        f"the model does not know these classes: {', '.join(unknown[:10])}. It knows "
        f"{', '.join(classifier.classes[:10])}. {hint}."
    )


def _promises(classifier: Classifier, trial: Trial, related: NDArray[np.int64]) -> Promises:
    position = {name: number for number, name in enumerate(classifier.classes)}
    labels = np.array([position[sample.label] for sample in trial.samples], dtype=np.int64)
    return check_promises(classifier, trial.probabilities, labels, trial.predictions.novelty, related)


@dataclass(frozen=True)
class Checked:
    """What `check` found: the readable pictures, every problem, what is suspect, and what forbids training if anything.

    `examples` are the pictures with their features and parts; None where they cannot be trained on. `reviewed` is what
    was decided in review and applied, if anything.
    """

    dataset: Dataset
    audit: Audit
    examples: Examples | None
    obstacle: str | None
    reviewed: Reviewed | None = None


def check(
    data: str | Path,
    *,
    group_by: str | None = None,
    keep_leaks: bool = False,
    seed: int = 0,
    progress: Progress = SILENT,
    site: Site = HERE,
) -> Checked:
    """Look at every picture in `data`, and say what is wrong, as `train` would.

    Labels are doubted by heads on the default backbone's features, each of which has not seen the picture; they are
    thrown away, the features are kept for `train`. What was decided in a review of the data's run is applied; `data`
    may also be that run.
    """
    source = run_folder.of_data(Path(data))
    reviewed = None if source is None else read_reviewed(source)
    overlay = NOTHING if reviewed is None else reviewed.overlay
    _, data, options = _source(Path(data), None)
    scanned = scan(data, group_by=group_by or options.group_by, test=options.test_folder)
    backbone, plan = backbone_for(TrainOptions(), None, progress)
    dataset, features = extract(with_added(scanned, overlay), backbone, plan, embedding=site.embed, progress=progress)
    dataset = resolve(apply(paired(dataset, features, progress), overlay), keep_leaks=keep_leaks)
    try:
        ready = check_classes(dataset, scanned={overlay.class_name(name) for name in scanned.classes})
        examples = Examples(ready, features, split(ready, seed=seed))
        solved = solve(examples, backbone, plan.precision, progress=progress)
    except DataError as error:
        return Checked(dataset, look_over(dataset, features), None, str(error), reviewed)
    head = OnTrial(solved, examples, _try(solved, examples, seed))
    audit = _unconfirmed(examine(head, seed=seed), ready, overlay)
    return Checked(ready, audit, examples, None, reviewed)


def preview(dataset: Dataset, augmentation: "Augmentation", path: Path) -> list[str]:
    """Draw into the PNG file `path` what `augmentation` makes of a few pictures; returns what to mind about it."""
    from headstart.delivery import preview as sheets  # with torch, which checking needs for nothing else

    given, warnings = sheets.for_classes(augmentation, dataset.classes)
    sheets.draw(dataset, given, path)
    return warnings
