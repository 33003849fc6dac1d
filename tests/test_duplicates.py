from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.pictures.dataset import Dataset, Part, Problem, Sample
from headstart.pictures.duplicates import groups, resolve
from headstart.pictures.inspect import inspect
from headstart.pictures.scan import scan


def dataset_of(*samples: Sample) -> Dataset:
    return Dataset(Path("/data"), samples)


def sample(path: str, digest: str, part: Part | None = None, group: str | None = None) -> Sample:
    return Sample(path, path.split("/")[-2], part, group, digest)


def paths(dataset: Dataset) -> list[str]:
    return [sample.path for sample in dataset.samples]


def test_different_pictures_are_left_alone() -> None:
    dataset = dataset_of(sample("cats/1", "a"), sample("dogs/2", "b"))
    assert resolve(dataset) == dataset


def test_one_picture_under_two_labels_is_left_out_everywhere() -> None:
    dataset = dataset_of(
        sample("train/cats/1", "a", "train"),
        sample("train/cats/2", "b", "train"),
        sample("train/dogs/1", "a", "train"),
        sample("val/dogs/9", "a", "test"),
    )
    resolved = resolve(dataset)
    assert paths(resolved) == ["train/cats/2"]
    assert resolved.problems == (
        Problem(
            "train/cats/1",
            "conflicting_label",
            "the same picture is also 'dogs' (train/dogs/1), 'dogs' (val/dogs/9)",
            "left out",
        ),
        Problem("train/dogs/1", "conflicting_label", "the same picture is also 'cats' (train/cats/1)", "left out"),
        Problem("val/dogs/9", "conflicting_label", "the same picture is also 'cats' (train/cats/1)", "left out"),
    )


def test_many_conflicts_are_summed_up() -> None:
    many = [sample(f"cats/{number}", "a") for number in range(6)]
    resolved = resolve(dataset_of(*many, sample("dogs/1", "a")))
    assert resolved.problems[-1].detail.endswith("'cats' (cats/2) and 3 more")


def test_leaks_are_removed_from_training() -> None:
    dataset = dataset_of(
        sample("train/cats/1", "a", "train"),
        sample("train/cats/2", "a", "train"),
        sample("train/cats/3", "b", "train"),
        sample("train/cats/4", "c", "train"),
        sample("val/cats/1", "a", "val"),
        sample("val/cats/2", "b", "val"),
        sample("test/cats/1", "a", "test"),
    )
    resolved = resolve(dataset)
    assert paths(resolved) == ["train/cats/4", "val/cats/2", "test/cats/1"]
    assert [(problem.path, problem.kind, problem.action) for problem in resolved.problems] == [
        ("train/cats/1", "leak", "removed from training"),
        ("train/cats/2", "leak", "removed from training"),
        ("val/cats/1", "leak", "removed from selection"),
        ("train/cats/3", "leak", "removed from training"),
    ]
    assert resolved.problems[0].detail == "the same picture is in test: test/cats/1"
    assert resolved.problems[3].detail == "the same picture is in val: val/cats/2"


def test_leaks_may_be_kept_but_not_in_silence() -> None:
    dataset = dataset_of(sample("train/cats/1", "a", "train"), sample("val/cats/1", "a", "test"))
    resolved = resolve(dataset, keep_leaks=True)
    assert resolved.samples == dataset.samples
    assert resolved.problems == (Problem("train/cats/1", "leak", "the same picture is in test: val/cats/1", "kept"),)


def test_copies_in_one_part_are_kept_and_named() -> None:
    resolved = resolve(dataset_of(sample("cats/1", "a"), sample("cats/2", "a"), sample("cats/3", "a")))
    assert len(resolved.samples) == 3
    assert resolved.problems[1] == Problem(
        "cats/3", "duplicate", "the same picture as cats/1", "kept, together with its twin in one part"
    )


def test_a_picture_listed_twice_counts_once() -> None:
    dataset = dataset_of(sample("cats/1", "a"), sample("cats/1", "a"), sample("cats/2", "a"))
    resolved = resolve(dataset)
    assert paths(resolved) == ["cats/1", "cats/2"]
    assert resolved.problems[0] == Problem("cats/1", "duplicate", "listed twice", "left out")
    conflict = dataset_of(Sample("x/1", "cat", digest="a"), Sample("x/1", "dog", digest="a"))
    assert resolve(conflict).samples == ()


def test_resolving_twice_changes_nothing() -> None:
    dataset = dataset_of(sample("train/cats/1", "a", "train"), sample("val/cats/1", "a", "test"))
    once = resolve(dataset)
    assert resolve(once) == once


def test_an_unread_sample_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="cats/1 has not been read"):
        resolve(dataset_of(sample("cats/1", "")))


def test_groups_follow_content_and_the_users_groups() -> None:
    dataset = dataset_of(
        sample("cats/1", "d"),
        sample("cats/2", "a", group="g"),
        sample("dogs/1", "b", group="g"),
        sample("dogs/2", "b", group="h"),
        sample("dogs/3", "c", group="h"),
        sample("dogs/4", "b0"),
    )
    assert groups(dataset).tolist() == [2, 0, 0, 0, 0, 1]
    assert groups(dataset).dtype == np.int64
    assert groups(dataset_of()).tolist() == []


FEW = st.sampled_from("abcdefgh")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(FEW, st.none() | st.sampled_from("xyz")), max_size=12), st.randoms())
def test_groups_do_not_depend_on_the_order(bonds: list[tuple[str, str | None]], random: object) -> None:
    samples = [Sample(str(number), "cats", None, group, digest) for number, (digest, group) in enumerate(bonds)]
    numbers = dict(zip(samples, groups(dataset_of(*samples)).tolist(), strict=True))
    shuffled = list(samples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert dict(zip(shuffled, groups(dataset_of(*shuffled)).tolist(), strict=True)) == numbers
    for one in samples:
        for other in samples:
            if one.digest == other.digest or (one.group is not None and one.group == other.group):
                assert numbers[one] == numbers[other]


@pytest.mark.photos
def test_leaks_of_car_brands(photos: Path) -> None:
    dataset = inspect(scan(photos / "car_brands4"))
    resolved = resolve(dataset)
    leaks = [problem for problem in resolved.problems if problem.kind == "leak"]
    twins = {problem.detail for problem in leaks}
    assert len(twins) == 20
    assert all(problem.path.startswith("Train/") for problem in leaks)
    test = {sample.digest for sample in resolved.samples if sample.given == "test"}
    assert not test & {sample.digest for sample in resolved.samples if sample.given == "train"}
    kept = resolve(dataset, keep_leaks=True)
    assert [problem.path for problem in kept.problems if problem.kind == "leak"] == [leak.path for leak in leaks]
    assert len(kept.samples) == len(dataset.samples)


@pytest.mark.photos
def test_conflict_in_oddities(photos: Path) -> None:
    resolved = resolve(inspect(scan(photos / "oddities")))
    conflicts = {problem.path for problem in resolved.problems if problem.kind == "conflicting_label"}
    assert {"amber/same_photo.jpg", "blue/same_photo_other_class.jpg"} <= conflicts
    assert not conflicts & set(paths(resolved))
