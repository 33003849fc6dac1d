"""A model's way to a Hugging Face repository: the model folder, and an export if there is one, in a single commit."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from headstart.delivery import artefact
from headstart.errors import ExportError, HeadstartError, ModelError, UsageError
from headstart.progress import SILENT, Progress

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

CARD, RECORD = "README.md", "export.json"
FILES = (CARD, artefact.CONFIG, artefact.TENSORS, artefact.GRAPH, artefact.FACTS, artefact.EXTRAS)
"""What is pushed of a model folder: these files, whatever else lies there."""

OF_THE_HUB = {".gitattributes", CARD}
"""What a repository may hold without being anybody's work: the Hub puts it there."""

PAUSES = (1.0, 2.0, 4.0)
"""Seconds before a request that failed in passing is made again."""

IN_PASSING = (408, 425, 429, 500, 502, 503, 504)
MEGABYTE = 1e6

Contents = Mapping[str, Path | bytes]
"""Paths in the repository, and what stands there."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Pushed:
    """What went where: the repository's `url`, the `commit` that holds the `files`, and who can see them."""

    repository: str
    url: str
    commit: str
    files: tuple[str, ...]
    private: bool


def claim(repository: str) -> None:
    """Make sure, before any long work, that there can be such a repository, and that there is a token.

    Raises:
        UsageError: `repository` is not OWNER/NAME.
        ExportError: there is no token.
    """
    from huggingface_hub import get_token  # a tenth of a second
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UsageError(f"--push takes OWNER/NAME: {error}") from error
    if repository.count("/") != 1:
        raise UsageError(f"--push takes OWNER/NAME, OWNER being you or an organisation; received '{repository}'.")
    if not get_token():
        raise ExportError(
            "there is no Hugging Face token. Put one that may write into HF_TOKEN, or log in with `hf auth login`; "
            f"{endpoint()}/settings/tokens makes them."
        )


def push(
    model: str | Path,
    repository: str,
    *,
    private: bool = False,
    exported: str | Path | None = None,
    progress: Progress = SILENT,
) -> Pushed:
    """Push a model with its card to a Hugging Face repository, which is made if there is none.

    The repository changes in one commit at the end. The token is huggingface_hub's: HF_TOKEN, or a login; HF_ENDPOINT
    names another Hub.

    Args:
        model: a run folder or its model/. It is loaded first, so that no damaged one goes up. Only `FILES` do: no
            picture, and no path of one.
        repository: OWNER/NAME. One that holds something else than a model of headstart is refused.
        private: make it one that only its owner sees. A repository that exists must be private already.
        exported: an export of the same model, which goes along in a folder called after its format.
        progress: says what will be uploaded, and shows it.

    Raises:
        ExportError: there is no token, it was refused, the Hub cannot be reached, or the name is taken. Nothing has
            changed in the repository, and what has arrived is not sent again the next time.
        HeadstartError: the model or the export cannot be read.
    """
    claim(repository)
    folder = artefact.find(Path(model))
    artefact.load(folder, "cpu", "f32")
    contents = {**_model_files(folder), **({} if exported is None else _export_files(Path(exported)))}
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint())
    try:
        with _explained(repository):
            is_private = _opened(api, repository, private)
            for line in _announced(contents, repository, is_private):
                progress.say(line)
            commit = _sent(api, repository, contents, progress)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(
            f"{repository} changes in one commit at the end; run the same command again, and what has arrived is not "
            "sent again."
        ) from error
    return Pushed(repository, f"{endpoint()}/{repository}", commit, tuple(contents), is_private)


def endpoint() -> str:
    """The address of the Hub: HF_ENDPOINT, or huggingface_hub's own."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def lines(done: Pushed) -> Iterator[str]:
    """What a person reads when a model was pushed: where it is, and how others use it."""
    seen_by = "private" if done.private else "public"
    yield f"pushed {len(done.files)} files to {done.url} ({seen_by}); use it with"
    yield f"  hf download {done.repository} --local-dir model && headstart predict model PICTURES..."


def _model_files(folder: Path) -> dict[str, Path | bytes]:
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ModelError(f"the model in {folder} is damaged: it has no {', '.join(missing)}.")
    return {name: folder / name for name in FILES}


def _export_files(path: Path) -> dict[str, Path | bytes]:
    """The files of the export at `path`, a folder or a file, and its record less what names pictures and places."""
    place = path / RECORD if path.is_dir() else path.with_name(f"{path.name}.{RECORD}")
    try:
        record = json.loads(place.read_text("utf-8"))
        to, names = str(record["to"]), [str(name) for name in record["files"]]
        public: dict[str, Any] = {key: value for key, value in record.items() if key != "model"}
        proof = {
            key: value for key, value in record["proof"].items() if key not in ("pictures", "differing", "left_out")
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(f"{path} is not an export: {place} cannot be read ({error}).") from error
    files: dict[str, Path | bytes] = {f"{to}/{name}": place.parent / name for name in names}
    files[f"{to}/{RECORD}"] = (json.dumps({**public, "proof": proof}, indent=1, ensure_ascii=False) + "\n").encode()
    return files


def _announced(contents: Contents, repository: str, private: bool) -> Iterator[str]:
    yield f"uploading to {endpoint()}/{repository}, {'private' if private else 'which everybody can see'}:"
    for name, content in contents.items():
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        remark = "  features and digests of the training pictures, from which it tells “none of these”"
        yield f"  {size / MEGABYTE:9.3f} MB  {name}{remark if name == artefact.EXTRAS else ''}"
    yield "no pictures, and no paths of pictures"


def _opened(api: "HfApi", repository: str, private: bool) -> bool:
    """Make the repository if there is none; returns whether it is private.

    Raises:
        ExportError: there is one, and it holds something else, or everybody can see what is to be private.
    """
    _retried(lambda: api.create_repo(repository, private=private or None, exist_ok=True))
    found = _retried(lambda: api.model_info(repository))
    held = {file.rfilename for file in found.siblings or ()}
    if artefact.FACTS not in held and held - OF_THE_HUB:
        raise ExportError(
            f"{repository} exists and holds something else ({min(held - OF_THE_HUB)}); nothing was changed there. "
            "Choose another name."
        )
    if private and not found.private:
        raise ExportError(
            f"{repository} exists, and everybody can see it; nothing was uploaded. Make it private at "
            f"{endpoint()}/{repository}/settings, or choose another name."
        )
    return bool(found.private)


def _sent(api: "HfApi", repository: str, contents: Contents, progress: Progress) -> str:
    """Upload what is large, file by file, then make the commit; returns the commit's name."""
    from huggingface_hub import CommitOperationAdd

    files = [
        CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
        for name, content in contents.items()
    ]
    with _without_bars(), progress.stage("uploading", len(files) + 1) as advance:
        for file in files:
            # It tries again by itself, with longer and longer pauses.
            api.preupload_lfs_files(repository, [file], free_memory=False)
            advance()
        return _committed(api, repository, files)


def _committed(api: "HfApi", repository: str, files: list["CommitOperationAdd"]) -> str:
    message = "Upload a model made with headstart"
    return str(_retried(lambda: api.create_commit(repository, files, commit_message=message)).oid)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep huggingface_hub from drawing its own bars into ours."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _retried(request: Callable[[], Result]) -> Result:
    """What `request` returns; it is made again where it failed in passing."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    for pause in PAUSES:
        try:
            return request()
        except _transport_errors() as error:
            if isinstance(error, OfflineModeIsEnabled) or _status(error) not in (None, *IN_PASSING):
                raise
            time.sleep(pause)
    return request()


def _transport_errors() -> tuple[type[Exception], ...]:
    """What requests to the Hub end in: OSError, and the HTTPError of whichever httpx huggingface_hub is built on."""
    from huggingface_hub.errors import HfHubHTTPError

    return tuple(kind for kind in HfHubHTTPError.__bases__ if issubclass(kind, Exception))


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turn what huggingface_hub and its transport raise into an ExportError that says what to do."""
    # It wraps what happens in its threads into a RuntimeError, and raises a ValueError for what the Hub will not take.
    kinds: tuple[type[Exception], ...] = (*_transport_errors(), RuntimeError, ValueError)
    try:
        yield
    except HeadstartError:
        raise
    except kinds as error:
        raise ExportError(_explanation(error, repository)) from error


def _explanation(error: BaseException, repository: str) -> str:
    status, hub = _status(error), endpoint()
    said = _said(error)
    if status == 401:
        return (
            f"{hub} does not accept the Hugging Face token ({said}). Make one that may write at {hub}/settings/tokens, "
            "and put it into HF_TOKEN, or log in with `hf auth login`."
        )
    if status in (403, 404):
        return (
            f"the token may not write to {repository} ({said}). OWNER must be you or an organisation of yours, and the "
            f"token one that may write: {hub}/settings/tokens."
        )
    if status is None and not isinstance(error, ValueError):
        return (
            f"the connection to {hub} failed ({said}). {repository} changes in one commit at the end; run the same "
            "command again, and what has arrived is not sent again."
        )
    if status in IN_PASSING:
        return (
            f"{hub} cannot answer now ({said}). Run the same command again later; what has arrived is not sent again."
        )
    return f"{hub} refused what was sent to {repository}: {said}"


def _status(error: BaseException | None) -> int | None:
    """The status of the answer behind `error`, or behind what caused it; None where no answer came."""
    while error is not None:
        if (response := getattr(error, "response", None)) is not None:
            return int(response.status_code)
        error = error.__cause__
    return None


def _said(error: BaseException) -> str:
    """What went wrong in a line, in the Hub's own words where there are any."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    status = _status(error)
    text = getattr(error, "server_message", None) or str(error) or type(error).__name__
    line = " ".join(text.split())
    return line if status is None or str(status) in line else f"{status}: {line}"
