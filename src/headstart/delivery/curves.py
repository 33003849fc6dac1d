"""Learning curves: loss and accuracy of each epoch, as a picture."""

from collections.abc import Sequence
from pathlib import Path

from headstart.learning.history import Epoch
from headstart.storage import written_atomically

CURVES = "learning_curves.png"
TRAIN, VALIDATION = "#8a8f98", "#1b5fc1"


def draw_curves(history: Sequence[Epoch], path: Path) -> None:
    """Draw train and validation loss and accuracy over the epochs into the PNG file `path`."""
    from matplotlib.figure import Figure  # half a second: only where a loop ran
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    epochs = [epoch.epoch for epoch in history]
    curves = {
        "loss": ([epoch.train_loss for epoch in history], [epoch.val_loss for epoch in history]),
        "accuracy": ([epoch.train_accuracy for epoch in history], [epoch.val_accuracy for epoch in history]),
    }
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, (name, (train, validation)) in zip(figure.subplots(1, 2), curves.items(), strict=True):
        axes.plot(epochs, train, color=TRAIN, marker="o", markersize=3, label="train, as augmented")
        axes.plot(epochs, validation, color=VALIDATION, marker="o", markersize=3, label="validation")
        axes.set(xlabel="epoch", title=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    axes.legend(frameon=False)
    with written_atomically(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
