"""What a network is shown to do: filters, maps, pooling and fields against plain torch; and the page in a browser."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from headstart.delivery.lesson import drawing
from headstart.delivery.lesson.photo import photo
from headstart.errors import DataError
from headstart.features import insight
from headstart.features.layers import layers
from headstart.features.networks import Network, WithNormalisation

from . import tiny
from .browser import browser, opened, overflow, violations

SIDE = 33


@pytest.fixture
def network():
    """Two convolutions of known weights over `SIDE` pixels, then their mean."""
    torch.manual_seed(3)
    plain = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.Flatten(), nn.LazyLinear(2))
    plain(torch.zeros(1, 3, SIDE, SIDE))
    module = WithNormalisation(plain, tiny.PREPROCESS).eval().requires_grad_(False)
    return Network(module, 4, "4", 0)


def noise(count=None):
    shape = (SIDE, SIDE, 3) if count is None else (count, SIDE, SIDE, 3)
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


def normalised(pixels):
    return (torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5


def test_filters_are_the_first_convolutions(network):
    assert (insight.first_filters(network) == network.module.network[0].weight.numpy()).all()


def test_maps_are_what_the_layers_give(network):
    pixels = noise()
    first = functional.conv2d(normalised(pixels), network.module.network[0].weight, network.module.network[0].bias, 2)
    found = insight.maps(network, pixels, ["0", "2"])
    np.testing.assert_allclose(found["0"], first[0].numpy(), atol=1e-5)
    assert found["2"].shape == (4, 14, 14)
    assert not any(module._forward_hooks for module in network.module.modules())


def test_stages_end_with_the_last_layer_of_each_resolution(network):
    rows = layers(network.module.network, SIDE, SIDE)
    assert [stage.output for stage in insight.stages(rows)] == [(5, 16, 16), (4, 14, 14)]


def test_what_a_unit_weighs_is_the_gradient_of_its_channels(network):
    pictures = noise(2)
    inner = network.module.network
    total = torch.zeros(SIDE, SIDE)
    for picture in pictures:
        seen = normalised(picture).requires_grad_(True)
        inner[2](inner[1](inner[0](seen)))[0, :, 7, 7].sum().backward()
        total += seen.grad[0].abs().sum(0)
    found = insight.effective_field(network, "2", pictures)
    np.testing.assert_allclose(found, (total / total.sum()).numpy(), atol=1e-6)
    rows, columns = np.nonzero(found)
    assert rows.max() - rows.min() + 1 == columns.max() - columns.min() + 1 == 7  # 3 + (3 - 1) * 2


@pytest.mark.parametrize("how", ["max", "mean"])
def test_pooling_is_torchs(how):
    one = np.random.default_rng(1).normal(size=(14, 13)).astype(np.float32)
    pool = functional.max_pool2d if how == "max" else functional.avg_pool2d
    expected = pool(torch.tensor(one)[None, None], 4)[0, 0].numpy()
    np.testing.assert_allclose(drawing.pooled(one, 4, how), expected, atol=1e-6)


def test_maps_are_drawn_by_their_liveliness():
    maps = np.zeros((3, 4, 4), dtype=np.float32)
    maps[1, 0, 0], maps[2, 0, 0] = 1, 5
    drawn = drawing.draw_maps(maps, 2, "two maps")
    assert (drawn.width, drawn.height) == (2 * drawing.MAP_SIDE + drawing.GAP, drawing.MAP_SIDE)
    flat = drawing.draw_map(maps[0])
    assert len(np.unique(flat.reshape(-1, 3), axis=0)) == 1  # nothing to tell apart, and no division by zero


def test_the_photo_is_a_flower_or_ones_own(tmp_path):
    assert photo(None).shape == (427, 640, 3)
    Image.new("RGB", (40, 30), (200, 10, 10)).save(tmp_path / "red.png")
    assert (photo(tmp_path / "red.png") == (200, 10, 10)).all()
    (tmp_path / "not.png").write_text("no picture")
    for wrong in ("not.png", "absent.png"):
        with pytest.raises(DataError, match=wrong):
            photo(tmp_path / wrong)


@pytest.fixture
def page(warm_cache, headstart, tmp_path):  # noqa: ARG001 - the backbone lies there
    """The page of the default backbone."""
    path = tmp_path / "lesson.html"
    status, out, _ = headstart("backbones", "tf_efficientnet_lite0", "--page", path)
    assert (status, out) == (0, f"how tf_efficientnet_lite0 sees is in {path}\n")
    return path


def test_the_page_quotes_the_loop_as_it_stands(page):
    from headstart.delivery.lesson.showing import _parts

    parts = list(_parts())
    assert [part.name for part in parts] == ["model", "criterion", "gradient", "optimiser", "step", "schedule"]
    text = page.read_text("utf-8")
    assert "training.optimiser.step()" in text
    assert "src/headstart/learning/loop.py, line" in text


@pytest.mark.browser
def test_everybody_can_read_the_page(page):
    with browser() as process:
        for width, dark in ((1280, False), (390, True)):
            with opened(process, page, width=width, dark=dark) as seen:
                pictures = seen.locator("img.drawn")
                assert pictures.count() > 8
                assert pictures.evaluate_all("all => all.every(one => one.naturalWidth > 0 && one.alt)")
                assert overflow(seen) == 0
                assert violations(seen) == []
