"""Checkpoints: what is saved comes back, damage falls back on the reserve, and no code is run."""

import pytest
import torch
from torch import nn

from headstart.errors import StorageError
from headstart.learning import checkpoint
from headstart.learning.optimise import make_optimiser, make_pace
from headstart.learning.recipes import Optimiser, Recipe


def state(number):
    return {
        "student": {"weight": torch.full((50, 40), float(number)), "bias": torch.arange(3)},
        "position": (number, 2),
        "seconds": 1.5,
        "best": None,
        "history": [{"epoch": 1, "lr": 0.1}],
    }


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_comes_back(tmp_path):
    checkpoint.save(tmp_path / "deep" / "run", 3, state(3))
    got, expected = checkpoint.load(tmp_path / "deep" / "run"), state(3)
    for name, tensor in expected.pop("student").items():
        assert torch.equal(got["student"][name], tensor)
        assert got["student"][name].dtype == tensor.dtype
    assert got.pop("student")
    assert got == expected


def test_without_a_checkpoint_there_is_none(tmp_path):
    assert checkpoint.load(tmp_path) is None
    assert checkpoint.load(tmp_path / "absent") is None


def test_the_newest_is_loaded_and_at_most_two_remain(tmp_path):
    for step in (1, 9, 10, 200):
        checkpoint.save(tmp_path, step, state(step))
        assert checkpoint.load(tmp_path)["position"] == (step, 2)
        assert len(names(tmp_path)) <= 2
    assert names(tmp_path) == ["checkpoint-00000010.pt", "checkpoint-00000200.pt"]


def test_a_step_is_saved_again_in_its_place(tmp_path):
    for number in (1, 2):
        checkpoint.save(tmp_path, 5, state(number))
    assert checkpoint.load(tmp_path)["position"] == (2, 2)
    assert names(tmp_path) == ["checkpoint-00000005.pt"]


DAMAGE = {
    "truncated": lambda data: data[: len(data) // 2],
    "a byte short": lambda data: data[:-1],
    "empty": lambda _: b"",
    "zeros": lambda data: bytes(len(data)),
    "rubbish": lambda _: b"rubbish\n" * 99,
    "without its beginning": lambda data: data[100:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_where_the_newest_is_damaged_the_reserve_is_loaded(tmp_path, damage):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, state(step))
    newest = tmp_path / "checkpoint-00000002.pt"
    newest.write_bytes(damage(newest.read_bytes()))
    assert checkpoint.load(tmp_path)["position"] == (1, 2)
    (tmp_path / "checkpoint-00000001.pt").unlink()
    assert checkpoint.load(tmp_path) is None


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    checkpoint.save(tmp_path / "run", 1, state(1))
    checkpoint.save(tmp_path / "run", 2, {"student": Bomb()})
    assert checkpoint.load(tmp_path / "run")["position"] == (1, 2)
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_that_cannot_be_written_leaves_the_ones_before(tmp_path, monkeypatch):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, state(step))

    def full(_state, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StorageError, match="no space left"):
        checkpoint.save(tmp_path, 3, state(3))
    assert names(tmp_path) == ["checkpoint-00000001.pt", "checkpoint-00000002.pt"]
    assert checkpoint.load(tmp_path)["position"] == (2, 2)


@pytest.mark.parametrize("warmup", [0.0, 1.0])
@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "one-cycle", "plateau"])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_optimisers_and_schedules_go_on_from_a_checkpoint_as_if_nothing_had_happened(tmp_path, name, schedule, warmup):
    recipe = Recipe(epochs=4, validate_on="fold", schedule={"name": schedule, "warmup_epochs": warmup, "patience": 0})

    def begin():
        parameter = nn.Parameter(torch.ones(3))
        optimiser = make_optimiser(Optimiser(name=name, momentum=0.9, learning_rate=0.1), [[parameter]])
        return parameter, optimiser, make_pace(optimiser, recipe, 3)

    def epoch(parameter, optimiser, pace):
        for _ in range(3):
            optimiser.zero_grad()
            parameter.square().sum().backward()
            optimiser.step()
            pace.after_batch()
        pace.after_epoch(1.0)

    whole = begin()
    for number in range(4):
        epoch(*whole)
        if number == 1:
            states = {"optimiser": whole[1].state_dict(), "schedule": whole[2].scheduler.state_dict()}
            checkpoint.save(tmp_path, 6, {**states, "parameter": whole[0].detach()})
    saved, resumed = checkpoint.load(tmp_path), begin()
    resumed[0].data.copy_(saved["parameter"])
    resumed[1].load_state_dict(saved["optimiser"])
    resumed[2].scheduler.load_state_dict(saved["schedule"])
    epoch(*resumed)
    epoch(*resumed)
    assert torch.equal(resumed[0], whole[0])
    assert resumed[1].param_groups[0]["lr"] == whole[1].param_groups[0]["lr"]
