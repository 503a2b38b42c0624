"""The page of fit-captioner names keys that there are, with their defaults, and commands parse."""

from __future__ import annotations

import re
import shlex
from functools import reduce
from pathlib import Path

from curate.captioners.vlm_families import FAMILIES
from pipelines.fit_captioner import parse_config
from pipelines.fitting.config import FitCaptionerConfig

PAGE = (Path(__file__).parents[3] / "docs" / "fit_captioner.md").read_text(encoding="utf-8")
CONFIG = FitCaptionerConfig(input="shards")


def test_every_key_of_the_table_has_its_default() -> None:
    rows = re.findall(r"^\| (`[a-z_.`, ]+`) \| ([^|]+) \| ", PAGE, re.M)
    shown = {
        name: default.strip(" `").split(" ")[0]
        for names, defaults in rows
        for name, default in zip(names.split(", "), defaults.split(", "), strict=True)
    }
    assert len(shown) >= 18
    shown.pop("`lora.targets`")  # an empty list, which the page puts in words
    for name, default in shown.items():
        value = reduce(getattr, name.strip("`").split("."), CONFIG)
        assert str(value).lower() == default or float(value) == float(default), name


def test_commands_of_the_page_parse() -> None:
    commands = re.findall(r"^\$ curate fit-captioner (.*)$", PAGE, re.M)
    assert commands
    for command in commands:
        parse_config(shlex.split(command, comments=True))


def test_every_family_is_named() -> None:
    names = re.sub(
        r"[^a-z0-9]", "", PAGE.lower().replace("qwen2/2.5/3-vl", "qwen2vl qwen25vl qwen3vl")
    )
    for family in FAMILIES:
        assert family.replace("_", "").removesuffix("moe") in names
