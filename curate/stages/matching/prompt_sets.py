"""Read the prompts of evaluation sets from the files that their authors give out.

    benchmark       file                                  form     item
    PartiPrompts    PartiPrompts.tsv                      tsv      line number
    GenEval         prompts/evaluation_metadata.jsonl     jsonl    line number
    T2I-CompBench   examples/dataset/*_val.txt            lines    line number
    T2I-CompBench   a folder of them                      lines    file name:line number
    DPG-Bench       dpg_bench/prompts, a folder           files    file name without its ending
    DPG-Bench       dpg_bench/dpg_bench.csv               csv      item_id
    COCO captions   annotations/captions_val2014.json     coco     image id/caption id
    anything else   .txt, .csv, .tsv, .jsonl              by its ending

Tables need a column `prompt`, `caption` or `text`, in this order, whatever the case; one named
`item_id`, `key` or `id` names the items. In tsv a quote is a character: PartiPrompts has a prompt
that starts with one. A line that breaks its form stops the reading with its number: a benchmark
that is read by half protects by half.

Source: google-research/parti, djghosh13/geneval, Karine-Huang/T2I-CompBench and TencentQQGYLab/ELLA
as of 2024; cocodataset.org, Data format, 5. Image Captioning.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.core.errors import DataError
from curate.stages.matching.list_lines import find_bad_byte

AUTO = "auto"
TEXT_COLUMNS = ("prompt", "caption", "text")
ITEM_COLUMNS = ("item_id", "key", "id")
_SHOWN = 100  # characters of a broken line in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Hold one prompt.

    Args:
        item: what the benchmark calls it, see above.
        text: as it stands in the file, without white space around it.
    """

    item: str
    text: str


def read_prompts(path: Path, form: str = AUTO) -> list[Prompt]:
    """Read all prompts of a file or folder, in its order.

    Args:
        path: of the file; a folder for the forms lines and files.
        form: key of `FORMS`; "auto" goes by the ending, and in a folder of .txt files by whether
            each holds one line.

    Raises:
        DataError: nothing is there, nothing is in it, or a line breaks the form.
    """
    if not path.exists():
        raise DataError(f"{path}: must exist, got no file; fix the path")
    form = _form_of(path) if form == AUTO else form
    if form not in FORMS:
        raise DataError(f"{path}: form must be one of {', '.join(FORMS)}, got {form!r}; name one")
    if path.is_dir() and form not in _FOLDER_FORMS:
        raise DataError(
            f"{path}: must be a file, as its form is {form}, got a folder; name the file"
        )
    prompts = list(FORMS[form](path))
    if not prompts:
        raise DataError(f"{path}: must hold prompts, got none; fix the file")
    return prompts


def read_lines(path: Path) -> Iterator[Prompt]:
    """Yield a prompt for each line that is not blank, of a file or of a folder's .txt files.

    Raises:
        DataError: a line has more than one cell.
    """
    for file in _texts_in(path) if path.is_dir() else [path]:
        prefix = f"{file.name}:" if path.is_dir() else ""
        for number, line in _lines(file):
            if "\t" in line.strip():
                raise DataError(
                    f"{file}: line {number}: must be one prompt, got {line[:_SHOWN]!r} with a tab; "
                    "keep the prompt alone, or name columns in a first line and call it .tsv"
                )
            if line.strip():
                yield Prompt(item=f"{prefix}{number}", text=line.strip())


def read_files(path: Path) -> Iterator[Prompt]:
    """Yield a prompt for each .txt file of a folder, its lines joined."""
    for file in _texts_in(path) if path.is_dir() else [path]:
        text = " ".join(line.strip() for _, line in _lines(file)).strip()
        yield Prompt(item=file.stem, text=_checked(text, str(file)))


def read_tsv(path: Path) -> Iterator[Prompt]:
    """Yield the rows of a table with tabs between its cells; quotes are characters."""
    rows = ((number, line.rstrip("\r\n").split("\t")) for number, line in _lines(path))
    return _rows(path, rows)


def read_csv(path: Path) -> Iterator[Prompt]:
    """Yield the rows of a table with commas; neighbours of the same item are one (DPG-Bench)."""
    previous: Prompt | None = None
    for prompt in _rows(path, _csv_rows(path)):
        if prompt != previous:
            yield prompt
        previous = prompt


def read_jsonl(path: Path) -> Iterator[Prompt]:
    """Yield the objects of a file that has one on each line."""
    for number, line in _lines(path):
        if not line.strip():
            continue
        place = f"{path}: line {number}"
        found = _parse(line, place)
        if not isinstance(found, dict):
            raise DataError(f"{place}: must be an object, got {line[:_SHOWN]!r}; fix the line")
        fields = {name.lower(): value for name, value in found.items()}
        text = next((fields[name] for name in TEXT_COLUMNS if name in fields), None)
        item = next((fields[name] for name in ITEM_COLUMNS if name in fields), number)
        yield Prompt(item=str(item), text=_checked(text, place))


def read_coco(path: Path) -> Iterator[Prompt]:
    """Yield the captions of a COCO annotation file."""
    found = _parse("".join(line for _, line in _lines(path)), str(path))
    annotations = found.get("annotations") if isinstance(found, dict) else None
    if not isinstance(annotations, list):
        raise DataError(f"{path}: must have a list `annotations`, got none; is it COCO's?")
    for number, entry in enumerate(annotations):
        place = f"{path}: annotations[{number}]"
        if not isinstance(entry, dict) or "image_id" not in entry:
            raise DataError(f"{place}: must have image_id, got {str(entry)[:_SHOWN]}; fix it")
        item = f"{entry['image_id']}/{entry.get('id', number)}"
        yield Prompt(item=item, text=_checked(entry.get("caption"), place))


FORMS: Mapping[str, Callable[[Path], Iterator[Prompt]]] = {
    "lines": read_lines,
    "files": read_files,
    "tsv": read_tsv,
    "csv": read_csv,
    "jsonl": read_jsonl,
    "coco": read_coco,
}
_FOLDER_FORMS = ("lines", "files")
_ENDINGS = {".txt": "lines", ".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".json": "coco"}


def _form_of(path: Path) -> str:
    """Tell the form by the name, in a folder by its files.

    Raises:
        DataError: the ending is of no form.
    """
    if path.is_dir():
        return "files" if all(_is_one_line(file) for file in _texts_in(path)) else "lines"
    if path.suffix.lower() not in _ENDINGS:
        raise DataError(
            f"{path}: must end in one of {', '.join(_ENDINGS)}, got {path.suffix!r}; "
            f"rename it or set the form to one of {', '.join(FORMS)}"
        )
    return _ENDINGS[path.suffix.lower()]


def _is_one_line(file: Path) -> bool:
    return sum(1 for _, line in _lines(file) if line.strip()) <= 1


def _texts_in(folder: Path) -> list[Path]:
    """List the .txt files of a folder by name, 2 before 10.

    Raises:
        DataError: there are none, or some lie deeper, which would be left out.
    """
    files = sorted(folder.glob("*.txt"), key=lambda file: (len(file.stem), file.stem))
    if not files:
        raise DataError(f"{folder}: must hold .txt files, got none; name a file or another folder")
    if deeper := next(folder.glob("*/**/*.txt"), None):
        raise DataError(
            f"{folder}: must hold all its .txt files itself, got {deeper.relative_to(folder)}; "
            "move it, or name it as a benchmark of its own"
        )
    return files


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, line) without a byte order mark.

    Raises:
        DataError: a line is no UTF-8, or holds a NUL, as UTF-16 read as UTF-8 does.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if "\0" in line:
                    raise DataError(
                        f"{path}: line {number}: must be UTF-8 text, got a NUL character; "
                        "save it as UTF-8"
                    )
                yield number, line
    except UnicodeDecodeError as error:
        number, byte = find_bad_byte(path)
        raise DataError(
            f"{path}: line {number}: must be UTF-8 text, got byte {byte:#04x}; save it as UTF-8"
        ) from error


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{path}: line {start}: must be csv, {error}; fix its quotes"
            ) from error
        yield start, row


def _rows(path: Path, rows: Iterator[tuple[int, Sequence[str]]]) -> Iterator[Prompt]:
    """Yield the prompts of a table whose first row names its columns.

    Raises:
        DataError: no column holds prompts, or a row has other cells than there are columns.
    """
    _, header = next(rows, (0, ()))
    names = [name.strip().lower() for name in header]
    text = next((names.index(name) for name in TEXT_COLUMNS if name in names), None)
    if text is None:
        raise DataError(
            f"{path}: line 1: must name a column {', '.join(TEXT_COLUMNS)}, "
            f"got {', '.join(header)[:_SHOWN]!r}; rename one"
        )
    item = next((names.index(name) for name in ITEM_COLUMNS if name in names), None)
    for number, cells in rows:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            raise DataError(
                f"{path}: line {number}: must have {len(names)} cells, got {len(cells)}; "
                "fix the line"
            )
        name = str(number) if item is None else cells[item]
        yield Prompt(item=name, text=_checked(cells[text], f"{path}: line {number}"))


def _parse(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: must be JSON, {error}; fix it") from error


def _checked(text: object, place: str) -> str:
    """Give a prompt without white space around it.

    Raises:
        DataError: it is no text, or empty.
    """
    if not isinstance(text, str) or not text.strip():
        raise DataError(
            f"{place}: must have a {', '.join(TEXT_COLUMNS)} that is not empty, got {text!r}; "
            "fill it or remove it"
        )
    return text.strip()
