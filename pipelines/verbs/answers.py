"""Share what every verb needs: exit codes, `key=value` options, tables of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from curate.core.errors import ConfigError

EXIT_OK, EXIT_USER, EXIT_QUARANTINED, EXIT_INTERRUPTED, EXIT_ENDED = 0, 2, 3, 130, 143
EXIT_UNREAD = 141  # as SIGPIPE ends other tools


def read_options(arguments: Sequence[str], defaults: Mapping[str, str]) -> dict[str, str]:
    """Read key=value texts of the verbs that take no config."""
    options = dict(defaults)
    for text in arguments:
        name, equals, value = text.partition("=")
        if not equals or name not in defaults:
            raise ConfigError(
                f"{text}: must be one of {', '.join(f'{key}=' for key in defaults)}, got {name!r}; "
                "see `curate --help`"
            )
        options[name] = value
    return options


def read_number(options: Mapping[str, str], name: str) -> float:
    """Read an option that is a number >= 0."""
    try:
        number = float(options[name])
    except ValueError:
        number = -1.0
    if number < 0:
        raise ConfigError(f"{name}: must be a number >= 0, got {options[name]!r}; set {name}=2")
    return number


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows with aligned columns; the last one is free text."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        print("  ".join([*cells, row[-1]]))


def shorten(value: object) -> str:
    """Cut a value to what fits on a line."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 160 else text[:157] + "..."
