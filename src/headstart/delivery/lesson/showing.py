"""The page of one network: its layers, filters, maps and fields on a photo, and the parts of its training."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart import __version__
from headstart.delivery.lesson.anatomy import HEADER, Anatomy, cells
from headstart.delivery.lesson.drawing import (
    Drawing,
    as_drawing,
    draw_field,
    draw_filters,
    draw_map,
    draw_maps,
    pooled,
)
from headstart.features import insight, networks
from headstart.features.backbones import Backbone
from headstart.features.layers import WEIGHTED, Layer
from headstart.features.networks import Network
from headstart.judging.report.base import build
from headstart.learning import loop, optimise
from headstart.storage import written_atomically

MOST_FILTERS, MOST_MAPS = 64, 12
POOLED = 4  # the window of the pooling that is shown
ENOUGH = 0.9  # of what moves a unit: how wide the square would be that held so much

NAMES = {
    "layers": "What it is made of",
    "filters": "What it looks for first",
    "maps": "What it makes of a photo",
    "pooling": "What pooling does",
    "field": "How far it sees",
    "ways": "Short and long ways",
    "training": "What a training is made of",
}


@dataclass(frozen=True)
class Stage:
    """A resolution of the network: its last layer there, its maps of the photo, and what its middle unit sees."""

    layer: Layer
    maps: Drawing
    field: Drawing
    side: int


@dataclass(frozen=True)
class Part:
    """A part of a training: what it is, and the line of headstart that makes it."""

    name: str
    words: str
    where: str
    code: str


@dataclass(frozen=True)
class Sections:
    """What stands in the page, by section."""

    layers: tuple[tuple[str, ...], ...]
    filters: Drawing | None
    maps: tuple[Stage, ...]
    pooling: tuple[Drawing, ...]
    field: tuple[Stage, ...]
    ways: tuple[int, int, int]
    training: tuple[Part, ...]


def write_page(path: Path, found: Anatomy, backbone: Backbone, photo: NDArray[np.uint8]) -> Path:
    """Write the page of `backbone`, whose layers are `found`, looking at `photo` uint8 [h, w, 3]; returns `path`.

    Raises:
        StorageError: the page cannot be written.
    """
    network = networks.build(networks.facts(backbone.name), backbone.tensors, backbone.preprocess)
    pixels = np.asarray(backbone.preprocess.apply(photo))
    shown = insight.stages(found.layers)
    maps = insight.maps(network, pixels, [layer.name for layer in shown])
    filters = insight.first_filters(network)
    stages = tuple(_stage(network, layer, maps[layer.name], pixels) for layer in shown)
    weighted = [layer for layer in found.layers if layer.kind in WEIGHTED]
    sections = Sections(
        layers=tuple(map(cells, found.layers)),
        filters=draw_filters(filters, MOST_FILTERS) if len(filters) and filters.shape[2] > 1 else None,
        maps=stages,
        pooling=tuple(_pooling(maps[shown[0].name])) if shown else (),
        field=tuple(stage for stage in stages if stage.layer.field or stage.layer.sees_all),
        ways=(found.layers[-1].fewest, found.layers[-1].most, len(weighted)),
        training=tuple(_parts()),
    )
    page = build(
        "lesson.html.jinja",
        {"pictures": {}, "cells": [], "points": []},
        sheets=("lesson.css",),
        kind="lesson",
        title=found.name,
        names=NAMES,
        sections=sections,
        family="lesson_",
        header=HEADER,
        found=found,
        licence=backbone.licence,
        photo=as_drawing(pixels, "the photo as the network gets it"),
        version=__version__,
        source="Every number and picture was computed from the network itself.",
    )
    with written_atomically(path) as temporary:
        temporary.write_text(page, "utf-8", newline="\n")
    return path


def _stage(network: Network, layer: Layer, maps: NDArray[np.float32], pixels: NDArray[np.uint8]) -> Stage:
    mirrored = np.stack([pixels, pixels[:, ::-1]])
    effective = insight.effective_field(network, layer.name, mirrored)
    words = f"the {min(MOST_MAPS, len(maps))} liveliest of {len(maps)} maps after {layer.name}"
    heaviest = np.sort(effective.ravel())[::-1].cumsum()
    side = round(float(np.sqrt(np.searchsorted(heaviest, ENOUGH) + 1)))
    return Stage(layer, draw_maps(maps, MOST_MAPS, words), draw_field(pixels, layer, effective), side)


def _pooling(maps: NDArray[np.float32]) -> Iterator[Drawing]:
    """One of the first maps, as it is, and after both kinds of pooling."""
    liveliest = maps[int(maps.reshape(len(maps), -1).std(axis=1).argmax())]
    height, width = liveliest.shape
    yield as_drawing(draw_map(liveliest), f"as it is, {height} x {width}")
    for how in ("max", "mean"):
        coarse = pooled(liveliest, POOLED, how)
        yield as_drawing(draw_map(coarse), f"{how} of {POOLED} x {POOLED}, {coarse.shape[0]} x {coarse.shape[1]}")


def _parts() -> Iterator[Part]:
    """The lines of headstart's own loop that make each part."""
    kinds = (
        ("model", "the network, which gives every class a score", loop, "logits = training.model("),
        ("criterion", "how wrong the scores are, as one number", optimise, "return functional.cross_entropy("),
        ("gradient", "how that number would change with each weight", loop, "accelerator.backward("),
        ("optimiser", "how far each weight goes against its gradient", optimise, "return torch.optim.SGD("),
        ("step", "the weights are moved", loop, "training.optimiser.step()"),
        ("schedule", "how the steps get shorter over the epochs", optimise, "lr_scheduler.StepLR("),
    )
    for name, words, module, needle in kinds:
        for number, line in enumerate(inspect.getsource(module).splitlines(), 1):
            if needle in line:
                where = f"src/{module.__name__.replace('.', '/')}.py, line {number}"
                yield Part(name, words, where, line.strip().partition("  #")[0])
                break
