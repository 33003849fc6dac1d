"""The page of a comparison, written: which of several runs is better, how sure that is, and what changed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from headstart.judging.finished import Compared
from headstart.judging.report import contest, contrast, thumbnails, words
from headstart.judging.report.base import build
from headstart.judging.report.changes import Changes, Classes, changes, classes
from headstart.storage import written_atomically


@dataclass(frozen=True)
class Sections:
    """The sections of the page in their order; None for what there is nothing to say of."""

    verdict: contest.Contest | None
    pairs: contest.Pairs | None
    cost: contrast.Cost | None
    settings: contrast.Settings | None
    changes: Changes | None
    classes: Classes | None
    again: contrast.Again | None


NAMES = {
    "verdict": "The verdict",
    "pairs": "Each pair",
    "cost": "What it costs",
    "settings": "What differs in the settings",
    "changes": "Which pictures changed",
    "classes": "Which classes gain and lose",
    "again": "How to do it again",
}


def write_versus(path: Path, compared: Compared, locate: Callable[[str], Path | None]) -> Path:
    """Write the page of `compared` to `path`, and return it.

    `locate` leads from the digest of a held-out picture to its file, None where there is none. The page is one file
    below 10 MB, needs no network, and opens from a disk; pictures that cannot be read (any more) are left blank.

    Raises:
        StorageError: the page cannot be written.
    """
    page = render(compared, locate, path.parent)
    with written_atomically(path) as temporary:
        temporary.write_text(page, "utf-8", newline="\n")
    return path


def render(compared: Compared, locate: Callable[[str], Path | None], place: Path) -> str:
    """The page as text; `place` is the folder that it will stand in."""
    changed = changes(compared)
    small: dict[str, thumbnails.Thumbnail] = {}
    if changed is not None:
        files = {digest: file for digest in changed.digests if (file := locate(digest)) is not None}
        small = thumbnails.draw(list(files), [], files.__getitem__)
        changed = replace(changed, missing=len(changed.digests) - len(small))
    sections = Sections(
        verdict=contest.judge(compared),
        pairs=contest.pairs(compared),
        cost=contrast.costs(compared),
        settings=contrast.settings(compared),
        changes=changed,
        classes=classes(compared),
        again=contrast.again(compared, place),
    )
    return build(
        "versus.html.jinja",
        {"pictures": {}, "cells": [], "points": []},
        sheets=("versus.css",),
        kind="comparison",
        title=_title(compared),
        names=NAMES,
        sections=sections,
        family="versus_",
        thumbnails=small,
        numbers={digest: number for number, digest in enumerate(small)},
        version=None,
        source="Every number in this page stands in compare.json and changed.csv beside it, or in the runs.",
    )


def _title(compared: Compared) -> str:
    """What is compared: two runs by name, more by how many they are."""
    names = list(compared.runs)
    if len(names) > 2:
        return words.many(len(names), "run")
    return words.plain(" and ".join(words.short(name, 28) for name in names))
