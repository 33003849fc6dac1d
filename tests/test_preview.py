"""The sheet that shows an augmentation: which pictures, how many, the same bytes, and what the command says."""

import subprocess
import sys

import pytest
from PIL import Image

from headstart import cli, workflow
from headstart.delivery import preview
from headstart.errors import DataError, StorageError, UsageError
from headstart.learning.augment import policy_steps
from headstart.pictures.dataset import Dataset, Sample
from headstart.pictures.scan import scan
from tests import tiny


@pytest.fixture
def data(tmp_path):
    return tiny.class_folders(tmp_path / "photos", each=3)


@pytest.fixture
def check(monkeypatch, capsys, tmp_path, data):
    """Run `headstart check` on the pictures; gives (exit status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["headstart", "check", str(data), *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        captured = capsys.readouterr()
        return left.value.code or 0, captured.out, captured.err

    return command


def test_the_sheet_has_a_row_for_each_picture_and_the_same_bytes_again(data, tmp_path):
    for name in ("one", "two"):
        preview.draw(scan(data), preview.choose("gentle"), tmp_path / f"{name}.png")
    preview.draw(scan(data), preview.choose("gentle"), tmp_path / "other.png", seed=1)
    one, two, other = ((tmp_path / f"{name}.png").read_bytes() for name in ("one", "two", "other"))
    assert one == two != other
    with Image.open(tmp_path / "one.png") as sheet:
        assert sheet.width == preview.MARGIN + 8 * (preview.CELL + preview.GAP) + 2 * preview.GAP
        head = sheet.height - 6 * (preview.CELL + preview.GAP)
        assert 0 < head < preview.CELL
        middle = preview.CELL // 2
        for row, red_over_blue in enumerate([True, True, True, False, False, False]):
            down = head + row * (preview.CELL + preview.GAP) + middle
            for column in range(8):
                view = sheet.crop((preview._left(column) + 20, down - 20, preview._left(column) + 120, down + 20))
                red, _, blue = view.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
                assert (red > blue) == red_over_blue


def test_pictures_are_spread_over_the_classes_and_unreadable_ones_passed_over(tmp_path):
    samples = []
    for number in range(20):
        path = tmp_path / f"class {number:02}" / "1.png"
        tiny.draw(path, (number, 0, 0), number)
        samples.append(Sample(str(path.relative_to(tmp_path)), f"class {number:02}"))
    dataset = Dataset(tmp_path, (*samples, Sample("gone.png", "class 00")))
    labels = [sample.label for sample, _ in preview._rows(dataset, 64, 0)]
    assert labels == [f"class {number:02}" for number in (0, 2, 5, 7, 10, 12, 15, 17)]


def test_pictures_to_learn_from_are_shown_before_those_to_test_with(data):
    samples = [Sample(f"amber/0{n}.png", "amber", given="test" if n < 2 else "train") for n in range(3)]
    rows = preview._readable(Dataset(data, tuple(samples)), "amber", 64, 0)
    assert next(rows)[0].given == "train"


def test_without_pictures_there_is_no_sheet(tmp_path):
    with pytest.raises(DataError, match="no picture to preview"):
        preview.draw(Dataset(tmp_path, ()), preview.choose("none"), tmp_path / "sheet.png")


def test_a_place_that_cannot_be_written_is_named(data):
    with pytest.raises(StorageError, match=r"cannot write to .*00.png"):
        preview.draw(scan(data), preview.choose("none"), data / "amber" / "00.png" / "sheet.png")


def test_an_augmentation_is_a_policy_a_recipe_or_a_file(tmp_path):
    assert preview.choose("rich").steps == policy_steps("rich")
    assert preview.choose("classic-finetune").steps == policy_steps("crop-flip")
    assert preview.choose("classic-finetune").name == "classic-finetune, crop-flip"
    mine = tmp_path / "mine.toml"
    mine.write_text('augmentation = [ { name = "rotation", degrees = 5 } ]')
    assert preview.choose(str(mine)) == preview.Augmentation(
        "mine.toml", policy_steps([{"name": "rotation", "degrees": 5}])
    )
    with pytest.raises(UsageError, match="unknown augmentation 'gentel'; did you mean 'gentle'"):
        preview.choose("gentel")
    mine.write_text('augmentation = "gentel"')
    with pytest.raises(UsageError, match="did you mean 'gentle'"):
        preview.choose(str(mine))


def test_what_a_recipe_leaves_out_is_not_shown():
    sides = ["left", "right"]
    asked, (warning,) = preview.for_classes(preview.choose("gentle"), sides)
    assert asked == preview.choose("gentle")
    assert warning.endswith("'left', 'right'.")
    spared, (warning,) = preview.for_classes(preview.choose("last"), sides)
    assert "horizontal-flip" not in map(str, spared.steps)
    assert warning.endswith("The recipe leaves it out.")


def test_the_road(data, tmp_path):
    said = workflow.preview(scan(data), preview.choose("trivial"), tmp_path / "sheet.png")
    assert len(said) == 1
    assert "'amber', 'blue'" in said[0]
    assert (tmp_path / "sheet.png").is_file()


@pytest.mark.usefixtures("warm_cache")
def test_the_command_draws_and_advises(check, tmp_path):
    status, out, err = check("--preview-augmentation", "new/sheet.png", "--augmentation", "trivial")
    assert status == 0
    assert "rror" not in err
    assert "preview of the augmentation: new/sheet.png" in out
    assert "advice: trivial-augment may change the label" in out
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        assert sheet.format == "PNG"


def test_mistakes_are_answered_before_any_picture_is_read(check, tmp_path):
    status, out, err = check("--augmentation", "rich")
    assert (status, out) == (2, "")
    assert "--preview-augmentation" in err
    status, out, err = check("--preview-augmentation", "sheet.png", "--augmentation", "gentel")
    assert (status, out) == (2, "")
    assert "unknown augmentation 'gentel'" in err
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.usefixtures("warm_cache")
def test_checking_alone_loads_no_torch_once_the_backbone_is_converted(data):
    code = (
        f"import sys; sys.argv = ['headstart', 'check', {str(data)!r}]\nfrom headstart.cli import main\n"
        "try: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
