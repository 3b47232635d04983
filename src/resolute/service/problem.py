"""What a request is refused with: a status, a code for programs, a sentence for people."""

import re
from collections.abc import Mapping
from typing import Any

from resolute.core.errors import DatasetError, GalleryError, ReidError

# A path that starts at the root of this machine, up to its last part. Keys are relative.
_PATH = re.compile(r"(?<![\w.:/-])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\:'\"]+[/\\])+")


class Problem(ReidError):
    """A request that cannot be served.

    Args:
        status: of HTTP, 400 to 599.
        code: a word for programs, see docs/serve.md.
        message: what was expected, what came, the remedy.
        headers: further headers of the answer.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def document(self) -> dict[str, Any]:
        """Return the body of the answer."""
        return {"error": {"code": self.code, "message": self.message}}


def problem_of(error: ReidError) -> Problem:
    """Word an error of the library for a client.

    Args:
        error: raised while a request was served.

    Returns:
        The problem; no path of this machine is left in its message.
    """
    if isinstance(error, Problem):
        return error
    message = without_paths(str(error))
    if isinstance(error, DatasetError):
        return Problem(422, "bad_image", message)
    if isinstance(error, GalleryError):
        return Problem(409, "gallery", message)
    return Problem(422, "bad_value", message)


def without_paths(text: str) -> str:
    """Cut paths of this machine down to their last part.

    Args:
        text: a message.

    Returns:
        The text without folders.

    Examples:
        >>> without_paths("/srv/faces/gallery/manifest.json: damaged; key 'cam0/7.png'")
        "manifest.json: damaged; key 'cam0/7.png'"
    """
    return _PATH.sub("", text)
