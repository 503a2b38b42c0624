"""The instructions behind the caption styles."""

from __future__ import annotations

import pytest

from curate.captioners.instructions import TEMPLATES, find_template


def test_template_carries_id_and_version() -> None:
    assert find_template("detailed").name == "detailed-v1"
    assert {style: template.id for style, template in TEMPLATES.items()} == {
        "short": "short",
        "detailed": "detailed",
    }


def test_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="must be of short, detailed, got 'poem'"):
        find_template("poem")
