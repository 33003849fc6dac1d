"""The report in a real browser: it fits, it can be used by everybody, and strangers' names do nothing in it."""

import pytest

from headstart.judging.report.writing import write_report

from . import sample_run
from .browser import browser, opened, overflow, violations

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chromium():
    with browser() as process:
        yield process


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "run"
    return write_report(folder, sample_run.make(folder))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "run"
    return write_report(folder, sample_run.make(folder, classes=sample_run.HOSTILE))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_everybody_can_use_it(chromium, report, width, dark):
    with opened(chromium, report, width=width, dark=dark) as page:
        page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        page.locator("#matrix .miss button").first.click()
        assert violations(page) == []
        assert overflow(page) == 0


@pytest.mark.parametrize("width", [1280, 390])
def test_names_of_strangers_do_nothing(chromium, hostile, width):
    with opened(chromium, hostile, width=width) as page:
        for button in page.locator("#matrix button").all():
            button.click()
        page.locator("#field").focus()
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
            page.keyboard.press(key)
        assert page.evaluate("window.canary") is None
        assert page.locator("img[src=x]").count() == 0
        assert overflow(page) == 0


def test_it_reads_without_scripts(chromium, report):
    with opened(chromium, report, scripts=False) as page:
        assert page.locator("section[id]").count() == 9
        assert page.locator("#filter").is_hidden()
        assert page.locator("#theme").is_hidden()
        assert page.locator(".shot img").first.is_visible()


def test_the_theme_can_be_changed(chromium, report):
    with opened(chromium, report) as page:
        before = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.locator("#theme").click()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
        assert page.locator("#theme").get_attribute("aria-pressed") == "true"
        page.locator("#theme").click()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == before


def test_a_field_of_the_matrix_shows_its_pictures_by_key(chromium, report):
    with opened(chromium, report) as page:
        first = page.locator("#matrix button").first
        first.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        panel = page.locator("#cell")
        assert panel.is_visible()
        pressed = page.locator("#matrix button[aria-pressed=true]")
        assert panel.locator("h4").inner_text().startswith(f"{pressed.inner_text()} picture")
        most = 4 if page.locator(".hit button[aria-pressed=true]").count() else 12
        assert panel.locator("li").count() == min(int(pressed.inner_text()), most)
        assert panel.locator("img").count() == panel.locator("li").count()
        assert page.locator("#matrix button[tabindex='0']").count() == 1


def test_where_it_looked_is_shown_by_key(chromium, report):
    with opened(chromium, report) as page:
        button = page.locator(".looks").first
        opacity = "one => getComputedStyle(one.querySelector('.overlay')).opacity"
        assert button.evaluate(opacity) == "0"
        button.focus()
        page.keyboard.press("Space")
        assert button.get_attribute("aria-pressed") == "true"
        assert button.evaluate(opacity) == "1"


def test_the_table_of_problems_can_be_filtered(chromium, report):
    with opened(chromium, report) as page:
        assert page.locator("#problems tbody tr:visible").count() == 5
        page.locator("#find").fill("truncated")
        assert page.locator("#problems tbody tr:visible").count() == 1
        assert page.locator("#found").inner_text() == "1 of 5 rows"
        page.locator("#find").fill("")
        page.locator("#kind").select_option("leak")
        assert page.locator("#problems tbody tr:visible").count() == 1


def test_classes_can_be_sorted(chromium, report):
    with opened(chromium, report) as page:
        names = "rows => rows.map(row => row.cells[0].textContent)"
        page.get_by_role("button", name="Class").click()
        assert page.locator(".sortable tbody tr").evaluate_all(names) == ["amber", "blue", "green"]
        page.get_by_role("button", name="Class").click()
        assert page.locator(".sortable tbody tr").evaluate_all(names) == ["green", "blue", "amber"]


def test_the_map_speaks_and_shows_pictures(chromium, report):
    with opened(chromium, report) as page:
        page.locator("#field").focus()
        page.keyboard.press("ArrowRight")
        assert page.locator("#hover").is_visible()
        assert page.locator("#hover img").count() == 1
        first = page.locator("#spoken").text_content()
        page.keyboard.press("ArrowLeft")
        assert page.locator("#spoken").text_content() != first
        page.keyboard.press("Escape")
        assert page.locator("#hover").is_hidden()


def test_the_skip_link_leads_to_the_report(chromium, report):
    with opened(chromium, report) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"


def test_it_prints(chromium, report):
    with opened(chromium, report, dark=True) as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.locator(".masthead").is_hidden()
        assert len(page.pdf()) > 10_000
