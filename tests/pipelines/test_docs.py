"""The pages name what the code has, in the code's own words, and every command in them parses."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from curate.annotators.annotator import Options
from curate.annotators.table import ANNOTATORS, build_annotator
from curate.core.model_ref import ModelRef
from curate.models.pack_file import read_pack_file
from curate.models.packs import FOLDER_PACKS, PACKS, ROLES, load_pack
from curate.models.packs import is_role as is_known_role
from curate.sources.config import IngestConfig
from curate.sources.statuses import FAILURES
from curate.sources.tables.table_presets import PRESETS
from curate.stages.annotate import AnnotateConfig
from curate.stages.filtering.config import FilterConfig
from curate.stages.filtering.rules import RULES
from curate.stages.repeats import REPEATS_SCHEMA
from pipelines.cli import VERBS
from pipelines.convert import OPTIONS as CONVERT_OPTIONS
from pipelines.request import filter_preset_names, parse_request
from pipelines.sweep_axes import parse_axes

DOCS = Path(__file__).parents[2] / "docs"
INGEST, ANNOTATE, FILTER = (
    (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("ingest", "annotate", "filter")
)
COMMAND = re.compile(r"^(?:\$ )?curate (?P<verb>[a-z-]+) (?P<rest>.*)$", re.M)
CONFIG_KEY = re.compile(r"`((?:ingest|annotate|repeats)\.[a-z_]+)(?:=([^`]*))?`")
# Keys of the verbs that read a finished run.
OWN_KEYS = {
    "show": {"out", "stage", "key", "reason", "cluster", "limit"},
    "why": {"out"},
    "uids": {"out", "stage"},
    "ledger": {"out", "all_rules"},
    "takedown": {"out", "keys", "urls", "hashes"},
    "doctor": {"models", "models_folder"},
    "golden": {"models", "models_folder", "overwrite"},
    "convert-weights": set(CONVERT_OPTIONS),
}
HIDDEN = {"source", "takedowns"}  # filled from `input` and `out`
# Shown with its refusal, which is not one of the parser's.
UNSAFE = {"ingest.fetcher=img2dataset": ["ingest.allow_private=true"]}
REPEATS_COLUMNS = set(REPEATS_SCHEMA.names)


def commands() -> Iterator[tuple[str, list[str]]]:
    for page in (INGEST, ANNOTATE, FILTER):
        for found in COMMAND.finditer(page):
            yield found["verb"], shlex.split(found["rest"], comments=True)


def row_of(page: str, name: str) -> list[str]:
    """Give the cells of the one table row that starts with a name."""
    rows = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    assert len(rows) == 1, f"{name} must have one row, has {len(rows)}"
    return [cell.strip() for cell in rows[0].strip("|").split("|")]


@pytest.mark.parametrize("status", FAILURES)
def test_a_status_has_its_sentence_and_says_when_it_is_tried_again(status: str) -> None:
    failure = FAILURES[status]
    assert f"| `{status}` | {failure.sentence} | {failure.again} |\n" in INGEST


@pytest.mark.parametrize("name", PRESETS)
def test_a_table_preset_has_its_columns(name: str) -> None:
    preset, cells = PRESETS[name], row_of(INGEST, name)
    if preset.has_header:
        named = [f"`{column}`" if column else "" for column in (preset.url, preset.caption)]
        assert cells[1:3] == named
    assert cells[3:5] == [
        f"`{column}`" if column else "" for column in (preset.source_key, preset.sha256)
    ]
    told = set(re.findall(r"\w+", " ".join(cells)))
    assert not preset.has_header or set(preset.columns) <= told


@pytest.mark.parametrize("name", ANNOTATORS)
def test_an_annotator_has_its_columns_and_its_pack(name: str) -> None:
    packs = {pack: load_pack(pack) for pack in PACKS}
    options = Options(miniatures=True, pdq_dihedral=True, text_embeddings=True)
    every = {role: ref for pack in packs.values() for role, ref in pack.items()}
    every["toxicity"] = ModelRef(kind="transformers_classifier", paths=())
    annotator = build_annotator(name, every, options)
    cells = row_of(ANNOTATE, name)
    told = set(re.findall(r"\w+", cells[1]))
    assert {column.removeprefix(f"{name}.") for column in annotator.columns} <= told
    assert not annotator.roles or f"`{annotator.roles[-1]}`" in cells[2]
    own = annotator.roles[-1:]
    for place, pack in ((3, "toy"), (4, "offline")):
        if name != "nudenet":  # an extra of its own
            assert bool(cells[place]) == all(role in packs[pack] for role in own), pack


def test_packs_and_roles_are_named() -> None:
    for name in (*PACKS, *FOLDER_PACKS, *ROLES):
        assert f"`{name}`" in ANNOTATE, name


def test_the_pack_file_of_the_page_is_read(tmp_path: Path) -> None:
    text = ANNOTATE.split("```yaml\n")[1].split("```")[0]
    for paths in re.findall(r"paths: \[([^\]]*)\]", text):
        for path in paths.split(", "):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).touch()
    (tmp_path / "pack.yaml").write_text(text)
    pack = read_pack_file(tmp_path / "pack.yaml", is_known_role, "", load_pack)
    assert len(pack) >= text.count("kind:")


@pytest.mark.parametrize("name", RULES)
def test_a_rule_has_its_row(name: str) -> None:
    rule = RULES[name]
    low, high = rule.range
    cells = f"`{rule.column}` | {rule.better} | {low:g}..{high:g} | {rule.summary} | {rule.source}"
    assert f"| `{name}` | {cells} |\n" in FILTER


def test_rules_stand_in_the_order_of_judgement() -> None:
    places = [FILTER.index(f"| `{name}` | `{rule.column}`") for name, rule in RULES.items()]
    assert places == sorted(places)


@pytest.mark.parametrize("name", filter_preset_names())
def test_a_filter_preset_has_its_thresholds(name: str) -> None:
    config = parse_request([f"filter_preset={name}"]).config.filter
    told = row_of(FILTER, name)[1]
    numbers = {float(text) for text in re.findall(r"\d+(?:\.\d+)?", told)}
    for rule, bounds in config.active_rules().items():
        assert rule in told
        ends = {bounds.min, bounds.max, *bounds.languages().values()} - {None}
        assert ends <= numbers, rule
        assert not bounds.column or f"`{bounds.column}`" in told
        assert bounds.top_frac is None or f"best {100 * bounds.top_frac:g} %" in told
    for code in config.language.keep:
        assert f"language {code}" in told


@pytest.mark.parametrize(
    ("page", "section", "schema"),
    [
        (INGEST, "ingest", IngestConfig),
        (ANNOTATE, "annotate", AnnotateConfig),
        (FILTER, "filter", FilterConfig),
    ],
)
def test_every_key_of_a_section_is_named(page: str, section: str, schema: type) -> None:
    keys = {item.name for item in dataclasses.fields(schema)} - HIDDEN - set(RULES)
    missing = sorted(key for key in keys if f"{section}.{key}" not in page)
    assert not missing


def test_every_config_key_of_the_pages_is_known() -> None:
    found = [match.groups() for page in (INGEST, ANNOTATE, FILTER)
             for match in CONFIG_KEY.finditer(page)]  # fmt: skip
    assert len(found) > 50
    base = parse_request([]).config
    for key, value in found:
        if key in REPEATS_COLUMNS:
            continue
        section, name = key.split(".")
        assert hasattr(getattr(base, section), name), key
        if value:
            parse_request([f"{key}={value}", *UNSAFE.get(f"{key}={value}", [])])


def test_every_command_of_the_pages_parses() -> None:
    found = list(commands())
    assert len(found) > 30
    for verb, arguments in found:
        assert verb in VERBS
        if verb in ("run", "plan", "config"):
            parse_request(
                [*arguments, *(key for text in arguments for key in UNSAFE.get(text, []))]
            )
        elif verb == "sweep":
            parse_axes([text for text in arguments if not text.startswith(("out=", "csv="))])
        else:
            keys = {text.split("=", 1)[0] for text in arguments if "=" in text}
            assert keys <= OWN_KEYS[verb], (verb, keys)


def test_files_that_the_pages_name_exist() -> None:
    found = re.findall(r"`((?:curate|pipelines|docs)/[\w/]+(?:\.\w+)?)", INGEST + ANNOTATE + FILTER)
    assert len(found) > 5
    missing = [name for name in found if not (DOCS.parent / name).exists()]
    assert missing == ["curate/annotators/sharpness.py"]  # the example of a new annotator
