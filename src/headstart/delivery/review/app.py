"""The desk over HTTP: what each path answers. What surrounds a request stands in `gate`.

All answers are JSON but for the page, pictures and the manifest. What is refused has a status of 400 or above and
`{"error": sentence}`. A POST needs `content-type: application/json` and the header `x-headstart-token` with the text
that stands in the page as `<meta name="token" content="...">`. A picture's `id` is the SHA-256 of its file; that of a
pair, for "accept" alone, the ids of both with a `+` between, as `twin.pair` gives it. A revision is the number of a row
of the journal, and grows with each decision, whoever makes it.

    GET  /                    the page; its files lie beside it: /page.css, /page.js, /look.css (shared with the report)
    GET  /api/state           {run, data, tuned, classes: [{name, pictures}], queues: {name: {total, waiting} or null},
                              revision, decisions, pending, trained_revision, pictures, held_out, first, last,
                              change, training}. `queues` null: being made, ask again. `decisions`: how many hold;
                              `pending`: how many hold now and did not when it was trained last, or the other way
                              round. `first` and `last`: trainings, {revision, accuracy: {value, low, high}, n,
                              pictures, classes, suspects, seconds}. `change`: the last answer of /api/train, also
                              after a restart; null before. `training`: one is running. `tuned`: the run was
                              fine-tuned, so that the desk's numbers are of the solved head alone, and /api/save
                              refuses
    GET  /api/queue/NAME      ?offset=0&limit=50[&label=CLASS] {name, revision, total, offset, items: [item]}; NAME is
                              labels, twins, uncertain, mistakes, strangers, new or all. The order stays until one
                              trains again. item: {id, path, label (now; "" for a new picture), trained_label, part
                              ("test": held out; "train"; "new": outside the data; "out": left out of training),
                              suggested, probability (of the suggested class), score, reason, excluded, decision
                              (null: waits; "relabel", "accept", "exclude", "include", "add": decided since the last
                              training), revision (the last that was about it), twin (null, or an item with `pair`)}
    GET  /api/picture/ID      ?size=thumb|full: JPEG with a longer side of at most 320 or 1,600 pixels
    GET  /api/saliency/ID     WebP: the picture under a map of what speaks for the predicted class; 422 where the
                              network has no maps
    POST /api/decide          {action, ids, value, expect}: action relabel (value: a class that there is), accept (the
                              label as it stands; no value), exclude, include. A new picture that is relabelled or
                              accepted (its suggestion) is added. `expect`: the revision that the page knows, as of
                              /api/state; 409 with {error, present: {id: {label, excluded, accepted, revision}}} if one
                              of the pictures was decided about since. Answers {revision, decisions: [row of the log],
                              items: {id: {label, excluded, decision, revision}}}
    POST /api/undo, /api/redo {expect}: the last decision, whoever made it; with `expect` 409 if anything came after it.
                              Answers as decide; `decisions` is empty where there is nothing to undo
    POST /api/train           {}: {n (held-out pictures shared), before, after: accuracy {value, low, high} on them by
                              their labels now, difference {value, low, high}, only_before, only_after (pictures that
                              only one got right), p, certain, flipped: {count, held_out, pictures: [{id, path, label,
                              held_out, before: {label, probability}, after}]}, held_out_relabelled, suspects: {before,
                              after}, revision: {before, after}, classes, seconds}; 409 while another runs, 422 with the
                              reason where a class has too few pictures. The run folder stays as it is
    POST /api/save            {}: trains the run folder again, as `headstart train RUN`; {run, seconds}
    POST /api/classes         {action: add|rename|merge, name, to, expect}; answers as decide, without items
    GET  /api/export          the manifest of what the decisions make of the data, as a CSV file
    GET  /api/log             {decisions: [{revision, at, who, action, value, target, pictures: [{id, path, label,
                              before, after}]}]}, the newest first
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from headstart.delivery.review import export
from headstart.delivery.review.decision import Decision
from headstart.delivery.review.desk import BusyError, Desk, UnknownError
from headstart.delivery.review.gate import Application, guarded
from headstart.delivery.review.journal import ConflictError
from headstart.delivery.review.sight import GoneError
from headstart.errors import HeadstartError, StorageError

MOST_ITEMS, MOST_IDS = 500, 10_000
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
STATUS: Mapping[type[HeadstartError], int] = {
    UnknownError: 404,
    ConflictError: 409,
    BusyError: 409,
    GoneError: 410,
    StorageError: 507,
}

Offset = Annotated[int, Query(ge=0, le=10**9)]
Limit = Annotated[int, Query(ge=1, le=MOST_ITEMS)]


@dataclass
class Wish:
    """The body of /api/decide."""

    action: Literal["relabel", "accept", "exclude", "include"]
    ids: list[str] = field(default_factory=list)
    value: str | None = None
    expect: int | None = None


@dataclass
class ClassWish:
    """The body of /api/classes."""

    action: Literal["add", "rename", "merge"]
    name: str
    to: str | None = None
    expect: int | None = None


@dataclass
class Expecting:
    """The body of /api/undo and /api/redo."""

    expect: int | None = None


@dataclass
class Nothing:
    """The body of calls that take nothing."""


def build(desk: Desk, token: str, host: str = "127.0.0.1") -> Application:
    """The ASGI application of `desk`: `token` is that of this start, `host` the address that it is bound to."""
    api = FastAPI(title="headstart review", docs_url=None, redoc_url=None, openapi_url=None)
    _add_reading(api, desk)
    _add_deciding(api, desk)
    _add_training(api, desk)
    _add_page(api, token)
    _add_errors(api)
    return guarded(api, token, host)


def _add_reading(api: FastAPI, desk: Desk) -> None:
    @api.get("/api/state")
    def state() -> JSONResponse:
        return JSONResponse(desk.state())

    @api.get("/api/queue/{name}")
    def queue(name: str, offset: Offset = 0, limit: Limit = 50, label: str | None = None) -> JSONResponse:
        return JSONResponse(desk.queue(name, offset, limit, label))

    @api.get("/api/picture/{digest}")
    def picture(digest: str, size: Literal["thumb", "full"] = "thumb") -> Response:
        kept = {"cache-control": "private, max-age=86400, immutable"}  # the address is that of the content
        return Response(desk.picture(digest, size), media_type="image/jpeg", headers=kept)

    @api.get("/api/saliency/{digest}")
    def saliency(digest: str) -> Response:
        return Response(desk.saliency(digest), media_type="image/webp")

    @api.get("/api/export")
    def manifest() -> Response:
        named = {"content-disposition": 'attachment; filename="reviewed.csv"'}
        return Response(desk.manifest(), media_type="text/csv; charset=utf-8", headers=named)

    @api.get("/api/log")
    def log() -> JSONResponse:
        return JSONResponse({"decisions": desk.log()})


def _add_deciding(api: FastAPI, desk: Desk) -> None:
    def answer(made: list[Decision]) -> JSONResponse:
        of_pictures = (one.id for row in made if not row.is_of_classes for one in row.subjects)
        standing = desk.standing(list(dict.fromkeys(of_pictures)))
        rows = [export.log_entry(row) for row in made]
        return JSONResponse({"revision": desk.journal.revision, "decisions": rows, "items": standing})

    @api.post("/api/decide")
    def decide(wish: Wish) -> JSONResponse:
        if len(wish.ids) > MOST_IDS:
            raise HTTPException(422, f"a decision is about {MOST_IDS:,} pictures at most.")
        return answer(desk.decide(wish.action, wish.ids, wish.value, wish.expect))

    @api.post("/api/undo")
    def undo(wish: Expecting) -> JSONResponse:
        made = desk.undo(wish.expect)
        return answer([made] if made else [])

    @api.post("/api/redo")
    def redo(wish: Expecting) -> JSONResponse:
        made = desk.redo(wish.expect)
        return answer([made] if made else [])

    @api.post("/api/classes")
    def classes(wish: ClassWish) -> JSONResponse:
        made = desk.change_classes(wish.action, wish.name, wish.to, wish.expect)
        return JSONResponse({"revision": desk.journal.revision, "decisions": [export.log_entry(made)]})


def _add_training(api: FastAPI, desk: Desk) -> None:
    @api.post("/api/train")
    def train(_: Nothing) -> JSONResponse:
        return JSONResponse(desk.train())

    @api.post("/api/save")
    def save(_: Nothing) -> JSONResponse:
        return JSONResponse(desk.save())


def _add_page(api: FastAPI, token: str) -> None:
    for path, (content, kind) in page_files().items():
        served = content.replace(b"{{token}}", token.encode()) if path == "/" else content
        api.get(path)(_sender(served, kind))


def _sender(content: bytes, kind: str) -> Callable[[], Response]:
    def send() -> Response:
        return Response(content, media_type=kind)

    return send


@cache
def page_files() -> dict[str, tuple[bytes, str]]:
    """The page's own files by their paths, with their types; and the look that it shares with the report."""
    page = resources.files("headstart.delivery.review") / "page"
    look = resources.files("headstart.judging.report") / "look.css"
    files = {}
    for file in (*page.iterdir(), look):
        ending = f".{file.name.rpartition('.')[2]}"
        if ending in KINDS:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            files[path] = file.read_bytes(), KINDS[ending]
    return files


def _add_errors(api: FastAPI) -> None:
    @api.exception_handler(HeadstartError)
    def refused(_: Request, error: HeadstartError) -> JSONResponse:
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 422)
        more = {"present": error.present} if isinstance(error, ConflictError) else {}
        return JSONResponse({"error": str(error), **more}, status)

    @api.exception_handler(RequestValidationError)
    def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first.get("loc", ()))
        return JSONResponse({"error": f"the request is not as it should be: {where}: {first.get('msg')}."}, 422)

    @api.exception_handler(HTTPException)
    def otherwise(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code)
