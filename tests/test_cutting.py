"""Networks cut in two: the halves make the whole, share its parameters, and what cannot be cut says why."""

import re

import pytest
import torch
from torch import nn

from headstart.errors import BackboneError
from headstart.features import cutting, networks
from headstart.features.cutting import LARGEST_SHARE, cut, stages
from headstart.features.networks import Network, WithNormalisation
from headstart.features.preprocess import Preprocess

timm = pytest.importorskip("timm")

SIDE = 160
NAMES = ("test_resnet", "test_efficientnet", "test_vit", "test_convnext")
PIXELS = torch.randint(0, 256, (3, SIDE, SIDE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks as small as these are slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def preprocess(side=SIDE):
    return Preprocess(side, side, side, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def wrapped(network, side=SIDE):
    module = WithNormalisation(network, preprocess(side)).eval().requires_grad_(False)
    return Network(module, 0, "fc", sum(parameter.numel() for parameter in network.parameters()))


def made(name):
    torch.manual_seed(0)
    return wrapped(timm.create_model(name, num_classes=0))


def outputs(module, inputs):
    with torch.no_grad():
        return module.eval()(inputs)


@pytest.fixture(scope="module", params=NAMES)
def divided(request):
    """A network and its cut; no test changes its parameters."""
    network = made(request.param)
    return network, cut(network, preprocess())


def test_the_tail_of_the_prefix_is_the_whole(divided):
    network, pieces = divided
    activations = outputs(pieces.prefix, PIXELS)
    whole = outputs(network.module, PIXELS)
    assert activations.shape == (len(PIXELS), *pieces.shape)
    assert whole.std() > 0
    assert torch.allclose(outputs(pieces.tail, activations), whole, rtol=1e-5, atol=1e-5 * float(whole.abs().max()))


def test_the_cut_is_at_the_end_of_a_stage_and_the_tail_is_cheap_enough(divided):
    network, pieces = divided
    ends = stages(network.module.network)
    assert pieces.stage in ends
    assert 0 < pieces.share <= LARGEST_SHARE
    assert torch.Size(pieces.shape).numel() <= cutting.MOST_VALUES


def test_only_the_tail_gets_gradients(divided):
    network, pieces = divided
    pieces.tail.requires_grad_(True)
    try:
        pieces.tail(pieces.prefix(PIXELS)).square().sum().backward()
        of_tail = {id(parameter) for parameter in pieces.tail.parameters()}
        assert {parameter.grad is not None for parameter in pieces.tail.parameters()} == {True}
        before = [parameter for parameter in network.module.parameters() if id(parameter) not in of_tail]
        assert before
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in before)
        assert not any(parameter.requires_grad for parameter in pieces.prefix.parameters())
    finally:
        network.module.zero_grad(set_to_none=True)
        network.module.requires_grad_(False)


def test_training_the_tail_changes_a_saved_network_behind_the_cut_alone(tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model("test_efficientnet").state_dict(), tmp_path / "weights.safetensors")
    known = networks.facts("test_efficientnet")
    network = networks.build(known, tmp_path / "weights.safetensors", known.preprocess)
    pieces = cut(network, known.preprocess)
    names = {id(parameter): key for key, parameter in network.module.named_parameters()}
    of_tail = {names[id(parameter)] for parameter in pieces.tail.parameters()}
    before = {key: parameter.clone() for key, parameter in network.module.named_parameters()}
    expected = outputs(network.module, PIXELS)
    assert expected.shape == (len(PIXELS), network.dimension)
    with torch.no_grad():
        for parameter in pieces.tail.parameters():
            parameter.add_(0.02)
    changed = {key for key, parameter in network.module.named_parameters() if not torch.equal(parameter, before[key])}
    assert changed == of_tail != set()
    assert changed < set(before)
    after = outputs(network.module, PIXELS)
    assert not torch.allclose(after, expected, rtol=1e-3)
    halves = outputs(pieces.tail, outputs(pieces.prefix, PIXELS))
    assert torch.allclose(halves, after, rtol=1e-5, atol=1e-5 * float(after.abs().max()))


def test_torchvisions_networks_are_refused_with_the_reason_and_the_way_out():
    from torchvision import models

    network = wrapped(models.shufflenet_v2_x0_5(weights=None))
    with pytest.raises(BackboneError) as caught:
        cut(network, preprocess())
    message = str(caught.value)
    for part in ("ShuffleNetV2 cannot be cut for --tune last", "does not name its stages", "Use --tune all."):
        assert part in message


class Small(nn.Module):
    """Three stages, the first by far the dearest; their maps have 3600, 392 and 72 values."""

    feature_info = ({"module": "first"}, {"module": "second"}, {"module": "third"})

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 5, stride=4)
        self.second = nn.Conv2d(16, 8, 3, stride=2)
        self.third = nn.Conv2d(8, 8, 3, stride=2)

    def forward(self, maps):
        return self.third(self.second(self.first(maps))).mean((2, 3))


class Untraceable(Small):
    def forward(self, maps):
        return super().forward(maps if maps.mean() > 0 else -maps)


class Crossing(Small):
    """What enters the first stage is needed again after the second."""

    def forward(self, maps):
        return super().forward(maps) + maps.mean((1, 2, 3))[:, None]


class Unnamed(Small):
    feature_info = ({"module": "fourth"},)


def test_the_cut_is_at_the_first_end_of_a_stage_that_is_cheap_and_narrow_enough(monkeypatch):
    def cut_at(share, values):
        monkeypatch.setattr(cutting, "LARGEST_SHARE", share)
        monkeypatch.setattr(cutting, "MOST_VALUES", values)
        pieces = cut(wrapped(Small(), 64), preprocess(64))
        assert pieces.share <= share
        return pieces.stage, pieces.shape

    assert cut_at(1.0, 3600) == ("first", (16, 15, 15))
    assert cut_at(1.0, 3599) == ("second", (8, 7, 7))
    assert cut_at(0.05, 3600) == ("second", (8, 7, 7))
    assert cut_at(1.0, 391) == ("third", (8, 3, 3))


@pytest.mark.parametrize(("share", "values"), [(-1.0, 3600), (1.0, 71)])
def test_without_a_short_enough_tail_every_stage_is_answered_for(monkeypatch, share, values):
    monkeypatch.setattr(cutting, "LARGEST_SHARE", share)
    monkeypatch.setattr(cutting, "MOST_VALUES", values)
    with pytest.raises(BackboneError, match=r"Use --tune all\.$") as caught:
        cut(wrapped(Small(), 64), preprocess(64))
    reason = r"its tail costs \d+% of the whole" if share < 0 else r"[\d,]+ values a picture"
    assert re.search("; ".join(f"{stage}: {reason}" for stage in ("first", "second", "third")), str(caught.value))


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Untraceable, "it cannot be traced"),
        (Crossing, "first: more than one tensor crosses there; second: more"),
        (Unnamed, "fourth: the trace does not show it"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_reason(network, reason):
    with pytest.raises(BackboneError, match=f"{network.__name__} cannot be cut for --tune last: .*{reason}") as caught:
        cut(wrapped(network(), 64), preprocess(64))
    assert str(caught.value).endswith("Use --tune all.")
