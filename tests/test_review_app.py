"""The desk over HTTP: what it answers, and whom it refuses."""

import io
import json
import socket

import pytest
from PIL import Image

from headstart.delivery.listening import listen
from headstart.delivery.review import gate
from tests import tiny
from tests.desks import TOKEN, digest_of, noisy_data, served, snapshot, trained

CANARY = '<img src=x onerror="window.canary=1">'


@pytest.fixture
def data(tmp_path):
    noisy_data(tmp_path / "photos", each=14, wrong=1)
    return tmp_path / "photos"


@pytest.fixture
def run(data, tmp_path):
    return trained(data, tmp_path / "runs" / "photos", tiny.install(tmp_path)).folder


@pytest.fixture
def client(run):
    with served(run) as (client, _):
        yield client


def first(client, queue="all"):
    return client.get(f"/api/queue/{queue}").json()["items"][0]


def test_a_session_as_a_page_has_it(client, data):
    before = snapshot(data)
    state = client.get("/api/state").json()
    assert state["run"] == "photos"
    assert state["classes"] == [{"name": "amber", "pictures": 14}, {"name": "blue", "pictures": 14}]
    assert state["first"] == state["last"]
    item = first(client, "labels")
    wish = {"action": "relabel", "ids": [item["id"]], "value": item["suggested"], "expect": state["revision"]}
    answer = client.post("/api/decide", json=wish).json()
    assert answer["revision"] == 1
    assert answer["items"][item["id"]] == {
        "label": item["suggested"],
        "excluded": False,
        "decision": "relabel",
        "revision": 1,
    }
    change = client.post("/api/train", json={}).json()
    assert {"before", "after", "difference", "p", "flipped", "suspects", "seconds"} <= change.keys()
    assert client.get("/api/state").json()["change"] == change
    assert client.post("/api/undo", json={}).json()["decisions"][0]["action"] == "undo"
    assert client.post("/api/redo", json={"expect": 2}).status_code == 200
    assert client.post("/api/classes", json={"action": "add", "name": "green"}).status_code == 200
    assert [row["action"] for row in client.get("/api/log").json()["decisions"]] == ["class", "redo", "undo", "relabel"]
    assert client.get("/api/export").text.startswith("path,label,split,group\n")
    assert snapshot(data) == before


def test_nothing_to_undo(client):
    assert client.post("/api/undo", json={}).json() == {"revision": 0, "decisions": [], "items": {}}


@pytest.mark.parametrize(("size", "longest"), [("thumb", 320), ("full", 1600)])
def test_pictures(client, size, longest):
    answer = client.get(f"/api/picture/{first(client)['id']}", params={"size": size})
    assert answer.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.format == "JPEG"
        assert max(picture.size) <= longest


def test_a_network_without_maps_is_told(client):
    answer = client.get(f"/api/saliency/{first(client)['id']}")
    assert answer.status_code in (200, 422)
    if answer.status_code == 422:
        assert answer.json()["error"]


def test_a_picture_that_changed_since(client, data):
    item = first(client)
    (data / item["path"]).write_bytes((data / "blue" / "05.png").read_bytes())
    assert client.get(f"/api/picture/{item['id']}").status_code == 410


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/x", "f" * 64, "amber/05.png", "%00", "/etc/passwd", "a+b"],
)
@pytest.mark.parametrize("kind", ["picture", "saliency"])
def test_only_pictures_of_the_desk_are_shown(client, kind, name):
    answer = client.get(f"/api/{kind}/{name}")
    assert answer.status_code == 404
    assert b"root:" not in answer.content


@pytest.mark.parametrize(
    "path", ["/../app.py", "/%2e%2e/app.py", "/page/../../app.py", "/undo.py.txt", "/docs", "/openapi.json"]
)
def test_no_other_file_is_served(client, path):
    assert client.get(path).status_code == 404


def test_what_changes_something_needs_the_token(client):
    for path in ("/api/decide", "/api/undo", "/api/redo", "/api/train", "/api/save", "/api/classes"):
        for token in ("", "wrong", TOKEN + "x", "é"):
            answer = client.post(path, json={}, headers={gate.TOKEN: token.encode("latin-1")})
            assert answer.status_code == 403
            assert "error" in answer.json()
    assert client.get("/api/state").json()["revision"] == 0


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_only_json_is_taken(client, kind):
    assert client.post("/api/undo", content=b"{}", headers={"content-type": kind}).status_code == 415


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8001", "evil.example:8001", "", "[::2]"])
def test_another_host_is_refused(client, host):
    assert client.get("/api/state", headers={"host": host}).status_code in (400, 421)


@pytest.mark.parametrize("host", ["localhost:8001", "127.0.0.1", "[::1]:80"])
def test_this_machine_has_several_names(client, host):
    assert client.get("/api/state", headers={"host": host}).status_code == 200


def test_other_sites_are_refused(client):
    assert client.get("/api/state", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    for origin in ("https://evil.example", "null", "http://localhost:1"):
        assert client.post("/api/undo", json={}, headers={"origin": origin}).status_code == 403
    mine = str(client.base_url).rstrip("/")
    assert client.post("/api/undo", json={}, headers={"origin": mine}).status_code == 200


def test_every_answer_is_kept_safe(client):
    for path in ("/", "/api/state", "/api/nothing", f"/api/picture/{first(client)['id']}"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


def test_the_page_is_given_the_token(client):
    answer = client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert f'content="{TOKEN}"' in answer.text
    assert "{{" not in answer.text
    assert client.get("/look.css").headers["content-type"].startswith("text/css")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/decide", {}, 422),
        ("/api/decide", {"action": "delete", "ids": ["x"]}, 422),
        ("/api/decide", {"action": "exclude", "ids": []}, 422),
        ("/api/decide", {"action": "exclude", "ids": "x"}, 422),
        ("/api/decide", {"action": "exclude", "ids": [1]}, 422),
        ("/api/decide", {"action": "exclude", "ids": ["f" * 64]}, 404),
        ("/api/decide", {"action": "exclude", "ids": ["x"] * 10_001}, 422),
        ("/api/decide", {"action": "exclude", "ids": ["ID"], "expect": "soon"}, 422),
        ("/api/decide", {"action": "relabel", "ids": ["ID"], "value": "no such class"}, 404),
        ("/api/decide", {"action": "relabel", "ids": ["ID"]}, 422),
        ("/api/classes", {"action": "add", "name": "../x"}, 422),
        ("/api/classes", {"action": "add", "name": "x" * 500}, 422),
        ("/api/classes", {"action": "rename", "name": "amber"}, 422),
        ("/api/classes", {"action": "rename", "name": "amber", "to": "blue"}, 422),
        ("/api/undo", {"expect": []}, 422),
        ("/api/decide", {"action": "relabel", "ids": ["ID"], "value": "\ud800"}, 404),
        ("/api/decide", {"action": "exclude", "ids": ["\ud800", "\x00"]}, 404),
        ("/api/classes", {"action": "add", "name": "\ud800"}, 422),
        ("/api/undo", [], 422),
    ],
)
def test_nonsense_is_refused(client, path, body, status):
    if isinstance(body, dict) and body.get("ids") == ["ID"]:
        body = {**body, "ids": [first(client)["id"]]}
    content = json.dumps(body)  # in ASCII, so that half a surrogate pair can be sent too
    answer = client.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.json()["error"]
    assert client.get("/api/state").json()["revision"] == 0


@pytest.mark.parametrize("query", ["offset=-1", "limit=0", "limit=100000", "offset=x"])
def test_queries_have_bounds(client, query):
    assert client.get(f"/api/queue/all?{query}").status_code == 422
    assert client.get("/api/queue/nothing").status_code == 404


def test_bodies_have_bounds(client):
    assert (
        client.post("/api/undo", content=b"x" * 2_000_000, headers={"content-type": "application/json"}).status_code
        == 413
    )

    def slowly():
        for _ in range(300):
            yield b" " * 10_000

    answer = client.post("/api/undo", content=slowly(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert client.get("/api/state").status_code == 200


def test_two_tabs_do_not_fight(client):
    item = first(client)
    wish = {"action": "exclude", "ids": [item["id"]], "expect": 0}
    assert client.post("/api/decide", json=wish).status_code == 200
    second = client.post("/api/decide", json={**wish, "action": "accept"})
    assert second.status_code == 409
    assert second.json()["present"][item["id"]]["excluded"]
    assert client.post("/api/undo", json={"expect": 0}).status_code == 409
    assert client.post("/api/decide", json={**wish, "action": "accept", "expect": 1}).status_code == 200


def test_pages_of_a_queue(client):
    whole = client.get("/api/queue/all?limit=500").json()
    assert whole["total"] == len(whole["items"]) == 28
    pages = [client.get(f"/api/queue/all?offset={start}&limit=10").json()["items"] for start in (0, 10, 20, 30)]
    assert [item for page in pages for item in page] == whole["items"]
    amber = client.get("/api/queue/all", params={"label": "amber"}).json()
    assert {item["label"] for item in amber["items"]} == {"amber"}


def test_hostile_names_are_text(tmp_path):
    data = tiny.class_folders(tmp_path / "photos", each=8, classes=("blue",))
    nasty = CANARY.replace("/", "")
    for index in range(8):
        tiny.draw(data / nasty / f"{index} {nasty}.png", tiny.HUES["amber"], index)
    run = trained(data, tmp_path / "run", tiny.install(tmp_path)).folder
    with served(run) as (client, _):
        state = client.get("/api/state")
        assert state.headers["content-type"] == "application/json"
        assert nasty in [one["name"] for one in state.json()["classes"]]
        digest = digest_of(data / nasty / f"0 {nasty}.png")
        wish = {"action": "relabel", "ids": [digest], "value": "blue"}
        assert client.post("/api/decide", json=wish).json()["decisions"][0]["pictures"][0]["label"] == nasty
        assert CANARY not in client.get("/").text


def test_bound_to_all_addresses_any_name_will_do(run):
    with served(run, host="0.0.0.0") as (client, _):
        assert client.get("/api/state", headers={"host": "my-machine.local:8001"}).status_code == 200
        assert client.post("/api/undo", json={}, headers={gate.TOKEN: "wrong"}).status_code == 403


def test_answers_do_not_wait_for_receipts():
    with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
