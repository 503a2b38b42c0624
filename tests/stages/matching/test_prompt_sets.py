"""The prompt files of evaluation sets are read as their authors write them; faults are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curate.core.errors import DataError
from curate.stages.matching.prompt_sets import Prompt, read_prompts

# In the real file one prompt starts with a quote, and the last column is often empty.
PARTI = """\
Prompt\tCategory\tChallenge\tNote
bond\tAbstract\tBasic\tBiology-inspired concepts with multiple meanings
"G I G G L E" painted in thick colorful lettering\tIllustrations\tWriting & Symbols\t
Dogs playing poker\tAnimals\tImagination\tDescription of "Dogs Playing Poker"
"""
GENEVAL = """\
{"tag": "single_object", "include": [{"class": "cat", "count": 1}], "prompt": "a photo of a cat"}
{"tag": "counting", "include": [{"class": "cow", "count": 2}], "prompt": "a photo of two cows"}
"""
DPG = """\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question
COCOval2014000000000205,"A plate, with ""food"".
It is white.",,1,0,entity,whole,entity - whole (plate),Is there a plate?
COCOval2014000000000205,"A plate, with ""food"".
It is white.",,2,1,attribute,color,attribute - color (white),Is it white?
whoops9,A castle.,,1,0,entity,whole,entity - whole (castle),Is there a castle?
"""
COCO = {
    "info": {"year": 2014},
    "images": [{"id": 203564, "file_name": "COCO_val2014_000000203564.jpg"}],
    "annotations": [
        {"image_id": 203564, "id": 37, "caption": "A bicycle replica with a clock. "},
        {"image_id": 203564, "id": 181, "caption": "The bike has a clock as a tire."},
    ],
}


def file(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode())
    return path


def pairs(prompts: list[Prompt]) -> list[tuple[str, str]]:
    return [(prompt.item, prompt.text) for prompt in prompts]


def test_parti_prompts_are_a_table_whose_quotes_are_characters(tmp_path: Path) -> None:
    assert pairs(read_prompts(file(tmp_path, "PartiPrompts.tsv", PARTI))) == [
        ("2", "bond"),
        ("3", '"G I G G L E" painted in thick colorful lettering'),
        ("4", "Dogs playing poker"),
    ]


def test_geneval_is_a_line_of_json_for_each_prompt(tmp_path: Path) -> None:
    assert pairs(read_prompts(file(tmp_path, "evaluation_metadata.jsonl", GENEVAL))) == [
        ("1", "a photo of a cat"),
        ("2", "a photo of two cows"),
    ]


def test_compbench_is_a_prompt_a_line_with_windows_ends(tmp_path: Path) -> None:
    path = file(tmp_path, "color_val.txt", "a green bench and a blue bowl\r\n\r\nfour trucks\r\n")
    assert pairs(read_prompts(path)) == [
        ("1", "a green bench and a blue bowl"),
        ("3", "four trucks"),
    ]


def test_a_folder_of_compbench_names_file_and_line(tmp_path: Path) -> None:
    file(tmp_path, "color_val.txt", "a green bench\na blue bench\n")
    file(tmp_path, "spatial_val.txt", "a cat on a mat\n")
    assert pairs(read_prompts(tmp_path)) == [
        ("color_val.txt:1", "a green bench"),
        ("color_val.txt:2", "a blue bench"),
        ("spatial_val.txt:1", "a cat on a mat"),
    ]


def test_a_folder_of_dpg_bench_is_a_prompt_a_file(tmp_path: Path) -> None:
    file(tmp_path, "10.txt", "A large cat.")
    file(tmp_path, "2.txt", "A small dog.\n")
    file(tmp_path, "whoops9.txt", "A castle.")
    expected = [("2", "A small dog."), ("10", "A large cat."), ("whoops9", "A castle.")]
    assert pairs(read_prompts(tmp_path)) == expected


def test_files_of_many_lines_are_one_prompt_each_if_asked(tmp_path: Path) -> None:
    file(tmp_path, "1.txt", "A castle.\n\nIt is old.\n")
    assert pairs(read_prompts(tmp_path, "files")) == [("1", "A castle.  It is old.")]


def test_the_rows_of_an_item_in_dpg_csv_are_one_prompt(tmp_path: Path) -> None:
    assert pairs(read_prompts(file(tmp_path, "dpg_bench.csv", DPG))) == [
        ("COCOval2014000000000205", 'A plate, with "food".\nIt is white.'),
        ("whoops9", "A castle."),
    ]


def test_coco_captions_carry_image_and_caption_ids(tmp_path: Path) -> None:
    assert pairs(read_prompts(file(tmp_path, "captions_val2014.json", json.dumps(COCO)))) == [
        ("203564/37", "A bicycle replica with a clock."),
        ("203564/181", "The bike has a clock as a tire."),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "\ufeffID,Caption\n7,a cat\n"),
        ("a.tsv", "id\ttext\tcaption\n7\tnot this\ta cat\n"),
        ("a.jsonl", '{"id": 7, "Text": "a cat"}\n\n'),
    ],
)
def test_plain_tables_are_read_by_the_names_of_their_columns(
    tmp_path: Path, name: str, content: str
) -> None:
    assert pairs(read_prompts(file(tmp_path, name, content))) == [("7", "a cat")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "Prompt\tNote\na\tb\nc\n", r"a\.tsv: line 3: must have 2 cells, got 1"),
        ("a.tsv", "Prompt\tNote\na\tb\tc\n", r"a\.tsv: line 2: must have 2 cells, got 3"),
        ("a.txt", "a cat\na \0dog\n", r"a\.txt: line 2: must be UTF-8 text, got a NUL"),
        ("a.tsv", "Prompt\tNote\n\tb\n", r"a\.tsv: line 2: must have a prompt, caption, text"),
        ("a.tsv", "Words\tNote\na\tb\n", r"a\.tsv: line 1: must name a column prompt"),
        ("a.csv", 'prompt\n"a\nb" c\n', r"a\.csv: line 2: must be csv"),
        ("a.csv", 'prompt\na\n"open\n', r"a\.csv: line 3: must be csv"),
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": \n', r"a\.jsonl: line 2: must be JSON"),
        ("a.jsonl", '"a"\n', r"a\.jsonl: line 1: must be an object"),
        ("a.jsonl", '{"tag": "a"}\n', r"a\.jsonl: line 1: must have a prompt"),
        ("a.jsonl", '{"prompt": 7}\n', r"a\.jsonl: line 1: must have a prompt.*got 7"),
        ("a.json", "[" * 100_000, r"a\.json: must be JSON"),
        ("a.json", '{"images": []}', r"a\.json: must have a list `annotations`"),
        ("a.json", '{"annotations": [{"caption": "a"}]}', r"annotations\[0\]: must have image_id"),
        ("a.json", '{"annotations": [{"image_id": 1}]}', r"annotations\[0\]: must have a prompt"),
        (
            "a.txt",
            "a cat\na dog\tcolor\n",
            r"a\.txt: line 2: must be one prompt, got 'a dog\\tcolor",
        ),
        ("a.txt", "\n \n", r"a\.txt: must hold prompts, got none"),
        ("a.tsv", "", r"a\.tsv: line 1: must name a column"),
        ("a.parquet", "PAR1", r"must end in one of \.txt, .*, got '\.parquet'"),
    ],
)
def test_a_fault_is_named_with_its_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_prompts(file(tmp_path, name, content))


def test_bytes_that_are_no_utf8_are_said(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a cat\n" * 5_000 + b"caf\xe9\n")  # more than a decoder reads at once
    with pytest.raises(DataError, match=r"a\.txt: line 5001: must be UTF-8 text, got byte 0xe9"):
        read_prompts(path)
    path.write_bytes("a cat\n".encode("utf-16-le"))  # reads as UTF-8, and would meet nothing
    with pytest.raises(DataError, match=r"a\.txt: line 1: must be UTF-8 text, got a NUL"):
        read_prompts(path)


def test_a_folder_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    file(tmp_path, "a.txt", "a cat\n")
    with pytest.raises(DataError, match="must be a file, as its form is csv, got a folder"):
        read_prompts(tmp_path, "csv")
    file(tmp_path, "more/b.txt", "a dog\n")
    with pytest.raises(DataError, match=r"must hold all its \.txt files itself, got more/b\.txt"):
        read_prompts(tmp_path)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must exist, got no file"):
        read_prompts(tmp_path / "none.txt")
    with pytest.raises(DataError, match=r"must hold \.txt files, got none"):
        read_prompts(tmp_path)
    with pytest.raises(DataError, match=r"form must be one of lines, files, .*got 'xml'"):
        read_prompts(tmp_path, "xml")
