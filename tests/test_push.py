"""A model pushed to a stand-in for the Hugging Face Hub: what arrives, what is said, and what happens when it fails."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import headstart
from headstart.cli import app
from headstart.delivery.export import pushing
from headstart.delivery.export.exporting import export
from headstart.delivery.export.pushing import push
from headstart.errors import ExportError, ModelError, UsageError
from headstart.progress import Progress

from . import hub as stand_in
from . import tiny

NAME = f"{stand_in.OWNER}/colours"

# huggingface_hub gives its transport files in a way that the transport no longer likes.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub that everything in this test is sent to; huggingface_hub does not wait between attempts."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-login"))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with stand_in.running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", stand_in.TOKEN)
        yield hub
        close_session()


class Heard(Progress):
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def arrived(hub, folder, name=NAME):
    """The repository's files, as whoever downloads it has them."""
    for path, content in hub.files(name).items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return folder


def test_what_arrives_is_the_model_folder_and_answers_as_it_does(hub, tiny_run, tmp_path):
    done = push(tiny_run, NAME)
    assert set(hub.files(NAME)) == {".gitattributes", *pushing.FILES} == {".gitattributes", *done.files}
    for name in pushing.FILES:
        assert hub.files(NAME)[name] == (tiny_run / "model" / name).read_bytes()
    assert {len(content) > stand_in.LARGE for content in hub.files(NAME).values()} == {True, False}  # both ways to send
    assert (done.url, done.private) == (f"{hub.url}/{NAME}", False)
    assert not hub.repositories[NAME]["private"]
    tiny.class_folders(tmp_path / "new", 3)
    pictures = sorted((tmp_path / "new").rglob("*.png"))
    own = headstart.load(tiny_run, "cpu", "f32").predict(pictures)
    other = headstart.load(arrived(hub, tmp_path / "there"), "cpu", "f32").predict(pictures)
    assert [(one.label, one.probability) for one in other] == [(one.label, one.probability) for one in own]


def test_nothing_but_the_model_goes_up_and_it_is_said_before(hub, tiny_run, tmp_path):
    shutil.copytree(tiny_run / "model", tmp_path / "model")
    tiny.draw(tmp_path / "model" / "mine.png", (9, 9, 9), 1)
    (tmp_path / "model" / "notes").mkdir()
    (tmp_path / "model" / "notes" / "secret.txt").write_text("mine")
    heard = Heard()
    push(tmp_path / "model", NAME, progress=heard)
    assert set(hub.files(NAME)) == {".gitattributes", *pushing.FILES}
    assert heard.lines[0] == f"uploading to {hub.url}/{NAME}, which everybody can see:"
    assert [line.split()[2] for line in heard.lines[1:-1]] == list(pushing.FILES)
    assert heard.lines[-1] == "no pictures, and no paths of pictures"


def test_no_path_of_a_picture_goes_up(hub, tiny_run, tmp_path):
    export(tiny_run, "onnx", tmp_path / "a.onnx")
    record = tmp_path / "a.onnx.export.json"
    known = json.loads(record.read_text())
    known["proof"]["differing"] = [{"path": "amber/grandmother.png"}]
    known["proof"]["left_out"] = ["blue/gone.png"]
    record.write_text(json.dumps(known))
    push(tiny_run, NAME, exported=tmp_path / "a.onnx")
    there = hub.files(NAME)
    assert {"onnx/a.onnx", "onnx/export.json"} <= set(there)
    assert there["onnx/a.onnx"] == (tmp_path / "a.onnx").read_bytes()
    public = json.loads(there["onnx/export.json"])
    assert public["proof"]["agreement"] == known["proof"]["agreement"]
    rows = (tiny_run / "split.csv").read_text("utf-8").splitlines()[1:]
    secrets = [row.split(",")[0] for row in rows] + ["grandmother", "gone.png", str(tiny_run), str(tmp_path)]
    for name, content in there.items():
        assert not [secret for secret in secrets if secret.encode() in content], name


def test_an_export_folder_goes_along_in_a_folder_of_its_format(hub, tiny_run, tmp_path):
    asked = ["export", str(tiny_run), "--to", "openvino", "-o", str(tmp_path / "ir"), "--push", NAME, "--private"]
    told = CliRunner().invoke(app, asked)
    assert told.exit_code == 0, told.output
    for name in ("model.xml", "model.bin"):
        assert hub.files(NAME)[f"openvino/{name}"] == (tmp_path / "ir" / name).read_bytes()
    assert hub.repositories[NAME]["private"]
    assert f"to {hub.url}/{NAME} (private)" in told.stdout
    assert "uploading to" in told.stderr


def test_a_second_push_sends_only_what_has_changed(hub, tiny_run, tmp_path):
    push(tiny_run, NAME)
    sent = hub.asked["put"]
    shutil.copytree(tiny_run / "model", tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text((tiny_run / "model" / "README.md").read_text() + "\nMore.\n")
    push(tmp_path / "model", NAME)
    assert hub.asked["put"] == sent > 0
    assert hub.files(NAME)["README.md"].endswith(b"More.\n")
    commits = hub.repositories[NAME]["commits"]
    push(tmp_path / "model", NAME)
    assert hub.repositories[NAME]["commits"] == commits


def test_a_refused_token_is_named_and_nothing_is_made(hub, tiny_run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody")
    with pytest.raises(ExportError, match=r"does not accept the Hugging Face token .*settings/tokens") as caught:
        push(tiny_run, NAME)
    assert "hf_of_somebody" not in str(caught.value)
    assert hub.repositories == {}


def test_a_token_that_expires_on_the_way_is_named(hub, tiny_run):
    hub.faults = {"commit": [401]}
    with pytest.raises(ExportError, match="does not accept the Hugging Face token"):
        push(tiny_run, NAME)
    assert set(hub.files(NAME)) == {".gitattributes"}


def test_without_a_token_no_request_is_made(hub, tiny_run, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ExportError, match="no Hugging Face token"):
        push(tiny_run, NAME)
    assert not hub.asked


@pytest.mark.usefixtures("hub")
def test_a_name_of_somebody_else_is_refused(tiny_run):
    with pytest.raises(ExportError, match=r"may not write to them/colours .*don't have the rights"):
        push(tiny_run, "them/colours")


@pytest.mark.parametrize("kind", ["create", "info", "validate", "preupload", "batch", "put", "commit"])
def test_a_busy_hub_is_asked_again(kind, hub, tiny_run):
    hub.faults = {kind: [503, 503]}
    push(tiny_run, NAME)
    assert hub.asked[kind] >= 3
    assert set(hub.files(NAME)) == {".gitattributes", *pushing.FILES}


def test_a_hub_that_stays_busy_is_reported(hub, tiny_run):
    hub.faults = {"create": [503] * 100}
    with pytest.raises(ExportError, match=r"cannot answer now \(503.*again later"):
        push(tiny_run, NAME)
    assert hub.asked["create"] == len(pushing.PAUSES) + 1


@pytest.mark.parametrize("kind", ["create", "put", "commit"])
def test_a_cut_connection_is_made_again(kind, hub, tiny_run):
    hub.faults = {kind: ["cut"]}
    push(tiny_run, NAME)
    for name in pushing.FILES:
        assert hub.files(NAME)[name] == (tiny_run / "model" / name).read_bytes()


def test_after_a_lost_connection_the_same_command_goes_on(hub, tiny_run):
    hub.faults = {"commit": ["always cut"]}
    with pytest.raises(ExportError, match=r"connection to .* failed .*same command again"):
        push(tiny_run, NAME)
    assert set(hub.files(NAME)) == {".gitattributes"}
    hub.faults, sent = {}, hub.asked["put"]
    push(tiny_run, NAME)
    assert hub.asked["put"] == sent > 0  # what had arrived was not sent again
    assert set(hub.files(NAME)) == {".gitattributes", *pushing.FILES}


def test_an_upload_that_cannot_end_is_reported(hub, tiny_run):
    hub.faults = {"put": ["always cut"]}
    with pytest.raises(ExportError, match=r"connection to .* failed"):
        push(tiny_run, NAME)


@pytest.mark.usefixtures("hub")
def test_without_a_network_it_says_so(tiny_run, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ExportError, match=r"connection to http://127\.0\.0\.1:9 failed"):
        push(tiny_run, NAME)


@pytest.mark.usefixtures("hub")
def test_an_interrupted_push_says_how_to_go_on(tiny_run, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("huggingface_hub.HfApi.create_commit", stopped)
    with pytest.raises(KeyboardInterrupt, match="same command again"):
        push(tiny_run, NAME)


def test_a_name_that_is_taken_is_left_alone(hub, tiny_run):
    files = {".gitattributes": b"", "README.md": b"---\n---\n", "poems.txt": b"mine"}
    hub.repositories[NAME] = {"private": False, "files": dict(files), "commits": 1}
    with pytest.raises(ExportError, match=r"holds something else \(poems\.txt\)"):
        push(tiny_run, NAME)
    assert hub.files(NAME) == files


def test_what_is_to_be_private_does_not_go_where_everybody_looks(hub, tiny_run):
    push(tiny_run, NAME)
    commits = hub.repositories[NAME]["commits"]
    with pytest.raises(ExportError, match="everybody can see it; nothing was uploaded"):
        push(tiny_run, NAME, private=True)
    assert hub.repositories[NAME]["commits"] == commits
    hub.repositories[NAME]["private"] = True
    assert push(tiny_run, NAME).private


def test_a_damaged_model_does_not_go_up(hub, tiny_run, tmp_path):
    shutil.copytree(tiny_run / "model", tmp_path / "model")
    (tmp_path / "model" / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="damaged"):
        push(tmp_path / "model", NAME)
    shutil.copytree(tiny_run / "model", tmp_path / "other")
    (tmp_path / "other" / "README.md").unlink()
    with pytest.raises(ModelError, match=r"no README\.md"):
        push(tmp_path / "other", NAME)
    assert not hub.asked


@pytest.mark.usefixtures("hub")
def test_a_card_that_the_hub_will_not_take_is_named(tiny_run, tmp_path):
    shutil.copytree(tiny_run / "model", tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("---\nlicense: [\n---\n# Mine\n")
    with pytest.raises(ExportError, match=r"refused .*Invalid metadata in README\.md"):
        push(tmp_path / "model", NAME)


def test_what_is_asked_wrongly_is_refused_before_any_work(hub, tiny_run, tmp_path):
    out = str(tmp_path / "out")
    for given, message in [
        ([], "give --to FORMAT"),
        (["--to", "onnx"], "give --to FORMAT"),
        (["-o", out, "--push", NAME], "give --to FORMAT"),
        (["--push", NAME, "--raw"], "--raw is about a file"),
        (["--to", "onnx", "-o", out, "--private"], "--private is about a repository"),
        (["--to", "onnx", "-o", out, "--push", "colours"], "takes OWNER/NAME"),
        (["--push", "me/a b"], "takes OWNER/NAME"),
    ]:
        told = CliRunner().invoke(app, ["export", str(tiny_run), *given])
        assert isinstance(told.exception, UsageError), given
        assert message in str(told.exception)
    assert not hub.asked
    assert not Path(out).exists()
    with pytest.raises(ExportError, match="is not an export"):
        push(tiny_run, NAME, exported=tmp_path)


def test_the_command_in_a_process_of_its_own(tiny_run, tmp_path):
    with stand_in.running() as hub:
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": stand_in.TOKEN, "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-m", "headstart", "export", str(tiny_run), "--push", NAME]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"pushed 6 files to {hub.url}/{NAME} (public)")
        environment["HF_TOKEN"] = "wrong"
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(f"error: {hub.url} does not accept the Hugging Face token")
        assert "Traceback" not in done.stderr
    assert hub.files(NAME)["README.md"] == (tiny_run / "model" / "README.md").read_bytes()
