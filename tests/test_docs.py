"""The documentation agrees with the program: every command and option, every doctest, the README's promises.

HEADSTART_WRITE_DOCS=1 writes docs/commands.md anew.
"""

import doctest
import importlib
import os
import pkgutil
import re
from pathlib import Path

import click
import pytest

import headstart
from headstart.cli import app

ROOT = Path(__file__).parents[1]
COMMANDS = ROOT / "docs" / "commands.md"


def help_pages(command, name, parent=None):
    context = click.Context(command, info_name=name, parent=parent, terminal_width=110, **command.context_settings)
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            yield from help_pages(command.commands[inner], inner, context)


def test_every_command_is_documented():
    pages = [f"## {path}\n\n```\n{text}\n```\n" for path, text in help_pages(app, "headstart")]
    text = (
        "# Commands\n\nResults go to standard output, progress and problems to standard error. Exit status: 0 done,\n"
    )
    text += "1 a problem that you can mend, 2 wrong usage, 130 interrupted.\n\n" + "\n".join(pages)
    if os.environ.get("HEADSTART_WRITE_DOCS"):
        COMMANDS.write_text(text, "utf-8")
    assert COMMANDS.read_text("utf-8") == text


def test_the_readme_names_only_commands_that_exist():
    known = set(app.commands)
    named = set(re.findall(r"^\$ headstart (\w+)", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE))
    assert named
    assert named <= known


def test_the_readme_shows_the_house_as_it_is():
    text = (ROOT / "README.md").read_text("utf-8")
    for path in (ROOT / "src" / "headstart").rglob("*.py"):
        if path.name not in ("__init__.py", "__main__.py"):
            assert path.name in text, f"{path.name} is not in the README's file tree"


MODULES = [name for _, name, _ in pkgutil.walk_packages(headstart.__path__, "headstart.") if "networks" not in name]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_examples_in_docstrings_hold(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_python_in_the_readme_uses_public_names():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    for name in re.findall(r"headstart\.(\w+)\(", "".join(blocks)):
        assert name in headstart.__all__
