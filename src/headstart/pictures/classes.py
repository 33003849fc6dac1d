"""Whether the classes can be learned and tested: too few pictures, only one class, classes only in the test."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TypeVar

from headstart.errors import DataError
from headstart.pictures.dataset import Dataset, Problem, Sample
from headstart.pictures.duplicates import groups

Member = TypeVar("Member")

LEAST_DRAWN = 3
"""The different pictures that a class needs where the test is drawn: to test, to learn from, to choose by."""

LEAST_GIVEN = 2
"""The different training pictures that a class needs where the test is given."""

UNCERTAIN_BELOW = 10
"""Classes with fewer training pictures are kept, with a warning."""


def check_classes(dataset: Dataset, *, scanned: Collection[str] = ()) -> Dataset:
    """The data set that can be trained on, with a Problem for each class that is doubtful or gone.

    Args:
        dataset: the samples that are left once all were read and their contradictions resolved.
        scanned: the names of the classes that there were before; one that has lost all of its pictures is
            reported as `empty_class`.

    Returns:
        The data set less the given test (or `val`) pictures of classes that the training part does not have.

    Raises:
        DataError: no picture is left; there is only one class; a class has too few different pictures, or
            too few groups, to be learned and tested.
    """
    is_given = not all(_trains(sample) for sample in dataset.samples)
    training = [sample for sample in dataset.samples if _trains(sample)]
    classes = sorted({sample.label for sample in training})
    detail = f"none of its {'training ' if is_given else ''}pictures can be used"
    lost = sorted({*scanned, *dataset.classes} - set(classes))
    problems = [Problem(f"{label}/", "empty_class", detail, "left out") for label in lost]
    _refuse_too_few_classes(dataset, classes, is_given)
    dataset, strangers = _without_strangers(dataset, frozenset(classes))
    _refuse_small_classes(dataset, LEAST_GIVEN if is_given else LEAST_DRAWN, "training " if is_given else "")
    for label, count in sorted(Counter(sample.label for sample in training).items()):
        if count < UNCERTAIN_BELOW:
            detail = f"only {count} {'training ' if is_given else ''}pictures: its numbers will be uncertain"
            problems.append(Problem(f"{label}/", "too_few", detail, "kept"))
    return replace(dataset, problems=(*dataset.problems, *problems, *strangers))


def check_names(dataset: Dataset) -> None:
    """Refuse, before any picture is read, what `check_classes` would refuse whatever the pictures show.

    Raises:
        DataError: there is only one class, or a class has too few files.
    """
    training = [sample for sample in dataset.samples if _trains(sample)]
    is_given = len(training) < len(dataset.samples)
    _refuse_too_few_classes(dataset, sorted({sample.label for sample in training}), is_given)
    files: dict[str, set[str]] = defaultdict(set)
    least, which = (LEAST_GIVEN, "training ") if is_given else (LEAST_DRAWN, "")
    for sample in training:
        _add(files[sample.label], sample.path, least)
    _refuse_below(least, f"different {which}pictures", "Add pictures or remove the folders.", files)


def _refuse_too_few_classes(dataset: Dataset, classes: list[str], is_given: bool) -> None:
    where = " in the training part" if is_given else ""
    if not classes:
        raise DataError(f"there is no picture left to train on{where}.{_first_problem(dataset)}")
    if len(classes) == 1:
        raise DataError(
            f"there is only one class{where}, {classes[0]!r}: a classifier tells two or more apart."
            f" Add folders for the others.{_first_problem(dataset)}"
        )


def _first_problem(dataset: Dataset) -> str:
    """A hint to where the pictures have gone."""
    gone = [problem for problem in dataset.problems if problem.action == "left out"]
    if not gone:
        return ""
    return f" {len(gone)} things were left out, first {gone[0].path}: {gone[0].detail}."


def _without_strangers(dataset: Dataset, classes: frozenset[str]) -> tuple[Dataset, list[Problem]]:
    """The data set without the given test pictures whose class is not among `classes`, and a Problem for each."""
    strangers = [sample for sample in dataset.samples if sample.label not in classes]
    left = tuple(sample for sample in dataset.samples if sample.label in classes)
    if any(sample.given == "test" for sample in strangers) and not any(sample.given == "test" for sample in left):
        theirs = ", ".join(sorted({sample.label for sample in strangers}))
        raise DataError(
            f"no class of the test ({theirs}) is a class of the training part ({', '.join(sorted(classes))})."
            " Classes are matched by name: rename the folders."
        )
    problems = [
        Problem(sample.path, "ignored", f"the training part has no class {sample.label!r}", "left out")
        for sample in strangers
    ]
    return replace(dataset, samples=left), problems


def _refuse_small_classes(dataset: Dataset, least: int, which: str) -> None:
    pictures: dict[str, set[str]] = defaultdict(set)
    together: dict[str, set[int]] = defaultdict(set)
    for sample, number in zip(dataset.samples, groups(dataset), strict=True):
        if _trains(sample):
            _add(pictures[sample.label], sample.digest, least)
            _add(together[sample.label], int(number), least)
    _refuse_below(least, f"different {which}pictures", "Add pictures or remove the folders.", pictures)
    hint = "Group more finely, add pictures of other groups, or remove the folders."
    _refuse_below(least, f"groups of {which}pictures that must stay together", hint, together)


def _add(members: set[Member], one: Member, least: int) -> None:
    """Add one while there are fewer than `least`: how many more there are is not asked."""
    if len(members) < least:
        members.add(one)


def _trains(sample: Sample) -> bool:
    """Whether a sample is not in a part that the user set aside."""
    return sample.given not in ("val", "test")


def _refuse_below(least: int, things: str, hint: str, found: Mapping[str, Collection[object]]) -> None:
    small = [(label, len(members)) for label, members in sorted(found.items()) if len(members) < least]
    if small:
        who = "1 class has" if len(small) == 1 else f"{len(small)} classes have"
        listed = ", ".join(f"{label} ({count})" for label, count in small)
        raise DataError(f"{who} fewer than {least} {things}: {listed}. {hint}")
