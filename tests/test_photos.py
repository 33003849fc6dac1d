"""The whole road on real photographs with the default backbone; skipped where the photo sets are absent."""

import csv
import json

import numpy as np
import pytest
from PIL import Image, ImageOps

import headstart

pytestmark = [pytest.mark.photos, pytest.mark.slow]


@pytest.fixture
def train(photos, converted, tmp_path, monkeypatch):
    """Train on the photo set of that name."""
    monkeypatch.setenv("HEADSTART_CACHE", str(converted))
    return lambda name: headstart.train(photos / name, tmp_path / name)


def problems(run):
    with (run.folder / "problems.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_sloths_and_pains_au_chocolat(train):
    run = train("sloth_pain")
    accuracy = run.evaluation.accuracy
    assert run.evaluation.n == 44
    assert accuracy.value >= 43 / 44 - 1e-9
    assert accuracy.low < accuracy.value <= accuracy.high <= 1
    assert len([problem for problem in problems(run) if problem["kind"] == "duplicate"]) == 4


def test_leaks_are_found_named_and_kept_out(train):
    run = train("car_brands4")
    leaks = {problem["path"] for problem in problems(run) if problem["kind"] == "leak"}
    assert len(leaks) == 20
    parts = {}
    with (run.folder / "split.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            parts.setdefault(row["part"] == "test", set()).add(row["digest"])
            assert row["path"] not in leaks
    assert not parts[True] & parts[False]


def test_every_odd_file_is_used_or_listed(train, photos):
    run = train("oddities")
    used = {sample.path for sample in run.examples.dataset.samples}
    listed = {problem["path"] for problem in problems(run)}
    for path in (path for path in (photos / "oddities").rglob("*") if path.is_file()):
        name = path.relative_to(photos / "oddities").as_posix()
        assert name in used or name in listed or any(name.startswith(one) for one in listed if one.endswith("/"))
    kinds = {problem["path"]: problem["kind"] for problem in problems(run)}
    assert kinds["blue/bomb_50000x50000.png"] == "too_large"
    assert kinds["amber/same_photo.jpg"] == kinds["blue/same_photo_other_class.jpg"] == "conflicting_label"
    assert kinds["empty_class/"] == "empty_class"


def test_timm_and_onnx_runtime_give_the_same_answers(train):
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    onnxruntime = pytest.importorskip("onnxruntime")
    run = train("hymenoptera")
    assert run.evaluation.accuracy.value > 0.9
    model = run.folder / "model"
    network = timm.create_model(f"local-dir:{model}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    session = onnxruntime.InferenceSession(model / "model.onnx", providers=["CPUExecutionProvider"])
    predictor = headstart.load(run.folder)
    preprocess = predictor.classifier.backbone.preprocess
    paths = [run.examples.dataset.locate(sample) for sample in run.trial.samples[::4]]
    for said, path in zip(predictor.predict(paths), paths, strict=True):
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
        with torch.inference_mode():
            by_timm = network(transform(upright)[None]).softmax(dim=1)[0].numpy()
        by_onnx = session.run(["probabilities"], {"pixels": preprocess.apply(np.asarray(upright))[None]})[0][0]
        ours = np.array([dict(said.ranking)[name] for name in predictor.classes])
        assert by_onnx == pytest.approx(ours, abs=1e-4)
        assert by_timm == pytest.approx(ours, abs=0.05)
    labels = json.loads((model / "config.json").read_text())["label_names"]
    assert labels == ["ants", "bees"]


def test_what_was_trained_before_needs_no_engine(train, monkeypatch):
    first = train("sloth_pain")
    monkeypatch.setattr("headstart.features.engines.EnginePlan.load", lambda *_: pytest.fail("an engine was loaded"))
    assert train("sloth_pain").examples.features.embedded == 0
    assert first.evaluation.n == 44
