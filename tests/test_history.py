"""history.csv: written whole, read back to the last digit."""

import csv
import math

import pytest

from headstart.learning.history import COLUMNS, HISTORY, Epoch, read_history, write_history

EPOCHS = (
    Epoch(1, 0.001, 1.0 / 3.0, 0.5, 0.1 + 0.2, 2.0 / 3.0, 12.345678901234567),
    Epoch(2, 1e-12, 1e300, 0.0, 5e-324, 1.0, 0.0),
)


def test_what_is_written_is_read_to_the_last_digit(tmp_path):
    path = tmp_path / "run" / HISTORY
    write_history(path, EPOCHS)
    assert read_history(path) == EPOCHS
    assert all(type(epoch.epoch) is int for epoch in read_history(path))


def test_losses_that_are_no_numbers_come_back(tmp_path):
    write_history(tmp_path / HISTORY, [Epoch(1, 0.1, math.inf, 0.5, math.nan, 0.5, 1.0)])
    (epoch,) = read_history(tmp_path / HISTORY)
    assert epoch.train_loss == math.inf
    assert math.isnan(epoch.val_loss)


def test_the_file_has_one_named_column_for_each_number(tmp_path):
    write_history(tmp_path / HISTORY, EPOCHS)
    with (tmp_path / HISTORY).open(newline="") as file:
        rows = list(csv.reader(file))
    names = ["epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds"]
    assert rows[0] == list(COLUMNS) == names
    assert len(rows) == 3
    assert [float(cell) for cell in rows[1]] == [1, 0.001, 1 / 3, 0.5, 0.1 + 0.2, 2 / 3, 12.345678901234567]


def test_writing_again_replaces_the_file_and_leaves_nothing_beside_it(tmp_path):
    write_history(tmp_path / HISTORY, EPOCHS[:1])
    write_history(tmp_path / HISTORY, EPOCHS)
    assert read_history(tmp_path / HISTORY) == EPOCHS
    assert list(tmp_path.iterdir()) == [tmp_path / HISTORY]


def test_a_failure_leaves_the_file_as_it_was(tmp_path):
    write_history(tmp_path / HISTORY, EPOCHS[:1])
    with pytest.raises(TypeError):
        write_history(tmp_path / HISTORY, [*EPOCHS, "no epoch"])
    assert read_history(tmp_path / HISTORY) == EPOCHS[:1]


def test_no_epochs_are_no_rows(tmp_path):
    write_history(tmp_path / HISTORY, [])
    assert read_history(tmp_path / HISTORY) == ()


def test_an_epoch_says_its_numbers():
    expected = "train loss 0.3333 accuracy 0.5000, validation loss 0.3000 accuracy 0.6667, 12.3 s"
    assert str(EPOCHS[0]) == expected
