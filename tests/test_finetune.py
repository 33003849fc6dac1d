"""Fine-tuning from end to end on a tiny real network: resume, kills, processes, memory, vanished pictures, guard."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.numpy import load_file

from headstart.delivery import artefact, run_folder
from headstart.delivery.run_folder import TrainOptions
from headstart.errors import UsageError
from headstart.learning import loop
from headstart.progress import Progress
from headstart.workflow import train
from tests.tiny import class_folders
from tests.torchrun import TORCHRUN

RECIPE = """
base = "{base}"
backbone = "test_resnet"
weights = "none"
epochs = {epochs}
batch = 8
"""
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_worse_pictures")]


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """One cache for all tests here, so that the tiny network is converted once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache(converted, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(converted))
    return converted


@pytest.fixture
def pictures(tmp_path):
    return class_folders(tmp_path / "pictures", each=20)


def recipe(folder, base="all", epochs=2, extra=""):
    path = folder / f"{base}-{epochs}.toml"
    path.write_text(RECIPE.format(base=base, epochs=epochs) + extra)
    return str(path)


def history(run):
    with (run / "history.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def tensors(run):
    return load_file(run / "model" / "model.safetensors")


class Heard(Progress):
    """Keeps what was said."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


@pytest.mark.parametrize("base", ["all", "last", "classic-finetune", "classic-frozen"])
def test_every_depth_gives_a_whole_run_that_timm_loads(pictures, tmp_path, base, monkeypatch):
    monkeypatch.setattr("headstart.features.cutting.LARGEST_SHARE", 0.9)  # the tiny network has few stages
    done = train(pictures, tmp_path / "run", TrainOptions(recipe=recipe(tmp_path, base), seed=3))
    assert len(history(tmp_path / "run")) == 2
    assert (tmp_path / "run" / "learning_curves.png").stat().st_size > 1000
    assert not run_folder.unfinished(tmp_path / "run").exists()
    record = json.loads((tmp_path / "run" / "run.json").read_text())["computed"]["finetune"]
    assert record["recipe"]["epochs"] == 2
    assert done.tune == {"all": "all", "last": "last", "classic-finetune": "all", "classic-frozen": "none"}[base]
    network = timm.create_model(f"local-dir:{tmp_path / 'run' / 'model'}", pretrained=True).eval()
    assert network.num_classes == 2
    predictor = artefact.load(tmp_path / "run")
    picture = sorted(pictures.rglob("*.png"))[0]
    assert predictor.predict([str(picture)])[0].label in ("amber", "blue")


def test_timm_computes_what_headstart_predicts_after_tuning(pictures, tmp_path):
    extra = "guard = false\n"
    train(pictures, tmp_path / "run", TrainOptions(recipe=recipe(tmp_path, "all", extra=extra)))
    predictor = artefact.load(tmp_path / "run")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 160, 160, 3), dtype=np.uint8)
    ours = predictor.classifier.probabilities(predictor.engine.embed(pixels))
    network = timm.create_model(f"local-dir:{tmp_path / 'run' / 'model'}", pretrained=True).eval()
    mean, std = (torch.tensor(network.pretrained_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    inputs = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        theirs = network(inputs).softmax(1).numpy()
    assert np.abs(ours - theirs).max() < 1e-3


def test_frozen_is_truly_frozen_and_the_classic_scripts_are_not(pictures, tmp_path):
    name = "bn1.running_mean"
    train(pictures, tmp_path / "frozen", TrainOptions(recipe=recipe(tmp_path, "classic-frozen")))
    start = load_file(Path(os.environ["HEADSTART_CACHE"]) / "backbones" / "test_resnet.untrained.safetensors")
    frozen = tensors(tmp_path / "frozen")
    changed = [
        key for key in start if key in frozen and not key.startswith("fc.") and (start[key] != frozen[key]).any()
    ]
    assert changed == []
    moving = recipe(tmp_path, "classic-frozen", epochs=1, extra='batch_norm = "train"\n')
    train(pictures, tmp_path / "moving", TrainOptions(recipe=moving))
    moved = tensors(tmp_path / "moving")
    assert (moved[name] != start[name]).any()
    assert all((moved[key] == start[key]).all() for key in start if key.endswith("conv1.weight"))


@pytest.mark.parametrize(
    "extra",
    [
        'average = "ema"\nmixup = 0.2\ncutmix = 0.5\nbalance = "sampler"\naccumulate = 2\n',
        'batch_norm = "train"\nbalance = "weights"\nclip_value = 0.5\nloss = {name = "focal"}\n',
    ],
    ids=["mixing", "weighing"],
)
def test_kills_at_random_moments_change_nothing(pictures, tmp_path, extra, monkeypatch):
    """Twenty kills: `kill -9` as seen from the inside, at random batches, each followed by a resumed training."""
    chosen = recipe(tmp_path, "all", epochs=4, extra=f"guard = false\nsizes = []\n{extra}")
    train(pictures, tmp_path / "undisturbed", TrainOptions(recipe=chosen))
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    learn, random = loop.learn, np.random.default_rng(0)

    class Killed(BaseException):
        pass

    def dying(training, *rest):
        if kills and random.random() < 0.7:
            kills.pop()
            raise Killed
        learn(training, *rest)

    kills = list(range(20))
    monkeypatch.setattr(loop, "learn", dying)
    finished = False
    while not finished:
        try:
            train(pictures, tmp_path / "run", TrainOptions(recipe=chosen, resume=True))
            finished = True
        except Killed:
            assert not (tmp_path / "run").exists()
    assert not kills
    assert history(tmp_path / "run") == history(tmp_path / "undisturbed")
    one, other = tensors(tmp_path / "run"), tensors(tmp_path / "undisturbed")
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[key], other[key]) for key in one)


def command(*words):
    return [sys.executable, "-m", "headstart", *map(str, words)]


def test_a_killed_process_and_an_interrupted_one_go_on_where_they_were(pictures, tmp_path):
    chosen, run = recipe(tmp_path, "classic-finetune", epochs=8), tmp_path / "run"
    words = command("train", pictures, "-o", run, "--recipe", chosen)
    place = run_folder.unfinished(run)
    for number, kind in enumerate((signal.SIGKILL, signal.SIGINT)):
        process = subprocess.Popen([*words, *(["--resume"] if number else [])], stderr=subprocess.PIPE, text=True)
        before = len(list(place.glob("history.csv")) and history(place))
        deadline = time.monotonic() + 240
        while not list(place.glob("history.csv")) or len(history(place)) < before + 1:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(kind)
        _, said = process.communicate()
        assert process.returncode == (-9 if kind == signal.SIGKILL else 130), said
        assert not run.exists()
    assert "--resume" in said
    refused = subprocess.run(words, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    subprocess.run([*words, "--resume"], check=True, capture_output=True)
    train(pictures, tmp_path / "undisturbed", TrainOptions(recipe=chosen))
    assert history(run) == history(tmp_path / "undisturbed")
    for name, tensor in tensors(run).items():
        assert np.array_equal(tensor, tensors(tmp_path / "undisturbed")[name]), name


def test_going_on_with_other_settings_is_refused(pictures, tmp_path, monkeypatch):
    learn = loop.learn

    def interrupted(training, *rest):
        learn(training, *rest)
        if training.position == (1, 0):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(loop, "learn", interrupted)
    with pytest.raises(KeyboardInterrupt, match="--resume"):
        train(pictures, tmp_path / "run", TrainOptions(recipe=recipe(tmp_path)))
    with pytest.raises(UsageError, match=r"recipe\.optimiser"):
        other = recipe(tmp_path, extra="[optimiser]\nlearning_rate = 0.5\n")
        train(pictures, tmp_path / "run", TrainOptions(recipe=other, resume=True))
    with pytest.raises(UsageError, match="another pictures, seed"):
        train(pictures, tmp_path / "run", TrainOptions(recipe=recipe(tmp_path), resume=True, seed=4))


def test_two_processes_train_what_one_trains(pictures, tmp_path):
    chosen = recipe(tmp_path, "all", extra='guard = false\nstart = "new"\nbatch_norm = "frozen"\n')
    words = ["train", pictures, "--recipe", chosen, "-o"]
    together = [*TORCHRUN, "headstart", *map(str, words), str(tmp_path / "two")]
    done = subprocess.run(together, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("held out: accuracy") == 1
    train(pictures, tmp_path / "one", TrainOptions(recipe=chosen))
    one, two = history(tmp_path / "one"), history(tmp_path / "two")
    for mine, theirs in zip(one, two, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-4)
    splits = [(tmp_path / name / "split.csv").read_text() for name in ("one", "two")]
    assert splits[0] == splits[1]
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_picture_that_vanishes_is_named_and_training_goes_on(pictures, tmp_path, monkeypatch, converted):
    learn, heard = loop.learn, Heard()
    gone = sorted((pictures / "amber").iterdir())

    def losing(training, *rest):
        learn(training, *rest)
        for path in gone:
            path.unlink(missing_ok=True)
        for kept in (converted / "pixels").rglob("*.npy"):
            kept.unlink()

    monkeypatch.setattr(loop, "learn", losing)
    extra = "workers = 0\nvalidate_on = 'test'\nkeep = 'last'\nguard = false\n"
    chosen = recipe(tmp_path, "classic-finetune", epochs=2, extra=extra)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("headstart.learning.finetune._embedded_anew", lambda examples, *_: examples)
        train(pictures, tmp_path / "run", TrainOptions(recipe=chosen), heard)
    named = [line for line in heard.lines if "training goes on without it" in line]
    assert len(named) == len(set(named)) > 0
    with (tmp_path / "run" / "problems.csv").open(newline="") as file:
        vanished = [row["path"] for row in csv.DictReader(file) if row["kind"] == "vanished"]
    assert {f"amber/{path.name}" for path in gone} >= set(vanished) > set()
    assert len(history(tmp_path / "run")) == 2


def test_out_of_memory_divides_the_batch_and_says_so(pictures, tmp_path, monkeypatch):
    forward = loop.Student.forward

    def small(self, inputs):
        if self.training and len(inputs) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, inputs)

    extra = "guard = false\nsizes = []\nstart = 'new'\n"
    train(pictures, tmp_path / "plenty", TrainOptions(recipe=recipe(tmp_path, extra=extra)))
    monkeypatch.setattr(loop.Student, "forward", small)
    heard = Heard()
    train(pictures, tmp_path / "run", TrainOptions(recipe=recipe(tmp_path, extra=extra)), heard)
    record = json.loads((tmp_path / "run" / "run.json").read_text())["computed"]["finetune"]
    assert record["passes"] == 4
    assert any("passes" in line for line in heard.lines)
    for mine, theirs in zip(history(tmp_path / "plenty"), history(tmp_path / "run"), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-4)


def test_the_guard_keeps_the_solved_head_where_tuning_ruins_it(pictures, tmp_path):
    ruin = "[optimiser]\nname = 'sgd'\nlearning_rate = 30.0\n"
    done = train(pictures, tmp_path / "run", TrainOptions(recipe=recipe(tmp_path, extra=f"clip_norm = 1000.0\n{ruin}")))
    assert done.tuning.facts["kept"] == "head"
    alone = train(pictures, tmp_path / "alone", TrainOptions(backbone="test_resnet", weights=Path("none")))
    assert done.evaluation.accuracy == alone.evaluation.accuracy
    assert np.array_equal(done.solved.classifier.weight, alone.solved.classifier.weight)


def test_a_tracker_gets_every_epoch(pictures, tmp_path):
    options = TrainOptions(recipe=recipe(tmp_path, "classic-frozen"), track="tensorboard")
    train(pictures, tmp_path / "run", options)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = {path.parent for path in (tmp_path / "tracking").rglob("*tfevents*") if path.parent.name == "run"} or {
        path.parent for path in (tmp_path / "tracking").rglob("*tfevents*")
    }
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [point.step for point in events.Scalars("val_loss")] == [1, 2]
