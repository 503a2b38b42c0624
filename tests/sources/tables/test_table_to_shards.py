"""`curate run input=TABLE stage=ingest` over a loopback server: the shards hold what it says."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from curate.core.shard import ShardSet
from pipelines.cli import EXIT_OK, main
from tests.sources.file_server import serve


def picture(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (24, 16), (level, 0, 99)).save(stream, "JPEG", quality=80)
    return stream.getvalue()


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [row for _, table in ShardSet(out / "ingest").tables() for row in table.to_pylist()]


def test_a_folder_of_compressed_tables_becomes_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = [picture(level) for level in (0, 100, 200)]
    paths = ["/0.jpg", "/caf%C3%A9%201.jpg", "/2.jpg"]
    with serve(dict(zip(paths, data, strict=True))) as (site, asked):
        lines = [
            {"uid": "00ff" * 8, "url": f"{site}/0.jpg", "sha256": hashlib.sha256(data[0])},
            {"uid": "1" * 32, "url": f"{site}/caf\u00e9 1.jpg", "sha256": None, "score": 0.1},
            {"uid": "2" * 32, "url": f"{site}/2.jpg", "sha256": hashlib.sha256(b"another")},
            {"uid": "3" * 32, "url": f"{site}/2.jpg", "sha256": hashlib.sha256(data[2])},
            {"uid": "4" * 32, "url": f"{site}/none.jpg", "sha256": None},
            {"uid": "5" * 32, "url": "javascript:void(0)", "sha256": None},
        ]
        texts = [
            json.dumps(
                {**line, "text": "x", "sha256": line["sha256"] and line["sha256"].hexdigest()}
            )
            for line in lines
        ]
        folder = tmp_path / "parts"
        folder.mkdir()
        for name, some in (("a", texts[:4]), ("b", ["{broken", *texts[4:]])):
            (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress("\n".join(some).encode()))
        options = [f"input={folder}", f"out={tmp_path / 'out'}", "stage=ingest", "models=toy"]
        options += ["engine.name=inline", "ingest.allow_private=true", "ingest.shard_size=3"]
        monkeypatch.setattr(sys, "argv", ["curate", "run", *options])
        assert main() == EXIT_OK
        first = sorted(asked)
        assert main() == EXIT_OK
        assert sorted(asked) == first == sorted(paths)
    rows = rows_of(tmp_path / "out")
    assert [row["status"] for row in rows] == [
        "ok",
        "ok",
        "hash_mismatch",
        "repeated_row",
        "bad_row",
        "http_404",
        "bad_url",
    ]
    assert [row["source_key"] for row in rows if row["status"] != "bad_row"] == [
        line["uid"] for line in lines
    ]
    assert rows[1]["url"] == f"{site}/caf\u00e9 1.jpg"
    assert json.loads(rows[1]["fields"]) == {"score": 0.1}
    assert rows[0]["sha256"] == hashlib.sha256(data[0]).hexdigest()
    tar = (tmp_path / "out" / "ingest" / "00000.tar").read_bytes()
    table = pq.read_table(tmp_path / "out" / "ingest" / "00000.parquet").to_pylist()
    assert [tar[row["offset"] : row["offset"] + row["bytes"]] for row in table[:2]] == data[:2]
