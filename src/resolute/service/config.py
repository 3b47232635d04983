"""Settings of the server."""

from dataclasses import dataclass

from resolute.core.errors import ConfigError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """How the server listens and what it refuses.

    Attributes:
        host: address to listen on; another than loopback needs a token.
        port: to listen on; 0 takes a free one.
        allowed_hosts: further names that browsers may call the server by, of a reverse proxy.
        max_upload_mb: size of a request in MiB; an image with more is refused while it is read.
        max_images: images per request.
        max_pixels: pixels of all images of a request together [ours].
        rate: requests per minute and client that embed or change something; 0 for no limit. Others
            cost a fiftieth [ours].
        max_waiting: images that wait for the network; beyond, requests are refused with 503 [ours].
        max_open: requests with a body that are worked on at once; beyond, 503 [ours].
        body_timeout_s: time a client has to send its request.
        audit_days: age in days after which entries of the audit log are erased.
        read_only: switch adding and deleting off.
        behind_proxy: take the client's address from a reverse proxy on this machine.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    allowed_hosts: tuple[str, ...] = ()
    max_upload_mb: float = 8.0
    max_images: int = 16
    max_pixels: int = 25_000_000
    rate: float = 120.0
    max_waiting: int = 256
    max_open: int = 128
    body_timeout_s: float = 30.0
    audit_days: float = 90.0
    read_only: bool = False
    behind_proxy: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65_536:
            raise ConfigError(f"port: expected 0 to 65535, got {self.port}")
        for name in ("max_upload_mb", "max_images", "max_pixels", "max_waiting", "max_open",
                     "body_timeout_s", "audit_days"):  # fmt: skip
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name}: expected a number above 0, got {getattr(self, name)}")
        if not 0 <= self.rate < float("inf"):
            raise ConfigError(f"rate: expected 0 (no limit) or more per minute, got {self.rate}")

    @property
    def max_bytes(self) -> int:
        """Size of a request in bytes."""
        return int(self.max_upload_mb * 2**20)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in LOOPBACK

    @property
    def names(self) -> frozenset[str]:
        """Names that a request's Host header may hold, in lower case."""
        return frozenset(n.lower() for n in (*LOOPBACK, self.host, *self.allowed_hosts))


def check_access(config: ServeConfig, *, has_token: bool) -> None:
    """Refuse to open the server to others without a token.

    Args:
        config: of the server.
        has_token: whether requests must bring one.

    Raises:
        ConfigError: if somebody other than this machine could call it without one.
    """
    if has_token:
        return
    if not config.is_local:
        raise ConfigError(
            f"host {config.host}: other machines could search without a token; give --token-file "
            "FILE or RESOLUTE_TOKEN, or stay on 127.0.0.1"
        )
    if config.behind_proxy or config.allowed_hosts:
        raise ConfigError(
            "behind a proxy others can reach this server: give --token-file FILE or RESOLUTE_TOKEN"
        )
