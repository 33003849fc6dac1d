"""The page that stands alone: proved before it exists, equal to Pillow and `predict`, usable, asking no network."""

import csv
import hashlib
import io
import json
import tarfile
import urllib.error
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from PIL import Image

from headstart.cli import app
from headstart.delivery import artefact
from headstart.delivery.export import formats, page_browser, page_format, runtime
from headstart.delivery.export.exporting import export
from headstart.delivery.export.page_browser import Answering
from headstart.delivery.export.page_format import Inside, bundled
from headstart.delivery.export.source import Source
from headstart.errors import ExportError, UsageError
from headstart.features.preprocess import Preprocess
from headstart.pictures.decode import decode
from headstart.progress import SILENT, Progress

from . import tiny
from .browser import ARGUMENTS, CHROMIUM, browser, overflow, violations
from .test_export import no_softmax, other_mean, swapped_channels
from .test_serve_page import DROP, PASTE

pytestmark = pytest.mark.browser

LENS = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="session")
def package():
    """The folder of the runtime's files: from the user's own cache, or from the registry."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'headstart[page]'")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser: {CHROMIUM} is not there")
    try:
        runtime.obtain(None, SILENT)
    except ExportError as error:
        pytest.skip(f"no runtime for pages: {error}")
    return runtime.cache_folder() / "runtimes" / f"{runtime.PACKAGE}-{runtime.VERSION}"


@pytest.fixture(scope="session")
def page_file(tiny_run, package, tmp_path_factory):
    """A page that was handed over, with its record."""
    place = tmp_path_factory.mktemp("page") / "photos.html"
    export(tiny_run, "page", place, runtime=package)
    return place


@pytest.fixture(scope="module")
def chromium():
    with browser() as process:
        yield process


@contextmanager
def opened(process, path, *, width=1280, dark=False):
    """The page without a network, started; the test fails where it raised an error or asked for anything."""
    context = process.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        offline=True,
        accept_downloads=True,
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    wrong = []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    inner = ("file:", "blob:", "data:")
    context.on("request", lambda asked: None if asked.url.startswith(inner) else wrong.append(asked.url))
    page.goto(path.as_uri())
    page.evaluate("headstart.ready")
    try:
        yield page
    finally:
        context.close()
    assert not wrong, wrong


def given(page, *paths):
    """What the page says of the files that its file input gets."""
    page.set_input_files("#choose", paths)
    return page.evaluate("headstart.answers()")


def test_a_page_answers_as_predict_does(tiny_run, page_file):
    record = json.loads(Path(f"{page_file}.export.json").read_text())
    proof = record["proof"]
    held_out = [row for row in (tiny_run / "split.csv").read_text().splitlines() if ",test," in row]
    assert proof["n"] == len(held_out) == proof["agreeing"]
    assert proof["change"]["largest"] < 1e-3
    words = proof["page"]
    assert words["same_set"] == words["same_none_of_these"] == words["same_pixels"] == proof["n"]
    assert (words["pixel_change"], words["novelty_change"]) == (0, pytest.approx(0, abs=1e-3))
    assert words["milliseconds"] > 0
    assert runtime.VERSION in record["runtimes"]["export"]
    assert "Chromium" in record["runtimes"]["export"]
    assert list(record["files"]) == ["photos.html"]
    assert record["files"]["photos.html"]["sha256"] == hashlib.sha256(page_file.read_bytes()).hexdigest()
    assert [one.name for one in page_file.parent.iterdir() if "photos" not in one.name] == []


def test_the_graph_of_a_page_scores_as_the_model_does(tiny_run):
    import onnxruntime

    predictor = artefact.load(tiny_run, "cpu", "f32")
    session = onnxruntime.InferenceSession(page_format.graph_of(predictor.classifier))
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    features = predictor.engine.embed(pixels)
    probabilities, novelty = session.run(["probabilities", "novelty"], {"pixels": pixels})
    assert novelty == pytest.approx(predictor.classifier.novelty.scores(features), rel=1e-3)
    assert probabilities == pytest.approx(predictor.classifier.probabilities(features), abs=1e-3)
    tensors = onnx.load_from_string(page_format.graph_of(predictor.classifier)).graph.initializer
    assert any(one.name == "kernel.half" for one in tensors)


# Pixels

FITS = [
    Preprocess(24, 32, 36, how, (0.4, 0.5, 0.6), (0.2, 0.2, 0.2), fit)
    for how in ("bilinear", "bicubic", "lanczos")
    for fit in ("crop", "squish", "pad")
]


@pytest.mark.parametrize("preprocess", FITS, ids=lambda one: f"{one.interpolation}-{one.fit}")
def test_pictures_are_fitted_as_pillow_does_it(chromium, preprocess):
    """Larger, smaller, longer, higher than one strip, of odd sides, and one that need not be resized."""
    page = chromium.new_page()
    page.add_script_tag(
        content=f"(() => {{ {bundled([page_format._OWN / 'fit.js'])}\nglobalThis.fitted = fitted; }})()"
    )
    record = {**preprocess.to_json(), "pad_colour": [round(255 * one) for one in preprocess.mean]}
    record["columns_first"] = page_format.columns_first()
    random = np.random.default_rng(3)
    for height, width in [(301, 517), (20, 17), (40, 41), (24, 32), (36, 48), (700, 90), (90, 60), (3, 700), (1, 3)]:
        pixels = random.choice([0, 1, 7, 128, 254, 255], (height, width, 3)).astype(np.uint8)
        clear = np.dstack([pixels, np.full((height, width), 255, np.uint8)])
        said = page.evaluate(
            """([width, height, bytes, how]) => {
                const all = Uint8ClampedArray.from(atob(bytes), (one) => one.charCodeAt(0));
                const rows = (top, count) => all.subarray(top * width * 4, (top + count) * width * 4);
                return Array.from(fitted({width, height, rows}, how));
            }""",
            [width, height, page_browser.base64.b64encode(clear.tobytes()).decode(), record],
        )
        assert np.array_equal(np.array(said).reshape(24, 32, 3), preprocess.apply(pixels)), (height, width)
    page.close()


def files_of_many_kinds(folder):
    """Pictures as they come: each a way to store pixels that a decoder may get wrong."""
    tiny.draw(folder / "plain.png", tiny.HUES["amber"], 1, (90, 70))
    picture = Image.open(folder / "plain.png")
    lying = Image.Exif()
    lying[0x0112] = 6
    picture.save(folder / "lying.jpg", exif=lying, quality=95)
    smooth = picture.resize((9, 7)).resize((90, 70), Image.Resampling.BICUBIC)
    smooth.save(folder / "baseline.jpg", quality=90)
    smooth.save(folder / "progressive.jpg", quality=90, progressive=True)
    smooth.convert("L").save(folder / "grey.jpg")
    picture.convert("L").save(folder / "grey.png")
    picture.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "palette.png")
    picture.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "still.gif")
    picture.save(folder / "whole.webp", lossless=True)
    picture.save(folder / "plain.bmp")
    clear = picture.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(picture.size))
    clear.save(folder / "clear.png")
    picture.save(folder / "profile.png", icc_profile=wide_gamut())
    return sorted(one for one in folder.iterdir() if one.is_file())


def wide_gamut():
    """A colour profile that swaps red and blue, so that a page that heeds it is found out."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.find(b"rXYZ"), profile.find(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


def test_files_are_decoded_as_predict_does_it(page_file, tmp_path):
    paths = files_of_many_kinds(tmp_path)
    answering = Answering(page_file)
    try:
        shown = dict(zip([path.name for path in paths], answering.of_files(paths), strict=True))
    finally:
        answering.close()
    for path in paths:
        expected = tiny.PREPROCESS.apply(decode(path.read_bytes()).pixels).astype(int)
        found = shown[path.name].pixels.reshape(expected.shape)
        off = np.abs(found - expected)
        assert off.mean() < (0.6 if path.name == "clear.png" else 0.25), (path.name, off.mean(), off.max())
        if path.suffix in (".bmp", ".gif") or path.name in ("plain.png", "grey.png", "palette.png", "profile.png"):
            assert off.max() == 0, path.name


# What is refused


def written(change):
    """A page format whose graph is changed by `change` before it is put into the page."""
    plain = page_format.graph_of

    def graph_of(classifier):
        model = onnx.load_from_string(plain(classifier))
        change(model.graph)
        return model.SerializeToString()

    return graph_of


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (other_mean, "not handed over"),
        (swapped_channels, "of the same pixels a probability differs"),
        (no_softmax, "are no probabilities"),
    ],
)
def test_a_page_with_a_broken_model_is_refused(change, reason, tiny_run, package, tmp_path, monkeypatch):
    monkeypatch.setattr(page_format, "graph_of", written(change))
    with pytest.raises(ExportError, match=reason):
        export(tiny_run, "page", tmp_path / "out.html", agreement=0.01, runtime=package)
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.slow
def test_a_page_that_shows_other_sets_or_strangers_is_refused(tiny_run, package, tmp_path, monkeypatch):
    plain = page_format._about
    monkeypatch.setattr(page_format, "_about", lambda *given: {**plain(*given), "floor": 0.0})
    with pytest.raises(ExportError, match="set is the same for 0 of"):
        export(tiny_run, "page", tmp_path / "out.html", runtime=package)
    monkeypatch.setattr(page_format, "_about", plain)

    def nearer(graph):
        for tensor in graph.initializer:
            if tensor.name == "novelty.radius":
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32(9.0), tensor.name))

    monkeypatch.setattr(page_format, "graph_of", written(nearer))
    with pytest.raises(ExportError, match="score of 'none of these' changes"):
        export(tiny_run, "page", tmp_path / "out.html", runtime=package)
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize(
    ("text", "instead", "reason"),
    [
        ("headstartRuntime.InferenceSession.create", "headstartRuntime.nothing", "does not work in this browser"),
        (
            "introduce();",
            'introduce(); fetch("https://example.org/").catch(() => {});',
            "does not work in this browser",
        ),
    ],
)
def test_a_page_that_fails_or_asks_the_network_is_refused(
    text, instead, reason, tiny_run, package, tmp_path, monkeypatch
):
    plain = page_format.bundled
    monkeypatch.setattr(page_format, "bundled", lambda files: plain(files).replace(text, instead))
    with pytest.raises(ExportError, match=reason):
        export(tiny_run, "page", tmp_path / "out.html", runtime=package)
    assert not list(tmp_path.glob("*out*"))


def test_what_a_page_has_no_use_for_is_refused(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(artefact, "load", lambda *_: pytest.fail("work was begun"))
    with pytest.raises(UsageError, match="--raw is not for --to page"):
        export(tiny_run, "page", tmp_path / "out.html", raw=True)
    with pytest.raises(UsageError, match="--runtime is for --to page"):
        export(tiny_run, "onnx", tmp_path / "out.onnx", runtime=tmp_path)
    with pytest.raises(UsageError, match=r"\*\.html"):
        export(tiny_run, "page", tmp_path / "out.onnx")
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ExportError, match=r"pip install 'headstart\[page\]'"):
        export(tiny_run, "page", tmp_path / "out.html")
    with pytest.raises(ExportError, match="nearest"):
        page_format.refuse(replace(tiny.PREPROCESS, interpolation="nearest"))


def test_without_a_browser_it_is_said_how_to_get_one(page_file, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_BROWSER", str(tmp_path / "nothing"))
    with pytest.raises(ExportError, match="playwright install chromium"):
        Answering(page_file)
    monkeypatch.delenv("HEADSTART_BROWSER")
    monkeypatch.setattr(page_browser.shutil, "which", lambda _: None)
    assert page_browser.find_browser() is None


# The page itself


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """Pictures of both classes, and one like neither."""
    folder = tmp_path_factory.mktemp("strange")
    for name, hue in tiny.HUES.items():
        tiny.draw(folder / f"{name}.png", hue, 77)
    Image.fromarray(np.kron(np.eye(4), np.full((16, 16), 255)).astype(np.uint8)).save(folder / "squares.png")
    (folder / "notes.txt").write_text("dear diary")
    return sorted(folder.iterdir())


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (1280, True)], ids=["wide", "narrow", "dark"])
def test_everybody_can_use_it(chromium, page_file, strange, width, dark):
    with opened(chromium, page_file, width=width, dark=dark) as page:
        assert violations(page) == []
        given(page, *strange)
        page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        assert violations(page) == []
        assert overflow(page) == 0
        page.locator("#as-table").click()
        assert violations(page) == []
        assert overflow(page) == 0


def test_the_page_says_what_predict_says(chromium, page_file, tiny_run, strange):
    expected = artefact.load(tiny_run, "cpu", "f32").predict(strange)
    with opened(chromium, page_file) as page:
        said = given(page, *strange)
        for one, own in zip(said, expected, strict=True):
            assert one["name"] == Path(own.path).name
            if own.error is not None:
                assert one["error"]["title"] == "This browser cannot read it."
                continue
            assert (one["label"], one["set"]) == (own.label, list(own.set))
            assert one["none_of_these"]["flag"] == own.is_none_of_these
            assert one["none_of_these"]["score"] == pytest.approx(own.novelty, rel=5e-3)
        flagged = [one for one in expected if one.is_none_of_these]
        assert flagged  # or the page's warning was never seen
        assert page.locator("#cards .none").count() == len(flagged)
        assert page.locator("#cards .took").count() == len(strange) - 1
        with page.expect_download() as saved:
            page.locator("#save").click()
        rows = list(csv.reader(io.StringIO(Path(saved.value.path()).read_text("utf-8"))))
    told = CliRunner().invoke(app, ["predict", str(tiny_run), *map(str, strange), "--format", "csv"])
    own_rows = list(csv.reader(io.StringIO(told.stdout)))
    assert rows[0] == own_rows[0]
    assert [row[1] for row in rows] == [row[1] for row in own_rows]
    assert [row[3:5] for row in rows] == [row[3:5] for row in own_rows]


def test_pictures_are_dropped_and_pasted(chromium, page_file, strange):
    datas = [page_browser.base64.b64encode(path.read_bytes()).decode() for path in strange[:2]]
    names = [path.name for path in strange[:2]]
    with opened(chromium, page_file) as page:
        for way in (DROP, PASTE):
            page.evaluate(way, {"names": names, "datas": datas})
            page.wait_for_selector("#cards .answered >> nth=1")
            assert [one["name"] for one in page.evaluate("headstart.answers()")] == names
            page.locator("#clear").click()
        assert page.evaluate("document.activeElement.id") == "choose"


@pytest.fixture(scope="module")
def with_lens(chromium):
    """A browser with a camera that shows a drawing, and gives it to every page."""
    process = chromium.browser_type.launch(executable_path=str(CHROMIUM), args=[*ARGUMENTS, *LENS])
    yield process
    process.close()


def test_the_camera_takes_pictures(with_lens, page_file):
    with opened(with_lens, page_file) as page:
        page.locator("#lens").click()
        page.locator("#shoot:enabled").click()
        page.wait_for_selector("#cards .answered", state="attached")
        assert violations(page) == []
        page.keyboard.press("Escape")
        assert [one["name"] for one in page.evaluate("headstart.answers()")] == ["camera-1.png"]
        assert page.evaluate("document.getElementById('view').srcObject") is None


def test_a_camera_that_is_not_given_is_explained(chromium, page_file):
    with opened(chromium, page_file) as page:
        page.locator("#lens").click()
        page.locator("#camera-said").filter(has_not_text="started").wait_for()
        assert "camera" in page.locator("#camera-said").inner_text()
        assert page.locator("#shoot").is_disabled()
        assert violations(page) == []


HOSTILE = ("</script><img src=x onerror='window.canary=1'>", "__proto__")


def test_names_of_strangers_do_nothing(chromium, tiny_run, package, strange, tmp_path):
    classifier = replace(artefact.load(tiny_run, "cpu", "f32").classifier, classes=HOSTILE)
    inside = Inside(runtime.obtain(package, SILENT), "<b>--></b>&amp;<!--style-->", None)
    page_format.write(Source(classifier), tmp_path, inside)
    with opened(chromium, tmp_path / page_format.FILE) as page:
        said = given(page, *strange[:2])
        assert {one["label"] for one in said} == set(HOSTILE)
        assert all(sum(one["probabilities"]) == pytest.approx(1, abs=1e-5) for one in said)
        assert page.evaluate("window.canary") is None
        assert page.locator("img[src=x]").count() == 0
        assert page.locator("#subject").inner_text() == "<b>--></b>&amp;<!--style-->"
        assert HOSTILE[0] in page.locator("#knows").inner_text()
        assert "Not known" in page.locator("#facts").text_content()


def test_the_page_can_connect_to_nothing_and_says_what_it_is(chromium, page_file, tiny_run):
    text = page_file.read_text("utf-8")
    assert "connect-src 'none'" in text
    assert "unsafe-inline" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    with opened(chromium, page_file) as page:
        facts = page.locator("#facts").text_content()
        metrics = json.loads((tiny_run / "metrics.json").read_text())["test"]
        assert f"of {metrics['n']} pictures that it had not seen" in facts
        size = page.evaluate("headstart.about.megabytes")
        assert size == pytest.approx(page_file.stat().st_size / 1e6, abs=0.06)
        page.locator("#theme").click()
        assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"


# The runtime


def packed(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def registry(monkeypatch):
    """A registry with a small package, whose pins are this test's; a list of the addresses that were asked."""
    files = {runtime.SCRIPT: b"export{a as b};", runtime.BINARY: b"\0asm"}
    package, asked = packed(files), []
    integrity = page_browser.base64.b64encode(hashlib.sha512(package).digest()).decode()
    monkeypatch.setattr(runtime, "INTEGRITY", f"sha512-{integrity}")
    monkeypatch.setattr(runtime, "DIGESTS", {name: hashlib.sha256(one).hexdigest() for name, one in files.items()})

    def urlopen(address, timeout):
        asked.append((address, timeout))
        return io.BytesIO(package)

    monkeypatch.setattr(runtime.urllib.request, "urlopen", urlopen)
    return package, asked


def test_the_runtime_is_fetched_once_and_checked(registry, cache, tmp_path):
    package, asked = registry
    counted = []

    class Counting(Progress):
        @contextmanager
        def stage(self, name, total):  # noqa: ARG002
            yield lambda count=1, note="": counted.append(count)  # noqa: ARG005

    assert runtime.obtain(None, Counting()).binary == b"\0asm"
    assert runtime.obtain(None, SILENT).script == "export{a as b};"
    assert [address for address, _ in asked] == [runtime.ADDRESS]
    assert sum(counted) == len(package)
    kept = cache / "runtimes" / f"{runtime.PACKAGE}-{runtime.VERSION}"
    assert {one.name for one in kept.iterdir()} == set(runtime.DIGESTS)
    (tmp_path / "given.tgz").write_bytes(package)
    (tmp_path / "folder" / "dist").mkdir(parents=True)
    for name in runtime.DIGESTS:
        (tmp_path / "folder" / "dist" / name).write_bytes((kept / name).read_bytes())
    for given in ("given.tgz", "folder", "folder/dist"):
        assert runtime.obtain(tmp_path / given, SILENT).binary == b"\0asm"
    (kept / runtime.BINARY).write_bytes(b"other")
    with pytest.raises(ExportError, match="is damaged"):
        runtime.obtain(None, SILENT)
    assert len(asked) == 1


def test_what_is_not_the_runtime_is_refused(registry, tmp_path, monkeypatch):
    package, _ = registry
    (tmp_path / "changed.tgz").write_bytes(package + b"\0")
    with pytest.raises(ExportError, match=r"integrity is sha512-.*--runtime"):
        runtime.obtain(tmp_path / "changed.tgz", SILENT)
    with pytest.raises(ExportError, match="there is nothing"):
        runtime.obtain(tmp_path / "nothing.tgz", SILENT)
    with pytest.raises(ExportError, match="is not the package"):
        runtime.obtain(tmp_path, SILENT)

    def offline(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(runtime.urllib.request, "urlopen", offline)
    with pytest.raises(ExportError, match=r"cannot be fetched \(Name or service not known\).*npm pack.*--runtime"):
        runtime.obtain(None, SILENT)


def test_a_script_of_another_kind_is_refused():
    assert page_format.as_classic("var a=import.meta.url;export{a as b,c};") == (
        "var a=self.location.href;const headstartRuntime={b:a,c:c};"
    )
    with pytest.raises(ExportError, match="does not end"):
        page_format.as_classic("module.exports = 1;")
