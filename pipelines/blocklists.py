"""Refuse a run whose block lists are missing, broken or cannot be held against its pictures.

It fails closed, before anything is downloaded: a list that cannot do its work is no list.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence

from curate.core.errors import ConfigError
from curate.core.withheld import BLOCKLIST
from curate.stages.matching.blocklist_config import HARM, ListConfig
from curate.stages.matching.hash_lists import HashList, load_list
from pipelines.config import RunConfig
from pipelines.request import Request

logger = logging.getLogger(__name__)

_BEFORE = {"ingest", "annotate", BLOCKLIST}  # stages after which it would be too late


def check_blocklists(request: Request) -> None:
    """Read all lists and hold them against what the run will measure.

    Raises:
        ConfigError: `require_blocklist` without a list of known harm, PDQ hashes without pdq, MD5
            or SHA-1 without the files they are of, a hook that is no program.
        DataError: a list is missing, empty, or has a line that is no entry.
    """
    config = request.config
    _check_required(config)
    _check_hook(config.blocklist.on_hit)
    if not config.blocklist.lists or not _BEFORE & set(request.chosen):
        return
    lists = [load_list(name, item) for name, item in config.blocklist.lists.items()]
    for item in lists:
        if item.unmatchable:
            logger.warning("%s", item.describe())
    if config.require_blocklist and not _have_hashes(lists):
        raise ConfigError(
            "require_blocklist: must have a hash of known harm, got lists without any; give "
            "another list or set require_blocklist=false"
        )
    _check_measured(config, lists)


def _check_required(config: RunConfig) -> None:
    harmful = _harmful(config.blocklist.lists)
    if config.require_blocklist and not harmful:
        others = ", ".join(config.blocklist.lists) or "no list"
        raise ConfigError(
            f"require_blocklist: must have a list of purpose harm, got {others}; set "
            "blocklist.lists.NAME.path and blocklist.lists.NAME.purpose=harm"
        )


def _harmful(lists: Mapping[str, ListConfig]) -> list[str]:
    return [name for name, item in lists.items() if item.purpose == HARM]


def _have_hashes(lists: Sequence[HashList]) -> bool:
    return any(item.digests for item in lists if item.config.purpose == HARM)


def _check_hook(on_hit: Sequence[str]) -> None:
    if on_hit and shutil.which(on_hit[0]) is None:
        raise ConfigError(
            f"blocklist.on_hit: must begin with a program, got {on_hit[0]!r}, which is none here; "
            "write its path"
        )


def _check_measured(config: RunConfig, lists: Sequence[HashList]) -> None:
    """Refuse hashes that the run will not have to compare with."""
    for item in lists:
        key = f"blocklist.lists.{item.name}"
        if "pdq" in item.digests:
            annotators = config.annotate.annotators
            if "annotate" not in config.stages:
                raise ConfigError(
                    f"{key}: has PDQ hashes and needs stage annotate, which this pipeline has not; "
                    "add annotate to stages"
                )
            if annotators and "pdq" not in annotators:
                raise ConfigError(
                    f"{key}: has PDQ hashes and needs pdq among annotate.annotators, got "
                    f"{', '.join(annotators)}; add it"
                )
        kinds = [kind for kind in ("md5", "sha1") if kind in item.digests]
        if kinds and config.ingest.resize_px > 0:
            raise ConfigError(
                f"{key}: has {kinds[0]} hashes and needs files as they came, got "
                f"ingest.resize_px={config.ingest.resize_px}; set it to 0"
            )
