"""Configure where samples come from and how they are fetched."""

from __future__ import annotations

from dataclasses import dataclass, field

from curate.core.errors import ConfigError
from curate.core.image import MAX_PIXELS


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestConfig:
    """Say where samples come from and how they are fetched.

    Args:
        source: path of a URL table, folder or tars; filled from `input`.
        shard_size: rows per shard of tables and folders.
        url_column: column of a URL table; likewise caption_column, license_column (optional).
        max_pixels: larger pictures are not decoded.
        num_threads: parallel downloads of one shard.
        timeout_s: seconds a socket may be silent.
        retries: how often img2dataset tries a URL again.
        stall_s: seconds without any progress after which img2dataset is started again.
        user_agent: token that X-Robots-Tag directives may address.
        proxy: HTTP proxy all downloads go through, e.g. "http://127.0.0.1:8080".
    """

    source: str = field(default="", metadata={"fingerprint": False})
    shard_size: int = 1000
    url_column: str = "url"
    caption_column: str = "caption"
    license_column: str = "license"
    max_pixels: int = MAX_PIXELS
    num_threads: int = field(default=32, metadata={"fingerprint": False})
    timeout_s: int = 10
    retries: int = 0
    stall_s: int = field(default=120, metadata={"fingerprint": False})
    user_agent: str = "latentmill"
    proxy: str = field(default="", metadata={"fingerprint": False})

    def __post_init__(self) -> None:
        for name in ("shard_size", "max_pixels", "num_threads", "timeout_s", "stall_s"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"ingest.{name}: must be >= 1, got {getattr(self, name)}; raise it"
                )
