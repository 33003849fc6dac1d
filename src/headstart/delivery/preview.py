"""A contact sheet of an augmentation: pictures beside what a network would be shown of them, as one PNG."""

import difflib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from headstart.delivery.sheet import GAP, GREY, INK, framed, write
from headstart.errors import DataError, UsageError
from headstart.learning.augment import POLICIES, Step, build, policy_steps, seeded, smallest_crop
from headstart.learning.label_safety import advice, suited
from headstart.learning.recipes import RECIPES, load_recipe
from headstart.pictures.dataset import Dataset, Sample
from headstart.pictures.decode import PictureError, decode
from headstart.pictures.inspect import read
from headstart.storage import written_atomically

DEFAULT = "gentle"
PICTURES, VIEWS = 8, 7
SIDE = 224  # pixels of what the network is shown; the sheet shows it smaller
CELL, MARGIN = 148, 150
_TITLE, _LINE = 20, 18  # pixels


@dataclass(frozen=True)
class Augmentation:
    """The steps of a policy, under the name by which a person asked for it.

    `spare_labels`: the recipe leaves out what may change the labels (see `learning.label_safety`).
    """

    name: str
    steps: tuple[Step, ...]
    spare_labels: bool = False


def choose(name: str) -> Augmentation:
    """The augmentation of that name: a policy, or the one of a recipe or of a recipe's TOML file.

    Raises:
        UsageError: there is no such policy, recipe or file, or the file cannot be used.
    """
    if name in POLICIES:
        return Augmentation(name, policy_steps(name))
    if name not in RECIPES and not name.endswith(".toml"):
        near = difflib.get_close_matches(name, [*POLICIES, *RECIPES], n=1, cutoff=0.5)
        guess = f"; did you mean '{near[0]}'?" if near else "."
        raise UsageError(
            f"unknown augmentation '{name}'{guess} There are the policies {', '.join(POLICIES)}, those of the recipes "
            f"{', '.join(RECIPES)}, and those of .toml files."
        )
    recipe = load_recipe(name)
    policy = f", {recipe.augmentation}" if isinstance(recipe.augmentation, str) else ""
    return Augmentation(f"{Path(name).name}{policy}", policy_steps(recipe.augmentation), recipe.spare_labels)


def for_classes(augmentation: Augmentation, classes: Sequence[str]) -> tuple[Augmentation, list[str]]:
    """The augmentation that pictures of these classes are given, and what a person should mind about it."""
    warnings = advice(augmentation.steps, classes)
    if not augmentation.spare_labels:
        return augmentation, warnings
    spared = replace(augmentation, steps=suited(augmentation.steps, classes))
    return spared, [f"{sentence} The recipe leaves it out." for sentence in warnings]


def draw(dataset: Dataset, augmentation: Augmentation, path: Path, *, seed: int = 0) -> None:
    """Write the sheet to the PNG file `path`: a row for each of up to `PICTURES` pictures, `VIEWS` draws in each.

    The pictures are spread over the classes. The same pictures, augmentation and seed give the same bytes.

    Raises:
        DataError: none of the pictures can be read.
        StorageError: the file cannot be written.
    """
    at_least = 2 * math.ceil(SIDE / smallest_crop(augmentation.steps))
    rows = _rows(dataset, at_least, seed)
    if not rows:
        raise DataError(f"there is no picture to preview an augmentation on in {dataset.root}.")
    sheet, pen, top = _headed(augmentation, len(rows))
    for number, (sample, picture) in enumerate(rows):
        down = top + number * (CELL + GAP)
        write(pen, (GAP, down + 2), sample.label, 16, INK, width=MARGIN - GAP)
        write(pen, (GAP, down + 24), Path(sample.path).name, 12, GREY, width=MARGIN - GAP)
        for column, view in enumerate(_views(picture, augmentation.steps, (seed, number))):
            sheet.paste(framed(view, CELL), (_left(column), down))
    with written_atomically(path) as temporary:
        sheet.save(temporary, format="PNG")


def _headed(augmentation: Augmentation, rows: int) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
    """A sheet that says what it shows, its pen, and where the first of the `rows` begins."""
    width = _left(1 + VIEWS)
    described = _wrapped(", ".join(map(str, augmentation.steps)) or "no steps", width - 2 * GAP)
    below = GAP + _TITLE + 8 + len(described) * _LINE
    top = below + _LINE + GAP
    sheet = Image.new("RGB", (width, top + rows * (CELL + GAP)), "white")
    pen = ImageDraw.Draw(sheet)
    write(pen, (GAP, GAP), f"augmentation: {augmentation.name}", _TITLE, INK, width=width - 2 * GAP)
    for number, line in enumerate(described):
        write(pen, (GAP, GAP + _TITLE + 8 + number * _LINE), line, 14, GREY, width=width - 2 * GAP)
    write(pen, (_left(0), below + 9), "the picture", 13, GREY)
    write(
        pen, (_left(1), below + 9), f"what the network may be shown, at {SIDE} x {SIDE} pixels", 13, GREY, width=width
    )
    return sheet, pen, top


def _left(column: int) -> int:
    """Where a column of pictures begins; the original stands a little apart from its versions."""
    return GAP + MARGIN + column * (CELL + GAP) + (GAP if column else 0)


def _views(picture: Image.Image, steps: Sequence[Step], seed: tuple[int, int]) -> Iterator[Image.Image]:
    """The picture, then its augmented versions."""
    transform = build(steps, SIDE)
    yield picture
    for draw_seed in np.random.default_rng([*seed, *b"preview"]).integers(2**32, size=VIEWS):
        yield Image.fromarray(seeded(transform, picture, int(draw_seed)).permute(1, 2, 0).numpy())


def _rows(dataset: Dataset, at_least: int, seed: int) -> list[tuple[Sample, Image.Image]]:
    """Readable pictures in the order of their paths, drawn in turn from each of up to `PICTURES` classes."""
    classes = dataset.classes
    shown = [classes[number * len(classes) // PICTURES] for number in range(PICTURES)] if classes else []
    waiting = {label: _readable(dataset, label, at_least, seed) for label in dict.fromkeys(shown)}
    rows: list[tuple[Sample, Image.Image]] = []
    while waiting and len(rows) < PICTURES:
        for label in list(waiting):
            found = next(waiting[label], None)
            if found is None:
                del waiting[label]
            elif len(rows) < PICTURES:
                rows.append(found)
    return sorted(rows, key=lambda row: (row[0].label, row[0].path))


def _readable(dataset: Dataset, label: str, at_least: int, seed: int) -> Iterator[tuple[Sample, Image.Image]]:
    """The readable pictures of a class, shuffled, those to learn from first; each is read when it is asked for."""
    samples = [sample for sample in dataset.samples if sample.label == label]
    order = np.random.default_rng([seed, *b"pictures"]).permutation(len(samples))
    for number in sorted(order, key=lambda number: samples[number].given not in (None, "train")):
        sample = samples[number]
        try:
            yield sample, Image.fromarray(decode(read(dataset.locate(sample))[0], at_least=at_least).pixels)
        except (PictureError, OSError):
            continue  # `check` has named it


def _wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` pixels, broken between words."""
    font = ImageFont.load_default(14)
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
