"""The arithmetic of a training: measured once, remembered, and nothing learnt on the way."""

import copy

import pytest
import torch
from torch import nn

from headstart.features.cutting import Cut
from headstart.learning import arithmetic
from headstart.learning.arithmetic import Arithmetic, arrange, fastest
from headstart.learning.student import Pupil, Student

CPU = torch.device("cpu")
SIDE = 16


class Body(nn.Module):
    """Pixels uint8 [n, h, w, 3] -> features [n, 4], with batch norm and dropout, which measuring must not change."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm, self.dropout = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)

    def forward(self, pixels):
        maps = self.norm(self.convolution(pixels.permute(0, 3, 1, 2).float()))
        return self.dropout(maps).mean((2, 3))


def pupil(holds="nothing", divided=None, body=None):
    torch.manual_seed(0)
    student = Student(body or Body(), nn.Linear(4, 2), holds)
    return Pupil(student, None, None, (), divided, (8, SIDE))


def measured(monkeypatch, seconds):
    """Let the arithmetics take `seconds`, by (precision, channels_last); returns the list of those that were asked."""
    asked = []

    def answer(_pupil, _device, candidate):
        asked.append((candidate.precision, candidate.channels_last))
        return seconds[asked[-1]]

    monkeypatch.setattr(arithmetic, "_seconds", answer)
    return asked


def never(*_):
    raise AssertionError("measured again")


def test_what_was_measured_is_remembered(monkeypatch):
    first = fastest(pupil(), CPU, "key")
    assert first.precision in ("f32", "bf16")
    monkeypatch.setattr(arithmetic, "_seconds", never)
    assert fastest(pupil(), CPU, "key") == first
    with pytest.raises(AssertionError, match="measured again"):
        fastest(pupil(), CPU, "another key")


@pytest.mark.parametrize("holds", ["nothing", "norms", "all"])
def test_nothing_is_learnt_while_measuring(holds):
    mine = pupil(holds)
    before = copy.deepcopy(mine.student.state_dict())
    assert "body.norm.running_mean" in before
    fastest(mine, CPU, "key")
    after = mine.student.state_dict()
    assert list(after) == list(before)
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name
    assert all(parameter.grad is None for parameter in mine.student.parameters())


def test_the_fastest_is_taken_where_it_is_worth_it(monkeypatch):
    monkeypatch.setattr(arithmetic, "_has_bf16", lambda _: True)
    plain = {("f32", True): 1.0, ("f32", False): 2.0, ("bf16", False): 3.0}
    asked = measured(monkeypatch, {**plain, ("bf16", True): 0.5})
    assert fastest(pupil(), CPU, "worth it") == Arithmetic("bf16", True)
    assert sorted(asked) == [("bf16", False), ("bf16", True), ("f32", False), ("f32", True)]
    measured(monkeypatch, {**plain, ("bf16", True): 0.97})
    assert fastest(pupil(), CPU, "hardly") == Arithmetic("f32", True)


def test_precisions_that_the_processor_lacks_are_not_tried(monkeypatch):
    monkeypatch.setattr(arithmetic, "_has_bf16", lambda _: False)
    asked = measured(monkeypatch, {("f32", True): 1.0, ("f32", False): 0.5})
    assert fastest(pupil(), CPU, "key") == Arithmetic("f32", False)
    assert asked == [("f32", True), ("f32", False)]


def test_what_is_measured_is_a_batch_of_the_largest_side_or_of_activations():
    seen = []

    class Watching(nn.Module):
        def forward(self, inputs):
            seen.append((tuple(inputs.shape), inputs.dtype))
            return inputs.float().flatten(1)[:, :4]

    fastest(pupil(body=Watching()), CPU, "pictures")
    assert set(seen) == {((8, SIDE, SIDE, 3), torch.uint8)}
    seen.clear()
    divided = Cut("stage", nn.Identity(), nn.Identity(), (5, 2, 2), 0.2)
    fastest(pupil(divided=divided, body=Watching()), CPU, "activations")
    assert set(seen) == {((8, 5, 2, 2), torch.float32)}


def test_processes_that_train_together_measure_nothing(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(arithmetic, "_seconds", never)
    assert fastest(pupil(), CPU, "key") == Arithmetic("f32", True)


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_student_is_laid_out_as_was_chosen(channels_last):
    mine = pupil()
    arrange(mine, Arithmetic("f32", not channels_last))
    arrange(mine, Arithmetic("f32", channels_last))
    weight = mine.student.body.convolution.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert weight.is_contiguous() != channels_last
