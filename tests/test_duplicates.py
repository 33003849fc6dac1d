from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.pictures.dataset import Dataset, Part, Problem, Sample
from headstart.pictures.duplicates import groups, resolve
from headstart.pictures.inspect import inspect
from headstart.pictures.scan import scan


def dataset_of(*samples: Sample, twins: tuple[tuple[str, str], ...] = ()) -> Dataset:
    return Dataset(Path("/data"), samples, twins=twins)


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


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(FEW, st.none() | st.sampled_from("xyz")), max_size=12),
    st.lists(st.tuples(FEW, FEW), max_size=6),
    st.randoms(),
)
def test_twins_are_grouped_whatever_the_order(
    bonds: list[tuple[str, str | None]], pairs: list[tuple[str, str]], random: object
) -> None:
    samples = [Sample(str(number), "cats", None, group, digest) for number, (digest, group) in enumerate(bonds)]
    numbers = dict(zip(samples, groups(dataset_of(*samples, twins=tuple(pairs))).tolist(), strict=True))
    shuffled, turned = list(samples), [pair[::-1] for pair in pairs]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    random.shuffle(turned)  # type: ignore[attr-defined]
    again = groups(dataset_of(*shuffled, twins=tuple(turned))).tolist()
    assert dict(zip(shuffled, again, strict=True)) == numbers
    apart = groups(dataset_of(*samples)).tolist()
    for one in samples:
        for other in samples:
            if (one.digest, other.digest) in pairs:
                assert numbers[one] == numbers[other]
            elif not pairs:
                assert (numbers[one] == numbers[other]) == (apart[samples.index(one)] == apart[samples.index(other)])


def test_near_twins_come_in_chains() -> None:
    samples = [sample(f"cats/{digest}", digest) for digest in "abcdef"]
    numbers = groups(dataset_of(*samples, twins=(("a", "c"), ("e", "c"), ("b", "gone"), ("gone", "f"))))
    assert numbers.tolist() == [0, 1, 0, 2, 0, 3]


def test_a_training_picture_nearly_like_one_of_the_test_is_a_leak() -> None:
    dataset = dataset_of(
        sample("train/cats/1", "a", "train"),
        sample("train/cats/2", "a", "train"),
        sample("train/cats/3", "b", "train"),
        sample("val/cats/4", "c", "val"),
        sample("val/cats/5", "d", "val"),
        sample("test/cats/6", "e", "test"),
        sample("test/cats/7", "f", "test"),
        twins=(("e", "a"), ("c", "f"), ("b", "c"), ("a", "f"), ("e", "f")),
    )
    resolved = resolve(dataset)
    assert paths(resolved) == ["train/cats/3", "val/cats/5", "test/cats/6", "test/cats/7"]
    assert resolved.problems == (
        Problem("train/cats/1", "leak", "nearly the same picture is in test: test/cats/6", "removed from training"),
        Problem("train/cats/2", "leak", "nearly the same picture is in test: test/cats/6", "removed from training"),
        Problem("val/cats/4", "leak", "nearly the same picture is in test: test/cats/7", "removed from selection"),
        Problem(
            "test/cats/7",
            "near_duplicate",
            "nearly the same as test/cats/6",
            "kept, together with its twin in one part",
        ),
    )


def test_near_leaks_of_val_are_removed_and_may_be_kept() -> None:
    dataset = dataset_of(sample("t/cats/1", "a", "train"), sample("v/cats/2", "b", "val"), twins=(("a", "b"),))
    assert paths(resolve(dataset)) == ["v/cats/2"]
    kept = resolve(dataset, keep_leaks=True)
    assert kept.samples == dataset.samples
    assert kept.problems == (Problem("t/cats/1", "leak", "nearly the same picture is in val: v/cats/2", "kept"),)


def test_near_twins_of_one_part_are_kept_and_the_later_is_named_once() -> None:
    samples = [sample(f"cats/{digest}", digest) for digest in "abcd"]
    resolved = resolve(
        replace(
            dataset_of(*samples, twins=(("a", "c"), ("c", "b"), ("a", "b"), ("d", "c"))),
            mirrored=frozenset([("c", "b")]),
        )
    )
    assert resolved.samples == tuple(samples)
    assert [(problem.path, problem.detail) for problem in resolved.problems] == [
        ("cats/c", "nearly the same as cats/a"),
        ("cats/b", "nearly the same as cats/a"),
        ("cats/d", "nearly the same as cats/c"),
    ]
    assert {problem.kind for problem in resolved.problems} == {"near_duplicate"}


def test_a_mirrored_twin_is_called_so() -> None:
    dataset = replace(
        dataset_of(sample("cats/1", "a"), sample("cats/2", "b"), twins=(("a", "b"),)),
        mirrored=frozenset([("a", "b")]),
    )
    assert resolve(dataset).problems[0].detail == "nearly the same as cats/1, mirrored"


def test_near_twins_with_different_labels_are_never_left_out() -> None:
    dataset = dataset_of(sample("train/cats/1", "a", "train"), sample("test/dogs/2", "b", "test"), twins=(("a", "b"),))
    resolved = resolve(dataset)
    assert resolved.samples == dataset.samples
    assert resolved.problems == (
        Problem(
            "train/cats/1",
            "near_duplicate",
            "nearly the same as test/dogs/2, which is 'dogs'",
            "kept; look at their labels",
        ),
        Problem(
            "test/dogs/2",
            "near_duplicate",
            "nearly the same as train/cats/1, which is 'cats'",
            "kept; look at their labels",
        ),
    )


def test_twins_of_pictures_that_are_left_out_do_not_count() -> None:
    dataset = dataset_of(
        sample("cats/1", "a"), sample("dogs/1", "a"), sample("cats/2", "b"), twins=(("a", "b"), ("b", "gone"))
    )
    resolved = resolve(dataset)
    assert paths(resolved) == ["cats/2"]
    assert {problem.kind for problem in resolved.problems} == {"conflicting_label"}


def test_thousands_of_near_twins_are_named_once_each() -> None:
    count = 2000
    samples = [sample(f"film/{number:04}", f"{number:04}") for number in range(count)]
    twins = tuple((f"{a:04}", f"{b:04}") for a in range(count) for b in range(a + 1, min(count, a + 6)))
    resolved = resolve(dataset_of(*samples, twins=twins))
    named = [problem.path for problem in resolved.problems]
    assert len(named) == len(set(named)) == count - 1
    assert set(groups(resolved).tolist()) == {0}


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
