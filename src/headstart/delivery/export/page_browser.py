"""A page asked in headless Chromium, opened from its file, without a network, by its own file input.

playwright drives an installed Chromium, Chrome or Edge, or the one that it has fetched itself.
"""

import base64
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from headstart.delivery.export.page_format import FILE
from headstart.errors import ExportError

Result = TypeVar("Result")

COMMANDS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
    "chrome",
    "msedge",
)
CHANNELS = ("chrome", "msedge")
"""Where playwright looks for a browser at its maker's usual places."""

ARGUMENTS = ("--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
START_SECONDS, PICTURE_SECONDS = 120, 60

_ANSWERS = "headstart.answers().then((said) => { headstart.clear(); return said; })"


@dataclass(frozen=True)
class Shown:
    """What the page shows of one picture.

    `probabilities` float32 [k] in the order of the classes; `set` the class names of its set; `novelty` the score of
    "none of these", and `is_none_of_these` whether it says so; `milliseconds` from the file to the answer. `pixels`
    uint8 [h w 3] are what the network saw.
    """

    probabilities: NDArray[np.float32]
    set: tuple[str, ...]
    novelty: float
    is_none_of_these: bool
    milliseconds: float
    pixels: NDArray[np.uint8]


def find_browser() -> str | None:
    """The path of an installed browser that the page can be opened in; None where playwright is to look for one.

    `HEADSTART_BROWSER` names another.
    """
    given = os.environ.get("HEADSTART_BROWSER")
    if given:
        return given
    return next((found for name in COMMANDS if (found := shutil.which(name))), None)


def load(folder: Path, facts: dict[str, Any]) -> "Answering":  # noqa: ARG001 - the page holds them itself
    """The page in `folder`, open in a browser and ready to answer.

    Raises:
        ExportError: there is no browser, or the page does not start in it.
    """
    return Answering(folder / FILE)


class Answering:
    """An open page, asked from one thread of its own, as playwright wants it."""

    def __init__(self, path: Path) -> None:
        self.wrong: list[str] = []
        self.turn = ThreadPoolExecutor(1, "browser")
        self.stops: list[Callable[[], Any]] = []
        try:
            self.runtime = self._in_turn(lambda: self._open(path))
        except BaseException:
            self.close()
            raise

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """The probabilities [n, k] of a batch of fitted pictures."""
        packed = [base64.b64encode(one.tobytes()).decode() for one in batch]
        said = self._in_turn(lambda: self._ask("(given) => headstart.ofPixels(given)", packed))
        if refused := next((one["error"] for one in said if "error" in one), None):
            raise ExportError(f"the page does not answer: {refused['detail']}")
        return np.stack([_shown(one).probabilities for one in said])

    def of_files(self, paths: Sequence[Path]) -> list[Shown | None]:
        """What the page shows of the files that are given to its file input; None of those that it cannot read."""
        said = self._in_turn(lambda: self._give(paths))
        return [None if "error" in one else _shown(one) for one in said]

    def close(self) -> None:
        """Close the browser; nothing can be asked afterwards."""
        while self.stops:
            stop = self.stops.pop()
            self.turn.submit(stop).exception()  # it is closed as well as can be
        self.turn.shutdown()

    def _in_turn(self, act: Callable[[], Result]) -> Result:
        """The result of `act` in the browser's thread; what goes wrong in it is told in a sentence."""
        from playwright.sync_api import Error

        try:
            found = self.turn.submit(act).result()
        except Error as error:
            raise ExportError(f"the page does not work in this browser: {_first_line(error)}") from error
        if self.wrong:
            raise ExportError(f"the page does not work in this browser: {self.wrong[0]}")
        return found

    def _open(self, path: Path) -> str:
        """Open the page without a network; returns what answers, by name."""
        from playwright.sync_api import sync_playwright

        running = sync_playwright().start()
        self.stops.append(running.stop)
        browser = _launched(running.chromium)
        self.stops.append(browser.close)
        context = browser.new_context(offline=True)
        context.on("request", self._note_request)
        self.page = context.new_page()
        self.page.on("pageerror", lambda error: self.wrong.append(_first_line(error)))
        self.page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        self.page.set_default_timeout(1000 * START_SECONDS)
        self.page.goto(path.resolve().as_uri())
        name = self._ask("() => headstart.ready.then(headstart.remember).then(() => headstart.about.runtime)")
        return f"{name} in Chromium {browser.version}"

    def _note_request(self, request: Any) -> None:
        if not request.url.startswith(("file:", "blob:", "data:")):
            self.wrong.append(f"it asks for {request.url[:200]}")

    def _give(self, paths: Sequence[Path]) -> list[dict[str, Any]]:
        self.page.set_input_files("#choose", list(paths))
        said: list[dict[str, Any]] = self._ask(f"() => {_ANSWERS}", count=len(paths))
        if len(said) != len(paths):
            raise ExportError(f"the page answered {len(said)} of {len(paths)} pictures.")
        return said

    def _ask(self, question: str, given: Any = None, *, count: int = 1) -> Any:
        """What the page's script says; an error where it does not in time."""
        limit = 1000 * (START_SECONDS + PICTURE_SECONDS * count)
        late = f"new Promise((_, no) => setTimeout(() => no(new Error('no answer in time')), {limit}))"
        return self.page.evaluate(f"(given) => Promise.race([({question})(given), {late}])", given)


def _shown(said: dict[str, Any]) -> Shown:
    strange = said["none_of_these"]
    probabilities = np.array(said["probabilities"], np.float32)
    pixels = np.frombuffer(base64.b64decode(said["pixels"]), np.uint8)
    return Shown(probabilities, tuple(said["set"]), strange["score"], strange["flag"], said["milliseconds"], pixels)


def _launched(chromium: Any) -> Any:
    """A headless browser: one that is installed, else playwright's own.

    Raises:
        ExportError: there is none.
    """
    from playwright.sync_api import Error

    found = find_browser()
    ways = [{"executable_path": found}] if found else [{}, *({"channel": name} for name in CHANNELS)]
    reasons = []
    for way in ways:
        try:
            return chromium.launch(args=list(ARGUMENTS), **way)
        except Error as error:
            reasons.append(_first_line(error))
    tried = f"{found} does not start ({reasons[0]})" if found else "no Chromium, Chrome or Edge was found"
    raise ExportError(
        f"a page is proved in a browser before it is handed over, and {tried}. Install one of them, or let "
        f"playwright fetch one ({Path(sys.executable).name} -m playwright install chromium); HEADSTART_BROWSER names "
        "one that stands elsewhere."
    )


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0][:300]
