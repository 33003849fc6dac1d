"""What a frozen prefix makes of augmented views of each picture: computed once, on the fast engine, and kept."""

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headstart.features import networks
from headstart.features.backbones import Backbone
from headstart.features.cutting import Cut
from headstart.features.engines import Engine, EnginePlan, TorchEngine
from headstart.features.extract import recipe as features_recipe
from headstart.features.openvino_engine import OpenVinoEngine
from headstart.features.preprocess import Preprocess
from headstart.features.store import Store
from headstart.learning.augment import Step
from headstart.learning.pixels import Key, Pictures, batches
from headstart.learning.randomness import number
from headstart.parallel import core_count, in_order
from headstart.pictures.dataset import Problem, Sample
from headstart.progress import SILENT, Advance, Progress
from headstart.storage import cache_folder, written_atomically

MEMORY_BYTES = 2 * 1024**3
"""Activations are held in memory up to this size; beyond it they are read from the store batch by batch."""

READ_AHEAD = 16  # pictures a batch while activations are computed


class Look(NamedTuple):
    """One way of seeing all pictures: the side of the augmented pictures, and which of several draws this is."""

    side: int
    draw: int


PLAIN = Look(0, 0)
"""Pictures without augmentation, as the finished classifier will see them."""


@dataclass(frozen=True)
class View:
    """The activations [*shape] of all pictures in one look: where they lie, and in memory if there is room.

    `held` uint16 [n, values] are bf16 bits, or None; `rows` the row of each digest in it.
    """

    store: dict[str, Any]
    shape: tuple[int, ...]
    rows: dict[str, int]
    held: NDArray[np.uint16] | None

    def take(self, digests: Sequence[str]) -> NDArray[np.uint16]:
        """The activations uint16 [m, values] of `digests`."""
        if self.held is not None:
            return np.asarray(self.held[[self.rows[digest] for digest in digests]])
        with Store(self.store, math.prod(self.shape), np.uint16) as store:
            found = dict(store.get(dict.fromkeys(digests)))
        return np.stack([found[digest] for digest in digests])


@dataclass(frozen=True)
class Activations:
    """The views of a set of samples, by number, and the problems of the pictures that could not be read."""

    samples: Sequence[Sample]
    views: dict[Look, View]
    problems: tuple[Problem, ...] = field(default=())

    def take(self, look: Look, rows: Sequence[int]) -> tuple[Tensor, NDArray[np.int64]]:
        """Activations float32 [m, *shape] of the samples at `rows`, and the places [m] of those that have any."""
        chosen = self.views[look]
        digests = [self.samples[row].digest for row in rows]
        places = np.flatnonzero([digest in chosen.rows for digest in digests])
        if not len(places):
            return torch.empty(0, *chosen.shape), places
        bits = chosen.take([digests[place] for place in places])
        floats = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16).float()
        return floats.reshape(len(places), *chosen.shape), places


def compute(
    pictures: Pictures,
    divided: Cut,
    backbone: Backbone,
    plan: EnginePlan,
    *,
    looks: Sequence[Look],
    described: tuple[tuple[Step, ...], int],
    workers: int = 0,
    progress: Progress = SILENT,
) -> Activations:
    """The activations of every picture in each of `looks`; what the store has is not computed again.

    Args:
        pictures: the pictures, which are read, decoded and augmented as needed.
        divided: the cut network; its prefix runs on the fast engine.
        backbone: what was cut.
        plan: the engine.
        looks: the sides and draws that are wanted, or `PLAIN`.
        described: the augmentation's steps and the seed: with a look they say what each picture looks like.
        workers: processes that prepare pictures.
        progress: shows the work.
    """
    steps, seed = described
    preprocesses = {look: _preprocess(backbone, look) for look in looks}
    shapes = {look: _shape(divided, preprocesses[look]) for look in looks}
    recipes = {look: _recipe(backbone, plan, divided, look, steps, seed) for look in looks}
    problems: dict[str, Problem] = {}
    with progress.stage("activations", len(pictures.samples) * len(looks)) as advance:
        for look in looks:
            with Store(recipes[look], math.prod(shapes[look]), np.uint16) as store:
                missing = _missing(pictures.samples, store.digests(), advance)
                if missing:
                    engine = _engine(divided, replace(backbone, preprocess=preprocesses[look]), plan)
                    keys = [_key(pictures, row, look, seed) for row in missing]
                    problems |= _embed(pictures, keys, engine, store, (plan, workers), advance)
    different = len({sample.digest for sample in pictures.samples})
    hold = 2 * different * sum(math.prod(shape) for shape in shapes.values()) <= MEMORY_BYTES
    views = {look: _view(recipes[look], shapes[look], pictures.samples, hold) for look in looks}
    return Activations(pictures.samples, views, tuple(problems.values()))


def _preprocess(backbone: Backbone, look: Look) -> Preprocess:
    own = backbone.preprocess
    return own if look == PLAIN else replace(own, height=look.side, width=look.side)


def _shape(divided: Cut, preprocess: Preprocess) -> tuple[int, ...]:
    """The shape of one picture's activations."""
    with torch.no_grad():
        nothing = torch.zeros(1, preprocess.height, preprocess.width, 3, dtype=torch.uint8)
        return tuple(divided.prefix.eval()(nothing).shape[1:])


def _recipe(
    backbone: Backbone, plan: EnginePlan, divided: Cut, look: Look, steps: tuple[Step, ...], seed: int
) -> dict[str, Any]:
    seen = (
        "plain"
        if look == PLAIN
        else f"{look.side} pixels, draw {look.draw} of seed {seed}: {'; '.join(map(str, steps))}"
    )
    return {**features_recipe(backbone, plan), "stage": divided.stage, "view": seen}


def _key(pictures: Pictures, row: int, look: Look, seed: int) -> Key:
    if look == PLAIN:
        return Key(row)
    content = int(pictures.samples[row].digest[:12], 16)
    return Key(row, look.side, number(seed, "view", *look, content))


def _missing(samples: Sequence[Sample], known: set[str], advance: Advance) -> list[int]:
    """One row for each digest that is not in `known`."""
    wanted = {sample.digest: row for row, sample in reversed(list(enumerate(samples)))}
    missing = sorted(row for digest, row in wanted.items() if digest not in known)
    advance(len(samples) - len(missing))
    return missing


def _embed(
    pictures: Pictures, keys: list[Key], engine: Engine, store: Store, how: tuple[EnginePlan, int], advance: Advance
) -> dict[str, Problem]:
    """Compute and store the activations of `keys`; the problems of those that could not be read, by path."""
    plan, workers = how
    chunks = [keys[start : start + READ_AHEAD] for start in range(0, len(keys), READ_AHEAD)]
    problems: dict[str, Problem] = {}

    def pictures_read() -> Iterator[tuple[str, NDArray[np.uint8]]]:
        for chunk, batch in zip(chunks, batches(pictures, chunks, workers), strict=True):
            problems.update({problem.path: problem for problem in batch.problems})
            advance(len(batch.problems))
            for place, pixels in zip(batch.places, batch.pixels.numpy(), strict=True):
                yield pictures.samples[chunk[place].row].digest, pixels

    def groups() -> Iterator[list[tuple[str, NDArray[np.uint8]]]]:
        read = pictures_read()
        while group := list(itertools.islice(read, plan.batch)):
            yield group

    def embed(group: list[tuple[str, NDArray[np.uint8]]]) -> list[tuple[str, NDArray[np.float32]]]:
        vectors = engine.embed(np.stack([pixels for _, pixels in group]))
        return [(digest, vector) for (digest, _), vector in zip(group, vectors, strict=True)]

    with ThreadPoolExecutor(plan.lanes) as pool:
        for group in in_order(pool, embed, groups(), 2 * plan.lanes):
            for digest, vector in group:
                bits = torch.from_numpy(vector.reshape(-1)).bfloat16().view(torch.int16).numpy().view(np.uint16)
                store.put(digest, bits, {})
                advance()
    store.flush()
    return problems


def _view(recipe: dict[str, Any], shape: tuple[int, ...], samples: Sequence[Sample], hold: bool) -> View:
    values = math.prod(shape)
    with Store(recipe, values, np.uint16) as store:
        digests = sorted({sample.digest for sample in samples} & store.digests())
        rows = {digest: row for row, digest in enumerate(digests)}
        held = None
        if hold:
            held = np.empty((len(digests), values), dtype=np.uint16)
            for digest, bits in store.get(digests):
                held[rows[digest]] = bits
    return View(recipe, shape, rows, held)


def _engine(divided: Cut, backbone: Backbone, plan: EnginePlan) -> Engine:
    prefix: nn.Module = divided.prefix.eval()
    if plan.device != "cpu":
        dtype = torch.bfloat16 if plan.precision == "bf16" else torch.float32
        module = copy.deepcopy(prefix).to(plan.device, dtype).to(memory_format=torch.channels_last)
        return TorchEngine(module, plan.device)
    return OpenVinoEngine.compile(
        _graph(prefix, backbone, divided.stage), threads=core_count(), precision=plan.precision
    )


def _graph(prefix: nn.Module, backbone: Backbone, stage: str) -> Path:
    """The prefix as an ONNX file, exported once."""
    key = sha256(
        repr((backbone.weights_digest, backbone.architecture, stage, backbone.preprocess)).encode()
    ).hexdigest()[:16]
    path = cache_folder() / "backbones" / f"{backbone.architecture.replace('/', '-')}-prefix-{key}.onnx"
    if not path.is_file():
        with written_atomically(path) as temporary:
            temporary.write_bytes(networks.to_onnx(prefix, backbone.preprocess))
    return path
