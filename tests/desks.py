"""For the tests of the review: small data with a few wrong labels, a run of them, and the desk over HTTP."""

import threading
import time
from contextlib import contextmanager
from hashlib import sha256

import httpx
import uvicorn

from headstart import workflow
from headstart.delivery.review.app import build
from headstart.delivery.review.desk import open_desk
from headstart.delivery.run_folder import TrainOptions

from . import tiny

TOKEN = "this-start's-token"


def digest_of(path):
    return sha256(path.read_bytes()).hexdigest()


def noisy_data(folder, each=20, wrong=2):
    """Class folders in which the first `wrong` pictures of each class lie in the other's; gives those misplaced."""
    tiny.class_folders(folder, each=each)
    misplaced = {}
    for number in range(wrong):
        for label, other in (("amber", "blue"), ("blue", "amber")):
            target = folder / other / f"from {label} {number:02}.png"
            (folder / label / f"{number:02}.png").rename(target)
            misplaced[digest_of(target)] = label
    return misplaced


def trained(data, run, weights, **options):
    return workflow.train(data, run, TrainOptions(backbone="tiny", weights=weights, device="cpu", **options))


def snapshot(folder):
    """Every file below a folder with its bytes and its time, and every folder."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@contextmanager
def desk_of(run, unlabelled=None):
    desk = open_desk(run, unlabelled, lambda: workflow.train(run))
    try:
        yield desk
    finally:
        desk.close()


@contextmanager
def served(run, unlabelled=None, host="127.0.0.1"):
    """A client of the desk, with the token, and the desk itself."""
    with desk_of(run, unlabelled) as desk:
        server = uvicorn.Server(uvicorn.Config(build(desk, TOKEN, host), port=0, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        headers = {"x-headstart-token": TOKEN}
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:
                yield client, desk
        finally:
            server.should_exit = True
            thread.join()
