"""The pictures of `headstart demo`: scanned digits that scikit-learn carries, or photos downloaded by torchvision."""

from collections.abc import Iterator
from pathlib import Path

from headstart.delivery import artefact, sheet
from headstart.delivery.answers import tile
from headstart.delivery.run_folder import Run
from headstart.errors import DataError, UsageError
from headstart.progress import SILENT, Progress
from headstart.storage import cache_folder, folder_written_once

ENLARGED = 64  # pixels; the scans are 8 x 8
SHOWN = 20
PHOTOS = ("eurosat", "imagenette", "textures")


def digits(progress: Progress = SILENT) -> Path:
    """A folder of 1,797 handwritten digits, 8 x 8 scans of the UCI collection, as PNG files in class folders."""
    folder = cache_folder() / "demo" / "digits"
    if folder.is_dir():
        return folder
    from PIL import Image
    from sklearn.datasets import load_digits  # seconds

    scans = load_digits()
    with folder_written_once(folder) as temporary, progress.stage("scans", len(scans.target)) as advance:
        for number, (scan, label) in enumerate(zip(scans.images, scans.target, strict=True)):
            place = temporary / str(label)
            place.mkdir(exist_ok=True)
            ink = Image.fromarray((255 - scan * (255 / 16)).astype("uint8"))
            ink.resize((ENLARGED, ENLARGED), Image.Resampling.BICUBIC).save(place / f"{number:04}.png")
            advance()
    return folder


def photos(name: str) -> Path:
    """A folder of real photos, downloaded once with its checksum by torchvision.

    Raises:
        UsageError: no such set.
        DataError: it cannot be downloaded.
    """
    if name not in PHOTOS:
        raise UsageError(f"--photos must be one of {', '.join(PHOTOS)}; received '{name}'.")
    from torchvision import datasets  # seconds

    root = cache_folder() / "demo" / name
    try:
        if name == "eurosat":  # 27,000 satellite pictures of ten kinds of land, 90 MB
            datasets.EuroSAT(root, download=True)
            return next(root.rglob("AnnualCrop")).parent
        if name == "imagenette":  # 13,394 photos of ten easy ImageNet classes, 99 MB
            datasets.Imagenette(root, size="160px", download=not any(root.glob("imagenette2-160")))
            return root / "imagenette2-160"
        datasets.DTD(root, download=True)  # 5,640 photos of 47 textures, 600 MB
        return next(root.rglob("banded")).parent
    except (OSError, RuntimeError, StopIteration) as error:
        raise DataError(
            f"cannot download the {name} photos ({error}). `headstart demo` alone needs no network."
        ) from error


def show(run: Run) -> Iterator[str]:
    """Predict some held-out pictures with the saved model, as a user would, and draw them on a sheet."""
    held_out = run.trial.samples
    chosen = held_out[:: max(1, len(held_out) // SHOWN)][:SHOWN]
    root = run.examples.dataset.root
    predictor = artefact.load(run.folder)
    said = predictor.predict([root / sample.path for sample in chosen])
    path = run.folder.with_name(f"{run.folder.name}.png")
    sheet.draw([tile(one, predictor.classes) for one in said], path)
    yield f"$ headstart predict {run.folder} {root}/... --sheet {path}"
    for one in said[:5]:
        yield f"{one.path}  {one.label} {one.probability:.1%}"
    yield f"{len(said)} held-out pictures, drawn with their predictions: {path}"
