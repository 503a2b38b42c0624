"""What cannot be asked for is refused in one line that says what to change."""

from __future__ import annotations

from typing import Any

import pytest

from curate.core.errors import ConfigError
from pipelines.request import parse_request


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["styles=[poem]"], "recaption.styles: must be of tags, short"),
        (["styles=[]"], "recaption.styles: must be of"),
        (["styles=[short,short]"], "recaption.styles: must differ"),
        (["per_style=2"], "recaption.per_style: must be >= 1, and above 1 with a temperature"),
        (["per_style=0"], "recaption.per_style"),
        (["sampling.temperature=-1"], "recaption.sampling.temperature: must be >= 0"),
        (["sampling.top_p=0"], r"recaption.sampling.top_p: must be in \(0, 1\]"),
        (["sampling.repetition_penalty=0"], "recaption.sampling.repetition_penalty"),
        (["sampling.presence_penalty=3"], r"must be in \[-2, 2\], got 3.0"),
        (["sampling.top_k=3"], "recaption.sampling.top_k is not a config key"),
        (["templates.short.text=Hi"], "recaption.templates.short: must be a name of its own"),
        (["templates.alternate_1.text=Hi"], "must be a name of its own"),
        (["templates.Mine.text=Hi"], "must be a name of its own of a-z"),
        (["templates.alt.text=Hi"], "must be a name of its own"),
        (["templates.pooled.text=Hi"], "must be a name of its own"),
        (["templates.mine.version=2"], "recaption.templates.mine: needs a text"),
        (["templates.mine.text=Hi", "templates.mine.max_new_tokens=0"], "needs a text, a version"),
        (
            ["templates.mine.text='Shorten {draft}'", "styles=[mine]"],
            r"recaption.styles: must differ and need no \{draft\}",
        ),
        (["choose.count=3"], r"recaption.choose.count: must be in 0..2"),
        (["choose.weights.short=1"], "recaption.choose.weights: need recaption.choose.count"),
        (["choose.count=1", "choose.weights.tags=1"], "recaption.choose.weights: must be >= 0 for"),
        (["choose.count=1", "choose.weights.short=-1"], "recaption.choose.weights: must be >= 0"),
        (["choose.count=2", "choose.weights.short=0"], "must be at most the 1 styles with a"),
        (["fuse=[{template: short}]"], r"recaption.fuse: template must use \{draft\}"),
        (["picture=half"], "recaption.picture: must be crop or whole, got 'half'"),
        (["max_pixels=10"], "recaption.max_pixels: must be >= 1024"),
        (["window=0"], "recaption.window: must be >= 1"),
        (["batch_size=0"], "recaption.batch_size: must be >= 1"),
        (["max_batch_tokens=0"], "recaption.max_batch_tokens: must be >= 1"),
        (["threads=0"], "recaption.threads: must be >= 1"),
        (["probe=-1"], "recaption.probe: must be >= 0"),
        (["gpu_price=-1"], "recaption.gpu_price: must be >= 0"),
    ],
)
def test_a_bad_value_is_one_line_that_names_its_field(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_request([f"recaption.{text}" for text in overrides])
    assert "\n" not in str(caught.value)


MINE = ["templates.mine.text='Name {alt}.'", "templates.tight.text='Shorten {draft}'"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["fuse=[{template: tight, draft: medium}]"], "recaption.fuse: draft must be of"),
        (["fuse=[{template: tight},{template: tight}]"], "recaption.fuse: templates must differ"),
    ],
)
def test_fuse_names_a_style_that_is_written_and_a_template_once(
    overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_request([f"recaption.{text}" for text in (*MINE, *overrides)])


def test_everything_can_be_set_from_the_command_line() -> None:
    lines = [
        *MINE, "templates.mine.version=3", "styles=[mine,detailed,tags]", "per_style=2",
        "sampling.temperature=0.7", "choose.count=2", "choose.weights={mine: 2, tags: 0.5}",
        "fuse=[{template: tight, draft: detailed}]", "picture=whole",
    ]  # fmt: skip
    config: Any = parse_request([f"recaption.{text}" for text in lines]).config.recaption
    assert [one.name for one in config.used_templates()] == [
        "mine-v3", "detailed-v1", "tags-v1", "tight-v1",
    ]  # fmt: skip
    assert config.known_templates()["mine"].uses_alt
    assert config.choose.weights == {"mine": 2.0, "tags": 0.5}
    assert config.sampling.temperature == 0.7


def test_what_changes_no_byte_is_no_part_of_the_fingerprint() -> None:
    from curate.core.stage import plain_config

    lines = ["window=3", "batch_size=2", "max_batch_tokens=99", "threads=1", "gpu_price=2"]
    plain, other = (
        plain_config(parse_request([f"recaption.{text}" for text in given]).config.recaption)
        for given in ([], lines)
    )
    assert plain == other
