"""The page's own files, read once: they hold nothing of any model, and the page asks for the rest."""

from functools import cache
from importlib import resources
from typing import NamedTuple

_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_PLACES = {"index.html": "/", "docs.html": "/docs"}


class File(NamedTuple):
    """What is sent for a path."""

    content: bytes
    kind: str


@cache
def page_files() -> dict[str, File]:
    """The files by their paths: those of the page, and the look that it shares with the report."""
    page = resources.files("headstart.delivery.serve") / "page"
    look = resources.files("headstart.judging.report") / "look.css"
    found = {}
    for file in (*page.iterdir(), look):
        kind = _KINDS.get(file.name[file.name.rfind(".") :])
        if kind is not None:
            found[_PLACES.get(file.name, f"/{file.name}")] = File(file.read_bytes(), f"{kind}; charset=utf-8")
    return found
