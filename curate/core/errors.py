"""List the errors a user can meet; a message is one line: field or file, rule, value, remedy.

    CurateError              anything below; the command line prints it in one line and exits 2
    |-- ConfigError          a config field, a preset or an override
    |-- DataError            an input file, table or picture folder
    |-- ShardError           a shard that breaks the format's rules
    |-- StoreError           a folder or object store that cannot be reached, read or written
    |-- StageError           a stage that cannot run or has failed
    `-- ModelError           weights that are missing, of the wrong kind or unsafe to load

`SampleError` is not part of the tree: it never stops a run, it becomes one row's status.
"""

from __future__ import annotations


class CurateError(Exception):
    """Carry a one-line message: `<field or file>: <rule>, got <value>; <what to do>`."""


class ConfigError(CurateError):
    """Report a config field, preset or override that breaks a rule."""


class DataError(CurateError):
    """Report an input (table, folder, archive) that cannot be used."""


class ShardError(CurateError):
    """Report a shard that breaks the rules of the format."""


class StoreError(CurateError):
    """Report a folder or object store that cannot be reached, read or written."""


class StageError(CurateError):
    """Report a stage that cannot run or has failed."""


class ModelError(CurateError):
    """Report weights that are missing, of the wrong kind or unsafe to load."""


class SampleError(Exception):
    """Fail one sample with a status that becomes a column value.

    Args:
        status: short snake_case name of the failure, e.g. "not_image".
        detail: what was seen, for the `error` column.
    """

    def __init__(self, status: str, detail: str = "") -> None:
        super().__init__(f"{status}: {detail}" if detail else status)
        self.status = status
        self.detail = detail


# What one bad picture raises in PIL, numpy and the models. ImportError, NameError, MemoryError and
# the like are faults of the program or the machine and are never taken for a sample's.
SAMPLE_FAULTS = (SampleError, OSError, ValueError, ArithmeticError)
