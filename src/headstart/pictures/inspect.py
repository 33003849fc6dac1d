"""Read every picture once: its digest, and whether it can be decoded."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from headstart.parallel import in_order
from headstart.pictures.dataset import Dataset, Problem, Sample
from headstart.pictures.decode import PictureError, TooLarge, Unreadable, decode
from headstart.pictures.elsewhere import is_elsewhere, read_elsewhere
from headstart.progress import SILENT, Progress

BYTE_LIMIT = 1024**3
"""Larger files are not read: no picture within the limit of pixels needs more, even uncompressed."""

_AHEAD = 4  # pictures under way for each thread
_SMALL = 64  # pixels: a JPEG is decompressed in full whatever its size on arrival, so damage shows all the same


def inspect(dataset: Dataset, *, progress: Progress = SILENT, threads: int = 2) -> Dataset:
    """The readable samples with their digests, and a Problem for each picture that cannot be read.

    Every picture is read and decoded; at most a few for each thread are in memory at a time. What fails is
    described in the same words as when features are extracted.
    """
    samples: list[Sample] = []
    problems: list[Problem] = []
    with progress.stage("pictures", len(dataset.samples)) as advance, ThreadPoolExecutor(threads) as pool:
        work = ((dataset.locate(sample), sample) for sample in dataset.samples)
        for outcome in in_order(pool, _look_at, work, _AHEAD * threads):
            if isinstance(outcome, Problem):
                problems.append(outcome)
            else:
                samples.append(outcome)
            advance()
    return replace(dataset, samples=tuple(samples), problems=dataset.problems + tuple(problems))


def read(path: Path) -> tuple[bytes, str]:
    """A picture file's bytes and their SHA-256 in lower-case hexadecimal; also behind a URL, or in a shard.

    Raises:
        OSError: there is no such file (any more), or it cannot be read.
        DataError: its server wants credentials, and there are none.
        Unreadable: it is no regular file; nothing is read from pipes and devices.
        TooLarge: it has more than `BYTE_LIMIT` bytes.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        if not is_elsewhere(path):
            raise
        return read_elsewhere(path, BYTE_LIMIT)
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("not a regular file")
    if status.st_size > BYTE_LIMIT:
        raise TooLarge(f"{status.st_size / 1e9:.1f} GB, more than the {BYTE_LIMIT / 1e9:.1f} GB that are read")
    data = path.read_bytes()
    return data, sha256(data).hexdigest()


def picture_problem(sample: Sample, error: PictureError | OSError) -> Problem:
    """What to say of a sample whose reading or decoding failed; it is left out."""
    if isinstance(error, PictureError):
        return Problem(sample.path, error.kind, str(error), "left out")
    if isinstance(error, FileNotFoundError):
        return Problem(sample.path, "vanished", "there is no such file, or no longer", "left out")
    return Problem(sample.path, "unreadable", f"cannot be read: {error.strerror or error}", "left out")


def _look_at(work: tuple[Path, Sample]) -> Sample | Problem:
    path, sample = work
    try:
        data, digest = read(path)
        decode(data, at_least=_SMALL)
    except (PictureError, OSError) as error:
        return picture_problem(sample, error)
    return replace(sample, digest=digest)
