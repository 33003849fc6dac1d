"""The three roads through the rooms: train, evaluate, check."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from headstart.delivery import artefact, run_folder
from headstart.delivery.predictor import Predictor
from headstart.delivery.run_folder import Run, TrainOptions
from headstart.errors import DataError
from headstart.features.backbones import Backbone, load_backbone
from headstart.features.engines import EnginePlan, plan_engine
from headstart.features.extract import embed_picture, extract
from headstart.features.store import prune
from headstart.judging.evaluation import evaluate
from headstart.judging.trial import Trial, try_classifier
from headstart.learning.examples import Examples
from headstart.learning.solve import solve
from headstart.parallel import core_count
from headstart.pictures.classes import check_classes, check_names
from headstart.pictures.dataset import Dataset
from headstart.pictures.duplicates import groups, resolve
from headstart.pictures.inspect import inspect
from headstart.pictures.scan import scan
from headstart.pictures.split import split
from headstart.progress import SILENT, Progress


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


def train(
    data: str | Path, run: str | Path | None = None, options: TrainOptions | None = None, progress: Progress = SILENT
) -> Run:
    """Train a classifier on the labelled pictures in `data` and write the run folder `run`.

    Args:
        data: a folder of class folders, a folder of split folders, a manifest, or an archive of one of these.
        run: where the results go; `runs/NAME` for data called NAME unless given. An earlier run there is
            replaced when the new one is complete, and its split is extended, never drawn again.
        options: see `TrainOptions`.
        progress: shows long work; nothing is shown unless given.

    Raises:
        HeadstartError: the user can mend it, and the message says how; nothing is left half-written.
    """
    data, options, clock = Path(data), options or TrainOptions(), Clock()
    folder = Path(run) if run is not None else run_folder.default(data)
    run_folder.claim(folder)
    earlier = run_folder.earlier_split(folder, options)

    with clock.stage("scan"):
        dataset = scan(data, group_by=options.group_by, test=options.test_folder)
        check_names(dataset)
    with clock.stage("backbone"):
        backbone, plan = _backbone(options, progress)
    with clock.stage("features"):
        scanned = dataset.classes
        dataset, features = extract(dataset, backbone, plan, progress=progress)
    with clock.stage("split"):
        dataset = check_classes(resolve(dataset, keep_leaks=options.keep_leaks), scanned=scanned)
        parts = split(dataset, test_fraction=options.test_fraction, seed=options.seed, earlier=earlier)
        examples = Examples(dataset, features, parts)
    with clock.stage("head"):
        solved = solve(examples, backbone, plan.precision, balanced=options.balanced, progress=progress)
    with clock.stage("evaluate"):
        held_out, labels, related = solved.held_out, examples.labels, examples.groups
        out_of_fold = evaluate(
            solved.out_of_fold, labels[held_out], related[held_out], dataset.classes, seed=options.seed
        )
        held_out_groups = related[parts.test]
        trial = try_classifier(
            solved.classifier, examples.test_samples, examples.test_vectors, held_out_groups, seed=options.seed
        )
    with clock.stage("save"):
        outcome = Run(folder, data, options, plan, examples, solved, trial, out_of_fold, clock.seconds)
        run_folder.write(outcome, embed_picture(artefact.check_pattern(backbone.preprocess), backbone, plan))
        prune()
    return outcome


def _backbone(options: TrainOptions, progress: Progress) -> tuple[Backbone, EnginePlan]:
    backbone = load_backbone(options.backbone, options.weights, progress=progress)
    if options.fit is not None:
        backbone = replace(backbone, preprocess=backbone.preprocess.with_fit(options.fit))
    return backbone, plan_engine(options.device, options.precision)


@dataclass(frozen=True)
class Measured:
    """An evaluation on new data: the trial, the data, and the classes of the data that the model does not know."""

    trial: Trial
    dataset: Dataset
    seen: int


def measure(
    predictor: Predictor, data: str | Path, *, allow_seen: bool = False, progress: Progress = SILENT
) -> Measured:
    """Measure a loaded classifier on the labelled pictures in `data`; parts that the data came in do not matter.

    Raises:
        DataError: a class is unknown to the model, nothing can be read, or pictures were trained on and
            `allow_seen` is false: numbers on them would say nothing about new pictures.
    """
    classifier = predictor.classifier
    dataset = scan(Path(data))
    unknown = sorted(set(dataset.classes) - set(classifier.classes))
    if unknown:
        raise DataError(
            f"the model does not know these classes: {', '.join(unknown[:10])}. It knows "
            f"{', '.join(classifier.classes[:10])}. Rename the folders, or leave those classes out."
        )
    dataset, features = extract(dataset, classifier.backbone, predictor.plan, progress=progress)
    if not dataset.samples:
        raise DataError(f"none of the pictures in {data} can be read.")
    seen = sum(classifier.has_seen(sample.digest) for sample in dataset.samples)
    if seen and not allow_seen:
        raise DataError(
            f"the model learnt from {seen} of these {len(dataset.samples)} pictures, so that numbers on them would say "
            "nothing about new ones. Leave them out, or allow them with --allow-training-pictures."
        )
    related = groups(dataset)
    vectors = features.vectors[features.rows(dataset.samples)]
    return Measured(try_classifier(classifier, dataset.samples, vectors, related), dataset, seen)


@dataclass(frozen=True)
class Checked:
    """What `check` found: the readable pictures, every problem, and what stands in the way of training, if anything."""

    dataset: Dataset
    obstacle: str | None


def check(
    data: str | Path, *, group_by: str | None = None, keep_leaks: bool = False, progress: Progress = SILENT
) -> Checked:
    """Read and decode every picture in `data`, and say what is wrong, as `train` would; nothing is trained."""
    scanned = scan(Path(data), group_by=group_by)
    dataset = resolve(inspect(scanned, progress=progress, threads=core_count()), keep_leaks=keep_leaks)
    try:
        return Checked(check_classes(dataset, scanned=scanned.classes), None)
    except DataError as error:
        return Checked(dataset, str(error))
