"""The run folder: everything that one training produced, written whole or not at all."""

import csv
import json
import platform
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headstart.delivery import artefact
from headstart.delivery.card import model_card
from headstart.delivery.curves import CURVES, draw_curves
from headstart.delivery.review.journal import Reviewed, read_reviewed
from headstart.errors import DataError, StorageError, UsageError
from headstart.features.backbones import UNTRAINED
from headstart.features.engines import Device, EnginePlan
from headstart.features.openvino_engine import Precision
from headstart.features.preprocess import Fit
from headstart.judging.assessment import Assessment, Audit
from headstart.judging.evaluation import Evaluation
from headstart.judging.plane import BLOCK, principal_plane
from headstart.judging.promises import Promises
from headstart.judging.report.record import more_of_a_kind
from headstart.judging.report.writing import Extras, write_report
from headstart.judging.suspects import Suspect
from headstart.judging.trial import Trial
from headstart.learning.examples import Examples
from headstart.learning.history import HISTORY, write_history
from headstart.learning.solve import Solved
from headstart.pictures.addresses import shown, url_of
from headstart.pictures.dataset import Dataset, Problem
from headstart.pictures.split import ALWAYS_TRAIN, TEST, Split
from headstart.storage import cache_folder, clear_storage_errors, folder_written_atomically, recover

if TYPE_CHECKING:
    from headstart.learning.finetune import Tuned

FORMAT = 1
METRICS, PREDICTIONS, SPLIT, PROBLEMS, SUSPECTS, MAP, RUN = (
    "metrics.json",
    "predictions.csv",
    "split.csv",
    "problems.csv",
    "suspects.csv",
    "map.csv",
    "run.json",
)
UNFINISHED, TRACKING = ".unfinished", "tracking"
PART_NAMES = {TEST: "test", ALWAYS_TRAIN: "train"}
PACKAGES = ("headstart", "numpy", "openvino", "onnx", "pillow", "simplejpeg", "timm", "torch")
DATA_SUFFIXES = (".gz", ".bz2", ".xz", ".tgz", ".tar", ".zip", ".csv", ".tsv", ".parquet", ".jsonl")

DEFAULT_TEST_FRACTION = 0.2
MOST_OF_A_KIND = 20_000  # rows of problems.csv and suspects.csv, so that a spreadsheet still opens them

Rows = Iterable[Sequence[object]]


@dataclass(frozen=True)
class TrainOptions:
    """What a person may choose for `train`; everything else is computed, and recorded in run.json.

    `test` is the fraction of the pictures held out where the data came without a test part (0.2, or what the recipe
    says, unless given), or a folder that holds them. `group_by` is a manifest's column, or a regular expression on
    paths, whose pictures stay together. `balanced` weighs classes equally however many pictures each has. `keep_leaks`
    keeps training pictures that also stand in the given test. `tune` says how much of the backbone moves ("none",
    "last", "all"), `recipe` how: the name of a recipe or a TOML file; without either only the head is solved. `resume`
    goes on with an unfinished training. `track` names a tracker ("tensorboard", "mlflow", "trackio") that gets each
    epoch's numbers.
    """

    backbone: str | None = None
    weights: Path | None = None
    fit: Fit | None = None
    test: float | Path | None = None
    group_by: str | None = None
    seed: int = 0
    balanced: bool = False
    keep_leaks: bool = False
    device: Device = "auto"
    precision: Precision = "auto"
    tune: str | None = None
    recipe: str | None = None
    resume: bool = False
    track: str | None = None

    @property
    def test_folder(self) -> Path | None:
        """The folder of test pictures, if one was given."""
        return self.test if isinstance(self.test, Path) else None

    @property
    def test_fraction(self) -> float:
        """The fraction to hold out where no test was given."""
        return self.test if isinstance(self.test, float) else DEFAULT_TEST_FRACTION

    def to_json(self) -> dict[str, Any]:
        """The options as JSON values."""
        return {key: shown(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "TrainOptions":
        """The inverse of `to_json`; an option that is not recorded has its default."""
        given = {one.name: record[one.name] for one in fields(cls) if one.name in record}
        for name in ("weights", "test"):
            if isinstance(given.get(name), str):
                given[name] = Path(given[name])
        return cls(**given)


@dataclass(frozen=True)
class Run:
    """Everything that one training produced; the same stands in the files of `folder`.

    `audit` is what is suspect about the data, `assessment` what was found out about the classifier beside its
    evaluations. `tuning` is how a loop changed the classifier, and `head` what the solved head alone did on the
    held-out pictures; both are None where only the head was solved. `reviewed` are the decisions that were applied, if
    any.
    """

    folder: Path
    data: Path
    options: TrainOptions
    plan: EnginePlan
    examples: Examples
    solved: Solved
    trial: Trial
    out_of_fold: Evaluation
    audit: Audit
    assessment: Assessment
    seconds: Mapping[str, float]
    tuning: "Tuned | None" = None
    head: Evaluation | None = None
    reviewed: Reviewed | None = None

    @property
    def evaluation(self) -> Evaluation:
        """The evaluation on the held-out pictures."""
        return self.trial.evaluation

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that was wrong with the data."""
        found = () if self.tuning is None else self.tuning.problems
        return tuple(dict.fromkeys(self.examples.dataset.problems + found))

    @property
    def kept_recipe(self) -> str | None:
        """The name of the recipe whose classifier is kept; None where that is the solved head."""
        if self.tuning is None or self.tuning.facts["kept"] == "head":
            return None
        return str(self.tuning.facts["recipe"]["name"])

    @property
    def tune(self) -> str:
        """How much of the backbone was to move: "none", "last" or "all"."""
        return "none" if self.tuning is None else str(self.tuning.facts["recipe"]["tune"])


def default(data: Path, ending: str = "") -> Path:
    """Where the run for `data` goes unless told otherwise: runs/NAME, with an `ending` for what is not a run."""
    name = data.resolve().name
    for suffix in DATA_SUFFIXES:
        name = name.removesuffix(suffix)
    return Path("runs") / f"{name or 'pictures'}{ending}"


def unfinished(folder: Path) -> Path:
    """Where the work of an unfinished fine-tuning for the run `folder` lies: history.csv and checkpoints."""
    return folder.with_name(f"{folder.name}{UNFINISHED}")


def claim(folder: Path) -> None:
    """Make sure, before any long work, that a run can be written to `folder`.

    Raises:
        StorageError: something that is not a run stands there, or the place cannot be written to.
    """
    recover(folder)
    if folder.exists() and not is_run(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise StorageError(f"{folder} exists and is not a run; nothing was touched. Choose another place with -o.")
    with clear_storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder.parent).close()


def earlier_split(folder: Path, options: TrainOptions) -> dict[str, int] | None:
    """The parts that an earlier run in `folder` gave its pictures, by digest; None where there was none.

    Raises:
        UsageError: that run drew its split by other rules; a split is extended, never drawn again.
    """
    if not is_run(folder):
        return None
    former, now = _read_record(folder)["options"], options.to_json()
    for name in ("seed", "test", "group_by"):
        if former.get(name) != now[name]:
            raise UsageError(
                f"{folder} was split with --{name.replace('_', '-')} {former.get(name)}, not {now[name]}; its split is "
                "kept so that numbers stay comparable. Choose another place with -o, or delete that run."
            )
    numbers = {name: part for part, name in PART_NAMES.items()}
    with (folder / SPLIT).open(encoding="utf-8", newline="") as file:
        parts = {row["digest"]: row["part"] for row in csv.DictReader(file)}
    return {digest: numbers[part] if part in numbers else int(part) for digest, part in parts.items()}


def is_run(folder: Path) -> bool:
    """Whether a finished run stands in `folder`."""
    return (folder / RUN).is_file()


def recorded(folder: Path) -> tuple[Path, TrainOptions]:
    """The data that the run in `folder` was trained on, and with which options.

    Raises:
        StorageError: run.json is damaged.
        DataError: the data are no longer there.
    """
    record = _read_record(folder)
    data = Path(record["data"])
    if url_of(data) is not None:
        return data, replace(TrainOptions.from_json(record["options"]), resume=False)
    if not data.exists() and "place" in record:
        data = Path(record["place"])  # the command was given in another folder
    if not data.exists():
        raise DataError(f"{folder} was trained on {data}, which is not there. Put it back, or train on another DATA.")
    return data, replace(TrainOptions.from_json(record["options"]), resume=False)


def backbone_asked(folder: Path) -> tuple[str | None, Path | None]:
    """The backbone that the run in `folder` began from, and its weights; None where they were left to the default."""
    record = _read_record(folder)
    options = TrainOptions.from_json(record["options"])
    recipe = record.get("computed", {}).get("finetune", {}).get("recipe")
    if recipe is None:
        return options.backbone, options.weights
    untrained = recipe.get("weights") == "none" and options.weights is None
    return recipe.get("backbone"), UNTRAINED if untrained else options.weights


def of_data(data: Path) -> Path | None:
    """The run whose review is about `data`: itself a run, or the default run of that data, if there is one."""
    if is_run(data):
        return data
    folder = default(data)
    if not is_run(folder):
        return None
    try:
        record = _read_record(folder)
    except StorageError:  # a damaged run has nothing to say about the data
        return None
    return folder if Path(record.get("place", record["data"])).resolve() == data.resolve() else None


def reviewed_revision(folder: Path) -> int:
    """The revision of the journal that the run in `folder` was trained with; 0 where it was not reviewed before."""
    return int(_read_record(folder).get("review", {}).get("revision", 0))


def reviewed_of_model(model: Path) -> Reviewed | None:
    """What was decided in a review of the run that `model` is, or stands in; None where nothing was."""
    folder = next((place for place in (model, model.resolve().parent) if is_run(place)), None)
    return None if folder is None else read_reviewed(folder)


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / RUN).read_text("utf-8"))
        known, record = int(record.get("format", FORMAT)), {**record, "options": dict(record["options"])}
        record["data"] = str(record["data"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{folder / RUN} is damaged ({error}). Choose another place with -o.") from error
    if known > FORMAT:
        raise StorageError(f"{folder} has format {known}; this headstart reads up to {FORMAT}. Upgrade headstart.")
    return record


def write(run: Run, self_check: NDArray[np.float32], extras: Extras) -> None:
    """Write `run.folder`, which appears, or changes from a former run to this one, at once.

    `self_check` float32 [d] are the features of `artefact.check_pattern`; `extras` is what the report shows besides
    the numbers.
    """
    with folder_written_atomically(run.folder) as folder:
        model = folder / "model"
        model.mkdir()
        kept = run.kept_recipe
        card = model_card(
            run.solved.classifier,
            run.evaluation,
            run.assessment.promises,
            len(run.examples.split.train),
            recipe=kept,
            calibrated=len(run.solved.held_out) > 0,
        )
        artefact.save(model, run.solved.classifier, self_check, card)
        write_json(folder / METRICS, _metrics(run))
        write_csv(folder / PREDICTIONS, prediction_rows(run.trial))
        write_csv(folder / SPLIT, _split_rows(run.examples.dataset, run.examples.split))
        write_csv(folder / PROBLEMS, problem_rows(run.problems))
        write_csv(folder / SUSPECTS, suspect_rows(run.audit.suspects))
        write_csv(folder / MAP, _map_rows(run.examples))
        if run.tuning is not None:
            write_history(folder / HISTORY, run.tuning.history)
            draw_curves(run.tuning.history, folder / CURVES)
        write_json(folder / RUN, _record(run))
        write_report(folder, extras)
    shutil.rmtree(unfinished(run.folder), ignore_errors=True)


def settled(run: Run) -> Run:
    """`run`, once written, with the files of its backbone where they now stand: what was unfinished is gone."""
    classifier = run.solved.classifier
    if classifier.backbone.graph.parent.parent != unfinished(run.folder):
        return run
    model = run.folder / "model"
    backbone = replace(classifier.backbone, graph=model / artefact.GRAPH, tensors=model / artefact.TENSORS)
    return replace(run, solved=replace(run.solved, classifier=replace(classifier, backbone=backbone)))


def write_measured(
    folder: Path, trial: Trial, promises: Promises, dataset: Dataset, extras: Extras, *, seen: int = 0
) -> None:
    """Write what `evaluate` found into `folder`: metrics.json, predictions.csv, problems.csv, report.html.

    `seen`: how many of the pictures the model learnt from.
    """
    with clear_storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        measured = {"seen": seen, "test": trial.evaluation.to_json(), "promises": promises.to_json()}
        write_json(folder / METRICS, {"format": FORMAT, **_data(dataset), **measured})
        write_csv(folder / PREDICTIONS, prediction_rows(trial))
        write_csv(folder / PROBLEMS, problem_rows(dataset.problems))
        write_report(folder, extras)


def write_checked(folder: Path, dataset: Dataset, audit: Audit, examples: Examples | None, extras: Extras) -> None:
    """Write what `check` found into `folder`: problems.csv, suspects.csv, metrics.json, report.html, and the map.

    `examples` are the pictures with their features and parts, where a classifier can be made of them.
    """
    with clear_storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / PROBLEMS, problem_rows(dataset.problems))
        write_csv(folder / SUSPECTS, suspect_rows(audit.suspects))
        found = {"classes": dataset.classes, "audit": audit.to_json()}
        write_json(folder / METRICS, {"format": FORMAT, **_data(dataset), **found})
        if examples is not None:
            write_csv(folder / SPLIT, _split_rows(examples.dataset, examples.split))
            write_csv(folder / MAP, _map_rows(examples))
        write_report(folder, extras)


def checked_json(dataset: Dataset, audit: Audit, obstacle: str | None) -> dict[str, Any]:
    """What `check` found, for machines; `obstacle` is what forbids training, if anything."""
    return {
        "format": FORMAT,
        **_data(dataset),
        "pictures": len(dataset.samples),
        "classes": dict(sorted(dataset.counts().items())),
        "obstacle": obstacle,
        "problems": [asdict(problem) for problem in dataset.problems],
        "suspects": [asdict(suspect) for suspect in audit.suspects],
        "shortcuts": [shortcut.to_json() for shortcut in audit.shortcuts],
    }


def _data(dataset: Dataset) -> dict[str, str]:
    """Where the pictures lie, under "data"; nothing where that is the cache, into which an archive was unpacked."""
    if (url := url_of(dataset.root)) is not None:
        return {"data": url}
    root = dataset.root.resolve()
    return {} if root.is_relative_to((cache_folder() / "archives").resolve()) else {"data": str(root)}


def prediction_rows(trial: Trial) -> Rows:
    """predictions.csv: one row a held-out picture; the prediction set is joined by `|`."""
    header = "path", "label", "predicted", "probability", "prediction_set", "none_of_these_score", "correct"
    yield *header, "probability_of_label"
    for sample, said in zip(trial.samples, trial.predictions, strict=True):
        correct = "yes" if said.label == sample.label else "no"
        numbers = f"{said.probability:.6f}", "|".join(said.set), f"{said.novelty:.4f}"
        yield sample.path, sample.label, said.label, *numbers, correct, f"{dict(said.ranking)[sample.label]:.6f}"


def problem_rows(problems: Iterable[Problem]) -> Rows:
    """problems.csv: every problem, by path; of a kind the first `MOST_OF_A_KIND`, and how many more there are."""
    yield "path", "kind", "detail", "action"
    seen: Counter[str] = Counter()
    for problem in sorted(problems, key=lambda problem: (problem.path, problem.kind, problem.detail)):
        seen[problem.kind] += 1
        if seen[problem.kind] <= MOST_OF_A_KIND:
            yield problem.path, problem.kind, problem.detail, problem.action
    yield from (("", kind, more_of_a_kind(more), "") for kind, more in _left_out(seen))


def suspect_rows(suspects: Iterable[Suspect]) -> Rows:
    """suspects.csv: by kind, the most suspect first; of a kind `MOST_OF_A_KIND`, and how many more there are."""
    yield "path", "kind", "score", "reason", "action", "label", "suggested"
    seen: Counter[str] = Counter()
    for one in suspects:
        seen[one.kind] += 1
        if seen[one.kind] <= MOST_OF_A_KIND:
            yield one.path, one.kind, f"{one.score:.4f}", one.reason, one.action, one.label, one.suggested
    for kind, more in _left_out(seen):
        yield "", kind, "0.0000", more_of_a_kind(more), "mend the first ones, and look again", "", ""


def _left_out(seen: Counter[str]) -> Iterator[tuple[str, int]]:
    """The kinds of which more were seen than are written, and how many more."""
    yield from ((kind, count - MOST_OF_A_KIND) for kind, count in seen.items() if count > MOST_OF_A_KIND)


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write `record` to `path`, readable by people; a NaN would be a mistake of ours, and raises."""
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def write_csv(path: Path, rows: Rows) -> None:
    """Write `rows`, the header first, to the CSV file `path`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _split_rows(dataset: Dataset, split: Split) -> Rows:
    yield "path", "digest", "class", "part", "group"
    for sample, part in zip(dataset.samples, split.parts.tolist(), strict=True):
        yield sample.path, sample.digest, sample.label, PART_NAMES.get(part, part), sample.group or ""


def _map_rows(examples: Examples) -> Rows:
    yield "path", "part", "label", "x", "y"
    plane = principal_plane(examples.features.vectors)[examples.rows]
    places = chain.from_iterable(plane[at : at + BLOCK].tolist() for at in range(0, len(plane), BLOCK))
    for sample, part, (x, y) in zip(examples.dataset.samples, examples.split.parts.tolist(), places, strict=True):
        yield sample.path, "test" if part == TEST else "train", sample.label, f"{x:.5g}", f"{y:.5g}"


def _metrics(run: Run) -> dict[str, Any]:
    solved, split = run.solved, run.examples.split
    return {
        "format": FORMAT,
        "n_train": len(split.train),
        "n_test": len(split.test),
        "classes": solved.classifier.classes,
        "backbone": solved.classifier.backbone.name,
        "tune": run.tune,
        "test": run.evaluation.to_json(),
        "out_of_fold": run.out_of_fold.to_json(),
        **({} if run.head is None else {"head_alone": run.head.to_json()}),
        **run.assessment.to_json(),
        "audit": run.audit.to_json(),
        "seconds": _rounded(run.seconds),
        "pictures_per_second": round(len(run.examples.dataset.samples) / max(run.seconds["features"], 1e-9), 1),
        "chosen": {
            "strength": solved.fitted.strength,
            "scaling": solved.fitted.scaling,
            "temperature": solved.calibration.temperature,
        },
    }


def _record(run: Run) -> dict[str, Any]:
    solved = run.solved
    return {
        "format": FORMAT,
        "data": shown(run.data),
        "place": url_of(run.data) or str(run.data.resolve()),
        "options": run.options.to_json(),
        **({} if run.reviewed is None else {"review": run.reviewed.to_json()}),
        "computed": {
            "device": run.plan.device,
            "engine": run.plan.name,
            "precision": run.plan.precision,
            "backbone": solved.classifier.backbone.to_json(),
            "folds": int(run.examples.split.folds.max()) + 1,
            "strengths_tried": [asdict(candidate) for candidate in solved.fitted.candidates],
            "strength_at_edge": solved.fitted.at_edge,
            "temperature_at_bound": solved.calibration.at_bound,
            **({} if run.tuning is None else {"finetune": run.tuning.facts}),
        },
        "python": platform.python_version(),
        "machine": platform.platform(),
        "versions": {name: version(name) for name in PACKAGES},
        "seconds": _rounded(run.seconds),
    }


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in {**seconds, "total": sum(seconds.values())}.items()}
