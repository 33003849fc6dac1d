"""The documentation site: the code on its pages runs, it builds without a warning, its links lead somewhere.

Every `sh` and `python` block of docs/index.md, docs/tutorial.md and docs/how-to/ runs as it stands: page by page, from
the top, in a folder that holds `digits` (small stand-ins for the demo's pictures; the tutorial makes its own). What a
page shows as output is not compared: it was copied from a run with the real ones. A comment in the line before a block
says what else is to be known about it:

    <!-- not run: why -->     it is left out: it needs a GPU, a network, another package, or never ends
    <!-- exits 1 -->          the exit status of its last command, otherwise 0

Lines that begin with `headstart` run in the test's process, to be quick; all others in bash. Under the name of the
default backbone stands the tiny one. Most guides, and the site itself, are for `pytest -m slow`.
"""

import colorsys
import functools
import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import headstart
from headstart import cli
from headstart.features import backbones, weights

from . import tiny
from .browser import browser, overflow

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [DOCS / "index.md", DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]
OFTEN = [DOCS / "index.md", DOCS / "tutorial.md", DOCS / "how-to" / "own-data.md"]  # the rest runs with -m slow
EACH = 40  # pictures of a class; the demo has about 180
LEFT_OUT = {  # blocks that do not run, each with its reason in the page; a new one is counted here
    "index.md": 1,
    "tutorial.md": 2,
    "air-gapped.md": 4,
    "cluster.md": 9,
    "coming-from.md": 0,
    "few-pictures.md": 0,
    "gpu.md": 2,
    "imbalance.md": 0,
    "index.md of how-to": 0,
    "many-classes.md": 0,
    "mislabelled-data.md": 1,
    "own-data.md": 0,
    "remote-data.md": 1,
}


@dataclass(frozen=True)
class Block:
    """A piece of code on a page: its language, its text, its first line, and what the comment before it says."""

    language: str
    text: str
    line: int
    note: str

    @property
    def status(self) -> int:
        """The exit status that the page says its last command has."""
        found = re.fullmatch(r"exits (\d+)", self.note)
        return int(found[1]) if found else 0


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, those in tabs too, in their order."""
    found, lines = [], page.read_text("utf-8").splitlines()
    number = 0
    while number < len(lines):
        fence = re.fullmatch(r"(\s*)```(\w+)", lines[number])
        if fence:
            indent = len(fence[1])
            end = next(at for at in range(number + 1, len(lines)) if lines[at].strip() == "```")
            before = next((line for line in reversed(lines[:number]) if line.strip()), "")
            comment = re.fullmatch(r"\s*<!-- (.+) -->", before)
            text = "\n".join(line[indent:] for line in lines[number + 1 : end])
            found.append(Block(fence[2], text, number + 1, comment[1] if comment else ""))
            number = end
        number += 1
    return found


def is_code(block: Block) -> bool:
    return block.language in ("sh", "python")


def runs(block: Block) -> bool:
    return is_code(block) and not block.note.startswith("not run: ")


def name_of(page: Path) -> str:
    return "index.md of how-to" if page == DOCS / "how-to" / "index.md" else page.name


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory):
    """Class folders and files called as the demo's digits are; each class has a colour instead of a shape."""
    folder = tmp_path_factory.mktemp("documentation") / "digits"
    for number in range(10 * EACH):
        hue = tuple(int(255 * part) for part in colorsys.hsv_to_rgb(number % 10 / 10, 0.8, 0.8))
        tiny.draw(folder / str(number % 10) / f"{number:04}.png", hue, number)
    return folder


def place_tiny_as_default(folder: Path) -> None:
    """Put the tiny backbone into the cache as if the default one had been converted to it."""
    tiny.install(folder)
    made = next(backbones._folder("tiny", "*").parent.glob("tiny*/"))
    source = weights.given_or_installed(backbones.DEFAULT, None)
    digest = weights.digest(source)
    place = backbones._folder(backbones.DEFAULT, digest)
    shutil.copytree(made, place)
    facts = json.loads((place / backbones.FACTS).read_text("utf-8"))
    facts |= {"name": backbones.DEFAULT, "weights_digest": digest}
    (place / backbones.FACTS).write_text(json.dumps(facts), "utf-8")


def run_shell(block: Block, page: Path, capsys) -> None:
    commands = block.text.replace("\\\n", " ").splitlines()
    commands = [line for line in commands if line.strip() and not line.lstrip().startswith("#")]
    for number, line in enumerate(commands):
        wanted = block.status if number == len(commands) - 1 else 0
        plain = re.sub(r"'[^']*'|\s#.*$", "", line)
        if line.startswith("headstart ") and not re.search(r"[|<>&;$`]", plain):
            status, said = run_here(line, capsys)
        else:
            done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, timeout=600)
            status, said = done.returncode, done.stdout + done.stderr
        assert status == wanted, f"{page.name}, line {block.line}: `{line}` left with {status}, not {wanted}:\n{said}"


def run_here(line: str, capsys) -> tuple[int, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", shlex.split(line, comments=True))
        with pytest.raises(SystemExit) as left:
            cli.main()
    captured = capsys.readouterr()
    return int(left.value.code or 0), captured.out + captured.err


def run_page(page: Path, capsys) -> int:
    """Run every block of `page` in the current folder; returns how many ran."""
    names: dict[str, object] = {"__name__": "__main__"}
    chosen = [block for block in blocks(page) if runs(block)]
    for block in chosen:
        if block.language == "sh":
            run_shell(block, page, capsys)
        else:
            source = "\n" * block.line + block.text
            exec(compile(source, str(page), "exec"), names)
            capsys.readouterr()
    return len(chosen)


@pytest.fixture
def workplace(tmp_path, monkeypatch, cache, few_digits):
    """A reader's folder, with the commands of this environment on the path and few pictures in the demo's place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    shutil.copytree(few_digits, cache / "demo" / "digits")
    return tmp_path


@pytest.mark.usefixtures("few_worse_pictures")
@pytest.mark.parametrize(
    "page",
    [page if page in OFTEN else pytest.param(page, marks=pytest.mark.slow) for page in PAGES],
    ids=lambda page: str(page.relative_to(DOCS)),
)
def test_the_code_on_a_page_runs(page, workplace, few_digits, capsys):
    place_tiny_as_default(workplace)
    if page.parent.name == "how-to":
        shutil.copytree(few_digits, workplace / "digits")
    assert run_page(page, capsys) == sum(runs(block) for block in blocks(page))


def test_a_block_that_fails_is_found(workplace, capsys):
    page = workplace / "page.md"
    page.write_text("# Page\n\n```sh\ntrue\n```\n\n<!-- exits 2 -->\n```sh\nheadstart nonsense\n```\n", "utf-8")
    assert run_page(page, capsys) == 2
    page.write_text("# Page\n\n```sh\nheadstart check nowhere\n```\n", "utf-8")
    with pytest.raises(AssertionError, match=r"page\.md, line 3: `headstart check nowhere` left with 1"):
        run_page(page, capsys)
    page.write_text("# Page\n\n```python\nraise KeyError\n```\n", "utf-8")
    with pytest.raises(KeyError):
        run_page(page, capsys)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_blocks_that_do_not_run_say_why(page):
    left_out = [block for block in blocks(page) if is_code(block) and not runs(block)]
    assert len(left_out) == LEFT_OUT[name_of(page)]
    assert all(len(block.note) > len("not run: ") + 10 for block in left_out)


def test_pages_show_only_options_that_exist():
    for page in PAGES:
        for block in blocks(page):
            for line in block.text.replace("\\\n", " ").splitlines() if block.language == "sh" else []:
                for command, rest in re.findall(r"\bheadstart (\w+)((?: [^|;#]*)?)", line):
                    if command in cli.app.commands:
                        options = {o for p in cli.app.commands[command].params for o in [*p.opts, *p.secondary_opts]}
                        named = set(re.findall(r"(?<=\s)--[a-z-]+", rest))
                        assert named <= options, f"{page.name}, line {block.line}: {named - options}"


def test_every_public_name_is_in_the_reference():
    text = "".join(page.read_text("utf-8") for page in sorted((DOCS / "reference").glob("*.md")))
    named = re.findall(r"^::: headstart\.(\w+)$", text, re.MULTILINE)
    assert sorted(named) == headstart.__all__


def test_every_page_is_in_the_navigation():
    config = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:")[2]
    for page in DOCS.rglob("*.md"):
        assert re.search(rf"\b{re.escape(str(page.relative_to(DOCS)))}$", config, re.MULTILINE), f"{page} is missing"


# The site as it is built.


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; building it warns of nothing."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


class Seen(HTMLParser):
    """What a page has: `anchors`, the `links` that a reader can follow, and what its browser `loads` by itself."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.anchors: set[str] = {"", "__top"}
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attributes}
        self.anchors |= {given[key] for key in ("id", "name") if key in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("next", "prev", "canonical"):
            self.loads.append(given["href"])
        elif "src" in given:
            self.loads.append(given["src"])


@pytest.mark.slow
def test_every_link_leads_somewhere(site):
    pages = {path: Seen(path) for path in site.rglob("*.html")}
    assert len(pages) > len(PAGES) + 10
    broken, followed = [], 0
    for path, page in pages.items():
        for link in page.links:
            to = urlsplit(link)
            if to.scheme in ("http", "https", "mailto") or path.name == "404.html":
                continue
            target = (path.parent / unquote(to.path)).resolve() if to.path else path
            target = target / "index.html" if target.is_dir() else target
            followed += 1
            if not target.is_file() or (target in pages and unquote(to.fragment) not in pages[target].anchors):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken
    assert followed > 1000


@pytest.mark.slow
def test_a_page_loads_nothing_from_elsewhere(site):
    for path in site.rglob("*.html"):
        for address in Seen(path).loads:
            assert not urlsplit(address).netloc, f"{path.name} loads {address}"
    for path in site.rglob("*.css"):
        assert not re.search(r"url\(\W?(https?:)?//", path.read_text("utf-8")), path


@pytest.fixture
def address(site):
    """Where the site is served from the loopback interface."""
    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that does not tell of every request."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def search(page) -> list[str]:
    """Search for a word as a reader does; returns what is found."""
    page.get_by_placeholder("Search").first.click()
    page.keyboard.type("imbalance", delay=30)
    page.locator(".md-search-result__item a").first.wait_for(timeout=15_000)
    return page.locator(".md-search-result__item a").all_inner_texts()


@contextmanager
def watched(process, root: str, width: int):
    """A page of the given width; on leaving, the test fails where it raised an error or asked anything of others."""
    page = process.new_page(viewport={"width": width, "height": 900})
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    page.close()
    assert not said
    assert asked
    assert {url for url in asked if not url.startswith((root, "data:", "blob:", "about:"))} == set()


@pytest.mark.slow
@pytest.mark.browser
def test_every_page_opens_from_the_disk_and_is_no_wider_than_a_telephone(site):
    with browser() as process, watched(process, site.as_uri(), 390) as page:
        for path in sorted(site.rglob("*.html")):
            if path.name != "404.html":
                page.goto(path.as_uri())
                assert page.locator("h1").first.inner_text()
                assert overflow(page) <= 0, path


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("from_disk", [True, False], ids=["from the disk", "from a server"])
def test_the_search_finds_a_page(site, address, from_disk):
    root = site.as_uri() if from_disk else address
    with browser() as process, watched(process, root, 1280) as page:
        page.goto(f"{root}/index.html")
        assert any("rare" in one.lower() for one in search(page))
