"""DATA (folder, manifest, archive, shards; here or remote) -> Dataset, with every problem named; nothing is decoded."""

import posixpath
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from headstart.errors import DataError, UsageError
from headstart.pictures.addresses import is_url, url_of
from headstart.pictures.archive import is_archive, unpack
from headstart.pictures.dataset import Dataset, Problem, Sample
from headstart.pictures.layout import lay_out
from headstart.pictures.manifest import is_manifest, read_manifest
from headstart.pictures.remote_tree import copied, read_remote_tree
from headstart.pictures.shard_sets import LIST_SUFFIX, is_pattern, read_shards, shards_in, shards_meant
from headstart.pictures.shards import holds_pictures
from headstart.pictures.tables import PARQUET_SUFFIXES, TABLE_SUFFIXES, read_table
from headstart.pictures.tar_shards import has_labels
from headstart.pictures.tree import read_tree
from headstart.storage import cache_folder

ARCHIVE_SUFFIXES = (".zip", ".tgz", ".gz", ".bz2", ".xz")
"""How the URLs of archives end that are copied here and unpacked."""

Found = tuple[Path, list[Sample], list[Problem], tuple[str, ...]]
"""The root, samples, problems, and the names of the manifest's columns (none for a folder)."""


def scan(data: Path, *, group_by: str | None = None, test: Path | None = None) -> Dataset:
    """What pictures there are, under which labels, and what is wrong with them as far as names and folders tell.

    Args:
        data: a folder of class folders, or of split folders (`train` and `val` and/or `test`, in any case);
            a CSV, TSV, JSON Lines or Parquet manifest with the columns `path,label[,split][,group]`;
            a zip or tar archive of one of these, which is unpacked once into headstart's cache; WebDataset tar
            shards or Parquet files with pictures in them, by a folder, a pattern, or a `.txt` file that lists them.
            Each may also be a URL (s3, gs, hf, http, https), and so may the paths in a manifest.
        group_by: the name of a column of the manifest, or a regular expression that is searched in each
            picture's path; its first group (or all that it matches) names the group that must stay together.
        test: more data of the same kinds, all of whose pictures serve as the test.

    Returns:
        The samples in the order of their paths, without digests; the problems in the order they were met.

    Raises:
        DataError: nothing is there, it is none of the above, it has no picture in a class, or its server refuses us.
        UsageError: `group_by` is no pattern or matches nothing; `test` is given where `data` has a test.
    """
    held_out, problems_apart = ([], []) if test is None else _held_out(test, group_by)
    apart = test if test is not None and test.exists() else None  # else it is a URL or a pattern
    root, samples, problems, columns = _find(data, group_by, apart)
    problems += problems_apart
    if not samples:
        raise DataError(_nothing_found(data, problems))
    samples = _serving(samples) if test is None else _serving_beside(data, samples) + held_out
    if group_by is not None and group_by not in columns:
        samples = _grouped(samples, group_by, columns)
    return Dataset(root, tuple(sorted(samples, key=lambda sample: sample.path)), tuple(problems))


def _find(data: Path, group_by: str | None, apart: Path | None = None) -> Found:
    if url_of(data) is not None:
        return _find_remote(data, group_by)
    if data.is_dir():
        return _find_in_folder(data, group_by, apart)
    if not data.exists():
        if is_pattern(data):
            return _find_in_shards(*shards_meant(data), group_by)
        raise DataError(f"there is no {data}. Give the folder that holds your class folders, or a manifest.")
    if not data.is_file():
        raise DataError(f"{data} is neither a folder nor a regular file.")
    if data.suffix.lower() == LIST_SUFFIX or _holds_pictures(data):
        return _find_in_shards(*shards_meant(data), group_by)
    if data.suffix.lower() in TABLE_SUFFIXES:
        return _find_in_manifest(data, group_by)
    if is_archive(data):
        return _find_in_archive(data, group_by)
    raise DataError(
        f"{data} is neither a folder, nor a manifest ({', '.join(TABLE_SUFFIXES)}), nor a zip or tar archive, "
        f"nor a list of shards ({LIST_SUFFIX})."
    )


def _find_remote(data: Path, group_by: str | None) -> Found:
    """What is at a URL; manifests and archives are copied here first, for they are small or wanted whole."""
    url = url_of(data)
    assert url is not None
    suffix = data.suffix.lower()
    if is_pattern(data) or suffix == ".tar":
        return _find_in_shards(*shards_meant(data), group_by)
    if suffix in PARQUET_SUFFIXES and holds_pictures(data):
        return _find_in_shards(*shards_meant(data), group_by)
    if suffix in TABLE_SUFFIXES:
        return _find_in_manifest(copied(url), group_by, root=data.parent)
    if suffix in ARCHIVE_SUFFIXES:
        return _find_in_archive(copied(url), group_by)
    found_there = read_remote_tree(url)
    samples, problems = lay_out(found_there.tree)
    if not samples and found_there.shards:
        return _find_in_shards(data, list(found_there.shards), group_by)
    return data, samples, [*found_there.problems, *problems], ()


def _find_in_folder(folder: Path, group_by: str | None, apart: Path | None = None) -> Found:
    tree, passed_over = read_tree(folder, apart=apart)
    samples, problems = lay_out(tree)
    if not samples and (shards := shards_in(folder)):
        return _find_in_shards(folder, [shard.relative_to(folder).as_posix() for shard in shards], group_by)
    return folder, samples, [*passed_over, *problems], ()


def _find_in_shards(root: Path, shards: list[str], group_by: str | None) -> Found:
    return root, *read_shards(root, shards, group_by)


def _find_in_manifest(manifest: Path, group_by: str | None, confined: bool = False, root: Path | None = None) -> Found:
    """What a manifest lists; its paths are relative to `root`, or to its own folder."""
    table = read_table(manifest)
    root = manifest.parent if root is None else root
    group_column = group_by if group_by in table.columns and group_by is not None else "group"
    samples, problems = read_manifest(manifest, table, root, group_column=group_column, confined=confined)
    return root, samples, problems, table.columns


def _holds_pictures(data: Path) -> bool:
    """Whether a file here is a shard: a tar with labels beside pictures, or a Parquet file with a column of them."""
    suffix = data.suffix.lower()
    if suffix == ".tar":
        with data.open("rb") as file:
            return has_labels(file)
    return suffix in PARQUET_SUFFIXES and holds_pictures(data)


def _find_in_archive(archive: Path, group_by: str | None) -> Found:
    """What is in an archive: by its manifest if there is just one at its top, else by its folders."""
    contents, refused = unpack(archive, cache_folder())
    manifests = _manifests_at_top(contents)
    if len(manifests) == 1:
        root, samples, problems, columns = _find_in_manifest(manifests[0], group_by, confined=True)
    else:
        root, samples, problems, columns = _find_in_folder(contents, group_by)
    return root, samples, [*refused, *problems], columns


def _manifests_at_top(folder: Path) -> list[Path]:
    """The manifests in a folder, or in the one folder that is all there is in it."""
    inside = sorted(path for path in folder.iterdir() if path.name != "__MACOSX")
    if len(inside) == 1 and inside[0].is_dir():
        return _manifests_at_top(inside[0])
    manifests = []
    for path in inside:
        if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
            with suppress(DataError):  # some other file of that name
                manifests += [path] if is_manifest(read_table(path)) else []
    return manifests


def _held_out(test: Path, group_by: str | None) -> tuple[list[Sample], list[Problem]]:
    """The samples and problems of a test that lies apart, with absolute paths."""
    root, samples, problems, _ = _find(test, group_by)
    if any(sample.given in ("val", "test") for sample in samples):
        raise UsageError(f"--test {test}: it has parts of its own. Give the folder that holds the test's classes.")
    if not samples:
        raise DataError(_nothing_found(test, problems))
    base = url_of(root) or root.resolve().as_posix()
    absolute = [replace(sample, path=_joined(base, sample.path), given="test") for sample in samples]
    return absolute, [replace(problem, path=_joined(base, problem.path)) for problem in problems]


def _joined(base: str, path: str) -> str:
    """A path from `base`; a URL stands for itself."""
    return path if is_url(path) else posixpath.join(base, path)


def _serving(samples: list[Sample]) -> list[Sample]:
    """The samples with their parts as they will serve.

    Of `val` and `test`, a part that stands alone is the test; beside both, `val` serves selection. A data set
    that is all training part has no parts given; where there is a test, what has no part is for training.
    """
    parts = {sample.given for sample in samples}
    if parts <= {"train", None}:
        return [replace(sample, given=None) for sample in samples]
    if "test" in parts:
        return [replace(sample, given=sample.given or "train") for sample in samples]
    return [replace(sample, given="test" if sample.given == "val" else "train") for sample in samples]


def _serving_beside(data: Path, samples: list[Sample]) -> list[Sample]:
    """The samples of `data` when the test comes from elsewhere: its `val` serves selection."""
    if any(sample.given == "test" for sample in samples):
        raise UsageError(f"{data} has a test part of its own. Leave out --test, or take the part away.")
    return [replace(sample, given=sample.given or "train") for sample in samples]


def _grouped(samples: list[Sample], pattern: str, columns: tuple[str, ...]) -> list[Sample]:
    """The samples with the groups that a pattern finds in their paths."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--group-by {pattern!r} is not a regular expression: {error}.") from error
    matches = [expression.search(sample.path) for sample in samples]
    if not any(matches):
        also = f"is no column of the manifest ({', '.join(columns)}) and " if columns else ""
        raise UsageError(f"--group-by {pattern!r} {also}matches no path, such as {samples[0].path!r}.")
    groups = [match and (match[1] if expression.groups else match[0]) for match in matches]
    return [replace(sample, group=group or None) for sample, group in zip(samples, groups, strict=True)]


def _nothing_found(data: Path, problems: list[Problem]) -> str:
    message = f"there are no pictures in class folders in {data}."
    if problems:
        message += f" {len(problems)} things were passed over, first {problems[0].path}: {problems[0].detail}."
    return message + " Put the pictures of each class into a folder with the name of the class."
