import numpy as np
from PIL import Image

from headstart.delivery import sheet
from headstart.learning.classifier import Prediction
from tests import tiny


def said(path, label="amber", **more):
    return Prediction(str(path), label, 0.9, ((label, 0.9), ("blue", 0.1)), (label,), 0.5, False, **more)


def test_the_colour_says_whether_it_is_right():
    assert sheet.tile(said("a.png"), "amber").colour == sheet.GREEN
    assert sheet.tile(said("a.png"), "blue").colour == sheet.RED
    assert sheet.tile(said("a.png"), None).colour == sheet.INK
    assert sheet.tile(Prediction("a.png", error="empty file"), None).title == "unreadable"
    assert "truth: blue" in sheet.tile(said("a.png"), "blue").subtitle


def test_a_sheet_holds_every_picture_and_survives_unreadable_ones(tmp_path):
    tiny.draw(tmp_path / "wide.png", (200, 30, 30), 0, size=(300, 60))
    long_name = tmp_path / ("a very long name " * 5 + "é 日本.png")
    tiny.draw(long_name, (30, 30, 200), 1)
    paths = [tmp_path / "wide.png", long_name, tmp_path / "gone.png"] * 3
    sheet.draw([sheet.tile(said(path), None) for path in paths], tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as drawn:
        assert drawn.size == (
            5 * (sheet.CELL + sheet.GAP) + sheet.GAP,
            2 * (sheet.CELL + sheet.CAPTION + sheet.GAP) + 12,
        )
        pixels = np.asarray(drawn)
    middle = sheet.GAP + sheet.CELL // 2
    assert pixels[middle, middle, 0] > pixels[middle, middle, 2]


def test_an_empty_sheet_is_still_a_picture(tmp_path):
    sheet.draw([], tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as drawn:
        assert drawn.size[0] > 0


def test_line_breaks_in_names_do_not_stop_a_sheet(tmp_path):
    """Pillow draws and measures lines one by one; a name is one line whatever is in it."""
    odd = sheet.Tile(tmp_path / "gone.png", "two\nlines\r\n\u2028 \x00", "a\ud800b\tc " * 9, sheet.INK)
    sheet.draw([odd], tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 0
