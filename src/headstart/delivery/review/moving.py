"""The decisions carried out on the files, once a person has seen the plan: the only place where pictures are moved.

Relabelled pictures go into the folder of their class, excluded ones into a folder `NAME excluded` beside the data,
added ones are copied in. Nothing is overwritten: where a name is taken, a number is added. Before the first file moves,
the plan is on the disk as a script that puts everything back; when all is done, that is in the journal. A plan that was
interrupted is carried out to its end by the next `--apply`, or taken back by its script.
"""

import ast
import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from headstart.delivery import run_folder
from headstart.delivery.review import again
from headstart.delivery.review.journal import journal_path, open_journal, undo_script
from headstart.errors import StorageError, UsageError
from headstart.pictures.addresses import shown
from headstart.pictures.dataset import Dataset, Sample
from headstart.pictures.elsewhere import is_elsewhere
from headstart.pictures.overlay import Overlay, checked_name
from headstart.progress import SILENT, Progress
from headstart.storage import clear_storage_errors, written_atomically

SHOWN = 20
"""Moves that are listed; all of them stand in the script."""

NO_LINKS = {errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK}
"""What a file system answers that has no second names for files."""


@dataclass(frozen=True)
class Move:
    """A file that goes from `source` to `target`, both absolute; `copied`: the first stays where it is."""

    source: str
    target: str
    copied: bool = False


@dataclass(frozen=True)
class Plan:
    """What is to be moved for `run`, as decided up to `revision`; `script` undoes it; `begun`: it was interrupted."""

    run: Path
    moves: tuple[Move, ...]
    script: Path
    revision: int
    begun: bool = False


def plan(run: Path, progress: Progress = SILENT) -> Plan:
    """What is to be moved so that the files are as it was decided; the rest of it, where that was interrupted.

    Raises:
        UsageError: the data are not in class folders, or are links, so that nothing can be moved.
        HeadstartError: the run, its journal or its data cannot be read.
    """
    if not run_folder.is_run(run):
        raise UsageError(f"{run} is not a run. Give a folder that `headstart train` made.")
    path = journal_path(run)
    if not path.exists():
        return Plan(run, (), undo_script(path, 1), 0)
    data, _ = run_folder.recorded(run)
    if not data.is_dir():
        raise _unmovable(f"{data} is not a folder of class folders")
    journal = open_journal(path)
    try:
        overlay, revision, script = journal.overlay(), journal.revision, undo_script(path, journal.applied + 1)
    finally:
        journal.close()
    if script.exists():
        revision, moves = _read(script)
        return Plan(run, moves, script, revision, begun=True)
    material = again.load(run, overlay, None, progress)
    return Plan(run, tuple(_moves(material, overlay)), script, revision)


def plan_lines(plan: Plan) -> Iterator[str]:
    """The plan for people."""
    if not plan.moves:
        yield "nothing to move: the files are as it was decided"
        return
    if plan.begun:
        yield f"an earlier --apply was interrupted; what is left of it (`python {plan.script}` takes it back):"
    left = [move for move in plan.moves if not _is_done(move)]
    for move in left[:SHOWN]:
        yield f"  {'copy' if move.copied else 'move'} {_plain(move.source)} -> {_plain(move.target)}"
    if len(left) > SHOWN:
        yield f"  and {len(left) - SHOWN:,} more"
    yield f"{len(left):,} files; nothing is overwritten, and {plan.script} will undo it"


def carry_out(plan: Plan) -> str:
    """Write the script that undoes the plan, move the files, and write that down in the journal; says what was done.

    Raises:
        StorageError: a file cannot be moved, or another one has come to its place. What was moved stays moved: the
            script undoes it, and another `--apply` goes on.
    """
    if not plan.begun:
        _write(plan)
    for move in plan.moves:
        _carry_out(move, plan.script)
    for folder in sorted({Path(move.source).parent for move in plan.moves if not move.copied}, reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    journal = open_journal(journal_path(plan.run))
    try:
        journal.settle(plan.script.name, plan.revision, {move.source: move.target for move in plan.moves})
    finally:
        journal.close()
    return f"{len(plan.moves):,} files are where they belong; `python {plan.script}` undoes it"


def _moves(material: again.Material, overlay: Overlay) -> Iterator[Move]:
    taken: set[Path] = set()
    root = material.dataset.root.resolve()
    for sample in material.dataset.samples:
        source = root / sample.path
        target = _target(sample, overlay, root)
        if target != source:
            if is_elsewhere(source):
                raise _unmovable(f"{shown(source)} is no file of its own on this machine")
            if source.resolve() != source:
                raise _unmovable(f"{source} is a link, or lies behind one")
            yield Move(str(source), str(_free(target, taken)))
    outside = {sample.path: sample.digest for sample in material.outside}
    for path, label in overlay.added:
        if outside.get(path) in overlay.relabelled.keys() - overlay.excluded:
            folder = _training_folder(material.dataset, root) / checked_name(label)
            yield Move(path, str(_free(folder / Path(path).name, taken)), copied=True)


def _target(sample: Sample, overlay: Overlay, root: Path) -> Path:
    """Where a picture of the data belongs."""
    source = root / sample.path
    label = overlay.relabelled.get(sample.digest, overlay.class_name(sample.label))
    excluded = sample.digest in overlay.excluded
    if label == sample.label and not excluded:
        return source
    if not source.parent.as_posix().endswith(f"/{sample.label}"):
        raise _unmovable(f"{source} does not lie in a folder of its class {sample.label!r}")
    above = source.parents[sample.label.count("/") + 1]
    if not excluded:
        return above / checked_name(label) / source.name
    if os.path.isabs(sample.path):  # a test that lies elsewhere
        return above.with_name(f"{above.name} excluded") / sample.label / source.name
    return root.with_name(f"{root.name} excluded") / sample.path


def _training_folder(dataset: Dataset, root: Path) -> Path:
    """The folder that holds the class folders of the training part."""
    first = next(one for one in dataset.samples if one.given in ("train", None) and not os.path.isabs(one.path))
    return (root / first.path).parents[first.label.count("/") + 1]


def _free(target: Path, taken: set[Path]) -> Path:
    """`target`, or a name like it that no file has, now or in the plan."""
    place, number = target, 1
    while place in taken or os.path.lexists(place):
        number += 1
        place = target.with_name(f"{target.stem} {number}{target.suffix}")
    taken.add(place)
    return place


def _carry_out(move: Move, script: Path) -> None:
    if _is_done(move):
        return
    source, target = Path(move.source), Path(move.target)
    with clear_storage_errors(target):
        if not os.path.lexists(source):
            raise StorageError(f"{source} is gone since the plan was made. `python {script}` takes the rest back.")
        if os.path.lexists(target) and not os.path.samefile(source, target):
            raise StorageError(f"{target} has come to be since the plan was made. `python {script}` takes it back.")
        target.parent.mkdir(parents=True, exist_ok=True)
        if move.copied:
            _copy(source, target)
            return
        if not os.path.lexists(target):
            _name_too(source, target)
        source.unlink()


def _name_too(source: Path, target: Path) -> None:
    """Give a file a second name, or where there is no such thing copy it; unlike renaming, it replaces no other."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    with written_atomically(target) as temporary:
        shutil.copy2(source, temporary)


def _is_done(move: Move) -> bool:
    return os.path.lexists(move.target) and (move.copied or not os.path.lexists(move.source))


def _write(plan: Plan) -> None:
    """Write the script that undoes the plan; `_read` is its inverse."""
    pattern = (resources.files("headstart.delivery.review") / "undo.py.txt").read_text("utf-8")
    folders = {folder for move in plan.moves for folder in Path(move.target).parents if not folder.exists()}
    facts = {
        "MOVES": [(move.source, move.target, move.copied) for move in plan.moves],
        "FOLDERS": sorted(map(str, folders), reverse=True),
        "REVISION": plan.revision,
        "JOURNAL": journal_path(plan.run).name,
    }
    text = pattern.replace("FACTS\n", "".join(f"{name} = {_as_python(value)}\n" for name, value in facts.items()))
    with written_atomically(plan.script) as temporary:
        temporary.write_text(text, "utf-8", newline="\n")


def _as_python(value: object) -> str:
    if isinstance(value, list):
        return "[" + "".join(f"\n    {one!a}," for one in value) + "\n]"
    return json.dumps(value)


def _read(script: Path) -> tuple[int, tuple[Move, ...]]:
    """The revision and the moves that stand in a script."""
    try:
        lines = ast.parse(script.read_text("utf-8")).body
        facts = {ast.unparse(one.targets[0]): one.value for one in lines if isinstance(one, ast.Assign)}
        moves = tuple(Move(*row) for row in ast.literal_eval(facts["MOVES"]))
        return int(ast.literal_eval(facts["REVISION"])), moves
    except (SyntaxError, KeyError, ValueError, TypeError, OSError) as error:
        raise StorageError(f"{script} is damaged ({error}). Move it away to make a new plan.") from error


def _unmovable(reason: str) -> UsageError:
    return UsageError(f"{reason}, so that nothing can be moved. --export FILE.csv writes the decisions as a manifest.")


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
