"""What stands before every request: names, origins, rates, token, sizes. Around the app, as ASGI.

A page of another site can make a browser send requests here, and a name that it controls can be
pointed at this machine. Hence a request must be addressed to a name that the server knows, and one
that changes or computes something must not come from another origin [ours].
"""

import asyncio
import json
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from resolute.service.config import ServeConfig
from resolute.service.events import fields
from resolute.service.meters import Meters
from resolute.service.problem import Problem
from resolute.service.rate import Buckets
from resolute.service.token import Token

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Read without a token: they hold nothing of the gallery.
OPEN_ROUTES = ("/", "/page.css", "/page.js", "/healthz", "/readyz", "/openapi.json")
_SAFE_METHODS = ("GET", "HEAD")
_CHEAP = 0.02
_BODIES = ("multipart/form-data", "application/x-www-form-urlencoded", "application/json")

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
_LOG = logging.getLogger(__name__)


class Guard:
    """Refuses what the app must never see, and counts and logs the rest.

    Args:
        app: what answers.
        config: limits.
        token: that requests must bring; None where only this machine can connect.
        meters: are told of every answer.
        routes: paths of the app; others are counted as one.
    """

    def __init__(
        self,
        app: App,
        *,
        config: ServeConfig,
        token: Token | None,
        meters: Meters,
        routes: frozenset[str],
    ) -> None:
        self._app = app
        self._config = config
        self._token = token
        self._meters = meters
        self._routes = routes
        self._buckets = Buckets(config.rate)
        self._num_open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event.

        Args:
            scope: of ASGI.
            receive: of ASGI.
            send: of ASGI.
        """
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        begin = time.perf_counter()
        name = secrets.token_hex(6)
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = _with_headers(message, {**_HEADERS, "X-Request-Id": name})
            await send(message)

        try:
            await self._admit(scope, receive, answer)
        except Problem as problem:
            await _refuse(problem, answer)
        finally:
            seconds = time.perf_counter() - begin
            route = scope["path"] if scope["path"] in self._routes else "other"
            self._meters.answered(route, status, seconds)
            _LOG.info(
                "request",
                extra=fields(
                    request=name,
                    method=scope["method"] if scope["method"].isalpha() else "?",
                    route=route,
                    status=status,
                    ms=round(1000 * seconds, 1),
                ),
            )

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _read_headers(scope)
        self._check_names(scope, headers)
        if scope["path"] not in OPEN_ROUTES or scope["method"] not in _SAFE_METHODS:
            self._check_rate(scope)
            self._check_token(headers)
        scope.setdefault("state", {})["who"] = self._token.name if self._token else "loopback"
        if scope["method"] in _SAFE_METHODS:
            await self._app(scope, receive, send)
            return
        if self._num_open >= self._config.max_open:
            raise Problem(
                503, "busy", f"{self._num_open} requests are worked on: try again in a moment",
                {"Retry-After": "1"},
            )  # fmt: skip
        self._num_open += 1
        try:
            body = await self._read_body(headers, receive)
            await self._app(scope, _replay(body, receive), send)
        finally:
            self._num_open -= 1

    def _check_names(self, scope: Scope, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        if _name_of(host) not in self._config.names:
            raise Problem(
                421, "unknown_host",
                "this server does not go by the name in the Host header: --allow-host NAME",
            )  # fmt: skip
        if scope["method"] in _SAFE_METHODS:
            return
        origin = headers.get("origin")
        is_foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        if is_foreign or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Problem(403, "foreign_origin", "requests of pages of other sites are refused")

    def _check_rate(self, scope: Scope) -> None:
        client = (scope.get("client") or ("",))[0]
        cost = _CHEAP if scope["method"] in _SAFE_METHODS else 1.0
        wait = self._buckets.take(client, cost)
        if wait:
            raise Problem(
                429, "rate_limited",
                f"more than {self._config.rate:g} requests per minute: wait {math.ceil(wait)} s",
                {"Retry-After": str(math.ceil(wait))},
            )  # fmt: skip

    def _check_token(self, headers: Mapping[str, str]) -> None:
        if self._token is not None and not self._token.accepts(headers.get("authorization", "")):
            raise Problem(
                401, "unauthorized", "expected the header Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )  # fmt: skip

    async def _read_body(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in _BODIES:
            raise Problem(415, "unsupported_type", f"expected one of {', '.join(_BODIES)}")
        limit = self._config.max_bytes
        size = headers.get("content-length", "")
        too_large = Problem(
            413, "too_large", f"expected a request of at most {limit / 2**20:g} MiB",
            {"Connection": "close"},
        )  # fmt: skip
        if size and (not size.isdecimal() or int(size) > limit):
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._config.body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Problem(400, "bad_request", "the connection ended within the request")
                    body += message.get("body", b"")
                    # No header is trusted: what really comes is counted.
                    if len(body) > limit:
                        raise too_large
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise Problem(
                408, "timeout", f"expected the request within {self._config.body_timeout_s:g} s",
                {"Connection": "close"},
            ) from None  # fmt: skip


def _read_headers(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower()
        if name in ("host", "origin", "authorization", "content-length") and name in headers:
            raise Problem(400, "bad_request", f"expected one header {name}, got more")
        headers[name] = value.decode("latin-1")
    return headers


def _name_of(host: str) -> str:
    # "name:port", "[::1]:port" or either without a port.
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _with_headers(message: Message, more: Mapping[str, str]) -> Message:
    given = {name.lower() for name, _ in message["headers"]}
    added = [
        (name.encode(), value.encode())
        for name, value in more.items()
        if name.lower().encode() not in given
    ]
    return {**message, "headers": [*message["headers"], *added]}


def _replay(body: bytes, receive: Receive) -> Receive:
    is_sent = False

    async def replayed() -> Message:
        nonlocal is_sent
        if is_sent:
            return await receive()
        is_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


async def _refuse(problem: Problem, send: Send) -> None:
    content = json.dumps(problem.document()).encode()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
        **problem.headers,
    }
    await send(
        {
            "type": "http.response.start",
            "status": problem.status,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": content})
