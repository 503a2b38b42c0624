"""Find a model of the Hugging Face hub on this machine, and download it once if it is not there.

    name + revision -> commit in the cache -> its folder     (no question asked over the network)
                    -> hub, unless HF_HUB_OFFLINE is set -> cache -> its folder

Weights are safetensors; pickles and code are not downloaded. What is found is a folder like any
other, with the commit that it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef

# Weights, configs, tokenizers and chat templates, of the repository's top folder.
WANTED_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
UNWANTED_FILES = ("*/*",)
_REVISION = re.compile(r"(?!.*\.\.)[0-9A-Za-z][\w.\-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubModel:
    """Name a model of the hub; the settings of a `ModelRef` that was found by name.

    Args:
        name: "organisation/model".
        commit: 40 hex, whatever branch or tag was asked for.
    """

    name: str
    commit: str

    @property
    def identity(self) -> str:
        """Spell name and commit."""
        return f"{self.name}@{self.commit}"


def find_hub_model(
    kind: str,
    name: str,
    revision: str,
    what: str,
    *,
    cache: Path | None = None,
    endpoint: str | None = None,
) -> ModelRef:
    """Point at a model of the hub, by its folder in the cache.

    Args:
        kind: of the loader.
        name: "organisation/model".
        revision: commit, tag or branch; of a branch the cached commit stays until it is fetched
            anew with `hf download`.
        what: names the place in messages.
        cache: of the hub's library; None is its own.
        endpoint: of the hub; None is the library's.

    Raises:
        ModelError: the name or revision is malformed, the hub has no such model or refuses it, or
            it is not in the cache and cannot be asked for.
    """
    if not _REVISION.fullmatch(revision):
        raise ModelError(
            f"{what}.revision: must be a commit, tag or branch, got {revision!r}; "
            "take the commit from the model's page"
        )
    folder = _find_folder(name, revision, what, {"cache_dir": cache, "endpoint": endpoint})
    return ModelRef(kind=kind, paths=(folder,), settings=HubModel(name=name, commit=folder.name))


def _find_folder(name: str, revision: str, what: str, where: dict[str, Any]) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    options: dict[str, Any] = {
        "repo_id": name,
        "revision": revision,
        "allow_patterns": list(WANTED_FILES),
        "ignore_patterns": list(UNWANTED_FILES),
        **where,
    }
    try:
        return Path(snapshot_download(local_files_only=True, **options))
    except HFValidationError as error:
        raise ModelError(
            f"{what}.hub: must be ORGANISATION/MODEL, got {name!r}; take it from the model's page"
        ) from error
    except LocalEntryNotFoundError as error:
        if constants.HF_HUB_OFFLINE:
            raise ModelError(
                f"{what}.hub: must be in the cache {where['cache_dir'] or constants.HF_HUB_CACHE} "
                f"while HF_HUB_OFFLINE is set, got no {name} at {revision}; "
                f"run `hf download {name} --revision {revision}` where there is a network"
            ) from error
    return _download(what, options)


def _download(what: str, options: dict[str, Any]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]  # httpx's or httpx2's, by release
    )

    try:
        return Path(snapshot_download(**options))
    except (HTTPError, OSError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(
            f"{what}.hub: must be a model of the hub that this machine may download, got "
            f"{reason[:200]!r} for {options['repo_id']} at {options['revision']}; "
            "check name, revision, network and `hf auth login`"
        ) from error
