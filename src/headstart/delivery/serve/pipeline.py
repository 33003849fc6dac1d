"""A loaded model at work for many callers: uploads decoded by a pool, embedded in batches, answered one by one."""

import time
from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.delivery import explain
from headstart.delivery.predictor import Predictor
from headstart.delivery.serve.batching import Batcher, Batching, settle
from headstart.delivery.serve.metrics import Metrics
from headstart.delivery.serve.uploads import Upload
from headstart.features.maps import is_pooled
from headstart.judging import saliency
from headstart.learning.classifier import DEFAULT, Asked, Prediction
from headstart.pictures.decode import PictureError, decode

WAIT_ON_GPU = 0.005  # seconds: there, a batch of 64 takes hardly longer than one picture

Answer = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Wanted:
    """A picture on its way: its name, what predictions are to promise, and the network's input uint8 [h, w, 3].

    `picture`, uint8, is there where its answer is to be explained: as it is shown.
    """

    name: str
    asked: Asked
    pixels: NDArray[np.uint8]
    picture: NDArray[np.uint8] | None
    since: float


class Pipeline:
    """Answers of one model, as `predict --format jsonl` gives them, from bytes."""

    def __init__(
        self, predictor: Predictor, pool: ThreadPoolExecutor, batching: Batching, most: int, metrics: Metrics
    ) -> None:
        """`pool` decodes, pictures of at most `most` pixels; `metrics` counts."""
        self.predictor, self._pool, self._most, self._metrics = predictor, pool, most, metrics
        backbone = predictor.classifier.backbone
        # Made now, as the model's files may be replaced later; other networks would need torch and gradients.
        self._draw = explain.drawer(predictor) if is_pooled(backbone.graph) else None
        self._batcher: Batcher[Wanted, Answer] = Batcher(self._answers, batching)

    @property
    def explains(self) -> bool:
        """Whether there are maps for this network."""
        return self._draw is not None

    def ask(self, upload: Upload, asked: Asked = DEFAULT, *, explained: bool = False) -> "Future[Answer]":
        """What the model says of the picture; with `explained` also its `overlay`, a PNG as a data URI."""
        answer: Future[Answer] = Future()
        waiting = [upload]
        answer.add_done_callback(lambda _: waiting.clear())  # cancelled, it is to hold its bytes no longer
        self._pool.submit(self._decode, waiting, asked, explained, answer)
        return answer

    def close(self) -> None:
        """End the threads; every answer must have been fetched."""
        self._batcher.close()

    def _decode(self, waiting: list[Upload], asked: Asked, explained: bool, answer: "Future[Answer]") -> None:
        try:
            upload = waiting.pop()
        except IndexError:
            return
        started, preprocess = time.perf_counter(), self.predictor.classifier.backbone.preprocess
        try:
            pixels = decode(upload.data, at_least=preprocess.at_least, most=self._most).pixels
            picture = explain.shown(pixels) if explained else None
            wanted = Wanted(upload.name, asked, preprocess.apply(pixels), picture, time.perf_counter())
        except PictureError as error:
            settle(answer, {**Prediction(upload.name, error=str(error)).to_json(), "kind": error.kind})
            return
        except Exception as error:  # noqa: BLE001 - the caller must hear of it
            settle(answer, error=error)
            return
        self._metrics.seconds("decode", wanted.since - started)
        self._batcher.put(wanted, answer)

    def _answers(self, batch: Sequence[Wanted]) -> list[Answer]:
        started = time.perf_counter()
        vectors = self.predictor.engine.embed(np.stack([one.pixels for one in batch]))
        said: list[Prediction] = []
        for asked, group in groupby(range(len(batch)), key=lambda row: batch[row].asked):
            rows = list(group)
            names = [batch[row].name for row in rows]
            said += self.predictor.classifier.predictions(names, vectors[rows], asked)
        answers = [self._explained(one, prediction) for one, prediction in zip(batch, said, strict=True)]
        self._metrics.seconds("network", time.perf_counter() - started)
        self._metrics.batch(len(batch), [started - one.since for one in batch])
        return answers

    def _explained(self, wanted: Wanted, said: Prediction) -> Answer:
        if wanted.picture is None or self._draw is None:
            return said.to_json()
        drawn = self._draw(said, wanted.pixels, wanted.picture)
        png = saliency.overlay_png(wanted.picture, cast(NDArray[np.float32], drawn.map))
        return {**said.to_json(), "overlay": f"data:image/png;base64,{b64encode(png).decode()}"}


def batching_for(predictor: Predictor, most: int | None, wait: float | None) -> Batching:
    """How batches are made for this model's device, where nothing else is asked for.

    A CPU takes pictures one by one, one on each core, and gains nothing by larger batches (see `OpenVinoEngine`): there
    nobody waits.
    """
    plan = predictor.plan
    default_wait = 0.0 if plan.device == "cpu" else WAIT_ON_GPU
    return Batching(plan.lanes, most or plan.batch, default_wait if wait is None else wait)


def warm_up(pipeline: Pipeline) -> None:
    """Ask for one whole answer, explained where possible, so that the first caller waits for nothing special."""
    import io

    preprocess = pipeline.predictor.classifier.backbone.preprocess
    buffer = io.BytesIO()
    Image.new("RGB", (preprocess.width, preprocess.height), (90, 120, 150)).save(buffer, format="PNG")
    pipeline.ask(Upload("warm-up", buffer.getvalue()), explained=pipeline.explains).result()
