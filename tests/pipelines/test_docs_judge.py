"""docs/judge.md names every rule in order, and every threshold with its default."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

from curate.captioners.rules import RULES
from curate.captioners.thresholds import Thresholds
from curate.stages.judging.config import JudgeConfig
from curate.stages.judging.verdicts import JUDGE_SCHEMA
from pipelines.request import parse_request

PAGE = (Path(__file__).parents[2] / "docs" / "judge.md").read_text(encoding="utf-8")
ROWS = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| `")]


def test_every_rule_has_a_row_in_the_order_of_judgement() -> None:
    named = [name for row in ROWS for name in re.findall(r"`(\w+)`", row[0])]
    assert named == [rule.name for rule in RULES]


def test_every_threshold_is_told_with_its_default() -> None:
    told = " ".join(row[2] for row in ROWS)
    for field in dataclasses.fields(Thresholds):
        value = getattr(Thresholds(), field.name)
        assert f"`{field.name}`" in told, field.name
        if value is not None and value != []:
            assert f"`{field.name}` {value}" in told, (field.name, value)


def test_every_column_that_is_named_is_there() -> None:
    columns = {name for row in ROWS for name in re.findall(r"`(\w+)`", row[1])}
    assert columns <= set(JUDGE_SCHEMA.names)


def test_every_command_and_setting_parses() -> None:
    for line in re.findall(r"^\$ curate run (.*)$", PAGE, re.M):
        parse_request(shlex.split(line))
    for setting in re.findall(r"`(judge\.\w+=[^`]+)`", PAGE):
        config = parse_request(["pipeline=demo", setting]).config.judge
        assert isinstance(config, JudgeConfig)
        assert config != JudgeConfig()
