"""The order of samples and the growth of pictures, epoch by epoch; and where the loop's inputs come from."""

import numpy as np
import pytest
import torch

from headstart.learning import sources
from headstart.learning.activations import Look
from headstart.learning.pixels import Batch, Key
from headstart.learning.sources import PLAIN, FromActivations, FromPictures, Growth, Wanted, look, order
from headstart.pictures.dataset import Problem

LABELS = np.repeat([0, 1, 2], [900, 90, 10])


def test_an_epoch_takes_every_row_once():
    taken = order(LABELS, 0, 0, balanced=False)
    assert sorted(taken.tolist()) == list(range(len(LABELS)))
    assert taken.tolist() != list(range(len(LABELS)))


@pytest.mark.parametrize("balanced", [False, True])
def test_the_order_depends_on_seed_and_epoch_alone(balanced):
    np.random.seed(1)
    first = order(LABELS, 3, 7, balanced=balanced)
    np.random.seed(2)
    assert np.array_equal(order(LABELS, 3, 7, balanced=balanced), first)
    assert not np.array_equal(order(LABELS, 4, 7, balanced=balanced), first)
    assert not np.array_equal(order(LABELS, 3, 8, balanced=balanced), first)


def test_balanced_draws_give_every_class_the_same_share():
    drawn = np.concatenate([order(LABELS, epoch, 0, balanced=True) for epoch in range(30)])
    assert len(drawn) == 30 * len(LABELS)
    shares = np.bincount(LABELS[drawn]) / len(drawn)
    assert shares == pytest.approx(np.full(3, 1 / 3), abs=0.015)  # five standard errors
    within = np.bincount(drawn, minlength=len(LABELS))[LABELS == 2] / len(drawn)
    assert within == pytest.approx(np.full(10, 1 / 30), abs=0.006)


@pytest.mark.parametrize(("epochs", "each"), [(3, 1), (9, 3), (12, 4)])
def test_growing_sides_have_equal_shares_of_the_epochs(epochs, each):
    growth = Growth((128, 160, 224), epochs)
    sides = [growth.side(epoch) for epoch in range(epochs)]
    assert sides == [128] * each + [160] * each + [224] * each
    assert growth.settled == 2 * each


def test_shares_differ_by_at_most_one_epoch_and_never_shrink():
    for epochs in range(3, 30):
        growth = Growth((128, 160, 224), epochs)
        sides = [growth.side(epoch) for epoch in range(epochs)]
        counts = [sides.count(side) for side in growth.sides]
        assert sides == sorted(sides)
        assert max(counts) - min(counts) <= 1
        assert growth.settled == sides.index(224)


def test_a_single_side_is_settled_from_the_first_epoch():
    growth = Growth((224,), 5)
    assert {growth.side(epoch) for epoch in range(5)} == {224}
    assert growth.settled == 0


def test_draws_take_turns_within_a_side():
    growth = Growth((32, 64), 4)
    assert [look(growth, 2, epoch) for epoch in range(4)] == [Look(32, 0), Look(32, 1), Look(64, 0), Look(64, 1)]
    assert {look(growth, 1, epoch).draw for epoch in range(4)} == {0}


def test_pictures_are_asked_for_by_epoch_and_row(monkeypatch):
    problem, asked = Problem("a.png", "vanished", "gone", "left out"), []

    def answer(pictures, keys, workers, **_):
        for batch in keys:
            asked.append((pictures, tuple(batch), workers))
            yield Batch(torch.zeros(1, 2, 2, 3, dtype=torch.uint8), np.array([1]), (problem,))

    monkeypatch.setattr(sources, "batches", answer)
    source = FromPictures("training", "validation", Growth((32, 64), 2), 5, 3)
    (fetched, *_) = list(source.training([Wanted(0, [4, 9]), Wanted(1, [4]), Wanted(0, [4])]))
    assert (fetched.inputs.shape, fetched.places.tolist(), fetched.problems) == ((1, 2, 2, 3), [1], (problem,))
    list(source.plain([[0, 1], [2]]))
    assert [(pictures, workers) for pictures, _, workers in asked] == [("training", 3)] * 3 + [("validation", 0)] * 2
    first, second, again = (keys for _, keys, _ in asked[:3])
    assert [(key.row, key.side) for key in first] == [(4, 32), (9, 32)]
    assert second[0].side == 64
    assert len({first[0].seed, first[1].seed, second[0].seed}) == 3
    assert again == first[:1]
    assert asked[3][1] == (Key(0), Key(1))
    assert Key(0).seed is None


def test_activations_are_taken_from_the_view_of_the_epoch():
    class Kept:
        def __init__(self):
            self.asked = []

        def take(self, wanted, rows):
            self.asked.append((wanted, list(rows)))
            return torch.zeros(len(rows), 4), np.arange(len(rows))

    training, validation = Kept(), Kept()
    source = FromActivations(training, validation, Growth((32, 64), 4), 2)
    fetched = list(source.training([Wanted(0, [3, 1]), Wanted(3, [0])]))
    assert training.asked == [(Look(32, 0), [3, 1]), (Look(64, 1), [0])]
    assert fetched[0].inputs.shape == (2, 4)
    assert fetched[0].problems == ()
    assert len(list(source.plain([[5, 6]]))) == 1
    assert validation.asked == [(PLAIN, [5, 6])]
