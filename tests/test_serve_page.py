"""The server's page in a real browser: a person drops a picture and reads the answer, by mouse, key and finger."""

import base64
import csv
import io
import json
import sys
from contextlib import contextmanager

import pytest
from PIL import Image

from headstart import cli
from headstart.delivery import artefact
from headstart.delivery.run_folder import TrainOptions
from headstart.delivery.serve.settings import Limits
from headstart.features.openvino_engine import OpenVinoEngine
from headstart.workflow import train
from tests import tiny

from .browser import browser, overflow, violations
from .serving import client, in_thread, picture

pytestmark = pytest.mark.browser

# What a person does with the mouse: let go of files over the page.
DROP = """async ({names, datas}) => {
    const transfer = new DataTransfer();
    for (const [index, name] of names.entries()) {
        const bytes = Uint8Array.from(atob(datas[index]), (letter) => letter.charCodeAt(0));
        transfer.items.add(new File([bytes], name, {type: "image/png"}));
    }
    for (const kind of ["dragover", "drop"]) {
        const event = new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true});
        document.getElementById("drop").dispatchEvent(event);
    }
}"""
PASTE = (
    DROP.replace('["dragover", "drop"]', '["paste"]')
    .replace("new DragEvent", "new ClipboardEvent")
    .replace("dataTransfer:", "clipboardData:")
)
REFUSED = "Failed to load resource: the server responded with a status of"  # Chromium's own line for a 4xx or 503


@pytest.fixture(scope="module")
def chromium():
    with browser() as process:
        yield process


@pytest.fixture(scope="module")
def server(tiny_run):
    with in_thread(tiny_run, limits=Limits(file_bytes=400_000)) as running:
        yield running


@contextmanager
def opened(process, server, *, path="/", width=1280, dark=False, touch=False, refusals=False):
    """The page; on leaving, the test fails where it raised an error or asked anyone but its server."""
    context = process.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        has_touch=touch,
        is_mobile=touch,
        accept_downloads=True,
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    wrong = []

    def heard(said):
        if said.type in ("error", "warning") and not (refusals and said.text.startswith(REFUSED)):
            wrong.append(said.text)

    page.on("console", heard)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    own = (server.url, f"blob:{server.url}", "data:")
    page.on("request", lambda asked: None if asked.url.startswith(own) else wrong.append(asked.url))
    try:
        page.goto(server.url + path)
        yield page
    finally:
        context.close()
    assert not wrong, wrong


def drop(page, how=DROP, **files):
    page.locator("#limits:not(:empty)").wait_for(state="attached")
    datas = [base64.b64encode(data).decode() for data in files.values()]
    page.evaluate(how, {"names": list(files), "datas": datas})


def answered(page, count):
    page.locator(f"#cards > .answered:nth-child({count})").wait_for(state="attached")
    page.locator("#cards:not(:has(.pending))").wait_for(state="attached")


@pytest.fixture
def kinds(tmp_path):
    """Pictures that are read in different ways."""
    whole = Image.open(io.BytesIO(picture(size=(120, 80))))
    tiny.draw(tmp_path / "wide.png", tiny.HUES["amber"], 5, size=(300, 60))
    turned = Image.Exif()
    turned[0x0112] = 6
    whole.save(tmp_path / "turned.jpg", exif=turned)
    whole.convert("RGBA").save(tmp_path / "see-through.webp", lossless=True)
    whole.convert("P").save(tmp_path / "palette.gif")
    whole.convert("I;16").save(tmp_path / "deep.png")
    return sorted(path for path in tmp_path.iterdir() if path.is_file())


def test_command_interface_and_page_give_the_same_probabilities(chromium, server, tiny_run, kinds, monkeypatch, capsys):
    monkeypatch.setenv("HEADSTART_CACHE", str(tiny_run.parent / "cache"))
    words = ["predict", str(tiny_run), *map(str, kinds), "--format", "jsonl", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["headstart", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code in (0, None)
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    with client(server) as ask:
        sent = [("file", (path.name, path.read_bytes())) for path in kinds]
        posted = ask.post("/predict", files=sent).json()["predictions"]
    with opened(chromium, server) as page:
        drop(page, **{path.name: path.read_bytes() for path in kinds})
        answered(page, len(kinds))
        assert page.locator(".file").all_inner_texts() == [path.name for path in kinds]
        for one, other, card in zip(said, posted, page.locator("#cards > .answer").all(), strict=True):
            chances = card.locator(".chances")
            names = chances.locator(".name").all_inner_texts()
            values = [float(number.get_attribute("value")) for number in chances.locator("data").all()]
            assert values == sorted(values, reverse=True)
            assert dict(zip(names, values, strict=True)) == pytest.approx(one["probabilities"], abs=1e-6)
            assert other["probabilities"] == pytest.approx(one["probabilities"], abs=1e-6)
            assert card.locator(".verdict strong").inner_text() == names[0] == one["label"] == other["label"]
            assert card.locator(".set .name").all_inner_texts() == one["set"] == other["set"]
            assert card.locator(".none").count() == one["none_of_these"]["flag"] == other["none_of_these"]["flag"]
        assert page.locator("#status").inner_text().startswith(tuple(path.name for path in kinds))


def test_pictures_can_be_pasted_and_chosen(chromium, server, tmp_path):
    with opened(chromium, server) as page:
        drop(page, PASTE, **{"pasted.png": picture()})
        answered(page, 1)
        (tmp_path / "chosen.png").write_bytes(picture(1))
        page.set_input_files("#choose", [tmp_path / "chosen.png"])
        answered(page, 2)
        page.set_input_files("#choose", [tmp_path / "chosen.png"])  # the same once more
        answered(page, 3)
        assert page.locator(".file").all_inner_texts() == ["pasted.png", "chosen.png", "chosen.png"]
        page.get_by_role("button", name="Clear").click()
        assert page.locator("#results").is_hidden()
        assert page.evaluate("document.activeElement.id") == "choose"


def test_a_telephone_offers_its_camera(chromium, server):
    with opened(chromium, server, width=390, touch=True) as page:
        page.locator("#limits:not(:empty)").wait_for()
        assert page.get_by_text("Take a photo").is_visible()
        assert page.locator("#photograph").get_attribute("capture") == "environment"
        assert overflow(page) == 0
    with opened(chromium, server) as page:
        assert page.get_by_text("Take a photo").is_hidden()


def test_where_it_looked_is_shown_by_key(chromium, server):
    with opened(chromium, server) as page:
        drop(page, **{"one.png": picture(size=(120, 80))})
        answered(page, 1)
        button = page.locator(".looks")
        button.focus()
        page.keyboard.press("Enter")
        page.locator(".looks[aria-pressed=true] .overlay").wait_for(state="attached")
        assert page.evaluate("document.activeElement.className") == "frame looks"
        assert page.locator(".overlay").get_attribute("src").startswith("data:image/png;base64,")
        page.keyboard.press("Enter")
        page.locator(".looks[aria-pressed=false]").wait_for()


def test_many_pictures_make_a_table_that_can_be_saved(chromium, server, tiny_run, tmp_path):
    files = {f'{number:02},"x".png': picture(number) for number in range(14)}
    with opened(chromium, server, refusals=True) as page:
        drop(page, **files, **{"notes.txt": b"dear diary"})
        page.locator("#count").get_by_text("15 pictures, 1 without an answer", exact=True).wait_for()
        assert page.locator("#table").is_visible()
        assert page.locator("#cards").is_hidden()
        assert page.locator("#rows tr").count() == 15
        assert page.locator("#rows tr").last.locator(".wrong").inner_text().startswith("This picture cannot be read.")
        assert page.locator("#status").inner_text() == "All 15 pictures are done."
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save CSV").click()
        assert saved.value.suggested_filename == "photos.csv"
        saved.value.save_as(tmp_path / "saved.csv")
        page.get_by_role("button", name="Cards").click()
        assert page.locator("#cards").is_visible()
    with (tmp_path / "saved.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == [*files, "notes.txt"]
    predictor = artefact.load(tiny_run, "cpu")
    for number, row in enumerate(rows[:-1]):
        (tmp_path / "one.png").write_bytes(picture(number))
        (said,) = predictor.predict([tmp_path / "one.png"])
        assert row["label"] == said.label
        for name, probability in said.ranking:
            assert float(row[f"p({name})"]) == pytest.approx(probability, abs=1e-6)
    assert "dear diary" in rows[-1]["error"]


def test_refusals_are_said_kindly(chromium, server):
    with opened(chromium, server, refusals=True) as page:
        drop(page, **{"big.png": b"x" * 500_000, "broken.png": picture()[:300]})
        page.locator(".refused").nth(1).wait_for()
        big, broken = page.locator(".refused .chip").all_inner_texts()
        assert big.split("\n") == ["Too large.", "It has 0.5 MB; at most 0.4 MB are accepted. A smaller copy will do."]
        assert broken.split("\n") == ["This picture cannot be read.", "Truncated: the picture's data end early."]
        assert page.get_by_role("button", name="Try again").count() == 0


def test_a_busy_server_is_asked_again(chromium, server):
    with opened(chromium, server, refusals=True) as page:
        times = []

        def busy_at_first(route):
            times.append(1)
            if len(times) == 1:
                route.fulfill(status=503, headers={"Retry-After": "1"}, json={"error": "the server is busy."})
            else:
                route.continue_()

        page.route("**/predict*", busy_at_first)
        drop(page, **{"one.png": picture()})
        page.get_by_text("The server is busy; asking again in 1 s").first.wait_for()
        answered(page, 1)
        assert len(times) == 2
        page.route("**/predict*", lambda route: route.fulfill(status=408, json={"error": "it did not arrive."}))
        drop(page, **{"two.png": picture()})
        page.get_by_text("did not arrive in time").first.wait_for()
        page.unroute("**/predict*")
        page.get_by_role("button", name="Try again").click()
        answered(page, 2)


def test_the_token_is_asked_for(chromium, tiny_run):
    with in_thread(tiny_run, token="open sesame") as server, opened(chromium, server, refusals=True) as page:
        dialog = page.get_by_role("dialog")
        dialog.wait_for()
        assert violations(page) == []
        page.keyboard.press("Escape")
        assert dialog.is_visible()
        page.get_by_role("textbox", name="Token").fill("guess")
        page.keyboard.press("Enter")
        page.get_by_text("That was not the token.").wait_for()
        page.get_by_role("textbox", name="Token").fill("open sesame")
        page.keyboard.press("Enter")
        drop(page, **{"one.png": picture()})
        answered(page, 1)
        assert dialog.is_hidden()
        page.goto(f"{server.url}/docs")
        page.locator(".method").first.wait_for()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_everybody_can_use_it(chromium, server, width, dark):
    with opened(chromium, server, width=width, dark=dark, refusals=True) as page:
        page.locator("#limits:not(:empty)").wait_for()
        assert violations(page) == []
        drop(page, **{"one.png": picture(), "a-very-long-name-" + "x" * 150 + ".png": picture(1), "no.png": b"no"})
        page.locator("#count").get_by_text("3 pictures, 1 without an answer").wait_for()
        assert violations(page) == []
        assert overflow(page) == 0
        page.get_by_role("button", name="Table").click()
        assert violations(page) == []
        assert overflow(page) == 0


@pytest.mark.parametrize("width", [1280, 390])
def test_the_description_can_be_read(chromium, server, width):
    with opened(chromium, server, path="/docs", width=width) as page:
        page.locator(".method").first.wait_for()
        assert page.locator("h2 .method").count() == 5
        assert violations(page) == []
        assert overflow(page) == 0


def test_the_theme_can_be_changed(chromium, server):
    with opened(chromium, server) as page:
        colour = "getComputedStyle(document.body).backgroundColor"
        before = page.evaluate(colour)
        page.get_by_role("button", name="Dark").click()
        assert page.evaluate(colour) != before
        page.get_by_role("button", name="Dark").click()
        assert page.evaluate(colour) == before


HOSTILE = ["<img src=x onerror=window.canary=1>", "</script><script>window.canary=1</script>" + "w" * 100, "12"]


def run_of(folder, hues, each):
    """A run whose classes have these names and colours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(folder / "cache"))
        lines = []
        for number, (name, hue) in enumerate(hues.items()):
            for index in range(each):
                tiny.draw(folder / f"{number}-{index}.png", hue, 100 * number + index)
                lines.append(json.dumps({"path": f"{number}-{index}.png", "label": name}))
        (folder / "data.jsonl").write_text("\n".join(lines))
        options = TrainOptions(backbone="tiny", weights=tiny.install(folder), device="cpu")
        train(folder / "data.jsonl", folder / "run", options)
    return folder / "run"


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory):
    """Classes whose names would like to be more than text; one is a number, which objects put first."""
    return run_of(tmp_path_factory.mktemp("hostile"), dict(zip(HOSTILE, tiny.HUES.values(), strict=True)), each=8)


@pytest.fixture(scope="module")
def many_run(tmp_path_factory):
    hues = {f"kind of thing {number:02}": (12 * number, 120, 240 - 12 * number) for number in range(20)}
    return run_of(tmp_path_factory.mktemp("many"), hues, each=4)


def test_names_of_strangers_do_nothing(chromium, hostile_run, tiny_run):
    name = "<img src=x onerror=alert(1)>"
    models = (("<b>model</b>", hostile_run), ("other", tiny_run))
    with in_thread(hostile_run, models=models) as server, opened(chromium, server) as page:
        drop(page, **{f"{name}.png": picture()})
        answered(page, 1)
        page.locator(".looks").click()
        page.locator(".overlay").wait_for(state="attached")
        values = [float(one.get_attribute("value")) for one in page.locator(".chances data").all()]
        assert values == sorted(values, reverse=True)
        assert sorted(page.locator(".chances .name").all_inner_texts()) == sorted(HOSTILE)
        assert page.locator(".file").inner_text() == f"{name}.png"
        page.get_by_role("button", name="Table").click()
        assert page.evaluate("window.canary") is None
        assert page.locator("img[src=x]").count() == 0
        page.locator("#models").select_option("other")
        page.locator("#knows").get_by_text("amber and blue").wait_for()
        answered(page, 1)
        assert sorted(page.locator("#cards .chances .name").all_inner_texts()) == ["amber", "blue"]


def test_long_names_stay_within_a_telephone(chromium, hostile_run, tmp_path):
    with in_thread(hostile_run) as server, opened(chromium, server, width=390, touch=True) as page:
        for number, hue in enumerate(tiny.HUES.values()):
            tiny.draw(tmp_path / f"{number}.png", hue, number)
        drop(page, **{"y" * 200 + file.name: file.read_bytes() for file in sorted(tmp_path.glob("*.png"))})
        answered(page, 3)
        assert set(page.locator(".verdict strong").all_inner_texts()) == set(HOSTILE)
        assert overflow(page) == 0
        page.get_by_role("button", name="Table").click()
        assert overflow(page) == 0
        heights = page.evaluate("[...document.querySelectorAll('#rows tr')].map((row) => row.offsetHeight)")
        assert max(heights) < 1000  # a column of single letters would be 3,000 high
        assert violations(page) == []


def test_of_many_classes_some_are_shown_and_all_when_asked_for(chromium, many_run):
    with in_thread(many_run) as server, opened(chromium, server) as page:
        drop(page, **{"one.png": picture()})
        answered(page, 1)
        assert page.locator(".chances li").count() == 5
        page.get_by_role("button", name="Show all 20 classes").click()
        assert page.locator(".chances li").count() == 20
        assert page.locator("#knows bdi").count() == 6
        page.get_by_role("button", name="14 more").click()
        assert page.locator("#knows bdi").count() == 20
        assert page.locator("#knows").inner_text().endswith("kind of thing 18 and kind of thing 19.")


def test_it_waits_for_a_model_that_is_being_loaded(chromium, tiny_run, monkeypatch):
    import threading

    gate, embed = threading.Event(), OpenVinoEngine.embed
    monkeypatch.setattr(OpenVinoEngine, "embed", lambda self, pixels: embed(self, pixels) if gate.wait(30) else None)
    with in_thread(tiny_run, wait=False) as server, opened(chromium, server) as page:
        page.get_by_text("The model is being loaded.").wait_for()
        gate.set()
        drop(page, **{"one.png": picture()})
        answered(page, 1)
        assert page.get_by_text("The model is being loaded.").count() == 0
