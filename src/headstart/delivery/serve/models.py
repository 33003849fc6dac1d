"""The models that are served, by name: loaded, warmed up, and replaced when their files change."""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart import __version__
from headstart.delivery import artefact
from headstart.delivery.serve.metrics import Metrics
from headstart.delivery.serve.pipeline import Pipeline, batching_for, warm_up
from headstart.delivery.serve.room import Refused
from headstart.delivery.serve.settings import Settings
from headstart.errors import ModelError
from headstart.learning.classifier import COVERAGE
from headstart.parallel import core_count

LOOK_EVERY = 1.0  # seconds between two looks at the files of the models
_FACTS = ("backbone", "digests", "prediction_sets", "abstain", "none_of_these")
_HELD_BACK = ("confusion", "reliability")  # of the metrics: long

Signature = tuple[int, int, int]


@dataclass(eq=False)
class Model:
    """A model that is ready: `facts` describe it, `signature` identifies its files, `users` are requests under way."""

    name: str
    pipeline: Pipeline
    facts: dict[str, Any]
    signature: Signature
    users: int = 0


class Models:
    """The models by name; the first of the settings answers where none is asked for."""

    def __init__(self, settings: Settings, metrics: Metrics, warn: Callable[[str], None]) -> None:
        self._settings, self._metrics, self._warn = settings, metrics, warn
        self._models: dict[str, Model] = {}
        self._refused: dict[str, Signature] = {}
        self._pool = ThreadPoolExecutor(core_count(), "decode")

    @property
    def are_ready(self) -> bool:
        """Whether every model is loaded and has answered once."""
        return len(self._models) == len(self._settings.models)

    def facts(self) -> list[dict[str, Any]]:
        """What there is to know of each model, the default first."""
        return [self._models[name].facts for name, _ in self._settings.models if name in self._models]

    @contextmanager
    def use(self, name: str | None) -> Iterator[Model]:
        """The model called `name`, kept whole until the block is left, also when it is replaced meanwhile.

        Raises:
            Refused: there is no such model (404), or it is not ready yet (503).
        """
        known = [known for known, _ in self._settings.models]
        wanted = known[0] if name is None else name
        if wanted not in known:
            raise Refused(404, f"no model '{wanted[:100]}'; there are {', '.join(known)}.")
        if wanted not in self._models:
            raise Refused(503, "the model is being loaded; try again in 1 s.", retry_after=1)
        model = self._models[wanted]
        model.users += 1
        try:
            yield model
        finally:
            model.users -= 1

    async def load(self) -> None:
        """Load every model.

        Raises:
            HeadstartError: one of them cannot be loaded; the message says why.
        """
        for name, path in self._settings.models:
            self._models[name] = await asyncio.to_thread(self._load, name, path)

    async def watch(self) -> None:
        """Look after the files for ever: a model that changed is loaded beside the old one, then takes its place."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for name, path in self._settings.models:
                found = await asyncio.to_thread(_signature, path)
                if found not in (None, self._models[name].signature, self._refused.get(name)):
                    await self._reload(name, path)

    async def close(self) -> None:
        """End all threads; no request may be under way."""
        self._pool.shutdown()
        for model in self._models.values():
            await asyncio.to_thread(model.pipeline.close)

    async def _reload(self, name: str, path: Path) -> None:
        before = await asyncio.to_thread(_signature, path)
        try:
            new = await asyncio.to_thread(self._load, name, path)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the new one, the old one goes on
            if before is not None and before == await asyncio.to_thread(_signature, path):  # else: not complete yet
                self._refused[name] = before
                self._metrics.reload(name, "refused")
                self._warn(f"{name}: the model changed and cannot be loaded; the former one goes on. {error}")
            return
        old, self._models[name] = self._models[name], new
        self._metrics.reload(name, "loaded")
        while old.users:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(old.pipeline.close)

    def _load(self, name: str, path: Path) -> Model:
        settings = self._settings
        signature = _signature(path)
        predictor = artefact.load(path, settings.device, settings.precision)
        batching = batching_for(predictor, settings.batch, settings.batch_wait)
        pipeline = Pipeline(predictor, self._pool, batching, settings.limits.pixels, self._metrics)
        warm_up(pipeline)
        facts = _facts(name, path, pipeline)
        if signature is None or signature != _signature(path):
            pipeline.close()
            raise ModelError(f"the model in {path} changed while it was read; try again.")
        return Model(name, pipeline, facts, signature)


def _signature(path: Path) -> Signature | None:
    """What tells one state of a model's files from another; None where there is no model now."""
    try:
        status = (artefact.find(path) / artefact.FACTS).stat()
    except (ModelError, OSError):
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _facts(name: str, path: Path, pipeline: Pipeline) -> dict[str, Any]:
    folder, predictor = artefact.find(path), pipeline.predictor
    record = json.loads((folder / artefact.FACTS).read_text("utf-8"))
    return {
        "name": name,
        "classes": list(predictor.classes),
        **{key: record[key] for key in _FACTS},
        "coverage": COVERAGE,
        "engine": {"name": predictor.plan.name, "device": predictor.plan.device, "precision": predictor.plan.precision},
        "explains": pipeline.explains,
        "metrics": _metrics(folder.parent / "metrics.json") if folder.name == "model" else None,
        "version": __version__,
    }


def _metrics(path: Path) -> dict[str, Any] | None:
    """What the run says of the model's quality on held-out pictures, if it is there."""
    try:
        test = json.loads(path.read_text("utf-8"))["test"]
        return {key: value for key, value in test.items() if key not in _HELD_BACK}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
