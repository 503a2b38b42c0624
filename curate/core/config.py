"""Merge configuration: dataclass schema < preset YAML < `key=value` on the command line.

The only OmegaConf import of the project. Presets hold values only; an unknown key is answered
with the nearest one; a value of the wrong type or out of range is a one-line `ConfigError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from curate.core.errors import ConfigError, CurateError

SchemaT = TypeVar("SchemaT")


def load_config(
    schema: type[SchemaT], presets: Sequence[Path], overrides: Sequence[str]
) -> SchemaT:
    """Build the resolved, checked config.

    Args:
        schema: frozen dataclass of dataclasses; its defaults come first.
        presets: YAML files, later ones win.
        overrides: "a.b=value" texts, later ones win.

    Raises:
        ConfigError: an unknown key, a value of the wrong type or out of range, a bad preset.
    """
    # A frozen dataclass makes OmegaConf's node read-only, which would refuse our own merges.
    merged = OmegaConf.structured(schema)
    OmegaConf.set_readonly(merged, None)
    for path in presets:
        merged = _merge(merged, lambda path=path: OmegaConf.load(path), str(path), schema)
    for text in overrides:
        if "=" not in text or text.startswith("="):
            raise ConfigError(
                f"{text}: must have the form key=value, got no key or no `=`; write e.g. seed=1"
            )
        full = _name_section(merged, text)
        merged = _merge(merged, lambda full=full: OmegaConf.from_dotlist([full]), text, schema)
    try:
        return cast(SchemaT, OmegaConf.to_object(merged))
    except CurateError:
        raise
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, CurateError):
            raise error.__cause__ from None
        raise ConfigError(_one_line(error)) from error


def to_yaml(config: Any) -> str:
    """Print a config as YAML."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def _name_section(merged: Any, text: str) -> str:
    """Read `engine=local` as `engine.name=local`: a section that has a name is set by it."""
    key, _, value = text.partition("=")
    section = OmegaConf.select(merged, key) if key.isidentifier() else None
    return (
        f"{key}.name={value}"
        if section is not None and OmegaConf.is_dict(section) and "name" in section
        else text
    )


def _merge(merged: Any, read: Any, origin: str, schema: type) -> Any:
    try:
        layer = read()
        flags = _open(merged)
        return OmegaConf.merge(flags, layer)
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError, OSError) as error:
        raise ConfigError(f"{origin}: {_explain(error, schema)}") from error


def _open(node: Any) -> Any:
    """Lift the read-only flag that frozen dataclasses put on every nested node."""
    for name in node:
        child = node._get_node(name)
        if child is not None and OmegaConf.is_dict(child):
            OmegaConf.set_readonly(child, None)
            _open(child)
    return node


def _explain(error: Exception, schema: type) -> str:
    key = getattr(error, "full_key", None)
    known = list(_dotted_names(OmegaConf.structured(schema)))
    if (
        key
        and str(key) not in known
        and type(error).__name__ in ("ConfigKeyError", "ConfigAttributeError")
    ):
        near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else "see `curate config`"
        return f"{key} is not a config key; {hint}"
    return f"{key}: {_one_line(error)}" if key else _one_line(error)


def _one_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _dotted_names(node: Any, prefix: str = "") -> Iterator[str]:
    """List every key below a config node, sections and values alike."""
    for name in node:
        yield f"{prefix}{name}"
        child = node._get_node(name)
        if OmegaConf.is_dict(child) and not child._is_none():
            yield from _dotted_names(child, f"{prefix}{name}.")
