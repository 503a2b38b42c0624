"""Configure how URLs are fetched: what is refused, what is waited for, what is respected."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from curate.core.errors import ConfigError

FETCHER_NAMES = ("vetted", "img2dataset")

_POSITIVE = (
    "max_bytes", "memory_bytes", "num_threads", "timeout_s", "deadline_s", "stall_s",
    "host_concurrency", "host_failures",
)  # fmt: skip
_NOT_NEGATIVE = (
    "retries", "backoff_s", "max_redirects", "host_delay_s", "max_host_delay_s",
    "max_retry_after_s", "dns_ttl_s",
)  # fmt: skip


def _free(default: Any) -> Any:
    """Make a field that changes no byte of the output."""
    return field(default=default, metadata={"fingerprint": False})


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchConfig:
    """Say how URLs are fetched. Where no source is named, a default was chosen by us.

    Args:
        fetcher: "vetted" (own, the default) or "img2dataset", which cannot check where redirects
            lead and therefore needs allow_private.
        allow_private: let URLs, names and redirects lead to private addresses.
        max_bytes: larger bodies are refused, before they are read where Content-Length tells.
        memory_bytes: of bodies that wait for their turn; further ones wait in files.
        num_threads: downloads at once in one worker.
        timeout_s: seconds a host may be silent, while connecting or while sending.
        deadline_s: seconds one URL may take on the network in all, redirects and retries included;
            waiting for its turn at a polite pace does not count.
        retries: how often a URL is tried again after a failure of the moment.
        backoff_s: seconds before the first retry, doubled before each further one.
        max_redirects: Source: img2dataset (urllib) follows as many.
        stall_s: seconds without any progress after which img2dataset is started again.
        host_concurrency: requests at once to one host, per worker. Source: browsers' limit.
        host_delay_s: least seconds between requests to one host, per worker.
        max_host_delay_s: most of a robots.txt's Crawl-delay that is honoured.
        max_retry_after_s: most of a Retry-After that is waited for within a run.
        host_failures: rows of one host in a row that fail to reach it before the rest is given up.
        dns_ttl_s: how long a looked-up name is remembered.
        respect_robots: obey robots.txt (RFC 9309).
        respect_tdm: obey TDM reservations, in headers and in /.well-known/tdmrep.json.
        disallowed_directives: of X-Robots-Tag; each opts a picture out.
        user_agent: product token that robots.txt and X-Robots-Tag may address.
        user_agent_url: where a host's owner reads who you are; sent with every request, set yours.
        proxy: HTTP proxy all downloads go through, e.g. "http://127.0.0.1:8080"; it resolves the
            names and is trusted with them.
    """

    fetcher: str = "vetted"
    allow_private: bool = False
    max_bytes: int = 2**25  # 32 MiB, an 8k x 8k JPEG of high quality
    memory_bytes: int = _free(2**26)
    num_threads: int = _free(64)
    timeout_s: float = 10.0
    deadline_s: float = 30.0
    retries: int = 1
    backoff_s: float = _free(0.5)
    max_redirects: int = 10
    stall_s: int = _free(120)
    host_concurrency: int = _free(6)
    host_delay_s: float = _free(0.0)
    max_host_delay_s: float = _free(2.0)
    max_retry_after_s: float = 30.0
    host_failures: int = 5
    dns_ttl_s: float = _free(300.0)
    respect_robots: bool = True
    respect_tdm: bool = True
    disallowed_directives: list[str] = field(
        default_factory=lambda: ["noai", "noimageai", "noml", "noindex", "noimageindex"]
    )
    user_agent: str = "latentmill"
    user_agent_url: str = ""
    proxy: str = _free("")

    def __post_init__(self) -> None:
        if self.fetcher not in FETCHER_NAMES:
            raise ConfigError(
                f"ingest.fetcher: must be one of {', '.join(FETCHER_NAMES)}, "
                f"got {self.fetcher!r}; fix the name"
            )
        if self.fetcher == "img2dataset" and not self.allow_private:
            raise ConfigError(
                "ingest.fetcher: img2dataset follows redirects to any address, so it needs "
                "ingest.allow_private=true, got false; set it where nothing private can be "
                "reached, or use ingest.fetcher=vetted"
            )
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ConfigError(
                    f"ingest.{name}: must be > 0, got {getattr(self, name)}; raise it"
                )
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise ConfigError(
                    f"ingest.{name}: must be >= 0, got {getattr(self, name)}; raise it"
                )
        self._check_header_texts()

    def _check_header_texts(self) -> None:
        """Refuse what would not survive in a User-Agent header."""
        token = self.user_agent
        if (
            not token
            or not token.isascii()
            or not token.replace("-", "").replace("_", "").isalpha()
        ):
            # Source: RFC 9309, section 2.2.1: product tokens are letters, "-" and "_".
            raise ConfigError(
                f"ingest.user_agent: must be a token of letters, - and _, got {token!r}; "
                "put the version and the address into ingest.user_agent_url"
            )
        if not self.user_agent_url.isascii() or not self.user_agent_url.isprintable():
            raise ConfigError(
                f"ingest.user_agent_url: must be printable ASCII, got {self.user_agent_url!r}; "
                "encode it"
            )
