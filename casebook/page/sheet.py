"""A report that is one HTML file: tables without scripts, whatever they hold escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from casebook.page.figures import spelled

if TYPE_CHECKING:
    import pandas as pd

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;"
    "color:#1f2429;background:#fff}table{border-collapse:collapse;margin:1rem 0;display:block;"
    "overflow-x:auto}th,td{padding:.25rem .75rem;border-bottom:1px solid #ccc;text-align:right}"
    "th:first-child,td:first-child{text-align:left}.verdict{padding:1rem;border-left:6px solid "
    "#2f7fc1;background:#f3f6f9}.invalid,.stop{border-color:#d1495b}.hold{border-color:#d16a0a}"
)
#: Columns of changes, and of shares.
CHANGES = ("relative", "low", "high", "harm", "at worst", "tolerated")
SHARES = ("planned", "seen")


def shown(column: str, value: object) -> str:
    """Return a value as its column shows it: changes and shares in per cent, small p as such."""
    if isinstance(value, float):
        if value != value:
            return "–"
        if column in CHANGES:
            return f"{value:+.1%}"
        if column in SHARES:
            return f"{value:.2%}"
        if column.startswith("p"):
            return f"{value:.4f}" if value >= 1e-4 else "below 0.0001"
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def html_table(frame: pd.DataFrame) -> str:
    """Return a table; whatever it holds is escaped."""
    head = "".join(f"<th>{escape(str(column))}</th>" for column in frame)
    rows = (
        "".join(f"<td>{escape(spelled(shown(c, v)))}</td>" for c, v in row.items())
        for row in frame.to_dict("records")
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def sheet(title: str, parts: Sequence[str]) -> str:
    """Return a whole page of parts that are HTML already."""
    name = escape(title)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body><h1>{name}</h1>{''.join(parts)}</body></html>"
    )
