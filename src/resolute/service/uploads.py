"""Requests taken apart before a route sees them. Nothing of them is passed over.

Forms stay in memory: no part of an upload is written to a temporary file.
"""

import dataclasses
import json
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import aclosing
from typing import Any, get_args, get_origin

from resolute.service.names import Field, check_fields
from resolute.service.problem import Problem

# Keys, cameras and times; the images are counted apart.
_MOST_FIELDS = 256
_LONGEST_FIELD = 4096


def strict_route(*, max_files: int, max_bytes: int) -> Any:
    """Make the class of routes that read requests this way.

    Args:
        max_files: images per request.
        max_bytes: size of a request; the guard has refused what is larger.

    Returns:
        A sub-class of FastAPI's ``APIRoute``.
    """
    from fastapi import Request, Response
    from fastapi.routing import APIRoute
    from starlette.formparsers import FormParser, MultiPartException, MultiPartParser

    class Parser(MultiPartParser):
        spool_max_size = max_bytes

    # What was read and checked is what FastAPI gets.
    class ReadRequest(Request):
        content: Any = None

        async def form(self, **_: Any) -> Any:  # type: ignore[override]
            return self.content

        async def json(self) -> Any:
            return self.content

    async def read_form(request: Request) -> Any:
        kind = _kind_of(request.headers)
        try:
            async with aclosing(request.stream()) as stream:
                if kind == "multipart/form-data":
                    parser: Any = Parser(
                        request.headers, stream, max_files=max_files, max_fields=_MOST_FIELDS,
                        max_part_size=_LONGEST_FIELD,
                    )  # fmt: skip
                elif kind == "application/x-www-form-urlencoded":
                    parser = FormParser(request.headers, stream)
                else:
                    raise Problem(415, "unsupported_type", "expected multipart/form-data")
                return await parser.parse()
        except MultiPartException as error:
            raise Problem(400, "bad_request", f"form: {error.message.lower()}") from None
        except (ValueError, LookupError):  # of older parsers, at damaged forms and encodings
            raise Problem(400, "bad_request", "form: invalid multipart data") from None

    class StrictRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()
            taken = _fields_of(self.dependant)
            places = {field.place for field in taken.values()}

            async def handle_strictly(request: Request) -> Response:
                check_fields(request.query_params.multi_items(), taken, place="URL")
                read = ReadRequest(request.scope, request.receive)
                if "form" in places:
                    read.content = await read_form(read)
                    try:
                        check_fields(read.content.multi_items(), taken, place="form")
                    except Problem:
                        await read.content.close()
                        raise
                elif "JSON" in places:
                    read.content = _read_json(read.headers, await read.body(), taken)
                    check_fields(read.content.items(), taken, place="JSON")
                elif _has_body(read.headers):
                    raise _bad("expected the fields in the URL, got a body; with curl add -G")
                return await handle(read)

            return handle_strictly

    return StrictRoute


def _fields_of(dependant: Any) -> dict[str, Field]:
    from fastapi import params

    taken = {
        field.alias: Field(place="URL", is_many=_is_list(field.field_info.annotation))
        for field in dependant.query_params
    }
    for field in dependant.body_params:
        info = field.field_info
        if isinstance(info, params.Form):
            taken[field.alias] = Field(
                place="form",
                is_many=_is_list(info.annotation),
                is_file=isinstance(info, params.File),
            )
        else:
            names = [part.name for part in dataclasses.fields(info.annotation)]
            taken |= dict.fromkeys(names, Field(place="JSON"))
    return taken


def _is_list(hint: Any) -> bool:
    return any(get_origin(part) is list for part in (hint, *get_args(hint)))


def _kind_of(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _has_body(headers: Mapping[str, str]) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _read_json(headers: Mapping[str, str], body: bytes, names: Iterable[str]) -> dict[str, Any]:
    if _kind_of(headers) != "application/json":
        raise Problem(
            415, "unsupported_type",
            "expected application/json; with curl add -H 'Content-Type: application/json'",
        )  # fmt: skip
    wanted = f"expected a JSON object with {', '.join(names)}, got"
    if not body:
        raise _bad(f"{wanted} nothing")
    try:
        document = json.loads(body, object_pairs_hook=_once_each)
    except json.JSONDecodeError as error:
        raise _bad(
            f"{wanted} text that goes wrong at character {error.pos + 1}; names and texts stand in "
            "double quotes, and every bracket is closed"
        ) from None
    except (ValueError, RecursionError):  # no UTF-8, a number too long, brackets too deep
        raise _bad(f"{wanted} what cannot be read as JSON") from None
    if not isinstance(document, dict):
        raise _bad(f"{wanted} no object; it stands in curly brackets")
    return document


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Of a name that comes twice, the parser keeps the last value alone.
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _bad("expected each name of the JSON once, got one twice")
    return found


def _bad(message: str) -> Problem:
    return Problem(422, "bad_value", message)
