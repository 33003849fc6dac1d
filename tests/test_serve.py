"""The server's interface: the answers of `predict`, limits and refusals, tokens, models that change, counts."""

import base64
import io
import json
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from headstart.delivery import artefact, explain
from headstart.delivery.run_folder import TrainOptions
from headstart.delivery.serve import connection, models
from headstart.delivery.serve.guards import HEADERS
from headstart.delivery.serve.settings import Limits, Settings
from headstart.errors import UsageError
from headstart.features.openvino_engine import OpenVinoEngine
from headstart.learning.classifier import Asked
from headstart.workflow import train
from tests import tiny

from .serving import client, in_thread, picture, raw_request, wait_until

SMALL = Limits(
    file_bytes=20_000, request_bytes=50_000, files=3, pixels=10_000, waiting=4, held_bytes=200_000, seconds=5
)
PATHS = ["/", "/docs", "/page.js", "/look.css", "/health", "/info", "/metrics", "/openapi.json", "/nothing"]


@pytest.fixture(scope="module")
def server(tiny_run):
    with in_thread(tiny_run) as running:
        yield running


@pytest.fixture(scope="module")
def small(tiny_run):
    with in_thread(tiny_run, limits=SMALL) as running:
        yield running


@pytest.fixture
def files(tmp_path):
    tiny.draw(tmp_path / "wide.png", tiny.HUES["amber"], 1, size=(300, 90))
    tiny.draw(tmp_path / "tall.jpg", tiny.HUES["blue"], 2, size=(60, 200))
    tiny.draw(tmp_path / "grün 3.png", tiny.HUES["green"], 3)
    return [tmp_path / name for name in ("wide.png", "tall.jpg", "grün 3.png")]


def form(*paths):
    return [("file", (path.name, path.read_bytes())) for path in paths]


def expected(run, paths, asked=None):
    predictor = artefact.load(run, "cpu")
    said = predictor.predict(paths, *([] if asked is None else [asked]))
    return [{**one.to_json(), "path": path.name} for one, path in zip(said, paths, strict=True)]


def same(got, wanted):
    """Equal: probabilities to 1e-6, scores (float32 products of whole batches) to 1e-4."""
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted, strict=True):
        assert one.keys() == other.keys()
        assert list(one["probabilities"]) == list(other["probabilities"])
        for name, probability in other["probabilities"].items():
            assert one["probabilities"][name] == pytest.approx(probability, abs=1e-6)
        assert one["none_of_these"]["score"] == pytest.approx(other["none_of_these"]["score"], abs=1e-4)
        for key in ("path", "label", "set"):
            assert one[key] == other[key]


def test_the_answers_are_those_of_predict(server, tiny_run, files):
    with client(server) as ask:
        answer = ask.post("/predict", files=form(*files))
        assert answer.status_code == 200
        assert answer.json()["model"] == "photos"
        same(answer.json()["predictions"], expected(tiny_run, files))


def test_the_bytes_alone_are_enough(server, tiny_run, files):
    with client(server) as ask:
        for kind in ("image/png", "application/octet-stream", "image/whatever"):
            said = ask.post("/predict", content=files[0].read_bytes(), headers={"content-type": kind}).json()
            same(said["predictions"], [{**expected(tiny_run, files[:1])[0], "path": "picture"}])


def test_other_promises_can_be_asked_for(server, tiny_run, files):
    with client(server) as ask:
        chosen = {"coverage": "0.99", "sets": "per-class", "wanted_accuracy": "0.9"}
        said = ask.post("/predict", files=form(*files), params=chosen).json()["predictions"]
    same(said, expected(tiny_run, files, Asked("per_class", 0.99, 0.9)))
    assert [one["unsure"] for one in said] == [one["unsure"] for one in expected(tiny_run, files, Asked(wanted=0.9))]


def test_an_overlay_shows_what_explain_draws(server, tiny_run, files):
    predictor = artefact.load(tiny_run, "cpu")
    drawn = list(explain.explain(predictor, files))
    with client(server) as ask:
        said = ask.post("/predict?explain=true", files=form(*files)).json()["predictions"]
    for one, other in zip(said, drawn, strict=True):
        head, _, data = one["overlay"].partition(",")
        assert head == "data:image/png;base64"
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), other.overlay)


def test_unreadable_pictures_beside_others_are_answered_with_the_reason(server, files):
    with client(server) as ask:
        sent = [*form(files[0]), ("file", ("notes.txt", b"dear diary")), ("files", ("empty.jpg", b""))]
        answer = ask.post("/predict", files=sent)
    assert answer.status_code == 200
    first, second, third = answer.json()["predictions"]
    assert "label" in first
    assert second == {"path": "notes.txt", "error": "not a picture (begins with 'dear diary')"}
    assert third == {"path": "empty.jpg", "error": "empty file"}


def test_what_is_no_picture_is_refused(server):
    with client(server) as ask:
        for data in (b"hello world", picture()[:200], b"\x00" * 100):
            answer = ask.post("/predict", files={"file": ("x.png", data)})
            assert answer.status_code == 422
            assert answer.json()["error"] == answer.json()["predictions"][0]["error"]
        answer = ask.post("/predict", files=[("file", b"one"), ("file", b"two")])
        assert answer.status_code == 422
        assert answer.json()["error"] == "none of the 2 pictures could be read."


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (400, {"content": b"", "headers": {"content-type": "image/png"}}),
        (400, {"content": b"", "headers": {"content-type": "multipart/form-data; boundary=x"}}),
        (400, {"content": b"", "headers": {"content-type": "multipart/form-data"}}),
        (400, {"content": b"--x\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}}),
        (400, {"content": b"nonsense", "headers": {"content-type": "multipart/form-data; boundary=x"}}),
        (400, {"data": {"url": "http://localhost/x.png"}, "files": {"file": b"x"}}),
        (400, {"content": b"--x--\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}}),
        (415, {"data": {"file": "x"}}),
        (415, {"json": {"path": "/etc/passwd"}}),
        (422, {"files": {"file": b"x"}, "params": {"explain": "perhaps"}}),
        (422, {"files": {"file": b"x"}, "params": {"coverage": "0.5"}}),
        (404, {"files": {"file": b"x"}, "params": {"model": "../../etc"}}),
    ],
)
def test_wrong_requests_are_refused_in_words(server, status, sent):
    with client(server) as ask:
        answer = ask.post("/predict", **sent)
    assert answer.status_code == status
    assert len(answer.json()["error"]) > 10


def test_each_limit_is_kept(small):
    with client(small) as ask:
        large = picture(size=(90, 90))
        assert len(large) > SMALL.file_bytes
        assert ask.post("/predict", files={"file": picture()}).status_code == 200
        assert ask.post("/predict", files={"file": large}).status_code == 413
        assert ask.post("/predict", content=large, headers={"content-type": "image/png"}).status_code == 413
        assert ask.post("/predict", files=[("file", picture(form="JPEG"))] * 4).status_code == 413
        assert ask.post("/predict", files=[("file", b"x" * 19_000)] * 3).status_code == 413
        bomb = io.BytesIO()
        Image.new("1", (101, 100)).save(bomb, format="PNG")
        answer = ask.post("/predict", files={"file": bomb.getvalue()})
        assert answer.status_code == 413
        assert "more than the 10,000 that are opened" in answer.json()["error"]


def test_a_body_without_a_length_is_counted_as_it_comes(small):
    def endless():
        while True:
            yield b"x" * 10_000

    with client(small) as ask:
        answer = ask.post("/predict", content=(b for b in [b"x" * 30_000]), headers={"content-type": "image/png"})
        assert answer.status_code == 413
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", small.port), timeout=10) as sending:
        sending.sendall(head)
        sent = 0
        with pytest.raises(OSError, match=r"eset|roken"):
            for block in endless():
                sending.sendall(b"%x\r\n%s\r\n" % (len(block), block))
                sent += len(block)
        assert sent < 500_000_000


def test_who_asks_before_sending_is_told_at_once(small):
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 9999999\r\n"
    answer = raw_request(small.port, head + b"Expect: 100-continue\r\nConnection: close\r\n\r\n", seconds=5)
    assert answer.startswith(b"HTTP/1.1 413")


def test_slow_bodies_are_given_up(tiny_run):
    with in_thread(tiny_run, limits=Limits(seconds=0.3)) as server:
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n"
        answer = raw_request(server.port, head + b"x" * 10, seconds=10)
        assert answer.startswith(b"HTTP/1.1 408")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "the request did not arrive within 0.3 s."


def test_slow_headers_are_given_up(server, monkeypatch):
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.2)
    assert raw_request(server.port, b"GET /health HTTP/1.1\r\nHost: loc", seconds=10) == b""


def test_answers_that_nobody_reads_are_given_up(tiny_run, monkeypatch):
    monkeypatch.setattr(connection, "READING_SECONDS", 0.3)
    with in_thread(tiny_run) as server, socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.settimeout(10)
        lazy.connect(("127.0.0.1", server.port))
        with pytest.raises(OSError, match=r"eset|roken"):  # and never a timeout
            while True:
                lazy.sendall(b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
        with client(server) as ask:
            assert ask.get("/health").status_code == 200


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(20_000)) + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    ],
    ids=["a long header", "many headers", "TLS", "no host", "a negative length", "two lengths"],
)
def test_what_is_not_http_is_answered_in_json(server, data):
    answer = raw_request(server.port, data, seconds=10)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert b"nosniff" in head
    assert "error" in json.loads(body)


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("../../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\ant.jpg", "ant.jpg"),
        ("/etc/shadow", "shadow"),
        ("..", "picture"),
        ("<img src=x onerror=alert(1)>.png", "<img src=x onerror=alert(1)>.png"),
        ("a\u202egnp.exe", "agnp.exe"),
        ("bell\x07.png", "bell%07.png"),
    ],
)
def test_names_of_files_name_no_place(server, sent, shown):
    with client(server) as ask:
        answer = ask.post("/predict", files={"file": (sent, picture())})
    assert answer.json()["predictions"][0]["path"] == shown


@pytest.mark.parametrize(
    "path", ["/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/page/../../settings.py", "/index.html", "//etc"]
)
def test_no_file_is_served_but_the_pages_own(server, path):
    answer = raw_request(server.port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_is_kept_safe(server, path):
    with client(server) as ask:
        answer = ask.get(path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers
        assert ask.options(path, headers={"origin": "http://evil"}).status_code in (404, 405)


def test_only_callers_with_the_token_are_answered(tiny_run):
    with in_thread(tiny_run, token="open sesame") as server, client(server) as ask:
        asked = [("GET", path) for path in PATHS] + [("POST", "/predict")]
        refused = {path for method, path in asked if ask.request(method, path).status_code == 401}
        assert refused == {"/info", "/metrics", "/openapi.json", "/nothing", "/predict"}
        wrong = ["Bearer open", "Bearer open sesame!", "Basic open sesame", "open sesame", "Bearer", "Bearer öpen"]
        for value in wrong:
            answer = ask.post("/predict", files={"file": picture()}, headers={"authorization": value.encode()})
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        right = {"authorization": "Bearer open sesame"}
        assert ask.post("/predict", files={"file": picture()}, headers=right).status_code == 200
        assert ask.get("/openapi.json", headers=right).json()["paths"]["/predict"]["post"]["security"]


def test_on_loopback_only_its_own_names_are_answered(server, tiny_run):
    with client(server) as ask:
        for host, status in {"localhost": 200, "127.0.0.1:80": 200, "[::1]:8000": 200, "evil.example": 400}.items():
            assert ask.get("/health", headers={"host": host}).status_code == status
    with in_thread(tiny_run, allowed_hosts=("Photos.example",)) as named, client(named) as ask:
        assert ask.get("/health", headers={"host": "photos.example:443"}).status_code == 200
    assert Settings((), host="0.0.0.0").known_as is None
    assert Settings((), host="127.0.0.2").is_local
    assert not Settings((), host="example.org").is_local


@pytest.fixture
def held(monkeypatch):
    """Holds every picture before the network until it is set."""
    gate, embed = threading.Event(), OpenVinoEngine.embed

    def slow(self, pixels):
        assert gate.wait(30)
        return embed(self, pixels)

    monkeypatch.setattr(OpenVinoEngine, "embed", slow)
    yield gate
    gate.set()


def test_more_than_it_takes_on_is_refused_and_then_answered_again(small, held):
    with client(small) as ask, ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(ask.post, "/predict", files={"file": picture(n)}) for n in range(4)]
        wait_until(lambda: count(ask, "headstart_waiting_pictures") == 4)
        for _ in range(3):
            refused = ask.post("/predict", files={"file": picture()})
            assert refused.status_code == 503
            assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert ask.get("/health").status_code == 200
        held.set()
        assert [one.result().status_code for one in waiting] == [200] * 4
        assert ask.post("/predict", files={"file": picture()}).status_code == 200
        wait_until(lambda: count(ask, "headstart_waiting_pictures") == 0)
        assert count(ask, "headstart_held_bytes") == 0


def test_bodies_beyond_what_fits_into_memory_are_refused(tiny_run):
    limits = Limits(file_bytes=40_000, request_bytes=60_000, held_bytes=60_000)
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 40000\r\n\r\n"
    with in_thread(tiny_run, limits=limits) as server, client(server) as ask:
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            slow.sendall(head + b"x" * 39_000)
            wait_until(lambda: ask.post("/predict", files={"file": b"x" * 25_000}).status_code == 503)
        wait_until(lambda: ask.post("/predict", files={"file": b"x" * 25_000}).status_code == 422)


def test_who_waits_too_long_is_told_and_costs_nothing_more(tiny_run, held):
    with in_thread(tiny_run, wait=False, limits=Limits(seconds=0.5), batch=1) as server, client(server) as ask:
        held.set()
        assert server.loaded.wait(30)
        held.clear()
        answer = ask.post("/predict", files=[("file", picture(n)) for n in range(20)])
        assert answer.status_code == 503
        before = count(ask, "headstart_batch_pictures_count")
        held.set()
        wait_until(lambda: ask.post("/predict", files={"file": picture()}).status_code == 200)
        assert count(ask, "headstart_batch_pictures_count") - before < 10


@pytest.mark.usefixtures("held")
def test_who_hangs_up_leaves_room_for_others(small):
    body = picture()
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    with client(small) as ask:
        for _ in range(2):  # four wait, then nobody, then another four
            sending = [socket.create_connection(("127.0.0.1", small.port)) for _ in range(4)]
            for one in sending:
                one.sendall(head + body)
            wait_until(lambda: count(ask, "headstart_waiting_pictures") == 4)
            for one in sending:
                one.close()
            wait_until(lambda: count(ask, "headstart_waiting_pictures") == 0)


def test_pages_of_other_sites_cause_no_work(server):
    with client(server) as ask:
        for site, status in {"cross-site": 400, "same-origin": 200, "none": 200}.items():
            answer = ask.post("/predict", files={"file": picture()}, headers={"sec-fetch-site": site})
            assert answer.status_code == status
        assert ask.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200


def test_it_is_healthy_once_it_has_answered(tiny_run, held):
    with in_thread(tiny_run, wait=False) as server, client(server) as ask:
        assert ask.get("/health").status_code == 503
        assert ask.get("/health").json()["status"] == "loading"
        assert ask.post("/predict", files={"file": picture()}).status_code == 503
        assert ask.get("/info").json()["models"] == []
        held.set()
        wait_until(lambda: ask.get("/health").status_code == 200)
        assert ask.get("/health").json() == {"status": "ready"}


def test_it_says_what_it_serves(server, tiny_run):
    with client(server) as ask:
        info = ask.get("/info").json()
    (model,) = info["models"]
    assert (model["name"], model["classes"], model["explains"]) == ("photos", ["amber", "blue"], True)
    assert model["backbone"]["preprocess"]["height"] == tiny.SIDE
    assert model["digests"] == json.loads((tiny_run / "model" / "headstart.json").read_text())["digests"]
    test = json.loads((tiny_run / "metrics.json").read_text())["test"]
    assert model["metrics"]["accuracy"] == test["accuracy"]
    assert info["limits"]["file_bytes"] == 32_000_000


@pytest.fixture
def other_run(tmp_path, monkeypatch):
    """A run of three classes."""
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "another"))
    (tmp_path / "weights").mkdir()
    options = TrainOptions(backbone="tiny", weights=tiny.install(tmp_path / "weights"), device="cpu")
    data = tiny.class_folders(tmp_path / "three", each=8, classes=("amber", "blue", "green"))
    train(data, tmp_path / "three-run", options)
    return tmp_path / "three-run"


def test_several_models_answer_by_name_and_change_without_a_pause(tiny_run, other_run, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "LOOK_EVERY", 0.05)
    place = tmp_path / "served"
    shutil.copytree(tiny_run, place)
    with in_thread(place, models=(("first", place), ("second", other_run))) as server, client(server) as ask:
        two, three = (set(ask.post(f"/predict?model={name}", files={"file": picture()}).json()["predictions"][0]
                          ["probabilities"]) for name in ("first", "second"))  # fmt: skip
        assert (two, three) == ({"amber", "blue"}, {"amber", "blue", "green"})
        assert "no model 'third'; there are first, second." in ask.post("/predict?model=third").text
        seen, stop = [], threading.Event()

        def hammer():
            with client(server) as mine:
                while not stop.is_set():
                    answer = mine.post("/predict", files={"file": picture()})
                    seen.append((answer.status_code, len(answer.json()["predictions"][0]["probabilities"])))

        with ThreadPoolExecutor(4) as pool:
            hammering = [pool.submit(hammer) for _ in range(4)]
            try:
                wait_until(lambda: len(seen) > 20)
                place.rename(tmp_path / "former")
                wait_until(lambda: len(seen) > 40)
                other_run.rename(place)
                wait_until(lambda: (200, 3) in seen)
                wait_until(lambda: count(ask, "headstart_reloads_total", outcome="loaded", model="first") == 1)
                damaged = place / "model" / "model.onnx"
                damaged.write_bytes(damaged.read_bytes()[:-5])
                (place / "model" / "headstart.json").touch()
                wait_until(lambda: server.warnings)
            finally:
                stop.set()
            for one in hammering:
                one.result()
        assert {status for status, _ in seen} == {200}
        assert ask.get("/info").json()["models"][0]["classes"] == ["amber", "blue", "green"]
        assert "damaged" in server.warnings[0]
        assert "the former one goes on" in server.warnings[0]


def count(ask, name, **labels):
    """The sum of a metric's samples that have these labels."""
    families = text_string_to_metric_families(ask.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(one.value for one in samples if labels.items() <= one.labels.items())


def test_prometheus_can_read_the_counts(tiny_run):
    with in_thread(tiny_run) as server, client(server) as ask:
        for _ in range(3):
            ask.post("/predict", files={"file": picture()})
        ask.post("/predict", files={"file": b"no"})
        ask.get("/some/../path?x=1")
        assert count(ask, "headstart_requests_total", path="/predict", status="200") == 3
        assert count(ask, "headstart_requests_total", path="/predict", status="422") == 1
        assert count(ask, "headstart_requests_total", path="other") == 1
        assert count(ask, "headstart_pictures_total", outcome="unreadable") == 1
        assert count(ask, "headstart_pictures_total") == 4
        assert count(ask, "headstart_labels_total", model="photos") == 3
        assert count(ask, "headstart_request_seconds_count", path="/predict") == 4
        assert count(ask, "headstart_stage_seconds_count", stage="network") == 4  # with the warm-up
        assert count(ask, "process_resident_memory_bytes") > 1e6


def test_limits_that_contradict_each_other_are_refused():
    with pytest.raises(UsageError, match="--max-memory-mb"):
        Limits(request_bytes=10, held_bytes=5)
    with pytest.raises(UsageError, match="--queue"):
        Limits(files=10, waiting=5)
    with pytest.raises(UsageError, match="printable ASCII"):
        Settings((), token="schlüssel")
