"""Predictions explained: each picture beside a map of what speaks for its class, one PNG a picture."""

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from headstart.delivery.predictor import Predictor
from headstart.delivery.sheet import GAP, GREY, INK, write
from headstart.errors import UsageError
from headstart.judging import saliency
from headstart.learning.classifier import Prediction
from headstart.parallel import core_count, in_order
from headstart.pictures.dataset import Sample
from headstart.pictures.decode import PictureError, decode
from headstart.pictures.inspect import picture_problem, read
from headstart.storage import written_atomically

SIDE = 448  # pixels of the longer side of a picture as it is shown
NARROWEST = 300  # pixels of a column, for the text below
AHEAD = 4  # pictures under way for each thread
NAME_LENGTH = 60
_LINE, _CAPTION, _KEY = 22, 48, 96  # pixels

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Explained:
    """A prediction with the picture as it is shown and a map of the evidence for the class, which fits over it.

    `picture`: uint8 [h, w, 3], upright, its longer side at most `SIDE` pixels. `map`: float32 [h, w], 0..1, NaN where
    the picture lies outside of what the network sees. Both None where the picture could not be read.
    """

    prediction: Prediction
    picture: NDArray[np.uint8] | None = None
    map: NDArray[np.float32] | None = None

    @property
    def overlay(self) -> NDArray[np.uint8] | None:
        """The picture under the colours of the map, uint8 [h, w, 3]."""
        if self.picture is None or self.map is None:
            return None
        return saliency.overlay(self.picture, self.map)


def explain(predictor: Predictor, pictures: Iterable[str | Path], against: str | None = None) -> Iterator[Explained]:
    """What the classifier says of the picture files and where it sees it, in order and with flat memory.

    Args:
        predictor: a loaded model.
        pictures: paths of picture files; may be endless.
        against: the name of a class: maps then show what tells the predicted class from it. Of a picture that is
            predicted to be of that class they show the evidence for it.

    Raises:
        UsageError: there is no such class.
        BackboneError: the network has no maps (see `saliency.gradient_map`).
    """
    return explained(predictor, predictor.stream(pictures), against)


def explained(
    predictor: Predictor, predictions: Iterable[Prediction], against: str | None = None
) -> Iterator[Explained]:
    """`explain`, of predictions that were made already: their pictures are read again."""
    explain_one = _explainer(predictor, against)
    with ThreadPoolExecutor(core_count()) as pool:
        yield from in_order(pool, explain_one, predictions, AHEAD * core_count())


def drawn(predictor: Predictor, predictions: Iterable[Prediction], folder: Path) -> Iterator[Prediction]:
    """The same predictions, each drawn into a PNG of its own in `folder` before it is yielded.

    A file's name follows from the picture's path alone (see `name_of`): a second run replaces what the first has
    drawn, and nothing else. A picture that can no longer be read comes with the error.

    Raises:
        StorageError: the folder cannot be written to.
    """
    explain_one = _explainer(predictor, None)

    def draw_one(said: Prediction) -> Prediction:
        one = explain_one(said)
        if one.picture is not None:
            with written_atomically(folder / name_of(said.path)) as temporary:
                temporary.write_bytes(to_png(one))
        return one.prediction

    with ThreadPoolExecutor(core_count()) as pool:
        yield from in_order(pool, draw_one, predictions, AHEAD * core_count())


def name_of(path: str) -> str:
    """The name of the PNG for the picture at `path`: what can be read of its folder and name, and a digest of the path.

    >>> name_of("photos/ants/0013.jpg")
    'ants-0013-d9cd419e.png'
    """
    place = Path(path)
    plain = "-".join(part for part in (place.parent.name, place.stem) if part)
    safe = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in plain)
    digest = sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{safe[-NAME_LENGTH:].strip('-') or 'picture'}-{digest}.png"


def to_png(one: Explained) -> bytes:
    """The picture beside its overlay, with what is said of it below, as the bytes of a PNG."""
    assert one.picture is not None
    assert one.overlay is not None
    assert one.map is not None
    said, (height, width) = one.prediction, one.map.shape
    column = max(width, NARROWEST)
    sheet = Image.new("RGB", (2 * column + 3 * GAP, height + _CAPTION + 2 * GAP), "white")
    pen, below = ImageDraw.Draw(sheet), GAP + height + 6
    lefts = GAP, column + 2 * GAP
    for left, pixels in zip(lefts, (one.picture, one.overlay), strict=True):
        sheet.paste(Image.fromarray(pixels), (left + (column - width) // 2, GAP))
    doubt = "   none of these?" if said.is_none_of_these else ""
    write(pen, (lefts[0], below), _line(f"{said.label}  {said.probability:.1%}{doubt}"), 16, INK, width=column)
    write(pen, (lefts[0], below + _LINE), _line(said.path), 13, GREY, width=column)
    _draw_key(sheet, (lefts[1], below + 3))
    speaks = _line(f"speaks for: {said.label}")
    write(pen, (lefts[1] + _KEY + 8, below), speaks, 16, INK, width=column - _KEY - 8)
    if np.isnan(one.map).any():
        write(pen, (lefts[1], below + _LINE), "faded: the network does not see it", 13, GREY, width=column)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def drawer(predictor: Predictor, against: str | None = None) -> Callable[[Prediction, Pixels, Pixels], Explained]:
    """What adds the map to a prediction, given the network's input and the picture as it is shown.

    The input is what `Preprocess.apply` gives, uint8 [height, width, 3]; the picture is what `shown` gives. Callable
    from several threads. See `explain` for `against` and the errors.
    """
    classes, classifier = list(predictor.classes), predictor.classifier
    if against is not None and against not in classes:
        raise UsageError(f"the model does not know the class '{against}'. It knows {', '.join(classes[:10])}.")
    make_map, preprocess = saliency.mapper(classifier.backbone, predictor.plan), classifier.backbone.preprocess

    def draw(said: Prediction, pixels: Pixels, picture: Pixels) -> Explained:
        other = None if against in (None, said.label) else classes.index(str(against))
        towards = saliency.direction(classifier.weight, classes.index(str(said.label)), other)
        evidence = saliency.normalised(make_map(pixels, towards))
        height, width = picture.shape[:2]
        return Explained(said, picture, saliency.placed(evidence, preprocess, width, height))

    return draw


def shown(pixels: Pixels) -> Pixels:
    """The picture as it is shown: no side is longer than `SIDE`, and none is shorter than one pixel."""
    picture = Image.fromarray(pixels)
    ratio = SIDE / max(picture.size)
    size = max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio))
    method = Image.Resampling.BICUBIC if ratio < 1 else Image.Resampling.NEAREST
    return np.asarray(picture.resize(size, method))


def _explainer(predictor: Predictor, against: str | None) -> Callable[[Prediction], Explained]:
    """What explains one prediction, whose picture is read again; callable from several threads."""
    draw, preprocess = drawer(predictor, against), predictor.classifier.backbone.preprocess

    def explain_one(said: Prediction) -> Explained:
        if said.error is not None or said.label is None:
            return Explained(said)
        try:
            pixels = decode(read(Path(said.path))[0], at_least=preprocess.at_least).pixels
        except (PictureError, OSError) as error:
            problem = picture_problem(Sample(said.path, label=""), error)
            return Explained(Prediction(said.path, error=problem.detail))
        return draw(said, preprocess.apply(pixels), shown(pixels))

    return explain_one


def _draw_key(sheet: Image.Image, corner: tuple[int, int]) -> None:
    """The map's colours from 0 to 1, as they look over a middle grey."""
    values = np.broadcast_to(np.linspace(0, 1, _KEY, dtype=np.float32), (12, _KEY))
    grey = np.full((12, _KEY, 3), 128, dtype=np.uint8)
    sheet.paste(Image.fromarray(saliency.overlay(grey, values)), corner)


def _line(text: str) -> str:
    """`text`, which may come from a file's name, as one line."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
