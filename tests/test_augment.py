"""Random transforms: sizes, repeatability, the classic draws to the letter, and how mistakes are answered."""

import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import v2

from headstart.errors import UsageError
from headstart.features.preprocess import Preprocess
from headstart.learning.augment import POLICIES, STEPS, Step, build, policy_steps, seeded, smallest_crop

SIZE = 32
SHAPES = {"wide": (90, 20), "tall": (17, 64), "tiny": (3, 2), "square": (40, 40)}


def picture(size=(60, 45)):
    """Noise over a gradient, so that every change of place shows."""
    across, down = np.meshgrid(np.linspace(0, 200, size[0]), np.linspace(0, 200, size[1]))
    noise = np.random.default_rng(5).integers(0, 55, (size[1], size[0], 3))
    return Image.fromarray((np.stack([across, down, across], axis=2) + noise).astype(np.uint8))


def one(name, **values):
    return policy_steps(({"name": name, **values},))


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_step_alone_gives_a_picture_of_the_size(name, shape):
    transform = build(one(name), SIZE)
    for seed in range(5):
        made = seeded(transform, picture(shape), seed)
        assert (made.dtype, made.shape) == (torch.uint8, (3, SIZE, SIZE))


@pytest.mark.parametrize("policy", POLICIES)
def test_draws_come_from_torchs_generator_alone(policy):
    transform = pickle.loads(pickle.dumps(build(policy_steps(policy), SIZE)))
    made = []
    for other in (1, 2):
        random.seed(other)
        np.random.seed(other)
        states = random.getstate(), np.random.get_state()[1].tolist()
        made.append([seeded(transform, picture(), seed) for seed in range(8)])
        assert states == (random.getstate(), np.random.get_state()[1].tolist())
    assert all(torch.equal(*pair) for pair in zip(*made, strict=True))
    different = len({made[0][seed].numpy().tobytes() for seed in range(8)})
    assert different == (1 if policy == "none" else 8)


def test_seeded_leaves_the_generator_as_it_was():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    seeded(build(policy_steps("rich"), SIZE), picture(), 7)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("library", [v1, v2], ids=["v1", "v2"])
def test_crop_flip_is_the_classic_scripts_to_the_letter(library):
    mine = build(policy_steps("crop-flip"), 64)
    theirs = library.Compose([library.RandomResizedCrop(64, antialias=True), library.RandomHorizontalFlip()])
    torch.manual_seed(1)
    expected = [torch.from_numpy(np.array(theirs(picture((150, 100))))).permute(2, 0, 1) for _ in range(20)]
    torch.manual_seed(1)
    for wanted in expected:
        assert torch.equal(mine(picture((150, 100))), wanted)


def test_no_augmentation_is_what_a_backbone_is_evaluated_with():
    still = Preprocess(SIZE, SIZE, round(SIZE * 256 / 224), "bilinear", (0, 0, 0), (1, 1, 1))
    for shape in SHAPES.values():
        made = build(policy_steps("none"), SIZE)(picture(shape)).permute(1, 2, 0).numpy()
        assert np.array_equal(made, still.apply(np.asarray(picture(shape))))


def test_a_random_crop_is_torchvisions_but_for_rounding():
    theirs = v2.Compose([v2.Resize(40), v2.RandomCrop(SIZE), v2.PILToTensor()])
    mine = build(one("random-crop", ratio=1.25), SIZE)
    for seed in range(10):
        difference = seeded(mine, picture(), seed).int() - seeded(theirs, picture(), seed).int()
        assert difference.abs().max() <= 2


def test_a_picture_that_is_all_length_needs_little_memory():
    long = Image.new("RGB", (200_000, 1))
    assert build(one("random-crop"), SIZE)(long).shape == (3, SIZE, SIZE)
    assert build((), SIZE)(long).shape == (3, SIZE, SIZE)


def test_steps_are_taken_in_their_order():
    squish_first = build(policy_steps([{"name": "squish"}, {"name": "random-crop"}]), SIZE)
    crop_first = build(policy_steps([{"name": "random-crop"}, {"name": "squish"}]), SIZE)
    assert not torch.equal(seeded(squish_first, picture((90, 20)), 1), seeded(crop_first, picture((90, 20)), 1))


def test_steps_do_what_they_are_named_after():
    def made(name, **values):
        steps = [{"name": "squish"}, {"name": name, **values}]
        return seeded(build(policy_steps(steps), SIZE), picture((SIZE, SIZE)), 0)

    upright = made("squish")
    assert torch.equal(upright, torch.from_numpy(np.array(picture((SIZE, SIZE)))).permute(2, 0, 1))
    assert torch.equal(made("horizontal-flip", probability=1), upright.flip(2))
    assert torch.equal(made("vertical-flip", probability=1.0), upright.flip(1))
    grey = made("grey", probability=1)
    assert torch.equal(grey[0], grey[1])
    assert made("blur", probability=1, sigma=[2, 2]).float().std() < upright.float().std()
    erased = made("erasing", probability=1)
    changed = (erased != upright).any(0)
    assert 0 < changed.float().mean() < 0.5
    assert set(map(tuple, erased[:, changed].T.tolist())) == {(124, 116, 104)}


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("gentel", r"unknown augmentation policy 'gentel'; did you mean 'gentle'\? There are none, crop-flip"),
        ([{"name": "rotate"}], r"unknown augmentation step 'rotate'; did you mean 'rotation'\?"),
        ([{"name": "zzz"}], r"unknown augmentation step 'zzz'. There are random-resized-crop"),
        ([{"name": "rotation", "degree": 3}], r"'degree' of the .* 'rotation'; did you mean 'degrees'\? There are deg"),
        ([{"name": "squish", "ratio": 3}], r"unknown parameter 'ratio' of the augmentation step 'squish'. It has none"),
        ([{"degrees": 3}], "needs a name.*received {'degrees': 3}"),
        ([{"name": "rotation", "degrees": 200}], "'degrees' .* must be a number from 0 to 180; received 200"),
        ([{"name": "rotation", "degrees": True}], "received True"),
        ([{"name": "rotation", "degrees": float("nan")}], "received nan"),
        ([{"name": "rotation", "degrees": "far"}], "received 'far'"),
        ([{"name": "rand-augment", "count": 2.5}], "must be a whole number from 1 to 14; received 2.5"),
        ([{"name": "random-resized-crop", "scale": 0.5}], "must be two rising numbers from 0.001 to 1; received 0.5"),
        ([{"name": "random-resized-crop", "scale": [0.9, 0.5]}], r"received \[0.9, 0.5\]"),
        ([{"name": "random-resized-crop", "scale": [0.1, 0.2, 0.3]}], "two rising numbers"),
    ],
)
def test_mistakes_are_named(policy, message):
    with pytest.raises(UsageError, match=message):
        policy_steps(policy)


def test_what_torchvision_refuses_is_a_usage_error():
    with pytest.raises(UsageError, match=r"'rotation \(degrees -5\)' cannot be used"):
        build((Step("rotation", {"degrees": -5.0}),), SIZE)


def test_a_step_shows_every_value():
    step = one("random-resized-crop", scale=[0.5, 1])[0]
    assert str(step) == "random-resized-crop (scale 0.5 to 1, aspect 0.75 to 4/3)"
    assert str(one("squish")[0]) == "squish"
    assert str(one("random-crop")[0]) == "random-crop (ratio 8/7)"
    assert str(one("rotation", degrees=15.00001)[0]) == "rotation (degrees 15.00001)"
    assert one("rotation", degrees=15) == one("rotation")
    assert repr(one("rotation", degrees=15)) == repr(one("rotation"))


def test_the_smallest_crop():
    assert smallest_crop(policy_steps("crop-flip")) == pytest.approx(0.08**0.5)
    assert smallest_crop(policy_steps("none")) == pytest.approx(224 / 256)
    assert smallest_crop(policy_steps("rich")) == pytest.approx(224 / 256)
    assert smallest_crop(()) == pytest.approx(224 / 256)
    assert smallest_crop(one("squish")) == 1
    assert smallest_crop(policy_steps([{"name": "scale", "factor": [1, 2]}, {"name": "squish"}])) == 0.5
    after = [{"name": "squish"}, {"name": "random-resized-crop"}]
    assert smallest_crop(policy_steps(after)) == 1
