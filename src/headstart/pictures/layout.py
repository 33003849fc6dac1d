"""A tree of folders -> labelled samples: where the classes begin, and which parts the user has laid out."""

from collections.abc import Iterator, Mapping
from typing import get_args

from headstart.errors import DataError
from headstart.pictures.dataset import Part, Problem, Sample
from headstart.pictures.tree import Folder

PART_NAMES: Mapping[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""How folders and manifests name their parts, in lower case."""


def lay_out(root: Folder) -> tuple[list[Sample], list[Problem]]:
    """The samples of a tree, each labelled with its class, and what is wrong with the folders.

    A folder that holds nothing but one folder of folders is a wrapper, and its inside is looked at instead.
    There, folders named like parts (`PART_NAMES`, in any case) are parts if they hold class folders and a
    training part is among them, or two different parts are. The class of a picture is the path of its
    folder from there, so that classes may be nested.

    Raises:
        DataError: two folders are the same part, such as `val` and `validation`.
    """
    base = _unwrap(root)
    parts = _parts(base)
    if not parts:
        samples, problems = _classes(base, None)
        return samples, problems + _empty_classes([base], samples)
    samples, problems = [], list(_strays(base.pictures))
    for folder in base.folders:
        if folder in parts.values():
            continue
        detail = f"beside {', '.join(part.name for part in parts.values())}, and not one of them"
        problems.append(Problem(f"{folder.path}/", "ignored", detail, "left out"))
    for part, folder in parts.items():
        part_samples, part_problems = _classes(folder, part)
        samples += part_samples
        problems += part_problems
    return samples, problems + _empty_classes(list(parts.values()), samples)


def _unwrap(folder: Folder) -> Folder:
    while not folder.pictures and len(folder.folders) == 1 and folder.folders[0].folders:
        if folder.folders[0].pictures:
            break
        folder = folder.folders[0]
    return folder


def _parts(base: Folder) -> dict[Part, Folder]:
    """The folders that are parts, in the order train, val, test; empty where folders are classes throughout."""
    found: dict[Part, Folder] = {}
    for folder in base.folders:
        part = PART_NAMES.get(folder.name.lower())
        if part is None:
            continue
        if part in found:
            raise DataError(
                f"two folders are the {part} part: {found[part].path!r} and {folder.path!r}."
                " Rename or merge them so that one is left."
            )
        found[part] = folder
    with_classes = {part for part, folder in found.items() if folder.folders}
    train_has_classes = "train" in with_classes and not found["train"].pictures
    if not train_has_classes and len(with_classes) < 2:
        return {}
    return {part: found[part] for part in get_args(Part) if part in found}


def _classes(base: Folder, part: Part | None) -> tuple[list[Sample], list[Problem]]:
    """The samples in the class folders of `base`."""
    samples = [
        Sample(path, _label(base, folder), part)
        for folder in base.walk()
        if folder is not base
        for path in folder.pictures
    ]
    return samples, list(_strays(base.pictures))


def _label(base: Folder, folder: Folder) -> str:
    return folder.path[len(base.path) :].lstrip("/")


def _strays(paths: tuple[str, ...]) -> Iterator[Problem]:
    return (Problem(path, "ignored", "not in a class folder", "left out") for path in paths)


def _empty_classes(bases: list[Folder], samples: list[Sample]) -> list[Problem]:
    """A problem for each innermost folder without a picture whose class has none elsewhere."""
    filled = {sample.label for sample in samples}
    leaves = {
        _label(base, folder)
        for base in bases
        for folder in base.walk()
        if folder is not base and not folder.pictures and not folder.folders
    }
    return [
        Problem(f"{label}/", "empty_class", "no picture files in it", "left out") for label in sorted(leaves - filled)
    ]
