from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.errors import UsageError
from headstart.pictures.dataset import Dataset, Part, Sample
from headstart.pictures.duplicates import groups
from headstart.pictures.split import ALWAYS_TRAIN, TEST, Split, split

LABELS = ("cats", "dogs")
GOLDEN = [2, 1, 0, 1, 0, 2, -2, -2, -2, 1, 1, 2, 0, 0, 2]
"""What seed 0 has drawn from 8 cats and 7 dogs since the first version."""


def digest(number: int) -> str:
    return f"{(number * 2654435761) % 2**32:08x}{number:08x}"


def dataset_of(counts: dict[str, int], *, start: int = 0, group_size: int | None = None) -> Dataset:
    samples = []
    for label, count in counts.items():
        for number in range(count):
            group = None if group_size is None else f"{label}{number // group_size}"
            samples.append(Sample(f"{label}/{number}", label, None, group, digest(start + len(samples))))
    return Dataset(Path("/data"), tuple(samples))


def given_parts(counts: dict[Part, int]) -> Dataset:
    names = [
        (part, f"{label}/{number}") for part, count in counts.items() for label in LABELS for number in range(count)
    ]
    samples = [
        Sample(f"{part}/{name}", name.split("/")[0], part, None, digest(position))
        for position, (part, name) in enumerate(names)
    ]
    return Dataset(Path("/data"), tuple(samples))


def counts_in(dataset: Dataset, parts: Split, part: int) -> Counter[str]:
    return Counter(sample.label for sample, its in zip(dataset.samples, parts.parts, strict=True) if its == part)


def by_digest(dataset: Dataset, parts: Split) -> dict[str, int]:
    return {sample.digest: int(part) for sample, part in zip(dataset.samples, parts.parts, strict=True)}


def test_fractions_and_folds_are_stratified() -> None:
    dataset = dataset_of({"cats": 100, "dogs": 53, "owls": 12})
    result = split(dataset)
    assert counts_in(dataset, result, TEST) == {"cats": 20, "dogs": 11, "owls": 2}
    for fold in range(5):
        held_out = counts_in(dataset, result, fold)
        assert held_out["cats"] == 16
        assert 8 <= held_out["dogs"] <= 9
        assert held_out["owls"] == 2
    assert result.parts.dtype == np.int32
    assert sorted([*result.test, *result.train]) == list(range(165))
    np.testing.assert_array_equal(result.folds, result.parts[result.train])
    assert set(result.folds.tolist()) == set(range(5))


def test_a_small_class_is_held_out_by_some_folds_only() -> None:
    dataset = dataset_of({"cats": 40, "dogs": 3})
    result = split(dataset)
    assert counts_in(dataset, result, TEST)["dogs"] == 1
    assert set(result.folds.tolist()) == set(range(5))
    assert sorted(counts_in(dataset, result, fold)["dogs"] for fold in range(5)) == [0, 0, 0, 1, 1]


def test_when_all_classes_are_small_there_are_fewer_folds() -> None:
    assert set(split(dataset_of({"cats": 3, "dogs": 4})).folds.tolist()) == {0, 1, 2}


def test_seeds_differ_and_repeat() -> None:
    dataset = dataset_of({"cats": 60, "dogs": 60})
    assert by_digest(dataset, split(dataset, seed=1)) == by_digest(dataset, split(dataset, seed=1))
    assert by_digest(dataset, split(dataset, seed=1)) != by_digest(dataset, split(dataset, seed=2))


def test_the_draw_is_the_one_it_has_always_been() -> None:
    dataset = dataset_of({"cats": 8, "dogs": 7})
    assert split(dataset, folds=3).parts.tolist() == GOLDEN


def test_groups_of_many_sizes_come_close_to_the_fraction() -> None:
    samples = [
        Sample(
            f"{label}/{size}-{copy}-{number}",
            label,
            None,
            f"{label}{size}{copy}",
            digest(1000 * size + 50 * copy + number + n),
        )
        for n, label in ((0, "cats"), (10**6, "dogs"))
        for size in (1, 2, 5, 30)
        for copy in range(4)
        for number in range(size)
    ]
    dataset = Dataset(Path("/data"), tuple(samples))
    result = split(dataset)
    for label, count in dataset.counts().items():
        assert abs(counts_in(dataset, result, TEST)[label] - 0.2 * count) <= 2


def test_a_given_test_is_the_test() -> None:
    dataset = given_parts({"train": 20, "test": 7})
    result = split(dataset, test_fraction=0.5)
    assert [dataset.samples[position].given for position in result.test] == ["test"] * 14
    assert set(result.folds.tolist()) == set(range(5))
    assert all(counts_in(dataset, result, fold) == {"cats": 4, "dogs": 4} for fold in range(5))


def test_a_given_val_serves_selection() -> None:
    dataset = given_parts({"train": 20, "val": 5, "test": 7})
    result = split(dataset)
    expected = {"train": ALWAYS_TRAIN, "val": 0, "test": TEST}
    assert result.parts.tolist() == [expected[sample.given or ""] for sample in dataset.samples]
    assert set(result.folds.tolist()) == {ALWAYS_TRAIN, 0}


def test_an_earlier_split_is_extended() -> None:
    first = dataset_of({"cats": 40, "dogs": 20})
    earlier = by_digest(first, split(first))
    more = dataset_of({"cats": 35, "owls": 6}, start=100)
    together = Dataset(first.root, more.samples + first.samples)
    result = split(together, seed=99, earlier=earlier)
    now = by_digest(together, result)
    assert {known: now[known] for known in earlier} == earlier
    assert counts_in(together, result, TEST) == {"cats": 15, "dogs": 4, "owls": 1}
    assert [counts_in(together, result, fold)["cats"] for fold in range(5)] == [12] * 5
    assert split(together, seed=5, earlier=now).parts.tolist() == result.parts.tolist()


def test_groups_follow_their_known_members() -> None:
    first = dataset_of({"cats": 40, "dogs": 40}, group_size=2)
    earlier = by_digest(first, split(first))
    more = [
        Sample(f"new/{sample.path}", sample.label, None, sample.group, digest(500 + number))
        for number, sample in enumerate(first.samples)
    ]
    together = Dataset(first.root, (*first.samples, *more))
    now = by_digest(together, split(together, earlier=earlier))
    assert all(now[new.digest] == earlier[old.digest] for new, old in zip(more, first.samples, strict=True))


def test_a_group_that_has_come_to_straddle_goes_to_the_test() -> None:
    dataset = dataset_of({"cats": 40, "dogs": 40})
    earlier = by_digest(dataset, split(dataset))
    joined = [
        Sample(old.path, old.label, None, "one" if number in (0, 1, 2, 3, 4, 5, 6, 7, 8) else None, old.digest)
        for number, old in enumerate(dataset.samples)
    ]
    assert TEST in {earlier[sample.digest] for sample in joined[:9]} != {TEST}
    result = split(Dataset(dataset.root, tuple(joined)), earlier=earlier)
    assert set(result.parts[:9].tolist()) == {TEST}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_fraction": 0.0}, "between 0 and 1, but is 0.0"),
        ({"test_fraction": 20}, "between 0 and 1, but is 20"),
        ({"folds": 1}, "2 or more, but is 1"),
        ({"seed": -1}, "0 or more, but is -1"),
    ],
)
def test_options_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        split(dataset_of({"cats": 9, "dogs": 9}), **options)  # type: ignore[arg-type]


BONDS = st.lists(
    st.tuples(st.sampled_from(["cats", "dogs", "owls"]), st.none() | st.integers(0, 6), st.integers(0, 25)),
    min_size=1,
    max_size=60,
)


def bonded(bonds: list[tuple[str, int | None, int]]) -> Dataset:
    """A data set with groups across classes and with duplicates."""
    samples = [
        Sample(f"{label}/{number}", label, None, None if group is None else f"g{group}", digest(content))
        for number, (label, group, content) in enumerate(bonds)
    ]
    return Dataset(Path("/data"), tuple(samples))


@settings(max_examples=150, deadline=None)
@given(BONDS, st.integers(0, 3), st.sampled_from([0.1, 0.2, 0.5, 0.9]))
def test_no_group_is_ever_divided(bonds: list[tuple[str, int | None, int]], seed: int, fraction: float) -> None:
    dataset = bonded(bonds)
    result = split(dataset, seed=seed, test_fraction=fraction)
    numbers = groups(dataset)
    for number in set(numbers.tolist()):
        assert len(set(result.parts[numbers == number].tolist())) == 1
    assert len(result.train) > 0
    for label in dataset.classes:
        own = np.array([sample.label == label for sample in dataset.samples])
        in_training = {int(number) for number in numbers[own & (result.parts != TEST)]}
        assert len(in_training) >= min(2, len(set(numbers[own].tolist())))


@settings(max_examples=60, deadline=None)
@given(BONDS, st.randoms())
def test_the_order_and_names_of_files_do_not_matter(bonds: list[tuple[str, int | None, int]], random: object) -> None:
    dataset = bonded(bonds)
    expected = by_digest(dataset, split(dataset))
    shuffled = [
        Sample(f"{number}.jpg", old.label, None, old.group, old.digest) for number, old in enumerate(dataset.samples)
    ]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    other = Dataset(Path("/elsewhere"), tuple(shuffled))
    assert by_digest(other, split(other)) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(3, 60), min_size=2, max_size=5), st.sampled_from([0.1, 0.2, 0.3]))
def test_fractions_hold_for_each_class(sizes: list[int], fraction: float) -> None:
    dataset = dataset_of({f"class{number}": size for number, size in enumerate(sizes)})
    counts = counts_in(dataset, split(dataset, test_fraction=fraction), TEST)
    for label, size in dataset.counts().items():
        assert counts[label] >= 1
        assert abs(counts[label] - fraction * size) <= 1


@settings(max_examples=60, deadline=None)
@given(BONDS, BONDS)
def test_an_extension_keeps_every_part(
    bonds: list[tuple[str, int | None, int]], more: list[tuple[str, int | None, int]]
) -> None:
    dataset = bonded(bonds)
    earlier = by_digest(dataset, split(dataset))
    loose = bonded([(label, None, content) for label, _, content in more]).samples  # bind nothing that was apart
    together = Dataset(dataset.root, dataset.samples + loose)
    now = by_digest(together, split(together, earlier=earlier, seed=7))
    assert {known: now[known] for known in earlier} == earlier
