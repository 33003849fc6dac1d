"""The desk's process: the data read, an address bound, and requests answered until somebody stops it."""

import secrets
from collections.abc import Callable
from pathlib import Path

import uvicorn

from headstart.delivery import listening
from headstart.delivery.review.app import build
from headstart.delivery.review.desk import open_desk
from headstart.delivery.review.gate import LOOPBACK
from headstart.progress import SILENT, Progress


def run(
    folder: Path,
    unlabelled: Path | None,
    address: tuple[str, int],
    save: Callable[[], object],
    tell: Callable[[str], None],
    progress: Progress = SILENT,
) -> None:
    """Serve the desk for the run `folder` until Ctrl-C or SIGTERM.

    Args:
        folder: a finished run.
        unlabelled: a folder of pictures to label.
        address: host and port; port 0 is any that is free.
        save: trains the run folder again.
        tell: is given a line with the address once the desk can be used.
        progress: shows how the data are read.

    Raises:
        UsageError: the address cannot be had.
        HeadstartError: the run, its data or its journal cannot be used.
    """
    host, port = address
    with listening.listen(host, port) as bound:
        desk = open_desk(folder, unlabelled, save, progress)
        try:
            app = build(desk, secrets.token_urlsafe(24), host)
            settings = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5, server_header=False)
            if host not in LOOPBACK | {"::1"}:
                tell("note: everyone who can reach this address can see the pictures and decide about them.")
            tell(f"the review of {folder} is on {listening.address(host, bound)}  (Ctrl-C ends it)")
            listening.Server(settings).run([bound])
        finally:
            desk.close()
