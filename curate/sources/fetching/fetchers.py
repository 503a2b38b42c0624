"""List the fetchers that `ingest.fetcher` can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from curate.sources.config import IngestConfig
from curate.sources.fetching.fetcher import Fetcher


def make_fetcher(config: IngestConfig) -> Fetcher:
    """Make the fetcher that the config names; a worker keeps one for all its tasks."""
    return FETCHERS[config.fetcher](config)


def _make_vetted(config: IngestConfig) -> Fetcher:
    from curate.sources.fetching.vetted_fetcher import VettedFetcher

    return VettedFetcher(config)


def _make_img2dataset(config: IngestConfig) -> Fetcher:
    from curate.sources.fetching.img2dataset import Img2datasetFetcher

    return Img2datasetFetcher(config)


FETCHERS: Mapping[str, Callable[[IngestConfig], Fetcher]] = {
    "vetted": _make_vetted,
    "img2dataset": _make_img2dataset,
}
