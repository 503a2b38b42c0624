"""Choose where networks run."""

from __future__ import annotations

from curate.core.errors import ConfigError


def find_device(section: str, device: str) -> str:
    """Give the device that a config's field means.

    Args:
        section: of the config, for the message.
        device: "cpu", "cuda", or "auto" for a GPU where there is one.

    Raises:
        ConfigError: a GPU is asked for where there is none, or the name is unknown.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if has_gpu else "cpu"
    if device not in ("cpu", "cuda") or (device == "cuda" and not has_gpu):
        raise ConfigError(
            f"{section}.device: must be cpu, cuda where there is one, or auto, got {device!r}; "
            "set it to auto"
        )
    return device
