"""Run `curate convert-weights IN OUT [model=] [pretrained=] [image_text=]`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from curate.core.errors import ConfigError

OPTIONS: Mapping[str, str] = {"model": "", "pretrained": "", "image_text": ""}


def convert_weights(paths: Sequence[str], options: Mapping[str, str]) -> Iterator[str]:
    """Convert one file and yield lines that say what was written.

    Args:
        paths: source and destination.
        options: as `OPTIONS`.

    Raises:
        ConfigError: not two paths.
        ModelError: the file cannot be converted.
    """
    from curate.models.converting.conversion import Request, convert

    if len(paths) != 2:
        raise ConfigError(
            f"convert-weights: needs two paths, got {len(paths)}; "
            "write `curate convert-weights IN OUT.safetensors`"
        )
    source, out = Path(paths[0]), Path(paths[1])
    request = Request(
        source=source,
        out=out,
        architecture=options["model"],
        pretrained=options["pretrained"],
        image_text=options["image_text"],
    )
    done = convert(request)
    yield f"{out}: {done.recipe} from {source.name}; {done.note}"
    if done.kind:
        yield f"in a pack file: {{kind: {done.kind}, paths: [{out}]}}"
