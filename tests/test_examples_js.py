"""The JavaScript example answers what `headstart predict` answers, on node with packages from the npm registry."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from headstart.cli import app
from headstart.delivery.export.exporting import export
from headstart.delivery.run_folder import TrainOptions
from headstart.workflow import train

from . import tiny

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPT = "with_onnx_runtime.mjs"
UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ETIMEDOUT", "ECONNREFUSED", "ECONNRESET", "ENETUNREACH")

# Two decoders and two ways to add up: measured on 25 held-out photos, no probability differed by more than 0.00025, on
# these pictures by 0.0005. Another filter changes them by 0.001 and more.
TOLERANCE = 0.001

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the example and its packages; skips where node or the registry is absent."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    folder = tmp_path_factory.mktemp("javascript")
    for name in (SCRIPT, "package.json"):
        shutil.copy(EXAMPLES / name, folder)
    command = ["npm", "install", "--no-audit", "--no-fund", "--fetch-retries=1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    if done.returncode and any(code in done.stderr for code in UNREACHABLE):
        pytest.skip(f"the npm registry cannot be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module", params=["crop", "squish", "pad"])
def exported(request, tmp_path_factory):
    """A run whose pictures are fitted in one of the ways, and its ONNX export."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(folder / "cache"))
        options = TrainOptions(backbone="tiny", weights=tiny.install(folder), device="cpu", fit=request.param)
        train(tiny.class_folders(folder / "photos"), folder / "run", options)
        export(folder / "run", "onnx", folder / "onnx")
    return folder / "run", folder / "onnx"


@pytest.fixture
def pictures(tmp_path):
    """New pictures: a plain one, small and large, grey, transparent, a JPEG, and an upright one stored lying down."""
    folder = tmp_path / "new"
    for number, size in enumerate([(48, 40), (32, 32), (17, 61), (411, 300)]):
        tiny.draw(folder / f"{number}.png", tiny.HUES["amber" if number % 2 else "blue"], 9000 + number, size)
    drawn = Image.open(folder / "3.png")
    drawn.convert("L").save(folder / "grey.png")
    drawn.save(folder / "photo.jpg", quality=90)
    exif = Image.Exif()
    exif[0x0112] = 6
    stripes = np.arange(90)[:, None, None] // 6 % 2 * 200 + np.zeros((90, 50, 3))
    Image.fromarray(stripes.astype(np.uint8)).save(folder / "lying.jpg", exif=exif, quality=95)
    clear = drawn.convert("RGBA")
    clear.putalpha(90)
    clear.save(folder / "clear.png")
    return sorted(folder.iterdir())


def test_it_answers_as_predict_does(installed, exported, pictures):
    run, onnx = exported
    command = ["node", SCRIPT, str(onnx), *map(str, pictures)]
    done = subprocess.run(command, cwd=installed, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said = [line.split("\t") for line in done.stdout.splitlines()]
    asked = ["predict", str(run), *map(str, pictures), "--format", "jsonl", "--device", "cpu", "--precision", "f32"]
    told = CliRunner().invoke(app, asked)
    expected = [json.loads(line) for line in told.stdout.splitlines()]
    assert len(said) == len(expected) == len(pictures)
    for (path, label, probability), one in zip(said, expected, strict=True):
        assert (path, label) == (one["path"], one["label"])
        assert float(probability) == pytest.approx(one["probability"], abs=TOLERANCE), path


def test_its_packages_are_pinned():
    wanted = json.loads((EXAMPLES / "package.json").read_text("utf-8"))["dependencies"]
    assert set(wanted) == {"onnxruntime-web", "sharp"}
    assert all(version[0].isdigit() for version in wanted.values())
