"""Predictions of very many pictures as a folder of files, each of which is whole or absent: begun again, it goes on."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from headstart.delivery.answers import Shown, columns, writer
from headstart.errors import UsageError
from headstart.learning.classifier import Asked, Classifier, Prediction
from headstart.storage import clear_storage_errors, written_atomically

Form = Literal["csv", "jsonl", "parquet"]
PLAN, DONE = "_plan.json", "_SUCCESS"
PICTURES = 10_000
"""How many pictures a file is about: what an interruption can cost."""

Answer = Callable[[Iterable[str], Asked], Iterator[Prediction]]


@dataclass(frozen=True)
class Parts:
    """What a folder of predictions is to hold: of which classifier, in which form, with which promises."""

    folder: Path
    form: Form
    classifier: Classifier
    asked: Asked

    @property
    def shown(self) -> Shown:
        """What of each prediction is written."""
        return Shown(sets=True, unsure=self.asked.wanted is not None)

    def to_json(self) -> dict[str, Any]:
        """What all files of one folder have in common."""
        weights = sha256(self.classifier.weight.tobytes() + self.classifier.bias.tobytes()).hexdigest()
        return {
            "model": {"backbone": self.classifier.backbone.weights_digest, "head": weights},
            "classes": list(self.classifier.classes),
            "format": self.form,
            "asked": asdict(self.asked),
            "pictures": PICTURES,
        }


@dataclass(frozen=True)
class _Part:
    """One file: where, and the pictures that it is about."""

    path: Path
    pictures: list[str]


def write_parts(parts: Parts, pictures: Iterable[str], answer: Answer) -> Iterator[Prediction]:
    """Write the predictions of `pictures` in files of ten thousand; yields those that are made now.

    A file is called part-NUMBER-DIGEST, after the list of its pictures; one that is there is not made again. When all
    are there, files of former lists are deleted, and `_SUCCESS` is written.

    Raises:
        UsageError: the folder holds something else, or predictions of another model or in another form.
    """
    _claim(parts)
    waiting: deque[_Part] = deque()
    names: set[str] = set()

    def missing() -> Iterator[str]:
        for part in _planned(parts, pictures):
            names.add(part.path.name)
            if not part.path.is_file():
                waiting.append(part)
                yield from part.pictures

    said = answer(missing(), parts.asked)
    while made := list(islice(said, 1)):  # a part is known when its first answer is there
        part = waiting.popleft()
        made += islice(said, len(part.pictures) - 1)
        with written_atomically(part.path) as temporary:
            _write(parts, made, temporary)
        yield from made
    _finish(parts, names)


def _planned(parts: Parts, pictures: Iterable[str]) -> Iterator[_Part]:
    listed = iter(pictures)
    number = 0
    while some := list(islice(listed, PICTURES)):
        digest = sha256("\n".join(some).encode("utf-8", "surrogateescape")).hexdigest()[:12]
        yield _Part(parts.folder / f"part-{number:06}-{digest}.{parts.form}", some)
        number += 1


def _claim(parts: Parts) -> None:
    """Make the folder that of these parts, or see that it is."""
    folder, plan = parts.folder, json.loads(json.dumps(parts.to_json()))
    if (folder / PLAN).is_file():
        try:
            former = dict(json.loads((folder / PLAN).read_text("utf-8")))
        except (ValueError, TypeError) as error:
            raise UsageError(f"{folder / PLAN} is damaged ({error}). Delete the folder, or choose another.") from error
        if former != plan:
            changed = ", ".join(key for key in plan if former.get(key) != plan[key])
            raise UsageError(f"{folder} holds predictions of another {changed}. Choose another folder, or delete it.")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty, and holds no predictions. Choose another folder.")
    with clear_storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DONE).unlink(missing_ok=True)
    with written_atomically(folder / PLAN) as temporary:
        temporary.write_text(json.dumps(plan, indent=1, ensure_ascii=False), "utf-8")


def _finish(parts: Parts, names: set[str]) -> None:
    for path in parts.folder.glob("part-*"):
        if path.name not in names:
            path.unlink()
    with written_atomically(parts.folder / DONE) as temporary:
        temporary.write_text("")


def _write(parts: Parts, made: list[Prediction], path: Path) -> None:
    classes = parts.classifier.classes
    if parts.form == "parquet":
        _write_parquet(made, classes, parts.shown, path)
        return
    with path.open("w", encoding="utf-8", newline="") as stream:
        write = writer(parts.form, stream, classes, parts.shown)
        for said in made:
            write(said)


def _row(said: Prediction) -> dict[str, Any]:
    """The cells of one row by their columns; what an unreadable picture has not is null."""
    return {
        "path": said.path,
        "label": said.label,
        "probability": said.probability,
        "set": list(said.set) if said.error is None else None,
        "none_of_these": said.is_none_of_these,
        "none_of_these_score": said.novelty,
        "error": said.error,
        "unsure": said.is_unsure,
        **{f"p({name})": probability for name, probability in said.ranking},
    }


def _write_parquet(made: list[Prediction], classes: tuple[str, ...], shown: Shown, path: Path) -> None:
    """The columns of the CSV with their types: texts, a list of texts, truth values, float32."""
    import pyarrow
    from pyarrow import parquet

    rows = [_row(said) for said in made]
    kinds = {
        "probability": pyarrow.float32(),
        "none_of_these_score": pyarrow.float32(),
        "none_of_these": pyarrow.bool_(),
    }
    kinds |= {"set": pyarrow.list_(pyarrow.string()), "unsure": pyarrow.bool_()}
    fields = []
    for name in columns(classes, shown):
        kind = kinds.get(name, pyarrow.float32() if name.startswith("p(") else pyarrow.string())
        fields.append(pyarrow.field(name, kind))
    parquet.write_table(pyarrow.Table.from_pylist(rows, pyarrow.schema(fields)), path)
