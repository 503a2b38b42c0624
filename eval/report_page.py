"""Fill the page's template, and write numbers the way the page does."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from typing import Any

TEMPLATE = "report.html.j2"


def render_page(parts: Mapping[str, Any]) -> bytes:
    """Fill the template, UTF-8; every text is escaped but the SVG drawn here.

    Args:
        parts: what `ReportStage` collects, by the names the template uses.
    """
    import jinja2  # here, since the command line imports this module at every start

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": "{:,}".format,
        "percent": format_percent,
        "share": format_share,
        "number": format_number,
        "short": shorten,
    }
    source = importlib.resources.files("eval") / "templates" / TEMPLATE
    return environment.from_string(source.read_text()).render(parts).encode()


def format_percent(share: float) -> str:
    """Write a share so that a small one is not shown as none."""
    if 0 < share < 0.001:
        return "<0.1 %"
    return f"{share:.1%}".replace("%", " %")


def format_share(share: float) -> str:
    """Write a share as a percentage without its sign, for pairs."""
    return format_percent(share).removesuffix(" %")


def format_number(value: float | None, name: str = "") -> str:
    """Write a rate with three decimals, a number that rests on a network with four."""
    if value is None:
        return ""
    text = f"{value:.4f}" if "[" in name else f"{value:.3f}"
    return text.replace("-", "\u2212")


def shorten(digest: str) -> str:
    """Write the first 12 characters of a digest."""
    return digest[:12]
