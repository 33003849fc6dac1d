"""The application: what each path answers. Everything that surrounds a request stands in `guards`."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from headstart import __version__
from headstart.delivery import answers
from headstart.delivery.serve import description, guards, uploads
from headstart.delivery.serve.files import page_files
from headstart.delivery.serve.metrics import CONTENT_TYPE, Metrics
from headstart.delivery.serve.models import Models
from headstart.delivery.serve.pipeline import Answer
from headstart.delivery.serve.room import Refused, Room
from headstart.delivery.serve.settings import Settings
from headstart.errors import HeadstartError, ModelError

HEALTH, PREDICT, INFO, METRICS, OPENAPI = "/health", "/predict", "/info", "/metrics", "/openapi.json"

Coverage = Literal["0.8", "0.9", "0.95", "0.99"]
Sets = Literal["threshold", "adaptive", "per-class"]
Wanted = Literal["0.9", "0.95", "0.98", "0.99"]


def build(
    settings: Settings,
    warn: Callable[[str], None],
    on_loaded: Callable[[HeadstartError | None], None],
    *,
    load_first: bool = False,
) -> Any:
    """The ASGI application.

    It begins to answer at once, and loads its models meanwhile, or with `load_first` before: `on_loaded` then gets
    None, or what is wrong with one. `warn` gets what an operator should read later on.
    """
    metrics = Metrics()
    models = Models(settings, metrics, warn)
    room = Room(settings.limits, metrics.under_way)
    api = FastAPI(
        title="headstart",
        version=__version__,
        description="What is in pictures, with calibrated probabilities.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(models, on_loaded, load_first),
    )
    _add_answers(api, settings, models, room, metrics)
    _add_state(api, settings, models, metrics)
    _add_files(api)
    _add_errors(api)
    open_to_all = frozenset({HEALTH, *page_files()})
    if settings.token is not None:
        description.secured(api.openapi(), open_to_all)
    app = guards.authorised(api, settings.token, open_to_all)
    app = guards.addressed(app, settings.known_as)
    app = guards.patient(app)
    app = guards.measured(app, metrics, frozenset({HEALTH, PREDICT, INFO, METRICS, OPENAPI, *page_files()}))
    return guards.safe(app)


def _lifespan(models: Models, on_loaded: Callable[[HeadstartError | None], None], load_first: bool) -> Any:
    async def load() -> bool:
        try:
            await models.load()
        except HeadstartError as error:
            on_loaded(error)
            return False
        except Exception as error:  # noqa: BLE001 - a server without a model must not go on as if it were loading
            on_loaded(ModelError(f"a model cannot be loaded: {type(error).__name__}: {error}"))
            return False
        on_loaded(None)
        return True

    async def load_and_watch() -> None:
        if models.are_ready or await load():
            await models.watch()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if load_first:
            await load()
        task = asyncio.create_task(load_and_watch())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await models.close()

    return lifespan


def _add_answers(api: FastAPI, settings: Settings, models: Models, room: Room, metrics: Metrics) -> None:
    responses = description.answers(
        description.ANSWERS, "What is in the pictures.", 400, 401, 404, 408, 413, 415, 422, 503
    )

    @api.post(PREDICT, responses=responses, openapi_extra=description.PICTURES, response_class=Response)
    async def predict(
        request: Request,
        explain: Annotated[bool, Query(description="Also show where the evidence for the label lies.")] = False,
        model: Annotated[str | None, Query(description="Which model, where there are several.")] = None,
        coverage: Annotated[
            Coverage | None, Query(description="How often sets hold the truth; 0.95 unless given.")
        ] = None,
        sets: Annotated[Sets | None, Query(description="Which kind of sets; threshold unless given.")] = None,
        wanted_accuracy: Annotated[
            Wanted | None, Query(description="Mark answers as unsure, so that the others are right so often.")
        ] = None,
    ) -> Response:
        """Say what is in one picture or in many."""
        asked = answers.asked_for(coverage, sets, wanted_accuracy)
        with models.use(model) as used, room.request() as share:
            if explain and not used.pipeline.explains:
                raise Refused(422, "there are no maps for this kind of network; ask without explain=true.")
            share.expect_room()
            pictures = await uploads.receive_pictures(request.receive, request.headers, settings.limits, share)
            share.take_pictures(len(pictures))
            futures = [used.pipeline.ask(upload, asked, explained=explain) for upload in pictures]
            del pictures
            said = await _all(futures, request.receive, settings.limits.seconds)
            share.answered = len(said)
        for one in said:
            strange = one.get("none_of_these", {}).get("flag", False)
            outcome = "unreadable" if "error" in one else "strange" if strange else "answered"
            metrics.picture(used.name, outcome, one.get("label"))
        return _as_response(used.name, said)


async def _all(futures: list[Any], receive: uploads.Receive, seconds: float) -> list[Answer]:
    """The answers, in order; those that have not begun are given up where nobody waits for them any more.

    Raises:
        Refused: they took longer than `seconds` (503).
        Gone: the client hung up.
    """

    async def hang_up() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    replies: asyncio.Future[Any] = asyncio.gather(*map(asyncio.wrap_future, futures))
    gone: asyncio.Future[Any] = asyncio.ensure_future(hang_up())
    try:
        done, _ = await asyncio.wait({replies, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if replies in done:
            return list(replies.result())
        if gone in done:
            raise uploads.Gone
        raise Refused(503, f"no answer within {seconds:g} s; try again, with fewer pictures.", retry_after=5)
    finally:
        replies.cancel()
        replies.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # else asyncio complains
        gone.cancel()


def _as_response(model: str, said: list[Answer]) -> Response:
    """200 where any picture could be read; else 413 where all are too large, and 422."""
    kinds = [one.pop("kind", None) for one in said]
    if None in kinds:
        return _json({"model": model, "predictions": said})
    why = str(said[0]["error"]) if len(said) == 1 else f"none of the {len(said)} pictures could be read."
    return _json({"error": why, "predictions": said}, 413 if set(kinds) == {"too_large"} else 422)


def _add_state(api: FastAPI, settings: Settings, models: Models, metrics: Metrics) -> None:
    ready = description.answers(description.HEALTH, "It is ready.", 503)

    @api.get(HEALTH, responses=ready, response_class=Response)
    async def health() -> Response:
        """Say whether the models are loaded and have answered once."""
        if models.are_ready:
            return _json({"status": "ready"})
        return _json({"status": "loading", "error": "the models are being loaded."}, 503, {"retry-after": "1"})

    @api.get(
        INFO,
        responses=description.answers(description.INFO, "The models and limits.", 400, 401),
        response_class=Response,
    )
    async def info() -> Response:
        """Say which models there are, how good they are, and what is accepted."""
        return _json({"models": models.facts(), "limits": settings.limits.to_json(), "version": __version__})

    as_text = description.answers({"type": "string"}, "Prometheus's text format.", 400, 401, kind="text/plain")

    @api.get(METRICS, responses=as_text, response_class=Response)
    async def counts() -> Response:
        """Give the counts, for Prometheus."""
        return Response(metrics.text(), headers={"content-type": CONTENT_TYPE})

    described = description.answers({"type": "object"}, "OpenAPI.", 400, 401)

    @api.get(OPENAPI, responses=described, response_class=Response)
    async def openapi() -> Response:
        """Describe all this for programs."""
        return _json(api.openapi())


def _add_files(api: FastAPI) -> None:
    async def file(request: Request) -> Response:
        found = page_files()[request.url.path]
        return Response(found.content, headers={"content-type": found.kind})

    for path in page_files():
        api.add_route(path, file, include_in_schema=False)


def _add_errors(api: FastAPI) -> None:
    """Every error as JSON, in words."""

    @api.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        later = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
        return _json({"error": error.why}, error.status, later)

    @api.exception_handler(uploads.Gone)
    async def gone(_: Request, __: uploads.Gone) -> Response:
        return _json({"error": "the client hung up."}, 400)  # which nobody reads

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        found = [f"{one['loc'][-1]}: {one['msg']}" for one in error.errors()]
        return _json({"error": "; ".join(found)}, 422)

    @api.exception_handler(HTTPException)
    async def known(_: Request, error: HTTPException) -> Response:
        return _json({"error": str(error.detail)}, error.status_code, dict(error.headers or {}))

    @api.exception_handler(Exception)
    async def unknown(_: Request, __: Exception) -> Response:  # uvicorn logs it
        return _json({"error": "a fault inside the server; its log says more."}, 500)


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    # ASCII, as a class may be called after a folder whose name is not Unicode.
    body = json.dumps(content, allow_nan=False).encode()
    return Response(body, status, {"content-type": "application/json", **(headers or {})})
