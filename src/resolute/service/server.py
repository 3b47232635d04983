"""Run the server until it is told to stop."""

import logging
import signal
import socket
from types import FrameType

from resolute.core.errors import ConfigError
from resolute.service.app import build_app
from resolute.service.config import ServeConfig, check_access
from resolute.service.desk import Desk
from resolute.service.events import fields
from resolute.service.meters import missing
from resolute.service.token import Token

# Connections beyond those worked on: browsers keep some open.
_MORE_CONNECTIONS = 512
_PATIENCE_S = 30
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
