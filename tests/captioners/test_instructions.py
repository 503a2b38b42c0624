"""The instructions behind the caption styles."""

from __future__ import annotations

import dataclasses
import string

import pytest

from curate.captioners.instructions import TEMPLATES, Template, find_template


def test_template_carries_id_and_version() -> None:
    assert find_template("detailed").name == "detailed-v1"
    assert all(style == template.id for style, template in TEMPLATES.items())


def test_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be of tags, short, .*, got 'poem'"):
        find_template("poem")


def test_every_word_of_a_template_counts_for_its_digest() -> None:
    template = TEMPLATES["short"]
    for changed in ({"version": 2}, {"text": "Describe."}, {"max_new_tokens": 9}, {"id": "x"}):
        assert dataclasses.replace(template, **changed).digest != template.digest


def test_texts_name_no_other_places_than_alt_and_draft() -> None:
    for template in TEMPLATES.values():
        names = {name for _, name, _, _ in string.Formatter().parse(template.text) if name}
        assert names <= {"alt", "draft"}


def test_only_styles_that_say_so_show_the_alt_text() -> None:
    assert {style for style, one in TEMPLATES.items() if one.uses_alt and not one.uses_draft} == {
        "alt_conditioned"
    }


def test_braces_in_an_alt_text_are_left_as_they_are() -> None:
    template = Template(id="x", version=1, text="{alt} or {draft}?", max_new_tokens=8)
    assert template.fill(alt="{draft} {alt} {", draft="{alt}") == "{draft} {alt} { or {alt}?"
