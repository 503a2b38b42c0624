"""Rules that nothing measures are refused before anything runs, and so are captions unjudged."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.core.errors import ConfigError
from pipelines.judgeable import check_judgeable
from pipelines.plan import plan_request
from pipelines.request import parse_request

PIPE = "stages=[ingest,annotate,filter,dedup,recaption,judge,bucket]"


@pytest.mark.parametrize(
    ("setting", "role"),
    [
        ("judge.rules.min_verified=0.5", "verifier"),
        ("judge.by_source={short: {min_verified: 0.5}}", "verifier"),
    ],
)
def test_a_threshold_without_its_model_is_refused(setting: str, role: str) -> None:
    with pytest.raises(ConfigError, match=rf"min_verified: needs a {role}"):
        check_judgeable(parse_request([PIPE, "input=x", setting]))


@pytest.mark.parametrize(
    "setting",
    ["judge.rules.languages=[en]", "judge.rules.similarity_top_frac=0.9", "judge.rules.max_words=9",
     "judge.by_source={short: {min_similarity: 0.1, max_words: 20}}",
     "judge.by_source={alternate_1: {max_words: 20}}"],
)  # fmt: skip
def test_a_threshold_whose_model_the_pack_has_is_fine(setting: str) -> None:
    check_judgeable(parse_request([PIPE, "input=x", setting]))


def test_captions_that_nobody_judges_are_refused(tmp_path: Path) -> None:
    line = ["stages=[ingest,annotate,filter,dedup,recaption,bucket]", "input=x"]
    with pytest.raises(ConfigError, match="stages: must have judge between recaption and bucket"):
        plan_request(parse_request([*line, f"out={tmp_path}"]))
    check_judgeable(parse_request(["stages=[ingest,annotate,filter,dedup,bucket]", "input=x"]))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("judge.by_source={shrot: {max_words: 9}}", r"by_source\.shrot: must be of .*'shrot'"),
        ("judge.cuts=[{source: tags, name: few}]", r"cuts\.few: must be of .*, got 'tags'"),
    ],
)
def test_rules_for_captions_that_nobody_writes_are_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_judgeable(parse_request([PIPE, "input=x", setting]))
    cut = ["recaption.styles=[tags]", "judge.cuts=[{source: tags, name: few}]"]
    known = "judge.by_source={few: {min_words: 1}}"
    check_judgeable(parse_request([PIPE, "input=x", *cut, known]))
