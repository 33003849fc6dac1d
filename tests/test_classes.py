from pathlib import Path

import pytest

from headstart.errors import DataError
from headstart.pictures.classes import check_classes
from headstart.pictures.dataset import Dataset, Part, Problem, Sample


def dataset_of(counts: dict[tuple[Part | None, str], int], *, group: str | None = None) -> Dataset:
    samples = [
        Sample(f"{part}/{label}/{number}", label, part, group and f"{label}{group}", f"{part}{label}{number}")
        for (part, label), count in counts.items()
        for number in range(count)
    ]
    return Dataset(Path("/data"), tuple(samples))


def test_enough_of_everything_passes_unchanged() -> None:
    dataset = dataset_of({(None, "cats"): 10, (None, "dogs"): 12})
    assert check_classes(dataset) == dataset


def test_small_classes_are_kept_with_a_warning_and_lost_ones_named() -> None:
    dataset = dataset_of({(None, "cats"): 3, (None, "dogs"): 12})
    assert check_classes(dataset, scanned={"cats", "dogs", "owls"}).problems == (
        Problem("owls/", "empty_class", "none of its pictures can be used", "left out"),
        Problem("cats/", "too_few", "only 3 pictures: its numbers will be uncertain", "kept"),
    )


def test_classes_without_enough_pictures_are_refused() -> None:
    dataset = dataset_of({(None, "owl"): 1, (None, "dog"): 1, (None, "cat"): 2, (None, "ape"): 3})
    message = (
        r"^3 classes have fewer than 3 different pictures: cat \(2\), dog \(1\), owl \(1\)\."
        r" Add pictures or remove the folders\.$"
    )
    with pytest.raises(DataError, match=message):
        check_classes(dataset)


def test_copies_are_not_different_pictures() -> None:
    samples = tuple(Sample(f"cats/{number}", "cats", digest="same") for number in range(5))
    others = dataset_of({(None, "dogs"): 5}).samples
    with pytest.raises(DataError, match=r"1 class has fewer than 3 different pictures: cats \(1\)"):
        check_classes(Dataset(Path("/data"), samples + others))


def test_classes_in_too_few_groups_are_refused() -> None:
    with pytest.raises(DataError, match=r"2 classes have fewer than 3 groups of pictures .*: cats \(1\), dogs \(1\)\."):
        check_classes(dataset_of({(None, "cats"): 5, (None, "dogs"): 5}, group="1"))


def test_one_class_or_none() -> None:
    with pytest.raises(DataError, match=r"there is only one class, 'cats': .* Add folders for the others\.$"):
        check_classes(dataset_of({(None, "cats"): 5}))
    gone = Problem("cats/1.jpg", "unreadable", "empty file", "left out")
    with pytest.raises(DataError, match=r"no picture left to train on\. 1 things .* cats/1\.jpg: empty file\."):
        check_classes(Dataset(Path("/data"), (), (gone,)))
    with pytest.raises(DataError, match="no picture left to train on in the training part"):
        check_classes(dataset_of({("test", "cats"): 5}))
    with pytest.raises(DataError, match="only one class in the training part, 'cats'"):
        check_classes(dataset_of({("train", "cats"): 5, ("test", "dogs"): 5}))


def test_a_given_test_needs_two_training_pictures_of_each_class() -> None:
    parts = {("train", "cats"): 2, ("train", "dogs"): 12, ("test", "cats"): 20, ("test", "dogs"): 1}
    assert check_classes(dataset_of(parts)).problems == (
        Problem("cats/", "too_few", "only 2 training pictures: its numbers will be uncertain", "kept"),
    )
    with pytest.raises(DataError, match=r"1 class has fewer than 2 different training pictures: cats \(1\)"):
        check_classes(dataset_of(parts | {("train", "cats"): 1}))


def test_test_pictures_of_unknown_classes_are_left_out() -> None:
    parts = {("train", "cats"): 10, ("train", "dogs"): 10, ("val", "cats"): 1, ("val", "owls"): 1, ("test", "Dogs"): 1}
    dataset = dataset_of(parts | {("test", "cats"): 1})
    checked = check_classes(dataset)
    assert checked.problems == (
        Problem("Dogs/", "empty_class", "none of its training pictures can be used", "left out"),
        Problem("owls/", "empty_class", "none of its training pictures can be used", "left out"),
        Problem("val/owls/0", "ignored", "the training part has no class 'owls'", "left out"),
        Problem("test/Dogs/0", "ignored", "the training part has no class 'Dogs'", "left out"),
    )
    assert len(checked.samples) == len(dataset.samples) - 2
    with pytest.raises(
        DataError, match=r"no class of the test \(Dogs, owls\) is a class of the training part \(cats, dogs"
    ):
        check_classes(dataset_of(parts))
