"""Look after latent stores: index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.verbs.answers import EXIT_OK, read_options


def index(arguments: Sequence[str]) -> int:
    """Make missing indexes of a latent store, or a store of tars from elsewhere."""
    from curate.core.errors import ConfigError
    from curate.core.latent_manifest import NAME
    from curate.models.packs import load_pack
    from pipelines.index_store import adopt_store, check_folder, repair_store

    folders = [Path(text) for text in arguments if "=" not in text]
    if len(folders) != 1:
        raise ConfigError(
            f"index: needs one folder, got {len(folders)}; e.g. `curate index out/demo/encode`"
        )
    options = read_options(
        [text for text in arguments if "=" in text], {"models": "", "models_folder": ""}
    )
    check_folder(folders[0])
    if (folders[0] / NAME).exists():
        made = 0
        for line in repair_store(folders[0]):
            print(line, flush=True)
            made += 1
        print(f"{made} indexes made" if made else "every index is there and fits its tar")
        return EXIT_OK
    if not options["models"]:
        raise ConfigError(
            f"models: must name the VAE of tars without {NAME}, got nothing; e.g. models=toy"
        )
    for line in adopt_store(folders[0], load_pack(options["models"], options["models_folder"])):
        print(line, flush=True)
    return EXIT_OK
