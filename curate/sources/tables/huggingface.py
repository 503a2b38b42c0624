"""Open data sets of the Hugging Face library: from the hub, a local folder, or `save_to_disk`.

Rows come out of memory maps as Arrow, so a picture's bytes are those that were put in. No code of
a data set is ever run: `datasets` 4 and later have no loading scripts.

    hf:NAME_OR_PATH[:CONFIG][@SPLIT]   e.g. hf:lambdalabs/pokemon@train, hf:/data/saved@test
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.core.errors import DataError
from curate.sources.tables.row_block import ArrowBlock
from curate.sources.tables.row_table import Table, TablePart

PREFIX = "hf:"
_SAVED = "state.json"  # what save_to_disk writes beside the data
_SAVED_SPLITS = "dataset_dict.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetName:
    """Hold the parts of `hf:PATH[:CONFIG][@SPLIT]`; "" where one is not given."""

    path: str
    config: str = ""
    split: str = ""


def is_dataset(source: str) -> bool:
    """Tell a data set's name from a path or a URL such as hf://datasets/..."""
    return source.startswith(PREFIX) and not source.startswith("hf://")


def is_saved_dataset(folder: Path) -> bool:
    """Tell whether `save_to_disk` wrote a folder."""
    return (folder / _SAVED).is_file() or (folder / _SAVED_SPLITS).is_file()


def parse_name(source: str) -> DatasetName:
    """Take a name apart.

    Raises:
        DataError: there is no path.
    """
    rest, _, split = source.removeprefix(PREFIX).partition("@")
    path, _, config = rest.partition(":")
    if not path:
        raise DataError(f"input: must be hf:NAME[:CONFIG][@SPLIT], got {source}; add the name")
    return DatasetName(path=path, config=config, split=split)


class DatasetReader:
    """Read a data set's rows as Arrow; it can start at any row.

    Args:
        dataset: a `datasets.Dataset` in Arrow format.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.schema: pa.Schema = dataset.features.arrow_schema
        self.names: tuple[str, ...] = tuple(self.schema.names)
        self.num_rows: int = len(dataset)

    def nearest(self, row: int) -> int:
        """Give the row itself."""
        return row

    def blocks(self, row: int, batch_rows: int) -> Iterator[ArrowBlock]:
        """Yield all rows from this one on."""
        for start in range(row, self.num_rows, batch_rows):
            table: pa.Table = self._dataset[start : min(start + batch_rows, self.num_rows)]
            for batch in table.combine_chunks().to_batches():
                yield ArrowBlock(batch)


def open_dataset(source: str, revision: str) -> Table:
    """Open a data set; what the hub holds is fetched into the library's cache.

    Args:
        source: `hf:...`, or the folder that `save_to_disk` wrote.
        revision: of a data set on the hub; "" is its main branch.

    Raises:
        DataError: the library is missing, there is no such data set, configuration or split, or
            the hub cannot be reached.
    """
    name = parse_name(source) if is_dataset(source) else DatasetName(path=source)
    dataset = _load(name, revision, source).with_format("arrow")
    version = f"{dataset._fingerprint}:{revision}"
    part = TablePart(
        name=f"{name.config}@{name.split}",
        place=source,
        open=lambda: DatasetReader(dataset),
        version=lambda: version,
    )
    return Table(source, [part])


def dataset_roots(source: str) -> list[Path]:
    """List the folders that a data set's cells may name files of: its own and the caches."""
    from datasets.config import HF_DATASETS_CACHE
    from huggingface_hub.constants import HF_HUB_CACHE

    name = parse_name(source) if is_dataset(source) else DatasetName(path=source)
    own = [Path(name.path)] if Path(name.path).is_dir() else []
    return [*own, Path(HF_DATASETS_CACHE), Path(HF_HUB_CACHE)]


def _load(name: DatasetName, revision: str, source: str) -> Any:
    try:
        import datasets
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise DataError(
            f'input: {source} needs the library datasets, got none; pip install "latentmill[hf]"'
        ) from error
    datasets.disable_progress_bars()
    try:
        if is_saved_dataset(Path(name.path)):
            return _one_split(datasets.load_from_disk(name.path), name, source)
        found = datasets.load_dataset(
            name.path,
            name.config or None,
            split=name.split or None,
            revision=revision or None,
            keep_in_memory=False,
        )
    except (OSError, ValueError, pa.ArrowException, DatasetsError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"input: {source} must be a data set that can be loaded, got {said}; correct the "
            "name, or fetch it where the hub can be reached and give its folder"
        ) from error
    return found if name.split else _one_split(found, name, source)


def _one_split(found: Any, name: DatasetName, source: str) -> Any:
    """Choose the split of a data set that may have several."""
    if not isinstance(found, dict):
        return found
    if not name.split and len(found) == 1:
        return next(iter(found.values()))
    if name.split not in found:
        raise DataError(
            f"input: {source} must name one split, got {', '.join(found)}; "
            f"set input={PREFIX}{name.path}{':' if name.config else ''}{name.config}@SPLIT"
        )
    return found[name.split]
