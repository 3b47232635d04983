"""``resolute serve``: search a gallery over HTTP, by page or program."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from resolute.cli.overrides import parse
from resolute.core.config import attribute_texts
from resolute.core.errors import ConfigError
from resolute.retrieval.place import is_server
from resolute.service.config import ServeConfig, check_access
from resolute.service.token import find_token

_VALUES = ("host", "port", "max_upload_mb", "rate", "audit_days")


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Parse the words and serve.

    Args:
        parser: empty parser of this verb.
        words: what follows the verb.

    Returns:
        The exit code.

    Raises:
        ConfigError: if the gallery lies on a server.
    """
    parser.usage = "resolute serve GALLERY --model RUN [--port 8765] [--token-file FILE] [...]"
    parser.epilog = (
        "The token comes from --token-file or the variable RESOLUTE_TOKEN, never from the command "
        "line, where every user of the machine could read it. Stop with Ctrl-C or SIGTERM."
    )
    options = _options(parser, words)
    if is_server(options.gallery):
        raise ConfigError(
            f"{options.gallery}: expected a folder of resolute index, serve takes no gallery on a "
            "Qdrant server; search that one with resolute search, or index the images into a folder"
        )
    config = ServeConfig(
        **{name: getattr(options, name) for name in _VALUES},
        allowed_hosts=tuple(options.allow_host),
        read_only=options.read_only,
        behind_proxy=options.behind_proxy,
    )
    token = find_token(options.token_file, os.environ)
    check_access(config, has_token=token is not None)

    from resolute.engine.memory import keep_freed_memory
    from resolute.inference.load import load
    from resolute.service.desk import Desk
    from resolute.service.events import log_to
    from resolute.service.server import serve

    keep_freed_memory()
    log_to(sys.stderr)
    model = load(options.model, device=options.device, runtime=options.runtime)
    desk = Desk(options.gallery, model, config=config, audit_folder=options.audit)
    try:
        serve(desk, token=token)
    finally:
        desk.close()
    return 0


def _options(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    texts = attribute_texts(ServeConfig)
    defaults = ServeConfig()
    add = parser.add_argument
    add("gallery", metavar="GALLERY", help="folder of resolute index")
    add("--model", required=True, metavar="RUN", help="run folder, exported file or shipped name")
    add("--runtime", default="", help="of an exported file: onnxruntime or openvino")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    for name in _VALUES:
        value = getattr(defaults, name)
        text = f"{texts[name]} (default: {value:g})" if name != "host" else texts[name]
        option = f"--{name.replace('_', '-')}"
        add(option, type=type(value), default=value, metavar=name.upper(), help=text)
    add("--token-file", type=Path, metavar="FILE", help="its one line: SECRET or NAME:SECRET")
    add("--audit", type=Path, metavar="DIR", help="audit log (default: GALLERY.audit beside it)")
    add("--allow-host", action="append", default=[], metavar="NAME", help=texts["allowed_hosts"])
    add("--read-only", action="store_true", help=texts["read_only"])
    add("--behind-proxy", action="store_true", help=texts["behind_proxy"])
    return parse(parser, words)
