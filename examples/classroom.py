"""What the notebooks share: their pictures, and a way to show them that keeps the notebook small."""

import io
import os
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from IPython.display import Image as Shown
from PIL import Image

import headstart
from headstart import demonstration
from headstart.delivery import sheet

warnings.filterwarnings("ignore", message="IProgress not found")  # of tqdm, which misses its bars; we show none

RUNS = Path("runs")
"""Where everything goes that the notebooks make."""


def pictures(photos: str, digits: str, each: int = 80) -> Path:
    """The folder `photos` in $HEADSTART_PHOTOS; without that, a stand-in of `each` handwritten scans of each digit."""
    if root := os.environ.get("HEADSTART_PHOTOS"):
        return Path(root) / photos
    source, folder = demonstration.digits(), RUNS / f"digits-{digits}"
    for digit in digits:
        (folder / digit).mkdir(parents=True, exist_ok=True)
        for scan in sorted((source / digit).iterdir())[:each]:
            (folder / digit / scan.name).write_bytes(scan.read_bytes())
    return folder


def strangers(digits: str, each: int = 4) -> dict[str, list[Path]]:
    """Pictures of no class that the notebook trains on, by kind: scans of other digits, and colourful noise."""
    source, folder = demonstration.digits(), RUNS / "strangers"
    folder.mkdir(parents=True, exist_ok=True)
    others = [scan for digit in digits for scan in sorted((source / digit).iterdir())[:each]]
    random, noise = np.random.default_rng(0), [folder / f"noise-{number}.png" for number in range(2 * each)]
    for path in noise:
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((224, 224), Image.Resampling.BICUBIC).save(path)
    return {"other digits": others, "colourful noise": noise}


def show(path: str | Path, width: int = 800) -> Shown:
    """The picture at `path`, at most `width` pixels wide and in 128 colours, to be shown below a cell."""
    picture = Image.open(path).convert("RGB")
    picture.thumbnail((width, 4 * width))
    shrunk = io.BytesIO()
    picture.quantize(128).save(shrunk, "PNG", optimize=True)
    return Shown(shrunk.getvalue())


def contact_sheet(paths: Iterable[Path], name: str) -> Shown:
    """The pictures at `paths` with their folders' names below them, in one."""
    tiles = [sheet.Tile(path, path.parent.name, path.name, sheet.INK) for path in paths]
    sheet.draw(tiles, RUNS / f"{name}.png")
    return show(RUNS / f"{name}.png")


def judged(run: headstart.Run, name: str, most: int = 10) -> Shown:
    """Some held-out pictures with what the saved model says of them: green where it is right, red where it is wrong."""
    samples = run.trial.samples[:: max(1, len(run.trial.samples) // most)][:most]
    said = headstart.load(run.folder).predict([run.examples.dataset.root / sample.path for sample in samples])
    sheet.draw([sheet.tile(one, sample.label) for one, sample in zip(said, samples, strict=True)], RUNS / f"{name}.png")
    return show(RUNS / f"{name}.png")
