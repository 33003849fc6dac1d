"""The table of layers and receptive fields, against torch's own counts, gradients and published values."""

import math

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from headstart.errors import BackboneError
from headstart.features.layers import layers
from headstart.features.receptive import Span, measured_field

# Sizes of the last maps' fields; docs/how-a-network-sees.md names the sources. This ResNet-50 strides in its 3 x 3
# convolutions (427; 483 where in the 1 x 1).
PUBLISHED = {
    "resnet18": ("layer4.1", 435),
    "resnet50": ("layer4.2", 427),
    "torchvision/vgg16": ("features.30", 212),
    "inception_v3": ("Mixed_7c", 1311),
    "tf_efficientnet_lite0": ("blocks.6.0.conv_pwl", 851),
}
FAMILIES = [
    "resnet18",
    "torchvision/vgg16",
    "tf_efficientnet_lite0",
    "convnext_atto",
    "vit_tiny_patch16_224",
    "densenet121",
    "mobilenetv3_small_100",
    "swin_tiny_patch4_window7_224",
]


def make(name):
    if name.startswith("torchvision/"):
        return models.get_model(name.removeprefix("torchvision/"), weights=None).eval()
    return timm.create_model(name).eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_and_every_product_is_counted_once(name):
    network = make(name)
    rows = layers(network, 224, 224)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 224, 224))
    assert sum(row.parameters for row in rows) == sum(one.numel() for one in network.parameters())
    assert 2 * sum(row.multiply_adds for row in rows) == counter.get_total_flops()
    assert rows[-1].kind == "linear"
    assert rows[-1].output == (1000,)


@pytest.mark.parametrize("name", PUBLISHED)
def test_fields_are_as_published(name):
    module, size = PUBLISHED[name]
    *_, row = (row for row in layers(make(name), 224, 224) if row.name == module)
    assert (row.field, row.jump) == ((size, size), (32, 32))
    assert not row.sees_all


@pytest.mark.parametrize("name", ["resnet18", "torchvision/vgg16", "tf_efficientnet_lite0", "convnext_atto"])
def test_fields_are_what_gradients_show(name):
    network = make(name)
    rows = [row for row in layers(network, 224, 224) if row.kind == "convolution" and row.field]
    for row in rows[:: max(1, len(rows) // 3)]:
        side = max(row.field) + 2 * max(row.jump)
        assert measured_field(network, row.name, side) == row.field, row.name


def test_a_window_of_every_kind():
    network = nn.Sequential(
        nn.Conv2d(3, 4, (1, 7), padding=(0, 3)),
        nn.ReLU(),
        nn.AvgPool2d(3, 2, 1),
        nn.Conv2d(4, 8, 3, dilation=2, padding="same", groups=2, bias=False),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(128, 5),
    )
    rows = layers(network, 32, 32)
    assert [(row.kind, row.kernel, row.field, row.jump) for row in rows] == [
        ("convolution", (1, 7), (1, 7), (1, 1)),
        ("mean pooling", (3, 3), (3, 9), (2, 2)),
        ("convolution", (3, 3), (11, 17), (2, 2)),
        ("max pooling", (2, 2), (13, 19), (4, 4)),
        ("mean pooling", (), (17, 23), (8, 8)),
        ("linear", (), (), ()),
    ]
    assert rows[0].then == ("ReLU",)
    assert rows[2].groups == 2
    assert rows[2].padding == (2, 2)
    assert [row.sees_all for row in rows] == [False] * 5 + [True]
    assert measured_field(network, "4", 32) == (13, 19)


def test_a_gate_that_asks_the_whole_map_sees_everything():
    rows = layers(make("mobilenetv3_small_100"), 224, 224)
    gated = next(place for place, row in enumerate(rows) if row.sees_all)
    assert ".se." in rows[gated].name
    assert not any(row.sees_all for row in rows[:gated])
    assert rows[0].field == (3, 3)


def test_windows_that_move_are_not_guessed_at():
    rows = layers(make("swin_tiny_patch4_window7_224"), 224, 224)
    assert rows[0].field == (4, 4)
    assert not any(row.sees_all or row.field for row in rows[10:])


def test_tokens_see_their_patch_until_they_attend():
    rows = layers(make("vit_tiny_patch16_224"), 224, 224)
    first = next(place for place, row in enumerate(rows) if row.kind == "attention")
    assert {row.field for row in rows[:first]} == {(16, 16)}
    assert rows[first].sees_all


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), [(3, 1, 1, 1), (7, 2, 3, 1), (3, 2, 0, 2)])
def test_a_span_holds_exactly_what_a_window_touches(kernel, stride, padding, dilation):
    span = Span(1, 0, 0).through(5, 3, 2).through(kernel, stride, padding, dilation)
    chain = nn.Sequential(nn.Conv1d(1, 1, 5, 3, 2), nn.Conv1d(1, 1, kernel, stride, padding, dilation)).requires_grad_(
        False
    )
    for layer in chain:
        layer.weight.fill_(1)
    pixels = torch.zeros(1, 1, 200, requires_grad=True)
    unit = 5
    (gradient,) = torch.autograd.grad(chain(pixels)[0, 0, unit], pixels)
    touched = gradient[0, 0].nonzero().flatten().tolist()
    assert (touched[0], touched[-1]) == (span.low + unit * span.stride, span.high + unit * span.stride)
    assert math.isclose(span.size, touched[-1] - touched[0] + 1)


def test_a_network_without_a_graph_is_refused():
    class Undecided(nn.Module):
        def forward(self, pictures):
            return pictures if pictures.sum() > 0 else -pictures

    with pytest.raises(BackboneError, match="graph of Undecided"):
        layers(Undecided(), 8, 8)


@pytest.mark.parametrize(
    ("name", "fewest", "most"), [("resnet18", 5, 18), ("torchvision/vgg16", 16, 16), ("vit_tiny_patch16_224", 2, 62)]
)
def test_shortcuts_shorten_the_way(name, fewest, most):
    last = layers(make(name), 224, 224)[-1]
    assert (last.fewest, last.most) == (fewest, most)
