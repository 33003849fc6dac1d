"""Where the heavy work of a road is done: in this process, or on a cluster."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from headstart.delivery.run_folder import TrainOptions
from headstart.errors import HeadstartError
from headstart.features.extract import Embedding
from headstart.learning.examples import Examples
from headstart.learning.solve import Solved
from headstart.progress import Progress

if TYPE_CHECKING:
    from headstart.learning.finetune import Job, Tuned


@dataclass(frozen=True)
class Candidate:
    """One training of a comparison: its name, the data, where the run goes, and its options."""

    name: str
    data: Path
    folder: Path
    options: TrainOptions


class Finetune(Protocol):
    """Who trains by epochs; see `headstart.learning.finetune.finetune`."""

    def __call__(self, solved: Solved, examples: Examples, job: "Job", progress: Progress) -> "Tuned":
        """The tuned classifier, or the solved one."""


class TrainEach(Protocol):
    """Who trains the candidates of a comparison."""

    def __call__(
        self, candidates: Sequence[Candidate], tell: Callable[[str], None], progress: Progress
    ) -> Iterator[tuple[Candidate, str | HeadstartError]]:
        """Each candidate when its run is complete, with a line about it, or with why it failed; in any order.

        `tell` is given a line when one begins.
        """


@dataclass(frozen=True)
class Site:
    """Who does what takes long: `embed` features, `finetune` by epochs, `train_each` candidate of a comparison."""

    embed: Embedding
    finetune: Finetune
    train_each: TrainEach
