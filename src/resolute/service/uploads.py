"""Forms that stay in memory: no part of an upload is written to a temporary file."""

from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

# Keys, cameras and times; the images are counted apart.
_MOST_FIELDS = 256
_LONGEST_FIELD = 4096


def form_route(*, max_files: int, max_bytes: int) -> Any:
    """Make the class of routes that read forms this way.

    Args:
        max_files: images per request.
        max_bytes: size of a request; the guard has refused what is larger.

    Returns:
        A sub-class of FastAPI's ``APIRoute``.
    """
    from fastapi import Request, Response
    from fastapi.routing import APIRoute
    from starlette.exceptions import HTTPException
    from starlette.formparsers import FormParser, MultiPartException, MultiPartParser

    class Parser(MultiPartParser):
        spool_max_size = max_bytes

    # FastAPI passes on its own kind of error alone; others it words as it likes.
    class FormRequest(Request):
        async def form(self, **_: Any) -> Any:  # type: ignore[override]
            kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
            try:
                async with aclosing(self.stream()) as stream:
                    if kind == "multipart/form-data":
                        parser: Any = Parser(
                            self.headers, stream, max_files=max_files, max_fields=_MOST_FIELDS,
                            max_part_size=_LONGEST_FIELD,
                        )  # fmt: skip
                    elif kind == "application/x-www-form-urlencoded":
                        parser = FormParser(self.headers, stream)
                    else:
                        raise HTTPException(415, "expected multipart/form-data")
                    return await parser.parse()
            except MultiPartException as error:
                raise HTTPException(400, f"form: {error.message}") from None

    class FormRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_form(request: Request) -> Response:
                return await handle(FormRequest(request.scope, request.receive))

            return handle_form

    return FormRoute
