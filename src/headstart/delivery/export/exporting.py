"""The road of an export: write it aside, ask it about held-out pictures, and only then put it where it belongs."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headstart import __version__
from headstart.delivery import artefact
from headstart.delivery.export import formats, page_format, pictures, placing
from headstart.delivery.export import runtime as runtimes
from headstart.delivery.export.asking import Export, ask
from headstart.delivery.export.formats import Format
from headstart.delivery.export.page_format import Inside
from headstart.delivery.export.pictures import Material
from headstart.delivery.export.proof import Proof, judge, refusals, shown_worst
from headstart.delivery.export.source import Source
from headstart.delivery.export.timing import Race, race
from headstart.delivery.predictor import Predictor
from headstart.errors import ExportError, UsageError
from headstart.features.engines import plan_engine
from headstart.features.weights import digest
from headstart.progress import SILENT, Progress

FORMAT = 1
MEGABYTE = 1e6


@dataclass(frozen=True)
class Wish:
    """What is asked for: `model` in the form of `form` at `place`, with an agreement of at least `agreement`."""

    model: Path
    form: Format
    place: placing.Place
    agreement: float


@dataclass(frozen=True)
class Found:
    """What was found out about an export before it was handed over.

    `origin` says in words on which pictures it was proved, `runtimes` what answered (the model, the export), and
    `megabytes` are the sizes of both.
    """

    origin: str
    proof: Proof
    race: Race
    runtimes: tuple[str, str]
    megabytes: tuple[float, float]


@dataclass(frozen=True)
class Exported:
    """An export that was handed over: what was asked for, what was found, and the `record` in export.json."""

    wish: Wish
    found: Found
    record: dict[str, Any]


def export(
    model: str | Path,
    to: str,
    path: str | Path,
    *,
    raw: bool = False,
    agreement: float | None = None,
    data: str | Path | None = None,
    runtime: str | Path | None = None,
    progress: Progress = SILENT,
) -> Exported:
    """Export `model` and hand it over at `path` if it answers as the model does.

    Args:
        model: a run folder or its model/, or a model folder that stands alone.
        to: the name of a format, see `formats.FORMATS`.
        path: a folder, or a file of the format's ending where it has one.
        raw: normalised tensors in and logits out, instead of pixels in and probabilities out.
        agreement: the least share, in (0, 1], of pictures that must get the same class; the format's own if None.
        data: labelled pictures to prove it on, which the model has not learnt from; what its run held out if None.
        runtime: for a page, the npm package that computes in it (.tgz or folder); the cache or the registry if None.
        progress: shows long work.

    Raises:
        ExportError: the export does not answer as the model does, or cannot be made here; nothing is left at `path`,
            and an earlier export that stands there is untouched.
        HeadstartError: the model or the pictures cannot be used, or `path` cannot be written to.
    """
    form = formats.named(to)
    asked = form.agreement if agreement is None else agreement
    if not 0 < asked <= 1:
        raise UsageError(f"--agreement must be above 0 and at most 1; received {asked:g}.")
    _check_options(form, raw, runtime)
    form.check_installed()
    wish = Wish(Path(model), form, placing.claim(Path(path), form), asked)
    predictor = artefact.load(wish.model, "cpu", "f32")
    source = Source(predictor.classifier, raw, form.one_by_one)
    labelled = None if data is None else Path(data)
    material = _fewer(pictures.gather(wish.model, source.classifier, labelled, calibrated=form.calibrated), form)
    inside = _inside(wish, source, None if runtime is None else Path(runtime), progress) if form.embeds else None
    record: dict[str, Any] = {}
    with placing.handed_over(wish.place, form, record) as folder:
        calibrated_on = _write(form, source, material, inside, folder, progress)
        found = _prove(wish, source, predictor, material, folder, progress)
        record.update(_record(wish, source, found, folder))
        if form.calibrated:
            record["calibrated_on"] = calibrated_on
    return Exported(wish, found, record)


def _check_options(form: Format, raw: bool, runtime: str | Path | None) -> None:
    """Refuse options that this form has no use for."""
    if runtime is not None and not form.embeds:
        raise UsageError(f"--runtime is for --to page; received --to {form.name}.")
    if raw and form.embeds:
        raise UsageError(f"--raw is not for --to {form.name}, which takes pictures and shows probabilities.")


def _fewer(material: Material, form: Format) -> Material:
    """The same with no more pictures to prove on than the form can take."""
    if form.most is None:
        return material
    samples = tuple(pictures.drawn(material.proved.samples, form.most))
    return replace(material, proved=replace(material.proved, samples=samples))


def _inside(wish: Wish, source: Source, runtime: Path | None, progress: Progress) -> Inside:
    """What a page holds beside the classifier; see `page_format`."""
    page_format.refuse(source.classifier.backbone.preprocess)
    run = pictures.run_of(wish.model)
    name = (wish.model if run is None else run).resolve().name
    return Inside(runtimes.obtain(runtime, progress), name, None if run is None else _quality(run))


def _quality(run: Path) -> dict[str, Any] | None:
    """How good the model was on the pictures that its run held out, if the run says so."""
    try:
        test = json.loads((run / "metrics.json").read_text("utf-8"))["test"]
        return {
            "n": int(test["n"]),
            "accuracy": {end: float(test["accuracy"][end]) for end in ("value", "low", "high")},
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(
    form: Format, source: Source, material: Material, inside: Inside | None, folder: Path, progress: Progress
) -> int:
    """Write the files; returns how many pictures they were calibrated on."""
    with progress.stage(f"writing {form.name}", 1) as advance:
        calibration = [pictures.pixels(material.calibration, source.classifier)] if form.calibrated else []
        form.write(source, folder, *calibration, *([inside] if inside else []))
        advance()
    return sum(map(len, calibration))


def _prove(
    wish: Wish, source: Source, predictor: Predictor, material: Material, folder: Path, progress: Progress
) -> Found:
    """Ask the files in `folder` and the model about the pictures, and let them race.

    What was loaded from the files is let go here: where files that are in use cannot be moved, they can be afterwards.

    Raises:
        ExportError: they do not answer as the model does.
    """
    export = Export(wish.form.load(folder, source.facts()), source.facts())
    with closing(export):
        proof = judge(ask(material.proved, predictor, export, progress), source.classifier.classes)
        if reasons := refusals(proof, wish.form, wish.agreement):
            raise ExportError(_refused(proof, reasons, wish.place))
        daily = _daily(wish.model, predictor)
        raced = race(daily, export)
    return Found(
        origin=material.origin,
        proof=proof,
        race=raced,
        runtimes=(f"headstart, {daily.plan.name} {daily.plan.precision}", export.answering.runtime),
        megabytes=(
            _megabytes([source.classifier.backbone.graph]),
            _megabytes([folder / name for name in wish.form.files]),
        ),
    )


def _daily(model: Path, predictor: Predictor) -> Predictor:
    """The model as `predict` runs it here; the proof asks it in float32 on the CPU, so that arithmetic is no excuse."""
    plan = plan_engine()
    same = (plan.name, plan.precision) == (predictor.plan.name, predictor.plan.precision)
    return predictor if same else artefact.load(model)


def _refused(proof: Proof, reasons: Sequence[str], place: placing.Place) -> str:
    lines = [f"the export does not answer as the model does, and was not handed over: {'; '.join(reasons)}."]
    lines += [f"Nothing was written to {place.path}. The worst pictures:", *(f"  {one}" for one in shown_worst(proof))]
    return "\n".join(lines)


def _megabytes(files: Sequence[Path]) -> float:
    return sum(file.stat().st_size for file in files) / MEGABYTE


def _record(wish: Wish, source: Source, found: Found, folder: Path) -> dict[str, Any]:
    """What stands in export.json; see docs/export.md."""
    form = wish.form
    # A file that stands alone has the name that it was given.
    names = {name: wish.place.path.name if wish.place.is_file else name for name in form.files}
    files = {
        names[name]: {"sha256": digest(folder / name), "bytes": (folder / name).stat().st_size} for name in form.files
    }
    sides = ("original", "export")
    return {
        "format": FORMAT,
        "to": form.name,
        "raw": source.raw,
        "files": files,
        "headstart": __version__,
        "model": str(wish.model),
        "backbone": source.classifier.backbone.name,
        "licence": source.classifier.backbone.licence,
        **source.facts(),
        "proof": {"pictures": found.origin, "agreement_asked": wish.agreement, **found.proof.to_json()},
        "runtimes": dict(zip(sides, found.runtimes, strict=True)),
        "speed": found.race.to_json(),
        "megabytes": {side: round(size, 3) for side, size in zip(sides, found.megabytes, strict=True)},
    }
