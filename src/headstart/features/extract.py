"""(Dataset, backbone, store) -> features: embed what is missing, gather the rest."""

import itertools
import json
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from threading import Semaphore
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headstart import scratch
from headstart.features.backbones import Backbone
from headstart.features.engines import Engine, EnginePlan
from headstart.features.preprocess import PREPROCESSING, Preprocess
from headstart.features.store import ROWS_A_QUERY, Store
from headstart.parallel import core_count, in_order
from headstart.pictures.dataset import Dataset, Problem, Sample
from headstart.pictures.decode import PictureError, decode
from headstart.pictures.elsewhere import Patience, is_elsewhere, known_digest
from headstart.pictures.inspect import picture_problem, read
from headstart.pictures.looks import Gathering, Look, Looks, from_stored, look
from headstart.pictures.remote import READERS
from headstart.progress import SILENT, Progress

AHEAD = 64  # pictures decoded ahead of the engine, for each thread: 10 MB, and work while the engine is loaded


@dataclass(frozen=True)
class Features:
    """What is known of a data set's different pictures.

    `vectors` float32 [n, d] and `looks`, row by row those of `digests`, which are sorted; `embedded` of the vectors
    were computed just now.
    """

    digests: tuple[str, ...]
    vectors: NDArray[np.float32]
    embedded: int
    looks: Looks

    def rows(self, samples: Iterable[Sample]) -> NDArray[np.int64]:
        """The row of each sample's picture; duplicates share one."""
        position = {digest: row for row, digest in enumerate(self.digests)}
        return np.fromiter((position[sample.digest] for sample in samples), dtype=np.int64)


@dataclass(frozen=True)
class Prepared:
    """A picture on its way: read, and decoded and embedded unless its vector is known already."""

    sample: Sample
    pixels: NDArray[np.uint8] | None = None
    look: Look | None = None
    vector: NDArray[np.float32] | None = None
    problem: Problem | None = None


class Embedding(Protocol):
    """Who reads, decodes and embeds pictures: this process, or the workers of a cluster."""

    def __call__(
        self, samples: Sequence[Sample], root: Path, backbone: Backbone, plan: EnginePlan, known: set[str]
    ) -> Iterator[Prepared]:
        """Every sample, in order: with its digest and, unless that is `known`, its vector and look; or its problem."""


def recipe(backbone: Backbone, plan: EnginePlan) -> dict[str, Any]:
    """Everything that a vector depends on besides the picture: the key of its place in the store."""
    return {
        "architecture": backbone.architecture,
        "weights": backbone.weights_digest,
        "preprocess": {**backbone.preprocess.to_json(), "version": PREPROCESSING},
        "engine": plan.name,
        "precision": plan.precision,
    }


def embed_here(
    samples: Sequence[Sample], root: Path, backbone: Backbone, plan: EnginePlan, known: set[str]
) -> Iterator[Prepared]:
    """The embedding of this process, see `Embedding`: its threads decode ahead of the network."""
    prepared = prepare(samples, root, backbone.preprocess, known, looks=True)
    return embed(prepared, plan, lambda: plan.load(backbone))


def extract(
    dataset: Dataset,
    backbone: Backbone,
    plan: EnginePlan,
    *,
    embedding: Embedding = embed_here,
    progress: Progress = SILENT,
) -> tuple[Dataset, Features]:
    """Every picture read once, decoded and embedded unless the store knows it; what fails becomes a Problem.

    Reading and decoding overlap with the network, in order and through a bounded window, so that
    memory does not grow with the number of pictures (but for the vectors themselves). Interrupted at
    any moment, it keeps what was embedded, and the next call embeds only the rest. Who embeds is the `embedding`; what
    it gives comes into the one store here.

    Returns:
        The dataset of the readable pictures, each with its digest, and their features.
    """
    with Store(recipe(backbone, plan), backbone.dimension) as store:
        known = store.digests()
        while True:
            items = embedding(dataset.samples, dataset.root, backbone, plan, known)
            readable, embedded = _keep(items, dataset, store, progress)
            digests = tuple(sorted({sample.digest for sample in readable.samples}))
            vectors, looks, missing = _gather(store, digests)
            if not missing:
                return readable, Features(digests, vectors, embedded, looks.looks())
            known -= missing  # rows that another process pruned, or that failed their checksum


def embed_picture(pixels: NDArray[np.uint8], backbone: Backbone, plan: EnginePlan) -> NDArray[np.float32]:
    """Features float32 [d] of one picture uint8 [height, width, 3] that is already preprocessed, stored alike."""
    digest = sha256(pixels.tobytes()).hexdigest()
    with Store(recipe(backbone, plan), backbone.dimension) as store:
        for _, stored in store.get([digest]):
            return stored
        vector: NDArray[np.float32] = plan.load(backbone).embed(pixels[None])[0]
        store.put(digest, vector, {})
        return vector


def _keep(items: Iterator[Prepared], dataset: Dataset, store: Store, progress: Progress) -> tuple[Dataset, int]:
    """Put what comes into the store; returns the data set of what can be read, and how many were embedded."""
    samples: list[Sample] = []
    problems: list[Problem] = []
    embedded = 0
    with progress.stage("pictures", len(dataset.samples)) as advance:
        for item in items:
            if item.problem is not None:
                problems.append(item.problem)
            else:
                samples.append(item.sample)
            if item.vector is not None and item.look is not None:
                store.put(item.sample.digest, item.vector, *item.look.to_stored())
                embedded += 1
            advance()
    store.flush()
    return replace(dataset, samples=tuple(samples), problems=dataset.problems + tuple(problems)), embedded


def prepare(
    samples: Iterable[Sample], root: Path, preprocess: Preprocess, known: Container[str] = (), *, looks: bool = False
) -> Iterator[Prepared]:
    """Every picture read, and decoded unless its digest is in `known`, by a pool of threads; in order.

    With `looks` those that are decoded come with theirs. Pictures from elsewhere are read by more threads, because they
    must be waited for, and not at all if what was read before is in `known`.

    Raises:
        DataError: pictures from elsewhere cannot be reached any more, see `headstart.pictures.elsewhere.Patience`.
    """
    patience, decoding = Patience(), Semaphore(core_count())

    def prepare_one(sample: Sample) -> Prepared:
        path = root / sample.path
        try:
            if known and (digest := known_digest(path)) in known:
                return Prepared(replace(sample, digest=digest))
            patience.check()
            data, digest = read(path)
            patience.note(path, None)
            sample = replace(sample, digest=digest)
            if digest in known:
                return Prepared(sample)
            with decoding:
                picture = decode(data, at_least=preprocess.at_least)
                seen = look(picture.pixels, data, picture.facts) if looks else None
                return Prepared(sample, preprocess.apply(picture.pixels), seen)
        except (PictureError, OSError) as error:
            patience.note(path, error)
            return Prepared(sample, problem=picture_problem(sample, error))

    waiting = iter(samples)
    first = list(itertools.islice(waiting, AHEAD))
    threads = READERS if any(is_elsewhere(root / sample.path) for sample in first) else core_count()
    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(pool, prepare_one, itertools.chain(first, waiting), AHEAD * core_count())


def embed(items: Iterator[Prepared], plan: EnginePlan, load: Callable[[], Engine]) -> Iterator[Prepared]:
    """The same items, those that were decoded now with their vectors; the engine is loaded when first needed."""
    engine: Engine | None = None

    def with_engine() -> Iterator[tuple[Engine | None, list[Prepared]]]:
        nonlocal engine
        while batch := list(itertools.islice(items, plan.batch)):
            if engine is None and any(item.pixels is not None for item in batch):
                engine = load()
            yield engine, batch

    with ThreadPoolExecutor(plan.lanes) as pool:
        for batch in in_order(pool, _embed_batch, with_engine(), 2 * plan.lanes):
            yield from batch


def _embed_batch(work: tuple[Engine | None, list[Prepared]]) -> list[Prepared]:
    engine, items = work
    pixels = [item.pixels for item in items if item.pixels is not None]
    if engine is None or not pixels:
        return items
    vectors = iter(engine.embed(np.stack(pixels)))
    return [item if item.pixels is None else replace(item, pixels=None, vector=next(vectors)) for item in items]


def _gather(store: Store, digests: tuple[str, ...]) -> tuple[NDArray[np.float32], Gathering, set[str]]:
    """The stored vectors of `digests` [n, d], their looks, and those digests that have not both."""
    vectors = scratch.empty((len(digests), store.dimension), np.float32)
    looks = Gathering(len(digests))
    for start in range(0, len(digests), ROWS_A_QUERY):
        part = digests[start : start + ROWS_A_QUERY]
        position = {digest: row for row, digest in enumerate(part, start)}
        for entry in store.entries(part):
            seen = from_stored(json.loads(entry.facts), entry.extra)
            if seen is not None:
                vectors[position[entry.digest]] = entry.vector
                looks.put(position[entry.digest], seen)
    missing = {digests[row] for row in np.flatnonzero(~looks.known).tolist()}
    return vectors, looks, missing
