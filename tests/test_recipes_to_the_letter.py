"""Every recipe, epoch by epoch, against a plain PyTorch script that was written apart (tests/plain_recipe.py).

On every fourth picture of sloth_pain; HEADSTART_EVERY=1 takes all of them, and some ten minutes.
"""

import csv
import os
import shutil

import pytest

from headstart.delivery.run_folder import TrainOptions
from headstart.workflow import train
from tests import plain_recipe

# Relative, epoch by epoch. Training: float32 sums in another order, which batch norm on four pictures then amplifies.
# Validation: besides, large photos are decoded at a reduced scale, as `predict` does it.
TRAIN_TOLERANCE, VAL_TOLERANCE = (1e-3, 1e-2), (2e-2, 5e-2)
EPOCHS, EVERY = 2, int(os.environ.get("HEADSTART_EVERY", "4"))

# The short side that training pictures are reduced to: 224 / sqrt(0.08), and 224 / (224 / 256).
CASES = [
    pytest.param("classic-frozen", 792, {}, id="classic-frozen"),
    pytest.param("classic-frozen", 792, {"batch_norm": "train"}, id="classic-frozen with moving statistics"),
    pytest.param("classic-finetune", 792, {}, id="classic-finetune"),
    pytest.param("adam-clip", 792, {}, id="adam-clip"),
    pytest.param("sgd-decay", 792, {}, id="sgd-decay"),
    pytest.param("sgd-decay-unfrozen", 792, {}, id="sgd-decay-unfrozen"),
    pytest.param("augmented", 256, {}, id="augmented"),
]


@pytest.fixture(autouse=True)
def cache(converted, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(converted))


def some_of(data, folder):
    """Every fourth picture of each class of each part."""
    for group in sorted(path for path in data.glob("*/*") if path.is_dir()):
        (folder / group.relative_to(data)).mkdir(parents=True)
        for path in sorted(group.iterdir())[::EVERY]:
            shutil.copy(path, folder / path.relative_to(data))
    return folder


@pytest.mark.slow
@pytest.mark.photos
@pytest.mark.usefixtures("few_worse_pictures")
@pytest.mark.parametrize(("recipe", "reduce", "changes"), CASES)
def test_equals_the_plain_script(photos, tmp_path, recipe, reduce, changes):
    file = tmp_path / "recipe.toml"
    lines = [f'base = "{recipe}"', f"epochs = {EPOCHS}", 'backbone = "tf_efficientnet_lite0"']
    file.write_text("\n".join([*lines, *(f'{key} = "{value}"' for key, value in changes.items())]))
    data, run = some_of(photos / "sloth_pain", tmp_path / "sloth_pain"), tmp_path / "run"
    train(data, run, TrainOptions(recipe=str(file)))

    arguments = ["--data", data, "--split", run / "split.csv", "--recipe", recipe, "--epochs", EPOCHS]
    arguments += ["--reduce", reduce]
    arguments += [word for key, value in changes.items() for word in (f"--{key.replace('_', '-')}", value)]
    plain = plain_recipe.run(plain_recipe.parse([str(argument) for argument in arguments]))

    with (run / "history.csv").open(newline="") as opened:
        ours = list(csv.DictReader(opened))
    with (run / "split.csv").open(newline="") as opened:
        parts = [row["part"] for row in csv.DictReader(opened)]
    tested, trained = parts.count("test"), sum(part not in ("test", "0") for part in parts)
    apart = {  # a picture on the edge: once the sums have drifted, and where the decoders see it differently
        "train_accuracy": (1e-6, 1.01 / trained),
        "val_accuracy": (1.01 / tested,) * EPOCHS,
    }
    assert len(ours) == len(plain) == EPOCHS
    for epoch, (mine, theirs) in enumerate(zip(ours, plain, strict=True)):
        assert float(mine["lr"]) == pytest.approx(theirs["lr"])
        assert float(mine["train_loss"]) == pytest.approx(theirs["train_loss"], rel=TRAIN_TOLERANCE[epoch])
        assert float(mine["val_loss"]) == pytest.approx(theirs["val_loss"], rel=VAL_TOLERANCE[epoch])
        for accuracy, tolerance in apart.items():
            assert float(mine[accuracy]) == pytest.approx(theirs[accuracy], abs=tolerance[epoch])
