"""Pictures on their way into training: decoded once, kept on disk as pixels, augmented anew each time."""

import math
import os
import signal
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from headstart.features.preprocess import PREPROCESSING, Preprocess
from headstart.learning.augment import Step, build, seeded, smallest_crop
from headstart.pictures.dataset import Problem, Sample
from headstart.pictures.decode import PictureError, Unreadable, decode
from headstart.pictures.inspect import picture_problem, read
from headstart.storage import KEPT_PIXELS_BYTES, cache_folder

ASPECT = 4 / 3  # of an ordinary photo, to estimate sizes


class Key(NamedTuple):
    """Which picture is wanted: the row of its sample, its side in pixels, and the seed that augments it.

    Without a seed the picture is wanted as the finished classifier will see it.
    """

    row: int
    side: int = 0
    seed: int | None = None


class Batch(NamedTuple):
    """Pictures that could be read, and what was wrong with the others.

    `pixels` uint8 [m, side, side, 3]; `places` int [m], which of the asked-for keys they answer.
    """

    pixels: Tensor
    places: NDArray[np.int64]
    problems: tuple[Problem, ...]


class Item(NamedTuple):
    """One picture of `side` x `side` pixels, or the problem that it is."""

    pixels: Tensor | None
    problem: Problem | None
    side: int


class Pictures(Dataset[Item]):
    """The pictures of `samples`, by `Key`: uint8 [side, side, 3], or the Problem that it is.

    A picture is decoded once and kept in the cache as uint8 pixels under its digest, reduced to the short side below
    which a crop of the largest of `sides` would have to be enlarged; later it is mapped into memory, not decoded.
    A file that has vanished or changed since its digest was taken is a Problem, unless its pixels are kept.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        root: Path,
        preprocess: Preprocess,
        steps: tuple[Step, ...],
        sides: Iterable[int],
    ) -> None:
        self.samples, self.root, self.preprocess = samples, root, preprocess
        self.transforms = {side: build(steps, side) for side in sides}
        self.short_side = math.ceil(max(self.transforms) / smallest_crop(steps))
        self.keeps = len(samples) * 3 * ASPECT * self.short_side**2 <= KEPT_PIXELS_BYTES / 2
        facts = repr((PREPROCESSING, sorted(preprocess.to_json().items())))
        self.places = {
            False: cache_folder() / "pixels" / f"{self.short_side}-{PREPROCESSING}",
            True: cache_folder() / "pixels" / f"plain-{sha256(facts.encode()).hexdigest()[:16]}",
        }

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> Item:
        sample = self.samples[key.row]
        try:
            pixels = self._pixels(sample, plain=key.seed is None)
        except (PictureError, OSError) as error:
            return Item(None, picture_problem(sample, error), key.side)
        if key.seed is None:
            return Item(torch.from_numpy(np.array(pixels)), None, key.side)
        changed = seeded(self.transforms[key.side], Image.fromarray(pixels), key.seed)
        return Item(changed.permute(1, 2, 0), None, key.side)

    def _pixels(self, sample: Sample, *, plain: bool) -> NDArray[np.uint8]:
        """The decoded picture uint8 [h, w, 3]: preprocessed where `plain`, else reduced to the short side needed."""
        kept = self.places[plain] / sample.digest[:2] / f"{sample.digest}.npy"
        try:
            return np.asarray(np.load(kept, mmap_mode="r"))
        except (OSError, ValueError, EOFError):
            pass  # not kept, or damaged: decoded now
        data, digest = read(self.root / sample.path)
        if digest != sample.digest:
            raise Unreadable("another picture than when it was first read")
        if plain:
            pixels = self.preprocess.apply(decode(data, at_least=self.preprocess.at_least).pixels)
        else:
            pixels = _reduced(decode(data, at_least=2 * self.short_side).pixels, self.short_side)
        if self.keeps:
            _keep(kept, pixels)
        return pixels


def batches(
    pictures: Pictures, keys: Iterable[Sequence[Key]], workers: int, *, pin_memory: bool = False
) -> Iterator[Batch]:
    """The pictures of each sequence of keys, in order, made by `workers` processes, or by this one where that is 0."""
    loader = DataLoader(
        pictures,
        batch_sampler=_Sequences(keys),
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_ignore_interrupts if workers else None,
        pin_memory=pin_memory,
    )
    yield from loader


class _Sequences:
    """What DataLoader wants of a sampler: something to iterate over, once."""

    def __init__(self, keys: Iterable[Sequence[Key]]) -> None:
        self.keys = keys

    def __iter__(self) -> Iterator[list[Key]]:
        return map(list, self.keys)


def _collate(items: list[Item]) -> Batch:
    pixels = [item.pixels for item in items if item.pixels is not None]
    places = np.flatnonzero([item.pixels is not None for item in items])
    problems = tuple(item.problem for item in items if item.problem is not None)
    side = items[0].side
    empty = torch.empty(0, side, side, 3, dtype=torch.uint8)
    return Batch(torch.stack(pixels) if pixels else empty, places, problems)


def _ignore_interrupts(_worker: int) -> None:
    """Ctrl-C is for the training process, which ends the workers when it is done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _reduced(pixels: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    ratio = short_side / min(height, width)
    if ratio >= 1:
        return pixels
    size = max(short_side, round(width * ratio)), max(short_side, round(height * ratio))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def _keep(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write `pixels` to `path`, whole or not at all; where there is no room, nothing is kept."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.npy")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(temporary, pixels)
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):  # a file in the place of the folder
            temporary.unlink(missing_ok=True)
