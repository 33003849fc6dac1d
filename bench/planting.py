"""For bench/trust.py: photo sets with their features, altered copies of their pictures, and shares in words."""

import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from headstart.features.backbones import DEFAULT, Backbone, load_backbone
from headstart.features.engines import EnginePlan, plan_engine
from headstart.features.extract import Features, extract
from headstart.judging.intervals import wilson
from headstart.learning.examples import Examples
from headstart.learning.solve import Solved, solve
from headstart.parallel import core_count
from headstart.pictures.classes import check_classes
from headstart.pictures.dataset import Dataset, Sample
from headstart.pictures.decode import decode
from headstart.pictures.duplicates import groups, resolve
from headstart.pictures.looks import Look, Looks, gather, look
from headstart.pictures.near import near_duplicates, with_twins
from headstart.pictures.scan import scan
from headstart.pictures.split import split

SAVED = 90  # JPEG quality of altered pictures, unless it is the quality that is altered
BRIGHTER, POOR = 1.1, 50  # what a class gets that is to be told by it: light, or a JPEG quality

Pixels = Image.Image
Alter = Callable[[Pixels, np.random.Generator], tuple[Pixels, int]]
"""What makes of a picture another one, and the JPEG quality to save it at."""


@dataclass(frozen=True, eq=False)
class PhotoSet:
    """One set: its readable pictures in the parts that were given, with twins; and the features of each."""

    name: str
    given: Dataset
    features: Features

    @cached_property
    def distinct(self) -> Dataset:
        """One sample for each different picture, in no part; those under two labels, and tiny classes, are left out."""
        apart = replace(self.given, samples=tuple(replace(sample, given=None) for sample in self.given.samples))
        kept = check_classes(resolve(apart), scanned=apart.classes)
        different = {sample.digest: sample for sample in reversed(kept.samples)}
        return replace(apart, samples=tuple(sorted(different.values(), key=lambda sample: sample.path)))

    @cached_property
    def resolved(self) -> Dataset:
        """The samples in the parts that were given, as `headstart train` divides them."""
        return check_classes(resolve(self.given), scanned=self.given.classes)

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """The features float32 [n, d] of the `distinct` samples."""
        return self.features.vectors[self.features.rows(self.distinct.samples)]

    @cached_property
    def looks(self) -> Looks:
        """The looks of the `distinct` samples."""
        return self.features.looks.take(self.features.rows(self.distinct.samples))

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The class numbers int [n] of the `distinct` samples."""
        return numbers_of(self.distinct)

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """The groups int [n] of the `distinct` samples."""
        return groups(self.distinct)


@cache
def network() -> tuple[Backbone, EnginePlan]:
    """The default backbone, and where it runs."""
    return load_backbone(DEFAULT), plan_engine("auto", "auto")


def embedded(dataset: Dataset) -> tuple[Dataset, Features]:
    """The readable samples and their features by the default backbone, from the store where it knows them."""
    return extract(dataset, *network())


def load(folder: Path) -> PhotoSet:
    """The set in `folder`."""
    dataset, features = embedded(scan(folder))
    twins = near_duplicates(features.looks, features.vectors)
    return PhotoSet(folder.name, with_twins(dataset, features.digests, twins), features)


def fit(dataset: Dataset, features: Features, seed: int, held_out: float = 0.2) -> tuple[Examples, Solved]:
    """The samples in parts, and the classifier that `headstart train` would make of them."""
    examples = Examples(dataset, features, split(dataset, test_fraction=held_out, seed=seed))
    backbone, plan = network()
    return examples, solve(examples, backbone, plan.precision)


def share(hits: int, n: int) -> str:
    """How many of how many, and Wilson's 95 % interval."""
    return f"{hits:,} of {n:,}" + (f": {wilson(hits / n, n)}" if n else "")


def numbers_of(dataset: Dataset) -> NDArray[np.int64]:
    """The class number of every sample, int [n]."""
    position = {name: number for number, name in enumerate(dataset.classes)}
    return np.array([position[sample.label] for sample in dataset.samples], dtype=np.int64)


def joined(*parts: Looks) -> Looks:
    """The looks of all the parts, one after the other."""
    columns = {}
    for name in vars(parts[0]):
        values = [getattr(part, name) for part in parts]
        columns[name] = sum(values, ()) if isinstance(values[0], tuple) else np.concatenate(values)
    return Looks(**columns)


def _cropped(picture: Pixels, random: np.random.Generator) -> tuple[Pixels, int]:
    """A window of 90 % of each side, anywhere."""
    width, height = (max(1, round(0.9 * side)) for side in picture.size)
    left, top = int(random.integers(picture.width - width + 1)), int(random.integers(picture.height - height + 1))
    return picture.crop((left, top, left + width, top + height)), SAVED


def _halved(picture: Pixels, _: np.random.Generator) -> tuple[Pixels, int]:
    size = max(1, picture.width // 2), max(1, picture.height // 2)
    return picture.resize(size, Image.Resampling.LANCZOS), SAVED


def _lit(factor: float) -> Alter:
    return lambda picture, _: (ImageEnhance.Brightness(picture).enhance(factor), SAVED)


ALTERATIONS: dict[str, Alter] = {
    "resized to 50 %": _halved,
    "cropped to 90 %": _cropped,
    "JPEG again, quality 30 to 60": lambda picture, random: (picture, int(random.integers(30, 61))),
    "20 % darker": _lit(0.8),
    "20 % brighter": _lit(1.2),
    "mirrored": lambda picture, _: (picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), SAVED),
}


def plant(sources: Iterable[Path], kind: str, folder: Path) -> list[Path]:
    """A copy of each source altered by `kind`, in `folder`; the n-th source's is called n.jpg."""

    def one(job: tuple[int, Path]) -> Path:
        number, source = job
        picture = Image.fromarray(decode(source.read_bytes()).pixels)
        altered, quality = ALTERATIONS[kind](picture, np.random.default_rng([number, *kind.encode()]))
        target = folder / f"{number}.jpg"
        altered.save(target, quality=quality)
        return target

    folder.mkdir(parents=True)
    with ThreadPoolExecutor(core_count()) as pool:
        return list(pool.map(one, enumerate(sources)))


def shortcut_looks(photos: PhotoSet) -> dict[str, Looks]:
    """The looks of the distinct pictures as they are, "10 % brighter" in the same file, and as "JPEG quality 50"."""
    at_least = network()[0].preprocess.at_least

    def seen(data: bytes) -> Look:
        picture = decode(data, at_least=at_least)
        return look(picture.pixels, data, picture.facts)

    def one(sample: Sample) -> tuple[Look, Look, Look]:
        data = photos.distinct.locate(sample).read_bytes()
        scaled = decode(data, at_least=at_least)
        lit = np.asarray(ImageEnhance.Brightness(Image.fromarray(scaled.pixels)).enhance(BRIGHTER))
        saved = io.BytesIO()
        Image.fromarray(decode(data).pixels).save(saved, "JPEG", quality=POOR)
        return seen(data), look(lit, data, scaled.facts), seen(saved.getvalue())

    with ThreadPoolExecutor(core_count()) as pool:
        columns = zip(*pool.map(one, photos.distinct.samples), strict=True)
        return dict(zip(("as it is", "10 % brighter", "JPEG quality 50"), map(gather, columns), strict=True))
