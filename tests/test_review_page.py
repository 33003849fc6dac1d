"""The review desk in a real browser: a person decides by keyboard or finger, and nothing that was decided gets lost."""

import threading
from contextlib import contextmanager

import httpx
import pytest
import uvicorn

from headstart.delivery.review import again
from headstart.delivery.review.app import build
from headstart.delivery.review.desk import Desk
from headstart.delivery.review.journal import open_journal
from headstart.delivery.run_folder import TrainOptions
from headstart.pictures.overlay import Overlay
from headstart.workflow import train

from . import tiny
from .browser import browser, overflow, violations
from .serving import wait_until

pytestmark = pytest.mark.browser

EACH, PLANTED = 24, 6
CANARY = "<img src=x onerror='window.canary=1'>"
HOSTILE = (f"{CANARY} one", "\"quotes' & &lt;b>", "عربي", "x" * 200)
KEYS = {"amber": "a", "blue": "b", "green": "e"}  # g and r do something else
PATIENCE = 15_000


@pytest.fixture(scope="module")
def chromium():
    with browser() as process:
        yield process


def trained(folder, draw):
    """What the desk needs of a run with the pictures that `draw` puts into a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(folder / "cache"))
        options = TrainOptions(backbone="tiny", weights=tiny.install(folder), device="cpu", test=0.5)
        draw(folder / "photos")
        train(folder / "photos", folder / "run", options)
        unlabelled = folder / "new"
        for number in range(3):
            tiny.draw(unlabelled / f"{number}.png", tiny.HUES["amber"], 5000 + number)
        return again.load(folder / "run", Overlay(), unlabelled)


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Three classes; the first `PLANTED` pictures of each show what the next one is."""

    def draw(photos):
        names = list(tiny.HUES)
        for place, name in enumerate(names):
            for index in range(EACH):
                shown = names[(place + 1) % 3] if index < PLANTED else name
                tiny.draw(photos / name / f"{index:02}.png", tiny.HUES[shown], 1000 * place + index)
        tiny.draw(photos / "blue" / "same.png", tiny.HUES["blue"], 9999)
        twin = tiny.Image.open(photos / "blue" / "same.png").resize((96, 80), resample=0)
        twin.save(photos / "blue" / "twin.png")

    return trained(tmp_path_factory.mktemp("desk"), draw)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    def draw(photos):
        for place, name in enumerate(HOSTILE):
            for index in range(12):
                hue = list(tiny.HUES.values())[(place + (index < 2)) % 3]
                tiny.draw(photos / name / f"{CANARY} {index:02}.png", hue, 1000 * place + index)

    return trained(tmp_path_factory.mktemp("hostile"), draw)


class Served:
    """A desk in a thread; `stop` ends it as a closed terminal would."""

    def __init__(self, material, folder, port=0):
        self.desk = Desk(material, open_journal(folder / "run.review.sqlite"), lambda: None)
        app = build(self.desk, "token", "127.0.0.1")
        self._server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", ws="none"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"

    def ask(self, path):
        return httpx.get(f"{self.url}api/{path}", trust_env=False, timeout=30).json()

    def labels(self):
        return {item["id"]: (item["label"], item["excluded"]) for item in self.ask("queue/all?limit=500")["items"]}

    def stop(self):
        self._server.should_exit = True
        self._thread.join(30)
        self.desk.close()


@pytest.fixture
def served(material, tmp_path):
    server = Served(material, tmp_path)
    yield server
    server.stop()


@contextmanager
def opened(process, url, *, width=1280, dark=False, at="", allowed=()):
    """The page at `url`; on leaving, the test fails where it raised an error or asked anybody else for anything."""
    context = process.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        has_touch=width < 500,
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith((url, "data:", "blob:")) else wrong.append(asked.url))
    page.goto(f"{url}{at}")
    page.locator(".frame img, .cell, #go-on").locator("visible=true").first.wait_for()
    try:
        yield page
    finally:
        context.close()
    assert [text for text in wrong if not any(part in text for part in allowed)] == []


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def place(page):
    """The number of the present picture, from 1."""
    return int(page.locator("#place").inner_text().split()[0])


def kept(served, n):
    wait_until(lambda: served.desk.journal.revision == n)


def test_a_person_reviews_ten_suspects_by_keyboard(chromium, material, tmp_path):
    served = Served(material, tmp_path)
    suspects = served.ask("queue/labels")["items"]
    assert len(suspects) >= 12
    relabelled = [item for number, item in enumerate(suspects[:8]) if number not in (3, 5)]
    assert any(item["part"] == "test" for item in relabelled)  # so that the number must change
    with opened(chromium, served.url) as page:
        before = page.locator("#accuracy").inner_text()
        for number, item in enumerate(suspects[:10]):
            wait_until(lambda shown=number + 1: place(page) == shown)
            key = {3: "x", 5: " "}.get(number, "Enter" if number % 2 else KEYS[item["suggested"]])
            press(page, key)
        kept(served, 10)
        standing = [(item["decision"], item["label"]) for item in served.ask("queue/labels")["items"][:10]]
        for number, item in enumerate(suspects[:10]):
            decision = {3: "exclude", 5: "accept"}.get(number, "relabel")
            assert standing[number] == (decision, item["suggested"] if decision == "relabel" else item["label"])
        press(page, "u")
        kept(served, 11)
        press(page, "u")
        kept(served, 12)
        wait_until(lambda: place(page) == 9)
        assert served.ask("state")["decisions"] == 8
        press(page, "t")
        lead = page.locator("#change-lead")
        lead.wait_for()
        assert "held-out pictures" in lead.inner_text()
        wait_until(lambda: page.locator("#accuracy").inner_text() != before)
        after, said, labels = page.locator("#accuracy").inner_text(), lead.inner_text(), served.labels()
        page.reload()
        lead.wait_for()
        assert (page.locator("#accuracy").inner_text(), lead.inner_text()) == (after, said)
    served.stop()
    later = Served(material, tmp_path)  # another day
    with opened(chromium, later.url) as page:
        assert page.locator("#accuracy").inner_text() == after
        assert later.labels() == labels
        press(page, "u")
        kept(later, 13)
        assert later.labels() != labels
    later.stop()


def test_reloading_finds_the_place_and_every_decision(chromium, served):
    with opened(chromium, served.url) as page:
        press(page, "Enter", "Enter", "ArrowRight", "ArrowRight")
        kept(served, 2)
        page.locator("#queue-all").click()
        press(page, "ArrowRight", "ArrowRight", "g")
        page.locator("#cell-2.here").wait_for()
        page.reload()
        page.locator("#cell-2.here").wait_for()
        page.locator("#queue-labels").click()
        page.locator("#cell-4.here").wait_for()
        assert page.locator(".cell.done").count() == 2
        assert page.locator("#as-grid").get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("by_mouse", [True, False], ids=["mouse", "keys"])
def test_many_are_decided_about_at_once(chromium, served, by_mouse):
    before = served.labels()
    with opened(chromium, served.url, at="#queue=all&view=grid") as page:
        page.locator("#cell-5").wait_for()
        if by_mouse:
            page.locator("#cell-0").click()
            page.locator("#cell-3").click(modifiers=["Shift"])
            page.locator("#cell-5").click(modifiers=["Control"])
            page.locator("#cell-1").click(modifiers=["Control"])
        else:
            press(page, "Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight")
            press(page, "ArrowRight", "ArrowRight", "Control+Space", "Home", "ArrowRight", "Control+Space")
        chosen = page.locator(".cell[aria-selected=true]").evaluate_all("cells => cells.map(cell => cell.id)")
        assert chosen == ["cell-0", "cell-2", "cell-3", "cell-5"]
        assert page.locator(".many").inner_text() == "4 pictures selected"
        press(page, "2")
        kept(served, 1)
        changed = {name for name, (label, _) in served.labels().items() if label != before[name][0]}
        assert len(changed) == 4
        assert {served.labels()[name][0] for name in changed} == {"blue"}
        press(page, "Control+a")
        assert page.locator(".cell[aria-selected=true]").count() == len(before)
        press(page, "x")
        kept(served, 2)
        assert all(excluded for _, excluded in served.labels().values())
        press(page, "u", "u")
        kept(served, 4)
        assert served.labels() == before
        press(page, "Shift+U")
        kept(served, 5)
        assert served.labels() != before


def test_two_tabs_do_not_fight(chromium, served):
    first = served.ask("queue/labels")["items"][0]
    with opened(chromium, served.url, allowed=["409"]) as one, opened(chromium, served.url, allowed=["409"]) as other:
        press(one, " ")
        kept(served, 1)
        press(other, "x")
        other.locator(".toast.bad").wait_for()
        assert "Not kept" in other.locator(".toast").inner_text()
        assert served.desk.journal.revision == 1
        other.locator("#near-0.good[aria-current]").wait_for()  # what the other tab decided is shown
        press(other, "x")
        kept(served, 2)
        assert served.labels()[first["id"]] == (first["label"], True)


def test_a_desk_that_has_gone_is_waited_for(chromium, served):
    with opened(chromium, served.url, allowed=["ERR_INTERNET_DISCONNECTED"]) as page:
        page.wait_for_load_state("networkidle")  # the browser does not fail what is under way, it holds it back
        page.context.set_offline(True)
        press(page, "x")
        page.locator("#trouble", has_text="1 decision not kept yet").wait_for()
        assert served.desk.journal.revision == 0
        page.context.set_offline(False)
        kept(served, 1)
        page.locator("#trouble .chip").wait_for(state="detached")


def test_of_two_twins_one_goes_or_both_stay(chromium, served):
    (pair,) = served.ask("queue/twins")["items"]
    with opened(chromium, served.url, at="#queue=twins") as page:
        page.locator("#shot-1.marked").wait_for()
        press(page, "ArrowUp")
        page.locator("#shot-0.marked").wait_for()
        press(page, "x")
        kept(served, 1)
        assert served.labels()[pair["id"]][1]
        assert not served.labels()[pair["twin"]["id"]][1]
        press(page, "u", " ")
        kept(served, 3)
        (pair,) = served.ask("queue/twins")["items"]
        assert (pair["decision"], pair["excluded"], pair["twin"]["excluded"]) == ("accept", False, False)


def test_a_queue_with_nothing_in_it_leads_on(chromium, served):
    with opened(chromium, served.url) as page:
        nothing = {"name": "strangers", "revision": 0, "total": 0, "offset": 0, "items": []}
        page.route("**/api/queue/strangers*", lambda route: route.fulfill(json=nothing))
        page.locator("#queue-strangers").click()
        page.locator("#empty", has_text="No picture is unlike all the others").wait_for()
        assert not page.locator("#side").is_visible()
        page.locator("#elsewhere").click()
        page.locator("#shot-0").wait_for()
        assert page.locator("#queue-title").inner_text() == "Doubtful labels"


def test_new_pictures_are_added(chromium, served):
    with opened(chromium, served.url, at="#queue=new") as page:
        page.locator("#accept").wait_for()
        press(page, " ", "2")
        kept(served, 2)
        assert served.ask("log")["decisions"][0]["value"] == "blue"
        assert {item["decision"] for item in served.ask("queue/new")["items"]} == {"add", None}
        press(page, "t")
        page.locator("#change-lead").wait_for()
        assert "null" not in page.locator("#change").inner_text()
    assert sum(part["pictures"] for part in served.ask("state")["classes"]) == 3 * EACH + 4


def test_classes_are_added_renamed_and_merged(chromium, served):
    def names():
        return [one["name"] for one in served.ask("state")["classes"]]

    with opened(chromium, served.url, allowed=["422"]) as page:
        page.locator("#open-classes").click()
        page.locator("#class-name").fill("amber")
        press(page, "Enter")
        page.locator("#class-error", has_text="already").wait_for()
        page.locator("#class-name").fill("wasps")
        press(page, "Enter")
        page.locator("#rename-3").click()
        page.locator("#new-name").fill("hornets")
        press(page, "Enter")
        kept(served, 2)
        page.locator("#merge-0").click()
        page.locator("#into").select_option("blue")
        assert f"{EACH} pictures of amber become blue" in page.locator("#warning").inner_text()
        page.locator("#change-go").click()
        kept(served, 3)
        assert names() == ["blue", "green", "hornets"]
        page.locator("#class-rows li").nth(2).wait_for()
        press(page, "Escape", "u")
        kept(served, 4)
        assert names() == ["amber", "blue", "green", "hornets"]
        wait_until(lambda: page.locator(".class").count() == 4)
        page.locator("#open-log").click()
        page.locator("#log-table tbody tr").nth(3).wait_for()
        assert page.locator("#log-table tbody tr").count() == 4
        assert page.locator("#log-table tr.undone").count() == 1


def test_every_class_has_its_own_keys(chromium, served):
    expected = [
        {"ants": ["1", "a"], "bees": ["2", "b"]},
        {"car": ["1", "a"], "cat": ["2"], "dog": ["3", "d"]},
        {"3": ["3"], "7": ["7"], "none": ["n"]},
        {"sloth": ["1", "l"], "عربي": ["2"]},
    ]
    with opened(chromium, served.url) as page:
        call = "async (names) => Object.fromEntries((await import('/classes.js')).keysOf(names))"
        for keys in expected:
            assert page.evaluate(call, list(keys)) == keys


def test_names_of_strangers_do_nothing(chromium, hostile, tmp_path):
    served = Served(hostile, tmp_path)
    for width in (1280, 390):
        with opened(chromium, served.url, width=width) as page:
            page.locator("#queue-all").click()
            page.locator("#class-3").wait_for()
            page.locator("#class-3").click()
            page.locator("#open-classes").click()
            page.locator("#merge-0").click()
            press(page, "Escape")
            page.locator("#open-log").click()
            page.locator("#log-table tr").nth(1).wait_for()
            press(page, "Escape")
            page.locator("#as-grid").click()
            page.locator(".cell").first.wait_for()
            press(page, "t")
            page.locator("#change-lead").wait_for()
            assert page.evaluate("window.canary") is None
            assert page.locator("img[src=x]").count() == 0
            assert overflow(page) == 0
    served.stop()


def test_a_finger_suffices(chromium, served):
    with opened(chromium, served.url, width=390) as page:
        page.locator("#take").tap()
        kept(served, 1)
        page.locator("#exclude").tap()
        kept(served, 2)
        page.locator("#undo").tap()
        kept(served, 3)
        page.locator("#as-grid").tap()
        page.locator("#cell-1").tap()
        page.locator("#cell-2").tap()
        page.locator("#class-0").tap()
        kept(served, 4)
        assert len(served.ask("log")["decisions"][0]["pictures"]) == 2
        small = "buttons => buttons.filter(one => one.offsetParent && one.offsetHeight < 40).map(one => one.id)"
        assert page.locator("#desk button").evaluate_all(small) == []
        assert overflow(page) == 0


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["wide-light", "narrow-dark"])
def test_everybody_can_use_it(chromium, served, width, dark):
    with opened(chromium, served.url, width=width, dark=dark) as page:
        press(page, "Enter")
        assert violations(page) == []
        assert overflow(page) == 0
        page.locator("#as-grid").click()
        press(page, "Shift+ArrowRight")
        assert violations(page) == []
        page.locator("#queue-twins").click()
        page.locator("#as-one").click()
        page.locator("#shot-1").wait_for()
        assert violations(page) == []
        for opener, dialog in (("#open-help", "#help"), ("#open-classes", "#classes"), ("#open-log", "#log")):
            page.locator(opener).click()
            page.locator(dialog).wait_for()
            assert violations(page) == []
            press(page, "Escape")
        press(page, "t")
        page.locator("#change-lead").wait_for()
        assert violations(page) == []
        assert overflow(page) == 0


def test_what_happens_is_said(chromium, served):
    first = served.ask("queue/labels")["items"][0]
    with opened(chromium, served.url) as page:
        status = page.locator("#status")
        press(page, "ArrowRight", "ArrowLeft")
        wait_until(lambda: "Picture 1 of" in status.text_content())
        assert "suggested" in status.text_content()
        assert first["suggested"] in status.text_content()
        press(page, "?")
        assert page.locator("#help").is_visible()
        page.locator("#single-keys").uncheck()
        press(page, "Escape", "x", " ")
        page.locator("#exclude").focus()
        press(page, "Space")
        kept(served, 1)
        assert served.ask("log")["decisions"][0]["action"] == "exclude"


def test_the_picture_can_be_looked_at_closely(chromium, served):
    with opened(chromium, served.url) as page:
        press(page, "z")
        frame = page.locator("#frame-0")
        assert frame.evaluate("one => one.scrollWidth > 2.9 * one.clientWidth && one.scrollLeft > 0")
        top = frame.evaluate("one => one.scrollTop")
        press(page, "ArrowDown")
        assert frame.evaluate("one => one.scrollTop") > top
        press(page, "Escape", "s")
        page.locator(".map[src]").wait_for()


def test_the_manifest_can_be_saved(chromium, served):
    with opened(chromium, served.url) as page:
        press(page, "x")
        kept(served, 1)
        with page.expect_download() as waiting:
            page.locator("#export").click()
        lines = waiting.value.path().read_text("utf-8").splitlines()
        assert waiting.value.suggested_filename == "reviewed.csv"
        assert lines[0] == "path,label,split,group"
        assert len(lines) == 1 + 3 * EACH + 2 - 1
