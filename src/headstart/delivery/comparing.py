"""Finished runs read back from their folders, compared, and the comparison written down."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from headstart.delivery import artefact, run_folder
from headstart.errors import HeadstartError, ModelError, StorageError, UsageError
from headstart.judging.comparison import Answer, Contestant, compare
from headstart.judging.finished import Compared as Compared
from headstart.judging.finished import FinishedRun as FinishedRun
from headstart.judging.metrics import Interval
from headstart.judging.report.versus import write_versus
from headstart.pictures.addresses import url_of
from headstart.pictures.decode import PictureError
from headstart.pictures.inspect import read
from headstart.pictures.scan import scan
from headstart.pictures.shard_sets import is_shard
from headstart.pictures.tables import TABLE_SUFFIXES
from headstart.storage import clear_storage_errors, written_atomically

FORMAT = 1
COMPARE, CHANGED, PAGE = "compare.json", "changed.csv", "compare.html"
OURS = {COMPARE, CHANGED, PAGE, run_folder.TRACKING}
MEGABYTE = 1e6


def is_run(path: Path) -> bool:
    """Whether `path` is a run folder, be it a damaged one."""
    return (path / run_folder.RUN).is_file() or (path / run_folder.PREDICTIONS).is_file()


def read_runs(folders: Sequence[Path]) -> list[FinishedRun]:
    """The runs in `folders`, under the shortest names that tell them apart.

    Raises:
        UsageError: one folder is given twice.
        ModelError: a folder is not a run, is damaged, or is of a later format.
    """
    places = [folder.resolve() for folder in folders]
    for position, place in enumerate(places):
        if place in places[:position]:
            raise UsageError(f"{folders[position]} is given twice; compare different runs.")
    names = [place.name for place in places]
    short = len(set(names)) == len(names)
    return [read_run(folder, name if short else str(folder)) for folder, name in zip(folders, names, strict=True)]


def read_run(folder: Path, name: str) -> FinishedRun:
    """The run in `folder`, called `name` from now on.

    Raises:
        ModelError: not a run, a damaged one, or one of a later format.
    """
    if not is_run(folder):
        what = "is not a run" if folder.exists() else "does not exist"
        raise ModelError(
            f"{folder} {what}. Give folders that `headstart train` made, or one DATA to train candidates on."
        )
    record, metrics = _read_json(folder / run_folder.RUN), _read_json(folder / run_folder.METRICS)
    for content in (record, metrics):
        if int(content.get("format", 0)) > run_folder.FORMAT:
            raise ModelError(
                f"the run in {folder} has format {content['format']}; this headstart reads up to {run_folder.FORMAT}. "
                "Upgrade headstart."
            )
    try:
        answers, groups = _read_answers(folder, int(metrics["n_test"]))
        return FinishedRun(
            name=name,
            folder=folder,
            answers=answers,
            groups=groups,
            options=dict(record["options"]),
            classes=tuple(metrics["classes"]),
            backbone=str(metrics["backbone"]),
            tune=str(metrics["tune"]),
            n_train=int(metrics["n_train"]),
            seconds={stage: float(seconds) for stage, seconds in {"total": 0.0, **metrics["seconds"]}.items()},
            pictures_per_second=float(metrics["pictures_per_second"]),
            megabytes=(folder / "model" / artefact.TENSORS).stat().st_size / MEGABYTE,
            data=str(record.get("data") or ""),
            computed=_computed(record.get("computed") or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error, OSError) as error:
        raise ModelError(f"the run in {folder} is damaged: {_what(error)}. Train it again.") from error


def compare_runs(
    runs: Sequence[FinishedRun], failures: Mapping[str, str] | None = None, reused: Sequence[str] = ()
) -> Compared:
    """Compare `runs` on the held-out pictures that they share; see `headstart.judging.comparison.compare`.

    Raises:
        DataError: they share none, or label one differently.
    """
    one_backbone = len({run.backbone for run in runs}) == 1
    cost = {run.name: run.total - (run.embedding if one_backbone else 0.0) for run in runs}
    groups: dict[str, str] = {}
    for run in reversed(runs):
        groups.update(run.groups)
    comparison = compare([Contestant(run.name, run.answers, cost[run.name]) for run in runs], groups)
    notes = list(comparison.notes)
    if len({frozenset(run.classes) for run in runs}) > 1:
        sizes = ", ".join(f"{run.name} {len(run.classes)}" for run in runs)
        notes.append(f"the runs know different classes ({sizes}); one that knows fewer has the easier task")
    by_name = {run.name: run for run in runs}
    ordered = {name: by_name[name] for name in comparison.names}
    return Compared(ordered, comparison, cost, tuple(notes), dict(failures or {}), tuple(reused), groups)


def claim(folder: Path, *, own: bool) -> None:
    """Make sure, before any long work, that a comparison can be written to `folder`.

    Args:
        folder: where compare.json goes.
        own: whether runs will stand in it too, so that it may hold nothing but those and a former comparison.

    Raises:
        StorageError: `folder` is a run, or not a comparison, or cannot be written to.
    """
    if is_run(folder):
        raise StorageError(f"{folder} is a run, which a comparison must not change. Choose another place with -o.")
    with clear_storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        strangers = [
            path.name
            for path in sorted(folder.iterdir())
            if not (
                path.name in OURS or path.name.startswith(".") or path.suffix == run_folder.UNFINISHED or is_run(path)
            )
        ]
    if own and strangers:
        raise StorageError(
            f"{folder} holds something other than runs ({strangers[0]}); nothing was touched. "
            "Choose another place with -o."
        )


def write(folder: Path, compared: Compared) -> None:
    """Write changed.csv, compare.html and compare.json into `folder`, each whole or not at all."""
    with written_atomically(folder / CHANGED) as path:
        run_folder.write_csv(path, changed_rows(compared))
    write_versus(folder / PAGE, compared, locator(compared))
    with written_atomically(folder / COMPARE) as path:
        run_folder.write_json(path, to_json(compared))


def locator(compared: Compared) -> Callable[[str], Path | None]:
    """Leads from the digest of a held-out picture to its file, by the data and the paths that the runs recorded.

    None where no run's data hold it any more: a file whose content has changed is another picture.
    """
    roots = {data: _root(data) for data in {run.data for run in compared.runs.values()}}
    runs = [(root, run.answers) for run in compared.runs.values() if (root := roots[run.data]) is not None]

    def locate(digest: str) -> Path | None:
        for root, answers in runs:
            with suppress(OSError, ValueError, PictureError, KeyError):
                path = root / answers[digest].path
                if read(path)[1] == digest:
                    return path
        return None

    return locate


def _root(data: str) -> Path | None:
    """Where the paths of a run begin whose data were given as `data`; None where that is not there any more."""
    place = Path(data)
    with suppress(OSError, ValueError, HeadstartError):
        if url_of(place) is not None:
            return place.parent if is_shard(place) or place.suffix.lower() in TABLE_SUFFIXES else place
        if not data or not place.exists():
            return None
        if place.is_dir():
            return place
        return place.parent if place.suffix.lower() in TABLE_SUFFIXES else scan(place).root  # unpacked in the cache
    return None


def changed_rows(compared: Compared) -> Iterator[Sequence[str]]:
    """changed.csv: the pictures that some runs got right and others not, with what each run said."""
    runs = list(compared.runs.values())
    yield "path", "label", *(run.name for run in runs)
    for digest in compared.comparison.changed:
        first = runs[0].answers[digest]
        yield first.path, first.label, *(run.answers[digest].predicted for run in runs)


def to_json(compared: Compared) -> dict[str, Any]:
    """compare.json; the runs in the order of their accuracy."""
    comparison = compared.comparison
    grouped = comparison.group_count < comparison.n
    return {
        "format": FORMAT,
        "n": comparison.n,
        "groups": comparison.group_count if grouped else None,
        "best": comparison.best,
        "runs": [_run_json(run, comparison.accuracy[name]) for name, run in compared.runs.items()],
        "pairs": [
            {
                "better": pair.better,
                "worse": pair.worse,
                "difference": _interval(pair.difference),
                "only_better": pair.only_better,
                "only_worse": pair.only_worse,
                "p": _number(pair.p),
                "p_corrected": _number(pair.p_corrected),
            }
            for pair in comparison.pairs
        ],
        "notes": list(compared.notes),
        "failures": dict(compared.failures),
    }


def _run_json(run: FinishedRun, accuracy: Interval) -> dict[str, Any]:
    return {
        "name": run.name,
        "folder": str(run.folder),
        "backbone": run.backbone,
        "tune": run.tune,
        "options": dict(run.options),
        "n_train": run.n_train,
        "n_held_out": len(run.answers),
        "accuracy": _interval(accuracy),
        "seconds": dict(run.seconds),
        "megabytes": round(run.megabytes, 3),
        "pictures_per_second": run.pictures_per_second,
    }


def _interval(interval: Interval) -> dict[str, float]:
    return {end: _number(getattr(interval, end)) for end in ("value", "low", "high")}


def _number(value: float) -> float:
    """Six significant digits, as in metrics.json."""
    return float(f"{value:.6g}")


def _computed(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of run.json's "computed" tells two runs apart."""
    tuned = record.get("finetune") or {}
    found = {key: record[key] for key in ("device", "engine", "precision") if key in record}
    return {**found, **({"recipe": tuned["recipe"]} if "recipe" in tuned else {})}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        what = _what(error) if isinstance(error, OSError) else f"{path.name} cannot be read ({error})"
        raise ModelError(f"the run in {path.parent} is damaged: {what}. Train it again.") from error


def _read_answers(folder: Path, n_test: int) -> tuple[dict[str, Answer], dict[str, str]]:
    """What the run said of its `n_test` held-out pictures, and their groups, by digest; of copies the first."""
    parts = {row["path"]: row for row in _read_csv(folder / run_folder.SPLIT)}
    answers: dict[str, Answer] = {}
    groups: dict[str, str] = {}
    rows = list(_read_csv(folder / run_folder.PREDICTIONS))
    if len(rows) != n_test:
        raise ValueError(f"{run_folder.PREDICTIONS} has {len(rows)} rows, not {n_test}")
    for row in rows:
        part = parts.get(row["path"])
        if part is None or part["part"] != "test":
            raise ValueError(
                f"{row['path']} is in {run_folder.PREDICTIONS}, but {run_folder.SPLIT} does not hold it out"
            )
        answer = Answer(row["path"], row["label"], row["predicted"], float(row["probability"]))
        answers.setdefault(part["digest"], answer)
        if part["group"]:
            groups[part["digest"]] = part["group"]
    return answers, groups


def _read_csv(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if None in row or None in row.values():
                raise ValueError(f"{path.name} ends in the middle of a row, or has a row too long")
            yield row


def _what(error: Exception) -> str:
    """The error in words: a missing key says only its name."""
    if isinstance(error, KeyError):
        return f"no {error} is recorded"
    if isinstance(error, FileNotFoundError):
        return f"{Path(error.filename).name} is missing"
    return str(error)
