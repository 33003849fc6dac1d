"""torch networks on small random weights: loading, cutting, exporting. Slow only for importing torch and timm."""

import numpy as np
import pytest

from headstart.errors import BackboneError, UsageError
from headstart.features import weights as weights_room
from headstart.features.backbones import load_backbone
from headstart.features.engines import TorchEngine, plan_engine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def timm():
    return pytest.importorskip("timm")


@pytest.fixture(scope="module")
def files(timm, tmp_path_factory):
    """A function that saves random weights of a network, with or without its classifier, and gives the file."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("weights")

    def save(name, *, suffix=".safetensors", drop=""):
        torch.manual_seed(0)
        state = timm.create_model(name).state_dict()
        state = {key: value for key, value in state.items() if not drop or not key.startswith(drop)}
        path = folder / f"{name}{drop}{suffix}"
        save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
        return path

    return save


@pytest.mark.parametrize(
    ("name", "classifier", "width"),
    [("test_efficientnet", "classifier", 256), ("test_vit", "head", 64), ("test_convnext", "head.fc", 64)],
)
def test_a_network_is_cut_converted_and_runs_without_torch(files, name, classifier, width):
    backbone = load_backbone(name, files(name))
    assert (backbone.classifier, backbone.dimension, backbone.library) == (classifier, width, "timm")
    side = backbone.preprocess.height
    pixels = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    ours = plan_engine("cpu", "f32").load(backbone).embed(pixels)
    theirs = TorchEngine.load(backbone, "cpu", "f32").embed(pixels)
    assert ours.shape == (3, width)
    assert ours == pytest.approx(theirs, abs=1e-3)
    assert load_backbone(name, files(name)) == backbone


def test_a_file_without_a_classifier_and_a_checkpoint_of_torch_fit_too(files):
    whole = load_backbone("test_efficientnet", files("test_efficientnet"))
    bare = load_backbone("test_efficientnet", files("test_efficientnet", drop="classifier"))
    checkpoint = load_backbone("test_efficientnet", files("test_efficientnet", suffix=".pth"))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 160, 160, 3), dtype=np.uint8)
    plan = plan_engine("cpu", "f32")
    expected = plan.load(whole).embed(pixels)
    assert plan.load(bare).embed(pixels) == pytest.approx(expected)
    assert plan.load(checkpoint).embed(pixels) == pytest.approx(expected)


def test_what_does_not_fit_is_refused(files, tmp_path):
    with pytest.raises(BackboneError, match="do not fit test_vit"):
        load_backbone("test_vit", files("test_efficientnet"))
    with pytest.raises(BackboneError, match="Did you mean"):
        load_backbone("test_efficientnett", files("test_efficientnet"))
    (tmp_path / "rubbish.pth").write_bytes(b"rubbish")
    with pytest.raises(BackboneError, match="cannot read weights"):
        load_backbone("test_vit", tmp_path / "rubbish.pth")
    with pytest.raises(BackboneError, match="several classifiers"):
        load_backbone("deit_tiny_distilled_patch16_224", files("deit_tiny_distilled_patch16_224"))


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path):
    import torch

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"weight": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(BackboneError, match="cannot read weights"):
        load_backbone("test_vit", tmp_path / "bomb.pth")
    assert not (tmp_path / "ran").exists()


def test_missing_weights_say_where_they_were_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(weights_room, "_download", _no_network)
    with pytest.raises(BackboneError) as caught:
        load_backbone("resnet18")
    message = str(caught.value)
    places = ("models--timm--resnet18", str(tmp_path))
    for part in ("no weights for resnet18", "no network here", "--weights FILE", *places):
        assert part in message


def _no_network(_):
    raise OSError("no network here")


def test_weights_in_the_torch_cache_are_found(files, monkeypatch, tmp_path):
    place = tmp_path / "hub" / "checkpoints"
    place.mkdir(parents=True)
    files("test_vit", suffix=".pth").rename(place / "somewhere-test_vit.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    published = weights_room.Published(None, "https://example.org/somewhere-test_vit.pth")
    assert weights_room.cached_or_downloaded("test_vit", published) == place / "somewhere-test_vit.pth"


def test_a_device_that_is_not_there_is_refused():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(UsageError, match="no cuda device"):
        plan_engine("cuda")


def test_torchvision_networks_work_under_their_prefix(tmp_path):
    import torch
    from torchvision import models

    torch.manual_seed(0)
    torch.save(models.mobilenet_v3_small(weights=None).state_dict(), tmp_path / "mobile.pth")
    backbone = load_backbone("torchvision/mobilenet_v3_small", tmp_path / "mobile.pth")
    assert (backbone.library, backbone.dimension, backbone.preprocess.resize) == ("torchvision", 1024, 256)
