"""`headstart serve` as a process: its first line, its end, several workers, options in a file, refusals to start."""

import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from headstart import cli

from .serving import PATIENCE, as_process, client, picture, start, wait_until
from .test_serve import count


@pytest.fixture(scope="module")
def cache(tiny_run):
    return tiny_run.parent / "cache"


def loaded_libraries(process):
    with open(f"/proc/{process.pid}/maps") as maps:
        return maps.read()


def hang_up_while_it_computes(port):
    """Ask for much, and leave; nobody is to hear of it."""
    body = b"".join(b"--b\r\nContent-Disposition: form-data; name=file\r\n\r\n%s\r\n" % picture(n) for n in range(60))
    body += b"--b--\r\n"
    head = (
        b"POST /predict?explain=true HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection, client(SimpleNamespace(port=port)) as ask:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        wait_until(lambda: count(ask, "headstart_waiting_pictures") == 60)
    with client(SimpleNamespace(port=port)) as ask:
        wait_until(lambda: count(ask, "headstart_waiting_pictures") == 0)


def test_it_says_where_it_is_and_ends_when_everything_accepted_is_answered(tiny_run, cache):
    body = picture()
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    with as_process(tiny_run, cache) as process:
        assert process.line == f"headstart serves run on http://127.0.0.1:{process.port}/\n"
        with client(process) as ask:
            assert ask.get("/health").status_code == 200
            assert ask.post("/predict", files={"file": body}).status_code == 200
        if sys.platform == "linux":
            assert "libopenvino" in loaded_libraries(process)
            assert "libtorch" not in loaded_libraries(process)
        sending = [socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE) for _ in range(8)]
        for one in sending:
            one.sendall(head + body[:50])
        hang_up_while_it_computes(process.port)
        idle = socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE)
        with client(process) as ask:
            wait_until(lambda: count(ask, "headstart_requests_total") >= 2)
        process.send_signal(signal.SIGTERM)
        with idle:
            assert idle.recv(10) == b""  # it listens no more
        for one in sending:
            one.sendall(body[50:])
        for one in sending:
            assert one.recv(100).startswith(b"HTTP/1.1 200")
            one.close()
        assert process.wait(PATIENCE) == 0
        assert process.communicate() == ("", "")


def test_several_workers_share_the_work_and_the_counts(tiny_run, cache, tmp_path):
    settings = tmp_path / "serve.toml"
    settings.write_text(f'workers = 2\nmax-files = 2\nmodels = ["other={tiny_run}"]\n')
    with as_process(tiny_run, cache, "--config", str(settings), HEADSTART_TOKEN="secret") as process:
        assert process.line.startswith("headstart serves run, other on")
        asked = 0
        for _ in range(12):
            with client(process, headers={"authorization": "Bearer secret"}) as ask:
                assert ask.post("/predict?model=other", files={"file": picture()}).status_code == 200
                asked += 1
                assert ask.post("/predict", files=[("file", picture())] * 3).status_code == 413
        with client(process) as ask:
            assert ask.get("/info").status_code == 401
        with client(process, headers={"authorization": "Bearer secret"}) as ask:
            assert count(ask, "headstart_pictures_total", model="other") == asked
            assert count(ask, "headstart_requests_total", status="413") == asked
            assert count(ask, "headstart_waiting_pictures") == 0
        process.terminate()
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out, err) == (0, "", "")


def command_of(process):
    """The command line of a process; empty where it has ended meanwhile."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_are_replaced_when_they_die_and_die_with_their_supervisor(tiny_run, cache):
    def workers():
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return {int(child) for child in children if b"spawn_main" in command_of(child)}

    with as_process(tiny_run, cache, "--workers", "2") as process:
        before = workers()
        assert len(before) == 2
        killed = max(before)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: killed not in workers() and len(workers()) == 2)
        for number in range(15):  # the other answers, until the new one has loaded its model
            with client(process) as ask:
                assert ask.post("/predict", files={"file": picture(number)}).status_code == 200
        shares = len(os.sched_getaffinity(0)) > 1
        wait_until(lambda: not shares or not set.intersection(*map(os.sched_getaffinity, workers())))
        left = workers()
        assert left != before
        process.kill()
        wait_until(lambda: not any(is_running(worker) for worker in left))


def is_running(number):
    try:
        return ") Z " not in Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_damaged_model_is_not_served(tiny_run, cache, tmp_path, workers):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    (run / "model" / "model.onnx").write_bytes(b"nonsense")
    process = start(run, cache, "--workers", workers)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert out == ""
    assert "is damaged: model.onnx" in err
    assert "Traceback" not in err


@pytest.fixture
def command(monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["headstart", "serve", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code, capsys.readouterr().err

    return run


def test_what_cannot_be_served_is_said_before_anything_starts(command, tiny_run, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, err = command(tiny_run, "--port", port)
        assert (status, f"port {port}: Address already in use" in err) == (2, True)
    assert command(tmp_path / "nothing") == (1, f"error: no such model: {tmp_path / 'nothing'}. Give a run folder that "
                                             "`headstart train` made, or its model/.\n")  # fmt: skip
    assert command()[0] == 2
    assert "NAME=PATH" in command("--model", "nonsense")[1]
    assert "two models are called 'run'" in command(tiny_run, "--model", f"run={tiny_run}")[1]
    assert "--max-memory-mb" in command(tiny_run, "--max-request-mb", 600)[1]
    (tmp_path / "wrong.toml").write_text('allowed_hosts = "x"')
    assert "must be a list of texts" in command(tiny_run, "--config", tmp_path / "wrong.toml")[1]
