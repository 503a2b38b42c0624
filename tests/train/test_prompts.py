import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.core.errors import DataError
from train.prompts import load_prompts

KEY = "0123456789abcdef0123"


def test_lines_of_a_txt_file_are_prompts(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("a red circle\n\n a blue star \n")
    prompts = load_prompts(path, 64, 48)
    assert [(p.text, p.height, p.width) for p in prompts] == [
        ("a red circle", 64, 48),
        ("a blue star", 64, 48),
    ]
    assert prompts[0].key != prompts[1].key


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_rows_may_name_key_and_size(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    rows = [{"prompt": "a", "key": KEY, "height": 48, "width": 80}, {"prompt": "b"}]
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    first, second = load_prompts(path, 64, 64)
    assert (first.key, first.height, first.width) == (KEY, 48, 80)
    assert (second.height, second.width) == (64, 64)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", b"prompt\na\n", "sample.prompts must be a .parquet, .jsonl, .txt file"),
        ("absent.txt", None, "sample.prompts must be a"),
        ("p.txt", b"", "must hold prompts with distinct keys, got 0 prompts"),
        ("p.txt", b"a\na\n", "got 2 prompts with 1 keys"),
        ("p.txt", b"\xff\xfe\xff", "must be a readable .txt file"),
        ("p.jsonl", b"{", "must be a readable .jsonl file"),
        ("p.jsonl", b"[1]\n", "row 0 must have a text in `prompt`, got None"),
        ("p.jsonl", b'{"prompt": " "}\n', "row 0 must have a text in `prompt`"),
        ("p.jsonl", b'{"prompt": "a", "key": "x/y"}\n', "row 0 needs a key of 20 hex characters"),
        ("p.jsonl", b'{"prompt": "a", "height": "9"}\n', "whole-number sides"),
        ("p.parquet", b"PAR1", "must be a readable .parquet file"),
    ],
)
def test_bad_files_are_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_prompts(path, 64, 64)
    assert "\n" not in str(caught.value)
