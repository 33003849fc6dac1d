"""Class activation maps: the logit's exact shares, on the right place of the picture, and of the head's making."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from headstart.errors import BackboneError
from headstart.features.backbones import load_backbone
from headstart.features.engines import plan_engine
from headstart.features.maps import MapEngine
from headstart.features.networks import WithNormalisation
from headstart.features.preprocess import Preprocess
from headstart.judging import saliency
from headstart.judging.saliency import activation_map, depends_on_weights, direction, normalised, placed
from tests import tiny

RANDOM = np.random.default_rng(11)


@pytest.fixture
def backbone(tmp_path):
    return load_backbone("tiny", tiny.install(tmp_path))


@pytest.fixture
def engine(backbone):
    return MapEngine.compile(backbone.graph, threads=1, precision="f32")


def noise(n=1):
    return RANDOM.integers(0, 256, (n, tiny.SIDE, tiny.SIDE, 3), dtype=np.uint8)


def test_the_mean_of_the_map_and_the_bias_are_the_logit(engine):
    weight, bias = RANDOM.normal(size=(3, tiny.WIDTH)), RANDOM.normal(size=3)
    features, maps = engine.embed(noise(4))
    logits = features @ weight.T + bias
    for row, spatial_map in enumerate(maps):
        for c in range(3):
            evidence = activation_map(spatial_map, direction(weight, c))
            assert evidence.shape == (7, 7)
            assert evidence.mean() + bias[c] == pytest.approx(logits[row, c], abs=1e-4)
        contrast = activation_map(spatial_map, direction(weight, 2, against=0))
        assert contrast.mean() + bias[2] - bias[0] == pytest.approx(logits[row, 2] - logits[row, 0], abs=1e-4)


def test_normalised_evidence_is_cut_at_zero_and_reaches_one():
    evidence = np.array([[-3, 0], [2, 4]], np.float32)
    assert normalised(evidence).tolist() == [[0, 0], [0.5, 1]]
    assert normalised(-np.abs(evidence)).tolist() == [[0, 0], [0, 0]]


def spotted(width, height, centre, background=128):
    """A picture with one bright red spot."""
    pixels = np.full((height, width, 3), background, np.uint8)
    x, y = centre
    pixels[y - 6 : y + 7, x - 6 : x + 7] = (255, 0, 0)
    return pixels


def red_head(engine):
    """A direction that answers to red, from two plain pictures."""
    plain = np.full((2, tiny.SIDE, tiny.SIDE, 3), 128, np.uint8)
    plain[1] = (255, 0, 0)
    features, _ = engine.embed(plain)
    return (features[1] - features[0]).astype(np.float32)


@pytest.mark.parametrize("fit", ["crop", "squish", "pad"])
@pytest.mark.parametrize(
    ("size", "centre"),
    [((96, 96), (30, 62)), ((160, 80), (60, 30)), ((160, 80), (105, 55)), ((70, 150), (40, 50)), ((70, 150), (25, 95))],
)
def test_the_map_lies_over_the_spot_that_drives_the_class(engine, fit, size, centre):
    preprocess = tiny.PREPROCESS.with_fit(fit)
    pixels = spotted(*size, centre)
    _, maps = engine.embed(preprocess.apply(pixels)[None])
    towards = red_head(engine)
    baseline = activation_map(engine.embed(np.full((1, 32, 32, 3), 128, np.uint8))[1][0], towards)
    evidence = normalised(activation_map(maps[0], towards) - baseline)
    shown = placed(evidence, preprocess, *size)
    assert shown.shape == pixels.shape[:2]
    y, x = np.unravel_index(np.nanargmax(shown), shown.shape)
    reach = max(size) / 8  # of one place of the map, in the picture's pixels
    assert abs(x - centre[0]) <= 6 + reach
    assert abs(y - centre[1]) <= 6 + reach
    total = np.nansum(shown)
    rows, columns = np.indices(shown.shape)
    middle = np.nansum(rows * shown) / total, np.nansum(columns * shown) / total
    assert middle == pytest.approx((centre[1], centre[0]), abs=reach / 2 + 3)


def test_a_ramp_lies_where_preprocessing_puts_it():
    """What `apply` makes of a picture whose value is its column or row, laid back, is that value."""
    preprocess = Preprocess(64, 48, 80, "bilinear", (0.5,) * 3, (0.5,) * 3)
    for width, height in ((200, 100), (90, 210), (120, 120)):
        for fit in ("crop", "squish", "pad"):
            fitted = preprocess.with_fit(fit)
            columns = np.broadcast_to(np.arange(width), (height, width))
            rows = np.broadcast_to(np.arange(height)[:, None], (height, width))
            for values in (columns, rows):
                pixels = np.repeat(values[..., None], 3, axis=2).astype(np.uint8)
                seen = fitted.apply(pixels)[..., 0].astype(np.float32)
                back = placed(seen, fitted, width, height)
                inner = ~np.isnan(back)
                inner[:12] = inner[-12:] = False
                inner[:, :12] = inner[:, -12:] = False
                if fit == "crop":
                    inner[:, : width // 2 - 20] = inner[:, width // 2 + 20 :] = False
                    inner[: height // 2 - 20] = inner[height // 2 + 20 :] = False
                assert inner.sum() > 500
                assert np.abs(back - values)[inner].max() < max(width / 48, height / 64)  # a pixel of the input


def test_what_the_network_does_not_see_has_no_value():
    preprocess = tiny.PREPROCESS
    shown = placed(np.ones((8, 8), np.float32), preprocess, 100, 50)
    left, top, right, bottom = saliency.frame(preprocess, 100, 50)
    seen = ~np.isnan(shown)
    assert seen.mean() == pytest.approx((right - left) * (bottom - top) / 5000, abs=0.03)
    assert seen[25, 50]
    assert not seen[0, 0]
    assert not seen[25, 3]
    assert np.nanmax(shown) == 1
    for fit in ("squish", "pad"):
        assert not np.isnan(placed(np.ones((8, 8), np.float32), preprocess.with_fit(fit), 100, 50)).any()


def test_colours_are_viridis():
    from matplotlib import colormaps

    values = np.linspace(0, 1, 256, dtype=np.float32)[None]
    ours = saliency.overlay(np.zeros((1, 256, 3), np.uint8), values)[0] / saliency._STRENGTH
    theirs = np.array(colormaps["viridis"].colors) * 255
    assert np.abs(ours - theirs).max() < 6
    luma = ours @ [0.299, 0.587, 0.114]
    assert (np.diff(luma) > -1.5).all()


def test_the_picture_is_recognisable_under_its_colours():
    picture = RANDOM.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    shown = np.tile(np.linspace(0, 1, 50, dtype=np.float32), (40, 1))
    shown[:, :10] = np.nan
    laid = saliency.overlay(picture, shown)
    assert (laid.dtype, laid.shape) == (np.uint8, picture.shape)
    grey = picture @ [0.299, 0.587, 0.114]
    for column in (5, 30, 48):  # within a column of one value of the map, brightness follows the picture's
        assert np.corrcoef(laid[:, column] @ [0.299, 0.587, 0.114], grey[:, column])[0, 1] > 0.99
    assert (laid[:, :10].max(axis=2) == laid[:, :10].min(axis=2)).all()
    with Image.open(io.BytesIO(saliency.overlay_png(picture, shown))) as decoded:
        assert np.asarray(decoded).tolist() == laid.tolist()
    even = np.repeat(picture[:, :1], 50, axis=1)
    with Image.open(io.BytesIO(saliency.overlay_webp(even, shown))) as decoded:
        assert np.abs(np.asarray(decoded).astype(float) - saliency.overlay(even, shown)).mean() < 6


def wrapped(network, side=tiny.SIDE):
    preprocess = replace(tiny.PREPROCESS, height=side, width=side)
    return WithNormalisation(network, preprocess).eval().requires_grad_(True)


class Pooled(nn.Module):
    def __init__(self, act=nn.ReLU):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 12, 4, 4), act(), nn.Conv2d(12, 10, 3, padding=1), nn.ReLU(inplace=True))

    def forward(self, x):
        return self.body(x).mean((2, 3))


class Deep(Pooled):
    """Something stands between the pooled map and the features."""

    def forward(self, x):
        return torch.tanh(super().forward(x))


class Tokens(nn.Module):
    """A vision transformer in small: only its class token leaves the last block."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, x):
        tokens = torch.cat([self.token, self.patches(x).flatten(2).transpose(1, 2)], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens[:, 0]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        normal = self.norm1(x)
        return x + self.attention(normal, normal, normal, need_weights=False)[0]


class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, 6)

    def forward(self, x):
        return self.linear(x.flatten(1))


def test_grad_cam_of_a_pooled_network_is_its_activation_map():
    torch.manual_seed(0)
    module, pixels = wrapped(Pooled()), noise()[0]
    towards = RANDOM.normal(size=10).astype(np.float32)
    with torch.no_grad():
        normal = (torch.from_numpy(pixels[None]).permute(0, 3, 1, 2).float() - 127.5) / 127.5
        spatial_map = module.network.body(normal)[0].numpy()
    expected = activation_map(spatial_map, towards)
    np.testing.assert_allclose(saliency.gradient_map(module, pixels, towards), expected, rtol=1e-4, atol=1e-5)


def test_grad_cam_weighs_by_the_slope_where_features_are_no_mean():
    torch.manual_seed(1)
    module, pixels = wrapped(Deep()), noise()[0]
    towards = RANDOM.normal(size=10).astype(np.float32)
    with torch.no_grad():
        normal = (torch.from_numpy(pixels[None]).permute(0, 3, 1, 2).float() - 127.5) / 127.5
        spatial_map = module.network.body(normal)[0].numpy()
    slope = 1 - np.tanh(spatial_map.mean(axis=(1, 2))) ** 2
    expected = activation_map(spatial_map, (towards * slope).astype(np.float32))
    np.testing.assert_allclose(saliency.gradient_map(module, pixels, towards), expected, rtol=1e-4, atol=1e-5)


def test_grad_cam_of_a_vision_transformer_leaves_the_class_token_out():
    torch.manual_seed(2)
    module, pixels = wrapped(Tokens()), noise()[0]
    evidence = saliency.gradient_map(module, pixels, np.ones(8, np.float32))
    assert evidence.shape == (4, 4)
    assert np.ptp(evidence) > 0


def test_a_network_without_places_says_so():
    with pytest.raises(BackboneError, match="no map for this kind of network: Flat"):
        saliency.gradient_map(wrapped(Flat()), noise()[0], np.ones(6, np.float32))


def test_the_mapper_of_a_pooled_backbone_needs_no_gradient(backbone, engine):
    pixels, towards = noise()[0], RANDOM.normal(size=tiny.WIDTH).astype(np.float32)
    made = saliency.mapper(backbone, plan_engine("cpu", "f32"))(pixels, towards)
    assert made.tolist() == activation_map(engine.embed(pixels[None])[1][0], towards).tolist()


@pytest.mark.parametrize("name", ["test_convnext", "test_vit", "test_vit4"])
def test_timm_networks_that_are_not_pooled_have_maps_too(name):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0)
    towards = RANDOM.normal(size=network.num_features).astype(np.float32)
    pixels = RANDOM.integers(0, 256, (160, 160, 3), dtype=np.uint8)
    evidence = saliency.gradient_map(wrapped(network, 160), pixels, towards)
    assert evidence.shape[0] == evidence.shape[1] > 1
    assert np.isfinite(evidence).all()
    assert np.ptp(evidence) > 0


def test_the_mapper_of_another_backbone_asks_torch(backbone, monkeypatch):
    from headstart.features import networks

    torch.manual_seed(3)
    module = wrapped(Deep()).requires_grad_(False)
    monkeypatch.setattr(saliency, "is_pooled", lambda _: False)
    monkeypatch.setattr(networks, "facts", lambda _: None)
    monkeypatch.setattr(networks, "build", lambda *_: networks.Network(module, 10, "fc", 0))
    pixels, towards = noise()[0], RANDOM.normal(size=10).astype(np.float32)
    made = saliency.mapper(backbone, plan_engine("cpu", "f32"))(pixels, towards)
    assert made.tolist() == saliency.gradient_map(module, pixels, towards).tolist()


def test_ranks_share_the_mean_of_equals():
    from scipy.stats import rankdata

    values = RANDOM.integers(0, 9, 40).astype(np.float32)
    assert saliency._ranks(values).tolist() == rankdata(values).tolist()


def test_maps_that_depend_on_the_head_are_told_from_those_that_do_not():
    from scipy.stats import spearmanr

    maps = RANDOM.gamma(1, 1, (40, 32, 7, 7)).astype(np.float32)
    weight = RANDOM.normal(size=(4, 32)).astype(np.float32)
    scores = maps.mean(axis=(2, 3)) @ weight.T

    def closed_form(head, classes):
        return np.stack([activation_map(one, head[c]) for one, c in zip(maps, classes, strict=True)])

    def contours(_, classes):
        return maps.sum(axis=1)[: len(classes)]

    assert depends_on_weights(contours, weight, scores).random_head == pytest.approx(1)
    found = depends_on_weights(closed_form, weight, scores)
    assert abs(found.random_head) < 0.1
    assert abs(found.other_class) < 0.2
    assert found.pictures == 40
    order = np.argsort(-scores, axis=1)
    pairs = [closed_form(weight, order[:, place]) for place in (0, 1)]
    expected = np.mean(
        [spearmanr(normalised(a).ravel(), normalised(b).ravel())[0] for a, b in zip(*pairs, strict=True)]
    )
    assert found.other_class == pytest.approx(expected)
