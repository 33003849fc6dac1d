"""The road of an export: write it aside, ask it about held-out pictures, and only then put it where it belongs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart import __version__
from headstart.delivery import artefact
from headstart.delivery.export import formats, pictures, placing
from headstart.delivery.export.asking import Export, ask
from headstart.delivery.export.formats import Format
from headstart.delivery.export.pictures import Material
from headstart.delivery.export.proof import Disagreement, Proof, judge, refusals, shown_worst
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
class Exported:
    """An export that stands at `place`, with everything that was found out about it.

    `asked` is the agreement that was asked for, `origin` says in words on which pictures it was proved, `runtimes` what
    answered (the model, the export), `megabytes` the sizes of both, and `record` is what stands in export.json.
    """

    place: placing.Place
    form: Format
    asked: float
    origin: str
    proof: Proof
    race: Race
    runtimes: tuple[str, str]
    megabytes: tuple[float, float]
    record: dict[str, Any]


def export(
    model: str | Path,
    to: str,
    path: str | Path,
    *,
    raw: bool = False,
    agreement: float | None = None,
    data: str | Path | None = None,
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
        progress: shows long work.

    Raises:
        ExportError: the export does not answer as the model does, or cannot be made here; nothing is left at `path`,
            and an earlier export that stands there is untouched.
        HeadstartError: the model or the pictures cannot be used, or `path` cannot be written to.
    """
    model, form = Path(model), formats.named(to)
    asked = form.agreement if agreement is None else agreement
    if not 0 < asked <= 1:
        raise UsageError(f"--agreement must be above 0 and at most 1; received {asked:g}.")
    form.check_installed()
    place = placing.claim(Path(path), form)
    predictor = artefact.load(model, "cpu", "f32")
    source = Source(predictor.classifier, raw, form.one_by_one)
    material = pictures.gather(
        model, source.classifier, None if data is None else Path(data), calibrated=form.calibrated
    )
    record: dict[str, Any] = {}
    with placing.handed_over(place, form, record) as folder:
        _write(form, source, material, folder, progress)
        written = Export(form.load(folder, source.facts()), source.facts())
        proof = judge(ask(material.proved, predictor, written, progress), source.classifier.classes)
        if reasons := refusals(proof, form, asked):
            raise ExportError(_refused(proof, reasons, place))
        daily = _daily(model, predictor)
        exported = Exported(
            place=place,
            form=form,
            asked=asked,
            origin=material.origin,
            proof=proof,
            race=race(daily, written),
            runtimes=(f"headstart, {daily.plan.name} {daily.plan.precision}", written.answering.runtime),
            megabytes=(
                _megabytes([source.classifier.backbone.graph]),
                _megabytes([folder / name for name in form.files]),
            ),
            record=record,
        )
        record.update(_record(exported, source, model, folder, len(material.calibration.samples)))
    return exported


def _write(form: Format, source: Source, material: Material, folder: Path, progress: Progress) -> None:
    with progress.stage(f"writing {form.name}", 1) as advance:
        if form.calibrated:
            form.write(source, folder, pictures.pixels(material.calibration, source.classifier))
        else:
            form.write(source, folder)
        advance()


def _daily(model: Path, predictor: Predictor) -> Predictor:
    """The model as `predict` runs it here; the proof asks it in float32 on the CPU, so that arithmetic is no excuse."""
    plan = plan_engine()
    same = (plan.name, plan.precision) == (predictor.plan.name, predictor.plan.precision)
    return predictor if same else artefact.load(model)


def _refused(proof: Proof, reasons: Sequence[str], place: placing.Place) -> str:
    worst: list[Disagreement] = shown_worst(proof)
    lines = [f"the export does not answer as the model does, and was not handed over: {'; '.join(reasons)}."]
    lines += [f"Nothing was written to {place.path}. The worst pictures:", *(f"  {one}" for one in worst)]
    return "\n".join(lines)


def _megabytes(files: Sequence[Path]) -> float:
    return sum(file.stat().st_size for file in files) / MEGABYTE


def _record(done: Exported, source: Source, model: Path, folder: Path, calibrated_on: int) -> dict[str, Any]:
    """What stands in export.json; see docs/export.md."""
    form = done.form
    # A file that stands alone has the name that it was given.
    names = {name: done.place.path.name if done.place.is_file else name for name in form.files}
    files = {
        names[name]: {"sha256": digest(folder / name), "bytes": (folder / name).stat().st_size} for name in form.files
    }
    return {
        "format": FORMAT,
        "to": form.name,
        "raw": source.raw,
        "files": files,
        "headstart": __version__,
        "model": str(model),
        "backbone": source.classifier.backbone.name,
        "licence": source.classifier.backbone.licence,
        **source.facts(),
        **({"calibrated_on": calibrated_on} if form.calibrated else {}),
        "proof": {"pictures": done.origin, "agreement_asked": done.asked, **done.proof.to_json()},
        "runtimes": dict(zip(("original", "export"), done.runtimes, strict=True)),
        "speed": done.race.to_json(),
        "megabytes": {side: round(size, 3) for side, size in zip(("original", "export"), done.megabytes, strict=True)},
    }
