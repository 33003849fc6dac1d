"""History: one record per epoch, kept in a CSV file that is whole after each."""

import csv
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from headstart.storage import written_atomically

HISTORY = "history.csv"


@dataclass(frozen=True)
class Epoch:
    """One pass over the training pictures.

    `train_loss` and `train_accuracy` are means over the pictures as they were seen, augmented and by the weights of
    that moment; `val_loss` and `val_accuracy` are of the weights at the end of the epoch, on pictures that are not
    trained on. `train_loss` is what the recipe names, `val_loss` always cross-entropy; accuracies lie in 0..1. `lr` is
    the head's learning rate at the first step.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float

    def __str__(self) -> str:
        return (
            f"train loss {self.train_loss:.4f} accuracy {self.train_accuracy:.4f}, "
            f"validation loss {self.val_loss:.4f} accuracy {self.val_accuracy:.4f}, {self.seconds:.1f} s"
        )


COLUMNS = tuple(field.name for field in fields(Epoch))


def write_history(path: Path, epochs: Sequence[Epoch]) -> None:
    """Write history.csv, one row an epoch, whole or not at all."""
    with written_atomically(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(astuple(epoch) for epoch in epochs)


def read_history(path: Path) -> tuple[Epoch, ...]:
    """The epochs that `write_history` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(Epoch(int(row["epoch"]), *(float(row[name]) for name in COLUMNS[1:])) for row in rows)
