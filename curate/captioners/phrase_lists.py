"""Read the lists of phrases that rules on captions look for, in the languages that they have.

`phrases/*.txt`: UTF-8, one line for each expression: a language, a tab, an expression of RE2. They
are data and not code because most languages are not written in ASCII. A line whose language is a
name between "%" gives its expression that name, for later lines. RE2 takes time linear in the text
for every expression, which Python's `re` does not.
"""

from __future__ import annotations

import functools
from pathlib import Path

FOLDER = Path(__file__).parent / "phrases"
_APOSTROPHE = "['\u2019]"  # an apostrophe in the lists also stands for the typographic one


@functools.cache
def read_phrases(name: str) -> dict[str, list[str]]:
    """Read a list: language -> its expressions, in the order of the file.

    Args:
        name: of the file in `phrases/`, without ".txt".
    """
    found: dict[str, list[str]] = {}
    parts: dict[str, str] = {}
    for line in (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        language, tab, expression = line.partition("\t")
        if line.startswith("#") or not tab:
            continue
        for part, meant in parts.items():
            expression = expression.replace(part, meant)
        if language.startswith("%"):
            parts[language] = expression
        else:
            found.setdefault(language, []).append(expression.replace("'", _APOSTROPHE))
    return found


def join(expressions: list[str]) -> str:
    """Join expressions into one that matches any of them; the first that fits wins."""
    return "|".join(f"(?:{expression})" for expression in expressions)
