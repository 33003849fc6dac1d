"""A page opened in headless Chromium, where every error and every request out of the page is a failure."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]


@contextmanager
def browser():
    """A Chromium process for any number of pages; skips the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser: {CHROMIUM} is not there")
    with playwright.sync_playwright() as running:
        process = running.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        try:
            yield process
        finally:
            process.close()


@contextmanager
def opened(process, path: Path, *, width=1280, height=900, dark=False, scripts=True) -> Iterator:
    """The page of the file `path`; on leaving, the test fails where the page raised an error or asked for anything."""
    context = process.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        java_script_enabled=scripts,
    )
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else wrong.append(asked.url))
    page.goto(path.resolve().as_uri())
    try:
        yield page
    finally:
        context.close()
    assert not wrong, wrong


def violations(page) -> list[str]:
    """What axe finds wrong for people with disabilities, as `rule: where`; skips the test where axe is absent."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    found = axe.Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['target']} {node['failureSummary']}" for one in found for node in one["nodes"]]


def overflow(page) -> int:
    """By how many pixels the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
