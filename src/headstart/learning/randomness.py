"""Randomness as a function of (seed, purpose, position): nothing needs to be remembered to go on from anywhere."""

import numpy as np


def number(seed: int, purpose: str, *position: int) -> int:
    """A seed in 0..2^63-1 for what `purpose` names at `position`; the same for the same arguments, everywhere."""
    sequence = np.random.SeedSequence([seed, *purpose.encode(), *position])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int, purpose: str, *position: int) -> np.random.Generator:
    """NumPy's default generator, seeded with (seed, purpose, position)."""
    return np.random.default_rng([seed, *purpose.encode(), *position])
