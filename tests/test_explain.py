"""Predictions explained: the same predictions, a PNG for each, names that cannot collide."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from headstart.delivery import artefact, explain
from headstart.delivery.run_folder import TrainOptions
from headstart.errors import UsageError
from headstart.workflow import train
from tests import tiny


@pytest.fixture
def run(tmp_path):
    data = tiny.class_folders(tmp_path / "photos")
    options = TrainOptions(backbone="tiny", weights=tiny.install(tmp_path), device="cpu")
    train(data, tmp_path / "run", options)
    return tmp_path / "run"


@pytest.fixture
def predictor(run):
    return artefact.load(run, "cpu")


@pytest.fixture
def pictures(tmp_path):
    tiny.draw(tmp_path / "some" / "wide.png", tiny.HUES["amber"], 1, size=(900, 300))
    tiny.draw(tmp_path / "some" / "tall.jpg", tiny.HUES["blue"], 2, size=(60, 200))
    (tmp_path / "some" / "broken.png").write_bytes(b"nothing")
    return [str(tmp_path / "some" / name) for name in ("wide.png", "broken.png", "tall.jpg")]


def test_each_picture_comes_with_its_prediction_and_its_map(predictor, pictures):
    made = list(explain.explain(predictor, pictures))
    assert [one.prediction for one in made] == predictor.predict(pictures)
    wide, broken, tall = made
    assert wide.picture.shape == (149, 448, 3)
    assert tall.picture.shape == (448, 134, 3)
    for one in (wide, tall):
        assert one.map.shape == one.picture.shape[:2] == one.overlay.shape[:2]
        assert 0 <= np.nanmin(one.map) <= np.nanmax(one.map) <= 1
        assert np.isnan(one.map).any()  # a crop of an oblong picture
    assert broken.prediction.error is not None
    assert broken.picture is broken.map is broken.overlay is None


def test_a_contrast_shows_what_tells_two_classes_apart(predictor, pictures):
    towards = []
    classifier = predictor.classifier

    def spy(_, direction):
        towards.append(direction)
        return np.ones((2, 2), np.float32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explain.saliency, "mapper", lambda *_: spy)
        list(explain.explain(predictor, pictures[:1], against="blue"))
        list(explain.explain(predictor, pictures[:1], against="amber"))
    assert towards[0].tolist() == (classifier.weight[0] - classifier.weight[1]).tolist()
    assert towards[1].tolist() == classifier.weight[0].tolist()
    with pytest.raises(UsageError, match=r"does not know the class 'red'\. It knows amber, blue"):
        next(explain.explain(predictor, pictures, against="red"))


def test_a_png_shows_picture_and_overlay_side_by_side(predictor, pictures):
    (one,) = explain.explain(predictor, pictures[:1])
    with Image.open(io.BytesIO(explain.to_png(one))) as drawn:
        pixels = np.asarray(drawn)
    gap, height, width = explain.GAP, *one.map.shape
    assert (pixels[gap : gap + height, gap : gap + width] == one.picture).all()
    assert (pixels[gap : gap + height, 2 * gap + width : 2 * gap + 2 * width] == one.overlay).all()
    assert (pixels[gap + height :] < 128).any()  # the text


@pytest.mark.parametrize(
    "path",
    ["a.png", "/", "..", "../../etc/passwd", "é日本.jpg", "x" * 300, "new\nline.png", "CON.jpg", ".hidden", "a/.b"],
)
def test_names_stay_inside_the_folder(path):
    name = explain.name_of(path)
    assert name.isascii()
    assert len(name) < 80
    assert name.endswith(".png")
    assert not name.startswith((".", "-"))
    assert os.path.basename(name) == name
    assert all(letter.isalnum() or letter in "-." for letter in name)


def test_paths_that_look_alike_have_names_of_their_own():
    paths = ["a/b.png", "a/b.jpg", "a-b.png", "A/b.png", "c/a/b.png", "a/b .png", "a/é.png", "a/è.png"]
    names = [explain.name_of(path).lower() for path in paths]
    assert len(set(names)) == len(paths)


def test_predict_writes_a_png_for_each_readable_picture(headstart, run, pictures, tmp_path):
    folder = tmp_path / "why"
    folder.mkdir()
    (folder / "mine.txt").write_text("stays")
    plain = headstart("predict", run, *pictures, "--format", "jsonl")
    explaining = headstart("predict", run, *pictures, "--format", "jsonl", "--explain", folder)
    assert explaining == plain
    assert plain[0] == 1  # for the broken one
    drawn = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    assert drawn.keys() == {explain.name_of(pictures[0]), explain.name_of(pictures[2])}
    headstart("predict", run, *pictures, "--explain", folder)
    assert {path.name: path.read_bytes() for path in folder.glob("*.png")} == drawn
    assert (folder / "mine.txt").read_text() == "stays"
    assert len(list(folder.iterdir())) == 3


def test_a_folder_that_cannot_be_is_one_message(headstart, run, pictures, tmp_path):
    (tmp_path / "why").write_text("a file")
    status, _, err = headstart("predict", run, pictures[0], "--explain", tmp_path / "why")
    assert status == 1
    assert "cannot write to" in err


def test_a_picture_that_vanishes_on_the_way_is_an_error(predictor, pictures, tmp_path):
    said = predictor.predict(pictures[:1])
    os.unlink(pictures[0])
    (left,) = explain.drawn(predictor, said, tmp_path / "why")
    assert left.error == "there is no such file, or no longer"
    assert not (tmp_path / "why").exists()


def test_names_with_line_breaks_are_drawn(predictor, tmp_path):
    path = tmp_path / "new\nline.png"
    tiny.draw(path, tiny.HUES["blue"], 3)
    list(explain.drawn(predictor, predictor.predict([path]), tmp_path / "why"))
    assert (tmp_path / "why" / explain.name_of(str(path))).is_file()
