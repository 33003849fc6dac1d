"""How it was made: options, what was computed, versions, times, and the commands to do it again and to use it."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.judging.report import words
from headstart.judging.report.record import Json, Record, interval

UNSET = "not set"
_SHORTEST = 0.005  # seconds of a stage that is worth a line
_STAGES = {
    "scan": "find the pictures",
    "backbone": "load the backbone",
    "features": "read the pictures, compute features",
    "split": "find copies, split",
    "head": "fit the head",
    "finetune": "fine-tune",
    "evaluate": "evaluate on the held-out pictures",
    "judge": "judge: promises, growth, damage, suspects",
    "maps": "see where it looked",
    "save": "save",
    "report": "write the report",
}
_NESTED_LINES = 12  # longer lists are told by their length


@dataclass(frozen=True)
class Facts:
    """A heading and (name, value) lines below it."""

    heading: str
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Stage:
    """A stage of the work: its seconds as a text and as a share of the whole."""

    name: str
    seconds: str
    share: float


@dataclass(frozen=True)
class Command:
    """A command, and what it is for."""

    text: str
    purpose: str


@dataclass(frozen=True)
class Making:
    """Everything that it takes to make the same again."""

    facts: tuple[Facts, ...]
    stages: tuple[Stage, ...]
    total: str
    commands: tuple[Command, ...]
    folds: str


def find(record: Record, place: Path) -> Making | None:
    """How the run that lies (or will lie) at `place` was made; None where nothing is known of it."""
    run, metrics = record.run, record.metrics
    if not run and "n_train" not in metrics:
        return None
    facts = [
        Facts("Pictures", tuple(_pictures(record))),
        Facts("Options", tuple(flat(run.get("options") or {}))),
        Facts("Chosen by cross-validation", tuple(flat(metrics.get("chosen") or {}))),
        Facts("Computed", tuple(flat(run.get("computed") or {}))),
        Facts("Versions", tuple(_versions(run))),
    ]
    times: Json = run.get("seconds") or metrics.get("seconds") or {}
    total = times.get("total") or sum(times.values())
    stages = [(name, value) for name, value in times.items() if name != "total" and value >= _SHORTEST]
    return Making(
        facts=tuple(one for one in facts if one.lines),
        stages=tuple(
            Stage(_STAGES.get(name, words.title(name)), words.seconds(value), value / max(total, 1e-9))
            for name, value in stages
        ),
        total=words.seconds(total) if times else "",
        commands=tuple(_commands(run, place)),
        folds=_folds(record),
    )


def _pictures(record: Record) -> Iterator[tuple[str, str]]:
    if record.run.get("data"):
        yield "data", str(record.run["data"])
    for key, name in (("n_train", "learnt from"), ("n_test", "held out")):
        if record.metrics.get(key) is not None:
            yield name, words.count(record.metrics[key])
    if record.classes:
        yield "classes", words.count(len(record.classes))
    if record.metrics.get("pictures_per_second"):
        speed = words.number(record.metrics["pictures_per_second"])
        yield "features", f"{speed} pictures a second, those kept from before included"


def _folds(record: Record) -> str:
    found: Json = record.metrics.get("out_of_fold") or {}
    if not found.get("n"):
        return ""
    share = words.share(interval(found.get("accuracy")))
    pictures = words.many(found["n"], "training picture")
    return f"In cross-validation, each of {pictures} judged by a head that did not learn from it: {share}."


def flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of nested JSON as (dotted name, value as text)."""
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{name}.")
        else:
            yield name, _text(value)


def _text(value: object) -> str:
    if value is None:
        return UNSET
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        if any(isinstance(one, Mapping) for one in value):
            return "; ".join(_entry(one) for one in value[:_NESTED_LINES]) + (
                "; …" if len(value) > _NESTED_LINES else ""
            )
        return ", ".join(_text(one) for one in value) or UNSET
    return str(value)


def _entry(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(one)}" for key, one in value.items())
    return _text(value)


def _versions(run: Json) -> Iterator[tuple[str, str]]:
    if run.get("python"):
        yield "Python", str(run["python"])
    yield from flat(run.get("versions") or {})
    if run.get("machine"):
        yield "machine", str(run["machine"])


def _commands(run: Json, place: Path) -> Iterator[Command]:
    here = shlex.quote(str(place))
    if run.get("options") is not None and run.get("data"):
        yield Command(training(str(run["data"]), run["options"], place), "the same again")
        yield Command(f"headstart predict {here} PICTURES...", "ask it about new pictures")
        yield Command(f"headstart evaluate {here} DATA", "judge it on other labelled pictures")


def training(data: str, options: Json, place: Path) -> str:
    """The command that trains the same again."""
    return f"headstart train {shlex.quote(data)} -o {shlex.quote(str(place))} {' '.join(_given(options))}".rstrip()


def _given(options: Json) -> Iterator[str]:
    """The options of a command line that differ from what holds without them."""
    for name, value in options.items():
        flag = shlex.quote("--" + name.replace("_", "-"))
        if value in (None, False, "auto", [], "") or (name, value) in (("test", 0.2), ("seed", 0), ("resume", True)):
            continue
        yield flag if value is True else f"{flag} {shlex.quote(_text(value))}"
