"""Configs merge in order and answer mistakes in one line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from curate.core.config import load_config, to_yaml
from curate.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    similarity: Ends = field(default_factory=lambda: Ends(min=0.2))
    count: int = 3

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ConfigError(f"section.count: must be >= 0, got {self.count}; raise it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    section: Section = field(default_factory=Section)
    names: list[str] = field(default_factory=list)
    ends: dict[str, Ends] = field(default_factory=dict)


def test_command_line_beats_preset_beats_default(tmp_path: Path) -> None:
    preset = tmp_path / "p.yaml"
    preset.write_text("section: {count: 5, similarity: {min: 0.3}}\nnames: [a, b]\n")
    config = load_config(Root, [preset], ["section.count=7"])
    assert config == Root(section=Section(similarity=Ends(min=0.3), count=7), names=["a", "b"])


def test_a_bound_can_be_switched_off() -> None:
    assert load_config(Root, [], ["section.similarity.min=null"]).section.similarity.min is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("section.similarty.min=1", "did you mean section.similarity?"),
        ("sektion.count=1", "did you mean section"),
        ("section.count=many", "section.count"),
        ("section.count=-1", "section.count: must be >= 0, got -1"),
        ("section", "key=value"),
        ("=3", "key=value"),
        ("section=3", "section=3"),
        ("section.count=[", "section.count=["),
        ("section=[]", "section=[]"),
        ("ends=[]", "ends=[]"),
    ],
)
def test_mistakes_are_one_line_config_errors(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Root, [], [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_preset_names_the_file(tmp_path: Path) -> None:
    preset = tmp_path / "broken.yaml"
    preset.write_text("section: [1, 2\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        load_config(Root, [preset], [])


def test_printed_config_loads_back(tmp_path: Path) -> None:
    config = load_config(Root, [], ["section.count=9"])
    path = tmp_path / "c.yaml"
    path.write_text(to_yaml(config))
    assert load_config(Root, [path], []) == config
