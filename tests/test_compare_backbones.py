"""`headstart compare DATA --backbones`, and backbones that are joined, from the command to the saved model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import headstart as package
from headstart import contests, workflow
from headstart.delivery import comparing, contenders
from headstart.delivery.run_folder import TrainOptions
from headstart.errors import BackboneError, DataError, StorageError, UsageError
from headstart.features import backbones, pace
from headstart.features.backbones import Backbone, load_backbone
from headstart.features.engines import TorchEngine, plan_engine
from headstart.features.pace import Pace
from headstart.features.preprocess import Preprocess
from headstart.features.store import stored_recipes

from . import tiny

NAMES = "tiny,dull"
PACES = {"tiny": 100.0, "dull": 20.0, "twin": 50.0}


def install(folder, name, wanted=slice(None)):
    """The tiny backbone as `name`; of its features only the `wanted` ones are not zero."""
    if not (folder / "tiny.safetensors").exists():
        backbones._remember("tiny", tiny.install(folder))
    if name == "tiny":
        return
    source = load_backbone("tiny")
    random = np.random.default_rng(7)
    kernel = random.normal(0, 0.2, (tiny.WIDTH, 3, 8, 8)).astype(np.float32)
    bias = random.normal(0, 0.2, tiny.WIDTH).astype(np.float32)
    keep = np.zeros(tiny.WIDTH, np.float32)
    keep[wanted] = 1
    place = backbones._folder(name, name)
    place.mkdir(parents=True)
    weights = folder / f"{name}.safetensors"
    shutil.copy(source.tensors, weights)
    weights.write_bytes(weights.read_bytes() + b" ")  # another digest
    (place / backbones.TENSORS).write_bytes(source.tensors.read_bytes())
    (place / backbones.GRAPH).write_bytes(tiny._graph(kernel * keep[:, None, None, None], bias * keep))
    digest = backbones.weights_room.digest(weights)
    record = {**source.to_json(), "name": name, "architecture": name, "weights_digest": digest}
    (place / backbones.FACTS).write_text(json.dumps(record))
    place.rename(backbones._folder(name, digest))
    backbones._remember(name, weights)


@pytest.fixture
def three(tmp_path, monkeypatch):
    """Three tiny backbones: a good and fast one, one of whose features tells nothing, and a slower twin of the first.

    Their paces are settled: measured ones of networks that small would be noise.
    """
    for name, wanted in {"tiny": slice(None), "dull": slice(0, 0), "twin": slice(None)}.items():
        install(tmp_path, name, wanted)
    settled = {name: Pace(rate, 1000 / rate) for name, rate in PACES.items()}
    monkeypatch.setattr(pace, "measure", lambda found, _plan, **_: {name: settled[name] for name in found})


@pytest.fixture
def data(tmp_path):
    return tiny.class_folders(tmp_path / "photos", each=30)


@pytest.mark.usefixtures("three")
def test_backbones_are_compared_and_one_is_recommended(headstart, data, tmp_path):
    status, out, err = headstart("compare", data, "--backbones", "tiny,dull,twin", "--device", "cpu")
    assert status == 0, err
    place = tmp_path / "runs" / "photos-backbones"
    record = json.loads((place / "backbones.json").read_text())
    assert sorted(path.name for path in place.iterdir()) == ["backbones.html", "backbones.json"]
    assert record["advice"]["backbone"] == "tiny"
    assert [one["name"] for one in record["candidates"]] == ["tiny", "twin", "dull"]  # of equals the faster first
    assert (record["n_train"], record["n_out_of_fold"], record["n_held_out"]) == (48, 48, 12)
    assert record["first_rung"] is None
    paces = [one["times_the_pace_of_the_fastest"] for one in record["candidates"]]
    assert paces == [1.0, 0.5, 0.2]
    good, twin, dull = (one["out_of_fold"]["value"] for one in record["candidates"])
    assert good == twin > 0.9 > 0.6 > dull
    assert "Take tiny: it is the most accurate, and the fastest." in out
    assert f"headstart train {data} -o runs/photos --backbone tiny" in out
    assert "tiny: out of fold" in err
    assert "Take tiny" in (place / "backbones.html").read_text("utf-8")


@pytest.mark.usefixtures("three")
def test_what_is_compared_is_what_train_makes(data, tmp_path):
    found = package.compare_backbones(data, tmp_path / "out", TrainOptions(device="cpu"), backbones=["tiny", "dull"])
    run = workflow.train(data, tmp_path / "run", TrainOptions(device="cpu", backbone="tiny"))
    accuracy = run.out_of_fold.accuracy.value
    assert found.comparison.accuracy["tiny"].value == pytest.approx(accuracy)
    test = {sample.digest for sample in run.examples.test_samples}
    assert found.results["tiny"].held_out.keys() == found.results["dull"].held_out.keys() == test
    assert not test & found.results["tiny"].out_of_fold.keys()
    assert run.examples.features.embedded == 0  # they were in the store


@pytest.mark.usefixtures("three")
def test_the_held_out_pictures_choose_nothing(data, tmp_path, monkeypatch):
    asked = []
    real = contenders.try_classifier

    def asking(classifier, samples, *rest, **more):
        asked.append(classifier.backbone.name)
        trial = real(classifier, samples, *rest, **more)
        if classifier.backbone.name == "tiny":  # on the held-out pictures it is always wrong
            said = replace(trial.predictions, probabilities=1 - trial.probabilities)
            trial = replace(trial, predictions=said)
        return trial

    monkeypatch.setattr(contenders, "try_classifier", asking)
    options = TrainOptions(device="cpu")
    found = contests.compare_backbones(data, tmp_path / "out", options, backbones=["tiny", "twin"])
    assert asked == ["tiny", "twin"]  # once each
    assert found.advice.name == "tiny"
    assert not found.is_right


@pytest.mark.usefixtures("three")
def test_a_poor_candidate_stops_early_and_openly(headstart, data, monkeypatch):
    monkeypatch.setattr(contenders.choice, "RUNG_LEAST", 10)
    monkeypatch.setattr(contenders.choice, "RUNG_EACH", 1)
    monkeypatch.setattr(contenders.choice, "RUNG_SHARE", 2)
    status, out, err = headstart("compare", data, "--backbones", NAMES, "-o", "out", "--device", "cpu", "--test", "0.1")
    assert status == 0, err
    assert "dull: stopped after" in err
    assert "dull: stopped after" in out
    assert "and tiny is faster" in out
    record = json.loads(Path("out/backbones.json").read_text())
    assert [one["name"] for one in record["candidates"]] == ["tiny"]
    (stopped,) = record["stopped"]
    assert stopped["pictures"] == record["first_rung"] < record["n_train"]
    assert stopped["accuracy"]["value"] < 0.8 < stopped["best_accuracy"]["value"]
    assert stopped["against_best"]["p_corrected"] < 0.05
    embedded = {stored.recipe["architecture"]: stored.vectors for stored in stored_recipes()}
    assert embedded == {"tiny": 60, "dull": record["first_rung"]}


@pytest.mark.usefixtures("three")
def test_what_has_no_weights_is_named_and_left_out(headstart, data, monkeypatch):
    real = backbones._convert

    def convert(name, source, advance):
        if name == "nowhere":
            raise BackboneError("no weights for nowhere: looked everywhere.")
        return real(name, source, advance)

    monkeypatch.setattr(backbones, "_convert", convert)
    status, out, err = headstart("compare", data, "--backbones", "nowhere,tiny", "-o", "out", "--device", "cpu")
    assert status == 0
    assert "nowhere: left out: no weights for nowhere: looked everywhere." in err
    assert "nowhere: left out: no weights" in out
    assert "Take tiny: of the candidates, it alone came to the end." in out
    status, _, err = headstart("compare", data, "--backbones", "nowhere", "-o", "out")
    assert status == 1
    assert "none of the 1 backbones can be used. nowhere: no weights" in err


@pytest.mark.usefixtures("three")
def test_installed_stands_for_all_whose_weights_are_here(monkeypatch):
    monkeypatch.setattr(backbones.weights_room, "PACKAGES", {})
    assert sorted(contenders.named(["installed"])) == ["dull", "tiny", "twin"]
    assert contenders.named(["twin", "installed"]) == ["twin", "dull", "tiny"]
    backbones._remember("torchvision/vgg11", backbones._remembered("tiny"))
    assert "torchvision/vgg11" in contenders.named(["installed"])
    backbones._remembered("dull").unlink()
    assert "dull" not in contenders.named(["installed"])


@pytest.mark.usefixtures("three")
def test_two_are_joined_without_another_pass(headstart, data):
    status, out, err = headstart("compare", data, "--backbones", NAMES, "--join", "-o", "out", "--device", "cpu")
    assert status == 0, err
    record = json.loads(Path("out/backbones.json").read_text())
    joined = next(one for one in record["candidates"] if one["name"] == "tiny+dull")
    assert joined["features"] == 2 * tiny.WIDTH
    assert joined["pictures_per_second"] == pytest.approx(1 / (1 / 100 + 1 / 20), rel=0.01)
    assert not record["joined"]["pays"]
    assert record["advice"]["backbone"] == "tiny"
    assert "Joining does not pay: tiny+dull is" in out
    assert "for 6.0 times the work" in out
    assert "Does joining pay?" in Path("out/backbones.html").read_text("utf-8")


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--backbones", "tiny,tiny"], 2, "tiny is given twice"),
        (["--backbones", "tiny,,dull"], 2, "--backbones is a list with commas"),
        (["--backbones", NAMES, "--tune", "all"], 2, "--tune does not go with --backbones"),
        (["--backbones", NAMES, "--weights", "w.pth"], 2, "--weights does not go with --backbones"),
        (["--join"], 2, "give --backbones too"),
        (["--backbones", "tiny+tiny"], 2, "does not join different backbones"),
        (["--backbones", "tiny", "--test", "2"], 2, "--test must be above 0"),
    ],
)
def test_mistakes_are_answered(headstart, data, words, status, said):
    got, _, err = headstart("compare", data, *words, "-o", "out")
    assert got == status
    assert said in err


@pytest.mark.usefixtures("three")
def test_runs_are_not_data_and_are_not_changed(headstart, tiny_run, data):
    status, _, err = headstart("compare", tiny_run, "--backbones", NAMES)
    assert status == 2
    assert "is a run; give the data" in err
    status, _, err = headstart("compare", tiny_run, tiny_run, "--backbones", NAMES)
    assert status == 2
    assert "--backbones is for training candidates on one DATA" in err
    with pytest.raises(StorageError, match="is a run, which a comparison must not change"):
        contests.compare_backbones(data, tiny_run, backbones=["tiny"])
    assert comparing.is_run(tiny_run)


@pytest.mark.usefixtures("three")
def test_a_picture_that_goes_in_between_is_noticed(data, tmp_path, monkeypatch):
    real = contenders.judged

    def judging(*words):
        (data / "amber" / "00.png").unlink(missing_ok=True)
        return real(*words)

    monkeypatch.setattr(contenders, "judged", judging)
    with pytest.raises(DataError, match=r"1 pictures have changed or gone .*00\.png"):
        contests.compare_backbones(data, tmp_path / "o", TrainOptions(device="cpu"), backbones=["tiny", "dull"])


def test_a_pace_is_that_of_the_engine_alone(tmp_path):
    install(tmp_path, "tiny")
    install(tmp_path, "twin")
    both = {name: load_backbone(name) for name in ("tiny", "twin")}
    found = pace.measure(both, plan_engine("cpu", "f32"))
    assert found.keys() == both.keys()
    for one in found.values():
        assert one.per_second > 100
        assert 0 < one.latency_ms < 100
    assert pace.together([Pace(30.0, 5.0), Pace(60.0, 2.0)]) == Pace(pytest.approx(20.0), 7.0)


def preprocess(height, width, mean, std):
    return Preprocess(height, width, 40, "bicubic", mean, std)


def test_a_part_gets_the_picture_at_its_own_size_and_normalised_as_its_own():
    torch = pytest.importorskip("torch")
    from headstart.features.joining import Joined

    whole = preprocess(32, 40, (0.5, 0.4, 0.3), (0.2, 0.3, 0.5))
    own = preprocess(24, 20, (0.1, 0.5, 0.2), (0.4, 0.3, 0.1))

    def normalised(pixels, of):
        mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (of.mean, of.std))
        return (pixels - mean) / std

    pixels = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    joined = Joined([torch.nn.Flatten(), torch.nn.Flatten()], [whole, own], whole)
    got = joined(normalised(pixels, whole))
    small = torch.nn.functional.interpolate(pixels, size=(24, 20), mode="bilinear", antialias=True)
    assert torch.equal(got[:, : 3 * 32 * 40], normalised(pixels, whole).flatten(1))
    assert torch.allclose(got[:, 3 * 32 * 40 :], normalised(small, own).flatten(1), atol=1e-5)
    assert list(joined.state_dict()) == []  # what is computed from sizes is not saved


@pytest.fixture
def networks_of_two_sizes(tmp_path, monkeypatch):
    """Two of timm's test networks with random weights, one of them for smaller pictures and normalised otherwise."""
    timm = pytest.importorskip("timm")
    import torch
    from safetensors.torch import save_file

    from headstart.features import networks

    for name in ("test_efficientnet", "test_resnet"):
        torch.manual_seed(0)
        save_file(timm.create_model(name).state_dict(), tmp_path / f"{name}.safetensors")
        backbones._remember(name, tmp_path / f"{name}.safetensors")
    real = networks._timm_facts

    def facts(name):
        known = real(name)
        if name != "test_resnet":
            return known
        smaller = replace(known.preprocess, height=96, width=96, resize=100, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
        return replace(known, preprocess=smaller)

    monkeypatch.setattr(networks, "_timm_facts", facts)


@pytest.mark.slow
@pytest.mark.usefixtures("networks_of_two_sizes", "few_worse_pictures")
def test_a_joined_backbone_is_trained_saved_loaded_and_exported(headstart, data, tmp_path):
    name = "test_efficientnet+test_resnet"
    joined = load_backbone(name)
    parts = [load_backbone(part) for part in name.split("+")]
    assert isinstance(joined, Backbone)
    assert (joined.name, joined.library, joined.dimension) == (name, "joined", sum(one.dimension for one in parts))
    assert joined.preprocess == parts[0].preprocess
    assert joined.parameters == sum(one.parameters for one in parts)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3), dtype=np.uint8)
    plan = plan_engine("cpu", "f32")
    got = plan.load(joined).embed(pixels)
    assert got[:, : parts[0].dimension] == pytest.approx(plan.load(parts[0]).embed(pixels), abs=1e-3)
    assert got == pytest.approx(TorchEngine.load(joined, "cpu", "f32").embed(pixels), abs=1e-3)
    assert load_backbone(name) == joined

    status, _, err = headstart("train", data, "--backbone", name, "-o", "run", "--device", "cpu")
    assert status == 0, err
    model = package.load(tmp_path / "run")
    files = [str(path) for path in sorted((data / "amber").iterdir())[:3]]
    assert [said.label for said in model.predict(files)] == ["amber"] * 3
    assert model.features(files).shape == (3, joined.dimension)
    assert "several networks joined" in (tmp_path / "run" / "model" / "README.md").read_text()
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert (config["architecture"], config["num_features"]) == (name, joined.dimension)

    for form in ("onnx", "torch"):
        status, _, err = headstart("export", "run", "--to", form, "-o", f"exported-{form}")
        assert status == 0, err
    status, _, err = headstart("train", data, "--backbone", name, "--tune", "last", "-o", "tuned")
    assert status == 2
    assert "of which only the head can be trained" in err


@pytest.mark.usefixtures("three")
def test_one_file_of_weights_does_not_serve_two_backbones(headstart, data):
    for weights in ("w.safetensors", "none"):
        status, _, err = headstart("train", data, "--backbone", "tiny+dull", "--weights", weights)
        assert status == 2
        assert "cannot serve the 2 backbones of tiny+dull. Leave out --weights" in err
    with pytest.raises(UsageError, match="does not join different backbones"):
        load_backbone("tiny+")
