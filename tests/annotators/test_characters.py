import pytest

from curate.annotators.characters import measure_characters


@pytest.mark.parametrize(
    ("text", "kind", "share"),
    [
        ("ab 12", "alpha", 0.5),
        ("ab 12", "digit", 0.5),
        ("\u0661\u0662 a", "digit", 2 / 3),  # Arabic digits
        ("ABcd", "uppercase", 0.5),
        ("\u7ea2 A", "uppercase", 1.0),  # Han has no case
        ("a, b!", "punctuation", 0.5),
        ("\u7ea2\u3002", "punctuation", 0.5),
        ("cat \U0001f600", "emoji", 0.25),
        ("\u2764 \u2603", "emoji", 1.0),
        ("\u043a\u043e\u0442 cat", "latin", 0.5),
        ("12 3", "latin", 0.0),
        ("12 3", "uppercase", 0.0),
        (" \n", "alpha", 0.0),
        ("", "punctuation", 0.0),
    ],
)
def test_shares_of_kinds(text: str, kind: str, share: float) -> None:
    assert getattr(measure_characters(text), kind) == pytest.approx(share)
