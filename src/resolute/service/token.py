"""The one token of a server: where it comes from, and how it is compared."""

import hashlib
import hmac
import logging
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from resolute.core.errors import ConfigError

VARIABLE = "RESOLUTE_TOKEN"
_SHORTEST = 16
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Token:
    """What a request must bring. The secret itself is not kept.

    Attributes:
        name: what the audit log calls its bearer.
        digest: sha256 of the secret.
    """

    name: str
    digest: bytes

    @classmethod
    def of(cls, text: str, *, where: str) -> "Token":
        """Take a token from text.

        Args:
            text: the secret, or ``NAME:SECRET``.
            where: it comes from, for messages.

        Returns:
            The token.

        Raises:
            ConfigError: if the secret is shorter than 16 characters or not printable ASCII.
        """
        name, colon, secret = text.strip().rpartition(":")
        printable = secret.isascii() and secret.isprintable() and " " not in secret
        if len(secret) < _SHORTEST or not printable or (colon and not name.isidentifier()):
            raise ConfigError(
                f"{where}: expected one line SECRET or NAME:SECRET with at least {_SHORTEST} "
                "characters of secret, for example of: openssl rand -hex 32"
            )
        return cls(name or "token", _digest(secret))

    def accepts(self, header: str) -> bool:
        """Tell whether a header brings the secret; takes as long when it is almost right.

        Args:
            header: value of ``Authorization``.
        """
        scheme, _, secret = header.partition(" ")
        is_right = hmac.compare_digest(_digest(secret.strip()), self.digest)
        return is_right and scheme.lower() == "bearer"


def find_token(file: Path | None, environment: Mapping[str, str]) -> Token | None:
    """Read the token from a file or the environment; never from the command line.

    Args:
        file: with the token in its only line; None looks into the environment.
        environment: variables of the process; ``RESOLUTE_TOKEN`` may hold it.

    Returns:
        The token; None where there is none.

    Raises:
        ConfigError: if the file cannot be read or the token is too short.
    """
    if file is None:
        text = environment.get(VARIABLE, "")
        return Token.of(text, where=VARIABLE) if text else None
    try:
        is_open = bool(stat.S_IMODE(file.stat().st_mode) & 0o044)
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: token cannot be read: {error}") from None
    if is_open:
        _LOG.warning("token file can be read by other users of this machine: chmod 600")
    return Token.of(text, where=str(file))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
