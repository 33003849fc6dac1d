"""Learning curves: a whole PNG picture, the same for the same history."""

import numpy as np
import pytest
from PIL import Image

from headstart.delivery.curves import CURVES, TRAIN, VALIDATION, draw_curves
from headstart.learning.history import Epoch

pytest.importorskip("matplotlib")


def history(number, val_loss=1.3):
    return [Epoch(n, 0.1, 1 / n, 1 - 0.5 / n, val_loss / n, 1 - 0.6 / n, 2.0) for n in range(1, number + 1)]


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def shown(picture, colour):
    """How many pixels have `colour`, "#rrggbb"."""
    return int((picture == [int(colour[place : place + 2], 16) for place in (1, 3, 5)]).all(2).sum())


@pytest.mark.parametrize("epochs", [1, 2, 12])
def test_both_curves_are_drawn_for_any_number_of_epochs(tmp_path, epochs):
    path = tmp_path / "run" / CURVES
    draw_curves(history(epochs), path)
    picture = pixels(path)
    assert picture.shape == (480, 1200, 3)
    for half in (picture[:, :600], picture[:, 600:]):
        assert shown(half, TRAIN) > 5
        assert shown(half, VALIDATION) > 5
    assert list(path.parent.iterdir()) == [path]


def test_the_same_history_gives_the_same_bytes_and_another_gives_others(tmp_path):
    draw_curves(history(4), tmp_path / "a.png")
    draw_curves(history(4), tmp_path / "b.png")
    draw_curves(history(4, val_loss=1.5), tmp_path / "c.png")
    first, second, other = (tmp_path.joinpath(name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert first == second != other
