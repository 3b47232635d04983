"""Run the server until it is told to stop."""

import asyncio
import logging
import signal
import socket
from collections import Counter
from types import FrameType
from typing import TYPE_CHECKING

from resolute.core.errors import ConfigError
from resolute.service.app import build_app
from resolute.service.config import ServeConfig, check_access
from resolute.service.desk import Desk
from resolute.service.events import fields
from resolute.service.meters import missing
from resolute.service.token import Token

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol

# Connections beyond those worked on: browsers keep some open.
_MORE_CONNECTIONS = 512
_PATIENCE_S = 30
# Connections of one address; a proxy on this machine has those of all.
_MOST_OF_ONE = 64
_OWN = ("127.0.0.1", "::1")
_LOG = logging.getLogger(__name__)


def serve(desk: Desk, *, token: Token | None = None) -> None:
    """Serve until SIGTERM or SIGINT; finish what runs, then close the gallery.

    Args:
        desk: does the work.
        token: that requests must bring; None for none.

    Raises:
        ConfigError: if others could connect without a token, the address cannot be had, or
            uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise ConfigError(missing(error)) from None
    config = desk.config
    check_access(config, has_token=token is not None)
    app = build_app(desk, token=token)
    listener = _listen(config)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=impatient(config),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=config.behind_proxy,
            forwarded_allow_ips="127.0.0.1",
            limit_concurrency=config.max_open + _MORE_CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=_PATIENCE_S,
            ws="none",
        )
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    # Its lines would hold query strings, and with them keys.
    logging.getLogger("uvicorn.access").disabled = True
    # uvicorn stops at these signals and then raises them again, for whoever handled them before:
    # this one takes them as done.
    before = {s: signal.signal(s, _handled) for s in (signal.SIGTERM, signal.SIGINT)}
    port = listener.getsockname()[1]
    _LOG.info(
        "serving",
        extra=fields(
            url=f"http://{f'[{config.host}]' if ':' in config.host else config.host}:{port}/",
            images=len(desk.gallery), token=token is not None, read_only=config.read_only,
        ),
    )  # fmt: skip
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        listener.close()
    _LOG.info("stopped")


def impatient(config: ServeConfig) -> type["H11Protocol"]:
    """Return uvicorn's protocol with limits: to the time a head takes, and to one address.

    The guard's clock starts with the head. A connection that never ends one would be open for
    ever, and enough of them would shut out everybody [ours].

    Args:
        config: gives the seconds.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    connected: Counter[str] = Counter()

    class Impatient(H11Protocol):
        """Closes what sends no whole head in time, and what one address opens beyond its share."""

        _waiting: asyncio.TimerHandle | None = None
        _address = ""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._address = (self.client or ("",))[0]
            connected[self._address] += 1
            if connected[self._address] > _MOST_OF_ONE and self._address not in _OWN:
                transport.abort()
                return
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            connected[self._address] -= 1
            if not connected[self._address]:
                del connected[self._address]
            self._rest()
            super().connection_lost(exc)

        def _watch(self) -> None:
            is_at_work = self.cycle is not None and not self.cycle.response_complete
            if is_at_work:
                self._rest()
            elif self._waiting is None and not self.transport.is_closing():
                self._waiting = self.loop.call_later(config.body_timeout_s, self.transport.abort)

        def _rest(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

    return Impatient


def _listen(config: ServeConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
        listener.listen()  # now: who reads the address in the log is let wait, not refused
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {config.host} port {config.port}: {error.strerror or error}; "
            "choose another with --port"
        ) from None
    return listener


def _handled(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    return
