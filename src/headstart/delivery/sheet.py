"""A contact sheet: pictures drawn with what the classifier says of them, as one PNG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from headstart.learning.classifier import Prediction
from headstart.pictures.decode import PictureError, decode
from headstart.pictures.inspect import read
from headstart.storage import written_atomically

LIMIT = 200
CELL, CAPTION, GAP, COLUMNS = 200, 44, 12, 5
INK, GREY, GREEN, RED, FRAME, BLANK = "#1a1a1a", "#777777", "#1b7f3b", "#c22f2f", "#dddddd", "#f0f0f0"


@dataclass(frozen=True)
class Tile:
    """One picture of the sheet: the file, the two lines below it, and the colour of the first."""

    path: Path
    title: str
    subtitle: str
    colour: str


def tile(prediction: Prediction, truth: str | None) -> Tile:
    """The tile for a prediction: green where `truth` agrees, red where it does not, black where none is known."""
    path = Path(prediction.path)
    if prediction.error is not None:
        return Tile(path, "unreadable", path.name, RED)
    assert prediction.probability is not None
    said = f"{prediction.label}  {prediction.probability:.0%}"
    doubt = "none of these?  " if prediction.is_none_of_these else ""
    if truth is None:
        return Tile(path, said, f"{doubt}{path.name}", INK)
    return Tile(path, said, f"{doubt}truth: {truth}", GREEN if truth == prediction.label else RED)


def draw(tiles: Sequence[Tile], path: Path) -> None:
    """Write the sheet of `tiles`, at most `LIMIT` of them, to the PNG file `path`."""
    tiles = tiles[:LIMIT]
    columns = min(COLUMNS, max(1, len(tiles)))
    rows = max(1, math.ceil(len(tiles) / columns))
    step_across, step_down = CELL + GAP, CELL + CAPTION + GAP
    sheet = Image.new("RGB", (columns * step_across + GAP, rows * step_down + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for number, one in enumerate(tiles):
        left, top = GAP + number % columns * step_across, GAP + number // columns * step_down
        sheet.paste(framed(_picture(one.path), CELL), (left, top))
        write(pen, (left, top + CELL + 4), one.title, 16, one.colour)
        write(pen, (left, top + CELL + 25), one.subtitle, 13, GREY)
    with written_atomically(path) as temporary:
        sheet.save(temporary, format="PNG")


def framed(picture: Image.Image | None, cell: int) -> Image.Image:
    """`picture`, as large as fits into a square cell of `cell` pixels; an empty cell without one."""
    tile = Image.new("RGB", (cell, cell), BLANK)
    if picture is not None:
        picture = ImageOps.contain(picture, (cell, cell), Image.Resampling.BICUBIC)
        tile.paste(picture, ((cell - picture.width) // 2, (cell - picture.height) // 2))
    ImageDraw.Draw(tile).rectangle((0, 0, cell - 1, cell - 1), outline=FRAME)
    return tile


def write(
    pen: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, size: int, colour: str, *, width: int = CELL
) -> None:
    """Write one line from `corner` on, shortened to `width` pixels; line breaks and the like become spaces."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    font = ImageFont.load_default(size)
    while len(text) > 1 and pen.textlength(text, font) > width:
        text = text[:-2] + "…"
    pen.text(corner, text, colour, font)


def _picture(path: Path) -> Image.Image | None:
    try:
        return Image.fromarray(decode(read(path)[0], at_least=CELL).pixels)
    except (PictureError, OSError):
        return None
