"""Some rows of a large array, in an order of their own, copied only as far as they are asked for."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Vectors(Protocol):
    """Features float32 [n, d], all in one array or not: what is read block by block."""

    def __len__(self) -> int:
        """How many rows there are."""

    def __getitem__(self, part: Any, /) -> NDArray[np.float32]:
        """The rows at a slice, or at int [m]."""


@dataclass(frozen=True, eq=False)
class Picked:
    """The rows `vectors[rows]`, float32 [n, d], of `vectors` [N, d] and `rows` int [n], without a copy of them all."""

    vectors: NDArray[np.float32]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: Any, /) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self.vectors[self.rows[part]]
        return found
