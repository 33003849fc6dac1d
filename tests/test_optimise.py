"""Optimisers, schedules and losses against torch's own and against their formulas."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler

from headstart.learning.optimise import losses, make_optimiser, make_pace
from headstart.learning.recipes import Loss, Optimiser, Recipe

BATCHES, EPOCHS = 5, 8


def stages(number=3):
    """Groups of one matrix and one bias each, from the input to the head."""
    return [[nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))] for _ in range(number)]


def found(optimiser, parameter):
    """(learning rate, weight decay) of `parameter`."""
    groups = [group for group in optimiser.param_groups if any(parameter is one for one in group["params"])]
    assert len(groups) == 1
    return groups[0]["lr"], groups[0]["weight_decay"]


def optimiser(rate=0.4, **settings):
    return make_optimiser(Optimiser(learning_rate=rate, **settings), stages(1))


def rates(schedule, epochs=EPOCHS, losses=(), **settings):
    """The learning rate of every step, [epochs][batches], of a training with `schedule`."""
    mine = optimiser(**settings)
    pace = make_pace(mine, Recipe(epochs=epochs, schedule=schedule, validate_on="fold"), BATCHES)
    seen = []
    for epoch in range(epochs):
        seen.append([])
        for _ in range(BATCHES):
            seen[-1].append(mine.param_groups[0]["lr"])
            mine.step()
            pace.after_batch()
        pace.after_epoch(losses[epoch] if losses else 1.0)
    return seen


def flat(rows):
    return [rate for row in rows for rate in row]


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_the_optimiser_is_torchs_with_the_settings(name, kind):
    mine = optimiser(name=name, momentum=0.8, nesterov=name == "sgd", betas=(0.7, 0.9), weight_decay=0.03)
    assert type(mine) is kind
    (group,) = mine.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.4, 0.03)
    if name == "sgd":
        assert (group["momentum"], group["nesterov"]) == (0.8, True)
    else:
        assert group["betas"] == (0.7, 0.9)


def test_each_stage_below_the_head_learns_at_the_rate_times_the_decay():
    groups = stages(3)
    mine = make_optimiser(Optimiser(learning_rate=0.1, layer_decay=0.5), groups)
    for stage, rate in zip(groups, (0.025, 0.05, 0.1), strict=True):
        for parameter in stage:
            assert found(mine, parameter)[0] == pytest.approx(rate)


def test_the_first_group_is_the_heads():
    groups = stages(3)
    mine = make_optimiser(Optimiser(layer_decay=0.5), groups)
    assert mine.param_groups[0]["params"][0] is groups[-1][0]


@pytest.mark.parametrize("decay_biases", [True, False])
def test_biases_decay_only_when_they_are_to(decay_biases):
    groups = stages(2)
    mine = make_optimiser(Optimiser(weight_decay=0.1, decay_biases=decay_biases), groups)
    for matrix, bias in groups:
        assert found(mine, matrix)[1] == 0.1
        assert found(mine, bias)[1] == (0.1 if decay_biases else 0.0)
    assert sum(len(group["params"]) for group in mine.param_groups) == 4


def test_a_constant_rate_stays():
    assert flat(rates({"name": "constant"})) == pytest.approx([0.4] * (EPOCHS * BATCHES))


def test_step_multiplies_after_so_many_epochs_as_torch_does():
    got = rates({"name": "step", "step_epochs": 3, "gamma": 0.1})
    theirs = optimiser()
    scheduler = lr_scheduler.StepLR(theirs, 3, 0.1)
    for row in got:
        assert row == [theirs.param_groups[0]["lr"]] * BATCHES
        theirs.step()
        scheduler.step()
    assert [row[0] for row in got] == pytest.approx([0.4, 0.4, 0.4, 0.04, 0.04, 0.04, 0.004, 0.004])


def test_cosine_falls_to_zero_over_the_whole_training_step_by_step():
    steps = EPOCHS * BATCHES
    expected = [0.2 * (1 + math.cos(math.pi * step / steps)) for step in range(steps)]
    got = flat(rates({"name": "cosine"}))
    assert got == pytest.approx(expected)
    assert 0 < got[-1] < 0.01 * got[0]


@pytest.mark.parametrize("warmup", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("name", ["constant", "cosine", "step"])
def test_a_warm_up_rises_linearly_and_the_schedule_follows(name, warmup):
    warm, steps = round(warmup * BATCHES), EPOCHS * BATCHES
    got = flat(rates({"name": name, "step_epochs": 2, "gamma": 0.1, "warmup_epochs": warmup}))
    assert got[:warm] == pytest.approx([0.4 * (step + 1) / (warm + 1) for step in range(warm)])
    after = {
        "constant": lambda _: 0.4,
        "cosine": lambda step: 0.2 * (1 + math.cos(math.pi * step / (steps - warm))),
        "step": lambda step: 0.4 * 0.1 ** (step // (2 * BATCHES)),
    }[name]
    assert got[warm:] == pytest.approx([after(step) for step in range(steps - warm)])
    assert max(got) == pytest.approx(0.4)


@pytest.mark.parametrize("name", ["constant", "cosine", "step"])
def test_a_warm_up_longer_than_the_training_ends_with_it(name):
    got = flat(rates({"name": name, "warmup_epochs": 5}, epochs=1))
    assert got == pytest.approx([0.4 * (step + 1) / BATCHES for step in range(BATCHES)])


@pytest.mark.parametrize("settings", [{"momentum": 0.9}, {"name": "adamw"}], ids=["sgd", "adamw"])
def test_one_cycle_rises_to_the_rate_and_falls_to_almost_nothing_as_torchs_does(settings):
    got = flat(rates({"name": "one-cycle"}, **settings))
    steps = EPOCHS * BATCHES
    theirs = optimiser(**settings)
    scheduler = lr_scheduler.OneCycleLR(theirs, 0.4, total_steps=steps + 1, cycle_momentum=False)
    for rate in got:
        assert rate == pytest.approx(theirs.param_groups[0]["lr"])
        theirs.step()
        scheduler.step()
    assert got[0] == pytest.approx(0.4 / 25)
    assert max(got) == pytest.approx(0.4, rel=0.01)
    assert 0.2 * steps < got.index(max(got)) < 0.4 * steps
    assert got[-1] < 0.01 * max(got)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_one_cycle_leaves_the_momentum_as_the_recipe_says(momentum):
    mine = optimiser(momentum=momentum)
    pace = make_pace(mine, Recipe(epochs=2, schedule={"name": "one-cycle"}), BATCHES)
    for _ in range(2 * BATCHES):
        assert mine.param_groups[0]["momentum"] == momentum
        mine.step()
        pace.after_batch()


def test_one_cycle_keeps_the_proportions_of_the_stages():
    mine = make_optimiser(Optimiser(learning_rate=0.4, layer_decay=0.5), stages(2))
    pace = make_pace(mine, Recipe(epochs=2, schedule={"name": "one-cycle"}), BATCHES)
    for _ in range(2 * BATCHES):
        head, below = (group["lr"] for group in mine.param_groups)
        assert below == pytest.approx(head / 2)
        mine.step()
        pace.after_batch()


def test_plateau_multiplies_when_the_validation_loss_stands_still_as_torchs_does():
    validation = [1.0, 0.9, 0.9, 0.95, 0.9, 0.8, 0.8, 0.8]
    got = rates({"name": "plateau", "patience": 1, "gamma": 0.5}, losses=validation)
    theirs = optimiser()
    scheduler = lr_scheduler.ReduceLROnPlateau(theirs, factor=0.5, patience=1)
    for row, loss in zip(got, validation, strict=True):
        assert row == [theirs.param_groups[0]["lr"]] * BATCHES
        theirs.step()
        scheduler.step(loss)
    assert [row[0] for row in got] == pytest.approx([0.4, 0.4, 0.4, 0.4, 0.2, 0.2, 0.2, 0.2])


LOGITS = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
LABELS = torch.tensor([0, 1, 2, 3, 1, 1])
HARD = functional.one_hot(LABELS, 4).double()
SOFT = 0.7 * HARD + 0.3 * HARD.roll(1, 0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_on_hard_targets(smoothing):
    got = losses(LOGITS, HARD, Loss(label_smoothing=smoothing))
    expected = functional.cross_entropy(LOGITS, LABELS, reduction="none", label_smoothing=smoothing)
    assert got.shape == (6,)
    assert torch.allclose(got, expected)


def test_cross_entropy_of_mixed_targets_is_the_mixed_cross_entropy():
    settings = Loss()
    expected = 0.7 * losses(LOGITS, HARD, settings) + 0.3 * losses(LOGITS, HARD.roll(1, 0), settings)
    assert torch.allclose(losses(LOGITS, SOFT, settings), expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_of_hard_targets_is_the_formula(gamma):
    got = losses(LOGITS, HARD, Loss(name="focal", gamma=gamma))
    for row, label in enumerate(LABELS.tolist()):
        powers = [math.exp(value) for value in LOGITS[row].tolist()]
        right = powers[label] / sum(powers)
        assert got[row].item() == pytest.approx(-((1 - right) ** gamma) * math.log(right))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("targets", [HARD, SOFT], ids=["hard", "mixed"])
def test_focal_loss_without_focus_is_cross_entropy(targets, smoothing):
    focal = losses(LOGITS, targets, Loss(name="focal", gamma=0, label_smoothing=smoothing))
    assert torch.allclose(focal, losses(LOGITS, targets, Loss(label_smoothing=smoothing)))


def test_focal_loss_is_finite_with_a_gradient_where_the_model_is_sure():
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    sure = losses(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]]), Loss(name="focal"))
    sure.sum().backward()
    assert torch.isfinite(sure).all()
    assert torch.isfinite(logits.grad).all()
