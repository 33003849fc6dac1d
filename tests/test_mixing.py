import pytest
import torch

from headstart.learning.mixing import mix

INPUTS = {
    "pictures": torch.randint(0, 256, (6, 12, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
    "maps": torch.rand(6, 5, 7, 8, generator=torch.Generator().manual_seed(0)),
    "tokens": torch.rand(6, 17, 4, generator=torch.Generator().manual_seed(0)),
}
TARGETS = torch.eye(6)


def seed(number):
    return torch.Generator().manual_seed(number)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0), (0, 1.0), (0.2, 1.0)])
def test_shapes_stay_and_targets_sum_to_one(kind, mixup, cutmix):
    before = INPUTS[kind].clone()
    for number in range(10):
        inputs, targets = mix(INPUTS[kind], TARGETS, mixup, cutmix, seed(number))
        assert inputs.shape == INPUTS[kind].shape
        assert torch.allclose(targets.sum(1), torch.ones(6))
        assert (targets >= 0).all()
        again = mix(INPUTS[kind], TARGETS, mixup, cutmix, seed(number))
        assert torch.equal(again[0], inputs)
        assert torch.equal(again[1], targets)
    assert torch.equal(INPUTS[kind], before)


def test_nothing_is_mixed_unless_asked_for():
    inputs, targets = mix(INPUTS["pictures"], TARGETS, 0.0, 0.0, seed(0))
    assert inputs is INPUTS["pictures"]
    assert targets is TARGETS


@pytest.mark.parametrize("kind", INPUTS)
def test_mixup_blends_inputs_as_it_blends_targets(kind):
    mixed, targets = mix(INPUTS[kind], TARGETS, 1.0, 0.0, seed(3))
    rows = INPUTS[kind].float().flatten(1)
    assert mixed.dtype == torch.float32
    assert torch.allclose(mixed.flatten(1), targets @ rows, atol=1e-4)
    assert 0 < targets[0, 0] < 1


@pytest.mark.parametrize("kind", INPUTS)
def test_cutmix_puts_in_a_box_of_the_share_that_the_targets_say(kind):
    source = INPUTS[kind]
    kept = []
    for number in range(20):
        mixed, targets = mix(source, TARGETS, 0.0, 1.0, seed(number))
        other = source.roll(1, 0)
        assert mixed.dtype == source.dtype
        assert ((mixed == source) | (mixed == other)).all()
        share = (mixed == source)[0].float().mean()
        kept.append(float(targets[0, 0]))
        assert kept[-1] == pytest.approx(float(share), abs=0.02)  # a few values are equal by chance
        assert torch.allclose(targets, kept[-1] * TARGETS + (1 - kept[-1]) * TARGETS.roll(1, 0))
    assert min(kept) < 0.4
    assert max(kept) > 0.8


def test_the_box_is_cut_out_of_the_pictures_plane():
    black_and_white = torch.zeros(2, 20, 20, 3, dtype=torch.uint8)
    black_and_white[1] = 255
    mixed, _ = mix(black_and_white, torch.eye(2), 0.0, 1.0, seed(4))
    white = mixed[0] == 255
    assert torch.equal(white[..., 0], white[..., 2])
    rows, columns = white[..., 0].any(1).sum(), white[..., 0].any(0).sum()
    assert white[..., 0].sum() == rows * columns
    assert 0 < rows < 20


def test_with_both_one_is_drawn_for_each_batch():
    kinds = {mix(INPUTS["pictures"], TARGETS, 1.0, 1.0, seed(number))[0].dtype for number in range(20)}
    assert kinds == {torch.uint8, torch.float32}
