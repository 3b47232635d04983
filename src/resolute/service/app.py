"""The application: routes of the API and the page, their schemas, the guard around them.

FastAPI is imported when an application is built, so that the package needs it only to serve.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import is_dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from resolute.core.config import attribute_texts
from resolute.core.errors import ConfigError, ReidError
from resolute.core.version import __version__
from resolute.service import schemas
from resolute.service.desk import Desk
from resolute.service.guard import App, Guard
from resolute.service.meters import missing
from resolute.service.problem import Problem, problem_of
from resolute.service.retention import keep_house
from resolute.service.token import Token

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse

PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
HOUR_S = 3600.0


def build_app(desk: Desk, *, token: Token | None = None, keep_house_s: float = HOUR_S) -> App:
    """Build the application of a desk.

    Args:
        desk: does the work; closed when the application ends.
        token: that requests must bring; None for none.
        keep_house_s: seconds between two rounds of retention; the first is before the first
            request.

    Returns:
        An ASGI application.

    Raises:
        ConfigError: if FastAPI is not installed.
    """
    try:
        from fastapi import FastAPI
        from fastapi.exceptions import RequestValidationError
        from starlette.exceptions import HTTPException

        from resolute.service.routes import api_router
    except ImportError as error:
        raise ConfigError(missing(error)) from None

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        try:
            await asyncio.to_thread(keep_house, desk)
            keeping = asyncio.create_task(_keep_house(desk, keep_house_s))
            try:
                yield
            finally:
                keeping.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await keeping
        finally:
            await asyncio.to_thread(desk.close)

    app = FastAPI(
        title="Resolute", version=__version__, lifespan=life, docs_url=None, redoc_url=None,
        description="Person search across camera resolutions: ranked candidates, never identities.",
        exception_handlers={
            ReidError: _on_problem,
            RequestValidationError: _on_invalid,
            HTTPException: _on_http,
            Exception: _on_bug,
        },
    )  # fmt: skip
    app.include_router(api_router(desk))
    _add_page(app)
    make_openapi = app.openapi
    app.openapi = lambda: _described(make_openapi(), has_token=token is not None)  # type: ignore[method-assign]
    routes = frozenset({*PAGE, *make_openapi()["paths"], "/openapi.json"})
    return Guard(app, config=desk.config, token=token, meters=desk.meters, routes=routes)


async def _keep_house(desk: Desk, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(keep_house, desk)


def _add_page(app: "FastAPI") -> None:
    from fastapi import Response

    folder = files("resolute.service").joinpath("page")

    def add(path: str, content: bytes, kind: str) -> None:
        async def serve(_: "Request") -> Response:
            return Response(content, media_type=kind)

        app.add_route(path, serve, methods=["GET"])

    for path, (name, kind) in PAGE.items():
        add(path, folder.joinpath(name).read_bytes(), kind)


def _answer(problem: Problem) -> "JSONResponse":
    from fastapi.responses import JSONResponse

    return JSONResponse(problem.document(), status_code=problem.status, headers=problem.headers)


async def _on_problem(_: "Request", error: Exception) -> "JSONResponse":
    if not isinstance(error, ReidError):
        raise error
    return _answer(problem_of(error))


async def _on_invalid(_: "Request", error: Any) -> "JSONResponse":
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or "request"
    return _answer(Problem(422, "bad_value", f"{place}: {first['msg'].lower()}"))


async def _on_http(_: "Request", error: Any) -> "JSONResponse":
    codes = {404: "not_found", 405: "wrong_method", 415: "unsupported_type"}
    code = codes.get(error.status_code, "bad_request")
    return _answer(Problem(error.status_code, code, str(error.detail).lower(), error.headers))


async def _on_bug(_: "Request", error: Exception) -> "JSONResponse":  # noqa: ARG001
    return _answer(Problem(500, "internal", "this is a bug of the server; its log says where"))


def _described(document: dict[str, Any], *, has_token: bool) -> dict[str, Any]:
    # Descriptions are the docstrings' own, so that they exist once.
    for name, schema in document.get("components", {}).get("schemas", {}).items():
        cls = getattr(schemas, name, None)
        if not is_dataclass(cls):
            continue
        schema["description"] = (cls.__doc__ or "").partition("\n")[0]
        for field, text in attribute_texts(cls).items():  # type: ignore[arg-type]
            schema["properties"][field]["description"] = text
        if name in schemas.EXAMPLES:
            schema["example"] = schemas.EXAMPLES[name]
    if has_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document
