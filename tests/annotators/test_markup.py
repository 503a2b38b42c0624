import pytest

from curate.annotators.markup import has_markup, strip_tags


@pytest.mark.parametrize(
    "text",
    ["a &amp; b", "&#39;", "&#x27;", "&eacute;", "<b>cat</b>", "<br>", "<img src='a.jpg' />",
     '<a href="x" target=_blank>', "</DIV>", "<!-- cat -->"],
)  # fmt: skip
def test_markup_is_told(text: str) -> None:
    assert has_markup(text)


@pytest.mark.parametrize(
    "text",
    ["", "a cat", "AT&T", "a & b;", "&nosuchname;", "a < b > c", "<cat>", "x<b and c>d", "<3"],
)
def test_signs_of_ordinary_text_are_no_markup(text: str) -> None:
    assert not has_markup(text)


def test_tags_that_break_a_line_leave_a_space() -> None:
    assert strip_tags("<p>red<br/>circle</p>") == " red circle "
    assert strip_tags("<b>re</b>d") == "red"
