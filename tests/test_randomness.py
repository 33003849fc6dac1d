"""Randomness by (seed, purpose, position): the same everywhere, different for anything different."""

import random

import numpy as np
import pytest

from headstart.learning.randomness import generator, number

ARGUMENTS = [(0, "order"), (1, "order"), (0, "mix"), (0, "order", 0), (0, "order", 1), (0, "order", 0, 1), (0, "xyzzy")]


def test_numbers_are_the_same_on_every_machine():
    expected = {
        (0, "head"): 150793052109938405,
        (7, "picture", 3, 41): 5882614311023895348,
    }
    assert {arguments: number(*arguments) for arguments in expected} == expected


def test_numbers_fit_into_63_bits_and_use_them():
    made = [number(0, "picture", epoch, row) for epoch in range(10) for row in range(100)]
    assert all(type(one) is int and 0 <= one < 2**63 for one in made)
    assert max(made) > 2**62
    assert len(set(made)) == len(made)


def test_other_arguments_give_other_numbers_and_draws():
    assert len({number(*arguments) for arguments in ARGUMENTS}) == len(ARGUMENTS)
    assert len({float(generator(*arguments).random()) for arguments in ARGUMENTS}) == len(ARGUMENTS)


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_a_generator_begins_anew_each_time(arguments):
    first, second = generator(*arguments), generator(*arguments)
    draws = first.random(5)
    assert np.array_equal(draws, second.random(5))
    assert not np.array_equal(draws, first.random(5))


def test_other_randomness_is_neither_used_nor_changed():
    made = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        states = random.getstate(), np.random.get_state()[1].tolist()
        made.append((number(3, "batch", 5), float(generator(3, "batch", 5).random())))
        assert states == (random.getstate(), np.random.get_state()[1].tolist())
    assert made[0] == made[1]
